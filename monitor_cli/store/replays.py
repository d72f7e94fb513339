"""Which callbacks a replay concerns, and what it sends each again; the marking itself is outbox.replay.

What can be told again is what a callback was told or owed before: its rows in owed. With a time it is those units of
them that changed, or became owed, within it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from monitor_cli.db import AnyRow
from monitor_cli.dialect import among
from monitor_cli.schema import account, callback, change, delivery, owed, subscription
from monitor_cli.store import accounts, callbacks, outbox
from monitor_cli.types import Region, Unit

PAGE = 500
MOST_UNITS = 20_000  # in one transaction, but for a single callback that has more


class Selection(NamedTuple):
    """What a replay is asked for. Times are milliseconds; `changed`: the units with a change in that time."""

    callback_id: int | None
    account_id: int | None
    failed: bool
    since_at: int
    until_at: int
    changed: frozenset[Unit] | None


class Chosen(NamedTuple):
    """A callback and what it is sent again; `left_out`: why it is sent nothing all the same."""

    callback_id: int
    account: str
    name: str
    url: str
    left_out: str | None
    units: tuple[Unit, ...]


class Page(NamedTuple):
    """Some of the chosen callbacks, and after which id the next page begins; None: this was the last."""

    chosen: list[Chosen]
    next_after: int | None


def selection(
    conn: Connection,
    *,
    callback_id: int | None = None,
    account_name: str | None = None,
    failed: bool = False,
    since_at: int | None = None,
    until_at: int | None = None,
) -> Selection:
    """Read what the names mean. `failed`: callbacks whose last delivery failed, with what they are still owed. Raises
    MonitorError where there is no such callback or account."""
    if callback_id is not None:
        callbacks.find(conn, callback_id)
    account_id = None if account_name is None else accounts.find(conn, account_name).id
    times = (0 if since_at is None else since_at, 2**62 if until_at is None else until_at)
    changed = None if since_at is None and until_at is None else _changed(conn, *times)
    return Selection(callback_id, account_id, failed, *times, changed)


def pages(conn: Connection, wanted: Selection) -> Iterator[Chosen]:
    """All that is chosen, by callback id; read page by page."""
    after: int | None = 0
    while after is not None:
        found, after = page(conn, wanted, after)
        yield from found


def page(conn: Connection, wanted: Selection, after: int, limit: int = PAGE, most: int = MOST_UNITS) -> Page:
    """The chosen ones of the next `limit` callbacks after this id; fewer where they have more than `most` units."""
    rows = _callbacks(conn, wanted, after, limit)
    ids = [row.id for row in rows]
    if wanted.failed:
        failed = _failed(conn, ids)
        ids = [callback_id for callback_id in ids if callback_id in failed]
    units, cut = _units(conn, wanted, ids, most)
    chosen = [
        Chosen(row.id, row.account or "", row.name, row.url, _left_out(row), tuple(units[row.id]))
        for row in rows
        if row.id in units
    ]
    return Page(chosen, cut or (rows[-1].id if len(rows) == limit else None))


def replay_page(conn: Connection, wanted: Selection, after: int) -> Page:
    """Have the next page sent again."""
    found = page(conn, wanted, after)
    outbox.replay(conn, {one.callback_id: one.units for one in found.chosen if one.left_out is None})
    return found


def _changed(conn: Connection, since_at: int, until_at: int) -> frozenset[Unit]:
    columns = (change.c.channel_id, change.c.region, change.c.region_code)
    query = select(*columns).where(change.c.created_at >= since_at, change.c.created_at < until_at).distinct()
    return frozenset(Unit(channel_id, Region(*region)) for channel_id, *region in conn.execute(query))


def _callbacks(conn: Connection, wanted: Selection, after: int, limit: int) -> Sequence[AnyRow]:
    c = callback.c
    joined = callback.outerjoin(account, account.c.id == c.account_id).outerjoin(
        subscription, subscription.c.account_id == c.account_id
    )
    columns = (
        c.id,
        c.name,
        c.url,
        c.active,
        account.c.name.label("account"),
        subscription.c.active.label("subscribed"),
    )
    query = select(*columns).select_from(joined).where(c.id > after).order_by(c.id).limit(limit)
    if wanted.callback_id is not None:
        query = query.where(c.id == wanted.callback_id)
    if wanted.account_id is not None:
        query = query.where(c.account_id == wanted.account_id)
    return conn.execute(query).all()


def _failed(conn: Connection, ids: Sequence[int]) -> set[int]:
    """Those whose last delivery failed."""
    newest = select(func.max(delivery.c.id)).where(among(delivery.c.callback_id, ids)).group_by(delivery.c.callback_id)
    last = conn.execute(newest).scalars().all() if ids else []
    query = select(delivery.c.callback_id).where(among(delivery.c.id, last), delivery.c.state == "failed")
    return set(conn.execute(query).scalars()) if last else set()


def _units(
    conn: Connection, wanted: Selection, ids: Sequence[int], most: int
) -> tuple[dict[int, list[Unit]], int | None]:
    """By callback, and the last callback that was read where there were too many."""
    found: dict[int, list[Unit]] = {}
    if not ids:
        return found, None
    columns = (owed.c.callback_id, owed.c.channel_id, owed.c.region, owed.c.region_code, owed.c.owed_since_at)
    query = select(*columns).where(among(owed.c.callback_id, ids)).order_by(owed.c.callback_id)
    if wanted.failed:
        query = query.where(owed.c.wanted > owed.c.told)
    last, count = 0, 0
    with conn.execute(query.execution_options(stream_results=True)) as rows:
        for callback_id, channel_id, region, region_code, since_at in rows:
            if count >= most and callback_id != last:
                return found, last
            last, count = callback_id, count + 1
            unit = Unit(channel_id, Region(region, region_code))
            if wanted.changed is None or wanted.since_at <= since_at < wanted.until_at or unit in wanted.changed:
                found.setdefault(callback_id, []).append(unit)
    return found, None


def _left_out(row: AnyRow) -> str | None:
    if row.active != 1:
        return "not active"
    return None if row.subscribed == 1 else "not subscribed"
