"""What a number of subjects (servers, or regions) were from moment to moment, summed up while time goes on.

All is kept in arrays of numbers: a report over a million changes has as much memory as it has servers.
"""

from __future__ import annotations

from array import array
from typing import Any, NamedTuple

UNKNOWN, GONE = -1, -2
"""What a subject is beside the values of Type: its type is not known; it is not there (yet, or any more)."""

REASONS = 8  # kept of one period: what sources said of it


class Figures(NamedTuple):
    """A subject's time in each type and its incidents within the window, in milliseconds. `mttr` is the mean of those
    incidents that ended there by becoming operational; None where none did. `open`: one lasts at the window's end."""

    operational: int
    warning: int
    critical: int
    unknown: int
    incidents: int
    mttr: float | None
    longest: int
    open: bool

    @property
    def known(self) -> int:
        return self.operational + self.warning + self.critical


class Period(NamedTuple):
    """A time in which a subject was not operational, cut to the window. `began_before`: it was so when the window
    began; `open`: it was so when the window ended. `slots` are the servers that were not operational in it, `reasons`
    what their sources said."""

    subject: int
    began: int
    ended: int
    worst: int
    began_before: bool
    open: bool
    slots: frozenset[int]
    reasons: tuple[Any, ...]


class Totals:
    """Sums for subjects numbered from 0. `cells` > 0 keeps a picture of each as well: the worst in each of so many
    equal parts of the window (0: nothing known, else 1 + type). `noting` keeps each period, to be taken."""

    def __init__(self, since: int, until: int, *, cells: int = 0, noting: bool = False) -> None:
        self._since, self._until, self._cells = since, until, cells
        self.kind = array("b")
        self._at, self._began, self._longest, self._mended_ms = (array("q") for _ in range(4))
        self._incidents, self._mended = array("q"), array("q")
        self._worst = array("b")
        self._spent = tuple(array("q") for _ in range(4))  # by type; -1, the last one, is UNKNOWN
        self._pictures: list[bytearray] = []
        self._slots: dict[int, set[int]] | None = {} if noting else None
        self._reasons: dict[int, dict[Any, None]] = {}
        self._periods: list[Period] = []
        self._closed = False

    def add(self) -> int:
        """One subject more, not there yet; gives its number."""
        for numbers in (self._began, self._longest, self._mended_ms, self._incidents, self._mended, *self._spent):
            numbers.append(0)
        self._at.append(self._since)
        self._worst.append(0)
        self.kind.append(GONE)
        if self._cells:
            self._pictures.append(bytearray(self._cells))
        return len(self.kind) - 1

    def move(self, subject: int, at: int, kind: int) -> None:
        """From `at` on it is `kind`. Calls come in the order of time."""
        was = self.kind[subject]
        if was == kind:
            return
        if was != GONE:
            self._spent[was][subject] += at - self._at[subject]
            if self._cells:
                self._paint(subject, at, was)
        if was > 0:
            if kind <= 0:
                self._end(subject, at, kind)
            elif kind > self._worst[subject]:
                self._worst[subject] = kind
        elif kind > 0:
            self._began[subject], self._worst[subject] = at, kind
        self.kind[subject] = kind
        self._at[subject] = at

    def note(self, subject: int, slot: int, reason: Any) -> None:
        """In the period that this subject is in, this server is not operational, for this reason (None: none given)."""
        if self._slots is None:
            return
        self._slots.setdefault(subject, set()).add(slot)
        reasons = self._reasons.setdefault(subject, {})
        if reason is not None and len(reasons) < REASONS:
            reasons[reason] = None

    def close(self) -> None:
        """The window ends."""
        for subject, was in enumerate(self.kind):
            if was == GONE:
                continue
            self._spent[was][subject] += self._until - self._at[subject]
            if self._cells:
                self._paint(subject, self._until, was)
            if was > 0:
                self._end(subject, self._until, was)
        self._closed = True

    def figures(self, subject: int) -> Figures:
        """What came of it, once the window is closed."""
        assert self._closed
        mended = self._mended[subject]
        operational, warning, critical, unknown = (numbers[subject] for numbers in self._spent)
        return Figures(
            operational,
            warning,
            critical,
            unknown,
            self._incidents[subject],
            self._mended_ms[subject] / mended if mended else None,
            self._longest[subject],
            self.kind[subject] > 0,
        )

    def picture(self, subject: int) -> bytes:
        return bytes(self._pictures[subject])

    def take_periods(self) -> list[Period]:
        """The periods that have ended since this was last asked."""
        taken, self._periods = self._periods, []
        return taken

    def _end(self, subject: int, at: int, kind: int) -> None:
        began = self._began[subject]
        length = at - began
        self._incidents[subject] += 1
        if length > self._longest[subject]:
            self._longest[subject] = length
        if kind == 0:
            self._mended[subject] += 1
            self._mended_ms[subject] += length
        if self._slots is not None:
            slots = frozenset(self._slots.pop(subject, ()))
            reasons = tuple(self._reasons.pop(subject, ()))
            worst, before = self._worst[subject], began == self._since
            self._periods.append(Period(subject, began, at, worst, before, kind > 0, slots, reasons))

    def _paint(self, subject: int, until: int, kind: int) -> None:
        since, length, level = self._at[subject], self._until - self._since, kind + 1
        first = (since - self._since) * self._cells // length
        end = -((self._since - until) * self._cells // length)  # rounded up: what is short is seen too
        cells = self._pictures[subject]
        for cell in range(first, end):
            if cells[cell] < level:
                cells[cell] = level
