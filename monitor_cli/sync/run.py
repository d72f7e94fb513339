"""A run of incident-sync, from the lease to the commit. docs/sync.md tells it in one page.

One run at a time, by a lease that is renewed while sources are read, and that the writing transaction holds to its
end. Lock order: the lease, the documents, monitor rows by id, the history, what is remembered of rows, what was
reported.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from monitor_cli.db import Connection, Database
from monitor_cli.dialect import drop_when_silent
from monitor_cli.errors import MonitorError
from monitor_cli.store import leases, standings, sync_rows
from monitor_cli.store.channels import chunks
from monitor_cli.store.sync_rows import BATCH
from monitor_cli.sync import rows
from monitor_cli.sync.ahead import Ahead
from monitor_cli.sync.judging import Change, Rules
from monitor_cli.sync.reading import Harvest, Wanted, read_all
from monitor_cli.sync.reports import Report, reports_of
from monitor_cli.sync.rows import Found
from monitor_cli.sync.shelves import Shelves

log = logging.getLogger(__name__)

LEASE = "incident-sync"
LEASE_MS = 60_000
RENEW_SECONDS = 10.0
SILENT_SECONDS = 10  # a writing transaction says something every few milliseconds
_SWITCH_SECONDS = 0.0005


@dataclass
class Outcome:
    """How a run went. `busy`: another run has the lease, nothing was done. `changes` are there for a preview, or where
    log lines tell them."""

    busy: bool = False
    failed: dict[str, str] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    rows: int = 0
    written: int = 0


class _LeaseLost(MonitorError):
    """Another run has taken over, and nothing of this one was written."""


def synchronise(
    database: Database,
    wanted: Sequence[Wanted],
    rules: Rules = Rules(),  # noqa: B008 - it is immutable
    *,
    every_source: bool,
    remember: bool = True,
) -> Outcome:
    """Read the sources and write what differs. A source that fails is in the outcome, and in nothing else.

    `every_source`: these are all that there are, so that a server_tag which none of them has is missing. `remember`:
    what was told once is not told again. Raises DatabaseAway."""
    with database.read() as conn:
        if leases.is_held(conn, LEASE):
            return Outcome(busy=True)
    token = database.transact(lambda conn: leases.take(conn, LEASE, leases.holder(), LEASE_MS))
    if token is None:
        return Outcome(busy=True)
    try:
        with _uninterrupted():
            return _Run(database, token, rules, every_source, remember).run(wanted)
    except _LeaseLost:
        return Outcome(busy=True)
    except BaseException:
        with suppress(Exception):
            database.transact(lambda conn: leases.release(conn, LEASE, token))
        raise


def preview(database: Database, wanted: Sequence[Wanted], rules: Rules, *, every_source: bool) -> Outcome:
    """What a run would change, and everything that it would have to report; writes nothing. Raises DatabaseAway."""
    observed, failed, _ = read_all(wanted, lambda: None, RENEW_SECONDS)
    all_read = every_source and not failed
    outcome = Outcome(failed=failed)
    with database.read() as conn:
        blocks = sync_rows.blocks(conn, rules.lowest)
        found = rows.scan(conn, blocks, observed, rules, all_read=all_read)
        for ids in chunks(found.ids, BATCH):
            outcome.changes += rows.judged(conn, ids, observed, rules, lock=False).changes
    outcome.rows = found.rows
    outcome.reports = reports_of(None, observed, failed, found.whole(observed) if all_read else None)
    return outcome


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Without the collector of cycles: it goes over the many objects of a large page again and again as they come (a
    quarter of the time of reading it), and there are no cycles among them. And with threads that take turns quickly:
    whoever fetches the rows has something to do now and then, and would wait longer for its turn than it works."""
    was_on, was = gc.isenabled(), sys.getswitchinterval()
    gc.disable()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(was)
        if was_on:
            gc.enable()


class _Run:
    """One run under a lease."""

    def __init__(self, database: Database, token: str, rules: Rules, every_source: bool, remember: bool) -> None:
        self._database = database
        self._token = token
        self._rules = rules
        self._every_source = every_source
        self._remember = remember

    def run(self, wanted: Sequence[Wanted]) -> Outcome:
        shelves = Shelves(self._database, [one.source.name for one in wanted])
        with Ahead(self._database, self._rules.lowest) as blocks:
            harvest = read_all(wanted, lambda: self._database.transact(self._hold), RENEW_SECONDS, shelves.of)
            all_read = self._every_source and not harvest.failed
            with self._database.read() as conn:
                found = rows.scan(conn, blocks, harvest.observed, self._rules, all_read=all_read)

        def write(conn: Connection) -> Outcome:
            drop_when_silent(conn, SILENT_SECONDS)
            # First, and held to the commit: who wakes up after another took over gets no further, and none can begin.
            self._hold(conn)
            shelves.settle(conn, harvest.remembered)
            outcome = self._write(conn, harvest, found)
            whole = found.whole(harvest.observed) if all_read else None
            told_in = conn if self._remember else None
            outcome.reports = reports_of(told_in, harvest.observed, harvest.failed, whole)
            leases.release(conn, LEASE, self._token)
            return outcome

        return self._database.transact(write)

    def _hold(self, conn: Connection) -> None:
        if not leases.renew(conn, LEASE, self._token, LEASE_MS):
            raise _LeaseLost("another run has taken over")

    def _write(self, conn: Connection, harvest: Harvest, found: Found) -> Outcome:
        outcome = Outcome(failed=harvest.failed, rows=found.rows)
        for ids in chunks(found.ids, BATCH):
            judged = rows.judged(conn, ids, harvest.observed, self._rules, lock=True)
            outcome.written += rows.write(conn, judged)
            if log.isEnabledFor(logging.INFO):
                outcome.changes += judged.changes
        standings.forget(conn, found.gone)
        return outcome
