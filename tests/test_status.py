"""status: what is so now, worst first, whom it concerns, what is owed; as JSON, in a pipe, on a terminal, in place."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from sqlalchemy import event, update
from sqlalchemy.engine import Engine

from monitor_cli import schema
from monitor_cli.dialect import now_ms
from tests.support import network_guard
from tests.support.cli import SCRIPT, Cli
from tests.support.stores import Store
from tests.support.world import World

LITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)  # of what has nothing to do with the store
INCIDENT = {"incident_title": "Core switch down", "incident_link": "https://status.test/i/1"}


def region_of(picture: dict[str, Any], code: str) -> dict[str, Any]:
    (found,) = [one for one in picture["regions"] if one["region_code"] == code]
    return dict(found)


# --- what it says -----------------------------------------------------------------------------------------------------


def test_an_empty_database(cli: Cli) -> None:
    picture = cli.ok("status", "--json").json
    assert (picture["type"], picture["servers_total"], picture["regions"], picture["servers"]) == (None, 0, [], [])
    assert picture["owed"] == {"callbacks": 0, "channels": 0, "since": None}
    out = cli.ok("status").out
    assert out.startswith("no servers  (")
    assert "owed: nothing\n" in out


def test_the_keys_are_stable(cli: Cli, world: World) -> None:
    world.flag(world.server(), "critical", **INCIDENT)
    picture = cli.ok("status", "--json").json
    assert list(picture) == [
        *("at", "type", "servers_total", "servers_by_type", "regions", "servers", "servers_left_out"),
        *("changes_waiting", "owed", "kept", "callbacks", "sources"),
    ]
    assert list(picture["servers_by_type"]) == ["critical", "warning", "operational", "unknown"]
    assert list(picture["regions"][0]) == [
        *("region", "region_code", "type", "since", "incident", "servers", "numbers", "accounts")
    ]
    assert list(picture["servers"][0]) == [
        *("id", "server_id", "name", "server_tag", "channel_id", "region", "region_code", "incident_status"),
        *("final_status", "type", "since", "incident", "numbers", "accounts"),
    ]
    assert list(picture["servers"][0]["incident"]) == ["change_id", "source", "title", "link"]
    assert list(picture["changes_waiting"]) == ["servers", "since"]
    assert list(picture["owed"]) == list(picture["kept"]) == ["callbacks", "channels", "since"]
    assert list(picture["callbacks"]) == ["active", "inactive", "off", "failing"]


def test_worst_first_since_when_why_and_whom_it_concerns(cli: Cli, world: World) -> None:
    acme, other = world.account("acme"), world.account("other", subscribed=False)
    for channel, region in ((1, "ka"), (2, "ka"), (3, "tn"), (4, "mh")):
        world.server(channel=channel, region=region, region_code=region.upper())
    world.number(acme, "+1", "+2", channel=1)
    world.number(other, "+3", channel=1)
    world.number(acme, "+4", channel=3)
    world.number(acme, "+5", channel=4)
    first = world.flag(1, "critical", **INCIDENT)
    backup = world.server(channel=1, region="ka", region_code="KA")  # of the same numbers
    world.flag(backup, "warning")
    time.sleep(0.005)  # another millisecond
    world.flag(3, "warning", source="load")
    world.flag(2, "critical", source=None)
    picture = cli.ok("status", "--json").json
    assert picture["type"] == "critical"
    assert picture["servers_total"] == 5
    assert picture["servers_by_type"] == {"critical": 2, "warning": 2, "operational": 1, "unknown": 0}
    assert [one["region_code"] for one in picture["regions"]] == ["KA", "TN", "MH"]
    assert [one["id"] for one in picture["servers"]] == [2, 1, 3, backup]  # the newest change first
    ka = region_of(picture, "KA")
    assert (ka["type"], ka["numbers"], ka["accounts"]) == ("critical", 3, 2)
    assert ka["servers"] == {"critical": 2, "warning": 1, "operational": 0, "unknown": 0}
    incident = {"change_id": first, "source": "test", "title": INCIDENT["incident_title"]}
    assert ka["incident"] == {**incident, "link": INCIDENT["incident_link"]}
    one = next(server for server in picture["servers"] if server["id"] == 1)
    assert one["since"] == ka["since"]
    assert (one["numbers"], one["accounts"], one["incident"]["title"]) == (3, 2, INCIDENT["incident_title"])
    mh = region_of(picture, "MH")
    assert (mh["type"], mh["since"], mh["incident"], mh["numbers"]) == ("operational", None, None, 0)
    assert picture["changes_waiting"]["servers"] == 4
    assert picture["changes_waiting"]["since"] == one["since"]


def test_what_another_program_wrote_has_no_since(cli: Cli, world: World) -> None:
    known, odd, null = world.server(), world.server(final_status="Broken"), world.server(final_status=None)
    world.flag(known, "warning")
    world.flag_by_hand(known, "CRITICAL ")
    picture = cli.ok("status", "--json").json
    assert [one["id"] for one in picture["servers"]] == [known, odd, null]
    assert [one["type"] for one in picture["servers"]] == ["critical", None, None]
    assert {(one["since"], one["incident"]) for one in picture["servers"]} == {(None, None)}
    assert picture["servers_by_type"]["unknown"] == 2
    assert region_of(picture, "KA-IN")["type"] == "critical"


def test_regions_are_told_apart_byte_for_byte(cli: Cli, world: World) -> None:
    account = world.account("acme")
    for channel, region in enumerate(("Köln", "köln", "koln", "koln ", None, ""), 1):
        world.server(channel=channel, region=region, region_code=None, final_status="critical")
        world.number(account, f"+{channel}", channel=channel)
    regions = cli.ok("status", "--json").json["regions"]
    assert sorted((one["region"], one["numbers"]) for one in regions) == [
        *(("", 2), ("Köln", 1), ("koln", 1), ("koln ", 1), ("köln", 1))
    ]


def test_what_is_owed_and_what_is_kept(cli: Cli, world: World) -> None:
    acme, gone = world.account("acme"), world.account("gone")
    for account in (acme, gone):
        world.number(account, f"+{account}", channel=1)
    told = world.callback(acme, "http://a.test/", failures=3, failing_since=1)
    world.callback(acme, "http://a.test/")
    world.callback(gone, "http://a.test/", failures=1, failing_since=1)
    off = world.callback(acme, "http://a.test/", active=False, reason="410 Gone")
    world.callback(acme, "http://a.test/", active=False)
    with world.database.write() as conn:
        now = now_ms(conn)
        for callback, age, wanted in ((told, 9000, 1), (told, 5000, 1), (3, 7000, 2), (off, 3000, 1), (2, 9999, 0)):
            key = {"callback_id": callback, "channel_id": age, "region": "", "region_code": ""}
            values = {**key, "wanted": wanted, "told": 0, "owed_since_at": now - age}
            conn.execute(schema.owed.insert().values(**values))
    world.subscribe(gone, active=False)
    picture = cli.ok("status", "--json").json
    assert (picture["owed"]["callbacks"], picture["owed"]["channels"]) == (1, 2)
    assert (picture["kept"]["callbacks"], picture["kept"]["channels"]) == (2, 2)
    assert picture["owed"]["since"] < picture["kept"]["since"]
    assert picture["callbacks"] == {"active": 3, "inactive": 1, "off": 1, "failing": 1}
    out = cli.ok("status").out
    assert "owed: 2 channels to 1 callback, the oldest for 9 s; kept for 2 callbacks that may not be told: 2" in out
    assert "callbacks: 3 active (1 failing), 1 inactive, 1 switched off" in out


@LITE
def test_how_sources_are_read(cli: Cli) -> None:
    cli("incident-sync", "--url", "http://127.0.0.1:1/")
    (source,) = cli.ok("status", "--json").json["sources"]
    assert list(source) == ["name", "last_good_at", "failing_since", "error"]
    assert (source["name"], source["last_good_at"]) == ("127.0.0.1:1", None)
    assert re.search(r"^source 127.0.0.1:1: failing for \d+ s, never read well: .*refused$", cli.ok("status").out, re.M)


def test_limit_and_all(cli: Cli, world: World) -> None:
    for number in range(60):
        world.server(channel=number, final_status="warning" if number else "operational")
    assert len(cli.ok("status", "--json").json["servers"]) == 59
    lines = cli.ok("status").out.splitlines()
    assert sum(line.startswith(tuple("0123456789")) for line in lines) == 50
    assert lines[-1] == "and 9 more: --limit shows more of them, --all every server"
    limited = cli.ok("status", "--json", "--limit", "3").json
    assert (len(limited["servers"]), limited["servers_left_out"]) == (3, 56)
    every = cli.ok("status", "--json", "--all").json
    assert [one["type"] for one in every["servers"]] == ["warning"] * 59 + ["operational"]
    assert "operational" in cli.ok("status", "--all").out


def test_the_number_of_statements_is_fixed(cli: Cli, world: World, database: Store) -> None:
    def statements() -> int:
        seen: list[str] = []

        def note(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
            seen.append(statement)

        # Each command has an engine of its own: all of them are listened to.
        event.listen(Engine, "before_cursor_execute", note)
        try:
            cli.ok("status", "--json")
        finally:
            event.remove(Engine, "before_cursor_execute", note)
        return len(seen)

    account = world.account("acme")
    with database.write() as conn:
        rows = [
            {
                "server_id": 1,
                "name": f"s {n}",
                "server_tag": f"t{n}",
                "channel_id": n,
                "region": f"r{n % 7}",
                "region_code": "x",
                "final_status": "operational",
            }
            for n in range(2000)
        ]
        conn.execute(schema.monitor.insert(), rows)
    world.number(account, "+1", channel=1)
    world.flag_by_hand(1, "critical")
    few = statements()
    with database.write() as conn:
        conn.execute(update(schema.monitor).values(final_status="critical"))
    assert statements() == few < 16


# --- how it looks -----------------------------------------------------------------------------------------------------


@LITE
def test_plain_in_a_pipe(cli: Cli, world: World) -> None:
    world.flag(world.server(name="voice-4\x1b[31m"), "critical", **INCIDENT)
    out = cli.ok("status").out
    assert "\x1b" not in out
    assert "voice-4\N{REPLACEMENT CHARACTER}[31m" in out
    assert re.search(r"critical  \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \(\d+ s\)", out)
    assert "test: Core switch down https://status.test/i/1" in out


@contextmanager
def terminal(cli: Cli, *args: str, columns: int = 100, lines: int = 30, **env: str) -> Iterator[Callable[..., str]]:
    """The installed script on a terminal of its own; gives a function that waits until its screen output matches a
    pattern so often, and one `.process`."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = {
        **network_guard.child_environment(str(cli.home / "network-violations")),
        **cli.environment({"TERM": "xterm", **env}),
    }
    process = subprocess.Popen(
        [str(SCRIPT), *args],
        stdin=side,
        stdout=side,
        stderr=side,
        env=environment,
        cwd=cli.home,
        start_new_session=True,
    )
    os.close(side)
    os.set_blocking(main, False)
    seen = b""

    def wait(pattern: str = r"\Z", times: int = 1) -> str:
        nonlocal seen
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with suppress(BlockingIOError, OSError):
                seen += os.read(main, 65536)
            text = seen.decode()
            if len(re.findall(pattern, text)) >= times and (pattern != r"\Z" or process.poll() is not None):
                return text
            time.sleep(0.02)
        raise AssertionError(f"{pattern!r} did not come {times} times: {seen!r}")

    wait.process = process  # type: ignore[attr-defined]
    try:
        yield wait
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
        os.close(main)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)


@LITE
def test_colour_and_width_on_a_terminal(cli: Cli, world: World) -> None:
    world.flag(world.server(name="voice"), "critical", incident_title="A long story " * 20)
    with terminal(cli, "status", columns=90) as wait:
        text = wait()
    assert "\x1b[31m" in text
    assert max(map(len, plain(text).splitlines())) <= 90
    assert "…" in text
    with terminal(cli, "status", NO_COLOR="1") as wait:
        assert "\x1b" not in wait()


@LITE
@pytest.mark.parametrize("columns", [40, 60, 80])
def test_a_long_name_leaves_room_for_the_type(cli: Cli, world: World, columns: int) -> None:
    long = {"region": "a region with a very long name indeed", "region_code": "KA-IN-LONG-CODE"}
    world.flag(world.server(name="a-server-with-a-rather-long-name-of-its-own", **long), "critical")
    with terminal(cli, "status", columns=columns) as wait:
        _, regions, servers = plain(wait()).replace("\r", "").strip().split("\n\n")
    for table in (regions, servers):
        head, row = table.splitlines()
        assert row[head.index("TYPE") :].startswith("critical"), table
        assert max(map(len, (head, row))) <= columns


@LITE
def test_watch_draws_in_place_and_ctrl_c_ends_it(cli: Cli, world: World) -> None:
    for number in range(40):
        world.server(channel=number, final_status="warning")
    server = world.server(name="the-new-one")
    with terminal(cli, "status", "--watch", "--interval", "0.2", lines=20) as wait:
        text = wait("\x1b\\[H", 3)
        assert text.count("\x1b[2J") == 1  # cleared once; then drawn over
        for screen in text.split("\x1b[H")[1:-1]:
            assert screen.count("\n") <= 19
        world.flag(server, "critical")
        wait("the-new-one")
        process: subprocess.Popen[bytes] = wait.process  # type: ignore[attr-defined]
        process.send_signal(signal.SIGINT)
        text = wait()
        assert process.returncode == 0
        assert "Abort" not in text
        assert "Traceback" not in text


@LITE
def test_watch_in_a_pipe_is_a_line_each_as_json(cli: Cli, world: World) -> None:
    world.server(final_status="critical")
    running = cli.start("status", "--watch", "--json", "--interval", "0.1")
    until = time.monotonic() + 30
    while running.output()[0].count("\n") < 3:
        assert time.monotonic() < until, running.output()
        time.sleep(0.02)
    running.signal(signal.SIGINT)
    result = running.wait()
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert {json.loads(line)["type"] for line in lines} == {"critical"}


def test_watch_outlives_the_database(own_mariadb: Any, make_cli: Callable[[str], Cli]) -> None:
    cli = make_cli(own_mariadb.create_database())
    cli.ok("db", "upgrade")
    running = cli.start("status", "--watch", "--interval", "0.1")

    def wait(words: str) -> None:
        until = time.monotonic() + 60
        while words not in running.output()[0].rpartition("\n\n")[2] and words not in running.output()[0][-400:]:
            assert time.monotonic() < until, running.output()
            time.sleep(0.05)

    wait("owed: nothing")
    own_mariadb.kill()
    wait("does not answer")
    own_mariadb.start()
    wait("owed: nothing")
    assert not running.ended


@LITE
def test_wrong_usage(cli: Cli) -> None:
    assert cli("status", "--interval", "3").code == 2
    assert cli("status", "--watch", "--interval", "0").code == 2


@LITE
@pytest.mark.parametrize("option", [[], ["--json"], ["--all"]])
def test_it_reads_only(cli: Cli, world: World, database: Store, option: list[str]) -> None:
    world.flag(world.server(), "critical")
    before = world.rows(schema.monitor), world.changes()
    cli.ok("status", *option)
    assert (world.rows(schema.monitor), world.changes()) == before
