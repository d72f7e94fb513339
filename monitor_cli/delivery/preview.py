"""callback-run --dry-run: plan, claim and render in one transaction that is then rolled back."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from monitor_cli.config import Settings
from monitor_cli.db import Connection, Database
from monitor_cli.delivery.desk import MOST_NUMBERS
from monitor_cli.delivery.jobs import Job, build_job, entries_of, must_send
from monitor_cli.sealing import Keyring, Unreadable
from monitor_cli.store import callbacks, claims, due, planning
from monitor_cli.words import many

BATCH = 500


class _RollBack(Exception):
    pass


def preview(database: Database, settings: Settings) -> Iterator[str]:
    """A line for each request that a run would send now, and for each change that it would drop. Holds the plan's
    locks while it reads, as a plan does. Raises Unreadable (78) in the end where our keys do not fit the secrets of a
    callback that is due."""
    keys = Keyring.of(settings)
    lines: list[str] = []
    unreadable: Unreadable | None = None
    try:
        with database.write() as conn:
            while planning.plan_flagged(conn):
                pass
            for jobs in _due(conn, settings.total_timeout, keys):
                who = callbacks.names(conn, {job.claimed.callback.id for job in jobs})
                for job in jobs:
                    unreadable = unreadable or job.unreadable
                    lines += _lines(job, who.get(job.claimed.callback.id, "a callback removed meanwhile"))
            raise _RollBack
    except _RollBack:
        pass
    yield from lines
    if unreadable:
        raise unreadable


def _due(conn: Connection, deadline: float, keys: Keyring) -> Iterator[list[Job]]:
    owner = f"dry-run-{secrets.token_hex(4)}"
    while candidates := due.candidates(conn, BATCH):
        ids = [candidate.id for candidate in candidates]
        # Under a lease until the transaction is rolled back, so that the next round finds the next ones.
        claimed = claims.claim(conn, ids, owner, int(1000 * (deadline + 3600)), MOST_NUMBERS, must_send)
        yield [build_job(one, keys) for one in claimed]


def _lines(job: Job, who: str) -> Iterator[str]:
    callback = job.claimed.callback
    if job.trouble:
        yield f"{who}: cannot be told: {job.trouble}"
    for part in job.parts:
        if part.webhook_id in job.done:
            continue
        shown = entries_of(part.tellings)
        words = ", ".join(f"{each.region.shown} {each.type}: {many(len(each.numbers), 'number')}" for each in shown)
        yield f"{who}: {part.request.method} {callback.destination}: {words}"
    for owed in job.dropped:
        yield f"{who}: dropped: channel {owed.unit.channel_id} in {owed.unit.region.shown} is as it was told"
