"""callback test: one request to one callback, the way that a run's requests go, and what came of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from monitor_cli.config import Settings
from monitor_cli.db import Database
from monitor_cli.delivery.courier import Courier
from monitor_cli.delivery.desk import MARGIN_SECONDS, Desk
from monitor_cli.delivery.jobs import Job, Part, build_job
from monitor_cli.delivery.outcome import Verdict, kept_response, verdict
from monitor_cli.delivery.slots import Shares
from monitor_cli.errors import DatabaseAway, MonitorError, OutsideError
from monitor_cli.outbound.request import Request
from monitor_cli.outbound.transfer import Answer
from monitor_cli.outbound.transport import USER_AGENT
from monitor_cli.sealing import Keyring
from monitor_cli.store import trials
from monitor_cli.store.trials import Held

log = logging.getLogger(__name__)

_LOOK_AGAIN_SECONDS = 0.2


class Trial(NamedTuple):
    """What was sent and what came back. `headers` are those of the request, ours as they were, the customer's without
    their values; `parts`: of how many requests this was the first; `response` and `answer_headers` without what the
    customer's headers and our secrets hold."""

    account: str
    active: bool
    example: bool
    parts: int
    request: Request
    headers: tuple[tuple[str, str], ...]
    answer: Answer
    meaning: Verdict
    response: str | None
    answer_headers: tuple[tuple[str, str], ...]


def try_callback(
    database: Database,
    settings: Settings,
    callback_id: int,
    *,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Trial:
    """Send a callback the present truth once. Raises MonitorError where it can be no request or may not be sent, and
    OutsideError where another request to it does not end, or this one was not started in time; sealing.Unreadable (78)
    where our keys do not fit its secrets."""
    keys = Keyring.of(settings)
    desk = Desk(database, Shares(), settings.total_timeout, settings.lease_seconds, clock)
    held, taken = _hold(database, desk, callback_id, settings.total_timeout + MARGIN_SECONDS, clock, sleep)
    try:
        job = build_job(held.claimed, keys)
        if job.unreadable is not None:
            raise job.unreadable
        part = job.next_part()
        if part is None:
            raise MonitorError(f"callback {callback_id} cannot be told: {job.trouble}")
        desk.lend(job, taken)
        answer, signed = _send(settings, job, part, clock, wall)
    finally:
        _let_go(database, held)
    return _trial(held, job, part, answer, signed)


def _hold(
    database: Database,
    desk: Desk,
    callback_id: int,
    patience: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> tuple[Held, float]:
    """The callback under our lease, and the monotonic time before that."""
    ends = clock() + patience
    work = partial(trials.hold, callback_id=callback_id, owner=desk.owner, lease_ms=desk.lease_ms)
    while True:
        taken = clock()
        held = database.transact(work)
        if held is not None:
            return held, taken
        if clock() >= ends:
            raise OutsideError(f"callback {callback_id} has a request under way", "try again in a minute")
        sleep(_LOOK_AGAIN_SECONDS)


def _let_go(database: Database, held: Held) -> None:
    try:
        database.transact(lambda conn: trials.let_go(conn, held))
    except DatabaseAway as error:  # the lease runs out by itself
        log.warning("database.away", extra={"facts": {"reason": error.message}})


def _send(
    settings: Settings, job: Job, part: Part, clock: Callable[[], float], wall: Callable[[], float]
) -> tuple[Answer, tuple[tuple[str, str], ...]]:
    courier = Courier(replace(settings, concurrency=1, slow_lane=1), clock=clock, wall=wall)
    try:
        courier.start(job, part)
        while len(courier):
            for flight, answer in courier.wait(0.5):
                if answer is None:
                    raise OutsideError("the request could not be started in time", "try again")
                return answer, flight.sent
    finally:
        courier.close()
    raise AssertionError("unreachable")


def _trial(held: Held, job: Job, part: Part, answer: Answer, signed: tuple[tuple[str, str], ...]) -> Trial:
    of = job.claimed.callback  # its secrets are opened: what an answer echoes of them is known by that
    shown = tuple((name, "***" if (name, value) in of.headers else value) for name, value in part.request.headers)
    return Trial(
        held.account,
        held.active,
        held.example,
        len(job.parts),
        part.request,
        (("User-Agent", USER_AGENT), *shown, *signed),
        answer,
        verdict(answer, network_works=False),
        kept_response(answer.response, of),
        tuple(
            (name, kept_response(value.encode("latin-1"), of) or "")  # its bytes as they came
            for name, value in _final_headers(answer.head)
        ),
    )


def _final_headers(head: bytes) -> list[tuple[str, str]]:
    """The headers of the final answer: the first block of lines that is not a 1xx's."""
    for block in head.decode("latin-1").replace("\r\n", "\n").split("\n\n"):
        status, *lines = block.split("\n")
        if not status.partition(" ")[2].startswith("1"):
            pairs = (line.partition(":") for line in lines if ":" in line)
            return [(name.strip(), value.strip()) for name, _, value in pairs]
    return []
