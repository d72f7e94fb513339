"""callback-run through the real command line, to a real HTTP server: who is told what, how often, and what is kept."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from tests.support.cli import Cli
from tests.support.http import Answer, Receiver
from tests.support.world import World

LOCAL = {"MONITOR_ALLOW_NETWORKS": "127.0.0.0/8"}
ONCE = {**LOCAL, "MONITOR_MAX_SECONDS": "3"}  # what is due now: the first retry comes after 4 s at least
FAST = {**LOCAL, "MONITOR_RETRY_SCHEDULE": "0.05,0.05,0.05,0.05,0.05,0.05,0.05", "MONITOR_MAX_SECONDS": "5"}


def document(kind: str, *numbers: str) -> bytes:
    numbers_json = ",".join(f'"{number}"' for number in numbers)
    return (
        '{"status":"200","message":"OK","data":{"incidents":[{"region":"karnataka","region_code":"KA-IN",'
        f'"type":"{kind}","service":"all","numbers":[{numbers_json}]}}]}}}}'
    ).encode()


@pytest.fixture
def acme(world: World) -> int:
    account = world.account("acme")
    world.number(account, "+878788197367616", channel=1)
    return account


def test_tells_every_form_exactly_once_each_time(cli: Cli, world: World, acme: int, receiver: Receiver) -> None:
    server = world.server(channel=1)
    world.callback(acme, receiver.url("/get?r={response}"))
    world.callback(acme, receiver.url("/form"), payload="data={response}")
    world.callback(acme, receiver.url("/json"), raw_json=True)
    for kind in ("critical", "operational", "warning"):
        receiver.clear()
        world.flag(server, kind)
        cli.process("callback-run", env=LOCAL).quiet()
        expected = document(kind, "+878788197367616")
        requests = {request.path: request for request in receiver.requests}
        assert len(receiver.requests) == len(requests) == 3
        assert requests["/get"].target == "/get?r=" + quote(expected, safe="")
        assert requests["/form"].body == b"data=" + quote(expected, safe="").encode()
        assert requests["/json"].body == expected
    assert not world.owed()
    assert {d.state for d in world.deliveries()} == {"done"}
    receiver.clear()
    cli("callback-run", env=LOCAL).quiet()
    assert receiver.requests == []


def test_tells_nobody_else(cli: Cli, world: World, acme: int, receiver: Receiver) -> None:
    server = world.server(channel=1)
    world.server(channel=2)
    other = world.account("other")
    world.number(other, "+1", channel=2)
    world.callback(other, receiver.url("/other"), raw_json=True)
    unsubscribed = world.account("unsubscribed", subscribed=False)
    world.number(unsubscribed, "+2", channel=1)
    world.callback(unsubscribed, receiver.url("/unsubscribed"), raw_json=True)
    world.callback(acme, receiver.url("/inactive"), raw_json=True, active=False)
    world.callback(acme, receiver.url("/told"), raw_json=True)
    world.flag(server, "critical")
    cli("callback-run", env=ONCE).quiet()
    assert [request.path for request in receiver.requests] == ["/told"]


def test_never_sends_the_old_status_after_a_recovery(cli: Cli, world: World, acme: int, receiver: Receiver) -> None:
    server = world.server(channel=1)
    world.callback(acme, receiver.url("/hook"), raw_json=True)
    receiver.answer("/hook", Answer(500))
    world.flag(server, "critical")
    cli("callback-run", env=ONCE).quiet()
    assert [r.json["data"]["incidents"][0]["type"] for r in receiver.requests] == ["critical"]
    receiver.clear()
    receiver.answer("/hook", Answer(200))
    world.flag(server, "operational")
    cli("callback-run", env=FAST).quiet()
    # A 500 says that it was not taken: the customer was told operational last (before), and is not told again.
    assert receiver.requests == []
    assert not world.owed()


@pytest.mark.parametrize("lost", [Answer(504), Answer(drop="after")])
def test_a_flap_after_a_lost_answer_is_told(
    cli: Cli, world: World, acme: int, receiver: Receiver, lost: Answer
) -> None:
    server = world.server(channel=1)
    world.callback(acme, receiver.url("/hook"), raw_json=True)
    receiver.answer("/hook", lost)
    world.flag(server, "critical")
    cli("callback-run", env=ONCE).quiet()
    receiver.clear()
    receiver.answer("/hook", Answer(200))
    world.flag(server, "operational")
    cli("callback-run", env=FAST).quiet()
    assert [r.body for r in receiver.requests] == [document("operational", "+878788197367616")]


def test_a_flap_before_anything_was_sent_is_dropped(cli: Cli, world: World, acme: int, receiver: Receiver) -> None:
    server = world.server(channel=1)
    world.callback(acme, receiver.url("/hook"), raw_json=True)
    world.flag(server, "critical")
    world.flag(server, "operational")
    result = cli("-v", "callback-run", env=LOCAL)
    assert receiver.requests == []
    assert not world.owed()
    assert "change.dropped" in result.err


def test_retries_until_it_is_told(cli: Cli, world: World, acme: int, receiver: Receiver) -> None:
    server = world.server(channel=1)
    world.callback(acme, receiver.url("/hook"), raw_json=True)
    receiver.answer("/hook", Answer(500), Answer(503), Answer(200))
    world.flag(server, "critical")
    cli("callback-run", env=FAST).quiet()
    assert [a.http_status for a in world.attempts()] == [500, 503, 200]
    ids = {r.header("webhook-id") for r in receiver.requests}
    assert len(ids) == 1
    assert len(receiver.requests) == 3
    (delivery,) = world.deliveries()
    assert (delivery.state, delivery.attempts) == ("done", 2)


def test_an_exhausted_schedule_fails_and_goes_with_the_next_change(
    cli: Cli, world: World, acme: int, receiver: Receiver
) -> None:
    server = world.server(channel=1)
    callback = world.callback(acme, receiver.url("/hook"), raw_json=True)
    receiver.answer("/hook", Answer(500))
    world.flag(server, "warning")
    cli("callback-run", env=FAST).quiet()
    assert len(receiver.requests) == 8
    assert [d.state for d in world.deliveries()] == ["failed"]
    assert len(world.owed(callback)) == 1
    receiver.answer("/hook", Answer(200))
    world.flag(server, "critical")
    cli("callback-run", env=FAST).quiet()
    assert json.loads(receiver.requests[-1].body)["data"]["incidents"][0]["type"] == "critical"
    assert not world.owed()


def test_410_switches_off_and_enable_sends_what_was_missed(
    cli: Cli, world: World, acme: int, receiver: Receiver
) -> None:
    server = world.server(channel=1)
    callback = world.callback(acme, receiver.url("/hook"), raw_json=True)
    receiver.answer("/hook", Answer(410))
    world.flag(server, "warning")
    result = cli("callback-run", env=FAST)
    assert result.code == 0
    assert len(result.err.splitlines()) == 1
    assert "410" in result.err
    assert world.callback_row(callback).active == 0
    world.flag(server, "critical")
    cli("callback-run", env=ONCE).quiet()
    assert len(receiver.requests) == 1
    receiver.answer("/hook", Answer(200))
    from monitor_cli.store import outbox

    world.database.transact(lambda conn: outbox.enable(conn, callback))
    cli("callback-run", env=FAST).quiet()
    assert len(receiver.requests) == 2
    assert receiver.requests[-1].body == document("critical", "+878788197367616")


def test_retry_after_is_kept(cli: Cli, world: World, acme: int, receiver: Receiver) -> None:
    server = world.server(channel=1)
    world.callback(acme, receiver.url("/hook"), raw_json=True)
    receiver.answer("/hook", Answer(503, headers=[("Retry-After", "3600")]))
    world.flag(server, "warning")
    cli("callback-run", env=FAST).quiet()
    world.flag(server, "critical")
    cli("callback-run", env=FAST).quiet()
    assert len(receiver.requests) == 1
    (delivery,) = world.deliveries()
    assert delivery.due_at == delivery.not_before
    assert 3590_000 < delivery.not_before - delivery.created_at < 3700_000


def test_a_foreign_flag_is_told(cli: Cli, world: World, acme: int, receiver: Receiver) -> None:
    server = world.server(channel=1)
    world.callback(acme, receiver.url("/hook"), raw_json=True)
    world.flag_by_hand(server, "Critical")
    cli("callback-run", env=LOCAL).quiet()
    assert receiver.requests[0].body == document("critical", "+878788197367616")


def test_a_long_get_is_split_by_numbers(cli: Cli, world: World, acme: int, receiver: Receiver) -> None:
    server = world.server(channel=1)
    numbers = [f"+9188{i:06d}" for i in range(1000)]
    world.number(acme, *numbers, channel=1)
    world.callback(acme, receiver.url("/get?n={numbers}&id={event_id}"))
    receiver.answer("/get", Answer(200), Answer(500), Answer(200))
    world.flag(server, "critical")
    cli("callback-run", env=FAST).quiet()
    assert all(len(receiver.url(r.target)) <= 8000 for r in receiver.requests)
    assert len({r.header("webhook-id") for r in receiver.requests}) == len(receiver.requests) - 1
    got = [n for i, r in enumerate(receiver.requests) if i != 1 for n in dict(r.query)["n"].split(",")]
    assert sorted(got) == sorted([*numbers, "+878788197367616"])
    assert not world.owed()


def test_dry_run_shows_and_changes_nothing(cli: Cli, world: World, acme: int, receiver: Receiver) -> None:
    server = world.server(channel=1)
    world.callback(acme, receiver.url("/hook"), raw_json=True)
    world.flag(server, "critical")
    nameless = world.server(channel=2, region=None, region_code=None)
    world.number(acme, "+2", channel=2)
    world.flag(nameless, "warning")
    result = cli.ok("callback-run", "--dry-run", env=LOCAL)
    assert "POST" in result.out
    assert "a region without a name warning: 1 number, karnataka (KA-IN) critical: 1 number\n" in result.out
    assert receiver.requests == []
    assert world.server_row(server).status_report == 1
    assert world.deliveries() == []
