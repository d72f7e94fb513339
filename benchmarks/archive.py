"""archive on a database of 1 000 000 old rows: how long it takes, and that its memory stays the same.

    python benchmarks/archive.py                           # 1 000 000 rows on MariaDB, and a tenth of them
    python benchmarks/archive.py --store sqlite --rows 200000

Four parts of the rows are history, three deliveries, three attempts, over 30 days that are all older than the policy;
as many again are younger. 100 000 rows say what callbacks were told, and one in a hundred is owed. Every command runs
as a process, as cron starts it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sqlalchemy import func, select  # noqa: E402

from monitor_cli import schema  # noqa: E402
from monitor_cli.db import Database  # noqa: E402
from monitor_cli.dialect import insert_rows  # noqa: E402
from monitor_cli.migrate import upgrade  # noqa: E402
from tests.support.mariadb import MariaDB  # noqa: E402

DAY = 86_400_000
SERVERS, CALLBACKS, TOLD = 2_000, 2_000, 50
ANSWER = '{"ok": true, "queued": "' + "c3f1" * 40 + '"}'

# A process of its own between us and the command: a child's peak begins with that of the process that started it.
LAUNCH = """
import resource, subprocess, sys, time
started = time.perf_counter()
subprocess.run(sys.argv[1:], check=True)
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


def fill(database: Database, rows: int) -> None:
    """So many rows from 120 to 90 days ago, and as many from then on."""
    now = int(time.time() * 1000)
    began = now - now % DAY - 120 * DAY
    changes, deliveries = rows * 4 // 10, rows * 3 // 10

    def at(n: int, of: int) -> int:
        """Half of all before the policy's end, the rest after it."""
        return began + (n * 30 * DAY // of if n < of else 30 * DAY + (n - of) * 85 * DAY // of)

    put(
        database,
        schema.monitor,
        ("server_id", "name", "server_tag", "channel_id"),
        ((n, f"server {n}", f"tag-{n}", n) for n in range(SERVERS)),
    )
    put(
        database,
        schema.callback,
        (
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
            "created_at",
            "modified_at",
        ),
        (
            (1, "t", f"n{n}", "https://c.test/", "c.test:443", "[]", 1, 1, 0, "whsec_", began, began)
            for n in range(CALLBACKS)
        ),
    )
    put(
        database,
        schema.owed,
        (
            "callback_id",
            "channel_id",
            "region",
            "region_code",
            "wanted",
            "told",
            "told_type",
            "owed_since_at",
        ),
        (
            (n % CALLBACKS + 1, n // CALLBACKS, "r", "c", 2, 1 if n % 100 == 0 else 2, "warning", now)
            for n in range(CALLBACKS * TOLD)
        ),
    )
    put(
        database,
        schema.change,
        (
            "monitor_id",
            "server_id",
            "name",
            "channel_id",
            "region",
            "region_code",
            "from_type",
            "to_type",
            "source",
            "incident_status",
            "incident_title",
            "flag_stood",
            "planned",
            "created_at",
        ),
        (
            (
                n % SERVERS + 1,
                n % SERVERS,
                f"server {n % SERVERS}",
                n % SERVERS,
                "karnataka",
                "KA-IN",
                "operational",
                "critical",
                "carrier",
                "major_outage",
                f"Outage {n}",
                0,
                1,
                at(n, changes),
            )
            for n in range(2 * changes)
        ),
    )
    put(
        database,
        schema.delivery,
        ("callback_id", "state", "attempts", "created_at", "settled_at"),
        (
            (n % CALLBACKS + 1, "failed" if n % 50 == 0 else "done", 1, at(n, deliveries), at(n, deliveries) + 1500)
            for n in range(2 * deliveries)
        ),
    )
    put(
        database,
        schema.attempt,
        (
            "delivery_id",
            "started_at",
            "duration_ms",
            "http_status",
            "response",
            "webhook_id",
        ),
        ((n + 1, at(n, deliveries) + 200, 180, 200, ANSWER, f"msg_{n:032x}") for n in range(2 * deliveries)),
    )


def put(database: Database, table, columns, rows) -> None:  # type: ignore[no-untyped-def]
    rest = iter(rows)
    while some := list(islice(rest, 2_000)):
        with database.write() as conn:
            insert_rows(conn, table, columns, some)


def run(url: str, *args: str) -> tuple[float, int]:
    """Seconds, and the peak in MiB."""
    command = [str(Path(sys.executable).parent / "monitor-cli"), *args]
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "MONITOR_DATABASE_URL": url}
    done = subprocess.run([sys.executable, "-c", LAUNCH, *command], env=env, check=True, capture_output=True, text=True)
    seconds, peak = done.stdout.splitlines()[-1].split()
    return float(seconds), int(peak)


def counted(database: Database) -> int:
    with database.read() as conn:
        tables = (schema.change, schema.delivery, schema.attempt)
        return sum(conn.execute(select(func.count()).select_from(table)).scalar_one() for table in tables)


@contextmanager
def store(kind: str, directory: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{directory / 'bench.db'}"
        return
    with MariaDB(buffer_pool="256M") as server:
        yield server.create_database()


def measure(kind: str, rows: int) -> None:
    with tempfile.TemporaryDirectory() as name, store(kind, Path(name)) as url:
        upgrade(url)
        database = Database(url)
        fill(database, rows)
        before, target = counted(database), Path(name) / "archive"
        for label, args in {
            "dry run": ("archive", "--dry-run", "--to", str(target)),
            "archive": ("archive", "--to", str(target)),
            "again": ("archive", "--to", str(target)),
        }.items():
            seconds, peak = run(url, *args)
            print(f"{kind:8} {rows:9,} rows  {label:8} {seconds:7.1f} s  {peak:4} MiB", flush=True)
        left = counted(database)
        written = sorted(target.glob("*.gz"))
        size = sum(path.stat().st_size for path in written)
        print(
            f"{'':8} {before - left:,} rows in {len(written)} files of {size / 1e6:.1f} MB, {left:,} left", flush=True
        )
        seconds, peak = run(url, "archive", "restore", *map(str, written))
        assert counted(database) == before
        print(f"{kind:8} {rows:9,} rows  {'restore':8} {seconds:7.1f} s  {peak:4} MiB", flush=True)
        database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=["mariadb", "sqlite"], default="mariadb")
    parser.add_argument("--rows", type=int, default=1_000_000)
    given = parser.parse_args()
    for rows in (given.rows // 10, given.rows):
        measure(given.store, rows)


if __name__ == "__main__":
    main()
