"""The server commands, through the real command line on both stores."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from monitor_cli import csvfile
from monitor_cli.store import servers
from monitor_cli.store.server_import import import_servers
from tests.support.cli import SCRIPT, Cli
from tests.support.stores import Store
from tests.support.world import World

ADD = ("server", "add", "--server-id", "4", "--name", "voice-4", "--server-tag", "tag", "--channel-id", "7")
PLACE = ("--region", "karnataka", "--region-code", "KA-IN")
HEADER = "server_id,name,server_tag,channel_id,region,region_code"


def rows(cli: Cli) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cli.ok("server", "list", "--json").json
    return found


def take(cli: Cli, text: str) -> Any:
    return cli("server", "import", "-", stdin=text)


# --- add, list, show, edit, remove ------------------------------------------------------------------------------------


def test_add_prints_the_id_and_show_the_columns(cli: Cli) -> None:
    assert cli.ok(*ADD, *PLACE).out == "1\n"
    shown = cli.ok("server", "show", "1", "--json").json
    assert shown.pop("created") == shown.pop("modified")
    assert shown == {
        "id": 1,
        "server_id": 4,
        "name": "voice-4",
        "server_tag": "tag",
        "channel_id": 7,
        "capacity": 0,
        "used": 0,
        "primary_server": "",
        "region": "karnataka",
        "region_code": "KA-IN",
        "incident_status": "operational",
        "final_status": "operational",
        "status_report": 0,
        "meta": None,
    }
    table = cli.ok("server", "list").out.splitlines()
    assert table[0].split()[:3] == ["ID", "SERVER_ID", "NAME"]
    assert table[1].split()[:3] == ["1", "4", "voice-4"]


def test_add_takes_every_column(cli: Cli) -> None:
    more = ("--capacity", "30", "--used", "3", "--primary-server", "voice-3", "--meta", "{}")
    words = ("--incident-status", "major_outage", "--final-status", "CRITICAL")
    row = cli.ok(*ADD, *PLACE, *more, *words, "--json").json
    assert (row["id"], row["capacity"], row["used"], row["primary_server"], row["meta"]) == (1, 30, 3, "voice-3", "{}")
    assert (row["incident_status"], row["final_status"], row["status_report"]) == ("major_outage", "critical", 0)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--server-id", "32768", "'32768' is not a whole number from -32768 to 32767"),
        ("--channel-id", "2147483648", "is not a whole number"),
        ("--channel-id", "٧", "is not a whole number"),
        ("--used", "1.5", "is not a whole number"),
        ("--name", "", "is empty"),
        ("--name", "x" * 101, "has 101 characters, more than 100"),
        ("--server-tag", " tag", "has blanks around it"),
        ("--region-code", "KA\n", "has a control character or a line end"),
        ("--region", "\udcff", "has a control character or a line end"),
        ("--final-status", "fine", "'fine' is none of operational, warning, critical"),
        ("--meta", "é" * 32768, "has 65536 bytes, more than 65535"),
    ],
)
def test_a_value_that_does_not_fit_its_column_is_a_usage_error(cli: Cli, option: str, value: str, words: str) -> None:
    result = cli(*ADD, *PLACE, option, value)
    assert (result.code, result.out) == (2, "")
    assert option in result.err
    assert words in result.err
    assert rows(cli) == []


def test_list_chooses(cli: Cli, world: World) -> None:
    first = world.server(channel=1, region=None, region_code=None, final_status=" Critical")
    second = world.server(channel=2, region="karnataka", region_code="KA-IN", tag="t2")
    third = world.server(channel=2, region="Karnataka", region_code="ka-in", server_id=77, final_status=None)

    def ids(*options: str) -> list[int]:
        return [row["id"] for row in cli.ok("server", "list", "--json", *options).json]

    assert ids() == [first, second, third]
    assert ids("--region-code", "KA-IN") == [second]
    assert ids("--region-code", "") == ids("--region", "") == ids("--type", "critical") == [first]
    assert ids("--channel-id", "2") == [second, third]
    assert ids("--channel-id", "2", "--region", "Karnataka") == ids("--server-id", "77") == [third]
    assert ids("--server-tag", "t2") == ids("--type", "operational") == [second]
    assert cli.ok("server", "list", "--json", "--channel-id", "9").out == "[]\n"
    assert cli.ok("server", "list", "--channel-id", "9").out == ""


def test_a_long_list_is_printed_as_it_is_read(cli: Cli, world: World) -> None:
    lines = [f"{i},{'n' * (1 + i // 600 * 20)},t{i},{i},r,c" for i in range(1, 1201)]
    take(cli, "\n".join([HEADER, *lines])).quiet()
    assert [row["server_id"] for row in rows(cli)] == list(range(1, 1201))
    table = cli.ok("server", "list").out.splitlines()
    assert len(table) == 1201
    assert table[1200].split()[:4] == ["1200", "1200", "n" * 41, "t1200"]


def test_edit_writes_what_is_named(cli: Cli, world: World) -> None:
    server = world.server(meta="old", used=4, created=1, modified=1)
    cli("server", "edit", str(server), "--used", "5", "--meta", "").quiet()
    row = world.server_row(server)
    assert (row.used, row.meta, row.created, row.name) == (5, None, 1, "server 1")
    assert row.modified > 1
    assert world.changes() == []


def test_edit_that_changes_nothing_writes_nothing(cli: Cli, world: World) -> None:
    server = world.server(final_status="Operational", modified=1)
    cli("server", "edit", str(server), "--final-status", "operational", "--used", "0").quiet()
    assert (world.server_row(server).final_status, world.server_row(server).modified) == ("Operational", 1)


def test_edit_without_a_column_or_a_server(cli: Cli) -> None:
    nothing = cli("server", "edit", "1")
    assert nothing.code == 2
    assert "nothing to change" in nothing.err
    absent = cli("server", "edit", "1", "--used", "5")
    assert (absent.code, absent.out) == (1, "")
    assert "there is no server 1" in absent.err
    assert cli("server", "show", "1").code == 1


def test_remove_asks(cli: Cli, world: World) -> None:
    first, second, third = world.server(), world.server(), world.server()
    refused = cli("server", "remove", str(first))
    assert refused.code == 2
    assert "--yes" in refused.err
    absent = cli("server", "remove", str(first), "99", "--yes")
    assert (absent.code, len(rows(cli))) == (1, 3)
    assert "there is no server 99" in absent.err
    cli("server", "remove", str(first), str(third), "--yes").quiet()
    assert [row["id"] for row in rows(cli)] == [second]


# --- what customers are owed by an edit -------------------------------------------------------------------------------


@pytest.fixture
def hook(world: World) -> int:
    """A callback of an account with a number on channel 7 and one on channel 8."""
    acme = world.account("acme")
    world.number(acme, "+917", channel=7)
    world.number(acme, "+918", channel=8)
    return world.callback(acme, "http://hooks.test/")


def owed(world: World, callback: int) -> list[tuple[int, str, str | None]]:
    return [(row.channel_id, row.region, row.told_type) for row in world.owed(callback)]


def test_a_type_set_by_hand_is_history_and_is_owed(cli: Cli, world: World, hook: int) -> None:
    server = world.server(channel=7)
    cli("server", "edit", str(server), "--final-status", "critical", "--incident-status", "on fire").quiet()
    (change,) = world.changes()
    assert (change.monitor_id, change.from_type, change.to_type) == (server, "operational", "critical")
    assert (change.incident_status, change.region, change.planned) == ("on fire", "karnataka", 1)
    assert owed(world, hook) == [(7, "karnataka", "operational")]
    assert world.server_row(server).status_report == 0


def test_a_type_that_a_worse_server_hides_is_not_owed(cli: Cli, world: World, hook: int) -> None:
    server = world.server(channel=7)
    world.server(channel=7, final_status="critical")
    cli("server", "edit", str(server), "--final-status", "warning").quiet()
    assert owed(world, hook) == []
    assert len(world.changes()) == 1


def test_a_server_that_moves_is_owed_where_it_was_and_where_it_is(cli: Cli, world: World, hook: int) -> None:
    server = world.server(channel=7, final_status="critical")
    world.server(channel=7)
    world.server(channel=8)
    cli("server", "edit", str(server), "--channel-id", "8").quiet()
    assert owed(world, hook) == [(7, "karnataka", "critical"), (8, "karnataka", "operational")]
    assert world.changes() == []


def test_a_removed_server_is_owed(cli: Cli, world: World, hook: int) -> None:
    server = world.server(channel=7, final_status="critical")
    world.server(channel=7)
    cli("server", "remove", str(server), "--yes").quiet()
    assert owed(world, hook) == [(7, "karnataka", "critical")]


def test_a_new_server_is_owed_where_it_is_not_well(cli: Cli, world: World, hook: int) -> None:
    cli.ok(*ADD, *PLACE)
    assert owed(world, hook) == []
    take(cli, f"{HEADER},final_status\n5,n,t,8,karnataka,KA-IN,warning\n6,n,t,8,karnataka,KA-IN,\n").quiet()
    assert owed(world, hook) == [(8, "karnataka", "operational")]


def test_an_import_owes_what_it_moves_and_changes(cli: Cli, world: World, hook: int) -> None:
    world.server(channel=7, server_id=1, tag="a", name="n", region_code="KA-IN")
    second = world.server(channel=8, server_id=2, tag="b", name="n", final_status="warning", region_code="KA-IN")
    text = f"id,{HEADER},final_status\n,1,n,a,7,karnataka,KA-IN,critical\n{second},2,n,b,8,kerala,KL-IN,warning\n"
    take(cli, text).quiet()
    assert owed(world, hook) == [(7, "karnataka", "operational"), (8, "kerala", "operational")]
    assert [(c.from_type, c.to_type) for c in world.changes()] == [("operational", "critical")]


# --- import and export ------------------------------------------------------------------------------------------------


def test_import_adds_and_updates(cli: Cli, world: World) -> None:
    world.server(server_id=1, tag="a", channel=1, name="old", used=9, region="r", region_code="c", modified=1)
    world.server(server_id=2, tag="a", channel=1, name="same", region="r", region_code="c", modified=1)
    world.server(server_id=3, tag="a", channel=1, name="by id", region="r", region_code="c", created=1)
    take(cli, f"{HEADER},id,used\n1,new,a,1,r,c,,\n2,same,a,1,r,c,,0\n9,moved,z,5,r,c,3,8\n4,added,a,1,r,c,,\n").quiet()
    found = rows(cli)
    assert [(r["id"], r["server_id"], r["name"], r["channel_id"], r["used"]) for r in found] == [
        (1, 1, "new", 1, 9),
        (2, 2, "same", 1, 0),
        (3, 9, "moved", 5, 8),
        (4, 4, "added", 1, 0),
    ]
    assert [world.server_row(i).modified == 1 for i in (1, 2)] == [False, True]
    assert world.server_row(3).created == 1
    assert (found[3]["final_status"], found[3]["incident_status"], found[3]["status_report"]) == (
        "operational",
        "operational",
        0,
    )


def test_import_says_what_it_did_with_v(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "servers.csv"
    file.write_text(f"{HEADER}\n1,n,a,1,r,c\n")
    assert cli.ok("-v", "server", "import", str(file)).err == "servers.imported added=1 changed=0 unchanged=0\n"
    assert cli.ok("-v", "server", "import", str(file)).err == "servers.imported added=0 changed=0 unchanged=1\n"
    take(cli, HEADER).quiet()


def test_import_is_all_or_nothing_and_names_each_bad_line(cli: Cli, world: World) -> None:
    world.server(server_id=1, tag="a", channel=1)
    world.server(server_id=1, tag="a", channel=1)
    world.server(server_id=5, tag="e", channel=1, name="e")
    text = [
        f"id,{HEADER},final_status",
        ",7,good,g,7,r,c,",
        ",1,n,a,1,r,c,",
        ",99999,n,b,1,r,c,",
        ",2,,c,1,r,c,fine",
        ',3,"two\nlines",d,1,r,c,',
        ",7,again,g,7,r,c,",
        "3,5,n,e,1,r,c,",
        ",5,n,e,1,r,c,",
        "3,6,n,x,1,r,c,",
        "0,6,n,y,1,r,c,",
        f",6,n,{'t' * 31},1,r,c,",
        "1,2,3",
    ]
    result = take(cli, "\n".join(text))
    assert (result.code, result.out) == (1, "")
    told = [line.strip() for line in result.err.splitlines()]
    assert told == [
        "monitor-cli: stdin: 10 bad lines, nothing was imported",
        "line 3: several servers have its server_id, channel_id and server_tag (id 1, 2): give id",
        "line 4: server_id '99999' is not a whole number from -32768 to 32767",
        "line 5: name is empty; final_status 'fine' is none of operational, warning, critical",
        "line 6: name 'two\\nlines' has a control character or a line end",
        "line 8: it has the server_id, channel_id and server_tag of line 2: give id",
        "line 10: it has the server_id, channel_id and server_tag of line 9: give id; "
        "it means the server with the id 3, as line 9 does",
        "line 11: it has the id of line 9",
        "line 12: id '0' is not a whole number from 1 to 2147483647",
        "line 13: server_tag has 31 characters, more than 30",
        "line 14: it has 3 values, the header 8",
    ]
    assert [row["server_id"] for row in rows(cli)] == [1, 1, 5]
    assert world.server_row(3).name == "e"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is no header"),
        ("server_id,name\n", "the columns server_tag, channel_id, region, region_code are missing"),
        (f"{HEADER},status_report\n", "unknown column 'status_report'"),
        (f"{HEADER},Used\n", "did you mean 'used'?"),
        (f"{HEADER},name\n", "the column name is there twice"),
    ],
)
def test_a_header_that_does_not_fit(cli: Cli, text: str, words: str) -> None:
    result = take(cli, text)
    assert result.code == 1
    assert words in result.err


def test_import_without_a_file(cli: Cli, tmp_path: Path) -> None:
    for path in (tmp_path / "absent.csv", tmp_path):
        result = cli("server", "import", str(path))
        assert (result.code, result.out) == (2, "")
        assert str(path) in result.err
        assert len(result.err.splitlines()) == 1


def test_bom_and_crlf(cli: Cli) -> None:
    text = f"\ufeff{HEADER}\r\n\r\n1,नाम,a,1,ಕರ್ನಾಟಕ,KA-IN\r\n"
    take(cli, text).quiet()
    assert [(row["name"], row["region"]) for row in rows(cli)] == [("नाम", "ಕರ್ನಾಟಕ")]


def odd_servers(world: World) -> None:
    """As other programs may leave them: NULLs, another case, blanks, unknown words, two with one key."""
    world.server(region=None, region_code=None, final_status="Operational", incident_status=None, meta='a,"b"\r\nc')
    world.server(name=" blanks ", tag="", final_status="odd", meta="", primary_server="é")
    for _ in range(2):
        world.server(server_id=9, tag="same", channel=-1, final_status=None)


def test_an_export_imports_as_nothing_new(cli: Cli, world: World) -> None:
    odd_servers(world)
    before = rows(cli)
    exported = cli.ok("server", "export").out
    assert exported.splitlines()[0] == (f"id,{HEADER},capacity,used,primary_server,meta,incident_status,final_status")
    result = cli.ok("-v", "server", "import", "-", stdin=exported)
    assert result.err == "servers.imported added=0 changed=0 unchanged=4\n"
    assert rows(cli) == before


def test_an_export_fills_an_empty_database(cli: Cli, world: World) -> None:
    world.server(region="é", meta='{"a": "b,c"}\n', capacity=5, final_status="critical", incident_status="x")
    world.server(server_id=9, tag="same")
    world.server(server_id=9, tag="same", region="")
    exported = cli.ok("server", "export").out
    before = rows(cli)
    cli.ok("server", "remove", "1", "2", "3", "--yes")
    take(cli, exported).quiet()
    assert cli.ok("server", "export").out == exported
    times = ("created", "modified")
    assert [{k: v for k, v in row.items() if k not in times} for row in rows(cli)] == [
        {**{k: v for k, v in row.items() if k not in times}, "primary_server": ""} for row in before
    ]


def test_new_rows_are_numbered_above_given_ids(cli: Cli) -> None:
    take(cli, f"{HEADER},id\n1,n,a,1,r,c,\n2,n,a,1,r,c,50\n").quiet()
    assert [(row["id"], row["server_id"]) for row in rows(cli)] == [(50, 2), (51, 1)]


def test_the_database_away_is_told_in_one_line(make_cli: Any) -> None:
    result = make_cli("mysql+pymysql://u:p@127.0.0.1:1/none")("server", "list")
    assert result.code == 75
    assert "Traceback" not in result.err


def test_a_progress_bar_on_a_terminal_only(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "servers.csv"
    file.write_text(HEADER + "\n" + "".join(f"{i},n,t{i},{i},r,c\n" for i in range(1, 51)))
    main, terminal = pty.openpty()
    done = subprocess.run(
        [str(SCRIPT), "server", "import", str(file)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**cli.environment(), "TERM": "xterm"},
        timeout=60,
    )
    os.close(terminal)
    shown = os.read(main, 65536).decode()
    os.close(main)
    assert (done.returncode, done.stdout) == (0, b"")
    assert "servers" in shown
    assert "100%" in shown
    assert len(rows(cli)) == 50


def test_an_empty_list_says_so_on_a_terminal_only(cli: Cli) -> None:
    for command, words in (["server", "list"], "no servers"), (["callback", "list"], "no callbacks"):
        cli(*command).quiet()
        for options, said in ([], f"{words}\n"), (["--json"], ""):
            done = cli.on_terminal(*command, *options)
            assert (done.code, done.err) == (0, said)


def test_what_is_no_file_of_lines_is_refused(cli: Cli, tmp_path: Path) -> None:
    long = tmp_path / "long.csv"
    long.write_bytes(HEADER.encode() + b"\n" + b"x" * (1024 * 1024 + 1))
    for path, line in ("/dev/zero", 1), (str(long), 2):
        for command in ("server", "number"):
            result = cli(command, "import", path)
            assert (result.code, result.out) == (2, "")
            assert f"{path}: line {line} has more than 1048576 bytes" in result.err


def test_capacity_and_used_are_not_negative(cli: Cli, world: World) -> None:
    server = world.server()
    for name in ("capacity", "used"):
        result = cli("server", "edit", str(server), f"--{name}", "-1")
        assert result.code == 2
        assert "'-1' is not a whole number from 0 to 2147483647" in result.err
        imported = cli("server", "import", "-", stdin=f"{HEADER},{name}\n4,n,t,1,r,c,-1\n")
        assert imported.code == 1
        assert f"line 2: {name} '-1' is not a whole number from 0" in imported.err


def test_remove_asks_on_a_terminal(cli: Cli, world: World) -> None:
    world.server()
    for answer, code, left in (b"n\n", 1, 1), (b"\n", 1, 1), (b"\x04", 130, 1), (b"y\n", 0, 0):
        main, terminal = pty.openpty()
        os.write(main, answer)
        done = subprocess.run(
            [str(SCRIPT), "server", "remove", "1"],
            stdin=terminal,
            capture_output=True,
            env=cli.environment(),
            timeout=60,
        )
        os.close(terminal)
        os.close(main)
        assert done.returncode == code
        assert b"Remove server 1 (server 1)?" in done.stderr
        assert (b"monitor-cli: nothing was removed\n" in done.stderr) is (code == 1)
        assert len(rows(cli)) == left


def test_many_lines_are_written_in_batches(database: Store) -> None:
    """20 000 lines added, left alone, all changed: each by few statements; the driver sends an UPDATE for each row."""
    statements: list[str] = []
    event.listen(database.database.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))

    def run(region: str) -> tuple[int, int, int]:
        statements.clear()
        text = "\n".join([HEADER, *(f"{i % 30_000},n{i},t{i},{i},{region},c" for i in range(20_000))])
        lines, bad = csvfile.read(text.encode(), "f", servers.REQUIRED)
        return database.transact(lambda conn: import_servers(conn, lines, bad))

    assert run("r") == (20_000, 0, 0)
    assert len(statements) < 100
    assert run("r") == (0, 0, 20_000)
    assert len(statements) < 100
    assert run("q") == (0, 20_000, 0)
    assert len(statements) < 200
