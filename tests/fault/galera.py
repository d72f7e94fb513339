"""The fault run on a Galera cluster (`make galera`): nodes die and come back while workers on all of them deliver.

    python -m tests.fault.galera --owed 6000 --workers 6 --seconds 90 --seed 1

Three MariaDB nodes on loopback; workers that are the installed monitor-cli, each at one node; changes made by
incident-sync runs at any node, and by another program. A node is killed (SIGKILL) and joins again, by turns with what
it has and with an empty disk, and workers are killed and stopped. The judge is that of `make fault`; besides, no
deadlock or certification failure may be told to anybody, and at the end all nodes hold the same.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pymysql
from sqlalchemy import URL, make_url

from monitor_cli import schema
from monitor_cli.db import Database
from tests.fault.chaos import Outcome, Plan, Storm, customers_of, pace, report, workers
from tests.fault.evidence import Evidence, Span, overlaps
from tests.fault.judge import RECONNECTED_WITHIN, judge
from tests.fault.pages import Publisher
from tests.fault.scene import build
from tests.fault.workers import Life, Worker, environment
from tests.support.cli import SCRIPT
from tests.support.galera import Galera, GaleraMissing, Node

SLOW_SECONDS = 0.5  # a commit that takes longer counts as an outage of its node
# Causal reads, for the run's own looks at the cluster: a node shows what another has committed.
CAUSAL = "SET SESSION wsrep_sync_wait=15"
# What nobody may ever be told: the store's words when it gives up on a transaction.
CONFLICT = re.compile(r"deadlock|lock wait|certif|record has changed|aborted|interrupted|during commit", re.IGNORECASE)


class Probe(threading.Thread):
    """Commits at a node again and again, and writes down when that was slow or failed."""

    def __init__(self, node: Node, database: str) -> None:
        super().__init__(name=f"probe-{node.number}", daemon=True)
        self._node, self._database = node, database
        self._ended = threading.Event()
        self._failing_since: float | None = None
        self._spans: list[Span] = []

    def spans(self) -> list[Span]:
        """When the node took no commits; the last one may last until now."""
        since = self._failing_since
        return [*self._spans, *([(since, time.time())] if since is not None else [])]

    def quit(self) -> None:
        self._ended.set()
        self.join(30)

    def run(self) -> None:
        connection = None
        while not self._ended.wait(0.05):
            begun = time.time()
            try:
                connection = connection or self._connect()
                with connection.cursor() as cursor:
                    cursor.execute("UPDATE probe SET beats = beats + 1 WHERE node = %s", (self._node.number,))
            except pymysql.err.Error:
                connection = None
                self._failing_since = self._failing_since or begun
                continue
            since = self._failing_since or begun
            if time.time() - since > SLOW_SECONDS:
                self._spans.append((since, time.time()))
            self._failing_since = None

    def _connect(self) -> pymysql.connections.Connection:  # type: ignore[type-arg]
        node = self._node
        return pymysql.connect(
            unix_socket=str(node.socket),
            user="root",
            password=node.password,
            database=self._database,
            autocommit=True,
            connect_timeout=10,
            read_timeout=30,
        )


@contextmanager
def _probes(cluster: Galera) -> Iterator[list[Probe]]:
    name = cluster.create_database()
    cluster.nodes[0].execute(
        "CREATE TABLE probe (node INT PRIMARY KEY, beats BIGINT NOT NULL) ENGINE=InnoDB",
        f"INSERT INTO probe VALUES {', '.join(f'({node.number}, 0)' for node in cluster.nodes)}",
        database=name,
    )
    probes = [Probe(node, name) for node in cluster.nodes]
    for probe in probes:
        probe.start()
    try:
        yield probes
    finally:
        for probe in probes:
            probe.quit()


class NodeStorm(Storm):
    """The same, but a database's death is one node's."""

    def __init__(
        self,
        plan: Plan,
        cluster: Galera,
        probes: Sequence[Probe],
        database: Database,
        publisher: Publisher,
        workers: list[Worker],
    ) -> None:
        super().__init__(plan, cluster.nodes[0], database, publisher, workers)
        self._cluster, self._probes = cluster, probes
        self.down: set[int] = set()
        self.conflicts: Counter[str] = Counter()
        self._deaths = 0

    def up(self) -> list[str]:
        """The places whose node takes part."""
        return [place_of(node) for node in self._cluster.nodes if node.number not in self.down]

    def outages(self) -> Mapping[str, Sequence[Span]]:
        return {place_of(probe._node): probe.spans() for probe in self._probes}

    def _outage(self) -> None:
        node = self._rng.choice(self._cluster.nodes)
        self.count_conflicts([node])
        self.down.add(node.number)
        died = time.time()
        node.kill()
        self._deaths += 1
        back = time.monotonic() + self._rng.choice((0, 2, 8))
        while time.monotonic() < back:
            self._tend()
            time.sleep(0.02)
        if self._deaths % 2 == 0:
            node.empty()
        for _ in node.rejoining():
            self._tend()
        self.down.discard(node.number)
        self._outages.append((died, time.time()))

    def count_conflicts(self, nodes: Sequence[Node]) -> None:
        """Add up what nodes counted since their start."""
        for node in nodes:
            for name in ("wsrep_local_cert_failures", "wsrep_local_bf_aborts"):
                self.conflicts[name] += int(node.status(name))


def place_of(node: Node) -> str:
    return f"node {node.number}"


def run(plan: Plan) -> Outcome:
    """Do it, on this machine; nothing of it is left."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="monitor-fault-") as name, Galera() as cluster, _probes(cluster) as probes:
        directory = Path(name)
        database_name = cluster.create_database()
        urls = {place_of(node): make_url(node.url(database_name)) for node in cluster.nodes}
        complaints = _upgrade_everywhere(urls, directory)
        causal = {place: url.update_query_dict({"init_command": CAUSAL}) for place, url in urls.items()}
        database = Database(causal[place_of(cluster.nodes[0])])
        with customers_of(plan.seed, directory) as customers:
            scene = build(database, customers.ports, plan.callbacks, random.Random(f"{plan.seed}-scene"))
            storm: NodeStorm
            rng = random.Random(f"{plan.seed}-syncer")
            publisher = Publisher(urls, causal, lambda: storm.up(), scene, pace(plan, scene) / 4, rng, directory)
            storm = NodeStorm(plan, cluster, probes, database, publisher, workers(plan, urls, directory))
            try:
                storm.rage()
                storm.calm()
            finally:
                storm.end()
        storm.count_conflicts(cluster.nodes)
        evidence = storm.evidence(scene, customers.records)
        database.close()
        verdict = judge(evidence)
        verdict.violations += [*complaints, *_told_of_conflicts(evidence), *_ended_well(evidence, publisher)]
        verdict.violations += _nodes_differ(cluster, database_name)
        snapshots = sum(node.snapshots() for node in cluster.nodes) - len(cluster.nodes) + 1
    figures = {
        **storm.figures(evidence),
        "incident-sync runs": len(publisher.runs),
        "of them ended with 75": sum(run.code == 75 for run in publisher.runs),
        "nodes that came back with an empty disk": snapshots,
        "transactions that failed certification": storm.conflicts["wsrep_local_cert_failures"],
        "transactions aborted by another node's": storm.conflicts["wsrep_local_bf_aborts"],
        **verdict.figures,
        "seconds": time.monotonic() - begun,
    }
    return Outcome(verdict, figures)


def _upgrade_everywhere(urls: Mapping[str, URL], directory: Path) -> list[str]:
    """`db upgrade` at all nodes at once."""
    processes = [
        subprocess.Popen(
            [str(SCRIPT), "db", "upgrade"],
            env={**environment(directory), "MONITOR_DATABASE_URL": url.render_as_string(hide_password=False)},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for url in urls.values()
    ]
    ended = [(process.communicate(timeout=120)[1], process.returncode) for process in processes]
    return [f"db upgrade ended with {code}: {said}" for said, code in ended if code or said]


def _told_of_conflicts(evidence: Evidence) -> Iterator[str]:
    for worker in evidence.workers:
        for line in worker.said.read_text(errors="replace").splitlines():
            if CONFLICT.search(line):
                yield f"a worker at {worker.place} told of a conflict: {line}"


def _ended_well(evidence: Evidence, publisher: Publisher) -> Iterator[str]:
    """Who ended with 75 was at a node that was away (or had a helper that was killed), and said no more than one line
    and its hint."""
    for worker in evidence.workers:
        for life in worker.lives:
            if life.code == 75 and not _away(evidence, life.place, _span(life)) and not _lost_a_helper(worker, life):
                said = worker.said.read_text(errors="replace")[-300:]
                yield f"a worker at {life.place} ended with 75 at {life.ended}, and its node was there: {said}"
    for run in publisher.runs:
        if run.code not in (0, 75) or (run.code == 0 and run.said):
            yield f"incident-sync at {run.place} ended with {run.code}: {run.said}"
        if run.code == 75 and not _away(evidence, run.place, (run.started, run.ended)):
            yield f"incident-sync at {run.place} ended with 75, and its node was there: {run.said}"
        if CONFLICT.search(run.said) or len(run.said.splitlines()) > 2 or "Traceback" in run.said:
            yield f"incident-sync at {run.place} said: {run.said}"


def _away(evidence: Evidence, place: str, span: Span) -> bool:
    return overlaps(span, [(begin, end + RECONNECTED_WITHIN) for begin, end in evidence.outages[place]])


def _span(life: Life) -> Span:
    return life.started, life.ended or time.time()


def _lost_a_helper(worker: Worker, first: Life) -> bool:
    return any(life.helper and life.killed and overlaps(_span(life), [_span(first)]) for life in worker.lives)


def _nodes_differ(cluster: Galera, database: str) -> Iterator[str]:
    for table in schema.metadata.tables:
        sums = {
            node.number: node.execute(CAUSAL, f"CHECKSUM TABLE {table} EXTENDED", database=database)[0][1]
            for node in cluster.nodes
        }
        if len(set(sums.values())) > 1 or None in sums.values():
            yield f"the nodes do not hold the same {table}: {sums}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fault.galera", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--owed", type=int, default=6000, help="owed changes that have to be planned")
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--callbacks", type=int, default=1000)
    parser.add_argument("--kills", type=float, default=6, help="seconds between two killed workers, on average")
    parser.add_argument("--stops", type=float, default=4, help="seconds between two stopped workers, on average")
    parser.add_argument("--outages", type=float, default=20, help="seconds between two killed nodes, on average")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(2), "big"))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    try:
        return report(run(Plan(**vars(options))), options.owed)
    except GaleraMissing as error:
        print(f"{error}; to install it: apt-get install galera-4 mariadb-server-core (as root)", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
