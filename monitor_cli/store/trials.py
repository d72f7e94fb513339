"""callback test's side of the database: the callback's one lock while its request is under way, and the present truth.

A test is no delivery: nothing counts as told by it, and no attempt is kept. But what a customer is told by it must be
neither overtaken nor forgotten. So the request goes under the lease that every request of this callback goes under
(opened for it where no delivery is open, and gone after it), and where it tells another type than the one told last,
the customer may believe that one: the unit is unsure from then on, as after an answer that was lost.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, literal_column, select, update

from monitor_cli.dialect import counted_lines, now_ms, upsert
from monitor_cli.errors import MonitorError
from monitor_cli.schema import delivery, monitor, number, owed
from monitor_cli.store import callbacks
from monitor_cli.store.channels import types_of, whole_numbers
from monitor_cli.store.claims import CallbackRow, Claimed, OwedUnit, read_held
from monitor_cli.types import Region, Type, Unit

# What an account without numbers is sent: no country has the code 999, so that it can be nobody's number.
_EXAMPLE = Unit(0, Region("example", "EX"))
_EXAMPLE_NUMBER = "+99900000000"


class Held(NamedTuple):
    """A callback under our lease. `opened`: the delivery that holds it is there for this alone. `claimed` tells all
    that its account's numbers are now; `example`: there is nothing to tell, and it tells an example."""

    delivery_id: int
    token: str
    opened: bool
    account: str
    active: bool
    example: bool
    claimed: Claimed


def hold(conn: Connection, callback_id: int, owner: str, lease_ms: int) -> Held | None:
    """Take a callback's lease, and read what a request to it would tell now. None: another worker has it. Raises
    MonitorError where there is no such callback, or its account is not subscribed and so is told nothing."""
    account = callbacks.find(conn, callback_id).account
    token = secrets.token_hex(16)
    now = now_ms(conn)
    taken = _take(conn, callback_id, {"lease_token": token, "lease_owner": owner, "lease_until": now + lease_ms}, now)
    if taken is None:
        return None
    delivery_id, opened = taken
    found = read_held(conn, delivery_id, token, now)
    if found is None or not found[2]:
        raise MonitorError(
            f"the account {account} of callback {callback_id} is not subscribed: it is told nothing",
            "see: monitor-cli account subscribe",
        )
    numbers = _numbers(conn, found[0].account_id)
    types = {unit: kind for unit, kind in types_of(conn, numbers).items() if kind is not None}
    if types:
        _doubt(conn, callback_id, types, now)
    claimed = _claimed(found[0], types, numbers, now) if types else _example(found[0], now)
    return Held(delivery_id, token, opened, account, found[1], not types, claimed)


def let_go(conn: Connection, held: Held) -> None:
    """Give the lease back; what became owed meanwhile is due now."""
    ours = (delivery.c.id == held.delivery_id, delivery.c.lease_token == held.token)
    if held.opened and conn.execute(delete(delivery).where(*ours, delivery.c.rearmed == 0)).rowcount:
        return
    conn.execute(update(delivery).where(*ours).values(lease_until=0, lease_token=""))


def _take(conn: Connection, callback_id: int, lease: Mapping[str, int | str], now: int) -> tuple[int, bool] | None:
    """The id of the delivery that is this callback's lock, and whether it was opened for it."""
    query = select(delivery.c.id, delivery.c.lease_until).where(delivery.c.open_callback_id == callback_id)
    row = conn.execute(query.with_for_update()).first()
    if row is None:
        # Due once its lease is over: should we be killed, a run finds nothing owed and closes it.
        one = {"callback_id": callback_id, "open_callback_id": callback_id, "state": "open", "due_at": now}
        key = conn.execute(insert(delivery).values(**one, **lease, created_at=now)).inserted_primary_key
        assert key is not None
        return int(key[0]), True
    if row.lease_until > now:
        return None
    if row.lease_until:  # its holder vanished, and its request may have arrived
        waiting = (owed.c.callback_id == callback_id, owed.c.wanted > owed.c.told)
        conn.execute(update(owed).where(*waiting).values(unsure=1))
    conn.execute(update(delivery).where(delivery.c.id == row.id).values(**lease))
    return row.id, False


def _numbers(conn: Connection, account_id: int) -> dict[int, tuple[str, ...]]:
    query = (
        select(number.c.channel_id, literal_column(counted_lines(conn, "number")))
        .where(number.c.account_id == account_id, number.c.number.is_not(None))
        .group_by(number.c.channel_id)
    )
    return {
        channel_id: whole_numbers(conn, account_id, channel_id, counted)
        for channel_id, counted in conn.execute(query).all()
    }


def _doubt(conn: Connection, callback_id: int, types: Mapping[Unit, Type], now: int) -> None:
    """Note what the customer may believe by the test and not by a delivery."""
    columns = (owed.c.channel_id, owed.c.region, owed.c.region_code, owed.c.told_type)
    told = {
        Unit(channel_id, Region(region, code)): Type.read(kind)
        for channel_id, region, code, kind in conn.execute(select(*columns).where(owed.c.callback_id == callback_id))
    }
    # Read after the types: a change that these do not show yet is not missed, one that they show is flagged here.
    flagged = set(conn.execute(select(monitor.c.channel_id).where(monitor.c.status_report == 1)).scalars())
    rows = [
        {
            "callback_id": callback_id,
            "channel_id": unit.channel_id,
            "region": unit.region.region,
            "region_code": unit.region.region_code,
            "wanted": 0,
            "told": 0,
            "told_type": kind.word,
            "unsure": 1,
            "owed_since_at": now,
        }
        for unit, kind in sorted(types.items())
        if (told[unit] is not kind if unit in told else unit.channel_id in flagged)
    ]
    key = ("callback_id", "channel_id", "region", "region_code")
    if rows:
        conn.execute(upsert(conn, owed, key, lambda _new, _old: {"unsure": literal_column("1")}), rows)


def _claimed(
    of: CallbackRow, types: Mapping[Unit, Type | None], numbers: Mapping[int, tuple[str, ...]], now: int
) -> Claimed:
    units = tuple(OwedUnit(unit, 0, None, True) for unit in sorted(types))
    # A number of its own in the place of a delivery's id: no test has the webhook-id of another, or of a delivery.
    number_of_test = -secrets.randbits(62) - 1
    return Claimed(number_of_test, "", 0, 0, now, None, None, frozenset(), of, units, types, numbers, now)


def _example(of: CallbackRow, now: int) -> Claimed:
    return _claimed(of, {_EXAMPLE: Type.OPERATIONAL}, {_EXAMPLE.channel_id: (_EXAMPLE_NUMBER,)}, now)
