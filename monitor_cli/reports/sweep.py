"""The sweep: events in the order of time become the sums of servers and of regions.

A region's type is the worst of its servers at each moment. What happens within one millisecond happens at once: there
is no moment between the rows of one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from monitor_cli.reports.totals import GONE, UNKNOWN, Totals
from monitor_cli.reports.window import Window
from monitor_cli.types import Region

FIRST, CHANGE, LAST = 0, 1, 2
"""Where an event stands among those of its millisecond: a beginning, a row of the history, an end."""

Event = tuple[int, int, int, int, int, int, Any]
"""at (milliseconds), FIRST … LAST, a number that orders the rest, server, type (or UNKNOWN, GONE), region, reason."""

_SIZE = 4  # counts of a region's servers: operational, warning, critical, unknown


class Sweep:
    """One sweep through a window. `cells`: of each region's picture; `noting`: which subjects' periods are kept."""

    def __init__(self, window: Window, *, cells: int = 0, noting: str = "") -> None:
        self.servers = Totals(window.since, window.until, noting=noting == "server")
        self.regions = Totals(window.since, window.until, cells=cells, noting=noting == "region")
        self._noting = bool(noting)
        self._region_of: list[int] = []
        self._numbers: dict[Region, int] = {}
        self._counts: list[list[int]] = []
        self._at = window.since
        self._pending: dict[int, tuple[int, int, Any]] = {}

    def server(self) -> int:
        """One server more, not there yet; gives its number."""
        self._region_of.append(-1)
        return self.servers.add()

    def region(self, region: Region) -> int:
        """The number of a region."""
        number = self._numbers.get(region)
        if number is None:
            number = self._numbers[region] = self.regions.add()
            self._counts.append([0] * _SIZE)
        return number

    def region_numbers(self) -> Iterator[tuple[Region, int]]:
        """The regions, sorted."""
        return iter(sorted(self._numbers.items()))

    def region_of(self, slot: int) -> int:
        """The region that a server was in last; -1 for one that never was."""
        return self._region_of[slot]

    def feed(self, events: Iterable[Event]) -> None:
        """What happened, in the order of time."""
        pending, now = self._pending, self._at
        for at, _, _, slot, kind, region, reason in events:
            if at != now:
                if pending:
                    self._apply(now)
                now = at
            pending[slot] = (kind, region, reason)
        self._at = now

    def close(self) -> None:
        """The window ends."""
        self._apply(self._at)
        self.servers.close()
        self.regions.close()

    def _apply(self, at: int) -> None:
        """What the servers are from this millisecond on."""
        kinds, counts, region_of, move = self.servers.kind, self._counts, self._region_of, self.servers.move
        touched = []
        for slot, (kind, region, _) in self._pending.items():
            was, left = kinds[slot], region_of[slot]
            if was != GONE:
                counts[left][was] -= 1
                touched.append(left)
            if kind != GONE:
                counts[region][kind] += 1
                if left != region:
                    touched.append(region)
                    region_of[slot] = region
                elif was == GONE:
                    touched.append(region)
            move(slot, at, kind)
        for region in touched if len(touched) < 3 else set(touched):
            if (worst := _worst(counts[region])) != self.regions.kind[region]:
                self.regions.move(region, at, worst)
        if self._noting:
            self._note()
        self._pending.clear()

    def _note(self) -> None:
        for slot, (kind, region, reason) in self._pending.items():
            if kind > 0:
                self.servers.note(slot, slot, reason)
                self.regions.note(region, slot, reason)


def _worst(counts: list[int]) -> int:
    operational, warning, critical, unknown = counts
    return 2 if critical else 1 if warning else 0 if operational else UNKNOWN if unknown else GONE
