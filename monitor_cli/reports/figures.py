"""Figures as people and programs read them: shares that never round up to all, percentiles."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence

_PARTS = 10**6
_FEW = 10_000  # values are counted one by one


def percent(part: float, whole: float) -> float | None:
    """A share in percent with six decimals, cut and not rounded: 100 means all of it. None of nothing."""
    return math.floor(part * 100 * _PARTS / whole) / _PARTS if whole else None


def seconds(millis: float | None) -> float | None:
    """Milliseconds as seconds, to the millisecond."""
    return None if millis is None else round(millis / 1000, 3)


def percentile(values: Sequence[int], share: int) -> int | None:
    """The least of the values, from 0 on and in any order, that `share` percent of them do not pass (nearest rank).
    None of none. An array's million takes little memory more: sorted, it would be 40 MB."""
    if not values:
        return None
    rank, low = max(0, math.ceil(len(values) * share / 100) - 1), 0
    while True:
        # In about a thousand steps of equal width, then within the one that has it.
        shift = max(0, max(values).bit_length() - 10) if len(values) > _FEW else 0
        counts = Counter(value >> shift for value in values)
        for step in sorted(counts):
            if rank < counts[step]:
                break
            rank -= counts[step]
        low += step << shift
        if not shift:
            return low
        values = array("Q", (value - (step << shift) for value in values if value >> shift == step))


def shown_percent(share: float | None) -> str:
    """A share for a table, three decimals, cut."""
    return "–" if share is None else f"{math.floor(share * 1000) / 1000:.3f} %"
