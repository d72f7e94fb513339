"""Claim: a lease on deliveries that are due, and everything that sending them needs, read under that lease.

The steps are those of docs/delivery.md. `now` is read once and bound in every statement, so that all of them judge a
lease by the same instant.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, func, not_, select, text, tuple_, update

from monitor_cli.dialect import among, by_index, ids_parameter, is_mysql, joined_lines, now_ms, whole_rows
from monitor_cli.schema import REPLAYED, callback, delivery, number, owed, subscription
from monitor_cli.store.channels import chunks, types_and_flags, whole_numbers
from monitor_cli.types import Region, Type, Unit

UNSUBSCRIBED_PAUSE_MS = 60_000


class Candidate(NamedTuple):
    """A delivery that seems due: a hint, from outside any lock."""

    id: int
    account_id: int
    destination: str


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


class _Stored(NamedTuple):
    """A callback's columns that sending and parking need, and its account's subscription."""

    id: int
    account_id: int
    url: str
    destination: str
    payload: str | None
    headers: str
    raw_json: int
    failures: int
    failing_since: int | None
    modified_at: int
    secret: str
    old_secret: str | None
    old_secret_until: int | None
    active: int
    not_before: int
    subscribed: int | None


_STORED = (
    *(callback.c[name] for name in _Stored._fields if name != "subscribed"),
    subscription.c.active.label("subscribed"),
)
_SUBSCRIBED = subscription.c.account_id == callback.c.account_id


class _Taken(NamedTuple):
    """A delivery's columns under our token, with its callback (None: it was removed)."""

    id: int
    callback_id: int
    rearmed: int
    attempts: int
    created_at: int
    content_hash: str | None
    content_at: int | None
    parts_done: str | None
    of: _Stored | None


_TAKEN = tuple(delivery.c[name] for name in _Taken._fields if name != "of")


def due_candidates(
    conn: Connection,
    limit: int,
    full_pairs: Sequence[tuple[int, str]] = (),
    full: Collection[str] = (),
    other_than: Collection[int] = (),
    part: tuple[int, int] = (1, 0),
) -> list[Candidate]:
    """Of the deliveries that are due and free those that are so for the longest, in no order. `full_pairs` (account,
    destination) and the destinations `full` can take no more; accounts `other_than` these; of as many parts as `part`
    says first, the one with the number that it says then."""
    now = now_ms(conn)
    query = (
        select(delivery.c.id, callback.c.account_id, callback.c.destination)
        .join(callback, callback.c.id == delivery.c.callback_id)
        .where(delivery.c.due_at <= now, delivery.c.lease_until <= now)
        .order_by(delivery.c.due_at)
        .limit(limit)
    )
    query = by_index(query, delivery, "ix_infi_voice_monitor_delivery_due_at")
    parts, number = part
    if parts > 1:
        query = query.where(delivery.c.id % parts == number)
    if other_than:
        query = query.where(not_(among(callback.c.account_id, sorted(other_than))))
    if full:
        query = query.where(callback.c.destination.not_in(sorted(full)))
    if full_pairs:
        query = query.where(tuple_(callback.c.account_id, callback.c.destination).not_in(sorted(full_pairs)))
    return [Candidate(*row) for row in whole_rows(conn, select(query.subquery("due")))]


def next_due(conn: Connection) -> int | None:
    """In how many milliseconds the next delivery comes due or free of a lease (0: now), None: there is none."""
    now = now_ms(conn)
    rows = conn.execute(
        text(f"SELECT due_at, lease_until FROM {delivery.name} WHERE due_at IS NOT NULL ORDER BY due_at LIMIT 500")
    ).all()
    later = text(f"SELECT due_at, lease_until FROM {delivery.name} WHERE due_at > :now ORDER BY due_at LIMIT 1")
    rows = [*rows, *conn.execute(later, {"now": now})]  # behind however many that are held now
    return min((max(0, row.due_at - now, row.lease_until - now) for row in rows), default=None)


def claim(
    conn: Connection,
    ids: Sequence[int],
    owner: str,
    lease_ms: int,
    max_numbers: int,
    needs: Callable[[OwedUnit, Type | None], bool],
) -> list[Claimed]:
    """Take the lease of those of `ids` that are still due and free, park what may not be sent, and read the rest.

    `needs` says whether an owed unit will be sent, so that the numbers of the others are not read. What would bring
    more than `max_numbers` numbers into memory is given back (but the first, which may be alone)."""
    now, token = now_ms(conn), secrets.token_hex(16)
    taken_over = _take(conn, ids, owner, token, now, lease_ms)
    rows = _ours(conn, ids, token)
    if not rows:
        return []
    _mark_takeovers(conn, [row.callback_id for row in rows if row.id in taken_over])
    rows = _park(conn, rows, now)
    owed_units = _owed_units(conn, [row.callback_id for row in rows])
    # Types after the claim and after what is owed: the newest truth, never older than the changes counted in wanted.
    types, flagged = types_and_flags(conn, {o.unit.channel_id for units in owed_units.values() for o in units})
    wanting = {cb for cb, units in owed_units.items() if any(needs(o, types.get(o.unit)) for o in units)}
    accounts = {row.callback_id: row.of.account_id for row in rows if row.of and row.callback_id in wanting}
    numbers, complete = _numbers(conn, accounts, max_numbers)
    rows = _give_back(conn, rows, wanting.difference(complete))
    return [
        Claimed(
            row.id,
            token,
            row.rearmed,
            row.attempts,
            row.created_at,
            row.content_hash,
            row.content_at,
            frozenset(json.loads(row.parts_done)) if row.parts_done else frozenset(),
            _callback_row(row.of, now),
            owed_units.get(row.callback_id, ()),
            types,
            numbers.get(row.callback_id, {}),
            now,
            flagged,
        )
        for row in rows
        if row.of
    ]


# --- the steps --------------------------------------------------------------------------------------------------------


def _primary(conn: Connection) -> str:
    # After a burst into a small table the statistics are stale, and the optimizer scans all of it.
    return "FORCE INDEX (PRIMARY)" if is_mysql(conn) else ""


def _by_ids(statement: str) -> Any:
    return text(statement).bindparams(ids_parameter("ids"))


def _take(conn: Connection, ids: Sequence[int], owner: str, token: str, now: int, lease_ms: int) -> set[int]:
    """Compare and set. Returns the ids whose earlier holder let its lease run out: its request may have arrived."""
    lock = "FOR UPDATE" if is_mysql(conn) else ""
    leased = conn.execute(
        _by_ids(f"SELECT id FROM {delivery.name} {_primary(conn)} WHERE id IN (:ids) AND lease_until > 0 {lock}"),
        {"ids": ids},
    )
    taken_over = set(leased.scalars())
    conn.execute(
        _by_ids(
            f"UPDATE {delivery.name} {_primary(conn)} SET lease_until = :until, lease_token = :token, "
            "lease_owner = :owner WHERE id IN (:ids) AND due_at + 0 <= :now AND lease_until <= :now"
        ),
        {"ids": ids, "until": now + lease_ms, "token": token, "owner": owner, "now": now},
    )
    return taken_over


def _ours(conn: Connection, ids: Sequence[int], token: str) -> list[_Taken]:
    query = (
        select(*_TAKEN, *_STORED)
        .select_from(
            delivery.outerjoin(callback, callback.c.id == delivery.c.callback_id).outerjoin(subscription, _SUBSCRIBED)
        )
        .where(among(delivery.c.id, ids), delivery.c.lease_token == token)
    )
    count = len(_TAKEN)
    # By id, since a platform's view may have more than one row for an account.
    found = {row[0]: row for row in whole_rows(conn, by_index(query, delivery, "PRIMARY"))}
    return [_joined(row[:count], row[count:]) for row in found.values()]


def _joined(taken: Sequence[Any], stored: Sequence[Any]) -> _Taken:
    return _Taken._make((*taken, None if stored[0] is None else _Stored._make(stored)))


def _mark_takeovers(conn: Connection, callback_ids: Sequence[int]) -> None:
    if callback_ids:
        conn.execute(
            update(owed).where(among(owed.c.callback_id, callback_ids), owed.c.wanted > owed.c.told).values(unsure=1)
        )


def read_callback(conn: Connection, callback_id: int, now: int) -> tuple[CallbackRow, bool, bool] | None:
    """What sending needs to know of a callback, whether it is active, and whether its account is subscribed."""
    query = select(*_STORED).outerjoin(subscription, _SUBSCRIBED).where(callback.c.id == callback_id)
    row = conn.execute(query).first()
    if row is None:
        return None
    stored = _Stored(*row)
    return _callback_row(stored, now), stored.active == 1, stored.subscribed == 1


def _callback_row(row: _Stored, now: int) -> CallbackRow:
    old = row.old_secret if row.old_secret and (row.old_secret_until or 0) > now else None
    return CallbackRow(
        row.id,
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
        if row.of is None or not row.of.active:
            parked.append(row.id)
        elif row.of.subscribed != 1:
            paused.append(row.id)
        elif row.of.not_before > now:
            waiting.append((row.id, row.of.not_before))
        else:
            keep.append(row)
    _free(conn, parked, None)
    _free(conn, paused, now + UNSUBSCRIBED_PAUSE_MS)
    for delivery_id, until in waiting:
        _free(conn, [delivery_id], until)
    return keep


def _free(conn: Connection, ids: Sequence[int], due_at: int | None) -> None:
    if ids:
        conn.execute(
            update(delivery).where(among(delivery.c.id, ids)).values(lease_until=0, lease_token=None, due_at=due_at)
        )


def _owed_units(conn: Connection, callback_ids: Sequence[int]) -> dict[int, tuple[OwedUnit, ...]]:
    """What is owed; what a person wants again is taken up with it: from here on a 2xx to this claim answers it."""
    columns = (
        owed.c.callback_id,
        owed.c.channel_id,
        owed.c.region,
        owed.c.region_code,
        owed.c.wanted,
        owed.c.told_type,
        owed.c.unsure,
    )
    query = select(*columns).where(among(owed.c.callback_id, callback_ids), owed.c.wanted > owed.c.told)
    units: dict[int, list[OwedUnit]] = {}
    replayed: set[int] = set()
    for callback_id, channel_id, region, region_code, wanted, told_type, unsure in whole_rows(conn, query):
        if unsure == REPLAYED:
            replayed.add(callback_id)
        unit = Unit(channel_id, Region(region, region_code))
        units.setdefault(callback_id, []).append(OwedUnit(unit, wanted, Type.read(told_type), bool(unsure)))
    if replayed:
        waiting = (among(owed.c.callback_id, replayed), owed.c.unsure == REPLAYED)
        conn.execute(update(owed).where(*waiting).values(unsure=1))
    return {callback_id: tuple(sorted(found)) for callback_id, found in units.items()}


def _numbers(
    conn: Connection, accounts: Mapping[int, int], most: int
) -> tuple[dict[int, dict[int, tuple[str, ...]]], Collection[int]]:
    """The numbers of each callback's owed channels, and the callbacks for which all of them were read. They come as
    one text for each callback and channel: rows are what costs time. `accounts`: each callback's."""
    if not accounts:
        return {}, ()
    # With the account beside them numbers are found by both: were it joined in later, a channel's numbers could come
    # first, those of all accounts, where statistics are stale.
    channels = (
        select(owed.c.callback_id, owed.c.channel_id, callback.c.account_id)
        .join(callback, callback.c.id == owed.c.callback_id)
        .where(among(owed.c.callback_id, sorted(accounts)), owed.c.wanted > owed.c.told)
        .distinct()
        .subquery()
    )
    lines = joined_lines(conn, number.c.number).label("lines")
    same = and_(
        number.c.account_id == channels.c.account_id,
        number.c.channel_id == channels.c.channel_id,
        number.c.number.is_not(None),
    )
    query = (
        select(channels.c.callback_id, number.c.channel_id, func.count().label("count"), lines)
        .select_from(channels)
        .join(number, same)
        .group_by(channels.c.callback_id, number.c.channel_id)
        .order_by(channels.c.callback_id)
        .execution_options(stream_results=True)
    )
    with closing(conn.execute(query)) as rows:
        groups, complete = _bounded(rows, accounts, most)
    found: dict[int, dict[int, tuple[str, ...]]] = {}
    for callback_id, channel_id, count, lines in groups:
        values = whole_numbers(conn, accounts[callback_id], channel_id, count, lines)
        found.setdefault(callback_id, {})[channel_id] = values
    return found, complete


def _bounded(
    rows: Iterable[Sequence[Any]], accounts: Mapping[int, int], most: int
) -> tuple[list[Sequence[Any]], Collection[int]]:
    """The groups of the first callbacks, until `most` numbers are at hand, and whose they are."""
    groups: list[Sequence[Any]] = []
    read = 0
    for row in rows:
        if read > most and row[0] != groups[-1][0]:
            return groups, {cb for cb in accounts if cb < row[0]}
        read += row[2]
        groups.append(row)
    return groups, accounts


def _give_back(conn: Connection, rows: Sequence[_Taken], unread: Collection[int]) -> list[_Taken]:
    late = [row.id for row in rows if row.callback_id in unread]
    for some in chunks(late):
        conn.execute(update(delivery).where(among(delivery.c.id, some)).values(lease_until=0, lease_token=None))
    return [row for row in rows if row.callback_id not in unread]
