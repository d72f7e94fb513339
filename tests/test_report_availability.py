"""report availability on a made history equals figures computed by hand: over month borders, time zones, and what began
before the window, on each store and in each format."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import delete, update

from monitor_cli import schema
from monitor_cli.cli import report_output
from monitor_cli.reports import availability
from tests.support.cli import Cli
from tests.support.world import World

HOUR = 3600.0


def millis(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def made(world: World) -> dict[str, int]:
    """Two servers of karnataka whose troubles overlap, one of kerala that came to be in October, one without history,
    one that was removed, and one that was never told."""
    old = {"created": millis("2020-01-01") // 1000, "modified": millis("2020-01-01") // 1000}
    ids = {
        "a": world.server(channel=1, name="a", **old),
        "b": world.server(channel=2, name="b", **old),
        "c": world.server(
            channel=3,
            name="c",
            region="kerala",
            region_code="KL-IN",
            created=millis("2024-10-21T18:30") // 1000,
            modified=millis("2024-10-21T18:30") // 1000,
        ),
        "d": world.server(channel=4, name="d", region="kerala", region_code="KL-IN", **old),
        "e": world.server(channel=5, name="e", region="delhi", region_code="DL-IN", **old),
        "f": world.server(channel=6, name="f", region="", region_code=None, final_status=None, **old),
    }
    history = [
        ("2024-09-29T00:00", "a", "critical"),
        ("2024-10-01T12:30", "b", "warning"),
        ("2024-10-01T18:30", "a", "operational"),
        ("2024-10-02T00:30", "b", "operational"),
        ("2024-10-10T00:00", "e", "critical"),
        ("2024-10-10T06:00", "e", "warning"),
        ("2024-10-25T00:00", "c", "critical"),
        ("2024-10-25T00:03", "c", "operational"),
        ("2024-10-31T18:00", "a", "warning"),
        ("2024-11-01T00:00", "a", "operational"),
    ]
    for at, name, kind in history:
        world.flag(ids[name], kind, created_at=millis(at), planned=1)
        with world.database.write() as conn:
            m = schema.monitor
            conn.execute(m.update().where(m.c.id == ids[name]).values(modified=millis(at) // 1000))
    with world.database.write() as conn:
        conn.execute(delete(schema.monitor).where(schema.monitor.c.id == ids["e"]))
    return ids


def figures(total: float, warning: float = 0, critical: float = 0, **more: Any) -> dict[str, Any]:
    """A row's figures from its time in seconds."""
    operational = total - warning - critical
    return {
        "operational_seconds": operational,
        "warning_seconds": warning,
        "critical_seconds": critical,
        "unknown_seconds": 0,
        "operational_percent": pytest.approx(operational * 100 / total, abs=2e-6),
        "warning_percent": pytest.approx(warning * 100 / total, abs=2e-6),
        "critical_percent": pytest.approx(critical * 100 / total, abs=2e-6),
        "incidents": 0,
        "mttr_seconds": None,
        "longest_seconds": None,
        "open": False,
        **more,
    }


def one(mttr: float) -> dict[str, Any]:
    return {"incidents": 1, "mttr_seconds": mttr, "longest_seconds": mttr}


OCTOBER = {
    # By the clock in India October began at 18:30 UTC on 30 September.
    "Asia/Kolkata": {
        "total": 31 * 24 * HOUR,
        "a": (0.5 * HOUR, 24 * HOUR, {"incidents": 2, "mttr_seconds": 24 * HOUR, "longest_seconds": 24 * HOUR}),
        "region": (6.5 * HOUR, 24 * HOUR, {"incidents": 2, "mttr_seconds": 30 * HOUR, "longest_seconds": 30 * HOUR}),
        "c": 10 * 24 * HOUR,
    },
    "UTC": {
        "total": 31 * 24 * HOUR,
        "a": (6 * HOUR, 18.5 * HOUR, {"incidents": 2, "mttr_seconds": 18.5 * HOUR, "longest_seconds": 18.5 * HOUR}),
        "region": (
            12 * HOUR,
            18.5 * HOUR,
            {"incidents": 2, "mttr_seconds": 24.5 * HOUR, "longest_seconds": 24.5 * HOUR},
        ),
        "c": (10 * 24 + 5.5) * HOUR,
    },
    # From 22:00 UTC until 23:00 UTC: an hour more, for the clock went back.
    "Europe/Berlin": {
        "total": (31 * 24 + 1) * HOUR,
        "a": (5 * HOUR, 20.5 * HOUR, {"incidents": 2, "mttr_seconds": 20.5 * HOUR, "longest_seconds": 20.5 * HOUR}),
        "region": (
            11 * HOUR,
            20.5 * HOUR,
            {"incidents": 2, "mttr_seconds": 26.5 * HOUR, "longest_seconds": 26.5 * HOUR},
        ),
        "c": (10 * 24 + 4.5) * HOUR,
    },
}


@pytest.mark.parametrize("zone", OCTOBER)
def test_october_by_three_clocks(cli: Cli, world: World, zone: str) -> None:
    ids = made(world)
    shown = cli.ok("report", "availability", "--month", "2024-10", "--timezone", zone, "--json").json
    expected = OCTOBER[zone]
    total: float = expected["total"]
    karnataka, kerala, delhi, nowhere = (
        next(row for row in shown["regions"] if row["region_code"] == code) for code in ("KA-IN", "KL-IN", "DL-IN", "")
    )
    warning, critical, more = expected["region"]
    place = {"region": "karnataka", "region_code": "KA-IN", "servers": 2}
    assert karnataka == {**place, **figures(total, warning, critical, open=True, **more)}
    place = {"region": "kerala", "region_code": "KL-IN", "servers": 2}
    assert kerala == {**place, **figures(total, 0, 180, **one(180))}
    place = {"region": "delhi", "region_code": "DL-IN", "servers": 1}
    lone = {"incidents": 1, "longest_seconds": 6 * HOUR}  # nobody knows when it was well again
    assert delhi == {**place, **figures(6 * HOUR, 0, 6 * HOUR, **lone)}
    assert (nowhere["unknown_seconds"], nowhere["operational_seconds"], nowhere["operational_percent"]) == (
        total,
        0,
        None,
    )

    servers = {row["name"]: row for row in shown["servers"]}
    assert [row["id"] for row in shown["servers"]] == [ids[name] for name in "abcdfe"]  # the removed one last
    warning, critical, more = expected["a"]
    head = {"id": ids["a"], "server_id": 1, "name": "a", "channel_id": 1, "region": "karnataka", "region_code": "KA-IN"}
    assert servers["a"] == {**head, "removed": False, **figures(total, warning, critical, open=True, **more)}
    assert servers["b"] | figures(total, 12 * HOUR, 0, **one(12 * HOUR)) == servers["b"]
    assert servers["c"] | figures(expected["c"], 0, 180, **one(180)) == servers["c"]
    assert servers["d"] | figures(total) == servers["d"]
    assert servers["e"]["removed"] is True
    assert servers["f"]["unknown_seconds"] == total


def test_months_and_their_days_add_up(cli: Cli, world: World) -> None:
    """September to November as one window is what its three months are together; so are days."""
    made(world)

    def seconds(*window: str) -> dict[str, dict[str, float]]:
        shown = cli.ok("report", "availability", *window, "--timezone", "Asia/Kolkata", "--by", "region", "--json").json
        keys = ("operational_seconds", "warning_seconds", "critical_seconds", "unknown_seconds")
        return {row["region_code"]: {key: row[key] for key in keys} for row in shown["regions"]}

    def added(windows: list[tuple[str, ...]]) -> dict[str, dict[str, float]]:
        total: dict[str, dict[str, float]] = {}
        for window in windows:
            for code, figures in seconds(*window).items():
                known = total.setdefault(code, dict.fromkeys(figures, 0.0))
                for key, value in figures.items():
                    known[key] += value
        return total

    months = [("--month", f"2024-{n:02}") for n in (9, 10, 11)]
    assert added(months) == seconds("--since", "2024-09-01", "--until", "2024-12-01")
    days = [("--since", f"2024-10-{n:02}", "--until", f"2024-10-{n + 1:02}") for n in range(1, 8)]
    assert added(days) == seconds("--since", "2024-10-01", "--until", "2024-10-08")


def test_a_window_before_the_oldest_history_says_so(cli: Cli, world: World) -> None:
    made(world)
    words = "the history is kept from 2024-09-29 00:00:00+00:00 on only, and the window begins before that."
    shown = cli.ok("report", "availability", "--month", "2024-09", "--json")
    assert shown.err == ""
    (note,) = shown.json["notes"]
    assert note.startswith(words)
    for form in ("table", "csv"):
        assert cli.ok("report", "availability", "--month", "2024-09", "--format", form).err.startswith(f"note: {words}")
    assert cli.ok("report", "availability", "--month", "2024-10").err == ""
    # Before its oldest change a is what that one changed from.
    row = next(row for row in shown.json["servers"] if row["name"] == "a")
    assert (row["operational_seconds"], row["critical_seconds"]) == (28 * 24 * HOUR, 48 * HOUR)


def test_archived_changes_are_missed_and_what_follows_is_right(cli: Cli, world: World) -> None:
    ids = made(world)
    with world.database.write() as conn:
        conn.execute(delete(schema.change).where(schema.change.c.created_at < millis("2024-10-01T15:00")))
    shown = cli.ok("report", "availability", "--month", "2024-10", "--json").json
    assert shown["notes"][0].startswith("the history is kept from 2024-10-01 18:30:00+00:00 on only")
    row = next(row for row in shown["servers"] if row["id"] == ids["a"])
    assert row["critical_seconds"] == 18.5 * HOUR  # its next change says what it was before


def test_after_archive_the_types_are_right_and_older_windows_have_a_note(cli: Cli, world: World) -> None:
    """The real command: it leaves each server's newest old change, which says what the server was, and no more."""
    made(world)
    before = cli.ok("report", "availability", "--since", "2024-10-26", "--until", "2024-11-30", "--json").json
    days = int((datetime.now(UTC) - datetime(2024, 10, 26, tzinfo=UTC)).days)
    cli.ok("archive", "--older-than", f"{days}d", "--discard", "--yes")
    left = len(world.changes())
    assert 2 < left < 10
    after = cli.ok("report", "availability", "--since", "2024-10-26", "--until", "2024-11-30", "--json").json
    assert [row for row in after["servers"] if row["id"] != 5] == [row for row in before["servers"] if row["id"] != 5]
    assert after["regions"] == before["regions"]
    shown = cli.ok("report", "availability", "--month", "2024-10", "--json").json
    assert shown["notes"][0].startswith("the history is kept from 2024-10-2")
    shown = cli.ok("report", "availability", "--month", "2024-11", "--json").json
    assert shown["notes"] == []


def test_only_what_carries_an_accounts_numbers(cli: Cli, world: World) -> None:
    made(world)
    acme = world.account("acme")
    world.number(acme, "+911", channel=2)
    world.number(acme, "+912", channel=5)  # a server that was removed
    shown = cli.ok("report", "availability", "--month", "2024-10", "--account", "acme", "--json").json
    assert shown["account"] == "acme"
    assert [row["name"] for row in shown["servers"]] == ["b", "e"]
    (karnataka,) = (row for row in shown["regions"] if row["region"] == "karnataka")
    assert (karnataka["warning_seconds"], karnataka["critical_seconds"]) == (12 * HOUR, 0)


def test_what_another_program_wrote_counts_from_modified_on(cli: Cli, world: World) -> None:
    ids = made(world)
    m = schema.monitor
    with world.database.write() as conn:
        conn.execute(
            m.update()
            .where(m.c.id == ids["b"])
            .values(final_status="CRITICAL", modified=millis("2024-10-30T00:00") // 1000)
        )
    shown = cli.ok("report", "availability", "--month", "2024-10", "--json").json
    assert "1 server not as the history says: another program" in shown["notes"][0]
    row = next(row for row in shown["servers"] if row["id"] == ids["b"])
    assert (row["warning_seconds"], row["critical_seconds"], row["open"]) == (12 * HOUR, 48 * HOUR, True)


def test_a_server_that_moved_takes_its_past_with_it_no_further(cli: Cli, world: World) -> None:
    ids = made(world)
    cli.ok("server", "edit", str(ids["b"]), "--region", "goa", "--region-code", "GA-IN")
    shown = cli.ok("report", "availability", "--month", "2024-10", "--json").json
    assert "goa" not in {row["region"] for row in shown["regions"]}
    (karnataka,) = (row for row in shown["regions"] if row["region"] == "karnataka")
    assert karnataka["servers"] == 2
    shown = cli.ok("report", "availability", "--since", "2024-10-01", "--json").json
    assert {"goa", "karnataka"} <= {row["region"] for row in shown["regions"]}


def test_by_region_or_server_alone(cli: Cli, world: World) -> None:
    made(world)
    for by, there, not_there in (("region", "regions", "servers"), ("server", "servers", "regions")):
        shown = cli.ok("report", "availability", "--month", "2024-10", "--by", by, "--json").json
        assert shown[there]
        assert not_there not in shown


def test_the_table_is_for_people(cli: Cli, world: World) -> None:
    made(world)
    out = cli.ok("report", "availability", "--month", "2024-10", "--timezone", "Asia/Kolkata").out
    lines = out.splitlines()
    assert lines[0] == "availability from 2024-10-01 00:00:00+05:30 to 2024-11-01 00:00:00+05:30 (Asia/Kolkata)"
    (karnataka,) = (line for line in lines if line.startswith("karnataka"))
    assert karnataka.split() == [
        *("karnataka", "KA-IN", "2", "95.900", "%", "6", "h", "30", "min", "1", "d", "00", "h", "2"),
        *("1", "d", "06", "h", "1", "d", "06", "h"),
    ]
    assert len({len(line) for line in lines if "%" in line and line.startswith("k")}) == 1  # figures are aligned


def test_csv_is_for_a_spreadsheet_and_starts_no_formula(cli: Cli, world: World) -> None:
    made(world)
    world.server(name="=HYPERLINK(1)", region='@SUM(A1), "x"', region_code="-1", created=1, modified=1, channel=9)
    out = cli.ok("report", "availability", "--month", "2024-10", "--format", "csv").out
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == ["part", *dict.fromkeys([*availability.REGION_KEYS, *availability.SERVER_KEYS])]
    assert {row["part"] for row in rows} == {"regions", "servers"}
    odd = rows[-2]
    assert (odd["name"], odd["region"], odd["region_code"]) == ("'=HYPERLINK(1)", '\'@SUM(A1), "x"', "'-1")
    assert (odd["operational_percent"], odd["removed"], odd["mttr_seconds"]) == ("100.0", "no", "")


def test_a_row_that_was_written_without_modified_is_noted(cli: Cli, world: World) -> None:
    """Another program need not set `modified`: status shows its type, and the report says why it does not."""
    server = world.server(name="s", created=1, modified=1)
    world.flag(server, "warning", created_at=millis("2024-10-10"), planned=1)
    with world.database.write() as conn:
        conn.execute(update(schema.monitor).values(final_status="critical", modified=1))
    shown = cli.ok("report", "availability", "--month", "2024-10", "--json").json
    assert any("1 server not as the history says, and the column modified" in note for note in shown["notes"])
    assert shown["servers"][0]["critical_seconds"] == 0


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_what_starts_a_formula_is_made_text(start: str) -> None:
    assert report_output._harmless(f"{start}1") == f"'{start}1"
    assert report_output._harmless(f"1{start}1") == f"1{start}1"


def test_a_moment_of_trouble_is_never_100_percent(cli: Cli, world: World) -> None:
    server = world.server(name="s", created=1, modified=1)
    for at, kind in (("2024-10-10T00:00:00.000", "critical"), ("2024-10-10T00:00:00.001", "operational")):
        world.flag(server, kind, created_at=millis(at), planned=1)
    (row,) = cli.ok("report", "availability", "--month", "2024-10", "--by", "server", "--json").json["servers"]
    assert row["operational_percent"] == 99.999999
    assert row["critical_seconds"] == 0.001
    assert "99.999 %" in cli.ok("report", "availability", "--month", "2024-10").out
