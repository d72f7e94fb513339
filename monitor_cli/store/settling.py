"""Settle: what came of the requests is recorded, in one transaction, for deliveries that are still ours.

The steps are those of docs/delivery.md. A delivery whose token is not ours any more is left as it is; only its attempt
is appended, marked late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, case, literal, select, text, update

from monitor_cli.dialect import (
    ROW_END,
    VALUE_END,
    Literals,
    among,
    exact_text,
    forced,
    id_list,
    insert_groups,
    is_mysql,
    now_text,
    packed,
)
from monitor_cli.schema import REPLAYED, attempt, callback, delivery, owed
from monitor_cli.store.claims import FREED, Claimed
from monitor_cli.types import Type, Unit

LOCAL_PAUSE_MS = 5_000
_FREED = ", ".join(f"{column} = {value!r}" for column, value in FREED.items())  # the same as SQL


class Told(NamedTuple):
    """A unit that the customer answered 2xx to, or that had nothing to be told (type None: dropped)."""

    unit: Unit
    wanted: int
    type: Type | None


class Attempt(NamedTuple):
    """One HTTP request of a delivery, as it is kept for good. Times are milliseconds."""

    started_at: int
    duration_ms: int
    http_status: int | None
    error: str | None
    response: str | None
    webhook_id: str
    part: int = 0


class Then(Enum):
    """What becomes of the delivery."""

    DONE = "done"  # all of it was answered 2xx, or had nothing to be told
    RETRY = "retry"  # after `delay_ms`, never before `retry_after_ms`
    FAILED = "failed"  # the schedule is used up: closed, what it owed stays owed
    PART = "part"  # a part of a split request was answered: the lease goes on
    LOCAL = "local"  # a fault on our side: no attempt is used up
    RELEASE = "release"  # nothing was started

    def __init__(self, word: str) -> None:
        self.word = word  # the value as a plain attribute: it is read for each answer, and an enum's own is slow


class Recorded(NamedTuple):
    """What settling brought: the split deliveries whose next part may go, and the callbacks that were switched off,
    with the reason."""

    go_on: set[int]
    off: list[tuple[int, str]]


class Settlement(NamedTuple):
    """What came of one claimed delivery. `tried` counts the attempts of the schedule.

    `content_hash` is that of what a split request has still to tell, where its time of first building is kept.
    `failed` counts an attempt against the callback, `recovered` clears that count, `off` switches the callback off with
    this reason, unless a person wrote the callback since the claim."""

    claimed: Claimed
    then: Then
    told: Sequence[Told] = ()
    unsure: Sequence[Unit] = ()
    attempts: Sequence[Attempt] = ()
    tried: int = 0
    delay_ms: int = 0
    retry_after_ms: int = 0
    parts_done: str | None = None
    content_hash: str | None = None
    failed: bool = False
    recovered: bool = False
    off: str | None = None


def settle(conn: Connection, settlements: Sequence[Settlement], lease_ms: int, repeated: bool = False) -> Recorded:
    """Record these. What is under another token by now is left as it is. `repeated` says that some of them may be
    recorded already: a COMMIT was not answered."""
    now, held = _held(conn, settlements)
    _append_attempts(conn, held, _recorded(conn, settlements) if repeated else frozenset())
    ours = [_Ours(s, rearmed != s.claimed.rearmed) for s, rearmed in held if rearmed is not None]
    if not ours:
        return Recorded(set(), [])
    mine = [s for s, _ in ours]
    _write_owed(conn, mine)
    _write_deliveries(conn, ours, now, lease_ms)
    off = _write_callbacks(conn, mine, now)
    return Recorded({s.claimed.id for s, rearmed in ours if s.then is Then.PART and not rearmed}, off)


def store_content(conn: Connection, contents: Sequence[Mapping[str, Any]]) -> None:
    """Keep when a content was first built, before it is sent: rows of id, hash, at (milliseconds)."""
    if contents:
        conn.execute(
            update(delivery)
            .where(delivery.c.id == bindparam("key"))
            .values(content_hash=bindparam("hash"), content_at=bindparam("at")),
            [{"key": c["id"], "hash": c["hash"], "at": c["at"]} for c in contents],
        )


# --- the steps --------------------------------------------------------------------------------------------------------


class _Ours(NamedTuple):
    """A settlement of a delivery that is still under our token, and whether a change came since the claim."""

    settlement: Settlement
    rearmed: bool


def _held(conn: Connection, settlements: Sequence[Settlement]) -> tuple[int, list[tuple[Settlement, int | None]]]:
    """The time, and how often each delivery was re-armed by now, locked; None where it is under another token."""
    ids = id_list({s.claimed.id for s in settlements})
    lease = packed(conn, ["lease_token"], ["id", "rearmed"])
    lock = "FOR UPDATE" if is_mysql(conn) else ""
    now, rows = conn.exec_driver_sql(
        f"SELECT {now_text(conn)}, {lease} FROM {delivery.name} {forced(conn, 'PRIMARY')} WHERE id IN ({ids}) {lock}"
    ).one()
    lines = exact_text(rows).split(ROW_END) if rows else []
    mine = {held: int(rearmed) for held, rearmed in [line.rsplit(VALUE_END, 1) for line in lines]}
    # By its token too: a delivery that was lost and claimed again is another one.
    return now, [(s, mine.get(f"{s.claimed.token}{VALUE_END}{s.claimed.id}")) for s in settlements]


_Key = tuple[int, int, str, int]  # of an attempt: its delivery, when it began, its webhook-id and part


def _recorded(conn: Connection, settlements: Sequence[Settlement]) -> frozenset[_Key]:
    """The attempts of these deliveries that are there already."""
    a = attempt.c
    key = select(a.delivery_id, a.started_at, a.webhook_id, a.part)
    rows = conn.execute(key.where(among(a.delivery_id, [s.claimed.id for s in settlements])))
    return frozenset((row.delivery_id, row.started_at, row.webhook_id, row.part) for row in rows)


def _append_attempts(
    conn: Connection, held: Sequence[tuple[Settlement, int | None]], recorded: frozenset[_Key]
) -> None:
    of = Literals(conn)
    rows = [
        f"({s.claimed.id},{a.started_at},{a.duration_ms},{of[a.http_status]},{of[a.error]},{of[a.response]},"
        f"{of[a.webhook_id]},{a.part},{1 if rearmed is None else 0})"
        for s, rearmed in held
        for a in s.attempts
        if not recorded or (s.claimed.id, a.started_at, a.webhook_id, a.part) not in recorded
    ]
    columns = ("delivery_id", "started_at", "duration_ms", "http_status", "error", "response", "webhook_id", "part")
    insert_groups(conn, attempt, (*columns, "late"), rows, of)


def _write_owed(conn: Connection, settlements: Sequence[Settlement]) -> None:
    told: list[_Owed] = []
    dropped: list[_Owed] = []
    for s in settlements:
        callback_id = s.claimed.callback.id
        for unit, wanted, kind in s.told:
            if kind is None:
                dropped.append((callback_id, unit, wanted, None))
            else:
                told.append((callback_id, unit, wanted, kind.word))
    # A replay that came after the claim is not answered by it: the next claim takes it up.
    _update_owed(
        conn,
        "told = {new}told, told_type = {new}told_type, "
        f"unsure = CASE WHEN unsure = {REPLAYED} THEN {REPLAYED} ELSE 0 END",
        told,
    )
    _update_owed(conn, "told = {new}told", dropped)
    _update_owed(conn, "unsure = 1", [(s.claimed.callback.id, unit, 0, None) for s in settlements for unit in s.unsure])


_Owed = tuple[int, Unit, int, str | None]


def _update_owed(conn: Connection, what: str, rows: Sequence[_Owed]) -> None:
    """On MySQL one INSERT of many rows whose keys all exist, 50 times faster than a statement for each."""
    if not rows:
        return
    columns = ("callback_id", "channel_id", "region", "region_code", "told", "told_type")
    if is_mysql(conn):
        assignments = what.replace("{new}told_type", "VALUES(told_type)").replace("{new}told", "VALUES(told)")
        of = Literals(conn)
        groups = [
            f"({cb},{channel},{of[region]},{of[code]},{told},{of[kind]},0,0)"
            for cb, (channel, (region, code)), told, kind in rows
        ]
        insert_groups(
            conn,
            owed,
            (*columns, "wanted", "owed_since_at"),
            groups,
            of,
            f"ON DUPLICATE KEY UPDATE {assignments}",
        )
        return
    assignments = what.replace("{new}", ":")
    conn.execute(
        text(
            f"UPDATE {owed.name} SET {assignments} WHERE callback_id = :callback_id AND channel_id = :channel_id "
            "AND region = :region AND region_code = :region_code"
        ),
        [
            dict(zip(columns, (cb, unit.channel_id, *unit.region, told, kind), strict=True))
            for cb, unit, told, kind in rows
        ],
    )


def _write_deliveries(conn: Connection, ours: Sequence[_Ours], now: int, lease_ms: int) -> None:
    done = [s for s, _ in ours if s.then is Then.DONE]
    others = [one for one in ours if one.settlement.then is not Then.DONE]
    failed = []
    again = [_due_again(s, True, now) for s in _close_told(conn, done, now)]
    for s, rearmed in others:
        if s.then is Then.FAILED and not rearmed:
            failed.append(s.claimed.id)
        elif s.then in (Then.RETRY, Then.FAILED):
            again.append(_due_again(s, rearmed, now))
        elif s.then is Then.PART and rearmed:  # newer truth is owed: the rest is built anew
            again.append(_due_again(s, True, now))
        elif s.then is Then.PART:
            left = {"content_hash": s.content_hash} if s.content_hash else {}
            _set(conn, [s.claimed.id], lease_until=now + lease_ms, parts_done=s.parts_done, **left)
    _close(conn, "failed", failed, now)
    _set(conn, [s.claimed.id for s, _ in others if s.then is Then.LOCAL], due_at=now + LOCAL_PAUSE_MS, **FREED)
    _set(conn, [s.claimed.id for s, _ in others if s.then is Then.RELEASE], **FREED)
    if again:
        conn.execute(_DUE_AGAIN, again)


def _close_told(conn: Connection, done: Sequence[Settlement], now: int) -> Sequence[Settlement]:
    """Close those whose callbacks are owed nothing any more; gives the others."""
    ids = [s.claimed.id for s in done]
    # Counted, since of an EXISTS the optimizer might make a look at the whole table.
    owing = (
        f"SELECT COUNT(*) FROM {owed.name} o {forced(conn, 'PRIMARY')} "
        f"WHERE o.callback_id = {delivery.name}.callback_id AND o.wanted > o.told"
    )
    if _close(conn, "done", ids, now, f"AND ({owing}) = 0") == len(ids):
        return ()
    still = conn.execute(select(delivery.c.id).where(among(delivery.c.id, ids), delivery.c.state == "open"))
    left = set(still.scalars())
    return [s for s in done if s.claimed.id in left]


def _close(conn: Connection, state: str, ids: Sequence[int], now: int, unless: str = "") -> int:
    """Gives how many were closed."""
    if not ids:
        return 0
    return conn.exec_driver_sql(
        f"UPDATE {delivery.name} {forced(conn, 'PRIMARY')} SET state = '{state}', open_callback_id = NULL, "
        f"due_at = NULL, settled_at = {now:d}, {_FREED} WHERE id IN ({id_list(ids)}) {unless}"
    ).rowcount


_DUE_AGAIN = (
    update(delivery)
    .where(delivery.c.id == bindparam("key"))
    .values(
        due_at=bindparam("due"),
        not_before=bindparam("bound"),
        attempts=bindparam("tried"),
        parts_done=bindparam("parts"),
        **FREED,
    )
)


def _due_again(s: Settlement, rearmed: bool, now: int) -> dict[str, Any]:
    """A new change makes a delivery due at once and starts the schedule anew, except within a running Retry-After."""
    bound = now + s.retry_after_ms if s.retry_after_ms else 0
    return {
        "key": s.claimed.id,
        "due": max(now if rearmed else now + s.delay_ms, bound),
        "bound": bound,
        "tried": 0 if rearmed else s.tried,
        "parts": s.parts_done,
    }


def _set(conn: Connection, ids: Sequence[int], **values: Any) -> None:
    if ids:
        conn.execute(update(delivery).where(among(delivery.c.id, ids)).values(**values))


def _write_callbacks(conn: Connection, settlements: Sequence[Settlement], now: int) -> list[tuple[int, str]]:
    """Returns the callbacks that were switched off, with the reason."""
    recovered = [s.claimed.callback.id for s in settlements if s.recovered]
    if recovered:
        conn.execute(update(callback).where(among(callback.c.id, recovered)).values(failures=0, failing_since=None))
    failed = [s.claimed.callback.id for s in settlements if s.failed]
    if failed:
        since = case((callback.c.failing_since.is_(None), literal(now)), else_=callback.c.failing_since)
        conn.execute(
            update(callback)
            .where(among(callback.c.id, failed))
            .values(failures=callback.c.failures + 1, failing_since=since)
        )
    for s in settlements:
        if s.then is Then.FAILED and s.retry_after_ms:  # the bound outlives the delivery
            bound = now + s.retry_after_ms
            conn.execute(update(callback).where(callback.c.id == s.claimed.callback.id).values(not_before=bound))
    return [(s.claimed.callback.id, s.off) for s in settlements if s.off and _switch_off(conn, s, s.off)]


def _switch_off(conn: Connection, s: Settlement, reason: str) -> bool:
    """Unless a person wrote the callback meanwhile."""
    untouched = (
        callback.c.id == s.claimed.callback.id,
        callback.c.active == 1,
        callback.c.modified_at == s.claimed.callback.modified_at,
    )
    if not conn.execute(update(callback).where(*untouched).values(active=0, reason=reason)).rowcount:
        return False
    conn.execute(update(delivery).where(delivery.c.open_callback_id == s.claimed.callback.id).values(due_at=None))
    return True
