"""Delivery where it is easily wrong: newest truth between parts and after a wait, two claims of one delivery in one
batch, accounts behind others, numbers of an odd form, changes that come while a process waits for a customer."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import select, text, update

from monitor_cli import schema
from monitor_cli.delivery.desk import MOST_NUMBERS, Desk
from monitor_cli.delivery.jobs import must_send
from monitor_cli.delivery.slots import Shares
from monitor_cli.dialect import now_ms
from monitor_cli.store import claims, due, planning, settling
from monitor_cli.store.claims import FEW
from monitor_cli.types import Type
from tests.support.cli import Cli
from tests.support.http import Answer, Receiver
from tests.support.stores import Store
from tests.support.world import World

LOCAL = {"MONITOR_ALLOW_NETWORKS": "127.0.0.0/8"}
d = schema.delivery


def types_told(receiver: Receiver) -> list[str]:
    return [dict(request.query)["t"] for request in receiver.requests]


def test_the_rest_of_a_split_request_is_built_anew_when_newer_truth_is_owed(
    cli: Cli, world: World, receiver: Receiver
) -> None:
    server = world.server()
    acme = world.account("acme")
    world.number(acme, *[f"+9188{i:06d}" for i in range(1500)])
    world.callback(acme, receiver.url("/get?t={type}&n={numbers}"))
    receiver.answer("/get", Answer(delay=1.0))
    world.flag(server, "critical")
    running = cli.start("callback-run", env=LOCAL)
    receiver.wait(1)
    world.flag(server, "operational")
    running.wait().quiet()
    told = types_told(receiver)
    # The second part may have started before the change was planned; none after that is of the old truth.
    assert told.count("critical") <= 2
    assert told[-4:] == ["operational"] * 4
    assert not world.owed()


def test_what_waited_for_a_slot_is_built_anew(cli: Cli, world: World, receiver: Receiver) -> None:
    server = world.server()
    acme = world.account("acme")
    world.number(acme, "+1")
    other = world.account("other")
    world.number(other, "+2")
    slow = {**LOCAL, "MONITOR_CONCURRENCY": "1", "MONITOR_SLOW_LANE": "1", "MONITOR_PROCESSES": "1"}
    world.callback(acme, receiver.url("/a?t={type}"))
    world.callback(acme, receiver.url("/b?t={type}"))
    world.callback(other, receiver.url("/c?t={type}"))
    receiver.answer(None, Answer(delay=4.0))
    world.flag(server, "critical")
    running = cli.start("callback-run", env=slow)
    receiver.wait(2)  # one in the slow lane, one in the only slot
    world.flag(server, "warning")
    running.wait().quiet()
    waited = [request for request in receiver.requests if request.path == receiver.requests[-1].path]
    assert types_told(receiver)[:2] == ["critical", "critical"]
    assert set(types_told(receiver)[2:]) == {"warning"}
    assert waited


def test_a_change_is_planned_while_the_other_process_waits_for_a_customer(
    cli: Cli, world: World, receiver: Receiver
) -> None:
    first, second = world.server(channel=1), world.server(channel=2)
    acme, other = world.account("acme"), world.account("other")
    world.number(acme, "+1", channel=1)
    world.number(other, "+2", channel=2)
    world.callback(acme, receiver.url("/slow"), raw_json=True)
    world.callback(other, receiver.url("/quick"), raw_json=True)
    receiver.answer("/slow", Answer(delay=6.0))
    world.flag(first, "critical")
    running = cli.start("callback-run", env={**LOCAL, "MONITOR_PROCESSES": "2"})
    (slow,) = receiver.wait(1, "/slow")
    time.sleep(1.0)
    world.flag(second, "critical")
    (quick,) = receiver.wait(1, "/quick")
    assert quick.at - slow.at < 6
    running.wait().quiet()


def test_a_number_with_a_line_end_stops_nobody(cli: Cli, world: World, receiver: Receiver) -> None:
    server = world.server()
    odd, good = world.account("odd"), world.account("good")
    world.number(odd, "+2\n3", "+4")
    world.number(good, "+5")
    world.callback(odd, receiver.url("/odd"), raw_json=True)
    world.callback(good, receiver.url("/good"), raw_json=True)
    world.flag(server, "critical")
    cli("callback-run", env=LOCAL).quiet()
    told = {request.path: request.json["data"]["incidents"][0]["numbers"] for request in receiver.requests}
    assert told == {"/odd": ["+2\n3", "+4"], "/good": ["+5"]}


def claimed(world: World, conn: Any, token_of: str) -> claims.Claimed:
    ids = conn.execute(select(d.c.id)).scalars().all()
    (one,) = claims.claim(conn, ids, token_of, 60_000, 1000, lambda *_: True)
    return one


def test_long_lists_of_numbers_are_read_whole_and_no_more_than_fit_into_memory(world: World) -> None:
    assert 3 + 307 * 13 < claims.SHORT < 3 + 308 * 13  # of 308 the last number is cut
    server = world.server()
    lists = {}
    for name, count in {"none": 0, "short": 1, "just": 307, "over": 308, "long": 1000}.items():
        account = world.account(name)
        lists[world.callback(account, "http://127.0.0.1:1/")] = numbers = [f"+{account}{i:010}" for i in range(count)]
        world.number(account, *numbers or ["+0"], channel=1 if numbers else 2)
    world.flag(server, "critical")
    world.database.transact(planning.plan_flagged)
    with world.database.write() as conn:
        ids = conn.execute(select(d.c.id)).scalars().all()
        told: dict[int, list[str]] = {}
        for most in (300, 10_000):
            found = claims.claim(conn, ids, "one", 60_000, most, lambda *_: True)
            told |= {one.callback.id: sorted(one.numbers.get(1, ())) for one in found}
            if most == 300:
                assert len(found) < len(ids)  # the rest was given back
    assert told == {callback: numbers for callback, numbers in lists.items() if numbers}


def test_what_has_no_callback_any_more_is_parked(world: World) -> None:
    server = world.server()
    acme = world.account("acme")
    world.number(acme, "+1")
    gone, there = (world.callback(acme, f"http://127.0.0.1:1/{name}") for name in ("gone", "there"))
    world.flag(server, "critical")
    world.database.transact(planning.plan_flagged)
    with world.database.write() as conn:
        conn.execute(schema.callback.delete().where(schema.callback.c.id == gone))
        ids = conn.execute(select(d.c.id)).scalars().all()
        (one,) = claims.claim(conn, ids, "one", 60_000, 1000, lambda *_: True)
    states = {row.callback_id: (row.lease_token, row.lease_until > 0, row.due_at is None) for row in world.deliveries()}
    assert states == {gone: ("", False, True), there: (one.token, True, False)}


def test_a_late_settlement_beside_the_new_claims_own_changes_nothing(
    cli: Cli, world: World, receiver: Receiver
) -> None:
    server = world.server()
    acme = world.account("acme")
    world.number(acme, "+1")
    callback = world.callback(acme, receiver.url("/hook"), raw_json=True)
    world.flag(server, "critical")
    receiver.answer("/hook", Answer(500))
    cli("callback-run", env={**LOCAL, "MONITOR_RETRY_SCHEDULE": "3600"}).quiet()
    with world.database.write() as conn:
        conn.execute(update(d).values(due_at=1))
        old = claimed(world, conn, "one")
        conn.execute(update(d).values(lease_until=1))
        new = claimed(world, conn, "two")
        unit = new.owed[0]
        attempt = settling.Attempt(now_ms(conn), 1, 200, None, None, "msg_late")
        late = settling.Settlement(
            old,
            settling.Then.DONE,
            told=[settling.Told(unit.unit, unit.wanted, Type.WARNING)],
            attempts=[attempt],
        )
        ours = settling.Settlement(new, settling.Then.RETRY, tried=1, delay_ms=9)
        settling.settle(conn, [late, ours], 60_000)
    (row,) = world.deliveries()
    assert (row.state, row.attempts, row.lease_until) == ("open", 1, 0)
    assert len(world.owed(callback)) == 1
    assert [a.late for a in world.attempts() if a.webhook_id == "msg_late"] == [1]


def test_of_several_that_are_settled_at_once_those_stay_open_that_are_owed_something(world: World) -> None:
    odd = "50 % O'Neill \\ ?"
    servers = [world.server(channel=channel, region=odd, region_code=f"{odd} {channel}") for channel in (1, 2)]
    acme = world.account("acme")
    world.number(acme, "+1", channel=1)
    world.number(acme, "+2", channel=2)
    whole, half = (world.callback(acme, f"http://127.0.0.1:1/{name}") for name in ("whole", "half"))
    for server in servers:
        world.flag(server, "critical")
    world.database.transact(planning.plan_flagged)
    with world.database.write() as conn:
        ids = conn.execute(select(d.c.id)).scalars().all()
        found = {one.callback.id: one for one in claims.claim(conn, ids, "one", 60_000, 1000, lambda *_: True)}
        settlements = [
            settling.Settlement(
                one,
                settling.Then.DONE,
                told=[
                    settling.Told(o.unit, o.wanted, Type.CRITICAL) for o in one.owed[: 2 if callback == whole else 1]
                ],
                attempts=[settling.Attempt(one.now, 1, 200, None, odd, "msg_1")],
            )
            for callback, one in found.items()
        ]
        settling.settle(conn, settlements, 60_000)
    states = {row.callback_id: (row.state, row.lease_token, row.due_at is None) for row in world.deliveries()}
    assert states == {whole: ("done", "", True), half: ("open", "", False)}
    assert [(row.channel_id, row.region, row.region_code) for row in world.owed(half)] == [(2, odd, f"{odd} 2")]
    assert (world.owed(whole), [a.response for a in world.attempts()]) == ([], [odd, odd])


def test_an_account_with_many_due_does_not_hide_another(world: World) -> None:
    server = world.server()
    many, one = world.account("many"), world.account("one")
    world.number(many, "+1")
    world.number(one, "+2")
    for i in range(300):
        world.callback(many, f"http://127.0.0.1:{2000 + i}/")
    last = world.callback(one, "http://127.0.0.1:1999/")
    world.flag(server, "critical")
    shares = Shares()
    desk = Desk(world.database, shares, 15, 60, time.monotonic)
    assert desk.plan() == 1
    with world.database.write() as conn:
        conn.execute(update(d).where(d.c.callback_id == last).values(due_at=now_ms(conn)))
        conn.execute(update(d).where(d.c.callback_id != last).values(due_at=now_ms(conn) - 60_000))
    assert last in {job.claimed.callback.id for job in desk.claim(50)}


def test_in_a_burst_the_processes_of_a_run_claim_different_parts(world: World) -> None:
    """Two that reach for the same rows would get half of what they asked for; what one leaves the other takes."""
    server = world.server()
    for i in range(600):
        account = world.account(f"a{i}")
        world.number(account, f"+{i}")
        world.callback(account, f"http://127.0.0.1:{2000 + i}/")
    world.flag(server, "critical")
    desks = [Desk(world.database, Shares(2, number), 15, 60, time.monotonic) for number in (0, 1)]
    assert desks[0].plan() == 1
    claimed = [job.claimed.id for desk in desks for job in desk.claim(50)]  # now they know that it is a burst
    for number, desk in enumerate(desks):
        ids = [job.claimed.id for job in desk.claim(50)]
        assert len(ids) == 50
        assert {(key >> 6) % 2 for key in ids} == {number}
        claimed += ids
    while jobs := desks[0].claim(50):
        claimed += [job.claimed.id for job in jobs]
    assert len(claimed) == len(set(claimed)) == 600


def claimed_at_once(world: World) -> list[claims.Claimed]:
    """All that is due, as one claim gives it."""
    with world.database.write() as conn:
        ids = [one.id for one in due.candidates(conn, 1000)]
        return claims.claim(conn, ids, "test", 60_000, MOST_NUMBERS, must_send)


def test_what_no_packet_of_the_database_holds_is_claimed(world: World) -> None:
    """The callbacks of a claim may be more than max_allowed_packet (16 MiB) together."""
    acme = world.account("acme")
    world.number(acme, "+1")
    payload = "ñ" * 65_000
    for i in range(150):
        world.callback(acme, f"http://127.0.0.1:{2000 + i}/", payload=payload)
    world.flag(world.server(), "critical")
    assert Desk(world.database, Shares(), 15, 60, time.monotonic).plan() == 1
    found = claimed_at_once(world)
    assert len(found) == 150
    assert {one.callback.payload for one in found} == {payload}


def test_numbers_of_an_account_that_no_packet_of_the_database_holds(world: World, database: Store) -> None:
    """They were taken for none: nothing was told."""
    if database.name == "sqlite":
        pytest.skip("SQLite has no packets")
    acme = world.account("acme")
    world.number(acme, *[f"+91{n:010d}" for n in range(2000)])
    world.callback(acme, "http://127.0.0.1:2000/")
    world.flag(world.server(), "critical")
    assert Desk(database, Shares(), 15, 60, time.monotonic).plan() == 1
    with database.write() as conn:
        usual = conn.execute(text("SELECT @@GLOBAL.max_allowed_packet")).scalar_one()
        conn.execute(text("SET GLOBAL max_allowed_packet = 20480"))
    try:
        database.close()  # those that are dialled from now on have it
        (one,) = claimed_at_once(world)
    finally:
        with database.write() as conn:
            conn.execute(text(f"SET GLOBAL max_allowed_packet = {usual}"))
        database.close()
    assert len(one.numbers[1]) == 2000


def test_a_claim_brings_no_more_numbers_than_fit_into_memory(world: World) -> None:
    """What is too much is given back, and claimed next; one that has more by itself is told as well."""
    server = world.server()
    for i in range(FEW + 20):
        account = world.account(f"a{i}")
        world.number(account, *[f"+{i}{n:04d}" for n in range(1500)])
        world.callback(account, f"http://127.0.0.1:{2000 + i}/")
    world.flag(server, "critical")
    assert Desk(world.database, Shares(), 15, 60, time.monotonic).plan() == 1
    claimed = []
    while some := claimed_at_once(world):
        assert sum(len(one.numbers[1]) for one in some) <= MOST_NUMBERS + 1500
        claimed += some
    assert len(claimed) == len({one.id for one in claimed}) == FEW + 20
    assert {len(one.numbers[1]) for one in claimed} == {1500}


def test_nobody_is_denied_a_share_once_nothing_is_due(world: World) -> None:
    shares = Shares(fast=4)
    some = [due.Candidate(key, 1, f"h{key}:80") for key in range(5)]
    taken = shares.choose(some, 5)
    for one in taken:
        shares.release(one.account_id, one.destination)
    assert len(taken) < 5
    assert shares.lacking()
    assert Desk(world.database, shares, 15, 60, time.monotonic).tick(50).jobs == []
    assert not shares.lacking()


def test_what_comes_due_is_seen_behind_many_that_are_held(world: World) -> None:
    acme = world.account("acme")
    with world.database.write() as conn:
        now = now_ms(conn)
        held = {"state": "open", "created_at": now, "due_at": now - 1000, "lease_until": now + 60_000}
        rows = [{"callback_id": i, "open_callback_id": i, **held} for i in range(1, 601)]
        conn.execute(
            d.insert(),
            [*rows, {**rows[0], "callback_id": 601, "open_callback_id": 601, "due_at": now + 5000, "lease_until": 0}],
        )
        soon = due.next_due(conn)
    assert acme
    assert soon is not None
    assert soon <= 5000
