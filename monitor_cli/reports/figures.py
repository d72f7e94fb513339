"""Figures as people and programs read them: shares that never round up to all, spans, percentiles."""

from __future__ import annotations

import math
from collections.abc import Sequence

_PARTS = 10**6


def percent(part: float, whole: float) -> float | None:
    """A share in percent with six decimals, cut and not rounded: 100 means all of it. None of nothing."""
    return math.floor(part * 100 * _PARTS / whole) / _PARTS if whole else None


def seconds(millis: float | None) -> float | None:
    """Milliseconds as seconds, to the millisecond."""
    return None if millis is None else round(millis / 1000, 3)


def percentile(values: Sequence[int], share: int) -> int | None:
    """The least of the sorted values that `share` percent of them do not pass (nearest rank). None of none."""
    return values[max(0, math.ceil(len(values) * share / 100) - 1)] if values else None


def shown_percent(share: float | None) -> str:
    """A share for a table, three decimals, cut."""
    return "–" if share is None else f"{math.floor(share * 1000) / 1000:.3f} %"


def span(secs: float | None) -> str:
    """Seconds for people: 0.4 s, 12 s, 3 min 05 s, 2 h 10 min, 4 d 03 h."""
    if secs is None:
        return "–"
    if secs < 10 and secs != int(secs):
        return f"{math.ceil(secs * 10) / 10:.1f} s"
    whole = round(secs)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(secs / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = round(secs / 3600)
    return f"{hours // 24} d {hours % 24:02} h"
