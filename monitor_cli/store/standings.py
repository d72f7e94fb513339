"""What incident-sync remembers of a row of infi_voice_monitor that its columns cannot tell (sync/judging has the
rules). Written by the holder of the sync lease alone; few rows have one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, delete, select

from monitor_cli.dialect import upsert
from monitor_cli.schema import standing
from monitor_cli.store.channels import chunks
from monitor_cli.types import Type

_COLUMNS = ("component_type", "load_type", "final_type", "new_type", "seen")
_BATCH = 1000


class Standing(NamedTuple):
    """What is remembered of a row: the type of its component that counts, that of its load, final_status as we left it,
    and a new type that `seen` syncs in a row have seen."""

    component: Type | None
    load: Type
    final: Type | None
    new: Type | None = None
    seen: int = 0


def there_are(conn: Connection) -> bool:
    """Whether there is any standing; mostly there is none."""
    return conn.execute(select(standing.c.monitor_id).limit(1)).first() is not None


def between(conn: Connection, after: int, last: int | None) -> dict[int, Standing]:
    """The standings of rows with an id over `after`, up to `last` (None: all)."""
    wanted = standing.c.monitor_id > after
    return _read(conn, wanted if last is None else and_(wanted, standing.c.monitor_id <= last))


def at(conn: Connection, ids: Collection[int]) -> dict[int, Standing]:
    """The standings of these rows."""
    return _read(conn, standing.c.monitor_id.in_(ids))


def _read(conn: Connection, wanted: ColumnElement[bool]) -> dict[int, Standing]:
    query = select(standing.c.monitor_id, *(standing.c[name] for name in _COLUMNS)).where(wanted)
    return {
        id_: Standing(Type.read(component), Type.read(load) or Type.OPERATIONAL, Type.read(final), Type.read(new), seen)
        for id_, component, load, final, new, seen in conn.execute(query)
    }


def write(conn: Connection, standings: Mapping[int, Standing | None]) -> None:
    """Remember these, by the ids of their rows; forget those that are None."""
    forget(conn, [id_ for id_, one in standings.items() if one is None])
    rows = [_row(id_, one) for id_, one in standings.items() if one is not None]
    statement = upsert(conn, standing, ["monitor_id"], lambda new, _old: {name: new[name] for name in _COLUMNS})
    for some in chunks(rows, _BATCH):
        conn.execute(statement, some)


def forget(conn: Connection, ids: Collection[int]) -> None:
    for some in chunks(sorted(ids)):
        conn.execute(delete(standing).where(standing.c.monitor_id.in_(some)))


def _row(id_: int, one: Standing) -> dict[str, object]:
    words = [None if kind is None else kind.word for kind in (one.component, one.load, one.final, one.new)]
    return dict(zip(("monitor_id", *_COLUMNS), (id_, *words, one.seen), strict=True))
