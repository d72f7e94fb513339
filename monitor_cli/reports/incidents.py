"""report incidents: each time in which a region, or a server, was not operational, whom it concerned, who was told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from monitor_cli.db import Connection
from monitor_cli.reports.concerned import concerned
from monitor_cli.reports.figures import seconds
from monitor_cli.reports.history import Past
from monitor_cli.reports.totals import Period
from monitor_cli.reports.window import Window
from monitor_cli.types import Region, Type

_KEYS = (
    "region",
    "region_code",
    "from",
    "to",
    "began_before",
    "open",
    "duration_seconds",
    "worst",
    "servers",
    "numbers",
    "accounts",
    "callbacks",
    "told",
    "told_p50_seconds",
    "told_max_seconds",
    "reasons",
)
REGION_KEYS = _KEYS
SERVER_KEYS = ("id", "server_id", "name", "channel_id", *_KEYS)
REASON_KEYS = ("source", "word", "title", "link")


def periods(past: Past) -> list[Period]:
    """What the history has of them, the first one first."""
    return sorted(past.periods(), key=lambda period: (period.began, period.ended, period.subject))


def listed(
    conn: Connection, window: Window, past: Past, found: Sequence[Period], account_id: int | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of these periods, in their order; times in milliseconds, `to` None where it is open."""
    channel_of = [subject.channel_id for subject in past.subjects]
    names = {number: region for region, number in past.sweep.region_numbers()}
    for period, whom in zip(found, concerned(conn, window, found, channel_of, account_id), strict=True):
        yield {
            **_subject(past, period, names),
            "from": period.began,
            "to": None if period.open else period.ended,
            "began_before": period.began_before,
            "open": period.open,
            "duration_seconds": seconds(period.ended - period.began),
            "worst": Type(period.worst).word,
            "servers": len(period.slots),
            "numbers": whom.numbers,
            "accounts": whom.accounts,
            "callbacks": whom.callbacks,
            "told": whom.told,
            "told_p50_seconds": seconds(whom.told_p50),
            "told_max_seconds": seconds(whom.told_max),
            "reasons": [
                dict(zip(REASON_KEYS, (text or None for text in said), strict=True)) for said in period.reasons
            ],
        }


def _subject(past: Past, period: Period, names: dict[int, Region]) -> dict[str, Any]:
    if past.noting == "region":
        return names[period.subject]._asdict()
    server = past.subjects[period.subject]._asdict()
    del server["removed"]
    return {**server, **names[past.sweep.region_of(period.subject)]._asdict()}
