"""What people's commands do to the outbox: enabling, subscribing, re-arming, replaying, forgetting.

Lock order: callback, delivery, owed. Whatever must not overlap with a plan takes turns with it (leases.alone)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import ColumnElement, Connection, Insert, case, delete, insert, literal, literal_column, select, update

from monitor_cli.dialect import among, greatest, now_ms, upsert
from monitor_cli.schema import REPLAYED, callback, delivery, number, owed
from monitor_cli.store import leases
from monitor_cli.store.channels import chunks, types_of
from monitor_cli.types import Region, Type, Unit


def enable(conn: Connection, callback_id: int) -> None:
    """Switch a callback on and send it the newest truth of what it is owed."""
    leases.alone(conn, leases.CONCERNED)
    conn.execute(
        update(callback)
        .where(callback.c.id == callback_id)
        .values(active=1, reason=None, failures=0, failing_since=None, not_before=0, modified_at=now_ms(conn))
    )
    rearm(conn, callback_id)


def rearm(conn: Connection, callback_id: int, *, wait: bool = False) -> None:
    """Make what a callback is owed due at once, with a new schedule; open a delivery where none is. Nothing owed:
    nothing happens. `wait`: not before a Retry-After has run out; else a person has decided that it may be asked."""
    now = now_ms(conn)
    bound = delivery.c.not_before if wait else literal(0)
    open_one = conn.execute(
        update(delivery)
        .where(delivery.c.open_callback_id == callback_id)
        .values(
            due_at=greatest(conn, literal(now), bound), not_before=bound, attempts=0, rearmed=delivery.c.rearmed + 1
        )
    )
    if open_one.rowcount:
        return
    is_owed = select(owed.c.callback_id).where(owed.c.callback_id == callback_id, owed.c.wanted > owed.c.told).limit(1)
    if conn.execute(is_owed).first():
        conn.execute(
            insert(delivery).values(
                callback_id=callback_id, open_callback_id=callback_id, state="open", created_at=now, due_at=now
            )
        )


def subscribed(conn: Connection, account_id: int) -> None:
    """Owe an account that subscribed again whatever differs, or may differ, from what its callbacks were told last.
    What was owed before is owed once more, whatever it is: a request that is in flight now may tell a type from before
    the changes that nobody was owed, and its answer must not count for these."""
    leases.alone(conn, leases.CONCERNED)
    callbacks = conn.execute(
        select(callback.c.id).where(callback.c.account_id == account_id).with_for_update()
    ).scalars()
    channels = select(number.c.channel_id).where(number.c.account_id == account_id).distinct()
    types = types_of(conn, set(conn.execute(channels).scalars()))
    for callback_id in list(callbacks):
        conn.execute(select(delivery.c.id).where(delivery.c.open_callback_id == callback_id).with_for_update())
        differing = _differing(conn, callback_id, types)
        was_owed = (owed.c.callback_id == callback_id, owed.c.wanted > owed.c.told)
        conn.execute(update(owed).where(*was_owed).values(wanted=owed.c.wanted + 1))
        for unit in differing:
            conn.execute(
                update(owed)
                .where(
                    owed.c.callback_id == callback_id,
                    owed.c.channel_id == unit.channel_id,
                    owed.c.region == unit.region.region,
                    owed.c.region_code == unit.region.region_code,
                )
                .values(wanted=owed.c.wanted + 1, owed_since_at=now_ms(conn))
            )
        rearm(conn, callback_id, wait=True)


def replay(conn: Connection, units: Mapping[int, Collection[Unit]]) -> None:
    """Have these units' newest truth sent to their callbacks (by id) again, whatever they were told: due at once, or
    when a Retry-After has run out. A callback that is not active by now is left out."""
    # Alone and locked, so that a callback removed at the same time leaves no delivery behind.
    leases.alone(conn, leases.CONCERNED)
    query = select(callback.c.id).where(among(callback.c.id, units), callback.c.active == 1).order_by(callback.c.id)
    ids = conn.execute(query.with_for_update()).scalars().all() if units else []
    if not ids:
        return
    now = now_ms(conn)
    conn.execute(
        _opening(conn),
        [{"callback_id": i, "open_callback_id": i, "state": "open", "created_at": now, "due_at": now} for i in ids],
    )
    again = {"wanted": 1, "told": 0, "owed_since_at": now, "unsure": REPLAYED}
    conn.execute(
        _wanting(conn),
        [
            {**dict(zip(_UNIT_KEY, (i, unit.channel_id, *unit.region), strict=True)), **again}
            for i in ids
            for unit in sorted(units[i])
        ],
    )


_UNIT_KEY = ("callback_id", "channel_id", "region", "region_code")
_ONE: ColumnElement[int] = literal_column("1")  # no parameter: the driver joins rows only where VALUES has them all


def _opening(conn: Connection) -> Insert:
    """Open a delivery, or make the open one due anew; a lease in force is left alone."""
    return upsert(
        conn,
        delivery,
        ["open_callback_id"],
        lambda new, old: {
            "due_at": greatest(conn, new.due_at, old.c.not_before),
            "attempts": literal_column("0"),
            "rearmed": old.c.rearmed + _ONE,
        },
    )


def _wanting(conn: Connection) -> Insert:
    """Want a unit told once more, even if its type is the one told last, and whatever is in flight now."""
    return upsert(
        conn,
        owed,
        _UNIT_KEY,
        lambda new, old: {  # in this order: MySQL sees the columns that were set before
            "owed_since_at": case((old.c.wanted > old.c.told, old.c.owed_since_at), else_=new.owed_since_at),
            "wanted": old.c.wanted + _ONE,
            "unsure": literal_column(str(REPLAYED)),
        },
    )


def forget(conn: Connection, callback_ids: Collection[int]) -> None:
    """Close the deliveries of removed callbacks and drop what they were owed. What is in flight settles as nothing."""
    leases.alone(conn, leases.CONCERNED)
    for some in chunks(sorted(callback_ids)):
        conn.execute(
            update(delivery)
            .where(delivery.c.open_callback_id.in_(some))
            .values(
                state="failed",
                open_callback_id=None,
                due_at=None,
                lease_token="",
                lease_until=0,
                settled_at=now_ms(conn),
            )
        )
        conn.execute(delete(owed).where(owed.c.callback_id.in_(some)))


def _differing(conn: Connection, callback_id: int, types: dict[Unit, Type | None]) -> Sequence[Unit]:
    """What is not owed, and of another type than the customer believes or may believe."""
    columns = (owed.c.channel_id, owed.c.region, owed.c.region_code, owed.c.told_type, owed.c.unsure)
    told = select(*columns).where(owed.c.callback_id == callback_id, owed.c.wanted == owed.c.told)
    units = [
        (Unit(channel_id, Region(region, region_code)), Type.read(told_type), unsure)
        for channel_id, region, region_code, told_type, unsure in conn.execute(told)
    ]
    return [unit for unit, kind, unsure in units if types.get(unit) is not None and (unsure or types[unit] is not kind)]
