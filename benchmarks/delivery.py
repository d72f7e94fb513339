"""callback-run against the naive cron, on a private MariaDB with default durability and nginx as the receiver.

    python -m benchmarks.delivery throughput [--owed 20000]     plain HTTP, TLS, a receiver that takes 50 ms
    python -m benchmarks.delivery memory                        peak memory at 20 000 and 200 000 owed
    python -m benchmarks.delivery plan                          100 flagged rows, 100 000 callbacks
    python -m benchmarks.delivery watch [--seconds 60]          commit of a change to request received

Everything stays on loopback. The naive cron is what a first script does: for each owed callback a SELECT, requests.post
and an UPDATE, one transaction each; it is timed over a sample and quoted per second.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

import pycurl
import pymysql
import requests
import sqlalchemy
from sqlalchemy import insert, text

from benchmarks.receivers import TimingReceiver, nginx
from monitor_cli import migrate, schema
from monitor_cli.db import Database
from monitor_cli.dialect import now_ms
from monitor_cli.store.planning import plan_flagged
from tests.support.mariadb import MariaDB

SCRIPT = Path(sys.executable).parent / "monitor-cli"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CHANNELS = 100
BATCH = 5000


def database_server() -> MariaDB:
    """With the sizes that MariaDB has by itself; the tests' server is smaller."""
    return MariaDB(buffer_pool="128M", log_file="96M")


# --- the data ---------------------------------------------------------------------------------------------------------


def seed(url: str, owed: int, base: str, destinations: int, numbers: int = 5) -> Database:
    """`owed` accounts with a callback and `numbers` numbers each, on 100 channels, a server each, none flagged."""
    migrate.upgrade(url)
    database = Database(url)
    scheme, port = base.split("://")[0], base.rsplit(":", 1)[1]
    with database.write() as conn:
        now = now_ms(conn)
        conn.execute(
            insert(schema.monitor),
            [
                {
                    "server_id": i,
                    "name": f"server {i}",
                    "server_tag": f"tag-{i}",
                    "channel_id": i,
                    "region": "karnataka",
                    "region_code": "KA-IN",
                    "incident_status": "operational",
                    "final_status": "operational",
                }
                for i in range(1, CHANNELS + 1)
            ],
        )
    for start in range(1, owed + 1, BATCH):
        ids = range(start, min(start + BATCH, owed + 1))
        with database.write() as conn:
            conn.execute(
                insert(schema.account), [{"id": i, "name": f"a{i}", "api_key_sha256": f"{i:064x}"} for i in ids]
            )
            conn.execute(insert(schema.subscription), [{"account_id": i, "active": 1} for i in ids])
            conn.execute(
                insert(schema.number),
                [
                    {"account_id": i, "number": f"+91{i:08d}{n}", "channel_id": i % CHANNELS + 1}
                    for i in ids
                    for n in range(numbers)
                ],
            )
            conn.execute(insert(schema.callback), [_callback(i, scheme, port, destinations, now) for i in ids])
    return database


def _callback(i: int, scheme: str, port: str, destinations: int, now: int) -> dict[str, object]:
    which = zlib.crc32(b"%d" % i) % destinations  # customers do not come sorted by host
    host = f"127.0.{1 + which // 100}.{1 + which % 100}"
    return callback_row(i, i, f"{scheme}://{host}:{port}/hook/{i}", f"{host}:{port}", now)


def callback_row(i: int, account: int, url: str, destination: str, now: int) -> dict[str, object]:
    """A callback that is sent JSON, as it stands in its table."""
    return {
        "id": i,
        "account_id": account,
        "title": "t",
        "name": f"c{i}",
        "url": url,
        "destination": destination,
        "headers": "[]",
        "raw_json": 1,
        "active": 1,
        "hears_from": 0,
        "secret": SECRET,
        "created_at": now,
        "modified_at": now,
    }


def flag_all(database: Database, to_type: str) -> None:
    """Every server changes, as incident-sync writes it."""
    with database.write() as conn:
        now = now_ms(conn)
        rows = conn.execute(text("SELECT id, final_status, channel_id, server_id, name FROM infi_voice_monitor")).all()
        conn.execute(text("UPDATE infi_voice_monitor SET final_status=:t, status_report=1"), {"t": to_type})
        conn.execute(
            insert(schema.change),
            [
                {
                    "monitor_id": r.id,
                    "server_id": r.server_id,
                    "name": r.name,
                    "channel_id": r.channel_id,
                    "region": "karnataka",
                    "region_code": "KA-IN",
                    "from_type": r.final_status,
                    "to_type": to_type,
                    "flag_stood": 0,
                    "created_at": now,
                }
                for r in rows
            ],
        )


def still_owed(database: Database) -> int:
    with database.read() as conn:
        return int(conn.execute(text("SELECT count(*) FROM infi_voice_monitor_owed WHERE wanted > told")).scalar_one())


# --- the two that are compared ----------------------------------------------------------------------------------------


def callback_run(url: str, *args: str, **env: str) -> tuple[float, float]:
    """Run it to its end, as cron does: seconds, peak MB."""
    environment = {
        "PATH": os.environ["PATH"],
        "MONITOR_DATABASE_URL": url,
        "MONITOR_ALLOW_NETWORKS": "127.0.0.0/8",
        **env,
    }
    started = time.perf_counter()
    process = subprocess.Popen([str(SCRIPT), "callback-run", *args], env=environment)
    peaks = [0.0]
    watcher = threading.Thread(target=_watch_peak, args=(process.pid, peaks))
    watcher.start()
    status = process.wait()
    seconds = time.perf_counter() - started
    watcher.join()
    if status:
        raise SystemExit(f"callback-run ended with {status}")
    return seconds, peaks[-1]


def _watch_peak(pid: int, peaks: list[float]) -> None:
    """Note a process's peak in MB until it ends. (wait4's ru_maxrss of a child begins with its parent's own.)"""
    with suppress(OSError, IndexError):
        while True:
            status = Path(f"/proc/{pid}/status").read_text()
            peaks.append(int(status.split("VmHWM:")[1].split()[0]) / 1024)
            time.sleep(0.05)


def naive(url: str, base: str, destinations: int, sample: int, ca: str | None) -> float:
    """The naive cron, requests per second over `sample` callbacks: for each one a transaction that reads what is owed,
    the type and the numbers, requests.post, an attempt recorded, the row cleared."""
    u = Database(url).url
    connection = pymysql.connect(host=u.host, port=u.port, user=u.username, password=u.password, database=u.database)
    scheme, port = base.split("://")[0], base.rsplit(":", 1)[1]
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS naive (id INT PRIMARY KEY, owed INT)")
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS naive_attempt (id INT AUTO_INCREMENT PRIMARY KEY, callback INT, status INT)"
        )
        cursor.execute("DELETE FROM naive")
        cursor.executemany("INSERT INTO naive VALUES (%s, 1)", [(i,) for i in range(1, sample + 1)])
        connection.commit()
        started = time.perf_counter()
        for i in range(1, sample + 1):
            cursor.execute("SELECT owed FROM naive WHERE id=%s FOR UPDATE", (i,))
            cursor.fetchall()
            cursor.execute("SELECT final_status FROM infi_voice_monitor WHERE channel_id=%s", (i % CHANNELS + 1,))
            kind = cursor.fetchall()[0][0]
            cursor.execute("SELECT number FROM infi_voice_monitor_number WHERE account_id=%s", (i,))
            numbers = [row[0] for row in cursor.fetchall()]
            entry = {"region": "karnataka", "region_code": "KA-IN", "type": kind, "service": "all", "numbers": numbers}
            body = {"status": "200", "message": "OK", "data": {"incidents": [entry]}}
            answer = requests.post(
                str(_callback(i, scheme, port, destinations, 0)["url"]), json=body, timeout=15, verify=ca or True
            )
            cursor.execute("INSERT INTO naive_attempt (callback, status) VALUES (%s, %s)", (i, answer.status_code))
            cursor.execute("UPDATE naive SET owed=%s WHERE id=%s", (0 if answer.ok else 1, i))
            connection.commit()
        seconds = time.perf_counter() - started
    connection.close()
    return sample / seconds


# --- what is measured -------------------------------------------------------------------------------------------------


def throughput(owed: int, runs: int, cases: list[str]) -> None:
    with database_server() as server, nginx() as front:
        for case in cases:
            base, ca = front.base(case)
            url = server.create_database()
            database = seed(url, owed, base, 200)
            ours, theirs = [], []
            kinds = ("critical", "operational")
            for run in range(runs + 1):  # the first warms up
                if case != "50ms":
                    theirs.append(naive(url, base, 200, 1500, ca))
                flag_all(database, kinds[run % 2])
                database.transact(plan_flagged)  # timed by `plan`
                seconds, peak = callback_run(url, **({"MONITOR_CA_FILE": ca} if ca else {}))
                if left := still_owed(database):
                    raise SystemExit(f"{left} still owed")
                ours.append(owed / seconds)
            report(case, ours[1:], theirs[1:], peak)
            database.close()


def report(case: str, ours: list[float], theirs: list[float], peak: float) -> None:
    line = (
        f"{case}: callback-run {statistics.median(ours):.0f}/s ({min(ours):.0f} to {max(ours):.0f}), peak {peak:.0f} MB"
    )
    if theirs:
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        line += (
            f"; naive {statistics.median(theirs):.0f}/s; ratio {statistics.median(ratios):.1f} "
            f"({min(ratios):.1f} to {max(ratios):.1f})"
        )
    if case == "50ms":
        line += f"; of 256 slots / 50 ms = 5120/s: {statistics.median(ours) / 5120:.2f}"
    print(line, flush=True)


def memory() -> None:
    with database_server() as server, nginx() as front:
        for owed in (20_000, 200_000):
            url = server.create_database()
            database = seed(url, owed, front.base("http")[0], 200)
            flag_all(database, "critical")
            seconds, peak = callback_run(url, "--max-seconds", "600")
            print(
                f"{owed} owed: peak {peak:.0f} MB, {owed / seconds:.0f}/s, still owed {still_owed(database)}",
                flush=True,
            )
            database.close()


def plan() -> None:
    with database_server() as server:
        url = server.create_database()
        database = seed(url, 100_000, "http://127.0.0.1:9", 200, numbers=1)
        for kind in ("critical", "operational", "critical"):
            flag_all(database, kind)
            started = time.perf_counter()
            flagged = database.transact(plan_flagged)
            print(
                f"{flagged} flagged rows, 100 000 callbacks: planned in {time.perf_counter() - started:.2f} s",
                flush=True,
            )
        database.close()


def watch(seconds: float, rate: float) -> None:
    with database_server() as server:
        for who in ("bare loop", "callback-run --watch", "bare loop", "callback-run --watch"):
            with TimingReceiver() as receiver:
                url = server.create_database()
                database = seed(url, CHANNELS, receiver.base, 1)
                runner = _bare_loop(url, receiver.base) if who == "bare loop" else _watching(url)
                with runner:
                    time.sleep(1.5)
                    sent = _change_steadily(database, seconds, rate)
                    receiver.wait(len(sent), 30)
                delays = sorted((receiver.at[key] - at) * 1000 for key, at in sent.items() if key in receiver.at)
                lost = len(sent) - len(delays)
                print(
                    f"{who}: {len(sent)} changes at {rate:g}/s, {lost} not received, "
                    f"p50 {delays[len(delays) // 2]:.1f} ms, p95 {delays[int(len(delays) * 0.95)]:.1f} ms, "
                    f"p99 {delays[int(len(delays) * 0.99)]:.1f} ms",
                    flush=True,
                )
                database.close()


def _change_steadily(database: Database, seconds: float, rate: float) -> dict[tuple[int, int], float]:
    """Change one server after the other; {(account, how many changes of it): time of the commit}."""
    sent: dict[tuple[int, int], float] = {}
    began = time.monotonic()
    for i in range(int(seconds * rate)):
        time.sleep(max(0.0, began + i / rate - time.monotonic()))
        row, turn = i % CHANNELS + 1, i // CHANNELS + 1
        kind, before = ("critical", "operational") if turn % 2 else ("operational", "critical")
        with database.write() as conn:
            conn.execute(
                text("UPDATE infi_voice_monitor SET final_status=:k, status_report=1 WHERE id=:i"),
                {"k": kind, "i": row},
            )
            conn.execute(
                insert(schema.change),
                {
                    "monitor_id": row,
                    "server_id": row,
                    "name": "s",
                    "channel_id": row,
                    "region": "karnataka",
                    "region_code": "KA-IN",
                    "from_type": before,
                    "to_type": kind,
                    "flag_stood": 0,
                    "created_at": now_ms(conn),
                },
            )
        # Account i stands on channel i % CHANNELS + 1.
        sent[((row - 1) or CHANNELS, turn)] = time.monotonic()
    return sent


@contextmanager
def _watching(url: str) -> Iterator[None]:
    environment = {"PATH": os.environ["PATH"], "MONITOR_DATABASE_URL": url, "MONITOR_ALLOW_NETWORKS": "127.0.0.0/8"}
    process = subprocess.Popen([str(SCRIPT), "callback-run", "--watch"], env=environment)
    try:
        yield
    finally:
        process.terminate()
        if process.wait(30):
            raise SystemExit("callback-run --watch did not end well")


@contextmanager
def _bare_loop(url: str, base: str) -> Iterator[None]:
    """Poll the flags as often as --watch does, POST each change with one requests.Session, clear the flag."""
    code = f"""
import pymysql, requests, time
from monitor_cli.db import Database
from monitor_cli.delivery.engine import WATCH_SECONDS
u = Database({url!r}).url
who = dict(host=u.host, port=u.port, user=u.username, password=u.password, database=u.database)
c = pymysql.connect(**who, autocommit=True)
s = requests.Session()
while True:
    with c.cursor() as q:
        q.execute("SELECT id, final_status FROM infi_voice_monitor WHERE status_report=1")
        rows = q.fetchall()
        for i, kind in rows:
            q.execute("UPDATE infi_voice_monitor SET status_report=0 WHERE id=%s", (i,))
            s.post({base!r} + "/hook/%d" % ((i - 1) or {CHANNELS}), json={{"type": kind}}, timeout=15)
    if not rows:
        time.sleep(WATCH_SECONDS)
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def versions() -> str:
    server = (
        subprocess.run(["mariadbd", "--version"], capture_output=True, text=True).stdout.split("Ver ")[-1].split()[0]
    )
    return (
        f"Python {platform.python_version()}, MariaDB {server}, SQLAlchemy {sqlalchemy.__version__}, "
        f"PyMySQL {metadata.version('PyMySQL')}, {pycurl.version.split()[0]} {pycurl.version.split()[1]}, "
        f"requests {requests.__version__}, {os.cpu_count()} cores"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["throughput", "memory", "plan", "watch"])
    parser.add_argument("--owed", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--cases", default="http,https,50ms")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=200)
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    print(versions(), flush=True)
    if args.what == "throughput":
        throughput(args.owed, args.runs, args.cases.split(","))
    elif args.what == "memory":
        memory()
    elif args.what == "plan":
        plan()
    else:
        watch(args.seconds, args.rate)


if __name__ == "__main__":
    main()
