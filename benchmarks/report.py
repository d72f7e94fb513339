"""The reports on a history of 1 000 000 changes, and on 1 000 000 attempts: seconds and memory, on MariaDB and SQLite.

    python -m benchmarks.report                     # 1 000 000 changes of 10 000 servers in 20 regions over 90 days
    python -m benchmarks.report --changes 100000 --attempts 100000 --rounds 1

The attempts are of 910 000 deliveries of 2 000 callbacks, of 1 000 accounts, over the same days: one in ten was made in
vain and again, one in a hundred failed.

The command runs as a process, as an engineer types it; its memory is what the kernel says was its peak (and what a
process takes on an empty database). What it answers is compared with sums that the filling kept.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from monitor_cli import schema  # noqa: E402
from monitor_cli.db import Database  # noqa: E402
from monitor_cli.dialect import insert_rows  # noqa: E402
from monitor_cli.migrate import upgrade  # noqa: E402
from monitor_cli.store.history import record  # noqa: E402
from tests.support.mariadb import MariaDB  # noqa: E402

DAY = 86_400_000
BEGIN = 1_760_000_000_000  # milliseconds; the history has 90 days from here
DAYS, REGIONS = 90, 20
SINCE, UNTIL = BEGIN + 10 * DAY, BEGIN + DAYS * DAY
WORDS = ("operational", "warning", "critical")
COMMANDS = {
    "availability --json": ("availability", "--json"),
    "availability --by region": ("availability", "--by", "region"),
    "availability --html": ("availability", "--html", "page.html"),
    "incidents --json": ("incidents", "--json"),
    "deliveries --json": ("deliveries", "--json"),
    "deliveries --html": ("deliveries", "--html", "page.html"),
}
ACCOUNTS, CALLBACKS = 1_000, 2_000


# A small process between: one that is started straight from here would begin with this one's peak.
_LAUNCHER = """
import resource, subprocess, sys, time
started = time.perf_counter()
subprocess.run(sys.argv[1:], check=True)
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
"""


@dataclass
class Filled:
    """What was filled in: the time within the window that servers were operational, in all, and their incidents."""

    operational: int = 0
    incidents: int = 0
    attempts: int = 0
    succeeded: int = 0
    deliveries: int = 0
    failed: int = 0
    since: list[int] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)


def fill(database: Database, changes: int, servers: int) -> Filled:
    """A history in which servers are mostly well: each change is the begin, the worsening or the end of trouble."""
    rng = random.Random(7)
    filled = Filled(since=[SINCE] * servers, kind=[0] * servers)
    columns = ("id", "server_id", "name", "server_tag", "channel_id", "region", "region_code", "created", "modified")
    for first in range(0, servers, 5000):
        rows = [
            (n + 1, n % 30_000, f"gateway {n}", f"tag{n}", n, f"region {n % REGIONS}", f"R{n % REGIONS}", 1, 1)
            for n in range(first, min(first + 5000, servers))
        ]
        with database.write() as conn:
            insert_rows(conn, schema.monitor, columns, rows)
    at, number = BEGIN, 0
    while number < changes:
        with database.write() as conn:
            block = min(5000, changes - number)
            at_rows = []
            for _ in range(block):
                at += DAYS * DAY // changes
                at_rows.append(_change(rng, filled, servers, at))
            record(conn, at_rows)
        number += block
    for n, kind in enumerate(filled.kind):
        filled.operational += (UNTIL - filled.since[n]) if kind == 0 else 0
        filled.incidents += kind > 0
    if database.is_mysql:
        with database.read() as conn:
            conn.exec_driver_sql(f"ANALYZE TABLE {schema.change.name}, {schema.monitor.name}").all()
    return filled


def fill_deliveries(database: Database, attempts: int, filled: Filled) -> None:
    """Deliveries that took a second or two, their retries five seconds more."""
    rng = random.Random(11)
    names = (
        "account_id",
        "title",
        "name",
        "url",
        "destination",
        "headers",
        "raw_json",
        "active",
        "hears_from",
        "secret",
    )
    with database.write() as conn:
        accounts = [(n, f"account {n}", f"{n:064x}") for n in range(1, ACCOUNTS + 1)]
        insert_rows(conn, schema.account, ("id", "name", "api_key_sha256"), accounts)
        rows = [
            (n % ACCOUNTS + 1, "t", f"n{n}", "https://c.test/", "c.test:443", "{}", 0, 1, 0, "x", BEGIN, BEGIN)
            for n in range(CALLBACKS)
        ]
        insert_rows(conn, schema.callback, (*names, "created_at", "modified_at"), rows)
    made, number = 0, 0
    while made < attempts:
        deliveries, tries = [], []
        while len(tries) < min(5000, attempts - made):
            number += 1
            at = BEGIN + made * (DAYS * DAY // attempts) + len(tries) * (DAYS * DAY // attempts)
            failed = number % 100 == 0
            waits = (0, 5000) if number % 10 == 0 else (0,)
            for wait in waits:
                status = 503 if failed or wait != waits[-1] else 200
                tries.append((number, at + 1000 + wait, rng.randrange(40, 2000), status, "ok", f"msg_{number}"))
                if SINCE <= at + 1000 + wait < UNTIL:
                    filled.attempts += 1
                    filled.succeeded += status == 200
            state = "failed" if failed else "done"
            deliveries.append((number, number % CALLBACKS + 1, state, len(waits), at, at + 500, at + 9000))
            if SINCE <= at + 500 < UNTIL:
                filled.deliveries += 1
                filled.failed += failed
        with database.write() as conn:
            columns = ("id", "callback_id", "state", "attempts", "changed_at", "created_at", "settled_at")
            insert_rows(conn, schema.delivery, columns, deliveries)
            columns = ("delivery_id", "started_at", "duration_ms", "http_status", "response", "webhook_id")
            insert_rows(conn, schema.attempt, columns, tries)
        made += len(tries)
    if database.is_mysql:
        with database.read() as conn:
            conn.exec_driver_sql(f"ANALYZE TABLE {schema.delivery.name}, {schema.attempt.name}").all()


def _change(rng: random.Random, filled: Filled, servers: int, at: int) -> dict[str, object]:
    n = rng.randrange(servers)
    was = filled.kind[n]
    new = rng.choice([kind for kind in (0, 1, 2) if kind != was])
    if at > SINCE:
        if was == 0:
            filled.operational += at - filled.since[n]
        elif new == 0:
            filled.incidents += 1
        filled.since[n] = at
    filled.kind[n] = new
    return {
        "monitor_id": n + 1,
        "server_id": n % 30_000,
        "name": f"gateway {n}",
        "channel_id": n,
        "planned": 1,
        "region": f"region {n % REGIONS}",
        "region_code": f"R{n % REGIONS}",
        "source": "carrier",
        "flag_stood": 0,
        "from_type": WORDS[was],
        "to_type": WORDS[new],
        "incident_status": "partial_outage",
        "created_at": at,
        "incident_title": "Calls to mobile numbers fail",
        "incident_link": "https://status.example/incidents/1",
    }


def run(url: str, folder: Path, *args: str) -> tuple[float, float, bytes]:
    """Run the command as a process: seconds, its peak memory in MiB, what it printed."""
    iso = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at // 1000)) for at in (SINCE, UNTIL)]
    command = [str(Path(sys.executable).parent / "monitor-cli"), "report", *args, "--since", iso[0], "--until", iso[1]]
    launched = [sys.executable, "-c", _LAUNCHER, *command]
    env = {**os.environ, "MONITOR_DATABASE_URL": url}
    done = subprocess.run(launched, capture_output=True, cwd=folder, env=env, check=True)
    seconds, kilobytes = done.stderr.split()[-2:]
    return float(seconds), int(kilobytes) / 1024, done.stdout


def check(printed: bytes, filled: Filled) -> None:
    """The report says what was filled in."""
    servers = json.loads(printed)["servers"]
    operational = round(sum(row["operational_seconds"] for row in servers) * 1000)
    assert operational == filled.operational, (operational, filled.operational)
    assert sum(row["incidents"] for row in servers) == filled.incidents


def check_deliveries(printed: bytes, filled: Filled) -> None:
    accounts = json.loads(printed)["accounts"]
    for name in ("attempts", "succeeded", "deliveries", "failed"):
        assert sum(row[name] for row in accounts) == getattr(filled, name), name
    assert sum(row["told"] for row in accounts) == filled.deliveries - filled.failed


@contextmanager
def stores(folder: Path) -> Iterator[dict[str, list[str]]]:
    """Each store's URLs of a filled and of an empty database."""
    with MariaDB() as server:
        sqlite = [f"sqlite:///{folder / name}.db" for name in ("filled", "empty")]
        yield {"MariaDB": [server.create_database(), server.create_database()], "SQLite": sqlite}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--changes", type=int, default=1_000_000)
    parser.add_argument("--attempts", type=int, default=1_000_000)
    parser.add_argument("--servers", type=int, default=10_000)
    parser.add_argument("--only", default="", help="the reports whose names begin so")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stores", default="MariaDB,SQLite")
    options = parser.parse_args()
    versions = {name: importlib.metadata.version(name) for name in ("SQLAlchemy", "PyMySQL")}
    load = f"load {os.getloadavg()[0]:.1f}"
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {versions}, {load}")
    with tempfile.TemporaryDirectory() as name, stores(Path(name)) as urls:
        for store in options.stores.split(","):
            measure(store, urls[store], Path(name), options)


def measure(store: str, urls: list[str], folder: Path, options: argparse.Namespace) -> None:
    for url in urls:
        upgrade(url)
    database = Database(urls[0])
    filled = fill(database, options.changes, options.servers)
    fill_deliveries(database, options.attempts, filled)
    database.close()
    _, empty, _ = run(urls[1], folder, "availability", "--json")
    print(
        f"{store}: {options.changes} changes, {options.servers} servers, {options.attempts} attempts; "
        f"empty: {empty:.0f} MiB",
        flush=True,
    )
    for label, args in COMMANDS.items():
        if not label.startswith(options.only):
            continue
        rounds = [run(urls[0], folder, *args) for _ in range(options.rounds)]
        if label == "availability --json":
            check(rounds[0][2], filled)
        elif label == "deliveries --json":
            check_deliveries(rounds[0][2], filled)
        seconds = sorted(one[0] for one in rounds)
        print(
            f"  {label:26} {statistics.median(seconds):6.2f} ({seconds[0]:.2f} … {seconds[-1]:.2f}) s, "
            f"{max(one[1] for one in rounds):.0f} MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
