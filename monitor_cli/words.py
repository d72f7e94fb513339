"""How amounts and times are said, in messages, tables and JSON alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

NAMED = 5


def many(count: int, one: str, more: str | None = None) -> str:
    """A count with its noun."""
    return f"{count} {one if count == 1 else more or one + 's'}"


def listed(items: Sequence[str], most: int = NAMED, between: str = ", ") -> str:
    """The first few of many, and how many more there are."""
    rest = len(items) - most
    return between.join(items[:most]) + (f" and {rest} more" if rest > 0 else "")


def iso(millis: int | None, timespec: str = "milliseconds") -> str | None:
    """Milliseconds since 1970 as ISO 8601 in UTC. `timespec`: as datetime.isoformat has it; finer is cut off."""
    if millis is None:
        return None
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def elapsed(seconds: float) -> str:
    """For how long something has been so, in its two largest units, cut: 45 s, 12 min, 3 h 20 min, 4 d 2 h."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if hours < 1:
        return f"{minutes} min"
    if days < 1:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{days} d {hours % 24} h" if hours % 24 else f"{days} d"


def span(seconds: float | None) -> str:
    """How long something took, measured and rounded, for a column: 0.4 s, 12 s, 3 min 05 s, 2 h 10 min, 4 d 03 h."""
    if seconds is None:
        return "–"
    if seconds < 10 and seconds != int(seconds):
        return f"{math.ceil(seconds * 10) / 10:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02} h"
