"""Whatever dies, wherever: real processes of callback-run are killed or stopped at each step's boundary.

What holds them there is real: a lock that the test holds in the database, a customer that keeps its answer, a port that
takes no connection. On SQLite such a lock is the whole database's, so "before the COMMIT" is before its first write.
The long form is `make fault` (tests/fault/chaos.py); its short form is the last test here.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, select, text, update

from monitor_cli import migrate, schema
from monitor_cli.db import Database
from monitor_cli.store import planning
from tests.fault import chaos
from tests.fault.workers import alive
from tests.support.cli import Cli, Running
from tests.support.http import Answer, Receiver
from tests.support.losing import LosingProxy
from tests.support.mariadb import MariaDB
from tests.support.world import World

ENV = {
    "MONITOR_ALLOW_NETWORKS": "127.0.0.0/8",
    "MONITOR_RETRY_SCHEDULE": ",".join(["0.05"] * 9),
    "MONITOR_PROCESSES": "1",
}
ONCE = {**ENV, "MONITOR_MAX_SECONDS": "2"}
NUMBER = "+878788197367616"


@dataclass
class Scene:
    """One server, one customer with a number there and a callback."""

    world: World
    cli: Cli
    receiver: Receiver
    server: int
    account: int
    callback: int

    def start(self, *args: str, **env: str) -> Running:
        """A worker that stays."""
        return self.cli.start("callback-run", "--watch", *args, env={**ENV, **env})

    def run(self) -> None:
        """A worker that does what there is to do, and says nothing."""
        self.cli.process("callback-run", env=ONCE).quiet()

    def plan(self) -> None:
        self.world.database.transact(planning.plan_flagged)

    def told(self) -> list[tuple[str | None, str]]:
        """What came, in order: webhook-id and type."""
        return [
            (request.header("webhook-id"), request.json["data"]["incidents"][0]["type"])
            for request in self.receiver.requests
        ]

    def expire(self) -> None:
        """As if the leases' time had passed."""
        d = schema.delivery
        with self.world.database.write() as conn:
            conn.execute(update(d).where(d.c.lease_until > 0).values(lease_until=1))

    def leased(self) -> bool:
        return all(row.lease_until > 1 for row in self.world.deliveries())

    def state(self) -> tuple[list[Any], list[Any]]:
        return self.world.owed(all_rows=True), self.world.deliveries()

    def all_told(self, kind: str) -> None:
        """Nothing is owed or open, and the customer is told this type."""
        assert {(row.told_type, row.unsure, row.wanted - row.told) for row in self.world.owed(all_rows=True)} == {
            (kind, 0, 0)
        }
        assert {row.state for row in self.world.deliveries()} == {"done"}
        assert self.world.rows(schema.plan) == []


def _scene(world: World, cli: Cli, receiver: Receiver) -> Scene:
    account = world.account("acme")
    world.number(account, NUMBER, channel=1)
    callback = world.callback(account, receiver.url("/hook"), raw_json=True)
    return Scene(world, cli, receiver, world.server(channel=1), account, callback)


@pytest.fixture
def scene(world: World, cli: Cli, receiver: Receiver) -> Scene:
    return _scene(world, cli, receiver)


@contextmanager
def _scene_on(server: MariaDB, make_cli: Callable[[str | None], Cli], receiver: Receiver) -> Iterator[Scene]:
    url = server.create_database()
    migrate.upgrade(url)
    database = Database(url)
    yield _scene(World(database), make_cli(url), receiver)
    database.close()


@pytest.fixture
def mariadb_scene(mariadb: MariaDB, make_cli: Callable[[str | None], Cli], receiver: Receiver) -> Iterator[Scene]:
    """The same on MariaDB alone: SQLite has no deadlocks, since one writes at a time."""
    with _scene_on(mariadb, make_cli, receiver) as scene:
        yield scene


@pytest.fixture
def own_scene(own_mariadb: MariaDB, make_cli: Callable[[str | None], Cli], receiver: Receiver) -> Iterator[Scene]:
    """The same on a server of its own, to kill."""
    with _scene_on(own_mariadb, make_cli, receiver) as scene:
        yield scene


def eventually(true: Callable[[], object], what: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.005)


_OTHERS = (
    "SELECT COUNT(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p "
    "ON p.id = t.trx_mysql_thread_id WHERE p.db = DATABASE() AND p.id <> CONNECTION_ID() AND t.trx_state LIKE :state"
)


def transactions(database: Database, state: str = "%") -> int:
    """Transactions under way of others (MariaDB, which shows them anew only to who has not looked for 0.1 s)."""
    time.sleep(0.15)
    with database.read() as conn:
        return int(conn.execute(text(_OTHERS), {"state": state}).scalar_one())


@contextmanager
def locked(scene: Scene, table: Table, *where: Any) -> Iterator[Any]:
    """Hold a lock on rows of a table (on SQLite: on the database)."""
    with scene.world.database.write() as conn:
        assert conn.execute(select(table).where(*where).with_for_update()).all()
        yield conn


def blocked(scene: Scene) -> None:
    """Wait until a worker waits for a lock. On SQLite nothing shows it: it has had the time to get there."""
    if scene.world.database.is_mysql:
        eventually(lambda: transactions(scene.world.database, "LOCK WAIT"), "a worker that waits for a lock")
    else:
        time.sleep(1)


def rolled_back(scene: Scene) -> None:
    """Wait until the database has noticed that a killed worker is gone."""
    if scene.world.database.is_mysql:
        eventually(lambda: not transactions(scene.world.database), "the end of the dead worker's transaction")


# --- SIGKILL at each boundary -----------------------------------------------------------------------------------------


def test_killed_before_the_commit_of_plan(scene: Scene) -> None:
    scene.world.flag(scene.server, "critical")
    with locked(scene, schema.change):  # the last but one that a plan writes: what is owed is written by then
        worker = scene.start()
        blocked(scene)
        worker.kill()
    rolled_back(scene)
    assert scene.world.server_row(scene.server).status_report == 1
    assert scene.state() == ([], [])
    assert scene.world.rows(schema.plan) == []
    scene.run()
    assert len(scene.told()) == 1
    scene.all_told("critical")


def test_killed_between_plan_and_claim(scene: Scene) -> None:
    other = scene.world.callback(scene.account, scene.receiver.url("/other"), raw_json=True, hears_from=2**62)
    with scene.world.database.write() as conn:
        row = {"callback_id": other, "open_callback_id": other, "state": "open", "created_at": 1, "due_at": 1}
        conn.execute(schema.delivery.insert().values(**row))
    scene.world.flag(scene.server, "critical")
    d = schema.delivery.c
    if scene.world.database.is_mysql:  # claimed together with one that is locked
        with locked(scene, schema.delivery, d.callback_id == other):
            worker = scene.start()
            blocked(scene)
            worker.kill()
        rolled_back(scene)
    else:
        worker = scene.start()
        eventually(lambda: scene.world.deliveries(scene.callback), "the plan")
        worker.kill()
        scene.expire()
    assert scene.world.server_row(scene.server).status_report == 0
    assert len(scene.world.deliveries(scene.callback)) == 1
    came = scene.told()
    if scene.world.database.is_mysql:
        assert came == []
        assert [row.lease_until for row in scene.world.deliveries(scene.callback)] == [0]
    scene.run()
    assert len(set(scene.told())) == 1
    assert len(scene.told()) <= len(came) + 1
    scene.all_told("critical")


def test_killed_before_the_commit_of_claim(scene: Scene) -> None:
    scene.world.flag(scene.server, "critical")
    scene.plan()
    with scene.world.database.write() as conn:  # a takeover marks what is owed: there it can be held
        conn.execute(update(schema.delivery).values(lease_until=1))
    before = scene.state()
    with locked(scene, schema.owed) as conn:
        worker = scene.start()
        blocked(scene)
        if scene.world.database.is_mysql:
            conn.exec_driver_sql("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
            with scene.world.database.engine.connect().execution_options(isolation_level="READ UNCOMMITTED") as dirty:
                assert dirty.execute(select(schema.delivery.c.lease_token)).scalar_one() != ""
        worker.kill()
    rolled_back(scene)
    assert scene.state() == before
    scene.run()
    assert len(scene.told()) == 1
    scene.all_told("critical")


@contextmanager
def taking_no_connection() -> Iterator[int]:
    """A port whose queue is full: who dials it waits."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(listener.getsockname())
            yield listener.getsockname()[1]
        finally:
            for one in waiting:
                one.close()


def test_killed_after_the_commit_of_claim_with_nothing_sent(scene: Scene) -> None:
    with taking_no_connection() as port:
        with scene.world.database.write() as conn:
            url = f"http://127.0.0.1:{port}/hook"
            conn.execute(update(schema.callback).values(url=url, destination=f"127.0.0.1:{port}"))
        scene.world.flag(scene.server, "critical")
        worker = scene.start()
        eventually(lambda: scene.world.deliveries() and scene.leased(), "the claim")
        worker.kill()
    scene.expire()
    with Receiver(port=port) as customer:
        scene.run()
        assert len(customer.requests) == 1
    scene.all_told("critical")


def in_flight(scene: Scene, kind: str = "critical") -> tuple[Running, threading.Event]:
    """A worker whose request has come and waits for its answer."""
    answer = threading.Event()
    scene.receiver.answer("/hook", Answer(200, wait=answer), Answer(200))
    scene.world.flag(scene.server, kind)
    worker = scene.start()
    scene.receiver.wait(1)
    return worker, answer


def test_killed_with_a_request_in_flight(scene: Scene) -> None:
    worker, answer = in_flight(scene)
    worker.kill()
    answer.set()
    scene.run()
    assert len(scene.told()) == 1  # its lease is in force
    scene.expire()
    scene.run()
    first, second = scene.receiver.requests
    assert (first.header("webhook-id"), first.body) == (second.header("webhook-id"), second.body)
    assert [(row.http_status, row.late) for row in scene.world.attempts()] == [(200, 0)]
    scene.all_told("critical")


def test_what_a_dead_worker_may_have_told_is_corrected(scene: Scene) -> None:
    worker, answer = in_flight(scene)
    worker.kill()
    answer.set()
    scene.world.flag(scene.server, "operational")
    scene.expire()
    scene.run()  # a flap, but the customer may believe otherwise
    assert [kind for _, kind in scene.told()] == ["critical", "operational"]
    scene.all_told("operational")


def test_killed_with_an_answer_before_the_commit_of_settle(scene: Scene) -> None:
    worker, answer = in_flight(scene)
    before = scene.state()
    with locked(scene, schema.owed):
        answer.set()
        blocked(scene)
        worker.kill()
    rolled_back(scene)
    assert scene.state() == before
    assert scene.world.attempts() == []
    scene.expire()
    scene.run()
    assert len(scene.told()) == 2
    assert len(set(scene.told())) == 1
    scene.all_told("critical")


def test_killed_after_the_commit_of_settle(scene: Scene) -> None:
    scene.world.flag(scene.server, "critical")
    worker = scene.start()
    eventually(lambda: [row.state for row in scene.world.deliveries()] == ["done"], "the settlement")
    worker.kill()
    scene.expire()
    scene.run()
    assert len(scene.told()) == 1
    scene.all_told("critical")


# --- SIGSTOP past the lease -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["critical", "warning"])
def test_a_worker_that_comes_back_late_overwrites_nothing(scene: Scene, kind: str) -> None:
    worker, answer = in_flight(scene)
    worker.stop()
    if kind != "critical":
        scene.world.flag(scene.server, kind)
    scene.expire()
    scene.run()
    after = scene.state()
    scene.all_told(kind)
    answer.set()
    worker.cont()
    eventually(lambda: len(scene.world.attempts()) == 2, "the late worker's attempt")
    worker.terminate().quiet()
    assert scene.state() == after
    assert [(row.http_status, row.late) for row in scene.world.attempts()] == [(200, 0), (200, 1)]
    assert [told for _, told in scene.told()] == ["critical", kind]
    assert len(set(scene.told())) == (1 if kind == "critical" else 2)


def test_a_worker_that_comes_back_late_starts_nothing(scene: Scene) -> None:
    other = scene.world.account("other")  # no account takes all the slots
    scene.world.number(other, "+919876543210", channel=1)
    second = scene.world.callback(other, scene.receiver.url("/second"), raw_json=True)
    answer = threading.Event()
    scene.receiver.answer(None, Answer(200, wait=answer), Answer(200))
    scene.world.flag(scene.server, "critical")
    # One at a time, two claimed: the second waits, for 5.5 s at most (11 s of lease, less the deadline and 5 s).
    worker = scene.start("--concurrency", "1", MONITOR_TOTAL_TIMEOUT="0.5", MONITOR_LEASE_SECONDS="11")
    scene.receiver.wait(1)
    stopped = time.monotonic()
    worker.stop()
    assert len(scene.world.deliveries()) == 2
    assert scene.leased()
    scene.expire()
    scene.run()
    assert len(scene.receiver.requests) == 3
    time.sleep(max(0.0, stopped + 5.6 - time.monotonic()))
    answer.set()
    worker.cont()
    eventually(lambda: [row for row in scene.world.attempts() if row.late], "the late worker's attempt")
    worker.terminate().quiet()
    assert len(scene.receiver.requests) == 3
    assert len(scene.receiver.to("/second")) + len(scene.receiver.to("/hook")) == 3
    assert {row.callback_id for row in scene.world.deliveries()} == {scene.callback, second}
    scene.all_told("critical")


# --- what the database refuses ----------------------------------------------------------------------------------------


def _deadlocks(database: Database) -> int:
    with database.read() as conn:
        return int(conn.exec_driver_sql("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'").one()[1])


@pytest.mark.parametrize("step", ["plan", "claim", "settle"])
def test_a_deadlock_is_retried_without_a_word(mariadb_scene: Scene, step: str) -> None:
    scene = mariadb_scene
    database = scene.world.database
    answer = threading.Event()
    scene.receiver.answer("/hook", Answer(200, wait=answer))
    scene.world.flag(scene.server, "critical")
    if step != "plan":
        scene.plan()
    with database.write() as conn:
        conn.exec_driver_sql("CREATE TABLE ballast (id INT PRIMARY KEY AUTO_INCREMENT, word TEXT) ENGINE=InnoDB")
        if step == "claim":
            conn.execute(update(schema.delivery).values(lease_until=1))
    deadlocks = _deadlocks(database)
    # The worker locks `first`, then waits for `second`, which we hold; then we ask for `first`.
    first, second = (schema.monitor, schema.change) if step == "plan" else (schema.delivery, schema.owed)
    worker = None
    if step == "settle":
        worker = scene.cli.start("callback-run", env=ONCE)
        scene.receiver.wait(1)
    with locked(scene, second) as conn:
        # InnoDB rolls back the transaction that has written less.
        conn.exec_driver_sql("INSERT INTO ballast (word) VALUES (%s)", [("x",)] * 2000)
        worker = worker or scene.cli.start("callback-run", env=ONCE)
        if step == "settle":
            answer.set()
        blocked(scene)
        conn.execute(select(first).with_for_update()).all()
    answer.set()
    worker.wait().quiet()
    assert _deadlocks(database) > deadlocks
    assert len(scene.told()) == 1
    scene.all_told("critical")


def test_a_lock_that_is_held_for_long_is_waited_for(mariadb_scene: Scene) -> None:
    scene = mariadb_scene
    worker, answer = in_flight(scene)
    with locked(scene, schema.owed):
        answer.set()
        blocked(scene)
        time.sleep(6)  # error 1205 comes after 5 s
    eventually(lambda: not scene.world.owed(), "the settlement")
    worker.terminate().quiet()
    assert len(scene.told()) == 1
    scene.all_told("critical")


def test_a_worker_stopped_with_locks_holds_nobody_up(mariadb_scene: Scene) -> None:
    """Or one whose host vanished: its transaction is open, and the database hears nothing of it."""
    scene = mariadb_scene
    scene.world.flag(scene.server, "critical")
    scene.plan()
    with scene.world.database.write() as conn:
        conn.execute(update(schema.delivery).values(lease_until=1))
    with locked(scene, schema.owed):
        stopped = scene.start(MONITOR_TOTAL_TIMEOUT="0.5", MONITOR_LEASE_SECONDS="11")
        blocked(scene)  # in its claim: it holds the delivery
        stopped.stop()
    assert transactions(scene.world.database)
    scene.cli.process("callback-run", "--max-seconds", "20", env=ENV).quiet()
    assert len(scene.told()) == 1
    scene.all_told("critical")
    stopped.cont()
    eventually(lambda: "database.back" in stopped.output()[1], "that it goes on")
    assert stopped.terminate().code == 0
    assert len(scene.told()) == 1


# --- a worker of several processes ------------------------------------------------------------------------------------


def test_helpers_finish_and_end_when_their_first_process_is_killed(scene: Scene) -> None:
    answer = threading.Event()
    scene.receiver.answer(None, Answer(200, wait=answer))
    for number in range(11):
        account = scene.world.account(f"account {number}")
        scene.world.number(account, f"+91{number}", channel=1)
        scene.world.callback(account, scene.receiver.url(f"/{number}"), raw_json=True)
    scene.world.flag(scene.server, "critical")
    worker = scene.start("--concurrency", "6", MONITOR_PROCESSES="3")  # two at once each, and two more claimed
    scene.receiver.wait(6)
    helpers = [int(pid) for pid in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()]
    assert len(helpers) == 2
    worker.kill()
    answer.set()
    eventually(lambda: not any(map(alive, helpers)), "the helpers' end")
    assert [(row.http_status, row.late) for row in scene.world.attempts()] == [(200, 0)] * 4
    assert len(scene.receiver.requests) == 6
    scene.expire()
    scene.run()
    assert len(scene.receiver.requests) == 14  # 12, and what the killed process had in flight once more
    assert len({request.header("webhook-id") for request in scene.receiver.requests}) == 12
    scene.all_told("critical")


# --- the database away ------------------------------------------------------------------------------------------------


def test_the_database_dies_under_a_run_and_comes_back(own_scene: Scene, own_mariadb: MariaDB) -> None:
    scene = own_scene
    answer = threading.Event()
    scene.receiver.answer("/hook", Answer(200, wait=answer))
    scene.world.flag(scene.server, "critical")
    worker = scene.cli.start("callback-run", env=ENV)
    scene.receiver.wait(1)
    own_mariadb.kill()
    answer.set()
    eventually(lambda: "database.away" in worker.output()[1], "a word of the database's death")
    own_mariadb.start()
    result = worker.wait().ok()
    assert result.out == ""
    assert [line.split()[0] for line in result.err.splitlines()] == ["database.away", "database.back"]
    assert len(scene.told()) == 1
    scene.all_told("critical")


def test_what_a_claim_took_whose_commit_was_not_answered_is_told_in_the_same_run(
    mariadb_scene: Scene, mariadb: MariaDB, make_cli: Callable[[str | None], Cli]
) -> None:
    scene = mariadb_scene
    scene.world.flag(scene.server, "critical")
    with LosingProxy(mariadb.port, b"lease_token = CASE") as proxy:
        result = make_cli(proxy.url(scene.world.database)).process("callback-run", "--max-seconds", "20", env=ENV).ok()
        assert proxy.left == 0
    assert [line.split()[0] for line in result.err.splitlines()] == ["database.away", "database.back"]
    assert len(scene.told()) == 1
    assert [(row.http_status, row.late) for row in scene.world.attempts()] == [(200, 0)]
    scene.all_told("critical")


def test_an_attempt_is_recorded_once_where_its_settlements_commit_was_not_answered(
    mariadb_scene: Scene, mariadb: MariaDB, make_cli: Callable[[str | None], Cli]
) -> None:
    """One that closes the delivery, and one in three parts, each of which is recorded by itself."""
    scene = mariadb_scene
    scene.world.number(scene.account, *(f"+9188{number:06d}" for number in range(1000)), channel=1)
    scene.world.callback(scene.account, scene.receiver.url("/long?n={numbers}"))
    scene.world.flag(scene.server, "critical")
    with LosingProxy(mariadb.port, b"INSERT INTO infi_voice_monitor_attempt", losses=2) as proxy:
        make_cli(proxy.url(scene.world.database)).process("callback-run", "--max-seconds", "20", env=ENV).ok()
        assert proxy.left == 0
    assert len(scene.receiver.requests) == 4
    recorded = [(row.part, row.http_status, row.late) for row in scene.world.attempts()]
    assert sorted(recorded) == [(part, 200, 0) for part in (0, 1, 2, 3)]
    scene.all_told("critical")


def test_the_database_dies_for_good(own_scene: Scene, own_mariadb: MariaDB) -> None:
    scene = own_scene
    scene.receiver.answer("/hook", Answer(500))
    scene.world.flag(scene.server, "critical")
    worker = scene.cli.start("callback-run", "--max-seconds", "8", env={**ENV, "MONITOR_RETRY_SCHEDULE": "6,6"})
    eventually(scene.world.attempts, "the first attempt")
    own_mariadb.kill()
    result = worker.wait()
    assert (result.code, result.out) == (75, "")
    assert "Traceback" not in result.err
    said = [line.split()[0] for line in result.err.splitlines()]
    if said[1] == "delivery.unrecorded":  # it died after the COMMIT, before it could say so
        del said[1]
    assert said == ["database.away", "monitor-cli:"]
    assert "does not answer" in result.err.splitlines()[-1]
    result = scene.cli.process("callback-run", env=ENV)
    assert (result.code, result.out, len(result.err.splitlines())) == (75, "", 1)
    own_mariadb.start()
    scene.receiver.answer("/hook", Answer(200))
    scene.cli.process("callback-run", "--max-seconds", "5", env=ENV).quiet()
    scene.all_told("critical")


def test_what_was_answered_while_the_database_was_away_for_long_is_recorded_then(
    own_scene: Scene, own_mariadb: MariaDB
) -> None:
    """Longer than the lease; nobody else took it over. First parts of split requests: the second ones follow, and the
    account's four places at its customer are free again."""
    scene = own_scene
    scene.world.number(scene.account, *(f"+9188{number:06d}" for number in range(1000)), channel=1)
    answer = threading.Event()
    for name in ("a", "b", "c", "d"):
        scene.world.callback(scene.account, scene.receiver.url(f"/{name}?n={{numbers}}"))
        scene.receiver.answer(f"/{name}", Answer(200, wait=answer), Answer(200))
    scene.world.flag(scene.server, "critical")
    worker = scene.start(MONITOR_TOTAL_TIMEOUT="1", MONITOR_LEASE_SECONDS="12")
    scene.receiver.wait(4)
    own_mariadb.kill()
    answer.set()
    time.sleep(12.5)
    own_mariadb.start()
    eventually(lambda: not scene.world.owed(), "that all are told")
    result = worker.terminate()
    assert result.code == 0
    assert [line.split()[0] for line in result.err.splitlines()] == ["database.away", "database.back"]
    ids = [request.header("webhook-id") for request in scene.receiver.requests]
    assert len(ids) == len(set(ids)) == 13  # three parts of each, and one that was a whole
    scene.all_told("critical")


# --- all at once ------------------------------------------------------------------------------------------------------


def test_a_short_storm(mariadb: MariaDB) -> None:
    plan = chaos.Plan(owed=1500, workers=4, seconds=15, seed=20, callbacks=300, kills=2, stops=1.2, outages=5)
    outcome = chaos.run(plan)
    assert outcome.verdict.violations == []
    assert outcome.figures["owed changes planned"] >= plan.owed / 3  # a busy machine does less in its time
    assert min(outcome.figures[what] for what in ("kills", "stops", "database deaths")) >= 1
