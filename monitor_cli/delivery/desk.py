"""The database's side of a run: plan, claim and settle, each one transaction, one at a time.

The engine calls it from a thread of its own, so that requests go on while the database works.
"""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from monitor_cli.db import Connection, Database
from monitor_cli.delivery.jobs import Job, build_job, must_send
from monitor_cli.delivery.slots import Shares
from monitor_cli.schema import OWNER_LENGTH
from monitor_cli.sealing import PLAIN, Keyring
from monitor_cli.store import claims, due, planning, settling

MARGIN_SECONDS = 5.0
OVER_FETCH = 1.5
MOST_NUMBERS = 50_000  # in memory from one claim, but for a single account that has more


@dataclass(frozen=True)
class Settled:
    """What settling brought (store.settling.Recorded), and the monotonic time before that was written."""

    go_on: set[int]
    off: list[tuple[int, str]]
    taken: float


@dataclass(frozen=True)
class Tick:
    """What a look at the database brought: servers planned, deliveries claimed, milliseconds until the next is due."""

    planned: int
    jobs: list[Job]
    next_due: int | None


def lease_in_force(lease: float, deadline: float) -> float:
    """How long a claim lasts, in seconds: as configured, but never under twice the deadline and its margins."""
    return max(lease, 2 * deadline + 2 * MARGIN_SECONDS)


class Desk:
    """`deadline` is a request's total deadline and `lease` a claim's length, in seconds; `clock` is monotonic; `keys`
    open the callbacks' secrets."""

    def __init__(
        self,
        database: Database,
        shares: Shares,
        deadline: float,
        lease: float,
        clock: Callable[[], float],
        keys: Keyring = PLAIN,
    ) -> None:
        self._database = database
        self._shares = shares
        self._clock = clock
        self._keys = keys
        self._deadline = deadline
        self._lease = lease_in_force(lease, deadline)
        self._burst = False  # more was due at the last look than could be taken
        self._unsettled = False  # a settlement may have been committed all the same
        self._unanswered: tuple[list[int], claims.Tokens] | None = None  # a claim that may have been committed
        self.owner = f"{socket.gethostname()[: OWNER_LENGTH - 8]}:{os.getpid()}"

    @property
    def lease_ms(self) -> int:
        """How long a lease is taken for."""
        return int(self._lease * 1000)

    def tick(self, most: int) -> Tick:
        """Plan one batch and claim at most `most`; where there was nothing of either, when something comes due."""
        self._give_back_unanswered()
        with self._database.read() as conn:
            flagged = planning.anything_flagged(conn)
            candidates = None if flagged else self._candidates(conn, most)
            if candidates == []:  # while nothing happens --watch asks this and no more, 40 times a second
                self._shares.choose(candidates, most)  # nobody is denied a share any more
                return Tick(0, [], due.next_due(conn))
        planned = self.plan() if flagged else 0
        jobs = self.claim(most, candidates)
        return Tick(planned, jobs, None if planned or jobs else self.next_due())

    def plan(self) -> int:
        """Owe one batch of flagged changes. Returns how many servers were flagged."""
        limits = itertools.chain((planning.BATCH, planning.BATCH // 10, planning.BATCH // 100), itertools.repeat(1))
        # On Galera a long plan is refused where another node writes one of its rows: each try is a shorter one.
        return self._database.transact(lambda conn: planning.plan_flagged(conn, next(limits)))

    def claim(self, most: int, candidates: list[due.Candidate] | None = None) -> list[Job]:
        """Claim at most `most` due deliveries, of these `candidates` if some were looked up already, with a share
        reserved for each, and render them."""
        if candidates is None:
            with self._database.read() as conn:
                candidates = self._candidates(conn, most)
        chosen = self._shares.choose(candidates, most)
        if not chosen:
            return []
        obtained: set[int] = set()
        try:
            jobs = self._claim_these([c.id for c in chosen])
            obtained = {job.claimed.id for job in jobs}
        finally:
            for candidate in chosen:
                if candidate.id not in obtained:
                    self._shares.release(candidate.account_id, candidate.destination)
        return jobs

    def _claim_these(self, ids: list[int]) -> list[Job]:
        tokens = claims.Tokens.new()
        self._unanswered = (ids, tokens)
        jobs = self._database.transact(lambda conn: self._claim(conn, ids, tokens))
        self._unanswered = None
        return jobs

    def _give_back_unanswered(self) -> None:
        """Where the database went away in a claim, its COMMIT may have been done: what nobody knows to have would wait
        for its lease's end."""
        if self._unanswered:
            ids, tokens = self._unanswered
            self._database.transact(lambda conn: claims.give_back(conn, ids, tokens))
            self._unanswered = None

    def _candidates(self, conn: Connection, most: int) -> list[due.Candidate]:
        """What may be claimed, somewhat more than that. In a burst each process of a run looks at a part of its own
        while that has any: two that reach for the same rows get half of what they asked for."""
        limit = max(200, int(most * OVER_FETCH))
        pairs, destinations, full = self._shares.full()
        candidates: list[due.Candidate] = []
        if self._burst:
            candidates = due.candidates(conn, limit, pairs, destinations, full, part=self._shares.part)
        if not candidates:
            candidates = due.candidates(conn, limit, pairs, destinations, full)
        self._burst = len(candidates) == limit
        accounts = {candidate.account_id for candidate in candidates}
        if self._burst and len(accounts) < most:  # a few accounts must not hide all others behind them
            candidates += due.candidates(conn, limit, pairs, destinations, accounts.union(full))
        return candidates

    def settle(self, settlements: Sequence[settling.Settlement]) -> Settled:
        """Record what came of these."""

        def work(conn: Connection) -> Settled:
            taken = self._clock()
            return Settled(*settling.settle(conn, settlements, self.lease_ms, repeated), taken)

        repeated, self._unsettled = self._unsettled, True
        settled = self._database.transact(work)
        self._unsettled = False
        return settled

    def next_due(self) -> int | None:
        """In how many milliseconds something comes due (0 also where a change is flagged); None: nothing will."""
        with self._database.read() as conn:
            return 0 if planning.anything_flagged(conn) else due.next_due(conn)

    def lend(self, job: Job, taken: float) -> None:
        """Note how long a job's lease lasts, by our own clock taken before the claim."""
        job.lent_at = taken
        job.lease_ends = taken + self._lease
        job.start_before = job.lease_ends - self._deadline - MARGIN_SECONDS

    def _claim(self, conn: Connection, ids: list[int], tokens: claims.Tokens) -> list[Job]:
        taken = self._clock()
        claimed = claims.claim(conn, ids, self.owner, self.lease_ms, MOST_NUMBERS, must_send, tokens)
        jobs = [build_job(one, self._keys) for one in claimed]
        settling.store_content(
            conn, [{"id": j.claimed.id, "hash": j.content[0], "at": j.content[1]} for j in jobs if j.content]
        )
        for job in jobs:
            job.claimed_at = taken
            self.lend(job, taken)
        return jobs
