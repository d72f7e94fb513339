"""Render: from what a callback is owed and the present types to the requests that tell it.

Pure: everything was read under the lease (store.claims). A job is one claimed delivery; it has one request, none where
all of it is dropped, or several parts where a GET's URL would be too long.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from monitor_cli.document import Entry, Groups, grouped
from monitor_cli.errors import MonitorError
from monitor_cli.outbound.request import Content, Request, Template, render
from monitor_cli.outbound.url import URL_LIMIT
from monitor_cli.sealing import PLAIN, Keyring, Unreadable
from monitor_cli.store import sealed
from monitor_cli.store.claims import Claimed, OwedUnit
from monitor_cli.types import Type

MOST_PARTS = 20


class Telling(NamedTuple):
    """An owed unit that is sent: its present type and the account's numbers on it."""

    owed: OwedUnit
    type: Type
    numbers: tuple[str, ...]


class Part(NamedTuple):
    """One request: number 0 for the only one, else 1…n. `tellings` may be slices of units (`sliced`)."""

    number: int
    webhook_id: str
    request: Request
    tellings: tuple[Telling, ...]
    sliced: bool = False


@dataclass(slots=True)
class Job:
    """A claimed delivery on its way. `start_before` is the monotonic time after which no request of it may start."""

    claimed: Claimed
    parts: tuple[Part, ...]
    dropped: tuple[OwedUnit, ...]
    content: tuple[str, int] | None = None  # hash and milliseconds, where they have to be kept before sending
    trouble: str | None = None  # why it can be no request at all
    unreadable: Unreadable | None = None  # our key does not fit its secrets: no fault of the customer's
    claimed_at: float = 0.0  # monotonic
    lent_at: float = 0.0  # the same, or when its lease was renewed for the next part: it was the newest truth then
    start_before: float = 0.0
    lease_ends: float = 0.0
    done: set[str] = field(default_factory=set)
    timed: tuple[Telling, ...] = ()  # what is told in several parts that show {timestamp}

    def next_part(self) -> Part | None:
        """The first part that was not answered 2xx yet."""
        if not self.done:  # by far the most frequent
            return self.parts[0] if self.parts else None
        return next((part for part in self.parts if part.webhook_id not in self.done), None)

    def content_left(self) -> str | None:
        """The hash of what is still to be told after this part, so that {timestamp} stays the same for it; None where
        nobody asks."""
        missing = {t.owed.unit for part in self.parts if part.webhook_id not in self.done for t in part.tellings}
        left = [t for t in self.timed if t.owed.unit in missing]
        return _webhook_id(self.claimed, left, entries_of(left)) if left else None

    def told_with(self, part: Part) -> list[Telling]:
        """What this part's 2xx completes: units all of whose slices are answered."""
        if not part.sliced:
            return list(part.tellings)
        unit = part.tellings[0].owed.unit
        slices = [p for p in self.parts if p.sliced and p.tellings[0].owed.unit == unit]
        return list(part.tellings) if all(p.webhook_id in self.done for p in slices) else []


def must_send(owed: OwedUnit, present: Type | None) -> bool:
    """Whether an owed unit is news: its type is not the one told last, or the customer may have been told otherwise."""
    return present is not None and (present is not owed.told_type or owed.unsure)


def build_job(claimed: Claimed, keys: Keyring = PLAIN) -> Job:
    """Decide what is sent and what is dropped, open the secrets of what is sent, and render it. Never raises for what a
    customer configured: a template that cannot be sent becomes the job's `trouble`."""
    tellings, dropped = [], []
    for owed in claimed.owed:
        present, numbers = claimed.types.get(owed.unit), claimed.numbers.get(owed.unit.channel_id)
        if must_send(owed, present) and numbers and present is not None:
            tellings.append(Telling(owed, present, numbers))
        else:
            dropped.append(owed)
    if not tellings:
        return Job(claimed, (), tuple(dropped))
    try:
        if sealed.any_sealed(claimed.callback.secrets, claimed.callback.headers):
            claimed = _opened(claimed, keys)
        return _Renderer(claimed).job(tuple(tellings), tuple(dropped))
    except Unreadable as error:
        return Job(claimed, (), (), unreadable=error)
    except MonitorError as error:
        return Job(claimed, (), tuple(dropped), trouble=error.message)


def _opened(claimed: Claimed, keys: Keyring) -> Claimed:
    """With the callback's secrets as requests need them."""
    of = claimed.callback
    secrets, headers = sealed.open_for_sending(keys, of.id, of.secrets, of.headers)
    return claimed._replace(callback=of._replace(secrets=secrets, headers=headers))


class _Renderer:
    def __init__(self, claimed: Claimed) -> None:
        of = claimed.callback
        self.claimed = claimed
        self.template = Template(of.url, of.payload, of.headers, of.raw_json)
        self.at = claimed.now
        self.shows_time = "{timestamp}" in of.url or "{timestamp}" in (of.payload or "")

    def job(self, tellings: tuple[Telling, ...], dropped: tuple[OwedUnit, ...]) -> Job:
        content = self._fix_time(tellings)
        whole = self._part(0, tellings)
        if whole.request.method != "GET" or len(whole.request.url) <= URL_LIMIT:
            return Job(self.claimed, (whole,), dropped, content)
        if len(whole.request.url) > MOST_PARTS * URL_LIMIT:  # its parts are never shorter together
            return self._too_long(dropped)
        pieces = list(_split(tellings, lambda some: len(self._part(0, some).request.url) <= URL_LIMIT))
        if len(pieces) > MOST_PARTS or not all(pieces):
            return self._too_long(dropped)
        units = [piece[0].owed.unit for piece in pieces]
        parts = tuple(
            self._part(i, piece, sliced=len(piece) == 1 and units.count(piece[0].owed.unit) > 1)
            for i, piece in enumerate(pieces, 1)
        )
        done = {part.webhook_id for part in parts} & self.claimed.parts_done
        return Job(self.claimed, parts, dropped, content, done=done, timed=tellings if self.shows_time else ())

    def _too_long(self, dropped: tuple[OwedUnit, ...]) -> Job:
        trouble = f"the URL would be over {URL_LIMIT} characters, and over {MOST_PARTS} requests to split it into"
        return Job(self.claimed, (), dropped, trouble=f"{trouble}; use POST: give the callback a payload")

    def _fix_time(self, tellings: Sequence[Telling]) -> tuple[str, int] | None:
        """{timestamp} is when this content was first built: kept, where the template shows it."""
        if not self.shows_time:
            return None
        content_hash = _webhook_id(self.claimed, tellings, entries_of(tellings))
        if content_hash == self.claimed.content_hash and self.claimed.content_at is not None:
            self.at = self.claimed.content_at
            return None
        return content_hash, self.at

    def _part(self, number: int, tellings: tuple[Telling, ...], sliced: bool = False) -> Part:
        listed = entries_of(tellings)
        # A content that shows its time is another one where it is built anew, another having been sent in between.
        webhook_id = _webhook_id(self.claimed, tellings, listed, self.at if self.shows_time else None)
        request = render(self.template, Content(listed, webhook_id, self.at // 1000))
        return Part(number, webhook_id, request, tellings, sliced)


def entries_of(tellings: Sequence[Telling]) -> list[Entry]:
    """What a request shows of these: a number for each region once, at the worst of its types, sorted."""
    if len(tellings) == 1:  # by far the most frequent, and nothing to compare
        (only,) = tellings
        return [Entry(only.owed.unit.region, only.type, tuple(sorted(set(only.numbers))))]
    groups: Groups = {}
    for owed, kind, numbers in tellings:
        groups.setdefault(owed.unit.region, {}).setdefault(kind, []).extend(numbers)
    return grouped(groups)


def _webhook_id(claimed: Claimed, tellings: Sequence[Telling], listed: Sequence[Entry], at: int | None = None) -> str:
    """The same content of the same delivery has the same id; equal content of a later change has another, also where
    that change is not planned yet."""
    # A database that is made anew counts its deliveries from 1 again: when this one was made tells them apart.
    parts = [f"{claimed.id}\0{claimed.created_at}" if at is None else f"{claimed.id}\0{claimed.created_at}\0{at}"]
    if claimed.flagged and any(t.owed.unit in claimed.flagged for t in tellings):
        # What is told may be a change that `wanted` does not count yet: other changes may follow under the same count,
        # and then this content again, which would be no repetition.
        parts.append(str(claimed.now))
    for ((channel_id, (region, code)), wanted, _, _), _, _ in tellings:
        parts.append(f"{channel_id}\0{region}\0{code}\0{wanted}")
    for (region, code), kind, numbers in listed:
        parts += (f"{region}\0{code}\0{kind.word}\0{len(numbers)}", *numbers)
    text = "\0".join(parts).encode("utf-8", "replace")
    return "msg_" + hashlib.sha256(text).hexdigest()[:32]


def _split(tellings: Sequence[Telling], fits: Callable[[tuple[Telling, ...]], bool]) -> Iterator[tuple[Telling, ...]]:
    """Whole units per piece where they fit, else slices of one unit's numbers; () for what fits in no request."""
    current: tuple[Telling, ...] = ()
    for telling in tellings:
        if fits((*current, telling)):
            current = (*current, telling)
            continue
        if current:
            yield current
        current = (telling,) if fits((telling,)) else ()
        if not current:
            yield from _slices(telling, fits)
    if current:
        yield current


def _slices(telling: Telling, fits: Callable[[tuple[Telling, ...]], bool]) -> Iterator[tuple[Telling, ...]]:
    rest = tuple(sorted(telling.numbers))  # a retry has to cut at the same places, however the store lists them
    for _ in range(MOST_PARTS + 1):  # one more than allowed shows that it is too many
        if not rest:
            return
        low, high = 0, len(rest)  # the most numbers that fit
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits((telling._replace(numbers=rest[:middle]),)) else (low, middle - 1)
        if not low:
            yield ()
            return
        yield (telling._replace(numbers=rest[:low]),)
        rest = rest[low:]
