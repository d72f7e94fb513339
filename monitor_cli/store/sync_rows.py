"""incident-sync's statements on infi_voice_monitor: reading every row, locking and writing those that change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, select, text, update

from monitor_cli.db import AnyRow, is_mysql
from monitor_cli.schema import monitor
from monitor_cli.store.channels import chunks
from monitor_cli.types import Type

BLOCK = 10_000  # rows read at once
BATCH = (
    500  # rows locked and written at once; from 1000 on MariaDB makes a subquery of an IN list, and locks in its order
)


_WHOLE = (
    monitor.c.id,
    monitor.c.server_id,
    monitor.c.server_tag,
    monitor.c.name,
    monitor.c.channel_id,
    monitor.c.region,
    monitor.c.region_code,
    monitor.c.incident_status,
    monitor.c.final_status,
    monitor.c.status_report,
)


class Values(NamedTuple):
    """What a row gets: the source's word, and a type where it changed."""

    word: str
    type: Type | None


def blocks(conn: Connection) -> Iterator[Sequence[AnyRow]]:
    """(id, server_tag, incident_status, final_status) of every row, by id, in blocks, without a lock."""
    columns = (monitor.c.id, monitor.c.server_tag, monitor.c.incident_status, monitor.c.final_status)
    query = select(*columns).order_by(monitor.c.id).limit(BLOCK)
    last = None
    while rows := conn.execute(query if last is None else query.where(monitor.c.id > last)).all():
        yield rows
        last = rows[-1][0]
        if len(rows) < BLOCK:
            return


def storable(conn: Connection, words: Iterable[str]) -> dict[str, str]:
    """How incident_status holds those words that it cannot hold as they are: an adopted table may be latin1, and one
    odd word must not stop every sync with an error."""
    odd = [word for word in words if not word.isascii()]
    if not odd or not is_mysql(conn):
        return {}
    charset = str(conn.execute(text(f"SELECT CHARSET(incident_status) FROM {monitor.name} LIMIT 1")).scalar())
    if not charset.isalnum():
        return {}
    query = text(f"SELECT CONVERT(CONVERT(:word USING {charset}) USING utf8mb4)")
    held = {word: str(conn.execute(query, {"word": word}).scalar_one()) for word in odd}
    return {word: kept for word, kept in held.items() if kept != word}


def at(conn: Connection, ids: Sequence[int], *, lock: bool) -> Sequence[AnyRow]:
    """These rows as they are now, by id; locked, if they are to be written: another program may have written or removed
    one since it was seen."""
    query = select(*_WHOLE).where(monitor.c.id.in_(ids)).order_by(monitor.c.id)
    return conn.execute(query.with_for_update() if lock else query).all()


def write(conn: Connection, rows: Mapping[Values, Sequence[int]], modified: int) -> int:
    """Write locked rows, by their ids, at `modified` (seconds); a type that changed sets the flag. Gives how many.

    Grouped by what they get: pages have few words, so that is few statements on every store, and it needs no
    temporary table (a privilege that a platform's user may not have). docs/sync.md has it measured."""
    written = 0
    for values, ids in rows.items():
        new: dict[str, Any] = {"incident_status": values.word, "modified": modified}
        if values.type is not None:
            new.update(final_status=values.type.word, status_report=1)
        for some in chunks(ids, BATCH):
            written += conn.execute(update(monitor).where(monitor.c.id.in_(some)).values(new)).rowcount
    return written
