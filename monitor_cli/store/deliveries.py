"""Deliveries and their attempts as people look them up, the newest first.

Every query goes by an index that bounds it: the callback's, the open ones', or the time of creation. Statistics that
are stale after a burst would let MySQL scan the table instead, so that the index is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, case, func, select

from monitor_cli.db import AnyRow
from monitor_cli.dialect import among, by_index
from monitor_cli.errors import MonitorError
from monitor_cli.schema import account, attempt, callback, delivery
from monitor_cli.store import accounts
from monitor_cli.store.channels import chunks

State = Literal["open", "done", "failed"]
STATES: tuple[State, ...] = ("open", "done", "failed")


class Delivery(NamedTuple):
    """The work of telling one callback; times in milliseconds. `account` is None where the callback was removed;
    `attempts` counts the requests, and http_status and error are those of the last one."""

    id: int
    callback_id: int
    account: str | None
    state: str
    attempts: int
    next_attempt_at: int | None
    created_at: int
    settled_at: int | None
    http_status: int | None
    error: str | None


class Attempt(NamedTuple):
    """One HTTP request of a delivery; `started_at` in milliseconds."""

    started_at: int
    duration_ms: int
    http_status: int | None
    error: str | None
    response: str | None


class Choice(NamedTuple):
    """Which deliveries: of a callback, of an account (its name), in a state, created since and until (milliseconds)."""

    callback_id: int | None = None
    account: str | None = None
    state: State | None = None
    since_at: int | None = None
    until_at: int | None = None


def listed(conn: Connection, choice: Choice, limit: int) -> list[Delivery]:
    """The newest `limit` of these deliveries. Raises MonitorError where there is no such account."""
    if choice.account is None:
        return _read(conn, _chosen(choice, None, limit))
    owner = accounts.find(conn, choice.account)
    mine = select(callback.c.id).where(callback.c.account_id == owner.id).order_by(callback.c.id)
    found: list[Delivery] = []
    for ids in chunks(conn.execute(mine).scalars().all()):
        found += _read(conn, _chosen(choice, ids, limit))
    return sorted(found, key=lambda one: (-one.created_at, -one.id))[:limit]


def find(conn: Connection, delivery_id: int) -> tuple[Delivery, list[Attempt]]:
    """A delivery and its attempts, the first one first. Raises MonitorError where it is not there."""
    found = _read(conn, _deliveries().where(delivery.c.id == delivery_id))
    if not found:
        raise MonitorError(f"there is no delivery {delivery_id}", "see: monitor-cli delivery list")
    a = attempt.c
    columns = (a.started_at, a.duration_ms, a.http_status, a.error, a.response)
    attempts = conn.execute(select(*columns).where(a.delivery_id == delivery_id).order_by(a.started_at, a.id))
    return found[0], [Attempt(*row) for row in attempts]


def _chosen(choice: Choice, ids: Sequence[int] | None, limit: int) -> Select[Any]:
    index, column, newest = "ix_%s_created", delivery.c.callback_id, delivery.c.created_at.desc()
    wanted: list[ColumnElement[bool]] = [] if choice.state is None else [delivery.c.state == choice.state]
    if choice.state == "open":  # while it is open, this column holds its callback: an index of the open ones alone
        column, newest = delivery.c.open_callback_id, (delivery.c.created_at + 0).desc()
        index = "uq_%s_open_callback_id"
        wanted.append(column > 0)
    elif choice.callback_id is not None or ids is not None:
        index = "ix_%s_callback_id"
    if choice.callback_id is not None:
        wanted.append(column == choice.callback_id)
    if ids is not None:
        wanted.append(among(column, ids))
    if choice.since_at is not None:
        wanted.append(delivery.c.created_at >= choice.since_at)
    if choice.until_at is not None:
        wanted.append(delivery.c.created_at <= choice.until_at)
    query = _deliveries().where(*wanted).order_by(newest, delivery.c.id.desc()).limit(limit)
    return by_index(query, delivery, index % delivery.name)


def _deliveries() -> Select[Any]:
    d = delivery.c
    joined = delivery.outerjoin(callback, callback.c.id == d.callback_id).outerjoin(
        account, account.c.id == callback.c.account_id
    )
    columns = (d.id, d.callback_id, account.c.name, d.state, d.due_at, d.created_at, d.settled_at)
    return select(*columns).select_from(joined)


def _read(conn: Connection, query: Select[Any]) -> list[Delivery]:
    rows = conn.execute(query).all()
    ids = [row.id for row in rows]
    counts, last = _attempts(conn, ids)
    return [_delivery(row, counts.get(row.id, 0), last.get(row.id)) for row in rows]


def _attempts(conn: Connection, ids: Sequence[int]) -> tuple[dict[int, int], dict[int, AnyRow]]:
    """By delivery: how many attempts it has, and the last one's http_status and error. A late one, appended after its
    delivery had passed to another worker, is the last only where there is no other."""
    counts: dict[int, int] = {}
    last: dict[int, AnyRow] = {}
    for some in chunks(ids):
        newest_id = func.coalesce(func.max(case((attempt.c.late == 0, attempt.c.id))), func.max(attempt.c.id))
        counted = select(attempt.c.delivery_id, func.count(), newest_id)
        rows = conn.execute(counted.where(among(attempt.c.delivery_id, some)).group_by(attempt.c.delivery_id)).all()
        counts |= {row[0]: row[1] for row in rows}
        columns = (attempt.c.delivery_id, attempt.c.http_status, attempt.c.error)
        newest = select(*columns).where(among(attempt.c.id, [row[2] for row in rows]))
        last |= {row.delivery_id: row for row in conn.execute(newest)} if rows else {}
    return counts, last


def _delivery(row: AnyRow, attempts: int, last: AnyRow | None) -> Delivery:
    return Delivery(
        row.id,
        row.callback_id,
        row.name,
        row.state,
        attempts,
        row.due_at,
        row.created_at,
        row.settled_at,
        None if last is None else last.http_status,
        None if last is None else last.error,
    )
