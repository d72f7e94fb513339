"""Claim: a lease on deliveries that are due, and everything that sending them needs, read under that lease.

The steps are those of docs/delivery.md. `now` is read once and bound in every statement, so that all of them judge a
lease by the same instant.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, update

from monitor_cli.dialect import among, counted_lines, decoded_rows, forced, now_ms, statement
from monitor_cli.schema import REPLAYED, callback, delivery, number, owed, subscription
from monitor_cli.store.channels import count_of, types_and_flags, whole_numbers
from monitor_cli.types import Region, Type, Unit

UNSUBSCRIBED_PAUSE_MS = 60_000
FREED: dict[str, Any] = {"lease_token": "", "lease_until": 0}
"""What a delivery's lease is written as when it is given back."""
SHORT = 4_000  # characters of numbers that come with what is owed; a longer list is read by itself
FEW = 50  # callbacks of which it is seen how many numbers they bring, before more are read
_ID = "PRIMARY"  # the index that statements by id name


class OwedUnit(NamedTuple):
    """A unit that one callback is owed: the count of changes wanted, and what the customer was told last."""

    unit: Unit
    wanted: int
    told_type: Type | None
    unsure: bool


class CallbackRow(NamedTuple):
    """What sending needs to know of a callback."""

    id: int
    account_id: int
    url: str
    destination: str
    payload: str | None
    headers: tuple[tuple[str, str], ...]
    raw_json: bool
    secrets: tuple[str, ...]
    failures: int
    failing_since: int | None
    modified_at: int


class Claimed(NamedTuple):
    """A delivery under our lease, as it stood when the claim was committed. Times are milliseconds."""

    id: int
    token: str
    rearmed: int
    attempts: int
    created_at: int
    content_hash: str | None
    content_at: int | None
    parts_done: frozenset[str]
    callback: CallbackRow
    owed: tuple[OwedUnit, ...]
    types: Mapping[Unit, Type | None]
    numbers: Mapping[int, tuple[str, ...]]  # channel: the account's numbers on it
    now: int
    flagged: frozenset[Unit] = frozenset()  # units whose type may be that of a change which `wanted` does not count yet


class _Taken(NamedTuple):
    """A delivery under our tokens, its callback, and whether the account is subscribed."""

    id: int
    taken_over: int
    callback_id: int
    rearmed: int
    attempts: int
    created_at: int
    content_at: int | None
    account_id: int
    raw_json: int
    failures: int
    failing_since: int | None
    modified_at: int
    old_secret_until: int | None
    active: int
    not_before: int
    subscribed: int | None
    content_hash: str | None
    parts_done: str | None
    url: str
    destination: str
    payload: str | None
    headers: str
    secret: str
    old_secret: str | None


class _Owing(NamedTuple):
    """A unit that a callback is owed, and its account's numbers on that channel as far as they go into a short text:
    for whom is first, the numbers are last."""

    callback_id: int
    channel_id: int
    wanted: int
    unsure: int
    region: str
    region_code: str
    told_type: str | None
    numbers: str | None


_Unread = tuple[OwedUnit, str | None]  # what is owed, and the numbers as _Owing has them


class Tokens(NamedTuple):
    """Of one claim: of what was free, and of what an earlier holder let its lease run out on."""

    free: str
    taken_over: str

    @classmethod
    def new(cls) -> Tokens:
        return cls(secrets.token_hex(16), secrets.token_hex(16))


def claim(
    conn: Connection,
    ids: Sequence[int],
    owner: str,
    lease_ms: int,
    max_numbers: int,
    needs: Callable[[OwedUnit, Type | None], bool],
    tokens: Tokens | None = None,
) -> list[Claimed]:
    """Take the lease of those of `ids` that are still due and free, park what may not be sent, and read the rest.

    `needs` says whether an owed unit will be sent: the numbers of others are left out. What would bring more than
    `max_numbers` numbers into memory is given back (but the first, which may be alone). With `tokens` of their own
    callers can give back what they do not know to have."""
    now, tokens = now_ms(conn), tokens or Tokens.new()
    taken = _take(conn, ids, owner, tokens, now, lease_ms)
    rows = _ours(conn, ids, tokens) if taken else []
    if len(rows) < taken:
        _park_orphans(conn, ids, tokens, rows)
    _mark_takeovers(conn, [row.callback_id for row in rows if row.taken_over])
    rows = _park(conn, rows, now)
    if not rows:
        return []
    units = _owed_within(conn, rows, max_numbers)
    give_back(conn, [row.id for row in rows if row.callback_id not in units], tokens)
    # Types after the claim and after what is owed: the newest truth, never older than the changes counted in wanted.
    types, flagged = types_and_flags(conn, {one.unit.channel_id for theirs in units.values() for one, _ in theirs})
    return [
        _claimed(row, tokens[row.taken_over], now, theirs, (types, flagged), _numbers(conn, row, theirs, types, needs))
        for row in rows
        if (theirs := units.get(row.callback_id)) is not None
    ]


def give_back(conn: Connection, ids: Sequence[int], tokens: Tokens) -> None:
    """End the leases of those of `ids` that are under these tokens, of which nothing was sent."""
    if ids:
        ours = (among(delivery.c.id, ids), delivery.c.lease_token.in_(tokens))
        conn.execute(update(delivery).where(*ours).values(**FREED))


def read_held(conn: Connection, delivery_id: int, token: str, now: int) -> tuple[CallbackRow, bool, bool] | None:
    """Of a delivery under our token: what sending needs to know of its callback, whether that is active, and whether
    its account is subscribed."""
    rows = _ours(conn, [delivery_id], Tokens(token, token))
    return (_callback_row(rows[0], now), rows[0].active == 1, rows[0].subscribed == 1) if rows else None


# --- the steps --------------------------------------------------------------------------------------------------------


def _take(conn: Connection, ids: Sequence[int], owner: str, tokens: Tokens, now: int, lease_ms: int) -> int:
    """Compare and set. Returns how many are ours. Those whose earlier holder let its lease run out get the other token:
    its request may have arrived. (MySQL sees what is set already: the token comes first.)"""
    values = {"ids": [*ids], "until": now + lease_ms, "owner": owner, "now": now, **tokens._asdict()}
    take = (
        f"UPDATE {delivery.name} {forced(conn, _ID)} "
        "SET lease_token = CASE WHEN lease_until > 0 THEN :taken_over ELSE :free END, lease_until = :until, "
        "lease_owner = :owner WHERE id IN (:ids) AND due_at + 0 <= :now AND lease_until <= :now"
    )
    return conn.execute(statement(take, values), values).rowcount


def _ours(conn: Connection, ids: Sequence[int], tokens: Tokens) -> list[_Taken]:
    numbers = (
        *("d.id", "d.lease_token = :taken_over", "d.callback_id", "d.rearmed", "d.attempts", "d.created_at"),
        *("d.content_at", "c.account_id", "c.raw_json", "c.failures", "c.failing_since", "c.modified_at"),
        *("c.old_secret_until", "c.active", "c.not_before", "s.active"),
    )
    texts = (
        *("d.content_hash", "d.parts_done", "c.url", "c.destination", "c.payload", "c.headers", "c.secret"),
        "c.old_secret",
    )
    ours = (
        f"FROM {delivery.name} d {forced(conn, _ID)} JOIN {callback.name} c ON c.id = d.callback_id "
        f"LEFT JOIN {subscription.name} s ON s.account_id = c.account_id "
        "WHERE d.id IN (:ids) AND d.lease_token IN (:free, :taken_over)"
    )
    rows = decoded_rows(conn, _Taken, numbers, texts, ours, {"ids": [*ids], **tokens._asdict()})
    return list({row.id: row for row in rows}.values())  # a platform's view may have more than one row for an account


def _park_orphans(conn: Connection, ids: Sequence[int], tokens: Tokens, found: Sequence[_Taken]) -> None:
    """What is ours and has no callback any more."""
    _free(conn, sorted(set(ids).difference(row.id for row in found)), None, delivery.c.lease_token.in_(tokens))


def _mark_takeovers(conn: Connection, callback_ids: Sequence[int]) -> None:
    if callback_ids:
        conn.execute(
            update(owed).where(among(owed.c.callback_id, callback_ids), owed.c.wanted > owed.c.told).values(unsure=1)
        )


def _callback_row(row: _Taken, now: int) -> CallbackRow:
    old = row.old_secret if row.old_secret and (row.old_secret_until or 0) > now else None
    return CallbackRow(
        row.callback_id,
        row.account_id,
        row.url,
        row.destination,
        row.payload,
        tuple((name, value) for name, value in json.loads(row.headers)) if row.headers != "[]" else (),
        bool(row.raw_json),
        (row.secret, old) if old else (row.secret,),
        row.failures,
        row.failing_since,
        row.modified_at,
    )


def _park(conn: Connection, rows: Sequence[_Taken], now: int) -> list[_Taken]:
    """Judged under the delivery's lock: people write the callback first and the delivery after it, so none is lost."""
    keep, parked, paused, waiting = [], [], [], []
    for row in rows:
        if not row.active:
            parked.append(row.id)
        elif row.subscribed != 1:
            paused.append(row.id)
        elif row.not_before > now:
            waiting.append((row.id, row.not_before))
        else:
            keep.append(row)
    _free(conn, parked, None)
    _free(conn, paused, now + UNSUBSCRIBED_PAUSE_MS)
    for delivery_id, until in waiting:
        _free(conn, [delivery_id], until)
    return keep


def _free(conn: Connection, ids: Sequence[int], due_at: int | None, *only: ColumnElement[bool]) -> None:
    if ids:
        freed = update(delivery).where(among(delivery.c.id, ids), *only)
        conn.execute(freed.values(due_at=due_at, **FREED))


def _owing(conn: Connection, callback_ids: Sequence[int]) -> list[_Owing]:
    """What is owed; what a person wants again is taken up with it: from here on a 2xx to this claim answers it."""
    numbers = (
        f"SUBSTR((SELECT {counted_lines(conn, 'n.number')} FROM {number.name} n "
        f"WHERE n.account_id = c.account_id AND n.channel_id = o.channel_id), 1, {SHORT})"
    )
    rest = (
        f"FROM {owed.name} o JOIN {callback.name} c ON c.id = o.callback_id "
        "WHERE o.callback_id IN (:ids) AND o.wanted > o.told"
    )
    columns = ("o.callback_id", "o.channel_id", "o.wanted", "o.unsure")
    texts = ("o.region", "o.region_code", "o.told_type", numbers)
    rows = decoded_rows(conn, _Owing, columns, texts, rest, {"ids": [*callback_ids]})
    if replayed := [row.callback_id for row in rows if row.unsure == REPLAYED]:
        waiting = (among(owed.c.callback_id, replayed), owed.c.unsure == REPLAYED)
        conn.execute(update(owed).where(*waiting).values(unsure=1))
    return rows


def _by_callback(owing: Iterable[_Owing]) -> dict[int, list[_Unread]]:
    """What each callback is owed, sorted by unit."""
    found: dict[int, list[_Unread]] = {}
    known: dict[tuple[object, ...], OwedUnit] = {}  # the callbacks on a channel are mostly owed the same
    for row in owing:
        what = row[1:-1]  # but for whom, and for the numbers
        if (one := known.get(what)) is None:
            _, channel_id, wanted, unsure, region, region_code, told_type, _ = row
            unit = Unit(channel_id, Region(region, region_code))
            one = known[what] = OwedUnit(unit, wanted, Type.read(told_type), bool(unsure))
        found.setdefault(row.callback_id, []).append((one, row.numbers))
    for units in found.values():
        if len(units) > 1:
            units.sort(key=itemgetter(0))
    return found


def _owed_within(conn: Connection, rows: Sequence[_Taken], most: int) -> dict[int, list[_Unread]]:
    """What these callbacks are owed: the first of them, until `most` numbers are at hand. How many are read with one
    statement, so that not much more comes into memory, the numbers of those before them tell."""
    units: dict[int, list[_Unread]] = {}
    at_hand, size = 0, FEW
    while rows and at_hand <= most:
        some, rows = rows[:size], rows[size:]
        found = _by_callback(_owing(conn, [row.callback_id for row in some]))
        for row in some:
            if at_hand <= most:
                units[row.callback_id] = theirs = found.get(row.callback_id, [])
                at_hand += sum([count_of(counted) for _, counted in theirs])
        size = max(FEW, len(units) * (most - at_hand) // max(1, at_hand))
    return units


def _numbers(
    conn: Connection,
    row: _Taken,
    units: Iterable[_Unread],
    types: Mapping[Unit, Type | None],
    needs: Callable[[OwedUnit, Type | None], bool],
) -> dict[int, tuple[str, ...]]:
    """By channel, the account's numbers that will be shown."""
    return {
        one.unit.channel_id: whole_numbers(conn, row.account_id, one.unit.channel_id, counted, SHORT)
        for one, counted in units
        if needs(one, types.get(one.unit))
    }


def _claimed(
    row: _Taken,
    token: str,
    now: int,
    units: Iterable[_Unread],
    present: tuple[Mapping[Unit, Type | None], frozenset[Unit]],
    numbers: Mapping[int, tuple[str, ...]],
) -> Claimed:
    return Claimed(
        row.id,
        token,
        row.rearmed,
        row.attempts,
        row.created_at,
        row.content_hash,
        row.content_at,
        frozenset(json.loads(row.parts_done)) if row.parts_done else frozenset(),
        _callback_row(row, now),
        tuple([one for one, _ in units]),
        present[0],
        numbers,
        now,
        present[1],
    )
