"""What an answer means: for what the customer believes, for the next try, for the callback itself.

Retry-After is RFC 9110 section 10.2.3; 520 to 529 are what CDNs answer when the customer's server did not.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum

from monitor_cli.delivery.jobs import Job, Part, Telling
from monitor_cli.delivery.redaction import redact
from monitor_cli.outbound.transfer import Answer
from monitor_cli.store.claims import CallbackRow
from monitor_cli.store.settling import Attempt, Settlement, Then, Told
from monitor_cli.types import Unit

LONGEST_RETRY_AFTER_MS = 24 * 3600 * 1000
JITTER = 0.2
OFF_AFTER_MS = 5 * 24 * 3600 * 1000
OFF_AFTER_FAILURES = 20
KEPT_BYTES = 1024


class Verdict(Enum):
    TAKEN = "taken"
    REFUSED = "refused"  # an explicit answer other than 2xx, or nothing was sent
    UNSURE = "unsure"  # the customer may have it all the same
    LOCAL = "local"  # a fault on our side


@dataclass(frozen=True)
class Schedule:
    """Seconds before each retry, with 20 % jitter. `wall` gives seconds since 1970."""

    delays: Sequence[float]
    jitter: Callable[[float, float], float] = random.uniform
    wall: Callable[[], float] = time.time

    def delay_ms(self, tried: int) -> int | None:
        """The pause after attempt number `tried`; None when the schedule is used up."""
        if tried > len(self.delays):
            return None
        return int(self.delays[tried - 1] * 1000 * self.jitter(1 - JITTER, 1 + JITTER))

    def retry_after_ms(self, value: str | None) -> int:
        """A Retry-After header in milliseconds from now: seconds or a date, at most 24 h, 0 where there is none."""
        if not value:
            return 0
        if value.isascii() and value.isdigit():
            seconds = float(value[:12])
        else:
            try:
                date = parsedate_to_datetime(value)  # without a zone (asctime's form) it is UTC as well
                seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - self.wall()
            except (ValueError, TypeError, OverflowError):
                return 0
        return min(max(0, int(seconds * 1000)), LONGEST_RETRY_AFTER_MS)


def verdict(answer: Answer, network_works: bool) -> Verdict:
    """`network_works`: some request was answered lately, so that "no route" is the customer's address, not ours."""
    status = answer.http_status
    if status is None:
        if answer.local in ("resources", "resolver") or (answer.local == "network" and not network_works):
            return Verdict.LOCAL
        return Verdict.UNSURE if answer.arrived else Verdict.REFUSED
    if 200 <= status < 300:
        return Verdict.TAKEN
    doubtful = answer.repeated or status in (502, 504) or 520 <= status < 530
    return Verdict.UNSURE if doubtful else Verdict.REFUSED


def kept_response(body: bytes, of: CallbackRow) -> str | None:
    """The first KiB of an answer as it is kept: without what the customer's own headers and our secrets hold, which
    an echoing server would bring into our tables."""
    if not body:
        return None
    start = body[: 2 * KEPT_BYTES]  # more than is kept, since what is struck out makes it shorter
    body = redact(start, of.secrets, [value for _, value in of.headers], cut=len(body) > len(start))
    text = body.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text.encode()[:KEPT_BYTES].decode("utf-8", "ignore")


def settle_nothing_sent(job: Job) -> Settlement:
    """All of it was dropped: the numbers are at the type that the customer was told last."""
    return Settlement(job.claimed, Then.DONE, told=_dropped(job))


def settle_release(job: Job) -> Settlement:
    """It was claimed and not started."""
    return Settlement(job.claimed, Then.RELEASE)


def settle_local(job: Job) -> Settlement:
    return Settlement(job.claimed, Then.LOCAL)


def settle_trouble(job: Job, attempt: Attempt) -> Settlement:
    """It can be no request as it is configured: no retry could mend that."""
    return Settlement(job.claimed, Then.FAILED, told=_dropped(job), attempts=(attempt,), failed=True)


def settle_answer(
    job: Job, part: Part, answer: Answer, meaning: Verdict, attempt: Attempt, schedule: Schedule
) -> Settlement:
    """What one request's answer settles."""
    if meaning is Verdict.LOCAL:
        return settle_local(job)
    if meaning is Verdict.TAKEN:
        return _taken(job, part, attempt)
    return _not_taken(job, part, answer, meaning, attempt, schedule)


def _taken(job: Job, part: Part, attempt: Attempt) -> Settlement:
    job.done.add(part.webhook_id)
    told = [Told(t.owed.unit, t.owed.wanted, t.type) for t in job.told_with(part)]
    if not part.number or job.next_part() is None:  # 0: the only one
        recovered = job.claimed.callback.failures > 0
        return Settlement(job.claimed, Then.DONE, told + _dropped(job), attempts=(attempt,), recovered=recovered)
    return Settlement(
        job.claimed,
        Then.PART,
        told=told,
        # A unit that is answered in part only: the customer may believe anything until the rest has arrived.
        unsure=() if told else _units(part.tellings),
        attempts=(attempt,),
        parts_done=_parts_done(job),
        content_hash=job.content_left(),
    )


def _not_taken(
    job: Job, part: Part, answer: Answer, meaning: Verdict, attempt: Attempt, schedule: Schedule
) -> Settlement:
    tried = job.claimed.attempts + 1
    delay = schedule.delay_ms(tried)
    return Settlement(
        job.claimed,
        Then.FAILED if delay is None else Then.RETRY,
        told=_dropped(job),
        unsure=_units(part.tellings) if meaning is Verdict.UNSURE else (),
        attempts=(attempt,),
        tried=tried,
        delay_ms=delay or 0,
        retry_after_ms=schedule.retry_after_ms(answer.retry_after),
        parts_done=_parts_done(job),
        failed=True,
        off=_reason_to_switch_off(job, answer, attempt),
    )


def _reason_to_switch_off(job: Job, answer: Answer, attempt: Attempt) -> str | None:
    if answer.http_status == 410:
        return "its server answered 410 Gone"
    of = job.claimed.callback
    since = of.failing_since
    if since is not None and of.failures + 1 >= OFF_AFTER_FAILURES and attempt.started_at - since >= OFF_AFTER_MS:
        words = f"HTTP {answer.http_status}" if answer.http_status else answer.error
        return f"it failed for 5 days, {of.failures + 1} attempts in a row; the last: {words}"
    return None


def _dropped(job: Job) -> list[Told]:
    return [Told(owed.unit, owed.wanted, None) for owed in job.dropped]


def _units(tellings: Sequence[Telling]) -> tuple[Unit, ...]:
    return tuple(t.owed.unit for t in tellings)


def _parts_done(job: Job) -> str | None:
    return json.dumps(sorted(job.done)) if job.done else None
