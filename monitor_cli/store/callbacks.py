"""Callbacks as people edit them. What they are owed: outbox.py; whether they may be meant: outbound/."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, delete, func, insert, select, update

from monitor_cli.db import AnyRow
from monitor_cli.dialect import now_ms
from monitor_cli.errors import MonitorError
from monitor_cli.schema import account, callback, change, owed
from monitor_cli.sealing import Keyring
from monitor_cli.store import accounts, leases, outbox, sealed
from monitor_cli.store.channels import chunks
from monitor_cli.store.sealed import Headers
from monitor_cli.store.values import reader_of

_BATCH = 500
OVERLAP_MS = 24 * 3600 * 1000  # a rotated secret signs beside the new one for so long

read_title = reader_of(callback.c.title)
"""Reads a title (values.py)."""
read_name = reader_of(callback.c.name)
"""Reads a callback's name."""


class Form(NamedTuple):
    """What the plugin's form has, but for the status. Of a listed callback the values of headers are as they are
    stored: perhaps sealed, and shown to nobody."""

    title: str
    name: str
    url: str
    payload: str | None
    headers: Headers
    raw_json: bool


class Callback(NamedTuple):
    """A callback with what it is owed: how many channels in regions, and since when (ms; None: nothing is)."""

    id: int
    account: str
    form: Form
    active: bool
    reason: str | None
    owed: int
    owed_since_at: int | None

    @property
    def status(self) -> str:
        """active, inactive (a person did it), off (we did, and `reason` says why)."""
        return "active" if self.active else "off" if self.reason else "inactive"


def listed(conn: Connection, account_name: str | None = None) -> Iterator[Callback]:
    """The callbacks of an account, or all, by id; read in blocks."""
    query = _callbacks().order_by(callback.c.id)
    if account_name is not None:
        query = query.where(callback.c.account_id == accounts.find(conn, account_name).id)
    # What is owed is asked first: a driver that streams the one answer cannot ask for another.
    amounts = _owed(conn)
    for row in conn.execute(query.execution_options(yield_per=_BATCH)):
        yield _read(row, amounts)


def find(conn: Connection, callback_id: int) -> Callback:
    """One callback. Raises MonitorError where it is not there."""
    row = conn.execute(_callbacks().where(callback.c.id == callback_id)).first()
    if row is None:
        raise _absent([callback_id])
    return _read(row, _owed(conn, callback_id))


def names(conn: Connection, ids: Collection[int]) -> dict[int, str]:
    """By callback, for people: its name, and the account's (none where the platform removed it)."""
    joined = callback.outerjoin(account, account.c.id == callback.c.account_id)
    query = select(callback.c.id, callback.c.name, account.c.name.label("account")).select_from(joined)
    return {
        row.id: f"callback {row.id} ({row.name}, of {row.account or 'a removed account'})"
        for some in chunks(sorted(ids))
        for row in conn.execute(query.where(callback.c.id.in_(some)))
    }


def add(
    conn: Connection, account_name: str, form: Form, *, destination: str, secret: str, active: bool, keys: Keyring
) -> int:
    """Add a callback, which hears of changes from now on; gives its id. `destination`: its URL's host:port. Raises
    sealing.Unreadable (78) where the others are sealed under a key that is not at hand: this one would stand plain."""
    sealed.check(conn, keys)
    owner = accounts.find(conn, account_name)
    now = now_ms(conn)
    row = {
        **_columns(form, destination),
        "headers": "[]",  # sealed for an id, which it has only once it is there: no log of the store's sees them plain
        "account_id": owner.id,
        "active": int(active),
        "hears_from": conn.execute(select(func.coalesce(func.max(change.c.id), 0))).scalar_one(),
        "secret": "",
        "created_at": now,
        "modified_at": now,
    }
    key = conn.execute(insert(callback).values(**row)).inserted_primary_key
    assert key is not None
    values = sealed.seal_row(keys, key[0], secret, form.headers)
    conn.execute(update(callback).where(callback.c.id == key[0]).values(**values))
    return int(key[0])


def form_of(conn: Connection, callback_id: int, keys: Keyring, *, lock: bool = False, headers: bool = True) -> Form:
    """A callback's form as it stands, `headers` opened (or left out). Raises MonitorError where it is not there,
    sealing.Unreadable (78) where they cannot be read."""
    query = select(callback).where(callback.c.id == callback_id)
    row = conn.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise _absent([callback_id])
    form = _form(row)
    return form._replace(headers=sealed.open_headers(keys, callback_id, form.headers) if headers else ())


def edit(conn: Connection, callback_id: int, form: Form, destination: str, keys: Keyring) -> None:
    """Give a callback another form (of a row locked by form_of), and send what it is owed at once."""
    headers = sealed.headers_column(sealed.seal_headers(keys, callback_id, form.headers))
    values = {**_columns(form, destination), "headers": headers, "not_before": 0, "modified_at": now_ms(conn)}
    conn.execute(update(callback).where(callback.c.id == callback_id).values(**values))
    outbox.rearm(conn, callback_id)


def rotate_secret(conn: Connection, callback_id: int, secret: str, keys: Keyring, *, drop_old: bool = False) -> bool:
    """Give a callback a new secret, beside which its present one signs for 24 h (unless `drop_old`). At most two sign:
    gives whether one of an earlier rotation still did, and does no more. Raises MonitorError where the callback is not
    there, sealing.Unreadable (78) where its present secret cannot be read."""
    c = callback.c
    query = select(c.secret, c.old_secret, c.old_secret_until).where(c.id == callback_id)
    row = conn.execute(query.with_for_update()).first()
    if row is None:
        raise _absent([callback_id])
    now = now_ms(conn)
    values = {"secret": sealed.seal_secret(keys, callback_id, secret), "modified_at": now}
    if drop_old:
        values |= {"old_secret": None, "old_secret_until": None}
    else:
        present = sealed.open_secret(keys, callback_id, row.secret)
        old = sealed.seal_secret(keys, callback_id, present, sealed.OLD_SECRET)
        values |= {"old_secret": old, "old_secret_until": now + OVERLAP_MS}
    conn.execute(update(callback).where(c.id == callback_id).values(**values))
    return not drop_old and bool(row.old_secret) and (row.old_secret_until or 0) > now


def enable(conn: Connection, ids: Collection[int]) -> None:
    """Switch callbacks on. Raises MonitorError, and changes none, where one is not there."""
    leases.alone(conn, leases.CONCERNED)
    _lock(conn, ids)
    for callback_id in ids:
        outbox.enable(conn, callback_id)


def disable(conn: Connection, ids: Collection[int]) -> None:
    """Switch callbacks off; what they miss is kept for them. Raises as `enable` does."""
    _lock(conn, ids)
    values = {"active": 0, "reason": None, "modified_at": now_ms(conn)}
    conn.execute(update(callback).where(callback.c.id.in_(ids)).values(**values))


def remove(conn: Connection, ids: Collection[int]) -> None:
    """Remove callbacks and what they are owed. Raises as `enable` does."""
    leases.alone(conn, leases.CONCERNED)
    _lock(conn, ids)
    for some in chunks(sorted(ids)):
        conn.execute(delete(callback).where(callback.c.id.in_(some)))
    outbox.forget(conn, ids)


def _lock(conn: Connection, ids: Collection[int]) -> None:
    query = select(callback.c.id).where(callback.c.id.in_(ids)).order_by(callback.c.id).with_for_update()
    if missing := set(ids) - set(conn.execute(query).scalars()):
        raise _absent(sorted(missing))


def _absent(ids: Sequence[int]) -> MonitorError:
    return MonitorError(f"there is no callback {', '.join(map(str, ids[:10]))}", "see: monitor-cli callback list")


def _callbacks() -> Select[Any]:
    # Outer: an account that the platform removed leaves its callbacks here, and they must be seen to be removed.
    joined = callback.outerjoin(account, account.c.id == callback.c.account_id)
    return select(callback, account.c.name.label("account")).select_from(joined)


def _owed(conn: Connection, callback_id: int | None = None) -> dict[int, tuple[int, int]]:
    """By callback: how much is owed, and since when (ms)."""
    query = (
        select(owed.c.callback_id, func.count(), func.min(owed.c.owed_since_at))
        .where(owed.c.wanted > owed.c.told)
        .group_by(owed.c.callback_id)
    )
    if callback_id is not None:
        query = query.where(owed.c.callback_id == callback_id)
    return {row[0]: (row[1], row[2]) for row in conn.execute(query)}


def _read(row: AnyRow, amounts: Mapping[int, tuple[int, int]]) -> Callback:
    amount, since = amounts.get(row.id, (0, None))
    return Callback(row.id, row.account or "", _form(row), row.active == 1, row.reason, amount, since)


def _form(row: AnyRow) -> Form:
    headers = tuple((name, value) for name, value in json.loads(row.headers))
    return Form(row.title, row.name, row.url, row.payload, headers, row.raw_json == 1)


def _columns(form: Form, destination: str) -> dict[str, Any]:
    """What a form writes, but for its headers: they are sealed for one callback."""
    return {
        **form._asdict(),
        "payload": form.payload or None,
        "raw_json": int(form.raw_json),
        "destination": destination,
    }
