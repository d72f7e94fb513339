"""The incident API's speed on its real query, beside other servers and handlers, with wrk, on MariaDB; and its memory.

    python benchmarks/api.py                         # the server as serve-api runs it
    python benchmarks/api.py --compare --path DIR    # beside others (packages in DIR: fastapi, uvicorn, uvloop,
                                                     # httptools, werkzeug, gunicorn, waitress)
    python benchmarks/api.py --memory                # 100 000 requests, and what the workers hold meanwhile

20 000 accounts with 20 numbers each in 5 regions, uniformly random keys. Each round runs every candidate in turn, so
that a busy minute hits all, each after a second of warming up; printed are medians over the rounds, what serve-api has
of each, and the CPU time of a request in the server and in the database, which other work on the machine changes least.
A server that is not installed is left out with a word. Rate limits are on, but so high that they refuse nobody; log
lines are written.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
import json
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from monitor_cli import migrate, schema  # noqa: E402
from monitor_cli.db import Database  # noqa: E402
from tests.support.mariadb import MariaDB  # noqa: E402

ACCOUNTS, REGIONS, NUMBERS = 20_000, 5, 20

# LuaJIT's math.random (period 2^223) seeded for each thread; a C rand() with a short cycle would ask for few keys only.
WRK = """
local threads = 0
function setup(thread) threads = threads + 1; thread:set("seed", threads) end
function init(args) math.randomseed(seed * 7919 + os.time()) end
function request()
  return wrk.format("GET", "/v1/?api_key=key-" .. math.random(0, ACCOUNTS - 1) .. "&method=monitor&format=FORMAT")
end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
"""

BARE = """
import hashlib, json, threading, pymysql
from urllib.parse import parse_qs
local = threading.local()
SQL = {sql!r}
def application(environ, start_response):
    if not hasattr(local, "cursor"):
        local.cursor = pymysql.connect(**{connect!r}, autocommit=True).cursor()
    key = parse_qs(environ["QUERY_STRING"])["api_key"][0]
    local.cursor.execute(SQL, (hashlib.sha256(key.encode()).hexdigest(),))
    body = json.dumps(local.cursor.fetchall(), separators=(",", ":")).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
"""

# The same query and the same document, so that only the framework, its server and the usual way to a database differ.
FASTAPI = """
import hashlib, os
from typing import Literal
from fastapi import FastAPI, HTTPException, Response
from sqlalchemy import create_engine
from monitor_cli import document
from monitor_cli.store import listing
engine = create_engine(os.environ["MONITOR_DATABASE_URL"], pool_size=40, isolation_level="AUTOCOMMIT")
app = FastAPI()
@app.get("/v1/")
def incidents(api_key: str, method: Literal["monitor"], format: Literal["json", "xml"] = "json"):
    digest = hashlib.sha256(api_key.encode()).hexdigest()
    with engine.connect() as conn:
        text = conn.execute(listing._LISTING, {"digest": digest}).scalar()
    if text is None:
        raise HTTPException(401)
    _, *facts = text.split(listing._FACT)
    entries = document.grouped(listing._groups(facts, len(facts) - 1))
    if format == "xml":
        return Response(document.to_xml(entries), media_type=document.XML_TYPE)
    return Response(document.to_json(entries), media_type=document.JSON_TYPE)
"""

WERKZEUG = """
import logging, sys
from werkzeug.serving import run_simple
from monitor_cli.api import application
logging.getLogger("werkzeug").setLevel(logging.ERROR)
run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=True)
"""


def fill(url: str) -> str:
    """The accounts; number n of account a is on channel 1 … 50, so that each account has servers in five regions."""
    migrate.upgrade(url)
    database = Database(url)
    channels = range(1, 51)
    servers = [
        {
            "server_id": channel,
            "name": f"server {channel}",
            "server_tag": f"tag{channel}",
            "channel_id": channel,
            "region": f"region {channel % REGIONS}",
            "region_code": f"R{channel % REGIONS}",
            "final_status": random.choice(["operational", "operational", "warning", "critical"]),
        }
        for channel in channels
    ]
    accounts = [
        {"id": a, "name": f"account {a}", "api_key_sha256": hashlib.sha256(f"key-{a - 1}".encode()).hexdigest()}
        for a in range(1, ACCOUNTS + 1)
    ]
    with database.write() as conn:
        conn.execute(schema.monitor.insert(), servers)
        conn.execute(schema.account.insert(), accounts)
        conn.execute(schema.subscription.insert(), [{"account_id": a["id"], "active": 1} for a in accounts])
        for first in range(1, ACCOUNTS + 1, 500):
            numbers = [
                {"account_id": a, "number": f"+91{a:07}{n:03}", "channel_id": (a * REGIONS + n) % 50 + 1}
                for a in range(first, first + 500)
                for n in range(NUMBERS)
            ]
            conn.execute(schema.number.insert(), numbers)
    database.close()
    return url


def candidates(args: argparse.Namespace, work: Path, url: str) -> dict[str, list[str]]:
    """The command line of each candidate; {port} stands for the port."""
    python, app, n = sys.executable, "monitor_cli.api:application", str(args.workers)
    granian = [python, "-m", "granian", "--interface", "wsgi", "--http", "1", "--no-ws", "--no-log", "--workers", n,
               "--host", "127.0.0.1", "--port", "{port}", "--blocking-threads"]  # fmt: skip
    chosen = {"serve-api": [python, "-m", "monitor_cli", "serve-api", "--port", "{port}", "--workers", n]}
    for threads in args.threads:
        chosen[f"granian, {threads} threads"] = [*granian, str(threads), app]
    if not args.compare:
        return chosen
    bare(url, work)
    chosen["bare PyMySQL, plain rows, granian"] = [*granian, "1", "bare_rows:application"]
    chosen["bare PyMySQL, our statement, granian"] = [*granian, "1", "bare_same:application"]
    (work / "fast.py").write_text(FASTAPI)
    (work / "werk.py").write_text(WERKZEUG)
    others = {
        "fastapi": ["-m", "uvicorn", "--workers", n, "--port", "{port}", "--no-access-log", "--log-level", "error",
                    "fast:app"],
        "werkzeug": [str(work / "werk.py"), "{port}"],
        "gunicorn": ["-m", "gunicorn", "-k", "gthread", "-w", n, "--threads", "4", "-b", "127.0.0.1:{port}", app],
        "waitress": ["-m", "waitress", "--listen=127.0.0.1:{port}", "--threads=4", app],
    }  # fmt: skip
    for name, options in others.items():
        if version(name) is None:
            print(f"{name} is not installed: left out")
            continue
        said = f"{name} {version(name)}"
        chosen[f"{said} on uvicorn {version('uvicorn')}" if name == "fastapi" else said] = [python, *options]
    return chosen


def bare(url: str, work: Path) -> None:
    """The least that a handler could do: a statement through PyMySQL, the rows as JSON, no checks. Once with the join
    that one would write first, a row a number, and once with serve-api's own statement."""
    from sqlalchemy.dialects import mysql
    from sqlalchemy.engine import make_url

    from monitor_cli.store import listing

    parsed = make_url(url)
    connect = {
        "host": parsed.host,
        "port": parsed.port,
        "user": parsed.username,
        "password": parsed.password,
        "database": parsed.database,
    }
    for name, statement in (("bare_rows", listing._ROWS), ("bare_same", listing._LISTING)):
        sql = str(statement.compile(dialect=mysql.dialect(paramstyle="format")))
        (work / f"{name}.py").write_text(BARE.format(sql=sql, connect=connect))


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served:
    """A candidate running on a free port until the end of the block."""

    def __init__(self, command: list[str], work: Path, url: str, path: str) -> None:
        self.port = free_port()
        packages = os.pathsep.join([str(ROOT), str(work), path])
        limits = dict.fromkeys(("MONITOR_API_RATE_PER_ADDRESS", "MONITOR_API_BURST_PER_ADDRESS"), "1000000")
        environ = {**os.environ, **limits, "MONITOR_DATABASE_URL": url, "PYTHONPATH": packages}
        self.log = (work / "server.log").open("ab")
        self.process = subprocess.Popen(
            [part.replace("{port}", str(self.port)) for part in command],
            env=environ, stdout=self.log, stderr=self.log, start_new_session=True,
        )  # fmt: skip

    def __enter__(self) -> Served:
        end = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/?api_key=key-1&method=monitor") as answer:
                    assert answer.status == 200
                    return self
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    self.__exit__()
                    raise
                time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.log.close()

    def processes(self) -> Iterator[int]:
        """The server's process and its children."""
        pids = [self.process.pid]
        while pids:
            yield (pid := pids.pop())
            pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    def resident(self) -> int:
        """Bytes that they have in memory of their own."""
        rollups = "".join(Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.processes())
        return 1024 * sum(int(kib) for kib in re.findall(r"^Private_\w+:\s+(\d+)", rollups, re.MULTILINE))

    def measure(self, args: argparse.Namespace, work: Path) -> dict[str, float]:
        script = work / "wrk.lua"
        script.write_text(WRK.replace("ACCOUNTS", str(ACCOUNTS)).replace("FORMAT", args.format))
        wrk = ["wrk", "-t2", f"-c{args.connections}", "-s", str(script), f"http://127.0.0.1:{self.port}"]
        subprocess.run([*wrk, "-d1s"], capture_output=True, check=True)  # connections and caches are there then
        server, database = sum(map(cpu_seconds, self.processes())), cpu_seconds(args.database_pid)
        done = subprocess.run([*wrk, f"-d{args.seconds}s"], capture_output=True, text=True, check=True)
        server = sum(map(cpu_seconds, self.processes())) - server
        database = cpu_seconds(args.database_pid) - database
        found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", done.stdout)
        assert found, done.stdout + done.stderr
        requests, micros, p50, p99, errors = map(int, found.groups())
        self.requests = requests
        return {
            "per_second": requests * 1e6 / micros,
            "p50_ms": p50 / 1000,
            "p99_ms": p99 / 1000,
            "errors": errors,
            "server_us": server * 1e6 / requests,
            "database_us": database * 1e6 / requests,
        }


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process, its threads and its dead children have had; of 0: none."""
    if not pid:
        return 0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--threads", type=int, nargs="*", default=[], help="also granian with so many threads a worker")
    parser.add_argument("--format", choices=["json", "xml"], default="json")
    parser.add_argument("--url", help="a MariaDB database that `fill` has filled, instead of a private server")
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--memory", action="store_true", help="100 000 requests to serve-api and its memory")
    parser.add_argument("--path", default="", help="a folder with further packages (gunicorn, waitress)")
    args = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed (Debian: apt-get install wrk)")
    if args.path:
        sys.path.append(args.path)
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url, args.database_pid = args.url, 0
        if not url:
            database = stack.enter_context(MariaDB(buffer_pool="512M", log_file="256M"))
            url, args.database_pid = fill(database.create_database()), database.pid
        if args.memory:
            memory(args, work, url)
            return
        found: dict[str, list[dict[str, float]]] = {}
        for _ in range(args.rounds):
            for name, command in candidates(args, work, url).items():
                with Served(command, work, url, args.path) as served:
                    found.setdefault(name, []).append(served.measure(args, work))
                    print(name, json.dumps(found[name][-1]), flush=True)
    report(args, found)


def memory(args: argparse.Namespace, work: Path, url: str) -> None:
    """What the workers hold as requests go by: the first ones open connections and fill caches, then it stays."""
    command = candidates(args, work, url)["serve-api"]
    with Served(command, work, url, args.path) as served:
        sent = 0
        print(f"{'requests':>9}{'MiB':>8}")
        print(f"{0:9}{served.resident() / 2**20:8.1f}")
        while sent < 100_000:
            served.measure(args, work)
            sent += served.requests
            print(f"{sent:9}{served.resident() / 2**20:8.1f}", flush=True)


def report(args: argparse.Namespace, found: dict[str, list[dict[str, float]]]) -> None:
    known = {name: version(name) for name in ("granian", "uvloop", "SQLAlchemy", "PyMySQL")}
    versions = ", ".join([f"Python {sys.version.split()[0]}", *(f"{name} {number}" for name, number in known.items())])
    print(f"\n{args.rounds} rounds of {args.seconds} s, {args.connections} connections, {args.workers} workers")
    print(f"{args.format}; {versions}")
    heads = ("requests/s", "p50 ms", "p99 ms", "errors", "serve-api has", "server µs", "database µs")
    print(f"{'':37}" + "".join(f"{head:>14}" for head in heads))
    ours = statistics.median(run["per_second"] for run in found["serve-api"])
    for name, runs in found.items():
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        first = f"{middle['per_second']:14.0f}{middle['p50_ms']:14.1f}{middle['p99_ms']:14.1f}{middle['errors']:14.0f}"
        last = f"{ours / middle['per_second']:12.2f} ×{middle['server_us']:14.0f}{middle['database_us']:14.0f}"
        print(f"{name:37}{first}{last}")


if __name__ == "__main__":
    main()
