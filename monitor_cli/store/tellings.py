"""What customers were told, as reports read it: attempts and deliveries of a time, who is concerned, what is owed.

A delivery counts as told at its first 2xx answer (of a split request: the last part's, once it is done: a customer who
took some of the parts was told of some of the numbers); `changed_at` is when the change that began it was made, so that
the wait for callback-run is in between. Both clocks are those of docs/delivery.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, func, select, text

from monitor_cli.dialect import among
from monitor_cli.schema import account, attempt, callback, delivery, number, owed, subscription
from monitor_cli.store.channels import chunks

_BLOCK = 5000

_TOLD_AT = f"""(SELECT COALESCE(MIN(CASE WHEN a.part = 0 THEN a.started_at + a.duration_ms END),
    MAX(CASE WHEN d.state = 'done' THEN a.started_at + a.duration_ms END))
    FROM {attempt.name} a WHERE a.delivery_id = d.id AND a.http_status BETWEEN 200 AND 299)"""


class Callback(NamedTuple):
    """A callback, and whose it is. `account` None: the account is gone."""

    id: int
    account_id: int
    account: str | None
    title: str
    name: str
    created_at: int


class Owed(NamedTuple):
    """How many channels' status a callback is owed, and since when (milliseconds)."""

    channels: int
    since_at: int


def callbacks(conn: Connection, account_id: int | None = None) -> Iterator[Callback]:
    """Every callback, or those of an account, by id."""
    c = callback.c
    query = select(c.id, c.account_id, account.c.name, c.title, c.name, c.created_at).select_from(
        callback.outerjoin(account, account.c.id == c.account_id)
    )
    if account_id is not None:
        query = query.where(c.account_id == account_id)
    for row in conn.execute(query.order_by(c.id).execution_options(yield_per=_BLOCK)):
        yield Callback(*row)


def attempts(conn: Connection, since: int, until: int) -> Iterator[tuple[int, int, int | None]]:
    """Each attempt that was started in this time: callback_id, duration_ms, http_status."""
    query = (
        select(delivery.c.callback_id, attempt.c.duration_ms, attempt.c.http_status)
        .select_from(attempt.join(delivery, delivery.c.id == attempt.c.delivery_id))
        .where(attempt.c.started_at >= since, attempt.c.started_at < until)
    )
    return _streamed(conn, query)


def deliveries(conn: Connection, since: int, until: int) -> Iterator[tuple[int, str, int | None, int | None]]:
    """Each delivery that was begun in this time: callback_id, state, changed_at, told_at (None: not, or not yet)."""
    query = text(
        f"SELECT d.callback_id, d.state, d.changed_at, {_TOLD_AT} FROM {delivery.name} d "
        "WHERE d.created_at >= :since AND d.created_at < :until"
    )
    return _streamed(conn, query, {"since": since, "until": until})


def told(conn: Connection, since: int, until: int) -> Iterator[tuple[int, int, int]]:
    """What was told of the changes of this time, in their order: callback_id, changed_at, told_at."""
    # A delivery is begun after its change, never before: that bounds it by an index.
    query = text(
        f"SELECT d.callback_id, d.changed_at, {_TOLD_AT} AS told_at FROM {delivery.name} d "
        "WHERE d.created_at >= :since AND d.changed_at >= :since AND d.changed_at < :until ORDER BY d.changed_at, d.id"
    )
    for callback_id, changed_at, told_at in _streamed(conn, query, {"since": since, "until": until}):
        if told_at is not None:
            yield callback_id, changed_at, told_at


def owed_now(conn: Connection) -> dict[int, Owed]:
    """What each callback is owed, by its id."""
    query = (
        select(owed.c.callback_id, func.count(), func.min(owed.c.owed_since_at))
        .where(owed.c.wanted > owed.c.told)
        .group_by(owed.c.callback_id)
    )
    return {row[0]: Owed(row[1], row[2]) for row in conn.execute(query)}


def holders(conn: Connection, channels: Collection[int], account_id: int | None) -> Iterator[tuple[int, int, int]]:
    """Who has numbers on these channels now (an account alone, or all): channel_id, account_id, how many numbers."""
    columns = (number.c.channel_id, number.c.account_id)
    for some in chunks(sorted(channels)):
        query = select(*columns, func.count()).where(among(number.c.channel_id, some)).group_by(*columns)
        if account_id is not None:
            query = query.where(number.c.account_id == account_id)
        for row in conn.execute(query):
            yield row[0], row[1], row[2]


def subscribed(conn: Connection) -> set[int]:
    """The accounts whose plugin is active."""
    return set(conn.execute(select(subscription.c.account_id).where(subscription.c.active == 1)).scalars())


def _streamed(conn: Connection, query: Any, place: dict[str, Any] | None = None) -> Iterator[Any]:
    result = conn.execute(query, place or {}, execution_options={"yield_per": _BLOCK})
    block: list[Row[Any]]
    for block in map(list, result.partitions(_BLOCK)):  # said again: of a text() all rows are one partition else
        yield from block
