"""Reading several sources side by side, so that a slow one does not hold up the others."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from monitor_cli.config import Source
from monitor_cli.errors import SourceError
from monitor_cli.sources import File, examine
from monitor_cli.sources.memory import NoShelf, Remembered, Shelf
from monitor_cli.wrapping import Observed

log = logging.getLogger(__name__)

AT_ONCE = 4  # each may have a document of 32 MiB in memory


class Wanted(NamedTuple):
    """A source to read; `files`: its documents, where they are there already."""

    source: Source
    files: Sequence[File] = ()


class Harvest(NamedTuple):
    """What the sources say; of those that failed, by name, why; what is to be remembered of each one's documents."""

    observed: Observed
    failed: dict[str, str]
    remembered: dict[str, Remembered]


Shelving = Callable[[str], Shelf]
"""The shelf of a source, by its name."""

_Part = tuple[Observed, Remembered]
_Answer = tuple[Source, _Part | BaseException]


def read_all(
    wanted: Sequence[Wanted],
    tick: Callable[[], None],
    every_seconds: float,
    shelf_of: Shelving = lambda _name: NoShelf(),
) -> Harvest:
    """Read these sources. `tick` is called while that lasts, from the caller's own thread."""
    parts: dict[str, _Part] = {}
    failed: dict[str, str] = {}
    for source, answer in _answers(wanted, tick, every_seconds, shelf_of):
        if isinstance(answer, SourceError):
            failed[source.name] = answer.message
        elif isinstance(answer, BaseException):
            raise answer
        else:
            parts[source.name] = answer
    harvest = Harvest(Observed(), failed, {})
    for one in wanted:  # in the order of the configuration, whichever answered first
        if one.source.name in parts:
            observed, remembered = parts.pop(one.source.name)
            harvest.observed.merge(observed)
            if not one.files:
                harvest.remembered[one.source.name] = remembered
    return harvest


def _answers(
    wanted: Sequence[Wanted], tick: Callable[[], None], every_seconds: float, shelf_of: Shelving
) -> Iterator[_Answer]:
    todo: queue.SimpleQueue[Wanted] = queue.SimpleQueue()
    answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()
    for one in wanted:
        todo.put(one)
    for _ in range(min(AT_ONCE, len(wanted))):
        threading.Thread(target=_work, args=(todo, answers, shelf_of), name="reader", daemon=True).start()
    next_tick, left = time.monotonic() + every_seconds, len(wanted)
    while left:
        try:
            yield answers.get(timeout=max(0.0, next_tick - time.monotonic()))
            left -= 1
        except queue.Empty:
            tick()
            next_tick = time.monotonic() + every_seconds


def _work(todo: queue.SimpleQueue[Wanted], answers: queue.SimpleQueue[_Answer], shelf_of: Shelving) -> None:
    while True:
        try:
            one = todo.get_nowait()
        except queue.Empty:
            return
        try:
            answers.put((one.source, _observe(one, shelf_of(one.source.name))))
        except BaseException as error:
            answers.put((one.source, error))


def _observe(one: Wanted, shelf: Shelf) -> _Part:
    """Wrapped here, so that no more than AT_ONCE documents are in memory."""
    started = time.monotonic()
    reading = examine(one.source, one.files, shelf)
    facts = {"source": one.source.name, "components": len(reading.components), "same": len(reading.remembered.same)}
    log.info("source.read", extra={"facts": {**facts, "took": f"{time.monotonic() - started:.2f}"}})
    observed = Observed()
    observed.add(one.source, reading.components)
    return observed, reading.remembered
