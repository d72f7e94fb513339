"""The loop of callback-run: claimed deliveries become requests in flight, their answers become settlements.

One thread drives the requests; two others work at the database, one planning and claiming, one settling, so that an
answer waits for its record only as long as the record before it takes.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from monitor_cli.config import Settings
from monitor_cli.db import Database
from monitor_cli.delivery.courier import Courier, Flight
from monitor_cli.delivery.desk import Desk, Settled, Tick
from monitor_cli.delivery.jobs import Job
from monitor_cli.delivery.outcome import (
    Schedule,
    Verdict,
    kept_response,
    settle_answer,
    settle_local,
    settle_nothing_sent,
    settle_release,
    settle_trouble,
    verdict,
)
from monitor_cli.delivery.slots import Shares
from monitor_cli.delivery.tally import Row, Tally
from monitor_cli.errors import DatabaseAway
from monitor_cli.outbound.transfer import Answer
from monitor_cli.sealing import Keyring, Unreadable
from monitor_cli.store.settling import Attempt, Settlement, Then

log = logging.getLogger(__name__)

SETTLE_ANSWERS = 100
SETTLE_SECONDS = 0.05
STALE_SECONDS = 2.0  # a job that could not start for so long is given back, to be built anew
MOST_CLAIMED = 500
AHEAD_SECONDS = 0.25
MOST_SETTLED = 150  # answers in one settlement, with what came in while the last one was recorded
MOST_WAITING = MOST_SETTLED  # answers that wait for the next: from so many on nothing new is started
WATCH_SECONDS = 0.025
POLL_SECONDS = 0.25
AGAIN_SECONDS = 1.0  # after the database failed
NETWORK_SECONDS = 60.0


@dataclass(slots=True, eq=False)
class Result:
    """A settlement that is not recorded yet, and since when."""

    job: Job
    settlement: Settlement
    since: float


class Reach(NamedTuple):
    """Whether a process reached any customer, and the fault of ours where it reached none lately."""

    anybody: bool
    fault: str | None


class Engine:
    """Process `number` of a callback-run that has `processes`; the first, 0, speaks for all. `stop` is asked often
    whether to end early; `clock` is monotonic, `wall` unix time."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        processes: int = 1,
        number: int = 0,
        stop: Callable[[], bool] = lambda: False,
        tally: Row | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._tally = tally or Tally(1).row(0)
        self._stop, self._clock = stop, clock
        self._shares = Shares(processes, number, fast=settings.concurrency, slow=settings.slow_lane)
        self._courier = Courier(settings, clock=clock, wall=wall, slowed=self._slowed)
        self._leads = number == 0
        keys = Keyring.of(settings)
        self._desk = Desk(database, self._shares, settings.total_timeout, settings.lease_seconds, clock, keys)
        self._schedule = Schedule(settings.retry_schedule, wall=wall)
        self._ready: deque[Job] = deque()
        self._results: list[Result] = []
        self._settling: list[Result] = []
        self._parked: dict[int, Job] = {}  # between two parts of a split request
        self._tick: Future[Tick] | None = None
        self._settle: Future[Settled] | None = None
        self._next_tick = 0.0
        self._next_settle = 0.0
        self._lacks_share = False
        self._next_due: float | None = 0.0  # monotonic; None: nothing will come due
        self._seen_all = False  # _next_due was read after the last settlement
        self._away: DatabaseAway | None = None
        self._last_contact = clock() - NETWORK_SECONDS  # no request was answered yet
        self._reached = False
        self._fault: str | None = None
        self._unreadable: Unreadable | None = None
        self._stays = False
        self._started, self._counted_from = 0, clock()
        self._pace = 0.0  # requests started per second, lately

    def run(self, max_seconds: float | None) -> Reach:
        """Deliver until nothing more comes due within `max_seconds`; None: until `stop`. Raises DatabaseAway where
        the database failed and did not come back, Unreadable (78) where our keys did not fit a callback's secrets."""
        self._stays = max_seconds is None
        ends = None if max_seconds is None else self._clock() + max_seconds
        with ThreadPoolExecutor(1, "claim") as claiming, ThreadPoolExecutor(1, "settle") as settling:
            while True:
                self._tally.turned(self._clock())
                stopping = self._stop() or (ends is not None and self._clock() >= ends)
                if stopping:
                    self._release_ready()
                if self._idle() and (stopping or (ends is not None and self._over(ends))):
                    break
                if not stopping:
                    self._ask_for_work(claiming)
                    self._start_ready()
                self._ask_to_settle(settling)
                for flight, answer in self._courier.wait(self._pause(ends)):
                    self._came_back(flight, answer)
                self._take_tick(ends is not None)
                self._take_settled(stopping)
        if error := self._away or self._unreadable:
            raise error
        return Reach(self._reached, self._fault)

    def wake(self) -> None:
        """Have `stop` asked at once. Safe in a signal handler."""
        self._courier.wake()

    def close(self) -> None:
        self._courier.close()

    # --- when to do what --------------------------------------------------------------------------------------------

    def _idle(self) -> bool:
        busy = self._ready or self._results or self._settling or self._parked or self._tick or self._settle
        return not busy and not len(self._courier)

    def _over(self, ends: float) -> bool:
        """Nothing comes due any more before the end."""
        if not self._seen_all:
            self._next_tick = min(self._next_tick, self._clock())
            return False
        return self._away is None and (self._next_due is None or self._next_due >= ends)

    def _pause(self, ends: float | None) -> float:
        now = self._clock()
        until = [now + 0.5]
        if self._ready and self._courier.free > 0 and len(self._results) < MOST_WAITING:
            return 0.0
        if self._tick is None and self._wanted() > 0:
            until.append(self._next_tick)
        if self._settle is None and self._results:
            until.append(max(self._next_settle, self._results[0].since + SETTLE_SECONDS))
        if ends is not None and ends > now:
            until.append(ends)
        return max(0.0, min(until) - now)

    def _wanted(self) -> int:
        """How many deliveries to claim: no more than can start soon, by how many started lately; many at once cost the
        database less."""
        if self._overdue():
            return 0
        soon = max(self._settings.concurrency, min(MOST_CLAIMED, int(self._pace * AHEAD_SECONDS)))
        room = soon + self._courier.free - len(self._ready)
        if self._ready and room < soon // 2:
            return 0
        return min(MOST_CLAIMED, room)

    def _ask_for_work(self, pool: ThreadPoolExecutor) -> None:
        now = self._clock()
        if self._tick is None and now >= self._next_tick and (wanted := self._wanted()) > 0:
            self._seen_all = True
            self._pace, self._started = self._started / max(0.05, now - self._counted_from), 0
            self._counted_from = now
            self._tick = pool.submit(self._desk.tick, wanted)
            self._tick.add_done_callback(lambda _: self._courier.wake())

    def _overdue(self) -> bool:
        """Answers are waiting for their record past their lease: claimed anew, they would be sent again."""
        now = self._clock()
        return any(now >= result.job.lease_ends for result in (*self._settling, *self._results))

    def _ask_to_settle(self, pool: ThreadPoolExecutor) -> None:
        if self._settle is not None or not self._results or self._clock() < self._next_settle:
            return
        full = len(self._results) >= SETTLE_ANSWERS
        if full or self._clock() >= self._results[0].since + SETTLE_SECONDS or not len(self._courier):
            # What came in while the last were recorded goes along: a transaction costs as much as 40 answers in it.
            self._settling, self._results = self._results[:MOST_SETTLED], self._results[MOST_SETTLED:]
            self._settle = pool.submit(self._desk.settle, [result.settlement for result in self._settling])
            self._settle.add_done_callback(lambda _: self._courier.wake())

    # --- what the database said ---------------------------------------------------------------------------------------

    def _take_tick(self, once: bool) -> None:
        if self._tick is None or not self._tick.done():
            return
        future, self._tick = self._tick, None
        now = self._clock()
        try:
            tick = future.result()
        except DatabaseAway as error:
            self._database_failed(error)
            self._next_tick = now + AGAIN_SECONDS
            return
        self._database_works()
        for job in tick.jobs:
            self._receive(job)
        busy = tick.planned or tick.jobs
        # Under --watch one process looks often; the others come when there is more than it can take.
        self._next_tick = now if busy else now + (WATCH_SECONDS if self._leads and not once else POLL_SECONDS)
        self._next_due = now if busy else None if tick.next_due is None else now + tick.next_due / 1000
        # What is due and could not be had may be of those that have their share in flight: until one comes back,
        # asking the database again and again finds the same.
        self._lacks_share = not busy and self._shares.lacking()
        if not busy and self._next_due is not None and not self._lacks_share:
            self._next_tick = min(self._next_tick, max(now + 0.005, self._next_due))

    def _receive(self, job: Job) -> None:
        for owed in job.dropped:
            self._tally.count("dropped")
            log.info(
                "change.dropped",
                extra={"facts": {"callback": job.claimed.callback.id, "channel": owed.unit.channel_id}},
            )
        if job.unreadable is not None:
            self._note_unreadable(job.claimed.callback.id, job.unreadable)
            self._settle_later(job, settle_local(job))
        elif job.trouble is not None:
            attempt = Attempt(job.claimed.now, 0, None, job.trouble, None, "")
            self._settle_later(job, settle_trouble(job, attempt))
        elif job.next_part() is None:
            self._settle_later(job, settle_nothing_sent(job))
        else:
            self._ready.append(job)

    def _take_settled(self, stopping: bool) -> None:
        if self._settle is None or not self._settle.done():
            return
        future, self._settle = self._settle, None
        batch, self._settling = self._settling, []
        try:
            settled = future.result()
        except DatabaseAway as error:
            self._database_failed(error)
            self._results[:0] = [result for result in batch if self._worth_keeping(result, stopping)]
            self._next_settle = self._clock() + AGAIN_SECONDS
            return
        self._database_works()
        self._seen_all = False
        for callback_id, reason in settled.off:
            log.warning("callback.off", extra={"facts": {"callback": callback_id, "reason": reason}})
        for result in batch:
            if result.settlement.then is Then.PART:
                self._go_on(result.job, settled, stopping)

    def _go_on(self, job: Job, settled: Settled, stopping: bool) -> None:
        """The next part of a split request, with the lease that was renewed for it."""
        del self._parked[job.claimed.id]
        if job.claimed.id not in settled.go_on:
            self._release_share(job)
            return
        self._desk.lend(job, settled.taken)
        if stopping:
            self._settle_later(job, settle_release(job))
        else:
            self._ready.appendleft(job)

    def _worth_keeping(self, result: Result, stopping: bool) -> bool:
        """Past its lease another worker may have taken the delivery over, which our token tells once the database is
        back; but a run that shall end waits no longer than that."""
        if not stopping or self._clock() < result.job.lease_ends:
            return True
        if self._parked.pop(result.job.claimed.id, None) is not None:
            self._release_share(result.job)  # between two parts its share was kept
        log.warning("delivery.unrecorded", extra={"facts": {"delivery": result.job.claimed.id}})
        return False

    def _database_failed(self, error: DatabaseAway) -> None:
        if self._away is None and self._leads:
            log.warning("database.away", extra={"facts": {"reason": error.message}})
        self._away = error

    def _database_works(self) -> None:
        if self._away is not None and self._leads:
            log.warning("database.back")
        self._away = None

    # --- requests ---------------------------------------------------------------------------------------------------

    def _start_ready(self) -> None:
        while self._ready and self._courier.free > 0 and len(self._results) < MOST_WAITING:
            job = self._ready.popleft()
            part = job.next_part()
            late = self._clock() >= min(job.start_before, job.lent_at + STALE_SECONDS)
            if part is None or late:
                self._settle_later(job, settle_release(job))
            else:
                self._courier.start(job, part)
                self._started += 1

    def _came_back(self, flight: Flight, answer: Answer | None) -> None:
        if answer is None:
            self._settle_later(flight.job, settle_release(flight.job))
            return
        if answer.http_status is not None:
            self._reached, self._last_contact, self._fault = True, self._clock(), None
        meaning = verdict(answer, self._network_works())
        if meaning is Verdict.LOCAL:
            self._note_fault(flight, answer.error or "")
        attempt = self._attempt(flight, answer)
        settlement = settle_answer(flight.job, flight.part, answer, meaning, attempt, self._schedule)
        self._log_attempt(flight.job, attempt, settlement)
        self._settle_later(flight.job, settlement)

    def _note_fault(self, flight: Flight, reason: str) -> None:
        """Said once while it stays, at the end otherwise (Reach), and only while nobody at all is reached: one
        customer's broken name server is not our fault."""
        facts = {"facts": {"callback": flight.job.claimed.callback.id, "reason": reason}}
        news = self._stays and not self._fault and not self._network_works()
        log.log(logging.WARNING if news else logging.INFO, "network.fault", extra=facts)
        if not self._network_works():
            self._fault = reason

    def _note_unreadable(self, callback_id: int, error: Unreadable) -> None:
        """A fault of ours: told once, at the end of a run that has one."""
        level = logging.WARNING if self._stays and self._unreadable is None else logging.INFO
        log.log(level, "callback.unreadable", extra={"facts": {"callback": callback_id, "reason": error.message}})
        self._unreadable = self._unreadable or error

    def _network_works(self) -> bool:
        return self._clock() - self._last_contact < NETWORK_SECONDS

    def _attempt(self, flight: Flight, answer: Answer) -> Attempt:
        job, part = flight.job, flight.part
        at = job.claimed.now + int((flight.started - job.claimed_at) * 1000)
        text = kept_response(answer.response, job.claimed.callback)
        duration = int((self._clock() - flight.started) * 1000)
        return Attempt(at, duration, answer.http_status, answer.error, text, part.webhook_id, part.number)

    # --- settlements ------------------------------------------------------------------------------------------------

    def _settle_later(self, job: Job, settlement: Settlement) -> None:
        if settlement.attempts:
            self._tally.count(settlement.then.word)
        if settlement.then is Then.PART:
            self._parked[job.claimed.id] = job
        else:
            self._release_share(job)
        self._results.append(Result(job, settlement, self._clock()))

    def _release_share(self, job: Job) -> None:
        if self._lacks_share:
            self._lacks_share, self._next_tick = False, min(self._next_tick, self._clock())
        self._shares.release(job.claimed.callback.account_id, job.claimed.callback.destination)

    def _slowed(self, flight: Flight, more: int) -> None:
        self._shares.slowed(flight.job.claimed.callback.account_id, more)

    def _release_ready(self) -> None:
        while self._ready:
            job = self._ready.popleft()
            self._settle_later(job, settle_release(job))

    def _log_attempt(self, job: Job, attempt: Attempt, settlement: Settlement) -> None:
        if not log.isEnabledFor(logging.INFO):
            return
        facts: dict[str, Any] = {
            "callback": job.claimed.callback.id,
            "delivery": job.claimed.id,
            "webhook_id": attempt.webhook_id,
            "ms": attempt.duration_ms,
            "answer": attempt.http_status or attempt.error,
        }
        log.info(f"delivery.{settlement.then.value}", extra={"facts": facts})
