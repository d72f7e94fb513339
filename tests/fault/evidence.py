"""What a fault run leaves for its judge: requests received, processes and their ends, the truth, the tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.fault.receiver import Record
from tests.fault.scene import Scene, Unit
from tests.fault.syncer import Version
from tests.fault.workers import Life, Worker, address_of

Span = tuple[float, float]


@dataclass(frozen=True)
class Tables:
    """Rows at the end."""

    servers: Sequence[Any]
    owed: Sequence[Any]
    deliveries: Sequence[Any]
    attempts: Sequence[Any]
    plans: int


@dataclass(frozen=True)
class Evidence:
    """`deadline` and `lease` in seconds; `outages` by place (Life.place): from the database's death until it answered
    again."""

    scene: Scene
    truth: dict[Unit, list[Version]]
    records: Sequence[Record]
    workers: Sequence[Worker]
    outages: Mapping[str, Sequence[Span]]
    tables: Tables
    deadline: float
    lease: float

    def sender(self, record: Record) -> Life:
        """The process that sent a request."""
        return [life for life in self._senders[record.sender] if life.started <= record.arrived + 0.1][-1]

    @cached_property
    def _senders(self) -> dict[str, list[Life]]:
        senders: dict[str, list[Life]] = {}
        for life in self.lives:
            senders.setdefault(address_of(life.pid), []).append(life)
        return senders

    @cached_property
    def lives(self) -> list[Life]:
        return [life for worker in self.workers for life in worker.lives]

    @cached_property
    def stops(self) -> list[Span]:
        return [stop for life in self.lives for stop in life.stops]

    @property
    def longest_pause(self) -> float:
        """A worker starts no request once this much of its lease has passed; it may have started one just before."""
        return self.lease - self.deadline - 5

    def woke_up_with_it(self, record: Record) -> bool:
        """Whether the sender was stopped, just before this request came, for so long that its lease may have run out
        between its last look at it and the write."""
        return any(
            end - begin > self.longest_pause and -0.05 <= record.arrived - end < self.deadline + 1
            for begin, end in self.sender(record).stops
        )


def undisturbed(span: Span, disturbances: Iterable[Span]) -> float:
    """How many seconds of a span lie in none of the others."""
    begin, end = span
    left, at = 0.0, begin
    for b, e in sorted(disturbances):
        if e <= at:
            continue
        if b >= end:
            break
        left += max(0.0, b - at)
        at = max(at, e)
    return left + max(0.0, end - at)


def overlaps(span: Span, others: Iterable[Span]) -> bool:
    return any(begin < span[1] and span[0] < end for begin, end in others)
