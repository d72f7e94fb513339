"""What incident-sync has told people already, so that many hosts and each minute's run tell it once.

A source that fails, and conditions that last: an unknown word, a component that is missing. Written by the holder of
the sync lease alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select

from monitor_cli.dialect import now_ms, upsert
from monitor_cli.schema import condition, source
from monitor_cli.store.channels import chunks

SUBJECT_LENGTH = 200


class Moved(NamedTuple):
    """Which subjects of a condition are new, and which have gone."""

    appeared: list[str]
    gone: list[str]


class State(NamedTuple):
    """How reading a source went last: milliseconds since 1970; `error` is that of a source that is failing."""

    last_good_at: int | None
    failing_since: int | None
    error: str | None


def source_states(conn: Connection) -> dict[str, State]:
    """The states of all sources that were read once, by name."""
    query = select(source.c.name, source.c.last_good_at, source.c.failing_since, source.c.error)
    return {name: State(*state) for name, *state in conn.execute(query)}


def source_results(
    conn: Connection, errors: Mapping[str, str | None]
) -> tuple[dict[str, int | None], dict[str, int | None]]:
    """Record how reading each source went (None: well). Gives, by name, since when each failed source has been failing
    (None: it begins now), and each well one that had been failing (milliseconds since 1970)."""
    now = now_ms(conn)
    query = select(source.c.name, source.c.failing_since, source.c.last_good_at).where(source.c.name.in_(errors))
    before = {name: (failing, good) for name, failing, good in conn.execute(query)}
    rows = []
    for name, error in errors.items():
        failing, good = before.get(name, (None, None))
        rows.append(
            {
                "name": name,
                "last_good_at": now if error is None else good,
                "failing_since": None if error is None else failing or now,
                "error": error[:1000] if error else error,
            }
        )
    if rows:
        columns = ("last_good_at", "failing_since", "error")
        statement = upsert(conn, source, ["name"], lambda new, _old: {name: new[name] for name in columns})
        conn.execute(statement, rows)
    since = {name: before.get(name, (None, None))[0] for name in errors}
    failing_since = {name: at for name, at in since.items() if errors[name] is not None}
    recovered = {name: at for name, at in since.items() if errors[name] is None and at is not None}
    return failing_since, recovered


def subjects(conn: Connection, owner: str, kind: str) -> set[str]:
    """The subjects of the conditions of this kind of `owner`, as they were told last."""
    query = select(condition.c.subject).where(condition.c.source == owner, condition.c.kind == kind)
    return set(conn.execute(query).scalars())


def reconcile(conn: Connection, owner: str, kind: str, subjects: Collection[str]) -> Moved:
    """Make the conditions of this kind of `owner` (a source's name) those of `subjects`."""
    mine = (condition.c.source == owner, condition.c.kind == kind)
    known = set(conn.execute(select(condition.c.subject).where(*mine)).scalars())
    now_there = {subject[:SUBJECT_LENGTH] for subject in subjects}
    moved = Moved(sorted(now_there - known), sorted(known - now_there))
    for some in chunks(moved.gone):
        conn.execute(delete(condition).where(*mine, condition.c.subject.in_(some)))
    if moved.appeared:
        now = now_ms(conn)
        for some in chunks(moved.appeared):
            rows = [{"source": owner, "kind": kind, "subject": subject, "since_at": now} for subject in some]
            conn.execute(insert(condition), rows)
    return moved
