"""What a run tells people: once when it begins and once when it is over, whichever host sees it (SPEC 3 and 9)."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from monitor_cli.db import Connection
from monitor_cli.store import reports as store
from monitor_cli.store.reports import Moved
from monitor_cli.words import iso, listed
from monitor_cli.wrapping import Observed

log = logging.getLogger(__name__)

_NAMED = 20  # subjects that a line names; of the others it gives the number


class Report(NamedTuple):
    """A log line to be."""

    level: int
    event: str
    facts: dict[str, Any]

    def tell(self) -> None:
        log.log(self.level, self.event, extra={"facts": self.facts})


class Whole(NamedTuple):
    """What only a run that has read every source can say: tags of servers that no source has, and that several have."""

    missing: Collection[str]
    shared: Mapping[str, Collection[str]]


def reports_of(
    conn: Connection | None, observed: Observed, failed: Mapping[str, str], whole: Whole | None
) -> list[Report]:
    """What has begun or ended since the last run, and the state of it all recorded; without a connection everything
    that is so now."""
    found = [*_sources(conn, observed, failed)]
    for name, words in observed.unknown.items():
        moved = _moved(conn, name, "word", words)
        found += _reports(moved, "word.unknown", "word.gone", {"source": name}, "words", {"type": "warning"})
    if whole is not None:
        # With one source it is that one's, so that two command lines with a page each keep out of each other's way.
        names = list(observed.unknown)
        owner = names[0] if len(names) == 1 else ""
        where = {"source": ", ".join(names)}
        moved = _moved(conn, owner, "missing", whole.missing)
        found += _reports(moved, "component.missing", "component.found", where, "components", {})
        moved = _moved(conn, owner, "shared", whole.shared)
        sources = ", ".join(sorted({name for tag in moved.appeared for name in whole.shared.get(tag, ())}))
        facts = {"source": sources or where["source"]}
        found += _reports(moved, "component.shared", "component.shared.gone", facts, "components", {"taken": "worst"})
    return found


def _sources(conn: Connection | None, observed: Observed, failed: Mapping[str, str]) -> Iterator[Report]:
    errors: dict[str, str | None] = {**dict.fromkeys(observed.unknown), **failed}
    failing_since, recovered = store.source_results(conn, errors) if conn is not None else ({}, {})
    for name, error in failed.items():
        facts: dict[str, Any] = {"source": name, "error": error}
        if (since := failing_since.get(name)) is None:
            yield Report(logging.ERROR, "source.failed", facts)
        else:
            yield Report(logging.INFO, "source.failing", {**facts, "since": iso(since, "seconds")})
    for name, since in recovered.items():
        yield Report(logging.WARNING, "source.recovered", {"source": name, "failing_since": iso(since, "seconds")})


def _moved(conn: Connection | None, owner: str, kind: str, subjects: Collection[str]) -> Moved:
    return Moved(sorted(subjects), []) if conn is None else store.reconcile(conn, owner, kind, subjects)


def _reports(
    moved: Moved, event: str, over: str, facts: dict[str, Any], key: str, more: dict[str, Any]
) -> Iterator[Report]:
    if moved.appeared:
        yield Report(logging.WARNING, event, {**facts, key: listed(moved.appeared, _NAMED), **more})
    if moved.gone:
        yield Report(logging.WARNING, over, {**facts, key: listed(moved.gone, _NAMED)})
