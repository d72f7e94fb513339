"""check: the form of a Nagios plugin, each alarm and what does not alarm; whatever fails of its own is UNKNOWN."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from monitor_cli import migrate, schema
from monitor_cli.dialect import now_ms
from monitor_cli.health.findings import Limit, Measure, State, plugin_line, worst_of
from monitor_cli.store import backlog
from monitor_cli.words import elapsed
from tests.support.cli import Cli, Result
from tests.support.http import Answer, Receiver, StatusPage
from tests.support.mariadb import MariaDB
from tests.support.stores import Store
from tests.support.world import World
from tests.test_sync import page

LOCAL = {
    "MONITOR_ALLOW_NETWORKS": "127.0.0.0/8",
    "MONITOR_MAX_SECONDS": "3",
}  # under the first retry, over what a busy machine needs
LITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)  # of what has nothing to do with the store
NAMES = {0: "OK", 1: "WARNING", 2: "CRITICAL", 3: "UNKNOWN"}
# https://www.monitoring-plugins.org/doc/guidelines.html: 'label'=value[UOM];[warn];[crit];[min]
PERFORMANCE = r"'(?:[^'=|]|'')+'=-?\d+(?:\.\d+)?s?;[\d.]*;[\d.]*;0"
LINE = re.compile(rf"MONITOR (OK|WARNING|CRITICAL|UNKNOWN): [^|\n]+(?: \| {PERFORMANCE}(?: {PERFORMANCE})*)?\n")


def state(result: Result, code: int) -> str:
    """The one line of a check, which ended with this code."""
    assert (result.code, result.err) == (code, ""), result
    found = LINE.fullmatch(result.out)
    assert found, result.out
    assert found[1] == NAMES[code]
    return result.out


@pytest.fixture
def check(cli: Cli) -> Callable[..., Result]:
    """`check` of a site whose sources are left out, unless said otherwise."""
    return lambda *args, **options: cli("check", "--skip", "sync", *args, **options)


# --- its form ---------------------------------------------------------------------------------------------------------


@LITE
def test_all_is_well(cli: Cli, world: World, status_page: StatusPage) -> None:
    world.server(tag="a")
    url = status_page.serve("/s.json", page({"a": "operational"}))
    cli.ok("incident-sync", "--url", url)
    line = state(cli("check", env={"MONITOR_INCIDENT_URL": url}), 0)
    assert "1 source read" in line
    assert f"'sync_127.0.0.1:{status_page.port}/s.json'=" in line
    for label in ("database_time", "owed_age", "callbacks_failing", "callbacks_off", "unknown_words"):
        assert f"'{label}'=" in line
    assert re.search(r"'owed_age'=0s;300;900;0", line)


def test_the_json_keys_are_stable(cli: Cli, world: World) -> None:
    cli("incident-sync", "--url", "http://127.0.0.1:1/")
    result = cli("check", "--json", "--sync-warning", "1h", "--sync-critical", "2h")
    found = result.ok().json
    assert list(found) == ["status", "exit_code", "message", "checks", "measures"]
    assert (found["status"], found["exit_code"]) == ("OK", 0)
    assert [list(one) for one in found["checks"]] == [["name", "status", "message", "details"]] * 6
    details = {one["name"]: list(one["details"]) for one in found["checks"]}
    assert details == {
        "database": ["database"],
        "sync": ["sources"],
        "components": ["conditions"],
        "owed": ["age_seconds", "changes_waiting", "deliveries_due", "owed", "kept"],
        "callbacks": ["active", "inactive", "failing", "off"],
        "clocks": ["ahead_seconds", "nodes"],
    }
    assert list(found["checks"][1]["details"]["sources"][0]) == [
        *("source", "state", "age_seconds", "last_good_at", "failing_since", "error")
    ]
    assert {tuple(one) for one in found["measures"]} == {("label", "value", "unit", "warning", "critical")}
    assert cli("check", "--json").json["exit_code"] == 0


@LITE
def test_only_and_skip(cli: Cli, world: World) -> None:
    names = [one["name"] for one in cli("check", "--json", "--only", "owed", "--only", "clocks").ok().json["checks"]]
    assert names == ["owed", "clocks"]
    state(cli("check", "--only", "owed", "--skip", "owed"), 3)


def test_words_are_one_line_without_a_bar() -> None:
    line = plugin_line(State.WARNING, "a | b\n c\x1b", [Measure("it's=x|y", 1.5, "s", Limit(2, 0)), Measure("n", 3)])
    assert line == "MONITOR WARNING: a / b c\\u001b | 'it''s_x_y'=1.500s;2;;0 'n'=3;;;0"


def test_the_worst_state_counts() -> None:
    assert worst_of([State.UNKNOWN, State.CRITICAL, State.WARNING]) is State.CRITICAL
    assert worst_of([State.UNKNOWN, State.WARNING, State.OK]) is State.WARNING
    assert worst_of([]) is State.OK


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0 s"), (59.9, "59 s"), (60, "1 min"), (3600, "1 h"), (12000, "3 h 20 min"), (2e5, "2 d 7 h")],
)
def test_spans(seconds: float, words: str) -> None:
    assert elapsed(seconds) == words


# --- where it could not check: always 3 -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ["check", "--nonsense"],
        ["check", "too", "many"],
        ["check", "--sync-warning", "soon"],
        ["check", "--sync-warning", "9m", "--sync-critical", "5m"],
        ["check", "--only", "weather"],
        ["check", "--node", ""],
        ["check", "--node", "db2:port"],
        ["check", "--node", ":3306"],
        ["check", "--node", "db2:99999"],
        ["check", "--node", "db2:0"],
        ["check", "--node", "[::1"],
        ["check", "--node", "::1"],
        ["check", "--node", "db 2"],
        ["check", "--node", "mysql://db2"],
        ["check", "--node", "root@db2", "--skip", "clocks"],
        ["--nonsense", "check"],
        ["--log-format", "xml", "check"],
        ["--config", "/nonexistent.toml", "check"],
        ["--config", "/nonexistent.toml", "-v", "check", "--json"],
    ],
)
def test_wrong_usage_and_bad_configuration_are_unknown(make_cli: Callable[[str | None], Cli], args: list[str]) -> None:
    result = make_cli(None).process(*args)
    if "--json" in args:
        assert (result.code, result.json["status"], result.json["exit_code"]) == (3, "UNKNOWN", 3)
    else:
        assert "a defect" not in state(result, 3)


@pytest.mark.parametrize(
    "env",
    [
        {"MONITOR_CONCURRENCY": "many"},
        {"MONITOR_DATABASE_URL": "oracle://x/y"},
        {"MONITOR_DATABASE_URL": "nonsense"},
        {"MONITOR_INCIDENT_URL": "ftp://x/"},
        {"MONITOR_DATABASE_URL_FILE": "/nonexistent"},
    ],
)
def test_settings_that_cannot_be_used_are_unknown(make_cli: Callable[[str | None], Cli], env: dict[str, str]) -> None:
    state(make_cli(None)("check", env=env), 3)


def test_a_node_of_a_database_that_is_a_file(make_cli: Callable[[str | None], Cli]) -> None:
    cli = make_cli(None)
    cli.ok("db", "upgrade")
    for node in ("db2.example.com", "[2001:db8::2]:3307"):
        line = state(cli("check", "--only", "clocks", "--node", node), 1)
        assert f"the node {node} cannot be compared: an SQLite database has no servers" in line


def test_other_commands_keep_their_codes(make_cli: Callable[[str | None], Cli]) -> None:
    cli = make_cli(None)
    assert cli("db", "check", "--nonsense").code == 2
    assert cli("--config", "check", "status").code == 78


# --- the database -----------------------------------------------------------------------------------------------------


def test_no_database_is_critical(make_cli: Callable[[str | None], Cli], engine: Store) -> None:
    line = state(make_cli(engine.url)("check", "--only", "owed"), 2)  # whatever was asked for
    assert "db upgrade" in line
    line = state(make_cli("mysql+pymysql://u:pa55@127.0.0.1:1/x")("check"), 2)
    assert "does not answer" in line
    assert "pa55" not in line


@LITE
def test_another_revision_is_critical(cli: Cli, database: Store) -> None:
    with database.write() as conn:
        conn.exec_driver_sql(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'")
    assert "is at revision 9999" in state(cli("check"), 2)


def test_a_database_that_hangs_is_critical_in_time(make_cli: Callable[[str | None], Cli]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        cli = make_cli(f"mysql+pymysql://u:p@127.0.0.1:{silent.getsockname()[1]}/x")
        started = time.monotonic()
        assert "no answer within 0.5 s" in state(cli("check", "--timeout", "0.5"), 2)
        assert time.monotonic() - started < 8


# --- sources ----------------------------------------------------------------------------------------------------------


def aged(world: World, **columns: float) -> None:
    """Put times of every source so many seconds into the past."""
    with world.database.write() as conn:
        now = now_ms(conn)
        values = {name: now - int(age * 1000) for name, age in columns.items()}
        conn.execute(update(schema.source).values(**values))


def test_a_fresh_installation_says_that_nothing_was_read(cli: Cli, world: World) -> None:
    assert "no source is configured, and none was ever read" in state(cli("check"), 2)
    line = state(cli("check", env={"MONITOR_INCIDENT_URL": "https://status.test/x"}), 2)
    assert "source status.test/x was never read: does incident-sync run?" in line


def test_the_age_of_the_last_good_sync(cli: Cli, world: World, status_page: StatusPage) -> None:
    env = {"MONITOR_INCIDENT_URL": status_page.serve("/s.json", page({}))}
    cli.ok("incident-sync", env=env)
    state(cli("check", env=env), 0)
    aged(world, last_good_at=400)
    assert "was not read well for 6 min: does incident-sync run?" in state(cli("check", env=env), 1)
    state(cli("check", "--sync-warning", "10m", env=env), 0)
    state(cli("check", "--sync-warning", "0", "--sync-critical", "0", env=env), 0)
    aged(world, last_good_at=1000)
    state(cli("check", env=env), 2)
    status_page.serve("/s.json", status=503)
    cli("incident-sync", env=env)
    assert re.search(r"was not read well for 16 min: .*503", state(cli("check", env=env), 2))


@LITE
def test_a_source_that_failed_from_the_beginning(cli: Cli, world: World) -> None:
    env = {"MONITOR_INCIDENT_URL": "http://127.0.0.1:1/"}
    cli("incident-sync", env=env)
    line = state(cli("check", env=env), 0)
    assert "; source 127.0.0.1:1 not read well yet; " in line
    assert "source read" not in line
    aged(world, failing_since=1000)
    assert re.search(r"was never read well for 16 min: .*refused", state(cli("check", env=env), 2))


@LITE
def test_only_configured_sources_count(cli: Cli, world: World, status_page: StatusPage, tmp_path: Path) -> None:
    """A page that was read once by hand does not alarm for ever; in a crontab's --url it is all there is."""
    url = status_page.serve("/s.json", page({}))
    cli.ok("incident-sync", "--url", status_page.serve("/once.json", page({"z": "never heard of"})))
    aged(world, last_good_at=1000)
    assert "once.json was not read well" in state(cli("check"), 2)
    cli.ok("incident-sync", env={"MONITOR_INCIDENT_URL": url})
    state(cli("check", env={"MONITOR_INCIDENT_URL": url}), 0)


def test_unknown_words_and_missing_components_as_long_as_they_last(
    cli: Cli, world: World, status_page: StatusPage
) -> None:
    world.server(tag="a")
    world.server(tag="b")
    env = {"MONITOR_INCIDENT_URL": status_page.serve("/s.json", page({"a": "wobbly", "b": "operational"}))}
    cli("incident-sync", env=env)
    assert re.search(r"unknown words since [^ ]+: wobbly", state(cli("check", env=env), 1))
    status_page.serve("/s.json", page({"a": "operational"}))
    cli("incident-sync", env=env)
    line = state(cli("check", env=env), 1)
    assert re.search(r"missing components since [^ ]+: b", line)
    assert "wobbly" not in line
    (condition,) = cli("check", "--json", "--only", "components", env=env).json["checks"][0]["details"]["conditions"]
    assert (condition["kind"], condition["subject"]) == ("missing", "b")
    status_page.serve("/s.json", page({"a": "operational", "b": "operational"}))
    cli("incident-sync", env=env)
    state(cli("check", env=env), 0)


# --- what is owed -----------------------------------------------------------------------------------------------------


@pytest.fixture
def site(world: World, receiver: Receiver) -> World:
    """A server, and an account with a number and a callback on it."""
    world.server(channel=1)
    world.number(world.account("acme"), "+1", channel=1)
    world.callback(1, receiver.url("/hook"), raw_json=True)
    return world


def later(world: World, table: Any, seconds: float, **columns: Any) -> None:
    """Put a column of every row `seconds` into the past, and others to values."""
    with world.database.write() as conn:
        now = now_ms(conn)
        past = {name: now - int(seconds * 1000) for name, value in columns.items() if value is ...}
        conn.execute(update(table).values({**columns, **past}))


def test_a_change_that_nobody_plans(check: Callable[..., Result], site: World) -> None:
    site.flag(1, "critical")
    state(check(), 0)
    later(site, schema.change, 400, created_at=...)
    line = state(check(), 1)
    assert "changes of 1 server not planned, the oldest for 6 min: does callback-run run" in line
    assert "'changes_waiting'=1;" in line
    state(check("--owed-critical", "6m"), 2)


def test_a_flag_by_hand_counts_from_when_the_row_was_modified(check: Callable[..., Result], site: World) -> None:
    site.flag_by_hand(1, "critical")
    state(check(), 0)
    with site.database.write() as conn:
        conn.execute(update(schema.monitor).values(modified=int(time.time()) - 1000))
    state(check(), 2)
    with site.database.write() as conn:
        conn.execute(update(schema.monitor).values(modified=0))  # nobody knows
    state(check(), 0)


def test_a_delivery_that_is_due_and_not_made(cli: Cli, check: Callable[..., Result], site: World) -> None:
    site.flag(1, "critical")
    cli("callback-run", "--max-seconds", "0.5", env={"MONITOR_RETRY_SCHEDULE": "0"})  # refused: the address is private
    later(site, schema.delivery, 1000, due_at=..., state="open", open_callback_id=1)
    line = state(check(), 2)
    assert "1 delivery due and not made, the oldest for 16 min" in line


@pytest.mark.parametrize("why", ["inactive", "off", "unsubscribed", "no subscription"])
def test_what_is_kept_for_who_may_not_be_told_does_not_alarm(
    cli: Cli, check: Callable[..., Result], site: World, why: str
) -> None:
    site.flag(1, "critical")
    cli("callback-run", env={**LOCAL, "MONITOR_MAX_SECONDS": "0"})
    with site.database.write() as conn:
        if not site.deliveries():
            values = {"callback_id": 1, "open_callback_id": 1, "state": "open", "created_at": 1, "due_at": 1}
            conn.execute(schema.delivery.insert().values(**values))
    with site.database.write() as conn:
        conn.execute(update(schema.delivery).values(due_at=now_ms(conn) - 10**7))
        conn.execute(update(schema.owed).values(owed_since_at=1))
        conn.execute(update(schema.monitor).values(status_report=0))
    state(check(), 2)
    match why:
        case "inactive":
            cli.ok("callback", "disable", "1")
        case "off":
            later(site, schema.callback, 0, active=0, reason="410 Gone")
        case "unsubscribed":
            site.subscribe(1, active=False)
        case _:
            with site.database.write() as conn:
                conn.execute(schema.subscription.delete())
    line = state(check("--off-warning", "0"), 0)
    assert "'deliveries_due'=0;" in line


def test_a_customer_who_is_down_is_no_change_that_waits(
    cli: Cli, check: Callable[..., Result], site: World, receiver: Receiver
) -> None:
    receiver.answer("/hook", Answer(500))
    site.flag(1, "critical")
    cli.ok("callback-run", env=LOCAL)
    later(site, schema.owed, 10**6, owed_since_at=...)
    assert "'callbacks_owed'=1;" in state(check(), 0)
    later(site, schema.callback, 1000, failing_since=...)
    assert "1 callback failing for over 15 min" in state(check(), 1)
    state(check("--failing-warning", "2"), 0)
    state(check("--failing-critical", "1"), 2)
    state(check("--failing-for", "1h"), 0)
    site.subscribe(1, active=False)
    state(check(), 0)


def test_a_fault_of_ours_that_lasts(cli: Cli, check: Callable[..., Result], site: World, hosts: Any) -> None:
    """Put off again every 5 s without an attempt: nothing is ever overdue, and nothing is told either."""
    site.flag(1, "critical")
    with site.database.write() as conn:
        conn.execute(update(schema.monitor).values(status_report=0))
        now = now_ms(conn)
        row = {"callback_id": 1, "open_callback_id": 1, "state": "open", "created_at": 1, "due_at": now + 5000}
        conn.execute(schema.delivery.insert().values(**row, content_hash="x", content_at=now - 1_000_000))
        conn.execute(update(schema.callback).values(modified_at=1))
    state(check(), 2)
    with site.database.write() as conn:
        conn.execute(update(schema.delivery).values(not_before=now + 9000))  # a Retry-After
    state(check(), 0)
    with site.database.write() as conn:
        conn.execute(update(schema.delivery).values(not_before=0))
        conn.execute(update(schema.callback).values(modified_at=now))  # enabled or edited just now
    state(check(), 0)


def test_a_callback_that_was_switched_off(
    cli: Cli, check: Callable[..., Result], site: World, receiver: Receiver
) -> None:
    receiver.answer("/hook", Answer(410))
    site.flag(1, "critical")
    cli("callback-run", env=LOCAL)
    assert "1 callback switched off" in state(check(), 1)
    state(check("--off-critical", "1"), 2)
    cli.ok("callback", "disable", "1")  # somebody has seen it
    state(check(), 0)


# --- clocks -----------------------------------------------------------------------------------------------------------


def put_ahead(server: MariaDB, seconds: float) -> None:
    """Have a server's clock be so many seconds ahead, as its user `late` sees it."""
    server.execute(
        f"SET GLOBAL init_connect = 'SET timestamp = UNIX_TIMESTAMP(SYSDATE(3)) + {seconds}'",
        "CREATE USER IF NOT EXISTS late@'%' IDENTIFIED BY 'late'",
        "GRANT SELECT ON *.* TO late@'%'",
    )


@pytest.fixture
def clocked(own_mariadb: MariaDB, make_cli: Callable[[str], Cli]) -> Cli:
    """monitor-cli as the user `late` of a server whose clock agrees."""
    url = own_mariadb.create_database("clocks")
    migrate.upgrade(url)
    put_ahead(own_mariadb, 0)
    return make_cli(re.sub(r"//[^@]*@", "//late:late@", url))


def test_clocks_that_differ(own_mariadb: MariaDB, clocked: Cli) -> None:
    line = state(clocked("check", "--only", "clocks"), 0)
    assert re.search(r"'clock'=\d(\.\d+)?s;5;300;0", line)
    put_ahead(own_mariadb, 20)
    line = state(clocked("check", "--only", "clocks"), 1)
    assert re.search(r"the database's clock is (19|20)\.\d s ahead of this host's", line)
    state(clocked("check", "--only", "clocks", "--clock-critical", "10s"), 2)
    state(clocked("check", "--only", "clocks", "--clock-warning", "1m"), 0)
    put_ahead(own_mariadb, -400)
    assert "s behind this host's" in state(clocked("check", "--only", "clocks"), 2)


def test_clocks_of_further_nodes(own_mariadb: MariaDB, clocked: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    same = own_mariadb.url("x").rpartition("@")[2].partition("/")[0]
    with MariaDB() as second:
        second.create_database("clocks")
        put_ahead(second, 20)
        other = second.url("x").rpartition("@")[2].partition("/")[0]
        nodes = ["--node", same, "--node", other]
        line = state(clocked("check", "--only", "clocks", *nodes), 1)
        assert re.search(rf"the clock of the database's node {other} is (19|20)\.\d s ahead of the others'", line)
        (found,) = clocked("check", "--only", "clocks", "--json", *nodes).json["checks"][0]["details"]["nodes"]
        assert (found["address"], found["error"], round(found["ahead_seconds"]) in (19, 20)) == (other, None, True)
        # Of a Galera cluster the addresses come from the database itself.
        monkeypatch.setattr(backlog, "cluster_addresses", lambda _conn: [same, other, "AUTO"])
        assert f"node {other} is" in state(clocked("check", "--only", "clocks"), 1)
    assert f"the node {other} cannot be compared: " in state(clocked("check", "--only", "clocks", *nodes), 1)
    state(clocked("check", "--only", "clocks"), 0)  # that a node of a cluster is down is the database's own affair
