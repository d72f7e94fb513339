"""What is so now, for `status`: servers by region and type, the troubled ones with the history row that tells since
when, whom they concern, and what is owed. A fixed number of statements, however many servers there are.

Text of infi_voice_monitor is told apart byte for byte: an adopted table has a collation of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, case, func, select

from monitor_cli.db import AnyRow
from monitor_cli.dialect import among, exact, exact_text, group_key, group_key_of
from monitor_cli.schema import callback, change, monitor, number, owed, subscription
from monitor_cli.store.channels import IN_LIST
from monitor_cli.types import Region, Type

_BLOCK = 1000


class Count(NamedTuple):
    """How many servers of a region have a type (None: NULL or no word of ours)."""

    region: Region
    type: Type | None
    servers: int


class Reach(NamedTuple):
    """Whom trouble concerns: numbers, and the accounts that have them."""

    numbers: int
    accounts: int


class Owed(NamedTuple):
    """What callbacks are owed: how many of them, how many channels in regions, since when (ms; None: nothing is)."""

    callbacks: int
    units: int
    since_at: int | None


class Waiting(NamedTuple):
    """Servers whose change nobody is owed yet: how many, and since when (ms; None: there is none, or nobody knows)."""

    servers: int
    since_at: int | None


class Callbacks(NamedTuple):
    """How many callbacks are active, inactive (a person did it), off (we did), and active but failing."""

    active: int
    inactive: int
    off: int
    failing: int


def counts(conn: Connection) -> list[Count]:
    """The servers of each region by type."""
    columns = (
        exact(conn, monitor.c.region).label("exact_region"),
        exact(conn, monitor.c.region_code).label("exact_code"),
        exact(conn, monitor.c.final_status).label("exact_final"),
    )
    query = select(*columns, func.count()).select_from(monitor).group_by("exact_region", "exact_code", "exact_final")
    return [
        Count(Region(exact_text(region), exact_text(code)), Type.read(exact_text(final)), servers)
        for region, code, final, servers in conn.execute(query)
    ]


_NEWEST = select(func.max(change.c.id)).where(change.c.monitor_id == monitor.c.id).correlate(monitor).scalar_subquery()
_SERVERS = (
    select(
        monitor.c.id,
        monitor.c.server_id,
        monitor.c.name,
        monitor.c.server_tag,
        monitor.c.channel_id,
        monitor.c.region,
        monitor.c.region_code,
        monitor.c.incident_status,
        monitor.c.final_status,
        monitor.c.modified,
        change.c.id.label("change_id"),
        change.c.to_type,
        change.c.source,
        change.c.incident_title,
        change.c.incident_link,
        change.c.created_at,
    )
    .select_from(monitor.outerjoin(change, change.c.id == _NEWEST))
    .execution_options(yield_per=_BLOCK)
)


def servers(conn: Connection, *, every: bool = False) -> Iterator[AnyRow]:
    """The servers that are not operational, or every one, each with its newest history row; in no order. Read in
    blocks."""
    return iter(conn.execute(_SERVERS if every else _SERVERS.where(~_is(Type.OPERATIONAL))))


def reach_of_regions(conn: Connection, regions: Collection[Region]) -> dict[Region, Reach]:
    """Whom the warning and critical servers of each of these regions concern; a number on several of its channels'
    servers counts once."""
    units = (
        select(monitor.c.channel_id, group_key(conn, monitor.c.region, monitor.c.region_code).label("place"))
        .where(_is(Type.WARNING) | _is(Type.CRITICAL))
        .distinct()
        .subquery()
    )
    # By account first: counting different accounts of all numbers at once takes five times as long.
    of_account = (
        select(units.c.place, number.c.account_id, func.count().label("numbers"))
        .select_from(units.join(number, number.c.channel_id == units.c.channel_id))
        .group_by(units.c.place, number.c.account_id)
        .subquery()
    )
    query = select(of_account.c.place, func.sum(of_account.c.numbers), func.count()).group_by(of_account.c.place)
    places = {group_key_of(conn, *region): region for region in regions}
    return {
        places[place]: Reach(int(numbers), accounts)
        for place, numbers, accounts in conn.execute(query)
        if place in places
    }


def reach_of_channels(conn: Connection, channel_ids: Collection[int]) -> dict[int, Reach]:
    """Who has numbers on these channels; one statement, over all channels where these are many."""
    query = select(number.c.channel_id, func.count(), func.count(number.c.account_id.distinct())).group_by(
        number.c.channel_id
    )
    wanted = set(channel_ids)
    if len(wanted) <= IN_LIST:
        query = query.where(among(number.c.channel_id, sorted(wanted)))
    return {channel: Reach(*found) for channel, *found in conn.execute(query) if channel in wanted} if wanted else {}


def waiting(conn: Connection) -> Waiting:
    """The flagged servers. Since when says their oldest history row that is not planned yet, and of those that another
    program flagged, which have none, their `modified`."""
    recorded = select(change.c.monitor_id).where(change.c.planned == 0)
    by_hand = case((monitor.c.id.not_in(recorded) & (monitor.c.modified > 0), monitor.c.modified))
    flagged = monitor.c.status_report == 1
    servers_, modified = conn.execute(select(func.count(), func.min(by_hand)).where(flagged)).one()
    its_own = change.join(monitor, monitor.c.id == change.c.monitor_id)
    oldest = select(func.min(change.c.created_at)).select_from(its_own).where(change.c.planned == 0, flagged)
    unplanned = conn.execute(oldest).scalar_one()
    since = [at for at in (None if modified is None else modified * 1000, unplanned) if at is not None]
    return Waiting(servers_, min(since, default=None) if servers_ else None)


def owed_now(conn: Connection) -> tuple[Owed, Owed]:
    """What is owed to callbacks that are told, and what is kept for those that are not active or not subscribed."""
    told = sendable()
    query = (
        select(
            told.label("told"), func.count(owed.c.callback_id.distinct()), func.count(), func.min(owed.c.owed_since_at)
        )
        .select_from(owed.join(callback, callback.c.id == owed.c.callback_id).outerjoin(subscription, owner()))
        .where(owed.c.wanted > owed.c.told)
        .group_by(told)
    )
    found = {bool(told_): Owed(*amounts) for told_, *amounts in conn.execute(query)}
    nothing = Owed(0, 0, None)
    return found.get(True, nothing), found.get(False, nothing)


def callbacks(conn: Connection, failing_before: int | None = None) -> Callbacks:
    """How many callbacks there are. Those that fail are counted where they are told, and have been failing since before
    `failing_before` (ms; None: whenever)."""
    since = callback.c.failing_since
    failing = since.is_not(None) if failing_before is None else since <= failing_before
    off = (callback.c.active != 1) & callback.c.reason.is_not(None)
    query = select(
        func.count(),
        func.coalesce(func.sum(case((callback.c.active == 1, 1), else_=0)), 0),
        func.coalesce(func.sum(case((off, 1), else_=0)), 0),
        func.coalesce(func.sum(case((failing & (sendable() == 1), 1), else_=0)), 0),
    ).select_from(callback.outerjoin(subscription, owner()))
    total, active, off_, failing_ = map(int, conn.execute(query).one())
    return Callbacks(active, total - active - off_, off_, failing_)


def off_and_subscribed(conn: Connection) -> int:
    """How many callbacks we switched off whose accounts are subscribed."""
    off = (callback.c.active != 1, callback.c.reason.is_not(None), subscription.c.active == 1)
    return int(
        conn.execute(select(func.count()).select_from(callback.join(subscription, owner())).where(*off)).scalar_one()
    )


def owner() -> ColumnElement[bool]:
    """Joins a callback with its account's subscription."""
    return subscription.c.account_id == callback.c.account_id


def sendable() -> ColumnElement[int]:
    """1 for a callback that is active and whose account is subscribed, 0 for others."""
    return case(((callback.c.active == 1) & (subscription.c.active == 1), 1), else_=0)


def _is(kind: Type) -> ColumnElement[bool]:
    """A hint, by the store's own rules for text; who reads the rows judges their types once more."""
    word: Any = func.lower(func.trim(func.coalesce(monitor.c.final_status, "")))
    return word == kind.word  # type: ignore[no-any-return]
