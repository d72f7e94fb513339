"""Which columns of a callback are secret, where each is bound to, and writing them anew under another key.

Secret are `secret`, `old_secret` and the values in `headers`; the headers' names are not, so that callbacks can be
listed without a key. Nor are URL and payload: they are shown to people. What is sealed for one place (sealing.Keyring)
is of no use in another, whoever copies it there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select, update

from monitor_cli.db import AnyRow
from monitor_cli.schema import callback
from monitor_cli.sealing import Keyring, Unreadable, is_sealed

Headers = tuple[tuple[str, str], ...]

SECRET, OLD_SECRET = "secret", "old_secret"  # columns, and part of the place that a sealed text is bound to
_SECRETS = (SECRET, OLD_SECRET)
_COLUMNS = (callback.c.id, callback.c.secret, callback.c.old_secret, callback.c.headers)


def seal_row(keys: Keyring, callback_id: int, secret: str, headers: Headers) -> Mapping[str, str]:
    """The secret columns of a new callback."""
    return {
        "secret": seal_secret(keys, callback_id, secret),
        "headers": headers_column(seal_headers(keys, callback_id, headers)),
    }


def seal_secret(keys: Keyring, callback_id: int, secret: str, column: str = SECRET) -> str:
    """A signing secret as its column holds it."""
    return keys.seal(secret, _place(callback_id, column))


def open_secret(keys: Keyring, callback_id: int, stored: str, column: str = SECRET) -> str:
    """A signing secret from its column. Raises sealing.Unreadable (78)."""
    return keys.open(stored, _place(callback_id, column))


def seal_headers(keys: Keyring, callback_id: int, headers: Iterable[tuple[str, str]]) -> Headers:
    """Headers as their column holds them, with their values sealed."""
    return tuple((name, keys.seal(value, _place(callback_id, f"header {name}"))) for name, value in headers)


def open_headers(keys: Keyring, callback_id: int, stored: Iterable[tuple[str, str]]) -> Headers:
    """Headers from their column. Raises sealing.Unreadable (78)."""
    return tuple((name, keys.open(value, _place(callback_id, f"header {name}"))) for name, value in stored)


def open_for_sending(
    keys: Keyring, callback_id: int, secrets: tuple[str, ...], headers: Headers
) -> tuple[tuple[str, ...], Headers]:
    """What a request needs, from what store.claims read: the secrets that sign (the old one second) and the headers.
    Raises sealing.Unreadable (78)."""
    opened = tuple(
        open_secret(keys, callback_id, stored, column) for stored, column in zip(secrets, _SECRETS, strict=False)
    )
    return opened, open_headers(keys, callback_id, headers) if headers else headers


def headers_column(headers: Headers) -> str:
    """Headers as the column's JSON."""
    return json.dumps(headers, ensure_ascii=False)


def any_sealed(secrets: Iterable[str], headers: Headers) -> bool:
    """Whether any of it has to be opened at all."""
    return any(map(is_sealed, secrets)) or (headers != () and any(is_sealed(value) for _, value in headers))


def check(conn: Connection, keys: Keyring) -> None:
    """Raise Unreadable (78) where the keys fit nothing in the table, as far as its first and last row tell: then none
    was given, or a wrong one, and no callback could be called. Two look-ups by the primary key."""
    query = select(callback.c.id, callback.c.secret).limit(1)
    ends = [conn.execute(query.order_by(order)).first() for order in (callback.c.id, callback.c.id.desc())]
    rows = [row for row in ends if row is not None]
    if rows and not any(keys.can_open(row.secret) for row in rows):
        open_secret(keys, rows[0].id, rows[0].secret)


def _place(callback_id: int, what: str) -> str:
    """What a sealed text is bound to. Never to be changed: what is sealed could be read no more."""
    return f"callback {callback_id} {what}"


# --- writing anew -----------------------------------------------------------------------------------------------------


class Batch(NamedTuple):
    """What one batch of `reseal` found: the last id that was looked at (None: there was nothing any more), how many
    callbacks were looked at, and of these how many were written anew, how many of which held something plain, and what
    could not be read, in words."""

    last: int | None
    seen: int = 0
    changed: int = 0
    plain: int = 0
    unreadable: tuple[str, ...] = ()


def count(conn: Connection) -> int:
    """How many callbacks there are."""
    return int(conn.execute(select(func.count()).select_from(callback)).scalar_one())


def reseal(conn: Connection, keys: Keyring, after: int, most: int, *, dry_run: bool = False) -> Batch:
    """Write anew what is plain or under another key than the first, of at most `most` callbacks with ids above
    `after`. What cannot be read stays as it is. A callback counts as edited by nobody: modified_at stays."""
    query = select(*_COLUMNS).where(callback.c.id > after).order_by(callback.c.id).limit(most)
    rows = conn.execute(query if dry_run else query.with_for_update()).all()
    changed = plain = 0
    unreadable = []
    for row in rows:
        try:
            values = _resealed(row, keys)
        except Unreadable as error:
            unreadable.append(error.message)
            continue
        if values:
            changed += 1
            plain += not all(map(is_sealed, _texts(row)))
            if not dry_run:
                conn.execute(update(callback).where(callback.c.id == row.id).values(**values))
    return Batch(rows[-1].id if rows else None, len(rows), changed, plain, tuple(unreadable))


def _texts(row: AnyRow) -> list[str]:
    return [row.secret, *([row.old_secret] if row.old_secret else []), *(value for _, value in json.loads(row.headers))]


def _resealed(row: AnyRow, keys: Keyring) -> Mapping[str, Any]:
    """The columns of a callback that are to be written anew. Everything is opened, so that what cannot be read is
    found."""
    values: dict[str, Any] = {}
    for column in _SECRETS:
        stored = getattr(row, column)
        if stored:
            secret = open_secret(keys, row.id, stored, column)
            if not keys.is_current(stored):
                values[column] = seal_secret(keys, row.id, secret, column)
    stored_headers = tuple((name, value) for name, value in json.loads(row.headers))
    headers = open_headers(keys, row.id, stored_headers)
    if not all(keys.is_current(value) for _, value in stored_headers):
        values["headers"] = headers_column(seal_headers(keys, row.id, headers))
    return values
