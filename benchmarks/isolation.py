"""What customers that hang cost the others: p95 from due to answered with them, and without.

    python -m benchmarks.isolation [--seconds 4] [--runs 3] [--sizes 2000,20000]

So many accounts with a callback each at an address of its own (127.x.y.z), of which every tenth hangs: it takes the
request and never answers. Then one account with 5 000 callbacks that hang at one host and port, on which 200 other
accounts are answered. Everything is planned before the clock starts, so that all are due at once; due to answered is
read from the attempts. A private MariaDB with default durability, nginx as the healthy receiver, all on loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import resource
import statistics
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import insert, text, update

from benchmarks.delivery import BATCH, callback_row, callback_run, flag_all, versions
from benchmarks.receivers import nginx
from monitor_cli import migrate, schema
from monitor_cli.db import Database
from monitor_cli.dialect import now_ms
from monitor_cli.store.planning import plan_flagged
from tests.support.mariadb import MariaDB
from tests.support.ports import free_port

CROWD = 5_000
NEIGHBOURS = 200
MOST = 1.5


# --- the receivers ----------------------------------------------------------------------------------------------------


@contextmanager
def hanging() -> Iterator[int]:
    """A server, in a process of its own, that answers /fine at once and nothing else, ever. Gives its port."""
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(target=_hang, args=(port,), daemon=True)
    process.start()
    try:
        _wait_for(port)
        yield port
    finally:
        process.terminate()
        process.join(30)


def _hang(port: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
                await reader.readexactly(int(length or 0))
                if b" /fine" in head:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "0.0.0.0", port, backlog=4096)
        await server.serve_forever()

    asyncio.run(main())


def _wait_for(port: int) -> None:
    async def knock() -> None:
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
        raise SystemExit(f"nothing listens on port {port}")

    asyncio.run(knock())


# --- the data ---------------------------------------------------------------------------------------------------------


def seed(url: str, callbacks: list[tuple[int, str, int, str]]) -> Database:
    """Callbacks (account, host, port, path), each account with a number on the one channel that there is."""
    migrate.upgrade(url)
    database = Database(url)
    accounts = sorted({account for account, *_ in callbacks})
    server = {
        "server_id": 1,
        "name": "server",
        "server_tag": "tag",
        "channel_id": 1,
        "region": "karnataka",
        "region_code": "KA-IN",
        "incident_status": "operational",
        "final_status": "operational",
    }
    with database.write() as conn:
        now = now_ms(conn)
        conn.execute(insert(schema.monitor), server)
    for start in range(0, len(accounts), BATCH):
        some = accounts[start : start + BATCH]
        with database.write() as conn:
            conn.execute(
                insert(schema.account), [{"id": i, "name": f"a{i}", "api_key_sha256": f"{i:064x}"} for i in some]
            )
            conn.execute(insert(schema.subscription), [{"account_id": i, "active": 1} for i in some])
            conn.execute(
                insert(schema.number), [{"account_id": i, "number": f"+91{i:08d}", "channel_id": 1} for i in some]
            )
    for start in range(0, len(callbacks), BATCH):
        with database.write() as conn:
            rows = enumerate(callbacks[start : start + BATCH], start + 1)
            conn.execute(insert(schema.callback), [_callback(i, *one, now=now) for i, one in rows])
    return database


def _callback(i: int, account: int, host: str, port: int, path: str, now: int) -> dict[str, object]:
    return callback_row(i, account, f"http://{host}:{port}{path}", f"{host}:{port}", now)


def _host(i: int) -> str:
    return f"127.{1 + i // 62500}.{i // 250 % 250}.{1 + i % 250}"


# --- what is measured -------------------------------------------------------------------------------------------------


def round_trip(database: Database, url: str, kind: str, seconds: float, healthy: int, ends: float) -> float:
    """Tell everybody of a change; the p95 in milliseconds from due to answered of those that answer."""
    with database.write() as conn:
        conn.execute(text("DELETE FROM infi_voice_monitor_attempt"))
        conn.execute(text("DELETE FROM infi_voice_monitor_delivery"))
    flag_all(database, kind)
    database.transact(plan_flagged)
    with database.write() as conn:
        due = now_ms(conn) + 1
        conn.execute(update(schema.delivery).values(due_at=due))
    # One attempt each: a retry would come after the run, which ends with the first ones that hang where more wait.
    callback_run(url, "--max-seconds", str(ends), MONITOR_TOTAL_TIMEOUT=str(seconds), MONITOR_RETRY_SCHEDULE="3600")
    query = "SELECT started_at + duration_ms - :due FROM infi_voice_monitor_attempt WHERE http_status = 200"
    with database.read() as conn:
        waits = sorted(int(wait) for wait in conn.execute(text(query), {"due": due}).scalars())
    if len(waits) != healthy:
        raise SystemExit(f"{len(waits)} of {healthy} were answered")
    return waits[int(len(waits) * 0.95)]


def compare(
    what: str, server: MariaDB, seconds: float, runs: int, healthy: list[tuple[int, str, int, str]],
    hostile: list[tuple[int, str, int, str]], ends: float = 600,
) -> bool:  # fmt: skip
    """Runs without and with the hostile callbacks, in turns, after one of each that warms up."""
    urls = [server.create_database() for _ in range(2)]
    databases = [seed(urls[0], healthy), seed(urls[1], sorted(healthy + hostile))]
    found: list[list[float]] = [[], []]
    for run in range(runs + 1):
        kind = ("critical", "operational")[run % 2]
        for place in range(2):
            found[place].append(round_trip(databases[place], urls[place], kind, seconds, len(healthy), ends))
    for database in databases:
        database.close()
    calm, hung = (figures[1:] for figures in found)
    ratio = statistics.median(hung) / statistics.median(calm)
    print(
        f"{what}: p95 {statistics.median(calm):.0f} ms ({min(calm):.0f} to {max(calm):.0f}) without, "
        f"{statistics.median(hung):.0f} ms ({min(hung):.0f} to {max(hung):.0f}) with; ratio {ratio:.2f}",
        flush=True,
    )
    return ratio <= MOST


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4, help="total_timeout: how long a hanging request is held")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--sizes", default="2000,20000")
    parser.add_argument("--skip-neighbours", action="store_true")
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    print(versions(), flush=True)
    good = True
    with MariaDB() as server, nginx() as front, hanging() as port:
        for size in map(int, filter(None, args.sizes.split(","))):
            callbacks = [(i, _host(i), port if i % 10 == 0 else front.http, f"/hook/{i}") for i in range(1, size + 1)]
            hostile = [one for one in callbacks if one[2] == port]
            healthy = [one for one in callbacks if one[2] != port]
            what = f"{size} destinations, {len(hostile)} hang"
            good &= compare(what, server, args.seconds, args.runs, healthy, hostile)
        if not args.skip_neighbours:
            crowd = [(1, "127.0.0.1", port, f"/hang/{i}") for i in range(CROWD)]
            neighbours = [(2 + i, "127.0.0.1", port, f"/fine/{i}") for i in range(NEIGHBOURS)]
            what = f"{NEIGHBOURS} accounts beside {CROWD} hanging callbacks of one on their host and port"
            good &= compare(what, server, args.seconds, args.runs, neighbours, crowd, ends=10)
    if not good:
        raise SystemExit(f"a ratio is over {MOST}")


if __name__ == "__main__":
    main()
