"""Plan: what was flagged becomes owed to each concerned callback, in the transaction that clears the flags.

The steps are those of docs/delivery.md. Lock order everywhere: monitor rows, the row
of leases.alone, callback, delivery, owed, attempt.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, and_, case, delete, func, insert, literal, select, update

from monitor_cli.db import AnyRow
from monitor_cli.dialect import greatest, now_ms, statement, upsert
from monitor_cli.schema import callback, change, delivery, monitor, number, owed, plan, subscription
from monitor_cli.store import leases
from monitor_cli.store.channels import chunks, types_of
from monitor_cli.types import Region, Type, Unit, worst

T = TypeVar("T")

EVERYBODY = 2**62  # as last_change: a change without a history row, which every callback hears
BATCH = 500


class Concern(NamedTuple):
    """A unit that something happened to: its type before (None: unknown), the newest change that it is about, and when
    the oldest of them was made (milliseconds; None: another program's, not known)."""

    unit: Unit
    before: Type | None
    last_change: int
    changed_at: int | None = None


def anything_flagged(conn: Connection) -> bool:
    """Whether a plan would find something; without a lock."""
    flagged = statement(f"SELECT id FROM {monitor.name} WHERE status_report = 1 LIMIT 1", {})
    return conn.execute(flagged).first() is not None


def flagged_count(conn: Connection) -> int:
    """How many servers a plan would find; without a lock."""
    return int(conn.execute(select(func.count()).where(monitor.c.status_report == 1)).scalar_one())


def plan_flagged(conn: Connection, limit: int = BATCH, channels: Collection[int] | None = None) -> int:
    """Owe the changes of up to `limit` flagged servers (on these channels, or on all) and clear their flags.
    Returns how many there were; 0 means that nothing is flagged."""
    flagged = _lock_flagged(conn, limit, channels)
    if not flagged:
        return 0
    # Servers first, then their changes: the other way round a change that is committed in between would be missed,
    # and its new type taken for the old one.
    placed = [row for row in flagged if row.channel_id is not None]  # a server on no channel concerns nobody
    servers = _servers_on(conn, {row.channel_id for row in placed})
    changes = _unplanned_changes(conn, {row.id for row in (*servers, *flagged)})
    owe(conn, _concerns(placed, servers, changes))
    _clear(conn, [row.id for row in flagged], changes)
    return len(flagged)


def owe_around(conn: Connection, channel_ids: Collection[int], edit: Callable[[], T]) -> T:
    """Run `edit`, which changes servers of these channels by hand, and owe every unit whose type differs after it.
    A unit without servers before counts as operational, as a new server does."""
    channels = set(channel_ids)
    _plan_all(conn, channels)
    before = types_of(conn, channels)
    result = edit()
    after, now = types_of(conn, channels), now_ms(conn)
    moved = [
        Concern(unit, before.get(unit, Type.OPERATIONAL), EVERYBODY, now)
        for unit, kind in after.items()
        if kind is not None and kind != before.get(unit, Type.OPERATIONAL)
    ]
    owe(conn, moved)
    _plan_all(conn, channels)
    return result


def owe(conn: Connection, concerns: Sequence[Concern]) -> None:
    """Record that each callback of each account with numbers on these units has to be told, and make it due."""
    if not concerns:
        return
    leases.alone(conn, leases.CONCERNED)
    token = secrets.token_hex(16)
    conn.execute(
        insert(plan),
        [
            {
                "token": token,
                "channel_id": c.unit.channel_id,
                "region": c.unit.region.region,
                "region_code": c.unit.region.region_code,
                "before_type": None if c.before is None else c.before.word,
                "last_change": c.last_change,
                "changed_at": c.changed_at,
            }
            for c in concerns
        ],
    )
    now = now_ms(conn)
    _open_deliveries(conn, token, now)
    _owe_units(conn, token, now)
    conn.execute(delete(plan).where(plan.c.token == token))


# --- the steps --------------------------------------------------------------------------------------------------------


def _plan_all(conn: Connection, channels: Collection[int]) -> None:
    while plan_flagged(conn, BATCH, channels):
        pass


def _lock_flagged(conn: Connection, limit: int, channels: Collection[int] | None) -> list[AnyRow]:
    query = select(monitor.c.id, monitor.c.channel_id, monitor.c.region, monitor.c.region_code).where(
        monitor.c.status_report == 1
    )
    query = query.order_by(monitor.c.id).limit(limit).with_for_update()
    if channels is None:
        return list(conn.execute(query))
    for some in chunks(sorted(channels)):
        if rows := list(conn.execute(query.where(monitor.c.channel_id.in_(some)))):
            return rows
    return []


def _servers_on(conn: Connection, channels: Collection[int]) -> list[AnyRow]:
    columns = (
        monitor.c.id,
        monitor.c.channel_id,
        monitor.c.region,
        monitor.c.region_code,
        monitor.c.final_status,
        monitor.c.status_report,
    )
    return [
        row for some in chunks(channels) for row in conn.execute(select(*columns).where(monitor.c.channel_id.in_(some)))
    ]


def _unplanned_changes(conn: Connection, monitor_ids: Iterable[int]) -> dict[int, list[AnyRow]]:
    columns = (change.c.id, change.c.monitor_id, change.c.from_type, change.c.flag_stood, change.c.created_at)
    found: dict[int, list[AnyRow]] = {}
    for some in chunks(monitor_ids):
        query = select(*columns).where(change.c.planned == 0, change.c.monitor_id.in_(some)).order_by(change.c.id)
        for row in conn.execute(query):
            found.setdefault(row.monitor_id, []).append(row)
    return found


def _concerns(
    flagged: Sequence[AnyRow], servers: Sequence[AnyRow], changes: Mapping[int, list[AnyRow]]
) -> list[Concern]:
    units = {_unit(row) for row in flagged}
    ids = {row.id for row in flagged}
    before: dict[Unit, list[Type | None]] = {unit: [] for unit in units}
    newest = dict.fromkeys(units, 0)
    oldest: dict[Unit, int] = {}
    for row in servers:
        if (unit := _unit(row)) not in units:
            continue
        mine = _since_told(changes.get(row.id, []))
        before[unit].append(_type_before(row, mine, row.id in ids))
        foreign = row.id in ids and (not mine or mine[0].flag_stood)
        newest[unit] = max(newest[unit], EVERYBODY if foreign else 0, mine[-1].id if mine else 0)
        if mine:
            oldest[unit] = min(oldest.get(unit, mine[0].created_at), mine[0].created_at)
    known = {unit: None if None in types else worst(types) for unit, types in before.items()}
    return [Concern(unit, known[unit], newest[unit], oldest.get(unit)) for unit in sorted(units)]


def _since_told(changes: Sequence[AnyRow]) -> Sequence[AnyRow]:
    """A server's changes from the newest one on that found no flag: where it is not the first, another program (the PHP
    plugin, beside our incident-sync) has told the earlier ones, and cleared their flag."""
    starts = [place for place, one in enumerate(changes) if not one.flag_stood]
    return changes[starts[-1] :] if starts else changes


def _type_before(row: AnyRow, changes: Sequence[AnyRow], flagged: bool) -> Type | None:
    """A server's type before its first change that is not planned yet; None where another program's flag hides it."""
    if changes and (flagged or row.status_report == 1):
        return None if changes[0].flag_stood else Type.read(changes[0].from_type)
    return None if flagged or row.status_report == 1 else Type.read(row.final_status)


def _unit(row: AnyRow) -> Unit:
    return Unit(row.channel_id, Region.of(row.region, row.region_code))


def _clear(conn: Connection, flagged: Sequence[int], changes: Mapping[int, list[AnyRow]]) -> None:
    planned = [row.id for monitor_id in flagged for row in changes.get(monitor_id, [])]
    for some in chunks(planned):
        conn.execute(update(change).where(change.c.id.in_(some)).values(planned=1))
    conn.execute(update(monitor).where(monitor.c.id.in_(flagged)).values(status_report=0))


def _concerned(token: str, *columns: Any) -> Select[Any]:
    """The callbacks that a plan concerns. Joins with a platform's tables are by integers only. Whether a callback is
    active is not asked: what it misses is kept for when it is enabled."""
    channels = select(plan.c.channel_id).where(plan.c.token == token)
    holder = (
        select(number.c.channel_id, number.c.account_id).where(number.c.channel_id.in_(channels)).distinct().subquery()
    )
    return (
        select(*columns)
        .select_from(plan)
        .join(holder, holder.c.channel_id == plan.c.channel_id)
        .join(subscription, and_(subscription.c.account_id == holder.c.account_id, subscription.c.active == 1))
        .join(callback, and_(callback.c.account_id == holder.c.account_id, callback.c.hears_from < plan.c.last_change))
        .where(plan.c.token == token)
        .distinct()
    )


def _open_deliveries(conn: Connection, token: str, now: int) -> None:
    """One open delivery for each: due now, or when its Retry-After has run out. A lease in force is left alone."""
    columns = ("callback_id", "open_callback_id", "state", "created_at", "due_at", "changed_at")
    values = (callback.c.id, callback.c.id.label("open"), literal("open"), literal(now), literal(now))
    chosen = _concerned(token, *values, func.min(plan.c.changed_at)).group_by(callback.c.id)
    conn.execute(
        upsert(
            conn,
            delivery,
            ["open_callback_id"],
            lambda new, old: {
                "due_at": greatest(conn, new.due_at, old.c.not_before),
                "attempts": 0,
                "rearmed": old.c.rearmed + 1,
                "changed_at": func.coalesce(old.c.changed_at, new.changed_at),
            },
            (columns, chosen),
        )
    )


def _as_opened(conn: Connection, now: int) -> tuple[ColumnElement[bool], ...]:
    """As _open_deliveries leaves it. (One that waits for a retry was tried; one that is due already was so before.)"""
    return delivery.c.due_at == greatest(conn, literal(now), delivery.c.not_before), delivery.c.attempts == 0


def _owe_units(conn: Connection, token: str, now: int) -> None:
    """To those whose delivery _open_deliveries has just made due, and has locked with that: whom a plan concerns, other
    programs may change at any time. An open delivery alone would not do: what is owed by another one's plan may be
    settled, and that delivery closed, before this commit."""
    key = ("callback_id", "channel_id", "region", "region_code")
    chosen = _concerned(
        token,
        callback.c.id,
        plan.c.channel_id,
        plan.c.region,
        plan.c.region_code,
        literal(1),
        literal(0),
        plan.c.before_type,
        literal(now),
    ).join(delivery, and_(delivery.c.open_callback_id == callback.c.id, *_as_opened(conn, now)))
    conn.execute(
        upsert(
            conn,
            owed,
            key,
            lambda _new, old: {  # in this order: MySQL sees the columns that were set before
                "owed_since_at": case((old.c.wanted > old.c.told, old.c.owed_since_at), else_=literal(now)),
                "wanted": old.c.wanted + 1,
            },
            ((*key, "wanted", "told", "told_type", "owed_since_at"), chosen),
        )
    )
