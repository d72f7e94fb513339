"""A run of incident-sync, from the lease to the commit. docs/sync.md tells it in one page.

One run at a time, by a lease that is renewed while sources are read, and that the writing transaction holds to its
end. Lock order: the lease, monitor rows by id, the history, what was reported.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from monitor_cli.db import AnyRow, Connection, Database, now_ms
from monitor_cli.errors import MonitorError
from monitor_cli.store import history, leases, sync_rows
from monitor_cli.store.channels import chunks
from monitor_cli.store.sync_rows import Values
from monitor_cli.sync.absent import said_by_silence
from monitor_cli.sync.reading import Wanted, read_all
from monitor_cli.sync.reports import Report, Whole, reports_of
from monitor_cli.types import Type
from monitor_cli.wrapping import Observation, Observed, differs

log = logging.getLogger(__name__)

LEASE = "incident-sync"
LEASE_MS = 60_000
RENEW_SECONDS = 10.0
_TITLE_LENGTH, _LINK_LENGTH = 1000, 2000


class Change(NamedTuple):
    """A server whose row has to be written; `to` is None where only the source's word is another."""

    row: AnyRow
    before: Type | None
    to: Type | None
    seen: Observation


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


def synchronise(database: Database, wanted: Sequence[Wanted], *, every_source: bool, remember: bool = True) -> Outcome:
    """Read the sources and write what differs. A source that fails is in the outcome, and in nothing else.

    `every_source`: these are all that there are, so that a server_tag which none of them has is missing. `remember`:
    what was told once is not told again. Raises DatabaseAway."""
    with database.read() as conn:
        if leases.is_held(conn, LEASE):
            return Outcome(busy=True)
    owner = f"{socket.gethostname()} {os.getpid()}"
    token = database.transact(lambda conn: leases.take(conn, LEASE, owner, LEASE_MS))
    if token is None:
        return Outcome(busy=True)
    try:
        return _Run(database, token, every_source, remember).run(wanted)
    except _LeaseLost:
        return Outcome(busy=True)
    except BaseException:
        with suppress(Exception):
            database.transact(lambda conn: leases.release(conn, LEASE, token))
        raise


def preview(database: Database, wanted: Sequence[Wanted], *, every_source: bool) -> Outcome:
    """What a run would change, and everything that it would have to report; writes nothing. Raises DatabaseAway."""
    observed, failed = read_all(wanted, lambda: None, RENEW_SECONDS)
    with database.read() as conn:
        found = _scan(conn, observed, every_source and not failed)
        changes = [one for ids in chunks(found.ids) for one in _changes(sync_rows.at(conn, ids, lock=False), observed)]
    reports = reports_of(None, observed, failed, found.whole(observed) if every_source and not failed else None)
    return Outcome(failed=failed, reports=reports, changes=changes, rows=found.rows)


class _Run:
    """One run under a lease."""

    def __init__(self, database: Database, token: str, every_source: bool, remember: bool) -> None:
        self._database = database
        self._token = token
        self._every_source = every_source
        self._remember = remember

    def run(self, wanted: Sequence[Wanted]) -> Outcome:
        observed, failed = read_all(wanted, lambda: self._database.transact(self._hold), RENEW_SECONDS)
        with self._database.read() as conn:
            found = _scan(conn, observed, self._every_source and not failed)
        whole = found.whole(observed) if self._every_source and not failed else None
        return self._database.transact(lambda conn: self._write(conn, observed, failed, found, whole))

    def _hold(self, conn: Connection) -> None:
        if not leases.renew(conn, LEASE, self._token, LEASE_MS):
            raise _LeaseLost("another run has taken over")

    def _write(
        self, conn: Connection, observed: Observed, failed: dict[str, str], found: _Found, whole: Whole | None
    ) -> Outcome:
        # First, and held to the commit: who wakes up after another took over gets no further, and none can begin now.
        self._hold(conn)
        outcome = Outcome(failed=failed, rows=found.rows)
        for ids in chunks(found.ids, sync_rows.BATCH):
            changes = list(_changes(sync_rows.at(conn, ids, lock=True), observed))
            outcome.written += _write_changes(conn, changes)
            if log.isEnabledFor(logging.INFO):
                outcome.changes += changes
        outcome.reports = reports_of(conn if self._remember else None, observed, failed, whole)
        leases.release(conn, LEASE, self._token)
        return outcome


# --- the rows ---------------------------------------------------------------------------------------------------------


class _Found(NamedTuple):
    """What a look at every row gave: how many there are, the ids of those that differ, the tags that no source has, and
    those that several have."""

    rows: int
    ids: list[int]
    missing: set[str]
    shared: set[str]

    def whole(self, observed: Observed) -> Whole:
        return Whole(self.missing, {tag: observed.shared[tag] for tag in self.shared})


def _scan(conn: Connection, observed: Observed, all_read: bool) -> _Found:
    """Look at every row, without a lock. `all_read`: there are no sources but those that were read."""
    if odd := sync_rows.storable(conn, observed.words):
        observed.restate(odd)
    found, rows = _Found(0, [], set(), set()), 0
    tags, shared = observed.tags, observed.shared
    by_silence = next(iter(observed.absent.values()), None)
    unnamed: dict[str, list[int]] = {}
    for block in sync_rows.blocks(conn):
        rows += len(block)
        for id_, tag, word, final in block:
            seen = tags.get(tag)
            if seen is None:
                if tag and by_silence is None:
                    found.missing.add(tag)
                elif tag and by_silence is not None and differs(by_silence, word, final):
                    unnamed.setdefault(tag, []).append(id_)
                continue
            if differs(seen, word, final):
                found.ids.append(id_)
            if shared and tag in shared:
                found.shared.add(tag)
    said = said_by_silence(conn, observed, unnamed, all_read=all_read)
    tags.update(said)
    found.ids.extend(id_ for tag in said for id_ in unnamed[tag])
    found.ids.sort()  # rows are locked in this order
    found.missing.update(unnamed.keys() - said.keys())
    return found._replace(rows=rows)


def _changes(rows: Sequence[AnyRow], observed: Observed) -> Iterator[Change]:
    """Judge whole rows, as they are now."""
    for row in rows:
        seen = observed.tags.get(row.server_tag)
        if seen is not None and differs(seen, row.incident_status, row.final_status):
            before = Type.read(row.final_status)
            yield Change(row, before, None if before is seen.type else seen.type, seen)


def _write_changes(conn: Connection, changes: Sequence[Change]) -> int:
    """Write locked rows and the history of their types."""
    if not changes:
        return 0
    groups: dict[Values, list[int]] = {}
    for change in changes:
        groups.setdefault(Values(change.seen.word, change.to), []).append(change.row.id)
    now = now_ms(conn)
    history.record(conn, (_history(change, change.to, now) for change in changes if change.to is not None))
    return sync_rows.write(conn, groups, now // 1000)


def _history(change: Change, to: Type, now: int) -> dict[str, Any]:
    row, incident = change.row, change.seen.incident
    return {
        "monitor_id": row.id,
        "server_id": row.server_id,
        "name": row.name,
        "channel_id": row.channel_id,
        "region": row.region,
        "region_code": row.region_code,
        "from_type": None if change.before is None else change.before.word,
        "to_type": to.word,
        "source": change.seen.source,
        "incident_status": change.seen.word,
        "incident_title": incident.title[:_TITLE_LENGTH] if incident else None,
        "incident_link": incident.link if incident and len(incident.link or "") <= _LINK_LENGTH else None,
        "flag_stood": int(row.status_report == 1),
        "created_at": now,
    }
