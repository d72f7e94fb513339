"""callback test, through the real command line to a real HTTP server, on both stores: what is sent and shown, that it
leaves nothing behind, and that no customer is left with what a test said."""

from __future__ import annotations

import errno
import re
import threading
from typing import Any

import pytest
from sqlalchemy import text, update
from standardwebhooks import Webhook

from monitor_cli import config, schema
from monitor_cli.delivery.trial import try_callback
from monitor_cli.errors import OutsideError
from tests.support import network_guard
from tests.support.cli import Cli, Result
from tests.support.http import Answer, Receiver
from tests.support.stores import Store
from tests.support.world import SECRET, World

LOCAL = {"MONITOR_ALLOW_NETWORKS": "127.0.0.0/8"}
ONCE = {**LOCAL, "MONITOR_RETRY_SCHEDULE": "300", "MONITOR_MAX_SECONDS": "30"}
TABLES = (schema.owed, schema.delivery, schema.attempt, schema.callback)


@pytest.fixture
def acme(world: World) -> int:
    account = world.account("acme")
    world.number(account, "+911", channel=1)
    world.number(account, "+922", channel=2)
    return account


@pytest.fixture
def server(world: World) -> int:
    world.server(channel=2, region="kerala", region_code="KL-IN", final_status="Warning")
    return world.server(channel=1)


def try_it(cli: Cli, callback: int, *options: str, **env: str) -> Result:
    return cli("callback", "test", str(callback), *options, env={**LOCAL, **env})


def rows(world: World) -> list[list[Any]]:
    return [world.rows(table) for table in TABLES]


def told(receiver: Receiver) -> list[list[tuple[str, str]]]:
    """Of each request that came, each number with its type."""
    return [
        [(number, entry["type"]) for entry in request.json["data"]["incidents"] for number in entry["numbers"]]
        for request in receiver.requests
    ]


def test_shows_the_request_and_the_answer_and_leaves_nothing_behind(
    cli: Cli, world: World, acme: int, server: int, receiver: Receiver
) -> None:
    headers = [("X-Token", "s3cret"), ("X-Other", "s3cret")]
    callback = world.callback(acme, receiver.url("/hook"), payload="data={response}&n={numbers}", headers=headers)
    echo = f"thanks for s3cret, {SECRET}".encode() + b"\x1b[2J" + b"x" * 2000
    receiver.answer("/hook", Answer(202, echo, [("X-Echo", "s3cret!"), ("Server", "theirs")]))
    before = rows(world)
    result = try_it(cli, callback, "--json").ok()
    (request,) = receiver.requests
    assert request.form[1] == ("n", "+911,+922")
    shown = result.json
    assert (shown["callback_id"], shown["account"], shown["active"]) == (callback, "acme", True)
    assert (shown["example"], shown["parts"], shown["taken"]) == (False, 1, True)
    assert shown["request"]["method"] == request.method == "POST"
    assert shown["request"]["url"] == receiver.url("/hook")
    assert shown["request"]["body"].encode() == request.body
    assert {**shown["request"]["headers"], "X-Token": "s3cret", "X-Other": "s3cret"} == {
        name: value for name, value in request.headers if name not in ("Host", "Accept", "Content-Length")
    }
    answer = shown["answer"]
    assert (answer["http_status"], answer["error"]) == (202, None)
    assert answer["response"].startswith("thanks for ***, ***\x1b[2Jxxx")
    assert len(answer["response"]) == 1024
    assert answer["headers"]["Server"] == "theirs"
    assert answer["duration_ms"] >= 0
    people = try_it(cli, callback).ok()
    assert re.match(rf"POST {re.escape(receiver.url('/hook'))}\n  User-Agent: monitor-cli/", people.out)
    assert re.search(r"^HTTP 202 after \d+ ms$", people.out, re.MULTILINE)
    assert "\x1b" not in people.out
    for printed in (result, people):
        assert printed.err == ""
        assert "s3cret" not in printed.out
        assert SECRET not in printed.out
    assert rows(world) == before


def test_each_test_is_signed_and_is_news(cli: Cli, world: World, acme: int, server: int, receiver: Receiver) -> None:
    callback = world.callback(acme, receiver.url("/hook"), raw_json=True)
    for _ in range(2):
        try_it(cli, callback).ok()
    assert told(receiver) == [[("+911", "operational"), ("+922", "warning")]] * 2
    assert len({request.header("webhook-id") for request in receiver.requests}) == 2
    for request in receiver.requests:
        Webhook(SECRET).verify(request.body, {name.lower(): value for name, value in request.headers})


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(500, b"no"), "was not taken: HTTP 500"),
        (Answer(302, headers=[("Location", "http://169.254.169.254/")]), "redirects are not followed"),
        (Answer(drop="after"), "the request may have arrived"),
    ],
)
def test_what_is_not_taken_exits_1_with_the_reason(
    cli: Cli, world: World, acme: int, server: int, receiver: Receiver, answer: Answer, words: str
) -> None:
    callback = world.callback(acme, receiver.url("/hook"), raw_json=True)
    receiver.answer("/hook", answer)
    before = rows(world)
    result = try_it(cli, callback, "--json")
    assert result.code == 1
    assert words in result.err
    assert result.json["taken"] is False
    assert result.json["answer"]["http_status"] == (None if answer.drop else answer.status)
    assert len(receiver.requests) == 1
    assert rows(world) == before


def test_the_url_is_judged_as_a_run_judges_it(
    cli: Cli, world: World, acme: int, server: int, receiver: Receiver, hosts: dict[str, list[str]]
) -> None:
    hosts["inside.test"] = ["127.0.0.1"]
    callbacks = [
        world.callback(acme, url, raw_json=True)
        for url in (receiver.url("/hook"), receiver.url("/hook", "inside.test"), "http://absent.test/")
    ]
    for callback, words in zip(
        callbacks, ("is refused", "inside.test resolves to an address", "does not exist"), strict=True
    ):
        result = cli("callback", "test", str(callback))
        assert result.code == 1
        assert words in result.err
    assert receiver.requests == []
    receiver.stop()
    assert try_it(cli, callbacks[0]).code == 1


def test_a_fault_on_our_side_exits_75(
    cli: Cli,
    world: World,
    acme: int,
    server: int,
    hosts: dict[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hosts["hooks.test"] = ["127.0.0.9"]
    asked = network_guard._system_getaddrinfo

    def fails(host: object, *args: object, **kwargs: object) -> object:
        if host == "127.0.0.9":
            raise OSError(errno.EMFILE, "Too many open files")
        return asked(host, *args, **kwargs)

    monkeypatch.setattr(network_guard, "_system_getaddrinfo", fails)
    result = try_it(cli, world.callback(acme, "http://hooks.test/", raw_json=True), "--json")
    assert result.code == 75
    assert "Too many open files" in result.err
    assert result.json["answer"]["http_status"] is None


def test_who_is_told_nothing(cli: Cli, world: World, acme: int, server: int, receiver: Receiver) -> None:
    absent = try_it(cli, 99)
    assert (absent.code, absent.out) == (1, "")
    assert "there is no callback 99" in absent.err
    unsubscribed = world.account("quiet", subscribed=False)
    result = try_it(cli, world.callback(unsubscribed, receiver.url("/hook")))
    assert (result.code, result.out) == (1, "")
    assert "not subscribed" in result.err
    assert receiver.requests == []
    assert world.deliveries() == []


def test_an_account_without_numbers_gets_an_example(cli: Cli, world: World, receiver: Receiver) -> None:
    callback = world.callback(world.account("new"), receiver.url("/hook"), raw_json=True, active=False)
    result = try_it(cli, callback).ok()
    assert "is sent an example" in result.out
    assert "not active" in result.out
    assert told(receiver) == [[("+99900000000", "operational")]]
    shown = try_it(cli, callback, "--json").ok().json
    assert (shown["example"], shown["active"]) == (True, False)


def test_a_long_get_shows_its_first_part_and_a_too_long_one_the_advice(
    cli: Cli, world: World, acme: int, server: int, receiver: Receiver
) -> None:
    world.number(acme, *(f"+93{i:08d}" for i in range(1000)), channel=1)
    callback = world.callback(acme, receiver.url("/get?d={numbers}"))
    shown = try_it(cli, callback, "--json").ok().json
    assert shown["parts"] > 1
    assert len(receiver.requests) == 1
    assert "The first of" in try_it(cli, callback).ok().out
    receiver.clear()
    world.number(acme, *(f"+94{i:08d}" for i in range(15_000)), channel=1)
    result = try_it(cli, callback)
    assert result.code == 1
    assert "use POST" in result.err
    assert receiver.requests == []
    assert world.deliveries() == []


# --- never stale, one in flight ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("planned", [True, False])
def test_what_a_test_told_is_put_right_after_a_flap(
    cli: Cli, world: World, acme: int, server: int, receiver: Receiver, planned: bool
) -> None:
    callback = world.callback(acme, receiver.url("/hook"), raw_json=True)
    world.flag(server, "critical")
    if planned:  # owed, and refused: the customer is known to believe operational
        receiver.answer("/hook", Answer(500))
        cli("callback-run", env=ONCE).quiet()
        receiver.answer("/hook", Answer(200))
    receiver.clear()
    try_it(cli, callback).ok()
    world.flag(server, "operational")
    cli("callback-run", env=ONCE).quiet()
    assert [dict(one)["+911"] for one in told(receiver)] == ["critical", "operational"]
    assert world.owed() == []


def test_a_test_of_what_is_told_already_makes_no_news_of_a_flap(
    cli: Cli, world: World, acme: int, server: int, receiver: Receiver
) -> None:
    callback = world.callback(acme, receiver.url("/hook"), raw_json=True)
    world.flag(server, "critical")
    cli("callback-run", env=LOCAL).quiet()
    try_it(cli, callback).ok()
    receiver.clear()
    world.flag(server, "warning")
    world.flag(server, "critical")
    cli("callback-run", env=LOCAL).quiet()
    assert receiver.requests == []


def test_a_run_waits_for_a_test_and_sends_the_newer_truth_after_it(
    cli: Cli, world: World, acme: int, server: int, receiver: Receiver
) -> None:
    callback = world.callback(acme, receiver.url("/hook"), raw_json=True)
    gate = threading.Event()
    receiver.answer("/hook", Answer(200, wait=gate), Answer(200))
    test = cli.start("callback", "test", str(callback), env=LOCAL)
    receiver.wait(1)
    world.flag(server, "critical")
    run = cli.start("callback-run", env={**LOCAL, "MONITOR_MAX_SECONDS": "90"})
    with pytest.raises(AssertionError):
        receiver.wait(2, timeout=1.5)
    gate.set()
    assert test.wait().code == 0
    run.wait().quiet()
    assert [dict(one)["+911"] for one in told(receiver)] == ["operational", "critical"]
    assert receiver.peak["/hook"] == 1
    assert [row.state for row in world.deliveries()] == ["done"]


def test_a_test_waits_for_a_run(cli: Cli, world: World, acme: int, server: int, receiver: Receiver) -> None:
    callback = world.callback(acme, receiver.url("/hook"), raw_json=True)
    gate = threading.Event()
    receiver.answer("/hook", Answer(200, wait=gate), Answer(200))
    world.flag(server, "critical")
    run = cli.start("callback-run", env=LOCAL)
    receiver.wait(1)
    test = cli.start("callback", "test", str(callback), env=LOCAL)
    with pytest.raises(AssertionError):
        receiver.wait(2, timeout=1.5)
    gate.set()
    assert test.wait().code == 0
    run.wait().quiet()
    assert receiver.peak["/hook"] == 1
    assert len(receiver.requests) == 2


def test_a_request_that_does_not_end_is_not_waited_for_without_end(
    world: World, acme: int, server: int, database: Store
) -> None:
    callback = world.callback(acme, "http://192.0.78.9/", raw_json=True)
    with database.write() as conn:
        values = {"callback_id": callback, "open_callback_id": callback, "state": "open", "created_at": 1}
        conn.execute(schema.delivery.insert().values(**values, lease_until=2**52, lease_token="theirs"))
    now = [0.0]
    settings = config.Settings()
    with pytest.raises(OutsideError, match="has a request under way"):
        try_callback(
            database.database, settings, callback, clock=lambda: now[0], sleep=lambda s: now.append(now.pop() + s)
        )
    assert settings.total_timeout < now[0] < 2 * settings.total_timeout
    assert [row.lease_token for row in world.deliveries()] == ["theirs"]


def test_a_killed_test_leaves_nothing_that_a_run_does_not_clear(
    cli: Cli, world: World, acme: int, server: int, receiver: Receiver, database: Store
) -> None:
    callback = world.callback(acme, receiver.url("/hook"), raw_json=True)
    gate = threading.Event()
    receiver.answer("/hook", Answer(200, wait=gate), Answer(200))
    test = cli.start("callback", "test", str(callback), env=LOCAL)
    receiver.wait(1)
    test.kill()
    gate.set()
    (left,) = world.deliveries()
    assert (left.state, left.lease_until > 0) == ("open", True)
    with database.write() as conn:  # the lease is over
        conn.execute(update(schema.delivery).values(lease_until=1))
    cli("callback-run", env=LOCAL).quiet()
    assert len(receiver.requests) == 1
    assert [row.state for row in world.deliveries()] == ["done"]
    with database.read() as conn:
        assert conn.execute(text(f"SELECT COUNT(*) FROM {schema.owed.name}")).scalar() == 0
