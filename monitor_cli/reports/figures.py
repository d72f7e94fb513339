"""Figures as people and programs read them: shares that never round up to all, percentiles."""

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
