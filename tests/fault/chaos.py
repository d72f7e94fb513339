"""The long fault run: workers and the database die at random while types change, and the judge looks at what came.

    python -m tests.fault.chaos --owed 20000 --workers 8 --seconds 120 --seed 1

A private MariaDB, customers in a process of their own, workers that are the installed monitor-cli. For `--seconds` (and
half as long again, until at least `--owed` owed changes are planned) workers are killed (SIGKILL) and stopped (SIGSTOP,
then SIGCONT, some for longer than their lease) and mariadbd is killed and started again; then all is calm until nothing
is owed. Ends with 0 where nothing was lost, stale or unexplained; the seed repeats the decisions, not the timing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from sqlalchemy import URL, func, select

from monitor_cli import migrate, schema
from monitor_cli.db import Database
from monitor_cli.errors import DatabaseAway
from tests.fault.evidence import Evidence, Span, Tables
from tests.fault.judge import Verdict, judge
from tests.fault.receiver import Record
from tests.fault.scene import Scene, build
from tests.fault.syncer import Syncer
from tests.fault.workers import Life, Worker
from tests.support.mariadb import MariaDB

DEADLINE, LEASE = 1.5, 13.0  # seconds; the shortest lease that this deadline allows
CALM_SECONDS = 90
PORTS = 8


@dataclass(frozen=True)
class Plan:
    """What a run shall be. `kills`, `stops` and `outages` are seconds between two of them, on average."""

    owed: int = 20_000
    workers: int = 8
    seconds: float = 120
    seed: int = 1
    callbacks: int = 1000
    kills: float = 2.5
    stops: float = 1.5
    outages: float = 20


@dataclass
class Outcome:
    verdict: Verdict
    figures: dict[str, float] = field(default_factory=dict)


def run(plan: Plan) -> Outcome:
    """Do it, on this machine; nothing of it is left."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="monitor-fault-") as name, MariaDB() as server:
        directory = Path(name)
        url = server.create_database()
        migrate.upgrade(url)
        database = Database(url)
        with customers_of(plan.seed, directory) as customers:
            scene = build(database, customers.ports, plan.callbacks, random.Random(f"{plan.seed}-scene"))
            syncer = Syncer(Database(database.url), scene, pace(plan, scene), random.Random(f"{plan.seed}-syncer"))
            storm = Storm(plan, server, database, syncer, workers(plan, {"": database.url}, directory))
            try:
                storm.rage()
                storm.calm()
            finally:
                storm.end()
        evidence = storm.evidence(scene, customers.records)
        database.close()
        outcome = Outcome(judge(evidence))
    outcome.figures = {**storm.figures(evidence), **outcome.verdict.figures, "seconds": time.monotonic() - begun}
    return outcome


@dataclass
class Customers:
    ports: list[int]
    records: list[Record] = field(default_factory=list)


@contextmanager
def customers_of(seed: int, directory: Path) -> Iterator[Customers]:
    """The customers' process; their records are there after it."""
    file = directory / "records.jsonl"
    command = [sys.executable, "-m", "tests.fault.receiver", "--ports", str(PORTS), "--seed", str(seed)]
    process = subprocess.Popen(
        [*command, "--records", str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parent.parent.parent,
    )
    assert process.stdout is not None
    try:
        customers = Customers(json.loads(process.stdout.readline()))
        yield customers
        process.terminate()
        assert process.wait(60) == 0, "the customers' process failed"
        customers.records = [Record(**json.loads(line)) for line in file.read_text("utf-8").splitlines()]
    finally:
        process.kill()
        process.wait(30)


def workers(plan: Plan, databases: Mapping[str, URL], directory: Path) -> list[Worker]:
    """The workers of a run, by turns at each database (by place); every second one is started by cron's manners."""
    environment = {
        "MONITOR_ALLOW_NETWORKS": "127.0.0.0/8",
        "MONITOR_TOTAL_TIMEOUT": str(DEADLINE),
        "MONITOR_LEASE_SECONDS": str(LEASE),
        "MONITOR_RETRY_SCHEDULE": "0.2,0.4,0.8" + ",1.5" * 200,
    }
    made = []
    for n, place in zip(range(plan.workers), cycle(databases), strict=False):
        url = databases[place].render_as_string(hide_password=False)
        env = {**environment, "MONITOR_DATABASE_URL": url, "MONITOR_PROCESSES": "2" if n % 4 > 1 else "1"}
        made.append(Worker(n, ["--watch"] if n % 2 == 0 else ["--max-seconds", "5"], env, directory, place))
    return made


def pace(plan: Plan, scene: Scene) -> float:
    """Changes a second, so that what shall be owed is owed after three quarters of the time."""
    return plan.owed / (0.75 * plan.seconds) / scene.concerned / 1.8


class Storm:
    """The run itself: who is killed or stopped when."""

    def __init__(self, plan: Plan, server: MariaDB, database: Database, syncer: Syncer, workers: list[Worker]) -> None:
        self._plan, self._server, self._database, self._syncer = plan, server, database, syncer
        self._workers = workers
        self._rng = random.Random(f"{plan.seed}-storm")
        self._outages: list[Span] = []
        self._counts: Counter[str] = Counter()

    def rage(self) -> None:
        begun = time.monotonic()
        due = {what: begun + self._soon(every) for what, every in self._every().items()}
        self._syncer.start()
        while (passed := time.monotonic() - begun) < self._plan.seconds or (
            self._syncer.planned < self._plan.owed and passed < 1.5 * self._plan.seconds
        ):
            for what, at in due.items():
                if time.monotonic() >= at:
                    getattr(self, f"_{what}")()
                    due[what] = time.monotonic() + self._soon(self._every()[what])
            self._tend()
            if not self._syncer.is_alive():
                break  # it failed, and `quit` says how
            time.sleep(0.02)
        self._syncer.quit()

    def calm(self) -> None:
        """Let everything that can run, until nothing is owed or flagged or open."""
        for process in self._processes():
            process.go_on()
        end = time.monotonic() + CALM_SECONDS
        while time.monotonic() < end and not self._told():
            self._tend()
            time.sleep(0.2)
        for worker in self._workers:
            worker.terminate(60)

    def end(self) -> None:
        for worker in self._workers:
            worker.end()

    def outages(self) -> Mapping[str, Sequence[Span]]:
        """When the database was away, by place."""
        return {"": self._outages}

    def evidence(self, scene: Scene, records: list[Record]) -> Evidence:
        with self._database.read() as conn:
            tables = Tables(
                *(
                    conn.execute(select(table)).all()
                    for table in (schema.monitor, schema.owed, schema.delivery, schema.attempt)
                ),
                plans=conn.execute(select(func.count()).select_from(schema.plan)).scalar_one(),
            )
        return Evidence(scene, self._syncer.truth, records, self._workers, self.outages(), tables, DEADLINE, LEASE)

    def figures(self, evidence: Evidence) -> dict[str, float]:
        statuses = Counter(record.status for record in evidence.records)
        return {
            "owed changes planned": sum(row.wanted for row in evidence.tables.owed),
            "changes of servers": self._syncer.changes,
            "of them by another program": self._syncer.foreign,
            "callbacks that heard": len({record.key for record in evidence.records}),
            "requests": len(evidence.records),
            "answered 200": statuses[200],
            "answered 500 or 504": statuses[500] + statuses[504],
            "broken off": statuses[None],
            "worker processes": len(evidence.lives),
            "kills": self._counts["kill"],
            "stops": self._counts["stop"],
            "stops longer than the lease": sum(end - begin > LEASE for begin, end in evidence.stops),
            "database deaths": len(self._outages),
        }

    # --- faults -------------------------------------------------------------------------------------------------------

    def _every(self) -> dict[str, float]:
        return {"kill": self._plan.kills, "stop": self._plan.stops, "outage": self._plan.outages}

    def _soon(self, average: float) -> float:
        return self._rng.uniform(0.3, 1.7) * average

    def _processes(self) -> list[Life]:
        return [life for worker in self._workers for life in worker.processes()]

    def _kill(self) -> None:
        there = self._processes()
        if running := [life for life in there if life.running]:  # mostly: a stopped one shall come back late
            self._rng.choice(there if self._rng.random() < 0.1 else running).kill()
            self._counts["kill"] += 1

    def _stop(self) -> None:
        running = [life for life in self._processes() if life.running]
        if len(running) <= len(self._workers) // 2:
            return
        long = self._rng.random() < 0.25
        seconds = self._rng.uniform(LEASE + 0.5, LEASE + 3) if long else self._rng.uniform(0.02, 2)
        self._rng.choice(running).stop(seconds)
        self._counts["stop"] += 1

    def _outage(self) -> None:
        died = time.time()
        self._server.kill()
        back = time.monotonic() + self._rng.choice((0, 0.5, 2, 4))
        while time.monotonic() < back:
            self._tend()
            time.sleep(0.02)
        self._server.start()
        self._outages.append((died, time.time()))

    def _tend(self) -> None:
        for worker in self._workers:
            worker.tend(True, self._rng)

    def _told(self) -> bool:
        o, d, m = schema.owed.c, schema.delivery.c, schema.monitor.c
        left = [
            select(m.id).where(m.status_report == 1),
            select(o.callback_id).where(o.wanted > o.told),
            select(d.id).where(d.open_callback_id.is_not(None)),
        ]
        try:
            with self._database.read() as conn:
                return not any(conn.execute(query.limit(1)).first() for query in left)
        except DatabaseAway:
            return False


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fault.chaos", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--owed", type=int, default=20_000, help="owed changes that have to be planned")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--callbacks", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(2), "big"))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    return report(run(Plan(**vars(options))), options.owed)


def report(outcome: Outcome, owed: int) -> int:
    """Print it; gives the exit code."""
    if outcome.figures["owed changes planned"] < owed:
        outcome.verdict.violations.append(f"fewer than {owed} owed changes were planned")
    for what, figure in outcome.figures.items():
        print(f"{figure:10,.0f}  {what}")
    print(f"{outcome.verdict.longest_unrecorded:10.3f}  seconds, the longest from an answer to its worker's death")
    for violation in outcome.verdict.violations[:50]:
        print(f"VIOLATION: {violation}")
    print(f"{len(outcome.verdict.violations)} violations")
    return 1 if outcome.verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
