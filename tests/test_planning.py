"""Planning: what was flagged becomes owed, to whom, with which type before, in the transaction that clears the flags;
and what people's edits owe. On each store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from monitor_cli import schema
from monitor_cli.db import Database
from monitor_cli.dialect import now_ms
from monitor_cli.store import claims, outbox, planning, settling
from monitor_cli.types import Region, Type, Unit
from tests.support.stores import Store
from tests.support.world import World

m, d, o = schema.monitor, schema.delivery, schema.owed
URL = "http://customer.test/hook"


def plan(world: World, **how: Any) -> int:
    return world.database.transact(lambda conn: planning.plan_flagged(conn, **how))


def owed(world: World, callback: int | None = None) -> list[tuple[int, str, str | None, int]]:
    """(channel, region_code, told_type, how many changes) of what is owed."""
    return [(r.channel_id, r.region_code, r.told_type, r.wanted - r.told) for r in world.owed(callback)]


def write(world: World, statement: Any) -> None:
    with world.database.write() as conn:
        conn.execute(statement)


def tell(world: World, callback: int, then: settling.Then = settling.Then.DONE, **facts: Any) -> None:
    """Claim a callback's delivery and settle it; as told, unless `then` says otherwise."""

    def work(conn: Any) -> None:
        ids = conn.execute(select(d.c.id).where(d.c.open_callback_id == callback)).scalars().all()
        (one,) = claims.claim(conn, ids, "test", 60_000, 1000, lambda *_: True)
        told = [settling.Told(unit.unit, unit.wanted, one.types[unit.unit]) for unit in one.owed]
        done = told if then is settling.Then.DONE else []
        settlement = settling.Settlement(one, then, told=done, **facts)
        settling.settle(conn, [settlement], 60_000)
        assert conn.execute(select(d.c.lease_token).where(d.c.id == one.id)).scalar_one() == ""

    world.database.transact(work)


@pytest.fixture
def acme(world: World) -> int:
    account = world.account("acme")
    world.number(account, "+1", "+2", "+3", channel=1)
    return account


@pytest.fixture
def callback(world: World, acme: int) -> int:
    return world.callback(acme, URL)


# --- who is owed ----------------------------------------------------------------------------------------------------


def test_nothing_flagged_is_nothing_done(world: World, callback: int) -> None:
    world.server(channel=1, final_status="critical")
    with world.database.read() as conn:
        assert not planning.anything_flagged(conn)
    assert plan(world) == 0
    assert (world.owed(all_rows=True), world.deliveries()) == ([], [])


def test_a_change_is_owed_once_to_each_callback_of_the_account(world: World, acme: int, callback: int) -> None:
    other = world.callback(acme, URL)
    server = world.server(channel=1)
    change = world.flag(server, "critical")
    with world.database.read() as conn:
        assert planning.anything_flagged(conn)
    assert plan(world) == 1
    for one in (callback, other):  # three numbers are there, and it is one change
        assert owed(world, one) == [(1, "KA-IN", "operational", 1)]
        (delivery,) = world.deliveries(one)
        assert (delivery.state, delivery.open_callback_id, delivery.attempts, delivery.lease_until) == (
            "open",
            one,
            0,
            0,
        )
        assert delivery.due_at == delivery.created_at
    assert world.server_row(server).status_report == 0
    assert [(c.id, c.planned) for c in world.changes()] == [(change, 1)]
    assert world.rows(schema.plan) == []
    assert plan(world) == 0


def test_only_accounts_with_numbers_there_that_are_subscribed(world: World, callback: int) -> None:
    elsewhere, without, quiet = (
        world.account("elsewhere"),
        world.account("none"),
        world.account("quiet", subscribed=None),
    )
    unsubscribed = world.account("unsubscribed", subscribed=False)
    world.number(elsewhere, "+4", channel=2)
    world.number(unsubscribed, "+5", channel=1)
    world.number(quiet, "+6", channel=1)
    for account in (elsewhere, without, unsubscribed, quiet):
        world.callback(account, URL)
    world.flag(world.server(channel=1), "warning")
    plan(world)
    assert {row.callback_id for row in world.owed(all_rows=True)} == {callback}
    assert {row.callback_id for row in world.deliveries()} == {callback}


def test_an_inactive_callback_is_owed_too(world: World, acme: int) -> None:
    inactive = world.callback(acme, URL, active=False)
    world.flag(world.server(channel=1), "warning")
    plan(world)
    assert owed(world, inactive) == [(1, "KA-IN", "operational", 1)]


def test_a_callback_hears_of_changes_from_its_creation_on(world: World, acme: int, callback: int) -> None:
    first, second = world.server(channel=1), world.server(channel=1, region="delhi", region_code="DL-IN")
    world.flag(first, "critical")
    late = world.callback(acme, URL)
    world.flag(second, "warning")
    latest = world.callback(acme, URL)
    plan(world)
    assert len(owed(world, callback)) == 2
    assert owed(world, late) == [(1, "DL-IN", "operational", 1)]
    assert owed(world, latest) == []
    world.flag(first, "operational")
    plan(world)
    assert owed(world, latest) == [(1, "KA-IN", "critical", 1)]


def test_several_channels_and_regions_are_owed_by_themselves(world: World, acme: int, callback: int) -> None:
    world.number(acme, "+7", channel=2)
    here, there = world.server(channel=1), world.server(channel=2, region=None, region_code=None)
    world.server(channel=2)  # another region of channel 2, unflagged
    world.flag(here, "warning")
    world.flag(there, "critical")
    assert plan(world) == 2
    assert owed(world) == [(1, "KA-IN", "operational", 1), (2, "", "operational", 1)]
    assert len(world.deliveries()) == 1


# --- the type before ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [["critical"], ["critical", "operational"], ["warning", "critical", "warning"]])
def test_the_type_before_the_first_change_counts_as_told(world: World, callback: int, kinds: list[str]) -> None:
    server = world.server(channel=1, final_status="operational")
    for kind in kinds:
        world.flag(server, kind)
    plan(world)
    # A change over our own unplanned one finds the flag standing; the first one does not.
    assert owed(world) == [(1, "KA-IN", "operational", 1)]


def test_the_worst_of_a_channels_servers_counts(world: World, callback: int) -> None:
    first = world.server(channel=1)
    world.server(channel=1, final_status="Warning ")
    world.server(channel=1, region_code="DL-IN", final_status="critical")  # another region
    world.server(channel=2, final_status="critical")  # another channel
    world.flag(first, "critical")
    plan(world)
    assert owed(world) == [(1, "KA-IN", "warning", 1)]


def test_two_servers_of_a_channel_that_change_at_once(world: World, callback: int) -> None:
    first, second = world.server(channel=1, final_status="warning"), world.server(channel=1)
    world.flag(first, "critical")
    world.flag(second, "critical")
    assert plan(world) == 2
    assert owed(world) == [(1, "KA-IN", "warning", 1)]


@pytest.mark.parametrize("unknown", [None, "", "on fire"])
def test_one_unknown_type_makes_the_type_before_unknown(world: World, callback: int, unknown: str | None) -> None:
    world.server(channel=1, final_status=unknown)
    world.flag(world.server(channel=1), "warning")
    plan(world)
    assert owed(world) == [(1, "KA-IN", None, 1)]


def test_a_first_observed_type_has_none_before(world: World, callback: int) -> None:
    world.flag(world.server(channel=1, final_status=None), "warning")
    plan(world)
    assert owed(world) == [(1, "KA-IN", None, 1)]


def test_a_foreign_flag_is_heard_by_everybody_and_hides_the_type_before(world: World, acme: int) -> None:
    server = world.server(channel=1)
    world.flag(server, "warning")
    plan(world)
    after = world.callback(acme, URL)  # newer than every change
    world.flag_by_hand(server, "critical")
    assert plan(world) == 1
    assert owed(world, after) == [(1, "KA-IN", None, 1)]
    assert world.server_row(server).status_report == 0


def test_a_foreign_flag_leaves_what_was_told(world: World, callback: int) -> None:
    server = world.server(channel=1)
    world.flag(server, "critical")
    plan(world)
    tell(world, callback)
    world.flag_by_hand(server)
    plan(world)
    assert owed(world) == [(1, "KA-IN", "critical", 1)]


def test_a_change_over_a_foreign_flag_has_an_unknown_type_before_and_everybody_hears(world: World, acme: int) -> None:
    server = world.server(channel=1)
    world.flag_by_hand(server, "warning")
    world.flag(server, "critical")  # finds the flag standing
    after = world.callback(acme, URL)
    assert world.changes()[0].flag_stood == 1
    plan(world)
    assert owed(world, after) == [(1, "KA-IN", None, 1)]
    assert world.changes()[0].planned == 1


def test_a_foreign_flag_over_a_change_keeps_its_type_before(world: World, acme: int, callback: int) -> None:
    server = world.server(channel=1)
    world.flag(server, "warning")
    world.flag_by_hand(server, "critical")
    after = world.callback(acme, URL)
    plan(world)
    assert owed(world, callback) == [(1, "KA-IN", "operational", 1)]
    assert owed(world, after) == []


def test_a_foreign_flag_on_another_server_of_the_channel(world: World, callback: int) -> None:
    first, second = world.server(channel=1), world.server(channel=1)
    world.flag(first, "warning")
    world.flag_by_hand(second, "critical")
    plan(world)
    assert owed(world) == [(1, "KA-IN", None, 1)]


# --- again ----------------------------------------------------------------------------------------------------------


def test_another_change_counts_and_leaves_what_the_customer_believes(world: World, callback: int) -> None:
    server = world.server(channel=1)
    world.flag(server, "critical")
    plan(world)
    since = world.owed()[0].owed_since_at
    write(world, update(o).values(unsure=1))
    world.flag(server, "warning")
    plan(world)
    assert owed(world) == [(1, "KA-IN", "operational", 2)]
    assert [(row.unsure, row.owed_since_at) for row in world.owed()] == [(1, since)]
    tell(world, callback)
    write(world, update(o).values(owed_since_at=5))
    world.flag(server, "critical")
    plan(world)
    assert owed(world) == [(1, "KA-IN", "warning", 1)]
    assert world.owed()[0].owed_since_at > 5  # owed anew


def test_a_change_makes_an_open_delivery_due_and_starts_its_schedule_anew(world: World, callback: int) -> None:
    server = world.server(channel=1)
    world.flag(server, "critical")
    plan(world)
    tell(world, callback, settling.Then.RETRY, tried=4, delay_ms=7_200_000)
    (before,) = world.deliveries()
    assert (before.attempts, before.rearmed) == (4, 0)
    world.flag(server, "warning")
    plan(world)
    (after,) = world.deliveries()
    assert (after.attempts, after.rearmed) == (0, 1)
    assert after.due_at < before.due_at - 7_000_000


def test_a_change_within_a_retry_after_waits_for_its_end(world: World, callback: int) -> None:
    server = world.server(channel=1)
    world.flag(server, "critical")
    plan(world)
    tell(world, callback, settling.Then.RETRY, tried=1, delay_ms=5000, retry_after_ms=3_600_000)
    (before,) = world.deliveries()
    assert before.due_at == before.not_before
    world.flag(server, "warning")
    plan(world)
    (after,) = world.deliveries()
    assert (after.due_at, after.not_before, after.attempts, after.rearmed) == (before.due_at, before.not_before, 0, 1)


def test_a_lease_in_force_is_left_alone(world: World, callback: int) -> None:
    server = world.server(channel=1)
    world.flag(server, "critical")
    plan(world)
    lease = {"lease_token": "x" * 32, "lease_owner": "somebody", "lease_until": 2**50}
    write(world, update(d).values(**lease))
    world.flag(server, "warning")
    plan(world)
    (delivery,) = world.deliveries()
    assert {name: getattr(delivery, name) for name in lease} == lease
    assert delivery.rearmed == 1


@pytest.mark.parametrize("then", [settling.Then.DONE, settling.Then.FAILED])
def test_a_closed_delivery_is_followed_by_a_new_one(world: World, callback: int, then: settling.Then) -> None:
    server = world.server(channel=1)
    world.flag(server, "critical")
    plan(world)
    tell(world, callback, then)
    world.flag(server, "warning")
    plan(world)
    first, second = world.deliveries()
    assert (first.state, first.open_callback_id, first.due_at) == (then.value, None, None)
    assert (second.state, second.open_callback_id) == ("open", callback)


# --- batches, and several at once -----------------------------------------------------------------------------------


def servers(world: World, count: int, channel: Callable[[int], int]) -> None:
    rows = [
        {
            "server_id": 1,
            "name": f"server {n}",
            "server_tag": f"tag {n}",
            "channel_id": channel(n),
            "region": "karnataka",
            "region_code": "KA-IN",
            "final_status": "critical",
            "status_report": 1,
        }
        for n in range(count)
    ]
    with world.database.write() as conn:
        conn.execute(insert(m), rows)


def test_500_servers_at_a_time(world: World, acme: int, callback: int) -> None:
    servers(world, 1100, lambda n: n % 300)
    for channel in (2, 299):
        world.number(acme, f"+9{channel}", channel=channel)
    assert [plan(world) for _ in range(4)] == [500, 500, 100, 0]
    assert {row.channel_id for row in world.owed()} == {1, 2, 299}
    assert len(world.deliveries()) == 1


def test_a_channel_whose_servers_go_into_two_plans_keeps_its_type_before(world: World, callback: int) -> None:
    first, second = world.server(channel=1), world.server(channel=1)
    world.flag(first, "critical")
    world.flag(second, "critical")
    assert plan(world, limit=1) == 1
    assert owed(world) == [(1, "KA-IN", "operational", 1)]
    assert plan(world, limit=1) == 1
    assert owed(world) == [(1, "KA-IN", "operational", 2)]


def test_only_the_channels_asked_for(world: World, callback: int) -> None:
    here, there = world.server(channel=1), world.server(channel=2)
    for server in (here, there):
        world.flag(server, "critical")
    assert plan(world, channels=[2, 3]) == 1
    assert [world.server_row(s).status_report for s in (here, there)] == [1, 0]
    assert plan(world, channels=[]) == 0
    assert plan(world, channels=range(5000)) == 1


def test_a_failure_leaves_everything_as_it_was(world: World, callback: int) -> None:
    server = world.server(channel=1)
    world.flag(server, "critical")

    def work(conn: Any) -> None:
        planning.plan_flagged(conn)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        world.database.transact(work)
    assert (world.owed(), world.deliveries(), world.server_row(server).status_report) == ([], [], 1)
    assert world.changes()[0].planned == 0


def test_planners_and_a_syncer_at_once_count_every_change_once(world: World, database: Store, acme: int) -> None:
    """Real transactions against each other: the second planner waits, or starts again."""
    callbacks = [world.callback(acme, URL) for _ in range(30)]
    ids = [world.server(channel=1) for _ in range(4)]
    done = threading.Event()
    planned, failures = [], []

    def planner() -> None:
        own = Database(database.url)
        try:
            while not done.is_set() or own.transact(planning.plan_flagged):
                planned.append(own.transact(planning.plan_flagged))
        except Exception as error:
            failures.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=planner) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(25):
            world.flag(ids[turn % 4], ("critical", "operational", "warning")[turn % 3])
    finally:
        done.set()
        for thread in threads:
            thread.join(60)
    assert not failures
    assert {c.planned for c in world.changes()} == {1}
    assert {world.server_row(server).status_report for server in ids} == {0}
    counts = {(row.callback_id, row.told_type): row.wanted for row in world.owed(all_rows=True)}
    assert set(counts) == {(callback, "operational") for callback in callbacks}
    assert len(set(counts.values())) == 1  # every plan concerned every callback, whole
    assert sum(planned) <= 25
    rearmed = {row.rearmed for row in world.deliveries()}
    assert rearmed == {next(iter(counts.values())) - 1}
    assert world.rows(schema.plan) == []


def test_a_change_committed_while_a_plan_runs_is_not_taken_for_the_type_before(
    world: World, database: Store, callback: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The servers are read before their changes; the other way round, `second` would count as critical before."""
    if database.name == "sqlite":
        pytest.skip("SQLite has one writer at a time: nothing is committed while a plan runs")
    first, second = world.server(channel=1), world.server(channel=1)
    world.flag(first, "warning")
    real = planning._unplanned_changes

    def between(conn: Any, ids: Any) -> Any:
        monkeypatch.setattr(planning, "_unplanned_changes", real)
        world.flag(second, "critical")
        return real(conn, ids)

    monkeypatch.setattr(planning, "_unplanned_changes", between)
    assert plan(world) == 1
    assert owed(world) == [(1, "KA-IN", "operational", 1)]
    assert plan(world) == 1
    assert owed(world) == [(1, "KA-IN", "operational", 2)]


# --- what people's edits owe ----------------------------------------------------------------------------------------


def around(world: World, channels: list[int], *statements: Any) -> None:
    def work(conn: Any) -> None:
        planning.owe_around(conn, channels, lambda: [conn.execute(statement) for statement in statements])

    world.database.transact(work)


def row(**columns: Any) -> dict[str, Any]:
    known = {"server_id": 1, "name": "new", "server_tag": "t", "region": "karnataka", "region_code": "KA-IN"}
    return {**known, "channel_id": 1, "final_status": "operational", **columns}


def test_a_type_set_by_hand_is_owed_to_everybody(world: World, callback: int) -> None:
    server = world.server(channel=1)
    around(world, [1], update(m).where(m.c.id == server).values(final_status="critical"))
    assert owed(world) == [(1, "KA-IN", "operational", 1)]
    assert len(world.deliveries()) == 1


def test_an_edit_that_leaves_the_worst_as_it_is_owes_nothing(world: World, callback: int) -> None:
    server = world.server(channel=1)
    world.server(channel=1, final_status="critical")
    around(world, [1], update(m).where(m.c.id == server).values(final_status="warning"))
    around(world, [1], update(m).where(m.c.id == server).values(name="renamed"))
    assert (owed(world), world.deliveries()) == ([], [])


def test_a_server_that_moves_owes_the_channel_it_leaves_and_the_one_it_comes_to(world: World, acme: int) -> None:
    callback = world.callback(acme, URL)
    world.number(acme, "+9", channel=2)
    server = world.server(channel=1, final_status="critical")
    world.server(channel=1)
    world.server(channel=2)
    around(world, [1, 2], update(m).where(m.c.id == server).values(channel_id=2))
    assert owed(world, callback) == [(1, "KA-IN", "critical", 1), (2, "KA-IN", "operational", 1)]


def test_new_and_removed_servers(world: World, callback: int) -> None:
    around(world, [1], insert(m).values(**row()))
    assert owed(world) == []  # operational, as without it
    around(world, [1], insert(m).values(**row(name="bad", final_status="warning")))
    assert owed(world) == [(1, "KA-IN", "operational", 1)]
    around(world, [1], delete(m).where(m.c.name == "bad"))
    assert owed(world) == [(1, "KA-IN", "operational", 2)]
    around(world, [1], delete(m))
    assert owed(world) == [(1, "KA-IN", "operational", 2)]  # nothing there has a type any more


def test_what_was_flagged_before_an_edit_keeps_its_own_type_before(world: World, callback: int) -> None:
    server = world.server(channel=1)
    world.flag(server, "critical")
    around(world, [1], update(m).where(m.c.id == server).values(final_status="warning"))
    assert owed(world) == [(1, "KA-IN", "operational", 2)]
    assert world.server_row(server).status_report == 0


def test_an_edit_that_flags_is_planned_at_once(world: World, callback: int) -> None:
    around(world, [1], insert(m).values(**row(final_status="critical", status_report=1)))
    assert len(owed(world)) == 1
    assert world.rows(m)[0].status_report == 0


# --- enabling, subscribing ------------------------------------------------------------------------------------------


def test_rearm_makes_due_or_opens_or_does_nothing(world: World, acme: int, callback: int) -> None:
    rearm = lambda: world.database.transact(lambda conn: outbox.rearm(conn, callback))  # noqa: E731
    rearm()
    assert world.deliveries() == []
    world.flag(world.server(channel=1), "critical")
    plan(world)
    tell(world, callback, settling.Then.RETRY, tried=2, delay_ms=7_200_000)
    rearm()
    (delivery,) = world.deliveries()
    assert (delivery.attempts, delivery.rearmed) == (0, 1)
    with world.database.read() as conn:
        assert delivery.due_at <= now_ms(conn)
    tell(world, callback, settling.Then.FAILED)
    rearm()
    assert [row.state for row in world.deliveries()] == ["failed", "open"]
    rearm()
    assert [row.state for row in world.deliveries()] == ["failed", "open"]


def test_subscribing_again_owes_what_differs_from_what_was_told(world: World, acme: int, callback: int) -> None:
    world.number(acme, "+9", channel=2)
    differs, same = world.server(channel=1), world.server(channel=2)
    for server in (differs, same):
        world.flag(server, "critical")
    plan(world)
    tell(world, callback)
    world.subscribe(acme, False)
    world.flag(differs, "warning")
    plan(world)
    assert owed(world) == []
    world.subscribe(acme)
    world.database.transact(lambda conn: outbox.subscribed(conn, acme))
    assert owed(world) == [(1, "KA-IN", "critical", 1)]
    assert [row.state for row in world.deliveries()] == ["done", "open"]


def test_subscribing_again_does_not_break_a_running_retry_after(world: World, acme: int, callback: int) -> None:
    world.flag(world.server(channel=1), "critical")
    plan(world)
    tell(world, callback, settling.Then.RETRY, tried=1, retry_after_ms=3_600_000)
    (before,) = world.deliveries()
    world.database.transact(lambda conn: outbox.subscribed(conn, acme))
    (after,) = world.deliveries()
    assert (after.due_at, after.not_before) == (before.not_before, before.not_before)


def test_units_compare_byte_for_byte(world: World, callback: int) -> None:
    regions = ["KA-IN", "ka-in", "KA-IN ", "KÄ-IN", "KA\u0308-IN"]
    for code in regions:
        world.flag(world.server(channel=1, region_code=code), "critical")
    plan(world)
    assert {row.region_code for row in world.owed()} == set(regions)
    assert len(world.owed()) == len(regions)
    for code in regions:
        assert Unit(1, Region("karnataka", code)) in world.database.transact(lambda conn: planning.types_of(conn, [1]))
    assert Type.read("critical") is Type.CRITICAL


# --- beside another program that tells changes and clears their flags -------------------------------------------------


def clear_by_hand(world: World, *servers: int) -> None:
    """What the PHP plugin did once it had told a change."""
    with world.database.write() as conn:
        conn.execute(update(schema.monitor).where(schema.monitor.c.id.in_(servers)).values(status_report=0))


def test_a_change_whose_flag_another_program_cleared_is_behind_us(world: World, callback: int) -> None:
    """It told its customers: what it told is the type before the next change, whose recovery would be lost else."""
    server = world.server(channel=1)
    world.flag(server, "warning")
    world.flag(server, "critical")
    clear_by_hand(world, server)
    assert plan(world) == 0
    world.flag(server, "operational")
    plan(world)
    assert owed(world) == [(1, "KA-IN", "critical", 1)]
    assert [change.planned for change in world.changes()] == [1, 1, 1]


def test_another_server_s_change_that_was_cleared_counts_as_it_is_now(world: World, callback: int) -> None:
    told, other = world.server(channel=1), world.server(channel=1)
    world.flag(told, "critical")
    clear_by_hand(world, told)
    world.flag(other, "warning")
    plan(world)
    assert owed(world) == [(1, "KA-IN", "critical", 1)]
