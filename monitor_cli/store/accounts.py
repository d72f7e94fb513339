"""Accounts, their subscriptions and API keys, as people edit them. Numbers: numbers.py.

On a platform these may be views over its own tables, with collations of its own: a name is compared in Python as well,
and what would write to a view is refused.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, Table, delete, func, insert, inspect, select, update

from monitor_cli.dialect import upsert
from monitor_cli.errors import MonitorError
from monitor_cli.schema import account, callback, number, subscription
from monitor_cli.store import leases, outbox
from monitor_cli.store.channels import chunks
from monitor_cli.store.values import line, secret

_BATCH = 1000
_SUGGESTED_FROM = 5000  # names looked through for the nearest one

read_name = line(190)
"""Reads an account's name (values.py)."""
read_key = secret(200)
"""Reads an API key."""


class Account(NamedTuple):
    """An account; `subscribed`: whether its Health Check plugin is active."""

    id: int
    name: str
    subscribed: bool


class Belongings(NamedTuple):
    """What goes with an account when it is removed."""

    numbers: int
    callbacks: int


def refuse_views(conn: Connection, *tables: Table) -> None:
    """Raise MonitorError where one of these is a view: its rows are the platform's to change."""
    views = set(inspect(conn).get_view_names())
    if found := [table.name for table in tables if table.name in views]:
        raise MonitorError(
            f"{', '.join(found)} {'is a view' if len(found) == 1 else 'are views'} over the platform's own tables, "
            "and monitor-cli does not write to a view",
            "change it in the platform: the next run reads it through the view (docs/database.md)",
        )


def listed(conn: Connection) -> Iterator[Account]:
    """The accounts, by name; read in blocks."""
    query = _accounts().order_by(account.c.name, account.c.id)
    for row in conn.execute(query.execution_options(yield_per=_BATCH)):
        yield Account(row.id, row.name, bool(row.active))


def find(conn: Connection, name: str) -> Account:
    """The account of this name, byte for byte. Raises MonitorError with the nearest name where there is none."""
    if (found := find_all(conn, [name]).get(name)) is not None:
        return found
    known = conn.execute(select(account.c.name).limit(_SUGGESTED_FROM)).scalars()
    near = difflib.get_close_matches(name, list(known), 1)
    raise MonitorError(
        f"no account named {name!r}", f"did you mean {near[0]!r}?" if near else "see: monitor-cli account list"
    )


def find_all(conn: Connection, names: Collection[str]) -> dict[str, Account]:
    """The accounts of these names; a name that none has is not in it."""
    wanted = {name for name in names if _is_text(name)}
    return {
        row.name: Account(row.id, row.name, bool(row.active))
        for some in chunks(sorted(wanted))
        for row in conn.execute(_accounts().where(account.c.name.in_(some)))
        if row.name in wanted
    }


def add(conn: Connection, name: str, api_key: str, *, subscribed: bool) -> int:
    """Add an account; only the key's digest is kept. Gives its id. Raises MonitorError where the name or the key is
    another account's."""
    refuse_views(conn, account, subscription)
    if name in find_all(conn, [name]):
        raise MonitorError(f"there is already an account named {name!r}", "see: monitor-cli account show")
    digest = _free_digest(conn, api_key)
    key = conn.execute(insert(account).values(name=name, api_key_sha256=digest)).inserted_primary_key
    assert key is not None
    conn.execute(insert(subscription).values(account_id=key[0], active=int(subscribed)))
    return int(key[0])


def rotate_key(conn: Connection, name: str, api_key: str) -> Account:
    """Give an account another key; the old one is worth nothing from then on."""
    refuse_views(conn, account)
    found = find(conn, name)
    digest = _free_digest(conn, api_key)
    conn.execute(update(account).where(account.c.id == found.id).values(api_key_sha256=digest))
    return found


def subscribe(conn: Connection, name: str) -> None:
    """Subscribe an account's plugin and owe it what differs from what it was told last."""
    refuse_views(conn, subscription)
    found = find(conn, name)
    if not found.subscribed:
        _set_active(conn, found.id, 1)
        outbox.subscribed(conn, found.id)


def unsubscribe(conn: Connection, name: str) -> None:
    """From then on an account is told nothing, and the incident API says E542 to it."""
    refuse_views(conn, subscription)
    found = find(conn, name)
    if found.subscribed:
        _set_active(conn, found.id, 0)


def belongings(conn: Connection, name: str) -> Belongings:
    """How much goes with an account. Raises as `remove` does."""
    refuse_views(conn, account, subscription, number)
    account_id = find(conn, name).id
    numbers = select(func.count()).select_from(number).where(number.c.account_id == account_id)
    callbacks = select(func.count()).select_from(callback).where(callback.c.account_id == account_id)
    return Belongings(conn.execute(numbers).scalar_one(), conn.execute(callbacks).scalar_one())


def remove(conn: Connection, name: str) -> None:
    """Remove an account, its numbers, subscription and callbacks, and what they were owed."""
    refuse_views(conn, account, subscription, number)
    found = find(conn, name)
    leases.alone(conn, leases.CONCERNED)
    ids = conn.execute(select(callback.c.id).where(callback.c.account_id == found.id).with_for_update()).scalars().all()
    conn.execute(delete(callback).where(callback.c.account_id == found.id))
    outbox.forget(conn, ids)
    for table, column in ((number, number.c.account_id), (subscription, subscription.c.account_id)):
        conn.execute(delete(table).where(column == found.id))
    conn.execute(delete(account).where(account.c.id == found.id))


def _accounts() -> Select[Any]:
    joined = account.outerjoin(subscription, subscription.c.account_id == account.c.id)
    return select(account.c.id, account.c.name, subscription.c.active).select_from(joined)


def _set_active(conn: Connection, account_id: int, active: int) -> None:
    statement = upsert(conn, subscription, ["account_id"], lambda new, _old: {"active": new.active})
    conn.execute(statement, [{"account_id": account_id, "active": active}])


def _free_digest(conn: Connection, api_key: str) -> str:
    digest = hashlib.sha256(api_key.encode()).hexdigest()
    if conn.execute(select(account.c.id).where(account.c.api_key_sha256 == digest)).first():
        raise MonitorError("another account has this API key", "each account needs a key of its own")
    return digest


def _is_text(name: str) -> bool:
    """False for what came from a command line in bytes that are not UTF-8: no driver takes it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
