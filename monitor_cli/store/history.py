"""The history: a row for each server whose type changed, whoever changed it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, func, select

from monitor_cli.dialect import insert_rows
from monitor_cli.schema import change
from monitor_cli.store.channels import chunks
from monitor_cli.types import LOAD

_BATCH = 250  # a row has up to 3 000 characters, and a statement's length is limited
_COLUMNS = tuple(column.name for column in change.c if column.name != "id")


def record(conn: Connection, changes: Iterable[Mapping[str, Any]]) -> int:
    """Write rows of the table `change`, in batches; gives how many. Each has all of its columns but `id`, and
    `planned` where it is not yet owed. Odd NULLs of an adopted server row count as '' and 0."""
    written = 0
    for some in chunks(changes, _BATCH):
        insert_rows(conn, change, _COLUMNS, map(_row, some))
        written += len(some)
    return written


def last_sources(conn: Connection, monitor_ids: Collection[int]) -> dict[int, str]:
    """The source of the newest change of each of these servers that a source made: not by hand, nor by its load."""
    found: dict[int, str] = {}
    by_a_source = (change.c.source.is_not(None), change.c.source != LOAD)
    for some in chunks(monitor_ids):
        of_these = (change.c.monitor_id.in_(some), *by_a_source)
        newest = select(func.max(change.c.id)).where(*of_these).group_by(change.c.monitor_id)
        ids = conn.execute(newest).scalars().all()
        query = select(change.c.monitor_id, change.c.source).where(change.c.id.in_(ids))
        found.update((monitor_id, source) for monitor_id, source in conn.execute(query))
    return found


def _row(one: Mapping[str, Any]) -> list[Any]:
    row = {"planned": 0, **one}
    for name in ("name", "region", "region_code"):
        row[name] = row[name] or ""
    for name in ("server_id", "channel_id", "flag_stood"):
        row[name] = row[name] or 0
    return [row[name] for name in _COLUMNS]
