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
from monitor_cli.sources import File, read
from monitor_cli.wrapping import Observed

log = logging.getLogger(__name__)

AT_ONCE = 4  # each may have a document of 32 MiB in memory


class Wanted(NamedTuple):
    """A source to read; `files`: its documents, where they are there already."""

    source: Source
    files: Sequence[File] = ()


_Answer = tuple[Source, Observed | BaseException]


def read_all(
    wanted: Sequence[Wanted], tick: Callable[[], None], every_seconds: float
) -> tuple[Observed, dict[str, str]]:
    """What the sources say, and of those that failed, by name, why. `tick` is called while that lasts, from the
    caller's own thread."""
    parts: dict[str, Observed] = {}
    failed: dict[str, str] = {}
    for source, answer in _answers(wanted, tick, every_seconds):
        if isinstance(answer, SourceError):
            failed[source.name] = answer.message
        elif isinstance(answer, BaseException):
            raise answer
        else:
            parts[source.name] = answer
    observed = Observed()
    for one in wanted:  # in the order of the configuration, whichever answered first
        if part := parts.pop(one.source.name, None):
            observed.merge(part)
    return observed, failed


def _answers(wanted: Sequence[Wanted], tick: Callable[[], None], every_seconds: float) -> Iterator[_Answer]:
    todo: queue.SimpleQueue[Wanted] = queue.SimpleQueue()
    answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()
    for one in wanted:
        todo.put(one)
    for _ in range(min(AT_ONCE, len(wanted))):
        threading.Thread(target=_work, args=(todo, answers), name="reader", daemon=True).start()
    next_tick, left = time.monotonic() + every_seconds, len(wanted)
    while left:
        try:
            yield answers.get(timeout=max(0.0, next_tick - time.monotonic()))
            left -= 1
        except queue.Empty:
            tick()
            next_tick = time.monotonic() + every_seconds


def _work(todo: queue.SimpleQueue[Wanted], answers: queue.SimpleQueue[_Answer]) -> None:
    while True:
        try:
            one = todo.get_nowait()
        except queue.Empty:
            return
        try:
            answers.put((one.source, _observe(one)))
        except BaseException as error:
            answers.put((one.source, error))


def _observe(one: Wanted) -> Observed:
    """Wrapped here, so that no more than AT_ONCE documents are in memory."""
    started = time.monotonic()
    components = read(one.source, one.files)
    took = f"{time.monotonic() - started:.2f}"
    log.info("source.read", extra={"facts": {"source": one.source.name, "components": len(components), "took": took}})
    observed = Observed()
    observed.add(one.source, components)
    return observed
