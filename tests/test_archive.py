"""archive and archive restore, through the real command line on each store: what leaves, what stays, what files are."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import pty
import re
import resource
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, event, update

from monitor_cli import schema
from monitor_cli.archive import files, run
from monitor_cli.archive.lease import LENGTH_MS, NAME, Busy
from monitor_cli.dialect import now_ms
from monitor_cli.store import archivable, leases
from tests.support.cli import SCRIPT, Cli
from tests.support.http import Receiver
from tests.support.past import DAY, Past, at, midnight
from tests.support.readme import calls, commands
from tests.support.stores import Store
from tests.support.world import World

LOCAL = {"MONITOR_ALLOW_NETWORKS": "127.0.0.0/8"}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "archive" / "of" / "voice"


@pytest.fixture
def past(world: World) -> Past:
    return Past(world)


def date(days: int) -> str:
    return datetime.fromtimestamp(midnight(days) / 1000, UTC).date().isoformat()


def archived(directory: Path) -> dict[str, dict[int, dict[str, Any]]]:
    """The rows of all files that are whole, by table and id."""
    found: dict[str, dict[int, dict[str, Any]]] = {"attempt": {}, "delivery": {}, "change": {}}
    for path in directory.glob("*.jsonl.gz"):
        told, name = Path(f"{path}.sha256").read_text().split()
        assert (told, name) == (hashlib.sha256(path.read_bytes()).hexdigest(), path.name)
        for line in gzip.decompress(path.read_bytes()).decode().split("\n")[:-1]:
            row = json.loads(line)
            table = path.name.split("-")[0]
            assert row["id"] not in found[table], f"{row['id']} is in two files"
            found[table][row["id"]] = row
    return found


def as_rows(found: dict[str, dict[int, dict[str, Any]]]) -> dict[str, dict[int, Any]]:
    return {table: {key: tuple(row.values()) for key, row in rows.items()} for table, rows in found.items()}


def everything(past: Past, directory: Path) -> dict[str, dict[int, Any]]:
    """What is in the tables or in a good file; fails where a row differs between them."""
    live, kept = past.rows(), as_rows(archived(directory))
    for table, rows in live.items():
        assert all(rows[key] == kept[table][key] for key in rows.keys() & kept[table].keys())
    return {table: {**kept[table], **rows} for table, rows in live.items()}


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if not path.name.endswith(".sha256"))


class Filled:
    """A server and a callback with rows of three old days, of the day on which the policy's time ends, and of today."""

    def __init__(self, past: Past) -> None:
        world = past.world
        self.server = world.server()
        account = world.account("acme")
        self.callback = world.callback(account, "https://acme.test/", active=False)
        for days in (120, 101, 100):
            for hour in (0, 12, 23.9999):
                past.change(self.server, days=days, hour=hour)
                past.delivery(self.callback, days=days, hour=min(hour, 23), attempts=2)
        self.old = past.rows()
        past.change(self.server, days=90, hour=0)  # the first moment that is not older
        past.delivery(self.callback, days=90, hour=0)
        past.change(self.server, days=0, hour=0)
        past.delivery(self.callback, days=0, hour=0)
        self.all = past.rows()


@pytest.fixture
def filled(past: Past) -> Filled:
    return Filled(past)


# --- what leaves ------------------------------------------------------------------------------------------------------


def test_old_rows_go_into_a_file_a_day_and_table(cli: Cli, past: Past, filled: Filled, target: Path) -> None:
    cli("archive", "--older-than", "90d", "--to", str(target)).quiet()
    assert names(target) == sorted(
        f"{table}-{date(days)}.jsonl.gz" for table in ("change", "delivery", "attempt") for days in (120, 101, 100)
    )
    kept = as_rows(archived(target))
    newest = max(filled.old["change"])  # tells which type the server had from then on
    assert kept == {**filled.old, "change": {k: v for k, v in filled.old["change"].items() if k != newest}}
    assert everything(past, target) == filled.all
    live = past.rows()
    assert {table: len(rows) for table, rows in live.items()} == {"change": 3, "delivery": 2, "attempt": 2}
    for path in target.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    assert target.stat().st_mode & 0o777 == 0o700
    cli("archive", "--older-than", "90d", "--to", str(target)).quiet()
    assert past.rows() == live
    assert everything(past, target) == filled.all


def test_the_settings_say_how_old_and_where_to(cli: Cli, past: Past, filled: Filled, target: Path) -> None:
    env = {"MONITOR_ARCHIVE_DIR": str(target), "MONITOR_RETENTION_DAYS": "110"}
    cli("archive", env=env).quiet()
    assert {name.partition("-")[2] for name in names(target)} == {f"{date(120)}.jsonl.gz"}
    cli("archive").quiet()
    there = cli.home / "data" / "monitor-cli" / "archive"
    newest = f"change-{date(120)}.jsonl.gz"  # until now it told which type the server had from then on
    assert {name.partition("-")[2] for name in names(there) if name != newest} == {
        f"{date(101)}.jsonl.gz",
        f"{date(100)}.jsonl.gz",
    }


def test_hours_and_times_are_taken_as_they_are(cli: Cli, past: Past, target: Path) -> None:
    server = past.world.server()
    for hour in (1, 2, 3, 4):
        past.change(server, days=3, hour=hour)
    moment = datetime.fromtimestamp(at(3, 2.5) / 1000, UTC).isoformat()
    cli.ok("archive", "--older-than", moment, "--to", str(target))
    assert len(archived(target)["change"]) == 1  # of the two that are older, the newer one stays
    hours = (int(time.time() * 1000) - at(3, 3.5)) / 3_600_000
    cli.ok("archive", "--older-than", f"{int(hours * 60)}m", "--to", str(target))
    assert len(archived(target)["change"]) == 2
    assert names(target) == [f"change-{date(3)}.2.jsonl.gz", f"change-{date(3)}.jsonl.gz"]
    assert cli("archive", "--older-than", "2999-01-01").code == 2
    assert cli("archive", "--older-than", "soon").code == 2


def test_a_delivery_belongs_to_the_day_on_which_it_was_settled(cli: Cli, past: Past, target: Path) -> None:
    callback = past.world.callback(past.world.account("acme"), "https://acme.test/")
    long = past.delivery(callback, days=120, attempts=3, settled_at=at(100, 5))
    young = past.delivery(callback, days=120, attempts=1, settled_at=at(80, 5))
    past.delivery(callback, days=1)
    cli.ok("archive", "--to", str(target))
    assert names(target) == [f"attempt-{date(100)}.jsonl.gz", f"delivery-{date(100)}.jsonl.gz"]
    assert archived(target)["delivery"].keys() == {long}
    assert young in past.rows()["delivery"]


def test_an_attempt_that_came_after_its_delivery_had_gone_follows(cli: Cli, past: Past, target: Path) -> None:
    late = past.attempt(4711, started_at=at(100, 3), late=1)
    young = past.attempt(4712, started_at=at(10, 3), late=1)
    cli.ok("archive", "--to", str(target))
    assert archived(target)["attempt"].keys() == {late}
    assert past.rows()["attempt"].keys() == {young}


# --- what stays -------------------------------------------------------------------------------------------------------


def test_what_is_owed_stays(cli: Cli, past: Past, target: Path) -> None:
    world = past.world
    account, server = world.account("acme"), world.server()
    kept = {"change": set[int](), "delivery": set[int]()}
    unplanned = past.change(server, days=200, planned=0)  # callback-run has not seen it
    past.change(server, days=199)
    kept["change"] |= {unplanned, past.change(server, days=198)}
    opened = world.callback(account, "https://acme.test/open")
    past.delivery(opened, days=150)
    kept["delivery"] |= {
        past.delivery(opened, days=149),
        past.delivery(opened, days=148, state="open", settled_at=None),
    }
    failed = world.callback(account, "https://acme.test/failed")
    past.delivery(failed, days=150)
    kept["delivery"] |= {
        past.delivery(failed, days=149, state="failed"),
        past.delivery(failed, days=148, state="failed"),
    }
    owes = {"callback_id": failed, "channel_id": 1, "region": "r", "region_code": "c", "wanted": 2, "told": 1}
    with world.database.write() as conn:
        conn.execute(schema.owed.insert().values(**owes, told_type="operational", owed_since_at=1))
    tables = [table for table in schema.metadata.sorted_tables if table.name.removeprefix(schema.PREFIX) not in ALL]
    before = {table.name: world.rows(table) for table in tables if table not in (schema.lease, schema.condition)}
    cli.ok("archive", "--to", str(target))
    live = past.rows()
    assert live["change"].keys() == kept["change"]
    assert live["delivery"].keys() == kept["delivery"]
    assert {row[1] for row in live["attempt"].values()} == kept["delivery"]
    assert {
        table.name: world.rows(table) for table in tables if table not in (schema.lease, schema.condition)
    } == before
    # Once all is told, the failed ones may go, but for the newest.
    with world.database.write() as conn:
        conn.execute(update(schema.owed).values(told=2))
    cli.ok("archive", "--to", str(target))
    assert len(past.rows()["delivery"]) == 3


ALL = {"attempt", "delivery", "change"}


def test_the_newest_of_each_server_and_callback_stays(cli: Cli, past: Past, target: Path) -> None:
    """By them a report knows the type at its beginning, incident-sync whose silence counts, and replay who failed."""
    world = past.world
    server, other = world.server(), world.server(channel=2)
    past.change(server, days=130)
    said = past.change(server, days=120)
    past.change(server, days=110, source="load")
    by_hand = past.change(server, days=100, source=None)
    kept = {said, by_hand, past.change(server, days=1, source=None), past.change(other, days=500)}
    gone = world.server(channel=3)
    past.change(gone, days=100)
    with world.database.write() as conn:
        conn.execute(delete(schema.monitor).where(schema.monitor.c.id == gone))
    callback = world.callback(world.account("acme"), "https://acme.test/")
    past.delivery(callback, days=120)
    failed = past.delivery(callback, days=110, state="failed", attempts=3)
    past.delivery(4711, days=100)  # of a callback that was removed
    cli.ok("archive", "--to", str(target))
    assert past.rows()["change"].keys() == kept
    assert past.rows()["delivery"].keys() == {failed}
    shown = cli.ok("delivery", "show", str(failed), "--json").json
    assert (shown["attempts"], len(shown["attempt_list"])) == (3, 3)


def test_a_removed_server_is_the_same_in_reports_of_what_is_kept(cli: Cli, past: Past, target: Path) -> None:
    """Its change that is old says what it was when the kept time begins, as for one that is still there."""
    world = past.world
    server = world.server(channel=3)
    gone = [past.change(server, days=days, to_type=to) for days, to in ((120, "warning"), (100, "critical"))]
    kept = [gone.pop(), past.change(server, days=10, from_type="critical", to_type="operational")]
    with world.database.write() as conn:
        conn.execute(delete(schema.monitor).where(schema.monitor.c.id == server))
    asked = ("report", "availability", "--since", date(30), "--until", date(5), "--json")
    before = cli.ok(*asked).json
    cli.ok("archive", "--to", str(target))
    assert past.rows()["change"].keys() == set(kept)
    after = cli.ok(*asked).json
    assert (after["servers"], after["regions"]) == (before["servers"], before["regions"])
    assert after["servers"][0]["critical_seconds"] == 20.5 * DAY / 1000
    cli.ok("archive", "--older-than", "1d", "--to", str(target))  # once all of it is old, all of it goes
    assert past.rows()["change"] == {}


def test_a_test_of_a_callback_makes_no_delivery_the_newest(cli: Cli, past: Past, target: Path) -> None:
    """It opens one for its request alone, and that goes again."""
    callback = past.world.callback(past.world.account("acme"), "https://acme.test/")
    failed = past.delivery(callback, days=110, state="failed")
    held = past.delivery(callback, days=0, state="open", attempts=0)
    cli.ok("archive", "--to", str(target))
    assert past.rows()["delivery"].keys() == {failed, held}


def test_what_is_told_is_the_same_with_and_without_the_archived(
    cli: Cli, past: Past, receiver: Receiver, target: Path
) -> None:
    """An outage that was told, all of it archived (but what is kept), then what customers hear: nothing twice, the
    recovery once, and a replay what it would."""
    world = past.world
    cli.env.update(LOCAL)
    server = world.server()
    account = world.account("acme")
    world.number(account, "+911")
    callback = world.callback(account, receiver.url("/hook"), raw_json=True)
    for kind in ("warning", "operational", "critical"):
        world.flag(server, kind)
        cli("callback-run").quiet()
    assert len(receiver.requests) == 3
    with world.database.write() as conn:
        for table, columns in ((schema.change, ["created_at"]), (schema.delivery, ["created_at", "settled_at"])):
            conn.execute(update(table).values({name: table.c[name] - 200 * DAY for name in columns}))
        conn.execute(update(schema.attempt).values(started_at=schema.attempt.c.started_at - 200 * DAY))
    cli.ok("archive", "--to", str(target))
    assert {table: len(rows) for table, rows in archived(target).items()} == {"attempt": 2, "delivery": 2, "change": 2}
    cli("callback-run").quiet()
    assert len(receiver.requests) == 3
    world.flag(server, "warning")
    world.flag(server, "critical")  # what was told last: no news
    cli("callback-run").quiet()
    assert len(receiver.requests) == 3
    world.flag(server, "operational")
    cli("callback-run").quiet()
    cli.ok("callback", "replay", "--callback", str(callback))
    cli("callback-run").quiet()
    types = [request.json["data"]["incidents"][0]["type"] for request in receiver.requests]
    assert types == ["warning", "operational", "critical", "operational", "operational"]
    ids = {request.header("webhook-id") for request in receiver.requests}
    assert len(ids) == 5


def test_a_new_callback_hears_what_changes_though_the_history_has_gone(
    cli: Cli, past: Past, receiver: Receiver, target: Path
) -> None:
    world = past.world
    server = world.server()
    for days in (120, 110, 100):
        past.change(server, days=days)
    cli.ok("archive", "--to", str(target))
    account = world.account("acme")
    world.number(account, "+911")
    world.callback(account, receiver.url("/hook"), raw_json=True)
    cli("callback-run", env=LOCAL).quiet()
    assert receiver.requests == []
    world.flag(server, "critical")
    cli("callback-run", env=LOCAL).quiet()
    assert len(receiver.requests) == 1


# --- --dry-run and --discard ------------------------------------------------------------------------------------------


def test_a_dry_run_says_how_much_and_writes_nothing(cli: Cli, past: Past, filled: Filled, target: Path) -> None:
    lines = cli.ok("archive", "--to", str(target), "--dry-run").out.splitlines()
    assert lines[0].split() == ["TABLE", "DAY", "ROWS", "FILE"]
    listed = [line.split() for line in lines[1:]]
    file = str(target / f"change-{date(100)}.jsonl.gz")
    assert ["infi_voice_monitor_change", date(100), "2", file] in listed
    assert ["infi_voice_monitor_attempt", date(120), "6", str(target / f"attempt-{date(120)}.jsonl.gz")] in listed
    assert len(listed) == 9
    assert past.rows() == filled.all
    assert not target.exists()
    cli.ok("archive", "--to", str(target))
    past.attempt(4711, started_at=at(120, 5))
    again = cli.ok("archive", "--to", str(target), "--dry-run").out.splitlines()
    assert [line.split()[1:] for line in again[1:]] == [
        [date(120), "1", str(target / f"attempt-{date(120)}.2.jsonl.gz")]
    ]
    discarding = cli.ok("archive", "--discard", "--dry-run").out.splitlines()
    assert [line.split() for line in discarding[1:]] == [["infi_voice_monitor_attempt", date(120), "1"]]


def test_discard_asks_and_drops(cli: Cli, past: Past, filled: Filled, target: Path) -> None:
    refused = cli("archive", "--discard")
    assert (refused.code, refused.out) == (2, "")
    assert "--yes" in refused.err
    assert cli("archive", "--discard", "--yes", "--to", str(target)).code == 2
    assert past.rows() == filled.all
    cli("archive", "--discard", "--yes").quiet()
    assert {table: len(rows) for table, rows in past.rows().items()} == {"change": 3, "delivery": 2, "attempt": 2}
    assert not (cli.home / "data").exists()


def test_discard_on_a_terminal_asks(make_cli: Any, sqlite_database: Store) -> None:
    cli = make_cli(sqlite_database.url)
    past = Past(World(sqlite_database))
    server = past.world.server()
    for days in (120, 110, 100):
        past.change(server, days=days)
    for answer, left in ((b"n\n", 3), (b"y\n", 1)):
        said = on_a_terminal(cli, "archive", "--discard", typed=answer)
        assert "for good, with no file of it? [y/N]" in said
        assert len(past.rows()["change"]) == left
    assert "2 rows are deleted" in said


def on_a_terminal(cli: Cli, *args: str, typed: bytes = b"") -> str:
    ours, theirs = pty.openpty()
    os.write(ours, typed)
    env = {**cli.environment(), "TERM": "xterm"}
    child = subprocess.Popen([str(SCRIPT), *args], stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=cli.home)
    os.close(theirs)
    said = b"".join(_read(ours))
    child.wait(60)
    os.close(ours)
    return said.decode()


def _read(handle: int) -> Iterator[bytes]:
    try:
        while data := os.read(handle, 65536):
            yield data
    except OSError:  # its other end is closed
        return


def test_a_terminal_sees_a_bar_and_how_much_it_was(make_cli: Any, sqlite_database: Store, target: Path) -> None:
    cli = make_cli(sqlite_database.url)
    Filled(Past(World(sqlite_database)))
    said = on_a_terminal(cli, "archive", "--to", str(target))
    assert "100%" in said
    assert f"35 rows have left the database, for {target}" in said
    assert "no rows that would go" in on_a_terminal(cli, "archive", "--dry-run", "--to", str(target))
    file = next(target.glob("delivery-*.gz"))
    assert "3 of 3 rows are back, the others were there" in on_a_terminal(cli, "archive", "restore", str(file))


# --- one at a time ----------------------------------------------------------------------------------------------------


def test_a_second_run_ends_at_once(cli: Cli, past: Past, filled: Filled, target: Path) -> None:
    with past.world.database.write() as conn:
        token = leases.take(conn, NAME, "another host", LENGTH_MS)
    assert token is not None
    cli("archive", "--to", str(target)).quiet()
    assert "archive.busy" in cli("-v", "archive", "--to", str(target)).err
    assert past.rows() == filled.all
    assert not target.exists()
    restoring = cli("archive", "restore", str(target / "x.jsonl.gz"))
    assert restoring.code == 2  # there is no such file; a good one has to wait: 75
    with past.world.database.write() as conn:
        leases.release(conn, NAME, token)
    cli.ok("archive", "--to", str(target))
    file = next(target.glob("delivery-*.gz"))
    with past.world.database.write() as conn:
        leases.take(conn, NAME, "another host", LENGTH_MS)
    assert cli("archive", "restore", str(file)).code == 75


def test_who_wakes_up_after_another_took_over_deletes_nothing(past: Past, filled: Filled, target: Path) -> None:
    """The lease is taken from it once its files are written."""
    database = past.world.database
    removed: list[int] = []

    def steal(_total: int) -> Any:
        with database.write() as conn:
            conn.execute(update(schema.lease).values(token="another's", lease_until=now_ms(conn) + 60_000))
        return run.nullcontext(removed.append)

    with pytest.raises(Busy):
        run.archive(database, midnight(90), target, steal)
    assert removed == []
    assert past.rows() == filled.all


# --- the files --------------------------------------------------------------------------------------------------------


def test_a_day_gets_further_files_and_none_is_overwritten(cli: Cli, past: Past, filled: Filled, target: Path) -> None:
    cli.ok("archive", "--to", str(target))
    first = {path: path.read_bytes() for path in target.iterdir()}
    for _ in range(2):
        past.attempt(4711, started_at=at(101, 5))
        cli.ok("archive", "--to", str(target))
    assert f"attempt-{date(101)}.3.jsonl.gz" in names(target)
    assert {path: path.read_bytes() for path in first} == first
    archived(target)


def test_rows_that_a_good_file_has_are_not_written_again(cli: Cli, past: Past, filled: Filled, target: Path) -> None:
    """As after a kill between the writing and the deleting, and after a restore."""
    cli.ok("archive", "--to", str(target))
    live, there = past.rows(), names(target)
    cli.ok("archive", "restore", *map(str, target.glob("*.gz")))
    assert past.rows() == filled.all
    cli.ok("archive", "--to", str(target))
    assert past.rows() == live
    assert names(target) == there


@pytest.mark.parametrize("damage", ["a byte", "cut off", "no checksum", "another checksum"])
def test_a_damaged_file_counts_for_nothing(damage: str, cli: Cli, past: Past, filled: Filled, target: Path) -> None:
    cli.ok("archive", "--to", str(target))
    path = target / f"delivery-{date(101)}.jsonl.gz"
    cli.ok("archive", "restore", str(path))
    before = past.rows()
    spoil(path, damage)
    spoiled = path.read_bytes()
    refused = cli("archive", "restore", str(path))
    assert (refused.code, refused.out) == (1, "")
    assert path.name in refused.err
    assert "Traceback" not in refused.err
    again = cli.ok("archive", "--to", str(target))
    assert again.err.startswith("archive.damaged file=")
    assert path.read_bytes() == spoiled
    second = target / f"delivery-{date(101)}.2.jsonl.gz"
    cli.ok("archive", "restore", str(second))
    assert past.rows() == before


def spoil(path: Path, damage: str) -> None:
    data, sum_ = path.read_bytes(), Path(f"{path}.sha256")
    match damage:
        case "a byte":
            path.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
        case "cut off":
            path.write_bytes(data[:-9])
        case "no checksum":
            sum_.unlink()
        case _:
            sum_.write_text("0" * 64)


def test_a_full_disk_is_said_and_nothing_is_deleted(
    cli: Cli, past: Past, filled: Filled, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on the size of files, which a kernel enforces as it does a full disk, in the middle of the writing."""
    if past.world.database.is_mysql is False:
        pytest.skip("the limit would hold for the SQLite database too")
    big = past.delivery(4711, days=110, attempts=0)
    past.attempt(big, started_at=at(110, 1), response=os.urandom(30_000).hex())
    before = past.rows()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        result = cli("archive", "--to", str(target))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result.code == 75
    assert result.out == ""
    assert result.err.startswith(f"monitor-cli: the archive {target}: File too large; nothing that was not yet")
    assert everything(past, target) == before
    assert not list(target.glob(".*")), "it left a part of a file behind"
    assert past.rows()["delivery"].keys() == before["delivery"].keys()  # attempts go first, and one of theirs could not
    cli("archive", "--to", str(target)).quiet()
    assert everything(past, target) == before


def test_a_directory_that_cannot_be_used_is_78(cli: Cli, past: Past, filled: Filled, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        for options in ([], ["--dry-run"]):
            result = cli("archive", "--to", str(directory), *options)
            if options and directory.name == "nowhere":
                continue  # a dry run only looks, and there is nothing to see
            assert (result.code, result.err.count("\n")) == (78, 2), (directory, result.err)
            assert str(directory) in result.err
    assert past.rows() == filled.all


def test_an_empty_directory_s_name_is_refused(cli: Cli, past: Past, filled: Filled) -> None:
    """As a script gives it whose variable is not set: not taken for the setting."""
    before = past.rows()
    result = cli("archive", "--to", "")
    assert (result.code, "it is empty" in result.err) == (2, True)
    assert past.rows() == before


def test_a_file_system_without_links_will_do(
    cli: Cli, past: Past, filled: Filled, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", refuse)
    cli.ok("archive", "--to", str(target))
    past.attempt(4711, started_at=at(101, 5))
    cli.ok("archive", "--to", str(target))
    assert f"attempt-{date(101)}.2.jsonl.gz" in names(target)
    archived(target)
    assert not list(target.glob(".*"))


def test_what_a_killed_run_left_is_removed_once_it_is_old(cli: Cli, past: Past, filled: Filled, target: Path) -> None:
    cli.ok("archive", "--to", str(target))
    theirs = [target / "notes.txt", target / ".notes.tmp", target / "x.sha256"]
    left = [
        target / f".change-{date(101)}.jsonl.gz.0123456789abcdef.tmp",
        target / f".change-{date(101)}.2.jsonl.gz.sha256.0123456789abcdef.tmp",
        target / f"change-{date(102)}.jsonl.gz.sha256",
    ]
    for path in [*theirs, *left]:
        path.touch()
    cli.ok("archive", "--to", str(target))
    assert all(path.exists() for path in left)  # they may be another run's, at this moment
    old = time.time() - 7200
    for path in target.iterdir():
        os.utime(path, (old, old))
    before = set(target.iterdir())
    cli.ok("archive", "--to", str(target))
    assert before - set(target.iterdir()) == set(left)


# --- restore ----------------------------------------------------------------------------------------------------------


def test_restore_gives_back_the_same_rows(cli: Cli, past: Past, filled: Filled, target: Path) -> None:
    cli.ok("archive", "--to", str(target))
    (target / "elsewhere").mkdir()
    for path in list(target.glob("*-*")):
        path.rename(target / "elsewhere" / path.name)
    paths = sorted((target / "elsewhere").glob("*.gz"))
    cli("archive", "restore", *map(str, paths)).quiet()
    assert past.rows() == filled.all
    cli("archive", "restore", *map(str, paths)).quiet()
    said = cli.ok("-v", "archive", "restore", str(paths[0])).err
    assert said == f"archive.restored file={paths[0]} rows=6 inserted=0\n"
    assert past.rows() == filled.all


def test_a_file_of_another_installation_is_refused_whole(cli: Cli, past: Past, filled: Filled, target: Path) -> None:
    cli.ok("archive", "--to", str(target))
    path = target / f"change-{date(101)}.jsonl.gz"
    rows = archived(target)["change"]
    key = json.loads(gzip.decompress(path.read_bytes()).splitlines()[-1])["id"]
    past.change(filled.server, days=5, id=key, incident_title="another")
    before = past.rows()
    result = cli("archive", "restore", str(path))
    assert result.code == 1
    assert f"the database has another infi_voice_monitor_change of the id {key}; nothing was restored" in result.err
    assert past.rows() == before
    assert key in rows


@pytest.mark.parametrize(
    "text", ["", "{}\n", "[1]\n", "no JSON\n", '{"id": 1, "callback_id": 2, "state": "done"}\n', '{"id": true}\n']
)
def test_a_file_that_archive_did_not_write_is_refused(
    text: str, make_cli: Any, sqlite_database: Store, tmp_path: Path
) -> None:
    cli = make_cli(sqlite_database.url)
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(text.encode()))
    Path(f"{path}.sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    result = cli("archive", "restore", str(path))
    if text:
        assert result.code == 1
        assert "x.jsonl.gz: line 1 " in result.err
    else:
        result.quiet()  # no rows are no fault
    path.write_bytes(b"no gzip")
    Path(f"{path}.sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    assert "cannot be unpacked" in cli("archive", "restore", str(path)).err
    assert cli("archive", "restore", str(tmp_path)).code == 2
    assert cli("archive", "restore", str(tmp_path / "absent")).code == 2


@pytest.mark.parametrize(
    ("table", "changed", "words"),
    [
        ("change", {"planned": 0}, "still to be told"),
        ("delivery", {"state": "open", "open_callback_id": 1, "due_at": 0}, "still to be told"),
        ("delivery", {"open_callback_id": 1}, "still to be told"),
        ("change", {"created_at": None}, "lacks a value"),
        ("change", {"created_at": 2**63}, "values that no row has"),
        ("change", {"name": "\ud800"}, "values that no row has"),
        ("attempt", {"started_at": 1.5}, "values that no row has"),
    ],
)
def test_a_row_that_archive_never_takes_is_not_put_back(
    table: str, changed: dict[str, Any], words: str, make_cli: Any, sqlite_database: Store, tmp_path: Path
) -> None:
    """A checksum is no signature: what was written by hand is not told to customers."""
    cli, past = make_cli(sqlite_database.url), Past(World(sqlite_database))
    callback = past.world.callback(past.world.account("acme"), "https://acme.test/")
    for days in (100, 90):
        past.delivery(callback, days=days)
        past.change(7, days=days)
    cli.ok("archive", "--older-than", "10d", "--to", str(tmp_path))
    before, path = past.rows(), tmp_path / "x.jsonl.gz"
    row = next(iter(archived(tmp_path)[table].values()))
    path.write_bytes(gzip.compress(json.dumps(row).encode() + b"\n" + json.dumps({**row, **changed}).encode()))
    Path(f"{path}.sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    result = cli("archive", "restore", str(path))
    assert result.code == 1
    assert "x.jsonl.gz: line 2 " in result.err
    assert words in result.err
    assert past.rows() == before


def test_a_line_without_an_end_takes_no_memory(make_cli: Any, sqlite_database: Store, tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * (files.LONGEST_LINE + 1)))
    Path(f"{path}.sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    result = make_cli(sqlite_database.url)("archive", "restore", str(path))
    assert result.code == 1
    assert "bomb.jsonl.gz: a line has more than 16777216 bytes" in result.err


def test_a_file_from_before_a_column_was_there_goes_back(make_cli: Any, sqlite_database: Store, tmp_path: Path) -> None:
    cli, past = make_cli(sqlite_database.url), Past(World(sqlite_database))
    server = past.world.server()
    old = past.change(server, days=100, incident_link=None)
    past.change(server, days=99)
    whole = past.rows()
    cli.ok("archive", "--to", str(tmp_path))
    (path,) = tmp_path.glob("*.gz")
    row = archived(tmp_path)["change"][old]
    del row["incident_link"]
    path.write_bytes(gzip.compress(json.dumps(row).encode() + b"\n"))
    Path(f"{path}.sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    cli.ok("archive", "restore", str(path))
    assert past.rows() == whole


def test_options_of_the_run_are_not_for_restore(cli: Cli) -> None:
    result = cli("archive", "--dry-run", "restore", "x")
    assert result.code == 2
    assert "--dry-run is not for restore" in result.err


# --- how it works -----------------------------------------------------------------------------------------------------


def test_rows_go_by_pages_and_days_are_counted_by_blocks(
    past: Past, filled: Filled, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "PAGE", 2)
    monkeypatch.setattr(archivable.survey, "__defaults__", (3,))
    pauses: list[float] = []
    done = run.archive(past.world.database, midnight(90), target, sleep=pauses.append)
    assert done.rows == 35
    assert len(pauses) >= 18
    assert everything(past, target) == filled.all


# --- the docs ---------------------------------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parent.parent


def test_no_page_goes_through_the_whole_table(sqlite_database: Store) -> None:
    """SQLite took the index of `planned` for the history: all of it, for each 500 rows."""
    asked: list[tuple[str, Any]] = []
    with sqlite_database.database.read() as conn:
        event.listen(conn, "before_cursor_execute", lambda _c, _cur, sql, values, *_: asked.append((sql, values)))
        for table in archivable.TABLES:
            archivable.page(conn, archivable.Day(table, 0, 1, 1, 9), DAY, 0, 500)
            archivable.remove(conn, table, DAY, {1: (1,)})
        pages = asked[:]
        plans = [[row[3] for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)] for sql, values in pages]
    assert len(plans) == 2 * len(archivable.TABLES)
    for plan in plans:
        assert "rowid" in plan[0], plan
        assert not any("TEMP B-TREE" in step for step in plan), plan


def test_what_the_page_says_to_type_works(make_cli: Any, sqlite_database: Store, tmp_path: Path) -> None:
    section = (ROOT / "docs" / "operations.md").read_text("utf-8").partition("## Archiving what is old")[2]
    typed = [call for command in commands(section.partition("\n## ")[0]) for call in calls(command.text)]
    assert len(typed) == 6
    cli, place = make_cli(sqlite_database.url), str(tmp_path / "archive")
    Filled(Past(World(sqlite_database)))
    for call in typed:
        if "restore" in call:
            call = ["archive", "restore", *map(str, sorted(Path(place).glob("*.gz")))]
        cli.ok(*(word.replace("/mnt/archive/monitor", place) for word in call), env={"MONITOR_ARCHIVE_DIR": place})


def test_the_line_of_the_crontab_works_from_cron(make_cli: Any, sqlite_database: Store, tmp_path: Path) -> None:
    (line,) = re.findall(r"^#\d+ \d+ \* \* \* (.*)$", (ROOT / "crontab.example").read_text("utf-8"), re.MULTILINE)
    cli = make_cli(sqlite_database.url)
    Filled(Past(World(sqlite_database)))
    env = {**cli.environment(), "PATH": f"{SCRIPT.parent}:/usr/bin:/bin", "MONITOR_ARCHIVE_DIR": str(tmp_path / "a")}
    done = subprocess.run(["/bin/sh", "-c", line], env=env, cwd=cli.home, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(names(tmp_path / "a")) == 9
