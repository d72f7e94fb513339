"""A lease by name: who may do a work of which only one at a time is wanted. By the database's clock, compare-and-set.

A lease whose holder died ends by itself. A holder that wakes up late finds its token gone, and must write nothing.
"""

from __future__ import annotations

import os
import secrets
import socket

from sqlalchemy import ColumnElement, Connection, and_, case, select, update

from monitor_cli.dialect import is_mysql, now_sql, upsert
from monitor_cli.schema import lease

CONCERNED = "planning"
"""For `alone`: a plan, and whoever changes whom a plan concerns (enabling, subscribing, removing, replaying). A plan
reads callbacks and subscriptions without a lock: without turns, what is planned while somebody is being enabled or
subscribed is seen by neither side."""


def holder() -> str:
    """This process, as people find it again: its host and its id."""
    return f"{socket.gethostname()} {os.getpid()}"


def is_held(conn: Connection, name: str) -> bool:
    """Whether somebody has it now; without a lock, so it is a hint."""
    held = select(lease.c.name).where(lease.c.name == name, lease.c.lease_until > now_sql(conn))
    return conn.execute(held).first() is not None


def take(conn: Connection, name: str, owner: str, length_ms: int) -> str | None:
    """Take it for `length_ms`; gives the token, None where somebody has it or is just taking it."""
    if _locked_by_another(conn, name):
        return None
    now, token = now_sql(conn), secrets.token_hex(16)
    new = {"name": name, "token": token, "owner": owner[:100], "lease_until": now + length_ms}
    free = lease.c.lease_until <= now
    statement = upsert(
        conn,
        lease,
        ["name"],
        lambda new, old: {  # lease_until last: MySQL sees the columns that were set before
            "token": case((free, new.token), else_=old.c.token),
            "owner": case((free, new.owner), else_=old.c.owner),
            "lease_until": case((free, new.lease_until), else_=old.c.lease_until),
        },
    )
    conn.execute(statement.values(new))
    return token if conn.execute(select(lease.c.name).where(_ours(name, token))).first() else None


def renew(conn: Connection, name: str, token: str, length_ms: int) -> bool:
    """Hold it for `length_ms` from now; False where another has taken it. Nobody can take it before this transaction
    ends."""
    values = {"lease_until": now_sql(conn) + length_ms}
    return conn.execute(update(lease).where(_ours(name, token)).values(values)).rowcount == 1


def release(conn: Connection, name: str, token: str) -> None:
    """Give it back, if it is still ours."""
    conn.execute(update(lease).where(_ours(name, token)).values(lease_until=0))


def alone(conn: Connection, name: str) -> None:
    """Take turns, to the end of the transaction, with every other one that does: what the one before wrote is seen by
    each statement from here on. On one server the row's lock sees to it. A Galera cluster's locks are each node's own:
    there whoever commits second is refused and starts again, because this changes the row."""
    if not is_mysql(conn):
        return  # SQLite has one writer at a time
    row = {"name": name, "token": secrets.token_hex(16), "owner": "", "lease_until": 0}
    conn.execute(upsert(conn, lease, ["name"], lambda new, _old: {"token": new.token}).values(row))


def _ours(name: str, token: str) -> ColumnElement[bool]:
    return and_(lease.c.name == name, lease.c.token == token)


def _locked_by_another(conn: Connection, name: str) -> bool:
    """Whether a transaction holds the row: its owner is writing, maybe for longer than the lease. (SQLite has no row
    locks; there a writer waits for the other's end.)"""
    row = select(lease.c.name).where(lease.c.name == name)
    free = conn.execute(row.with_for_update(skip_locked=True)).first()
    return free is None and conn.execute(row).first() is not None
