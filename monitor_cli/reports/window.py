"""The window of a report: from and until, in milliseconds since 1970, and the time zone that people read it in.

A month begins at the first moment of its first day in that zone, so its length follows the clock's changes there.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MONTH = re.compile(r"([0-9]{4})-([0-9]{2})")


class Window(NamedTuple):
    """From `since` (included) until `until` (not included), milliseconds since 1970; `zone` is for people alone."""

    since: int
    until: int
    zone: tzinfo = UTC

    @property
    def length(self) -> int:
        return self.until - self.since

    def local(self, at: int) -> datetime:
        """A moment as the clock in the window's zone has it."""
        return datetime.fromtimestamp(at / 1000, self.zone)


def read_zone(name: str) -> tzinfo:
    """A time zone by its IANA name (Asia/Kolkata). Raises ValueError in words for people."""
    if name.upper() in ("UTC", "Z"):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder of zones, or too long
        raise ValueError(f"{name!r} is no time zone (they are named like Asia/Kolkata, Europe/Berlin, UTC)") from None


def month(text: str, zone: tzinfo) -> tuple[int, int]:
    """The first moment of a month (YYYY-MM) and that of the next one. Raises ValueError."""
    found = _MONTH.fullmatch(text)
    if not found or not (1970 <= int(found[1]) < 9999 and 1 <= int(found[2]) <= 12):
        raise ValueError(f"{text!r} is no month (2026-01)")
    first = date(int(found[1]), int(found[2]), 1)
    return midnight(first, zone), midnight((first + timedelta(days=32)).replace(day=1), zone)


def midnight(day: date, zone: tzinfo) -> int:
    """The first moment of a day. Where the clock skips midnight it is the skip; where it has it twice, the first."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)


def days(window: Window) -> list[tuple[int, date]]:
    """Each midnight inside the window, with the day that begins there."""
    day = window.local(window.since).date()
    found: list[tuple[int, date]] = []
    while (at := midnight(day, window.zone)) < window.until:
        if at >= window.since:
            found.append((at, day))
        day += timedelta(days=1)
    return found
