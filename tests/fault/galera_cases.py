"""What a conflict between the nodes of a Galera cluster does, case by case (`make galera`; too slow for `make test`).

Locks are each node's own there: a transaction runs to its COMMIT, and is then refused, or is aborted before, because
another node's was first. In each case one is held open at one node while others are committed at another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select, text, update

from monitor_cli import migrate, schema
from monitor_cli.db import Database
from monitor_cli.errors import DatabaseAway, MonitorError
from monitor_cli.store import accounts, callbacks, claims, leases, planning, settling
from tests.support.cli import Cli
from tests.support.galera import Galera, GaleraMissing
from tests.support.world import World

d, o, m = schema.delivery, schema.owed, schema.monitor
URL = "http://customer.test/hook"
CAUSAL = "SET SESSION wsrep_sync_wait=15"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Galera]:
    try:
        galera = Galera()
    except GaleraMissing as missing:
        pytest.skip(f"{missing}; on Debian: apt-get install galera-4")
    with galera:
        yield galera


@pytest.fixture
def urls(cluster: Galera) -> list[str]:
    """An upgraded database, through each node."""
    name = cluster.create_database()
    found = [node.url(name) for node in cluster.nodes]
    migrate.upgrade(found[0])
    return found


@pytest.fixture
def nodes(urls: list[str]) -> Iterator[list[World]]:
    """The same as builders of rows; what is read at a node has everything that was committed anywhere."""
    opened = [Database(f"{url}&init_command={CAUSAL.replace(' ', '%20')}") for url in urls]
    yield [World(database) for database in opened]
    for database in opened:
        database.close()


@pytest.fixture
def acme(nodes: list[World]) -> int:
    account = nodes[0].account("acme")
    nodes[0].number(account, "+1", channel=1)
    return account


@pytest.fixture
def server(nodes: list[World]) -> int:
    return nodes[0].server(channel=1)


def once(
    conn_work: Callable[[Connection], object], first: Callable[[], object]
) -> tuple[Callable[[Connection], object], list[int]]:
    """A transaction's work that has `first` done elsewhere before its first COMMIT; and how often it ran."""
    runs: list[int] = []

    def work(conn: Connection) -> Any:
        result = conn_work(conn)
        runs.append(1)
        if len(runs) == 1:
            first()
        return result

    return work, runs


def plan(world: World) -> int:
    return world.database.transact(planning.plan_flagged)


def take(conn: Connection, lease_ms: int = 60_000) -> list[claims.Claimed]:
    ids = conn.execute(select(d.c.id).where(d.c.open_callback_id.is_not(None))).scalars().all()
    return claims.claim(conn, ids, "test", lease_ms, 1000, lambda *_: True) if ids else []


def claim(world: World, lease_ms: int = 60_000) -> list[claims.Claimed]:
    return world.database.transact(lambda conn: take(conn, lease_ms))


def test_two_nodes_claim_the_same_delivery_and_one_has_it(nodes: list[World], acme: int, server: int) -> None:
    callback = nodes[0].callback(acme, URL)
    nodes[0].flag(server, "critical")
    plan(nodes[0])
    won: list[claims.Claimed] = []
    work, runs = once(take, lambda: won.extend(claim(nodes[0])))
    assert nodes[1].database.transact(work) == []
    assert [one.callback.id for one in won] == [callback]
    assert len(runs) == 2
    assert nodes[2].deliveries(callback)[0].lease_token == won[0].token


def test_two_nodes_plan_the_same_change_and_it_counts_once(nodes: list[World], acme: int, server: int) -> None:
    callback = nodes[0].callback(acme, URL)
    nodes[0].flag(server, "critical")
    work, runs = once(planning.plan_flagged, lambda: plan(nodes[0]))
    assert nodes[1].database.transact(work) == 0
    assert len(runs) == 2
    assert [(row.wanted, row.told_type) for row in nodes[2].owed(callback)] == [(1, "operational")]


def test_a_change_committed_at_another_node_while_a_plan_runs_is_planned_too(
    nodes: list[World], acme: int, server: int
) -> None:
    callback = nodes[0].callback(acme, URL)
    nodes[0].flag(server, "critical")
    work, _ = once(planning.plan_flagged, lambda: nodes[0].flag(server, "operational"))
    nodes[1].database.transact(work)
    while plan(nodes[1]):
        pass
    found = nodes[2].owed(callback)
    assert [row.told_type for row in found] == ["operational"], [node.owed(all_rows=True) for node in nodes]
    (one,) = claim(nodes[2])
    assert [kind.word for kind in one.types.values()] == ["operational"]
    assert [row.planned for row in nodes[2].changes()] == [1, 1]


def test_a_change_planned_at_another_node_while_a_claim_is_open_is_in_it_or_after_it(
    nodes: list[World], acme: int, server: int
) -> None:
    nodes[0].callback(acme, URL)
    nodes[0].flag(server, "critical")
    plan(nodes[0])

    def change() -> None:
        nodes[0].flag(server, "warning")
        plan(nodes[0])

    work, runs = once(take, change)
    (one,) = nodes[1].database.transact(work)
    assert len(runs) == 2
    assert [unit.wanted for unit in one.owed] == [2]
    assert [kind.word for kind in one.types.values()] == ["warning"]


def test_who_settles_what_another_node_took_over_changes_nothing(nodes: list[World], acme: int, server: int) -> None:
    callback = nodes[0].callback(acme, URL)
    nodes[0].flag(server, "critical")
    plan(nodes[0])
    (one,) = claim(nodes[1], lease_ms=1)
    told = [settling.Told(unit.unit, unit.wanted, one.types[unit.unit]) for unit in one.owed]
    attempt = settling.Attempt(one.now, 5, 200, None, "ok", "msg_1")
    settlement = settling.Settlement(one, settling.Then.DONE, told=told, attempts=[attempt])
    later: list[claims.Claimed] = []
    work, runs = once(lambda conn: settling.settle(conn, [settlement], 1000), lambda: later.extend(claim(nodes[0])))
    nodes[1].database.transact(work)
    assert len(runs) == 2
    assert [row.late for row in nodes[2].attempts()] == [1]
    assert nodes[2].deliveries(callback)[0].lease_token == later[0].token
    assert [(row.wanted - row.told, row.unsure) for row in nodes[2].owed(callback)] == [(1, 1)]


def test_who_is_enabled_at_one_node_while_another_plans_and_claims_is_told(
    nodes: list[World], acme: int, server: int
) -> None:
    callback = nodes[0].callback(acme, URL, active=False)
    nodes[0].flag(server, "critical")
    claimed: list[claims.Claimed] = []

    def others() -> None:
        plan(nodes[0])
        claimed.extend(claim(nodes[0]))

    work, _ = once(lambda conn: callbacks.enable(conn, [callback]), others)
    nodes[1].database.transact(work)
    assert [one.callback.id for one in [*claimed, *claim(nodes[2])]] == [callback]


def test_who_subscribes_at_one_node_while_another_plans_is_told(nodes: list[World], acme: int, server: int) -> None:
    callback = nodes[0].callback(acme, URL)
    nodes[0].flag(server, "critical")
    plan(nodes[0])
    with nodes[0].database.write() as conn:  # it was told
        conn.execute(update(o).values(told=o.c.wanted, told_type="critical"))
        conn.execute(update(d).values(state="done", open_callback_id=None, due_at=None))
    nodes[0].subscribe(acme, False)

    def others() -> None:
        nodes[0].flag(server, "operational")
        plan(nodes[0])

    work, _ = once(lambda conn: accounts.subscribe(conn, "acme"), others)
    nodes[1].database.transact(work)
    assert [one.callback.id for one in claim(nodes[2])] == [callback]


def test_who_is_removed_at_one_node_while_another_plans_leaves_nothing(
    nodes: list[World], acme: int, server: int
) -> None:
    callback = nodes[0].callback(acme, URL)
    nodes[0].flag(server, "critical")
    work, _ = once(lambda conn: callbacks.remove(conn, [callback]), lambda: plan(nodes[0]))
    nodes[1].database.transact(work)
    open_ones = [row for row in nodes[2].deliveries() if row.open_callback_id]
    assert (nodes[2].owed(all_rows=True), open_ones) == ([], [])


def test_two_nodes_take_the_lease_of_incident_sync_and_one_has_it(nodes: list[World]) -> None:
    tokens: list[str | None] = []

    def sync(conn: Connection) -> str | None:
        return leases.take(conn, "incident-sync", "host", 60_000)

    work, runs = once(sync, lambda: tokens.append(nodes[0].database.transact(sync)))
    assert nodes[1].database.transact(work) is None
    assert len(runs) == 2
    assert [row.token for row in nodes[2].rows(schema.lease)] == tokens


def test_a_node_shows_what_another_has_committed(
    urls: list[str], nodes: list[World], make_cli: Callable[..., Cli]
) -> None:
    """docs/scaling.md: init_command in the URL, for people's commands through a load balancer."""
    causal = [make_cli(f"{url}&init_command={CAUSAL.replace(' ', '%20')}") for url in urls]
    for n in range(12):
        causal[n % 3].ok("account", "add", f"account {n}")
        causal[(n + 1) % 3].ok("number", "add", f"account {n}", "--channel", "1", f"+{n}")


def test_upgrades_at_all_nodes_at_once(cluster: Galera, make_cli: Callable[..., Cli]) -> None:
    name = cluster.create_database()
    runs = [make_cli(node.url(name)).start("db", "upgrade") for node in cluster.nodes]
    assert [run.wait().code for run in runs] == [0, 0, 0]
    for node in cluster.nodes:
        make_cli(node.url(name)).process("db", "check").quiet()
    bad = cluster.nodes[2].execute(
        "SELECT t.table_name FROM information_schema.tables t LEFT JOIN information_schema.table_constraints c "
        "ON c.table_schema = t.table_schema AND c.table_name = t.table_name AND c.constraint_type = 'PRIMARY KEY' "
        f"WHERE t.table_schema = '{name}' AND (c.table_name IS NULL OR t.engine <> 'InnoDB')"
    )
    assert bad == []  # Galera replicates InnoDB alone, and needs primary keys


def test_an_upgrade_at_one_node_while_another_works(cluster: Galera, nodes: list[World], urls: list[str]) -> None:
    """A change of a table ends every transaction on it, on all nodes, which then starts again."""
    server = nodes[0].server(channel=1)
    with nodes[0].database.write() as conn:
        conn.execute(text(f"DROP INDEX ix_infi_voice_monitor_channel_id ON {m.name}"))

    def write(conn: Connection) -> None:
        conn.execute(update(m).where(m.c.id == server).values(used=m.c.used + 1))

    work, runs = once(write, lambda: migrate.upgrade(urls[0]))
    nodes[1].database.transact(work)
    assert len(runs) == 2
    assert nodes[2].server_row(server).used == 1


def test_what_is_larger_than_the_cluster_takes_is_said_and_not_tried_again(cluster: Galera, nodes: list[World]) -> None:
    world = nodes[0]
    calls: list[int] = []

    def work(conn: Connection) -> None:
        calls.append(1)
        conn.execute(schema.account.insert(), [{"name": f"a{n}", "api_key_sha256": f"{n:064x}"} for n in range(100)])

    cluster.nodes[0].execute("SET GLOBAL wsrep_max_ws_rows=10")
    try:
        with pytest.raises(MonitorError) as caught:
            world.database.transact(work)
    finally:
        cluster.nodes[0].execute("SET GLOBAL wsrep_max_ws_rows=0")
    assert len(calls) == 1
    assert "wsrep_max_ws" in str(caught.value.hint)
    assert not isinstance(caught.value, DatabaseAway)
    with world.database.read() as conn:
        assert conn.execute(select(func.count()).select_from(schema.account)).scalar_one() == 0


def test_a_node_that_lost_the_others_is_said_in_one_line(
    cluster: Galera, urls: list[str], make_cli: Callable[..., Cli], tmp_path: Path
) -> None:
    """Last, since it ends the cluster: without a majority a node answers nothing."""
    cluster.nodes[1].kill()
    cluster.nodes[2].kill()
    end = time.monotonic() + 60
    while cluster.nodes[0].ready():
        assert time.monotonic() < end
        time.sleep(0.1)
    cli = make_cli(urls[0])
    page = tmp_path / "page.json"
    page.write_text('{"page": {"id": "p", "name": "P"}, "components": []}')
    for command in (
        ["callback-run", "--max-seconds", "1"],
        ["incident-sync", "--provider", "statuspage", "--file", str(page)],
        ["server", "list"],
    ):
        result = cli.process(*command)
        assert (result.code, result.out) == (75, "")
        assert len([line for line in result.err.splitlines() if not line.startswith("  ")]) == 1, result.err
        assert "not ready" in result.err
