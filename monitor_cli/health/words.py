"""How amounts and times are said, in `status` and `check` alike."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

_NAMED = 5


def span(seconds: float) -> str:
    """How long something is, in its two largest units: 45 s, 12 min, 3 h 20 min, 4 d 2 h."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if hours < 1:
        return f"{minutes} min"
    if days < 1:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{days} d {hours % 24} h" if hours % 24 else f"{days} d"


def many(count: int, one: str, more: str | None = None) -> str:
    """A count with its noun."""
    return f"{count} {one if count == 1 else more or one + 's'}"


def listed(items: Sequence[str], between: str = ", ") -> str:
    """The first few of many, and how many more there are."""
    rest = len(items) - _NAMED
    return between.join(items[:_NAMED]) + (f"{between}and {rest} more" if rest > 0 else "")


def instant(millis: int | None) -> str | None:
    """Milliseconds since 1970 as ISO 8601 in UTC, to the second."""
    if millis is None:
        return None
    return datetime.fromtimestamp(millis // 1000, UTC).isoformat().replace("+00:00", "Z")
