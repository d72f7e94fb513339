"""Whom a period concerned, and how soon they were told: the numbers on its channels now, their customers' callbacks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from monitor_cli.db import Connection
from monitor_cli.reports.figures import percentile
from monitor_cli.reports.totals import Period
from monitor_cli.reports.window import Window
from monitor_cli.store import tellings


class Concerned(NamedTuple):
    """Numbers and customers on a period's channels, and the customers' callbacks; how many of those were told of a
    change within it, and how long after that change (milliseconds): the median, and the slowest."""

    numbers: int
    accounts: int
    callbacks: int
    told: int
    told_p50: int | None
    told_max: int | None


class _Open:
    """A period while the tellings go by."""

    def __init__(self, period: Period, channels: frozenset[int]) -> None:
        self.period, self.channels = period, channels
        self.waits: dict[int, int] = {}  # by callback


def concerned(
    conn: Connection,
    window: Window,
    periods: Sequence[Period],
    channel_of: Sequence[int],
    account_id: int | None = None,
) -> list[Concerned]:
    """Of each of these periods. `channel_of` has each server's channel by its slot."""
    opened = [_Open(period, frozenset(channel_of[slot] for slot in period.slots)) for period in periods]
    everywhere = frozenset[int]().union(*(one.channels for one in opened))
    held: dict[int, dict[int, int]] = {}
    channels_of: dict[int, set[int]] = {}
    for channel, account, numbers in tellings.holders(conn, everywhere, account_id):
        held.setdefault(channel, {})[account] = numbers
        channels_of.setdefault(account, set()).add(channel)
    active = tellings.subscribed(conn)
    owners: dict[int, int] = {}
    created: dict[int, list[int]] = {}
    for one in tellings.callbacks(conn, account_id):
        if one.account_id in active and one.account_id in channels_of:
            owners[one.id] = one.account_id
            created.setdefault(one.account_id, []).append(one.created_at)
    if owners:
        _tell(opened, tellings.told(conn, window.since, window.until), owners, channels_of)
    return [_counted(one, held, created) for one in opened]


def _tell(
    opened: Iterable[_Open],
    tellings_: Iterable[tuple[int, int, int]],
    owners: dict[int, int],
    channels_of: dict[int, set[int]],
) -> None:
    """Give each telling to the periods that its change was made in, where they concern its account."""
    waiting = sorted(opened, key=lambda one: one.period.began, reverse=True)
    going: list[_Open] = []
    for callback, changed_at, told_at in tellings_:
        if (owner := owners.get(callback)) is None:
            continue
        while waiting and waiting[-1].period.began <= changed_at:
            going.append(waiting.pop())
        if any(one.period.ended < changed_at for one in going):
            going = [one for one in going if one.period.ended >= changed_at]
        mine = channels_of[owner]
        for one in going:
            if callback not in one.waits and not mine.isdisjoint(one.channels):
                one.waits[callback] = max(0, told_at - changed_at)


def _counted(one: _Open, held: dict[int, dict[int, int]], created: dict[int, list[int]]) -> Concerned:
    here = [held[channel] for channel in one.channels if channel in held]
    accounts = set[int]().union(*here)
    callbacks = sum(at < one.period.ended for account in accounts for at in created.get(account, ()))
    waits = sorted(one.waits.values())
    return Concerned(
        sum(sum(holders.values()) for holders in here),
        len(accounts),
        max(callbacks, len(waits)),
        len(waits),
        percentile(waits, 50),
        waits[-1] if waits else None,
    )
