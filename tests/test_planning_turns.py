"""A plan and people's commands at the same moment: each changes whom the other concerns, and neither may miss the
other. On each store; on the nodes of a Galera cluster: fault/galera_cases.py."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, update

from monitor_cli import schema
from monitor_cli.store import accounts, callbacks, claims, due, planning
from tests.support.world import World

d, o = schema.delivery, schema.owed
URL = "http://customer.test/hook"


def while_open(world: World, command: Callable[[Connection], None], others: Callable[[], None]) -> None:
    """Another process does `others` while the command's transaction is open, or waits for its end."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            others()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    with world.database.write() as conn:
        command(conn)
        thread.start()
        thread.join(0.5)
    thread.join(60)
    assert not thread.is_alive()
    assert not failures


def plan(world: World) -> None:
    world.database.transact(planning.plan_flagged)


def claim(world: World) -> list[int]:
    """Claim what is due; gives the callbacks."""

    def work(conn: Connection) -> list[int]:
        ids = [one.id for one in due.candidates(conn, 100)]
        claimed = claims.claim(conn, ids, "test", 60_000, 1000, lambda *_: True) if ids else []
        return [one.callback.id for one in claimed]

    return world.database.transact(work)


@pytest.fixture
def acme(world: World) -> int:
    account = world.account("acme")
    world.number(account, "+1", channel=1)
    return account


@pytest.fixture
def server(world: World) -> int:
    return world.server(channel=1)


def test_who_is_enabled_while_a_change_is_planned_and_claimed_is_told(world: World, acme: int, server: int) -> None:
    callback = world.callback(acme, URL, active=False)
    world.flag(server, "critical")
    claimed: list[int] = []

    def others() -> None:
        plan(world)
        claimed.extend(claim(world))

    while_open(world, lambda conn: callbacks.enable(conn, [callback]), others)
    assert [*claimed, *claim(world)] == [callback]


def test_who_subscribes_while_a_change_is_planned_is_told(world: World, acme: int, server: int) -> None:
    callback = world.callback(acme, URL)
    world.flag(server, "critical")
    plan(world)
    with world.database.write() as conn:  # it was told
        conn.execute(update(o).values(told=o.c.wanted, told_type="critical"))
        conn.execute(update(d).values(state="done", open_callback_id=None, due_at=None))
    world.subscribe(acme, False)

    def others() -> None:
        world.flag(server, "operational")
        plan(world)

    while_open(world, lambda conn: accounts.subscribe(conn, "acme"), others)
    assert claim(world) == [callback]


def test_who_is_removed_while_a_change_is_planned_leaves_nothing_behind(world: World, acme: int, server: int) -> None:
    callback = world.callback(acme, URL)
    world.flag(server, "critical")
    while_open(world, lambda conn: callbacks.remove(conn, [callback]), lambda: plan(world))
    assert (world.owed(all_rows=True), [row for row in world.deliveries() if row.open_callback_id]) == ([], [])
