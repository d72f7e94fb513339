"""report deliveries: of each account and callback the attempts, how soon changes were told, what failed and is owed."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from monitor_cli.db import Connection
from monitor_cli.reports.figures import percent, percentile, seconds
from monitor_cli.reports.window import Window
from monitor_cli.store import tellings
from monitor_cli.store.tellings import Callback

FIGURES = (
    "attempts",
    "succeeded",
    "success_percent",
    "latency_p50_ms",
    "latency_p95_ms",
    "deliveries",
    "told",
    "failed",
    "told_p50_seconds",
    "told_p95_seconds",
    "owed",
    "owed_since",
)
ACCOUNT_KEYS = ("account", "callbacks", *FIGURES)
CALLBACK_KEYS = ("callback_id", "account", "title", "name", *FIGURES)


class Sums:
    """What is summed up of one callback, or of several. Times are kept as bare numbers, four bytes each."""

    def __init__(self) -> None:
        self.succeeded = self.deliveries = self.told = self.failed = self.owed = 0
        self.owed_since: int | None = None
        self.latencies = array("I")
        self.waits = array("Q")

    def add(self, other: Sums) -> None:
        for name in ("succeeded", "deliveries", "told", "failed", "owed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.owed_since = min((at for at in (self.owed_since, other.owed_since) if at is not None), default=None)
        self.latencies += other.latencies
        self.waits += other.waits

    def shown(self) -> dict[str, Any]:
        """As a report's row has them; owed_since in milliseconds."""
        latencies, waits = self.latencies, self.waits
        return {
            "attempts": len(latencies),
            "succeeded": self.succeeded,
            "success_percent": percent(self.succeeded, len(latencies)),
            "latency_p50_ms": percentile(latencies, 50),
            "latency_p95_ms": percentile(latencies, 95),
            "deliveries": self.deliveries,
            "told": self.told,
            "failed": self.failed,
            "told_p50_seconds": seconds(percentile(waits, 50)),
            "told_p95_seconds": seconds(percentile(waits, 95)),
            "owed": self.owed,
            "owed_since": self.owed_since,
        }


class Tellings(NamedTuple):
    """The sums by callback id, and the callbacks that are there; one that was removed has sums alone."""

    sums: dict[int, Sums]
    callbacks: dict[int, Callback]

    def accounts(self) -> Iterator[dict[str, Any]]:
        """A row for each account, by name; at last one for what removed callbacks were told."""
        by_account: dict[str | None, list[Sums]] = {}
        for callback_id, sums in self.sums.items():
            by_account.setdefault(self._owner(callback_id), []).append(sums)
        for name in sorted(by_account, key=_last_if_none):
            yield {"account": name, "callbacks": len(by_account[name]), **total(by_account[name]).shown()}

    def each(self) -> Iterator[dict[str, Any]]:
        """A row for each callback, by account and id."""
        for callback_id in sorted(self.sums, key=lambda one: (_last_if_none(self._owner(one)), one)):
            one = self.callbacks.get(callback_id)
            head = {
                "callback_id": callback_id,
                "account": self._owner(callback_id),
                "title": one and one.title,
                "name": one and one.name,
            }
            yield {**head, **self.sums[callback_id].shown()}

    def _owner(self, callback_id: int) -> str | None:
        one = self.callbacks.get(callback_id)
        return None if one is None else one.account


def measure(conn: Connection, window: Window, account_id: int | None = None) -> Tellings:
    """Sum up the attempts and deliveries that were begun within the window, of an account or of all; what is owed is
    what is owed now. Callbacks of which there is nothing to say are left out."""
    known = {one.id: one for one in tellings.callbacks(conn, account_id)}
    sums: dict[int, Sums] = {}

    def of(callback_id: int) -> Sums | None:
        if account_id is not None and callback_id not in known:
            return None
        return sums.setdefault(callback_id, Sums())

    for callback_id, duration_ms, status in tellings.attempts(conn, window.since, window.until):
        if one := of(callback_id):
            one.latencies.append(max(0, duration_ms))
            one.succeeded += status is not None and 200 <= status < 300
    for callback_id, state, changed_at, told_at in tellings.deliveries(conn, window.since, window.until):
        if one := of(callback_id):
            _count(one, state, changed_at, told_at)
    for callback_id, owed in tellings.owed_now(conn).items():
        if one := of(callback_id):
            one.owed, one.owed_since = owed
    return Tellings(sums, known)


def total(all_sums: Iterable[Sums]) -> Sums:
    """Several callbacks as one."""
    whole = Sums()
    for one in all_sums:
        whole.add(one)
    return whole


def _count(one: Sums, state: str, changed_at: int | None, told_at: int | None) -> None:
    one.deliveries += 1
    one.failed += state == "failed"
    if told_at is not None:
        one.told += 1
        if changed_at is not None:
            one.waits.append(max(0, told_at - changed_at))


def _last_if_none(name: str | None) -> tuple[bool, str]:
    return name is None, name or ""
