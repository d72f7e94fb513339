"""callback rotate-secret: both secrets sign for 24 hours, as the customer's own library sees it."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from standardwebhooks import Webhook, WebhookVerificationError

from monitor_cli import schema
from tests.support.cli import Cli
from tests.support.http import Receiver, Request
from tests.support.stores import Store
from tests.support.world import SECRET, World

LOCAL = {"MONITOR_ALLOW_NETWORKS": "127.0.0.0/8"}


@pytest.fixture
def hook(world: World, receiver: Receiver) -> int:
    account = world.account("acme")
    world.number(account, "+911", channel=1)
    return world.callback(account, receiver.url("/hook"), raw_json=True)


def told(cli: Cli, world: World, receiver: Receiver) -> Request:
    """One more change, sent."""
    receiver.clear()
    world.flag(world.server(channel=1, region=f"r{len(world.changes())}"), "critical")
    cli("callback-run", env=LOCAL).quiet()
    (request,) = receiver.requests
    return request


def verifies(secret: str, request: Request) -> bool:
    try:
        Webhook(secret).verify(request.body, {name.lower(): value for name, value in request.headers})
    except WebhookVerificationError:
        return False
    return True


def test_the_old_secret_signs_beside_the_new_one_for_a_day(
    cli: Cli, world: World, hook: int, receiver: Receiver, database: Store
) -> None:
    made = cli.ok("callback", "rotate-secret", str(hook), "--json")
    assert (list(made.json), made.json["id"], made.err) == (["id", "secret"], hook, "")
    new = made.json["secret"]
    assert new.startswith("whsec_")
    assert new != SECRET
    request = told(cli, world, receiver)
    assert [verifies(secret, request) for secret in (new, SECRET)] == [True, True]
    with database.write() as conn:  # the day is over
        conn.execute(text(f"UPDATE {schema.callback.name} SET old_secret_until = old_secret_until - 86400000"))
    request = told(cli, world, receiver)
    assert [verifies(secret, request) for secret in (new, SECRET)] == [True, False]
    again = cli.ok("callback", "rotate-secret", str(hook), "--json")
    assert again.err == ""
    shown = cli.ok("callback", "show", str(hook), "--json").out + cli.ok("callback", "list").out
    assert "whsec_" not in shown


def test_a_second_rotation_within_a_day_ends_the_secret_before_the_last(
    cli: Cli, world: World, hook: int, receiver: Receiver
) -> None:
    first = cli.ok("callback", "rotate-secret", str(hook), "--json").json["secret"]
    result = cli.ok("callback", "rotate-secret", str(hook), "--json")
    assert result.err.startswith(f"callback.secret_dropped callback={hook}")
    request = told(cli, world, receiver)
    assert [verifies(secret, request) for secret in (result.json["secret"], first, SECRET)] == [True, True, False]


def test_people_see_it_once_and_an_unknown_callback_is_said(cli: Cli, hook: int) -> None:
    lines = cli.ok("callback", "rotate-secret", str(hook)).out.splitlines()
    assert [line.split()[0] for line in lines] == ["id", "secret"]
    absent = cli("callback", "rotate-secret", "99")
    assert (absent.code, absent.out) == (1, "")
    assert "there is no callback 99" in absent.err
