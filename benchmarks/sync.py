"""incident-sync on 100 000 servers of which 1 % change: end to end beside the loops that it replaces, on MariaDB.

    python benchmarks/sync.py                    # 100 000 servers, 1 000 changed
    python benchmarks/sync.py --servers 1000000 --loops 0     # 100 000 components, ten servers on each

The page is served over HTTP by a process of its own; incident-sync runs as a process, as cron starts it, and once more
inside this one with the document in hand, without start-up and download, as the loops and the floor have neither. Each
round runs every candidate in turn; printed are medians, and medians of the rounds' ratios.
That only changed rows are written is read off the server's counters. The floor needs a driver in C: pip install
'mysql-connector-python<9'.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sqlalchemy import bindparam, case, text, update  # noqa: E402

from monitor_cli import schema  # noqa: E402
from monitor_cli.config import Source  # noqa: E402
from monitor_cli.db import Connection, Database  # noqa: E402
from monitor_cli.migrate import upgrade  # noqa: E402
from monitor_cli.providers import PROVIDERS  # noqa: E402
from monitor_cli.sources import Fetcher, File  # noqa: E402
from monitor_cli.sources.decoding import decode  # noqa: E402
from monitor_cli.store import sync_rows  # noqa: E402
from monitor_cli.sync import rows as sync  # noqa: E402
from monitor_cli.sync.judging import Rules  # noqa: E402
from monitor_cli.sync.reading import Wanted  # noqa: E402
from monitor_cli.sync.run import synchronise  # noqa: E402
from monitor_cli.wrapping import Observed  # noqa: E402
from tests.support.http import StatusPage  # noqa: E402
from tests.support.mariadb import MariaDB  # noqa: E402

M = schema.monitor
FETCHED = "from the fetched document to the commit, 1 % changed"
UNCHANGED = "from the fetched document to the end, nothing changed"
COMPONENTS = 100_000  # as many as a document of 32 MiB holds
TYPES = {"operational": "operational", "major_outage": "critical", "partial_outage": "warning"}


def component(n: int, word: str) -> dict[str, Any]:
    """A component as a real page has it."""
    return {
        "id": f"c{n:011}",
        "name": f"Voice gateway {n}",
        "status": word,
        "created_at": "2014-12-04T20:39:28.763Z",
        "updated_at": "2020-11-11T20:12:30.183Z",
        "position": n,
        "description": None,
        "showcase": False,
        "group_id": "4l01sk5cdn5c",
        "page_id": "yh6f0r4529hb",
        "group": False,
        "only_show_if_degraded": False,
    }


def document(words: Iterable[str]) -> bytes:
    components = [component(n, word) for n, word in enumerate(words)]
    return json.dumps({"page": {"id": "p"}, "components": components}, separators=(",", ":")).encode()


def serve(pipe: Pipe) -> None:
    """The page's process: a document comes in, its address goes back."""
    with StatusPage() as page:
        while (body := pipe.recv_bytes()) != b"stop":
            pipe.send(page.serve("/api/v2/summary.json", body))


class Bench:
    """A filled database and a page; `words` are what the page says at present."""

    def __init__(self, server: MariaDB, pipe: Pipe, servers: int, changed: int) -> None:
        self.server, self.pipe = server, pipe
        self.servers, components = servers, min(servers, COMPONENTS)
        self.words = ["operational"] * components
        self.changed = list(range(0, components, components // changed))[:changed]
        self.url = server.create_database()
        upgrade(self.url)
        self.database = Database(self.url)
        for first in range(0, servers, 10_000):
            rows = [
                {"server_id": n % 30_000, "name": f"s{n}", "server_tag": f"c{n % components:011}", "channel_id": n}
                for n in range(first, min(first + 10_000, servers))
            ]
            with self.database.write() as conn:
                conn.execute(M.insert(), rows)
        self.page = ""

    def flip(self) -> None:
        """Another word for the components that change."""
        word = "major_outage" if self.words[self.changed[0]] == "operational" else "operational"
        for n in self.changed:
            self.words[n] = word
        self.publish()

    def publish(self) -> None:
        self.pipe.send_bytes(document(self.words))
        self.page = self.pipe.recv()

    def counter(self, name: str) -> int:
        return int(str(self.server.execute(f"SHOW GLOBAL STATUS LIKE '{name}'")[0][1]))

    def check(self) -> None:
        """The rows are what the page says."""
        with self.database.read() as conn:
            rows = conn.execute(text(f"SELECT final_status, COUNT(*) FROM {M.name} GROUP BY final_status")).all()
        expected: dict[str, int] = {}
        for word in self.words:
            expected[TYPES[word]] = expected.get(TYPES[word], 0) + self.servers // len(self.words)
        assert {row[0]: row[1] for row in rows} == expected, rows


# --- candidates -------------------------------------------------------------------------------------------------------


# A process of its own between us and the command: a child's peak begins with that of the process that started it.
LAUNCH = """
import resource, subprocess, sys, time
started = time.perf_counter()
subprocess.run(sys.argv[1:], check=True)
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


def process(bench: Bench) -> tuple[float, int]:
    """incident-sync as cron starts it: seconds, and peak memory in MiB."""
    env = {"PATH": os.environ["PATH"], "MONITOR_DATABASE_URL": bench.url, "HOME": tempfile.gettempdir()}
    command = [sys.executable, "-m", "monitor_cli", "incident-sync", "--url", bench.page]
    done = subprocess.run([sys.executable, "-c", LAUNCH, *command], env=env, check=True, stdout=subprocess.PIPE)
    seconds, memory = done.stdout.split()
    return float(seconds), int(memory)


def in_hand(bench: Bench) -> float:
    """Seconds of a whole run (lease, reading, looking, writing, reports, commit) whose document has been fetched
    already, in a process that has started already."""
    wanted = [Wanted(Source(name="bench", url=""), [File("the page", document(bench.words))])]
    started = time.perf_counter()
    synchronise(bench.database, wanted, every_source=True)
    return time.perf_counter() - started


def loop(bench: Bench, guarded: bool) -> None:
    """What a helper that goes over its rows one by one does, in one transaction."""
    guard = " AND (final_status <> %s OR incident_status <> %s)" if guarded else ""
    statement = f"UPDATE {M.name} SET incident_status=%s, final_status=%s, modified=%s WHERE id=%s{guard}"
    with bench.database.write() as conn:
        cursor = conn.connection.cursor()
        now = int(time.time())
        for n in range(bench.servers):
            word = bench.words[n % len(bench.words)]
            kind = TYPES[word]
            cursor.execute(statement, (word, kind, now, n + 1, *((kind, word) if guarded else ())))


def steps(bench: Bench) -> dict[str, float]:
    """Where the time of a run goes, inside this process, one step after the other (in a run the rows come while the
    page is read)."""
    took, started = {}, time.perf_counter()

    def mark(name: str) -> None:
        nonlocal started
        took[name] = time.perf_counter() - started
        started = time.perf_counter()

    source = Source(name="bench", url=bench.page)
    with Fetcher(source) as fetcher:
        body = fetcher.fetch(bench.page)
    mark("  fetch")
    document = decode(body, "bench")
    mark("  JSON")
    components = PROVIDERS["statuspage"].parse([document])
    del document
    mark("  to components")
    observed = Observed()
    observed.add(source, components)
    mark("  wrap")
    with bench.database.read() as conn:
        blocks = list(sync_rows.blocks(conn, None))
        mark("  fetch every row")
        found = sync.scan(conn, blocks, observed, Rules(), all_read=True)
    mark("  look at every row")
    assert len(found.ids) == len(bench.changed) * bench.servers // len(bench.words)

    def work(conn: Connection) -> None:
        for first in range(0, len(found.ids), sync_rows.BATCH):
            ids = found.ids[first : first + sync_rows.BATCH]
            sync.write(conn, sync.judged(conn, ids, observed, Rules(), lock=True))

    bench.database.transact(work)
    mark("  lock, write, history, commit")
    return took


def floor(bench: Bench) -> dict[str, float]:
    """The least that there is to do, with a driver in C: one SELECT of the rows, and the changed ones written; and what
    nothing changed leaves of it, the document's JSON included."""
    import mysql.connector

    url = bench.database.url
    conn = mysql.connector.connect(
        host=url.host, port=url.port, user=url.username, password=url.password, database=url.database, use_pure=False
    )
    body = document(bench.words)
    try:
        cursor = conn.cursor(raw=True)
        started = time.perf_counter()
        cursor.execute(f"SELECT id, server_tag, incident_status, final_status FROM {M.name}")
        rows = cursor.fetchall()
        selected = time.perf_counter() - started
        assert len(rows) == bench.servers
        started = time.perf_counter()
        word = bench.words[bench.changed[0]]
        each = bench.servers // len(bench.words)
        ids = [n + 1 + turn * len(bench.words) for turn in range(each) for n in bench.changed]
        for first in range(0, len(ids), sync_rows.BATCH):
            some = ",".join(map(str, ids[first : first + sync_rows.BATCH]))
            cursor.execute(
                f"UPDATE {M.name} SET incident_status='{word}', final_status='{TYPES[word]}', modified={int(started)}, "
                f"status_report=1 WHERE id IN ({some})"
            )
        conn.commit()
        written = time.perf_counter() - started
        started = time.perf_counter()
        json.loads(body)
        parsed = time.perf_counter() - started
        started = time.perf_counter()
        decode(body, "bench")
        decoded = time.perf_counter() - started
    finally:
        conn.close()
    return {
        "floor: SELECT and write, driver in C": selected + written,
        "SELECT and json.loads, driver in C": selected + parsed,
        "SELECT and our own reading of JSON, driver in C": selected + decoded,
    }


# --- ways to write the changed rows: (id, word, type), locked already -------------------------------------------------

Rows = list[tuple[int, str, str]]


def grouped(conn: Connection, rows: Rows, batch: int = sync_rows.BATCH) -> None:
    groups: dict[tuple[str, str], list[int]] = {}
    for key, word, kind in rows:
        groups.setdefault((word, kind), []).append(key)
    for (word, kind), ids in groups.items():
        for first in range(0, len(ids), batch):
            some = update(M).where(M.c.id.in_(ids[first : first + batch]))
            conn.execute(some.values(incident_status=word, final_status=kind, modified=1, status_report=1))


def executemany(conn: Connection, rows: Rows) -> None:
    statement = update(M).where(M.c.id == bindparam("key"))
    statement = statement.values(
        incident_status=bindparam("word"), final_status=bindparam("kind"), modified=1, status_report=1
    )
    conn.execute(statement, [{"key": key, "word": word, "kind": kind} for key, word, kind in rows])


def by_case(conn: Connection, rows: Rows) -> None:
    for first in range(0, len(rows), sync_rows.BATCH):
        some = rows[first : first + sync_rows.BATCH]
        words = case({key: word for key, word, _ in some}, value=M.c.id)
        kinds = case({key: kind for key, _, kind in some}, value=M.c.id)
        values = {"incident_status": words, "final_status": kinds, "modified": 1, "status_report": 1}
        conn.execute(update(M).where(M.c.id.in_([key for key, *_ in some])).values(values))


def temporary(conn: Connection, rows: Rows) -> None:
    conn.exec_driver_sql("CREATE TEMPORARY TABLE t (id INT PRIMARY KEY, word VARCHAR(50), kind VARCHAR(50))")
    conn.exec_driver_sql("INSERT INTO t VALUES (%s, %s, %s)", rows)
    conn.exec_driver_sql(
        f"UPDATE {M.name} m JOIN t ON t.id = m.id SET m.incident_status = t.word, m.final_status = t.kind, "
        "m.modified = 1, m.status_report = 1"
    )
    conn.exec_driver_sql("DROP TEMPORARY TABLE t")


WAYS: dict[str, Callable[[Connection, Rows], None]] = {
    "grouped by value, id IN (500)": grouped,
    "grouped by value, id IN (900)": lambda conn, rows: grouped(conn, rows, 900),
    "grouped by value, id IN (2000)": lambda conn, rows: grouped(conn, rows, 2000),
    "temporary table, UPDATE JOIN": temporary,
    "executemany": executemany,
    "UPDATE with CASE": by_case,
}


def write_rows(bench: Bench, way: Callable[[Connection, Rows], None], turn: int) -> float:
    """Seconds for the UPDATE alone, of the changed rows to five different words."""
    words = ["operational", "degraded_performance", "partial_outage", "under_maintenance", "major_outage"]
    rows = [(n + 1, words[(i + turn) % 5], ["operational", "warning", "critical"][turn % 3])
            for i, n in enumerate(bench.changed)]  # fmt: skip
    with bench.database.engine.connect() as conn, conn.begin() as transaction:
        started = time.perf_counter()
        way(conn, rows)
        took = time.perf_counter() - started
        transaction.rollback()
    return took


# --- the run ----------------------------------------------------------------------------------------------------------


def run(bench: Bench, rounds: int, loops: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}

    def add(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    for turn in range(rounds):
        bench.flip()
        updated = bench.counter("Handler_update")
        seconds, memory = process(bench)
        add("incident-sync, 1 % changed", seconds)
        add("  rows updated, lease and source state included", bench.counter("Handler_update") - updated)
        add("  peak memory, MiB", memory)
        bench.check()
        add("incident-sync, nothing changed", process(bench)[0])
        bench.flip()
        add(FETCHED, in_hand(bench))
        bench.check()
        add(UNCHANGED, in_hand(bench))
        bench.flip()
        gc.disable()  # as a run does
        for name, took in steps(bench).items():
            add(name, took)
        gc.enable()
        bench.check()
        if importlib.util.find_spec("mysql"):
            bench.flip()
            for name, took in floor(bench).items():
                add(name, took)
            bench.check()
        for name, way in WAYS.items():
            add(f"UPDATE of the changed: {name}", write_rows(bench, way, turn))
        if turn < loops:
            for guarded in (True, False):
                bench.flip()
                started = time.perf_counter()
                loop(bench, guarded)
                add(f"row by row{', guarded' if guarded else ''} (no fetch, no history)", time.perf_counter() - started)
                bench.check()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, default=100_000)
    parser.add_argument("--changed", type=int, default=0, help="components that change; default: 1 %% of them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loops", type=int, default=1, help="rounds in which the row-by-row loops run too")
    args = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=serve, args=(theirs,), daemon=True)
    child.start()
    with MariaDB(buffer_pool="512M", log_file="256M") as server:
        version = str(server.execute("SELECT VERSION()")[0][0])
        bench = Bench(server, ours, args.servers, args.changed or min(args.servers, COMPONENTS) // 100)
        size = len(document(bench.words)) / 2**20
        found = run(bench, args.rounds, args.loops)
        bench.database.close()
    ours.send_bytes(b"stop")
    child.join(10)
    names = ("SQLAlchemy", "PyMySQL", "requests", "urllib3")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    print(f"{args.servers:,} servers on {len(bench.words):,} components, {size:.1f} MiB of JSON, {args.rounds} rounds")
    print(f"of the components {len(bench.changed):,} change")
    print(f"Python {platform.python_version()}, MariaDB {version}, {versions}, {os.cpu_count()} cores")
    for name, values in found.items():
        spread = f"{min(values):,.3f} … {max(values):,.3f}"
        print(f"{name:58} {statistics.median(values):10,.3f}   ({spread})")
    ratios(found)


def ratios(found: dict[str, list[float]]) -> None:
    """How many times as long one thing takes as another, round by round: other work on the machine slows both."""
    guarded = "row by row, guarded (no fetch, no history)"
    floors = [name for name in found if "driver in C" in name]
    pairs = [(guarded, FETCHED), (guarded, "incident-sync, 1 % changed")]
    pairs += [(FETCHED if name.startswith("floor") else UNCHANGED, name) for name in floors]
    for one, other in pairs:
        each = [a / b for a, b in zip(found.get(one, ()), found.get(other, ()), strict=False)]  # loops run less often
        if each:
            print(f"{one} ÷ {other}: {statistics.median(each):.1f} ({min(each):.1f} … {max(each):.1f})")


if __name__ == "__main__":
    main()
