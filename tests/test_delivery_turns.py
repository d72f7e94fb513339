"""What happens while a request is in flight, or between two statements of a plan, and must be neither taken for told
nor forgotten: changes that are not planned yet, subscribing, replaying, other programs' writes. On each store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, insert, select, update

from monitor_cli import schema
from monitor_cli.db import Connection
from monitor_cli.delivery import outcome
from monitor_cli.delivery.jobs import Job, build_job, must_send
from monitor_cli.outbound.transport import Answer
from monitor_cli.store import accounts, claims, due, outbox, planning, settling, trials
from monitor_cli.types import Region, Unit
from tests.support.world import World

d, o, s = schema.delivery, schema.owed, schema.subscription
URL = "http://customer.test/hook"
UNIT = Unit(1, Region("karnataka", "KA-IN"))
LEASE_MS = 60_000


class Scene:
    """One account with a callback, numbers on channel 1 and a server there."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.acme = world.account("acme")
        self.server = world.server(channel=1)

    def flag(self, kind: str) -> None:
        self.world.flag(self.server, kind)

    def plan(self) -> None:
        self.world.database.transact(planning.plan_flagged)

    def claim(self) -> Job:
        """The one delivery that is due, claimed and rendered."""
        (job,) = self.claim_all()
        return job

    def claim_all(self) -> list[Job]:
        def work(conn: Connection) -> list[Job]:
            conn.execute(update(d).where(d.c.due_at.is_not(None)).values(due_at=1))  # as if time had passed
            ids = [one.id for one in due.candidates(conn, 100)]
            claimed = claims.claim(conn, ids, "test", LEASE_MS, 100_000, must_send) if ids else []
            return [build_job(one) for one in claimed]

        return self.world.database.transact(work)

    def answer(self, job: Job, status: int | None = 200) -> settling.Recorded:
        """What comes of the next part of a job; None: its answer is lost."""
        part = job.next_part()
        if part is None:
            settlement = outcome.settle_nothing_sent(job)
        else:
            answer = Answer(status, None if status else "broken", b"", None, 1, True)
            attempt = settling.Attempt(job.claimed.now, 1, status, answer.error, None, part.webhook_id, part.number)
            meaning = outcome.verdict(answer, network_works=True)
            settlement = outcome.settle_answer(job, part, answer, meaning, attempt, outcome.Schedule([5] * 9))
        return self.world.database.transact(lambda conn: settling.settle(conn, [settlement], LEASE_MS))

    def vanish(self) -> None:
        """Whoever has the lease is not heard of any more."""
        self.write(update(d).where(d.c.lease_until > 0).values(lease_until=1))

    def tell(self, kind: str) -> None:
        """A change of which the customer is told."""
        self.flag(kind)
        self.plan()
        self.answer(self.claim())

    def subscribe(self) -> None:
        self.world.database.transact(lambda conn: accounts.subscribe(conn, "acme"))

    def unsubscribe(self) -> None:
        self.world.database.transact(lambda conn: accounts.unsubscribe(conn, "acme"))

    def replay(self, callback: int) -> None:
        self.world.database.transact(lambda conn: outbox.replay(conn, {callback: [UNIT]}))

    def write(self, statement: Any) -> None:
        with self.world.database.write() as conn:
            conn.execute(statement)

    def settled(self) -> None:
        """Nothing is owed, open, leased or in doubt."""
        assert [(row.wanted - row.told, row.unsure) for row in self.world.owed(all_rows=True)] == [(0, 0)]
        assert {(row.state, row.open_callback_id, row.lease_token) for row in self.world.deliveries()} == {
            ("done", None, "")
        }


@pytest.fixture
def scene(world: World) -> Scene:
    return Scene(world)


@pytest.fixture
def callback(scene: Scene) -> int:
    scene.world.number(scene.acme, "+1")
    return scene.world.callback(scene.acme, URL, raw_json=True)


def sent(job: Job) -> list[tuple[str, str]]:
    """What a job tells, and as which message."""
    return [(telling.type.word, part.webhook_id) for part in job.parts for telling in part.tellings]


# --- changes that are not planned yet ---------------------------------------------------------------------------------


def test_a_content_that_comes_back_before_its_change_is_planned_is_no_known_message(
    scene: Scene, callback: int
) -> None:
    scene.flag("critical")
    scene.plan()
    ids = []
    for kind in ("warning", "critical", "warning"):
        scene.flag(kind)
        job = scene.claim()
        ids += sent(job)
        scene.answer(job, None)
    assert [kind for kind, _ in ids] == ["warning", "critical", "warning"]
    assert len({webhook_id for _, webhook_id in ids}) == 3


def test_a_retry_of_what_is_planned_is_the_same_message(scene: Scene, callback: int) -> None:
    scene.flag("critical")
    scene.plan()
    first = scene.claim()
    scene.answer(first, None)
    scene.world.server(channel=2, status_report=1)  # not of what is told
    scene.world.server(channel=1, region_code="MH-IN", status_report=1)
    again = scene.claim()
    assert sent(again) == sent(first)


def test_a_part_of_a_content_that_is_not_planned_counts_for_no_later_one(scene: Scene) -> None:
    scene.world.number(scene.acme, *(f"+91{n:09}" for n in range(700)))
    scene.world.callback(scene.acme, URL + "?n={numbers}")
    scene.flag("critical")
    scene.plan()
    scene.flag("warning")
    scene.answer(scene.claim())  # its first part is taken
    scene.vanish()
    scene.flag("critical")
    scene.claim()  # its first part may be taken
    scene.vanish()
    scene.flag("warning")
    job = scene.claim()
    part = job.next_part()
    assert part is not None
    assert (len(job.parts), part.number, sent(job)[0][0]) == (2, 1, "warning")


# --- subscribing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("told", "missed"), [("operational", "operational"), ("operational", "warning")])
def test_what_is_in_flight_while_an_account_subscribes_is_not_taken_for_the_newest(
    scene: Scene, callback: int, told: str, missed: str
) -> None:
    scene.flag("critical")
    scene.plan()
    assert [row.told_type for row in scene.world.owed()] == [told]
    in_flight = scene.claim()
    scene.unsubscribe()
    scene.flag(missed)
    scene.plan()  # is owed to nobody
    scene.subscribe()
    scene.answer(in_flight)
    job = scene.claim()
    assert [kind for kind, _ in sent(job)] == [missed]
    scene.answer(job)
    scene.settled()


def test_what_is_in_flight_and_still_true_is_told_once(scene: Scene, callback: int) -> None:
    scene.flag("critical")
    scene.plan()
    in_flight = scene.claim()
    scene.unsubscribe()
    scene.subscribe()
    scene.answer(in_flight)
    for job in scene.claim_all():
        assert sent(job) == []
        scene.answer(job)
    scene.settled()


def test_who_may_believe_what_a_test_told_is_told_the_truth_after_subscribing(scene: Scene, callback: int) -> None:
    scene.tell("critical")
    scene.flag("operational")

    def test(conn: Connection) -> None:
        held = trials.hold(conn, callback, "test", LEASE_MS)
        assert held is not None
        trials.let_go(conn, held)

    scene.world.database.transact(test)  # which tells operational
    scene.unsubscribe()
    scene.flag("critical")
    scene.plan()
    scene.subscribe()
    job = scene.claim()
    assert [kind for kind, _ in sent(job)] == ["critical"]
    scene.answer(job)
    scene.settled()


def test_who_was_told_what_is_true_is_told_nothing_after_subscribing(scene: Scene, callback: int) -> None:
    scene.tell("critical")
    scene.unsubscribe()
    scene.subscribe()
    assert scene.claim_all() == []
    scene.settled()


# --- replaying --------------------------------------------------------------------------------------------------------


def test_a_replay_is_not_answered_by_what_was_in_flight(scene: Scene, callback: int) -> None:
    scene.flag("critical")
    scene.plan()
    in_flight = scene.claim()
    scene.replay(callback)
    scene.answer(in_flight)
    again = scene.claim()
    scene.replay(callback)
    scene.answer(again)
    once_more = scene.claim()
    scene.answer(once_more)
    jobs = (in_flight, again, once_more)
    assert [kind for job in jobs for kind, _ in sent(job)] == ["critical"] * 3
    assert len({webhook_id for job in jobs for _, webhook_id in sent(job)}) == 3
    scene.settled()


@pytest.mark.parametrize("status", [500, None])
def test_a_replay_is_sent_though_what_was_in_flight_failed(scene: Scene, callback: int, status: int | None) -> None:
    scene.tell("critical")
    scene.replay(callback)
    in_flight = scene.claim()
    scene.replay(callback)
    scene.answer(in_flight, status)
    job = scene.claim()
    assert [kind for kind, _ in sent(job)] == ["critical"]
    scene.answer(job)
    scene.settled()


def test_a_replay_outlives_the_worker_that_vanished(scene: Scene, callback: int) -> None:
    scene.flag("critical")
    scene.plan()
    vanished = scene.claim()
    scene.replay(callback)
    scene.vanish()
    job = scene.claim()
    scene.answer(vanished)  # late
    assert [kind for kind, _ in sent(job)] == ["critical"]
    scene.answer(job, 500)
    job = scene.claim()
    assert [kind for kind, _ in sent(job)] == ["critical"]
    scene.answer(job)
    scene.settled()


def test_a_replay_outlives_a_lease_that_ran_out_and_was_not_taken_over(scene: Scene, callback: int) -> None:
    scene.flag("critical")
    scene.plan()
    slow = scene.claim()
    scene.replay(callback)
    scene.vanish()
    scene.answer(slow)  # still under its token
    job = scene.claim()
    assert [kind for kind, _ in sent(job)] == ["critical"]
    scene.answer(job)
    scene.settled()


# --- other programs, between two statements of a plan -----------------------------------------------------------------


@contextmanager
def after_statement(scene: Scene, start: str, do: Callable[[Connection], None]) -> Iterator[None]:
    """Another program does something once, as soon as a statement that begins so is over. (SQLite lets none write
    meanwhile; there it is done within the transaction, as by a trigger of the platform's.)"""
    database = scene.world.database
    done: list[str] = []

    def hook(conn: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if done or not statement.startswith(start):
            return
        done.append(statement)
        if database.is_mysql:
            with database.write() as other:
                do(other)
        else:
            do(conn)

    event.listen(database.engine, "after_cursor_execute", hook)
    try:
        yield
    finally:
        event.remove(database.engine, "after_cursor_execute", hook)
    assert done


OPENED, OWED = (f"INSERT INTO {table.name}" for table in (d, o))


def subscribed_by_a_view(conn: Connection, active: int = 1) -> None:
    conn.execute(update(s).values(active=active))


def owed_without_a_delivery(world: World) -> list[int]:
    with world.database.read() as conn:
        opened = select(d.c.callback_id).where(d.c.open_callback_id.is_not(None))
        query = select(o.c.callback_id).where(o.c.wanted > o.c.told, o.c.callback_id.not_in(opened))
        return list(conn.execute(query).scalars())


def test_who_is_subscribed_between_a_plans_statements_is_owed_nothing_that_nobody_sends(
    scene: Scene, callback: int
) -> None:
    other = scene.world.account("other")
    scene.world.number(other, "+2")
    told = scene.world.callback(other, URL, raw_json=True)
    scene.write(update(s).where(s.c.account_id == scene.acme).values(active=0))
    scene.flag("critical")
    with after_statement(scene, OPENED, subscribed_by_a_view):
        scene.plan()
    assert owed_without_a_delivery(scene.world) == []
    assert [job.claimed.callback.id for job in scene.claim_all()] == [told]
    scene.flag("warning")
    scene.plan()  # it goes with the next change
    assert [job.claimed.callback.id for job in scene.claim_all()] == [callback]


def test_an_open_delivery_of_another_change_is_not_owed_what_the_plan_did_not_open_it_for(
    scene: Scene, callback: int
) -> None:
    if not scene.world.database.is_mysql:
        pytest.skip("SQLite lets nobody settle within a plan")
    second = scene.world.server(channel=2)
    scene.flag("critical")
    scene.plan()
    in_flight = scene.claim()
    scene.world.flag(second, "critical")

    def moves(conn: Connection) -> None:
        conn.execute(insert(schema.number).values(account_id=scene.acme, number="+2", channel_id=2))

    def settles(_: Connection) -> None:
        scene.answer(in_flight)

    with after_statement(scene, OPENED, moves), after_statement(scene, OWED, settles):
        scene.plan()
    assert owed_without_a_delivery(scene.world) == []
    scene.settled()


def test_a_plan_owes_to_each_open_delivery_of_whom_it_concerns(scene: Scene, callback: int) -> None:
    """Parked, leased, within a Retry-After, waiting for its retry: each was made due by the plan, and is owed."""
    later = 2**50
    states: list[dict[str, Any]] = [
        {"due_at": None},
        {"due_at": 5, "lease_token": "x", "lease_until": later, "attempts": 3},
        {"due_at": later, "not_before": later, "attempts": 2},
        {"due_at": later, "attempts": 4},
        {"due_at": 5, "not_before": 5},
    ]
    callbacks = [callback, *(scene.world.callback(scene.acme, URL, active=False) for _ in states[1:])]
    scene.flag("critical")
    scene.plan()
    for one, state in zip(callbacks, states, strict=True):
        scene.write(update(d).where(d.c.callback_id == one).values(**state))
    scene.flag("warning")
    scene.plan()
    assert [(row.callback_id, row.wanted) for row in scene.world.owed()] == [(one, 2) for one in callbacks]
    assert {row.rearmed for row in scene.world.deliveries()} == {1}
