"""Names and ids that begin with what somebody has typed so far, for the shell's completion: a few, cheap to find."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, String, cast, select

from monitor_cli.schema import account, callback

AT_MOST = 100
"""So many are given; whoever sees that many types on."""


class Numbered(NamedTuple):
    """A callback: its id, whose it is (None: its account is gone) and what it is called."""

    id: int
    account: str | None
    name: str


def of_accounts(conn: Connection, start: str) -> list[str]:
    """Names of accounts that begin with `start`, in order."""
    query = select(account.c.name).where(account.c.name.startswith(start, autoescape=True))
    return list(conn.execute(query.order_by(account.c.name).limit(AT_MOST)).scalars())


def of_callbacks(conn: Connection, start: str) -> list[Numbered]:
    """Callbacks whose id begins with the digits of `start`, in order."""
    c = callback.c
    joined = callback.outerjoin(account, account.c.id == c.account_id)
    query = select(c.id, account.c.name, c.name).select_from(joined)
    if start:
        query = query.where(cast(c.id, String(20)).startswith(start, autoescape=True))
    return [Numbered(*row) for row in conn.execute(query.order_by(c.id).limit(AT_MOST))]
