"""One incident-sync at a time, whatever becomes of its process: seen with real processes on each store."""

from __future__ import annotations

import os
import pty
import random
import subprocess
import threading
import time
from typing import Any

import pytest
from sqlalchemy import func, select, update

from monitor_cli import schema
from monitor_cli.dialect import now_ms
from monitor_cli.store import leases, sync_rows
from monitor_cli.sync.run import LEASE, LEASE_MS
from tests.support.cli import SCRIPT, Cli
from tests.support.http import StatusPage
from tests.support.stores import Store
from tests.support.world import World
from tests.test_sync import PATH, page

SERVERS = 3000


def expire(world: World) -> None:
    """What 60 seconds do to the lease of a killed run."""
    with world.database.write() as conn:
        conn.execute(update(schema.lease).values(lease_until=now_ms(conn)))


def counts(world: World) -> tuple[int, int, int]:
    """Servers that are critical, flags that stand, rows of history."""
    m, c = schema.monitor.c, schema.change.c
    with world.database.read() as conn:
        return (
            conn.execute(select(func.count(m.id)).where(m.final_status == "critical")).scalar_one(),
            conn.execute(select(func.count(m.id)).where(m.status_report == 1)).scalar_one(),
            conn.execute(select(func.count(c.id))).scalar_one(),
        )


def fill(world: World) -> None:
    rows = [{"server_id": 1, "name": f"s{n}", "server_tag": f"t{n}", "channel_id": n} for n in range(SERVERS)]
    with world.database.write() as conn:
        conn.execute(schema.monitor.insert(), rows)


# --- killed -----------------------------------------------------------------------------------------------------------


def test_sigkill_at_any_moment_leaves_before_or_after(cli: Cli, world: World, status_page: StatusPage) -> None:
    """Killed at random moments, in a loop, in both directions: never between, and the next run works."""
    fill(world)
    url = status_page.url("/")

    def run(word: str) -> Any:
        status_page.serve(PATH, page({f"t{n}": word for n in range(SERVERS)}))
        return cli.start("incident-sync", "--url", url)

    started = time.monotonic()
    running = run("operational")
    asked = status_page.wait(1)[0].at - started
    running.wait().quiet()
    rest = time.monotonic() - started - asked
    chance = random.Random(7)
    outcomes: list[bool] = []
    before = counts(world)
    for turn in range(8):
        word, critical = ("major_outage", SERVERS) if turn % 2 == 0 else ("operational", 0)
        after = (critical, SERVERS, before[2] + SERVERS)
        status_page.clear()
        running = run(word)
        status_page.wait(1)
        time.sleep(rest * 1.2 * chance.random())  # an unchanged run took `rest` after its request, a writing one longer
        running.kill()
        assert counts(world) in (before, after)
        outcomes.append(counts(world) == after)
        expire(world)
        run(word).wait().quiet()
        assert counts(world) == after
        before = after
    assert not all(outcomes), "no run was cut off"


def test_sigkill_inside_the_transaction(cli: Cli, world: World, status_page: StatusPage) -> None:
    """The writing waits for a row that another program has locked; killed there, nothing of it stays."""
    if world.database.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no row locks: a writing transaction that waits has not begun")
    fill(world)
    status_page.serve(PATH, page({f"t{n}": "major_outage" for n in range(SERVERS)}))
    m = schema.monitor.c
    with world.database.write() as conn:
        last = conn.execute(select(func.max(m.id))).scalar_one()
        conn.execute(select(m.id).where(m.id == last).with_for_update())
        running = cli.start("incident-sync", "--url", status_page.url("/"))
        deadline = time.monotonic() + 30
        while _locks(world) < 2000 and time.monotonic() < deadline:
            time.sleep(0.2)  # the server renews what it tells of this no more often
        assert _locks(world) >= 2000, "it has locked and written the rows before that one"
        running.kill()
    assert counts(world) == (0, 0, 0)
    expire(world)
    cli("incident-sync", "--url", status_page.url("/")).quiet()
    assert counts(world) == (SERVERS, SERVERS, SERVERS)


def _locks(world: World) -> int:
    """The most rows that one transaction of the server has locked."""
    with world.database.read() as conn:
        query = "SELECT COALESCE(MAX(trx_rows_locked), 0) FROM information_schema.innodb_trx"
        return int(conn.exec_driver_sql(query).scalar_one())


# --- two at once ------------------------------------------------------------------------------------------------------


def test_the_second_ends_at_once(cli: Cli, world: World, status_page: StatusPage) -> None:
    server = world.server(tag="a")
    gate = threading.Event()
    status_page.serve(PATH, page({"a": "major_outage"}), wait=gate)
    first = cli.start("incident-sync", "--url", status_page.url("/"))
    status_page.wait(1)
    cli.process("incident-sync", "--url", status_page.url("/"), timeout=20).quiet()
    cli("run-helper", "helper=Incident", env={"MONITOR_INCIDENT_URL": status_page.url("/")}).quiet()
    assert not first.ended
    assert len(status_page.requests) <= 1
    assert world.server_row(server).final_status == "operational"
    gate.set()
    first.wait().quiet()
    assert world.server_row(server).final_status == "critical"
    assert len(world.changes()) == 1
    cli("incident-sync", "--url", status_page.url("/")).quiet()  # given back at once, not after a minute
    assert len(status_page.requests) == 2


def test_the_second_says_so_on_a_terminal_only(cli: Cli, world: World, status_page: StatusPage) -> None:
    with world.database.write() as conn:
        assert leases.take(conn, LEASE, "another", LEASE_MS)
    main, other = pty.openpty()
    command = [str(SCRIPT), "incident-sync", "--url", status_page.url("/")]
    done = subprocess.run(
        command, env=cli.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=other, timeout=60
    )
    os.close(other)
    assert (done.returncode, done.stdout) == (0, b"")
    assert os.read(main, 1000) == b"another incident-sync is at work\r\n"
    os.close(main)
    assert status_page.requests == []


def test_many_at_once_write_each_change_once(cli: Cli, world: World, status_page: StatusPage) -> None:
    fill(world)
    status_page.serve(PATH, page({f"t{n}": "major_outage" for n in range(SERVERS)}))
    running = [cli.start("incident-sync", "--url", status_page.url("/")) for _ in range(4)]
    for one in running:
        one.wait().quiet()
    assert counts(world) == (SERVERS, SERVERS, SERVERS)


def test_who_wakes_up_after_a_minute_writes_nothing(cli: Cli, world: World, status_page: StatusPage) -> None:
    """Stopped while it reads; its lease runs out, another run does the work, and then it goes on."""
    server = world.server(tag="a")
    gate = threading.Event()
    status_page.serve(PATH, page({"a": "major_outage"}), wait=gate)
    sleeper = cli.start("incident-sync", "--url", status_page.url("/"))
    status_page.wait(1)
    sleeper.stop()
    expire(world)
    status_page.serve(PATH, page({"a": "partial_outage"}))
    cli("incident-sync", "--url", status_page.url("/")).quiet()
    gate.set()
    sleeper.cont()
    sleeper.wait().quiet()
    assert world.server_row(server).final_status == "warning"
    assert [c.to_type for c in world.changes()] == ["warning"]


def test_who_is_stopped_while_it_writes_holds_nobody_up(
    cli: Cli, world: World, status_page: StatusPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends its transaction: the rows are as they were and free, and the next run does the work."""
    if not world.database.is_mysql:
        pytest.skip("SQLite's locks end with their process")
    server = world.server(tag="a")
    status_page.serve(PATH, page({"a": "major_outage"}))
    written = sync_rows.write

    def sleepy(conn: Any, *more: Any) -> int:
        done = written(conn, *more)
        time.sleep(2)
        return done

    monkeypatch.setattr("monitor_cli.sync.run.SILENT_SECONDS", 1)
    monkeypatch.setattr(sync_rows, "write", sleepy)
    stopped = cli("incident-sync", "--url", status_page.url("/"))
    assert stopped.code == 75
    assert (world.server_row(server).final_status, world.changes()) == ("operational", [])
    monkeypatch.setattr(sync_rows, "write", written)
    cli("incident-sync", "--url", status_page.url("/")).quiet()
    assert world.server_row(server).final_status == "critical"


def test_a_failing_run_gives_the_lease_back(cli: Cli, world: World, status_page: StatusPage) -> None:
    status_page.serve(PATH, status=500)
    assert cli("incident-sync", "--url", status_page.url("/")).code == 75
    (lease,) = world.rows(schema.lease)
    assert lease.lease_until == 0


def test_the_lease_is_renewed_while_a_source_is_slow(
    cli: Cli, world: World, status_page: StatusPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor_cli.sync.run.RENEW_SECONDS", 0.05)
    gate = threading.Event()
    status_page.serve(PATH, page({}), wait=gate)
    seen: list[int] = []

    def watch() -> None:
        status_page.wait(1)
        for _ in range(2):
            time.sleep(0.3)
            seen.extend(row.lease_until for row in world.rows(schema.lease))
        gate.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    cli("incident-sync", "--url", status_page.url("/")).ok()
    watcher.join()
    assert seen[1] > seen[0]


# --- the lease itself -------------------------------------------------------------------------------------------------


def test_take_renew_release(database: Store) -> None:
    def take() -> str | None:
        return database.transact(lambda conn: leases.take(conn, "x", "me", LEASE_MS))

    token = take()
    assert token
    assert take() is None
    with database.read() as conn:
        left = conn.execute(select(schema.lease.c.lease_until)).scalar_one() - now_ms(conn)
        assert 0 < left <= 60_000
        assert leases.is_held(conn, "x")
        assert not leases.is_held(conn, "y")
    with database.write() as conn:
        assert leases.renew(conn, "x", token, LEASE_MS)
        assert not leases.renew(conn, "x", "other", LEASE_MS)
        leases.release(conn, "x", "other")
        assert leases.is_held(conn, "x")
        leases.release(conn, "x", token)
        assert not leases.is_held(conn, "x")
    again = take()
    assert again
    assert again != token
    with database.write() as conn:
        assert not leases.renew(conn, "x", token, LEASE_MS)


def test_a_lease_whose_holder_is_writing_is_not_taken(database: Store) -> None:
    """The writing transaction may last longer than the lease: its row lock holds others off, without a wait."""
    if database.name == "sqlite":
        pytest.skip("SQLite has no row locks: there the second writer waits")
    token = database.transact(lambda conn: leases.take(conn, "x", "me", 0))
    assert token
    with database.write() as conn:
        assert leases.renew(conn, "x", token, 0)
        started = time.monotonic()
        assert database.transact(lambda conn: leases.take(conn, "x", "you", LEASE_MS)) is None
        assert time.monotonic() - started < 2
    assert database.transact(lambda conn: leases.take(conn, "x", "you", LEASE_MS))
