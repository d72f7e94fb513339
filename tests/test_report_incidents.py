"""report incidents: what happened when, whom it concerned, and who was told how soon, through the real commands."""

from __future__ import annotations

import csv
import io
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import delete

from monitor_cli import schema
from tests.support.cli import Cli
from tests.support.http import Receiver, StatusPage
from tests.support.world import World
from tests.test_callback_run import LOCAL
from tests.test_report_availability import made, millis


def october(cli: Cli, *args: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = cli.ok("report", "incidents", "--month", "2024-10", "--json", *args).json["incidents"]
    return rows


def test_each_time_in_which_a_region_was_not_operational(cli: Cli, world: World) -> None:
    made(world)
    rows = october(cli)
    assert [(row["region"], row["from"], row["to"], row["worst"], row["servers"]) for row in rows] == [
        ("karnataka", "2024-10-01T00:00:00.000Z", "2024-10-02T00:30:00.000Z", "critical", 2),
        ("delhi", "2024-10-10T00:00:00.000Z", "2024-10-10T06:00:00.000Z", "critical", 1),
        ("kerala", "2024-10-25T00:00:00.000Z", "2024-10-25T00:03:00.000Z", "critical", 1),
        ("karnataka", "2024-10-31T18:00:00.000Z", None, "warning", 1),
    ]
    assert [row["began_before"] for row in rows] == [True, False, False, False]
    assert [row["open"] for row in rows] == [False, False, False, True]
    assert [row["duration_seconds"] for row in rows] == [24.5 * 3600, 6 * 3600, 180, 6 * 3600]


def test_or_of_a_server(cli: Cli, world: World) -> None:
    ids = made(world)
    rows = october(cli, "--by", "server")
    assert [(row["name"], row["id"], row["worst"], row["duration_seconds"]) for row in rows] == [
        ("a", ids["a"], "critical", 18.5 * 3600),
        ("b", ids["b"], "warning", 12 * 3600),
        ("e", ids["e"], "critical", 6 * 3600),
        ("c", ids["c"], "critical", 180),
        ("a", ids["a"], "warning", 6 * 3600),
    ]


def test_what_sources_said_is_told_once_each(cli: Cli, world: World) -> None:
    server = world.server(created=1, modified=1)
    said = [("critical", "Trunk failure", "https://status.example/1"), ("warning", "Trunk failure", None)]
    for n, (kind, title, link) in enumerate([*said, said[0], ("operational", "Resolved", None)]):
        at = millis("2024-10-05") + n * 60_000
        world.flag(server, kind, created_at=at, incident_title=title, incident_link=link, planned=1, source="carrier")
    (row,) = october(cli)
    first = {"source": "carrier", "word": "major_outage", "title": "Trunk failure", "link": "https://status.example/1"}
    assert row["reasons"] == [first, {**first, "word": "partial_outage", "link": None}]
    out = cli.ok("report", "incidents", "--month", "2024-10", "--format", "csv").out
    (line,) = csv.DictReader(io.StringIO(out))
    assert (line["title"], line["word"], line["link"]) == (
        "Trunk failure",
        "major_outage; partial_outage",
        "https://status.example/1",
    )
    assert line["from"] == "2024-10-05T00:00:00.000+00:00"


def test_what_was_said_before_the_window_is_said_in_it(cli: Cli, world: World) -> None:
    server = world.server(created=1, modified=1)
    world.flag(server, "critical", created_at=millis("2024-09-05"), incident_title="Since September", planned=1)
    world.flag(server, "operational", created_at=millis("2024-10-05"), planned=1)
    (row,) = october(cli)
    assert [reason["title"] for reason in row["reasons"]] == ["Since September"]


def test_whom_it_concerned(cli: Cli, world: World) -> None:
    made(world)
    acme, globex = world.account("acme"), world.account("globex")
    world.number(acme, "+911", "+912", channel=1)
    world.number(acme, "+913", channel=2)
    world.number(globex, "+911", channel=2)
    before, after = millis("2024-01-01"), millis("2024-10-20")
    world.callback(acme, "http://127.0.0.1:9/1", created_at=before)
    world.callback(globex, "http://127.0.0.1:9/2", created_at=after)
    rows = [row for row in october(cli) if row["region"] == "karnataka"]
    assert [(row["numbers"], row["accounts"], row["callbacks"], row["told"]) for row in rows] == [
        (4, 2, 1, 0),  # globex' callback came later
        (2, 1, 1, 0),
    ]
    rows = [row for row in october(cli, "--account", "globex") if row["region"] == "karnataka"]
    assert [(row["numbers"], row["accounts"], row["worst"]) for row in rows] == [(1, 1, "warning")]


def test_who_was_told_how_soon_by_the_real_commands(
    cli: Cli, world: World, receiver: Receiver, status_page: StatusPage
) -> None:
    world.server(channel=1, tag="gw1", created=1, modified=1)
    acme, globex, quiet = (world.account(name) for name in ("acme", "globex", "quiet"))
    for n, account in enumerate((acme, globex, quiet)):
        world.number(account, f"+91{n}", channel=1 if account != quiet else 2)
        world.callback(account, receiver.url(f"/{n}"), raw_json=True)
    receiver.answer("/1", 500, 204)  # globex answers at the second attempt

    def sync(word: str) -> None:
        parts = [{"id": "gw1", "name": "Gateway", "status": word, "group": False, "group_id": None}]
        status_page.serve("/api/v2/summary.json", {"page": {"id": "p"}, "components": parts, "incidents": []})
        cli.ok("incident-sync", "--url", status_page.url("/"))

    env = {**LOCAL, "MONITOR_RETRY_SCHEDULE": "0.4", "MONITOR_MAX_SECONDS": "5"}
    begun = time.time()
    sync("major_outage")
    time.sleep(0.3)  # until cron starts callback-run: that is waited for too
    cli.ok("callback-run", env=env)
    sync("operational")
    passed = time.time() - begun
    (row,) = cli.ok("report", "incidents", "--since", "1h", "--json").json["incidents"]
    assert (row["numbers"], row["accounts"], row["callbacks"], row["told"]) == (2, 2, 2, 2)
    assert 0.3 <= row["told_p50_seconds"] < row["told_max_seconds"] <= passed
    assert row["told_max_seconds"] >= 0.3 + 0.3  # the schedule has ±20 %
    assert row["to"] is not None
    out = cli.ok("report", "incidents", "--since", "1h").out
    assert "2 of 2" in out


def test_an_open_one_and_an_empty_report(cli: Cli, world: World) -> None:
    shown = cli.ok("report", "incidents", "--since", "1h", "--json").json
    assert (shown["incidents"], shown["notes"]) == (
        [],
        ["the history is empty, and the window begins before that. " + AFTER],
    )
    world.flag(world.server(created=1), "warning")
    out = cli.ok("report", "incidents", "--since", "1h").out
    assert "open" in out.splitlines()[-1].split()
    assert datetime.now(UTC).strftime("%Y-%m-%d") in out


AFTER = "Before its oldest change that is kept, a server counts as what that change changed from."


@pytest.mark.parametrize("by", ["region", "server"])
def test_servers_that_were_removed_altogether(cli: Cli, world: World, by: str) -> None:
    made(world)
    with world.database.write() as conn:
        conn.execute(delete(schema.monitor))
    rows = october(cli, "--by", by)
    assert {row["region"] for row in rows} == {"karnataka", "kerala", "delhi"}
