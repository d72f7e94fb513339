"""Server rows as people edit them: add, list, edit, remove, and the writing that server_import shares.

What moves a server, removes it or changes its type changes what customers' numbers are told: it runs inside owe_around
(planning). Text is compared in Python, never by SQL: a platform's table has a collation of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from monitor_cli.db import AnyRow
from monitor_cli.dialect import now_ms
from monitor_cli.errors import MonitorError
from monitor_cli.schema import monitor
from monitor_cli.store import history
from monitor_cli.store.channels import chunks
from monitor_cli.store.planning import owe_around
from monitor_cli.store.values import INT_MAX, Reader, reader_of, type_word, whole
from monitor_cli.types import Type

REQUIRED = ("server_id", "name", "server_tag", "channel_id", "region", "region_code")
OPTIONAL = ("capacity", "used", "primary_server", "meta", "incident_status", "final_status")
COLUMNS = ("id", *REQUIRED, *OPTIONAL)
"""The columns that people may write; the others (status_report, created, modified) are the programs'."""

DEFAULTS: Mapping[str, Any] = {
    "capacity": 0,
    "used": 0,
    "primary_server": "",  # not NULL: on an installed platform the column may refuse it
    "meta": None,
    "incident_status": "operational",
    "final_status": "operational",
}
_MOVES = {"channel_id", "region", "region_code"}
_MAY_BE_EMPTY = {"region", "region_code", "primary_server"}
_BATCH = 1000

READERS: Mapping[str, Reader] = {
    **{name: reader_of(monitor.c[name], empty=name in _MAY_BE_EMPTY) for name in COLUMNS},
    "final_status": type_word,
    "capacity": whole(0, INT_MAX),
    "used": whole(0, INT_MAX),
}
"""How the text of each column is read (values.py)."""


class Filter(NamedTuple):
    """Which servers to list; None: all of them. A region's NULL counts as ''."""

    server_id: int | None = None
    channel_id: int | None = None
    server_tag: str | None = None
    region: str | None = None
    region_code: str | None = None
    type: Type | None = None


class Update(NamedTuple):
    """A row as it is, locked, and what is to be different."""

    row: AnyRow
    values: dict[str, Any]


def listed(conn: Connection, chosen: Filter = Filter()) -> Iterator[AnyRow]:  # noqa: B008 - it is immutable
    """The servers, by id; read in blocks."""
    query = select(monitor).order_by(monitor.c.id)
    if chosen.server_id is not None:
        query = query.where(monitor.c.server_id == chosen.server_id)
    if chosen.channel_id is not None:
        query = query.where(monitor.c.channel_id == chosen.channel_id)
    for row in conn.execute(query.execution_options(yield_per=_BATCH)):
        if (
            chosen.server_tag in (None, row.server_tag)
            and chosen.region in (None, row.region or "")
            and chosen.region_code in (None, row.region_code or "")
            and chosen.type in (None, Type.read(row.final_status))
        ):
            yield row


def find(conn: Connection, ids: Collection[int], *, lock: bool = False) -> dict[int, AnyRow]:
    """The rows with these ids. Raises MonitorError where one is not there."""
    rows = {row.id: row for some in chunks(sorted(ids)) for row in _by_id(conn, some, lock)}
    if missing := sorted(set(ids) - rows.keys()):
        raise MonitorError(f"there is no server {', '.join(map(str, missing[:10]))}", "see: monitor-cli server list")
    return rows


def add(conn: Connection, values: Mapping[str, Any]) -> int:
    """Add a server, operational unless `values` say otherwise; gives its id. Customers are owed a type that differs."""
    (row,) = new_rows(conn, [values])

    def write() -> int:
        key = conn.execute(insert(monitor).values(**row)).inserted_primary_key
        assert key is not None
        return int(key[0])

    return owe_around(conn, {row["channel_id"]}, write) if _is_news(row) else write()


def edit(conn: Connection, server: int, values: Mapping[str, Any]) -> None:
    """Change columns of a server. Raises MonitorError where it is not there."""
    row = find(conn, [server], lock=True)[server]
    differing = {name: value for name, value in values.items() if not same(name, row._mapping[name], value)}
    if differing:
        write_all(conn, [], [Update(row, differing)])


def remove(conn: Connection, ids: Collection[int]) -> None:
    """Remove servers. Raises MonitorError, and removes none, where one is not there."""
    rows = find(conn, ids, lock=True)

    def write() -> None:
        for some in chunks(sorted(rows)):
            conn.execute(delete(monitor).where(monitor.c.id.in_(some)))

    owe_around(conn, {row.channel_id for row in rows.values()}, write)


def new_rows(conn: Connection, given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Whole rows for new servers: unflagged, with the defaults for what is not given."""
    now = now_ms(conn) // 1000
    return [{**DEFAULTS, "status_report": 0, "created": now, "modified": now, **values} for values in given]


def write_all(
    conn: Connection,
    inserts: Sequence[dict[str, Any]],
    updates: Sequence[Update],
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Write new rows and changes of locked ones, a history row for each changed type, and what customers are owed by
    it. `advance` is told how many rows were written."""

    def write() -> None:
        # Those that bring an id first: the store then numbers the others above them.
        _insert(conn, [row for row in inserts if "id" in row], advance)
        _insert(conn, [row for row in inserts if "id" not in row], advance)
        _update(conn, updates, advance)
        _record(conn, updates)

    if channels := {row["channel_id"] for row in inserts if _is_news(row)} | _touched(updates):
        owe_around(conn, channels, write)
    else:
        write()


def _by_id(conn: Connection, ids: Sequence[int], lock: bool) -> Sequence[AnyRow]:
    query = select(monitor).where(monitor.c.id.in_(ids)).order_by(monitor.c.id)
    return conn.execute(query.with_for_update() if lock else query).all()


def same(name: str, old: Any, new: Any) -> bool:
    """Whether a column's two values mean the same: NULL counts as '', a type is read without regard to case."""
    if name == "final_status":
        return Type.read(old) is Type.read(new)
    return bool(("" if old is None else old) == ("" if new is None else new))


def _is_news(row: Mapping[str, Any]) -> bool:
    """Whether a new server gives its channel's numbers another type than a server that is well."""
    return Type.read(row["final_status"]) is not Type.OPERATIONAL


def _touched(updates: Sequence[Update]) -> set[int]:
    """The channels whose numbers may have another type after these updates."""
    return {
        channel
        for one in updates
        if _MOVES & one.values.keys() or "final_status" in one.values
        for channel in (one.row.channel_id, one.values.get("channel_id", one.row.channel_id))
    }


def _insert(conn: Connection, rows: Sequence[dict[str, Any]], advance: Callable[[int], None]) -> None:
    for some in chunks(rows, _BATCH):
        conn.execute(insert(monitor), some)
        advance(len(some))


def _update(conn: Connection, updates: Sequence[Update], advance: Callable[[int], None]) -> None:
    """Plain UPDATEs of what differs. An INSERT that updates would take many rows a statement, but needs the right to
    INSERT, and is refused where a platform's table has further columns without a default."""
    if not updates:
        return
    now = now_ms(conn) // 1000
    alike: dict[tuple[str, ...], list[Update]] = {}
    for one in updates:
        alike.setdefault(tuple(sorted(one.values)), []).append(one)
    for names, group in alike.items():
        changed: dict[str, Any] = {name: bindparam(f"new_{name}") for name in names}
        statement = update(monitor).where(monitor.c.id == bindparam("row_id")).values({**changed, "modified": now})
        for some in chunks(group, _BATCH):
            conn.execute(
                statement,
                [{"row_id": one.row.id, **{f"new_{name}": one.values[name] for name in names}} for one in some],
            )
            advance(len(some))


def _record(conn: Connection, updates: Sequence[Update]) -> None:
    """The history of the types that people changed. It counts as planned: owe_around owes it."""
    now = now_ms(conn)
    rows = []
    for row, values in updates:
        if "final_status" not in values:
            continue
        after = {**row._mapping, **values}
        before = Type.read(row.final_status)
        rows.append(
            {
                "monitor_id": row.id,
                "server_id": after["server_id"],
                "name": after["name"],
                "channel_id": after["channel_id"],
                "region": after["region"],
                "region_code": after["region_code"],
                "from_type": None if before is None else before.word,
                "to_type": values["final_status"],
                "source": None,
                "incident_status": after["incident_status"],
                "incident_title": None,
                "incident_link": None,
                "flag_stood": row.status_report,
                "planned": 1,
                "created_at": now,
            }
        )
    history.record(conn, rows)
