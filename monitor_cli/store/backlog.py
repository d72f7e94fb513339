"""What `check` asks of the database beyond `status`: deliveries that wait for us, conditions that last, a cluster."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, and_, case, func, literal, or_, select, text

from monitor_cli.dialect import greatest, is_mysql, now_ms
from monitor_cli.schema import callback, condition, delivery, subscription
from monitor_cli.store import overview
from monitor_cli.store.overview import owner, sendable


class Overdue(NamedTuple):
    """Deliveries that are due and not made: how many, and since when (ms; None: there is none)."""

    deliveries: int
    since_at: int | None


class Condition(NamedTuple):
    """What incident-sync reported once and what lasts (store.reports); `owner`: the source it was reported for, '' for
    what concerns several. `since_at` in ms."""

    owner: str
    kind: str
    subject: str
    since_at: int


class Backlog(NamedTuple):
    """What waits for callback-run, and for how many seconds the oldest of it has (0: nothing does)."""

    changed_servers: int
    deliveries: int
    age_seconds: float


def waiting_for_us(conn: Connection) -> Backlog:
    """Changes that are not planned and deliveries that are not made. What waits for a customer, or is kept for one that
    may not be told, does not count."""
    waiting, due, now = overview.waiting(conn), overdue(conn), now_ms(conn)
    since = min((at for at in (waiting.since_at, due.since_at) if at is not None), default=now)
    return Backlog(waiting.servers, due.deliveries, max(0.0, (now - since) / 1000))


def overdue(conn: Connection) -> Overdue:
    """Deliveries to callbacks that are told which wait for a callback-run: due, or put off again and again for a fault
    of ours without an attempt. One that waits for its next try by the schedule or a Retry-After does not count."""
    now = now_ms(conn)
    due = delivery.c.due_at <= now
    # content_at: when what is to be sent was built; a person who edits or enables the callback begins anew.
    put_off = and_(delivery.c.attempts == 0, delivery.c.content_at.is_not(None), delivery.c.not_before <= now)
    since = case((due, delivery.c.due_at), else_=greatest(conn, delivery.c.content_at, callback.c.modified_at))
    joined = delivery.join(callback, callback.c.id == delivery.c.callback_id).join(subscription, owner())
    query = (
        select(func.count(), func.min(since))
        .select_from(joined)
        .where(delivery.c.due_at.is_not(None), sendable() == literal(1), or_(due, put_off))
    )
    return Overdue(*conn.execute(query).one())


def conditions(conn: Connection) -> list[Condition]:
    """All that last, the oldest first."""
    query = select(condition.c.source, condition.c.kind, condition.c.subject, condition.c.since_at)
    return [Condition(*row) for row in conn.execute(query.order_by(condition.c.since_at, condition.c.subject))]


def cluster_addresses(conn: Connection) -> list[str]:
    """host:port of each node of the Galera cluster that the database is; none where it is no cluster."""
    if not is_mysql(conn):
        return []
    found = conn.execute(text("SHOW GLOBAL STATUS LIKE 'wsrep_incoming_addresses'")).first()
    return [one.strip() for one in str(found[1]).split(",") if one.strip()] if found else []


def server_identity(conn: Connection) -> str:
    """Which server answers, so that one is not compared with itself."""
    return str(conn.execute(text("SELECT CONCAT_WS(' ', @@hostname, @@port, @@datadir)")).scalar_one())
