"""What may leave the database for an archive, and what never may: docs/operations.md has the rules.

Three tables grow with time: the history (change), deliveries, and their attempts. Rows are looked at in the order of
their ids, a bounded number in each statement, so that no statement runs long and none holds up callback-run; a row that
may leave is never written any more, so that it is deleted as it was read. What is owed, and what a callback was told
(owed), is none of these tables'.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Table,
    and_,
    delete,
    exists,
    func,
    literal_column,
    not_,
    or_,
    select,
)

from monitor_cli.dialect import among, by_index, greatest, insert_rows, upsert
from monitor_cli.schema import attempt, callback, change, condition, delivery, monitor, owed
from monitor_cli.types import DAY_MS, LOAD

TableName = Literal["attempt", "delivery", "change"]
TABLES: dict[TableName, Table] = {"attempt": attempt, "delivery": delivery, "change": change}
"""The tables that are archived, in the order in which rows leave: an attempt before its delivery."""

ARCHIVED = "archived"
"""The kind of the condition that says until when a table's rows may have left."""

BLOCK = 20_000  # rows looked at in one statement
_CLOSED = ("done", "failed")

Row = tuple[int | str | None, ...]
"""The columns of a row in the order of its table, the id first."""


class Day(NamedTuple):
    """The rows of a table that may leave and belong to one UTC day: `starts_at` in milliseconds since 1970, how many,
    and between which ids they stand."""

    table: TableName
    starts_at: int
    rows: int
    first: int
    last: int

    @property
    def date(self) -> str:
        """The day as ISO 8601 has it: 2026-08-27."""
        return datetime.fromtimestamp(self.starts_at / 1000, UTC).date().isoformat()


class _Leaving(NamedTuple):
    """Which rows of a table leave: the FROM, the time that a row's day is taken from, and the condition."""

    source: FromClause
    at: ColumnElement[int]
    may: ColumnElement[bool]


def last_id(conn: Connection, table: TableName, before_at: int) -> int:
    """The highest id of a row from before this time (milliseconds); 0 where there is none."""
    t = TABLES[table]
    at = t.c.started_at if table == "attempt" else t.c.created_at
    return int(conn.execute(select(func.coalesce(func.max(t.c.id), 0)).where(at < before_at)).scalar_one())


def survey(
    conn: Connection, table: TableName, before_at: int, after: int, last: int, size: int = BLOCK
) -> tuple[list[Day], int]:
    """Count what may leave of the next `size` rows after the id `after`, up to `last`; gives the days, and after
    which id to go on (`last`: it is done)."""
    t, leaving = TABLES[table], _leaving(table, before_at)
    ids = select(t.c.id).where(t.c.id > after, t.c.id <= last).order_by(t.c.id).offset(size - 1).limit(1)
    end = conn.execute(ids).scalar() or last
    starts_at = (leaving.at - leaving.at % literal_column(str(DAY_MS))).label("starts_at")
    query = (
        select(starts_at, func.count(), func.min(t.c.id), func.max(t.c.id))
        .select_from(leaving.source)
        .where(t.c.id > after, t.c.id <= end, leaving.may)
        .group_by(starts_at)
    )
    return [Day(table, *row) for row in conn.execute(query)], end


def page(conn: Connection, day: Day, before_at: int, after: int, limit: int) -> list[Row]:
    """The next `limit` rows of a day after the id `after`, whole, by id."""
    t, leaving = TABLES[day.table], _leaving(day.table, before_at)
    query = (
        select(*t.c)
        .select_from(leaving.source)
        .where(t.c.id > max(after, day.first - 1), t.c.id <= day.last, leaving.may)
        .where(leaving.at >= day.starts_at, leaving.at < day.starts_at + DAY_MS)
        .order_by(t.c.id)
        .limit(limit)
    )
    return [tuple(row) for row in conn.execute(query)]


def remove(conn: Connection, table: TableName, before_at: int, rows: Mapping[int, Row]) -> int:
    """Delete those of these rows (by id) that still may leave, and still are as given; gives how many."""
    t, leaving = TABLES[table], _leaving(table, before_at)
    query = select(*t.c).select_from(leaving.source).where(among(t.c.id, rows), leaving.may)
    same = [row[0] for row in conn.execute(query) if tuple(row) == rows[row[0]]] if rows else []
    if same:
        conn.execute(delete(t).where(among(t.c.id, same)))
    return len(same)


def mark(conn: Connection, table: TableName, before_at: int) -> None:
    """Remember that rows of this table older than `before_at` have left: a report over that time has to say so."""
    row = {"source": "", "kind": ARCHIVED, "subject": table, "since_at": before_at}
    latest = upsert(
        conn,
        condition,
        ["source", "kind", "subject"],
        lambda new, old: {"since_at": greatest(conn, old.c.since_at, new.since_at)},
    )
    conn.execute(latest.values(row))


def is_over(table: TableName, row: Mapping[str, object]) -> bool:
    """Whether nothing comes of a row any more: a change that is planned, a delivery that is closed, any attempt."""
    if table == "change":
        return row["planned"] == 1
    return table == "attempt" or (row["state"] in _CLOSED and row["open_callback_id"] is None)


def present(conn: Connection, table: TableName, ids: Collection[int]) -> dict[int, Row]:
    """Those of these rows that are in the database, by id."""
    t = TABLES[table]
    return {row[0]: tuple(row) for row in conn.execute(select(*t.c).where(among(t.c.id, ids)))} if ids else {}


def put_back(conn: Connection, table: TableName, rows: Sequence[Row]) -> None:
    """Insert rows with the ids that they had."""
    t = TABLES[table]
    insert_rows(conn, t, t.c.keys(), rows)


# --- the rules --------------------------------------------------------------------------------------------------------


def _leaving(table: TableName, before_at: int) -> _Leaving:
    if table == "change":
        return _Leaving(change, change.c.created_at, _change_may(before_at))
    if table == "delivery":
        return _Leaving(delivery, delivery.c.settled_at, _delivery_may(before_at))
    # With its delivery, and counted to the day on which that was settled. One without (it came late, from a worker that
    # had lost its lease) goes alone.
    alone = and_(delivery.c.id.is_(None), attempt.c.started_at < before_at)
    joined = attempt.outerjoin(delivery, delivery.c.id == attempt.c.delivery_id)
    at: ColumnElement[Any] = func.coalesce(delivery.c.settled_at, attempt.c.started_at)
    return _Leaving(joined, at, or_(alone, _delivery_may(before_at)))


def _change_may(before_at: int) -> ColumnElement[bool]:
    """What is owed to callbacks already (planned), but for two rows of each server that is there: the newest of the
    time, which says what type it had from then on, and the newest of a source, by which incident-sync knows whose
    silence counts for the server (sync/absent). Of a server that was removed the first of them, as long as it has a
    younger change: a report of the younger time begins with it."""
    newer, said, young = change.alias("newer"), change.alias("said"), change.alias("young")
    newest = _newest(newer, "monitor_created", newer.c.created_at, newer.c.monitor_id == change.c.monitor_id)
    newest_said = _newest(said, "monitor_created", said.c.created_at, said.c.monitor_id == change.c.monitor_id)
    newest_said = newest_said.where(said.c.source.is_not(None), said.c.source != LOAD)
    by_no_source = or_(change.c.source.is_(None), change.c.source == LOAD)
    gone = not_(exists().where(monitor.c.id == change.c.monitor_id))
    since = _newest(young, "monitor_created", young.c.created_at, young.c.monitor_id == change.c.monitor_id)
    over = and_(gone, since.where(young.c.created_at >= before_at).scalar_subquery().is_(None))
    superseded = and_(
        change.c.id < newest.where(newer.c.created_at < before_at).scalar_subquery(),
        or_(by_no_source, change.c.id < newest_said.scalar_subquery(), gone),
    )
    # Reckoned, so that no index is of use: SQLite would go through all planned changes (nearly all) for each page.
    planned = change.c.planned + literal_column("0") == 1
    return and_(change.c.created_at < before_at, planned, or_(superseded, over))


def _delivery_may(before_at: int) -> ColumnElement[bool]:
    """What is closed, but for the newest of each callback that is there (by which `callback replay --failed` goes),
    and the failed ones of a callback that is still owed something."""
    newer = delivery.alias("newer")
    newest = _newest(newer, "callback_id", newer.c.id, newer.c.callback_id == delivery.c.callback_id)
    gone = not_(exists().where(callback.c.id == delivery.c.callback_id))
    still_owed = exists().where(owed.c.callback_id == delivery.c.callback_id, owed.c.wanted > owed.c.told)
    superseded = and_(
        delivery.c.id < newest.where(newer.c.state.in_(_CLOSED)).scalar_subquery(),
        or_(delivery.c.state == "done", not_(still_owed)),
    )
    return and_(
        delivery.c.created_at < before_at,
        delivery.c.settled_at < before_at,
        delivery.c.open_callback_id.is_(None),
        delivery.c.state.in_(_CLOSED),
        or_(superseded, gone),
    )


def _newest(of: FromClause, index: str, order: ColumnElement[Any], same: ColumnElement[bool]) -> Select[tuple[int]]:
    """The id of the newest row of the same server or callback: the first one from the end of its index, which is named,
    for the optimizer would rather search the whole table from its end. Never asked as "is there a newer one", which
    MySQL answers by going through all the older ones."""
    query: Select[tuple[int]] = select(of.c.id).where(same).order_by(order.desc(), of.c.id.desc()).limit(1)
    table = change if index == "monitor_created" else delivery
    return by_index(query, of, f"ix_{table.name}_{index}")
