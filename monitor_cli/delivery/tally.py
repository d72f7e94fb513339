"""What the processes of a run have done so far, counted in memory that they share: one may be asked for all."""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable

from monitor_cli.store.settling import Then

RESULTS = (*(then.word for then in Then if then is not Then.RELEASE), "dropped")
_ROW = 1 + len(RESULTS)  # the first value: when the process's loop last turned, in monotonic milliseconds
_PLACES = {result: place for place, result in enumerate(RESULTS, 1)}


class Row:
    """One process's part. It writes nothing else, so no lock is needed."""

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells

    def count(self, result: str) -> None:
        """One more request that was settled so, or one more change that was dropped."""
        self._cells[_PLACES[result]] += 1

    def turned(self, clock: float) -> None:
        """The process's loop goes round; `clock` is monotonic."""
        self._cells[0] = int(clock * 1000)


class Tally:
    """Shared by processes that are forked after it was made."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._cells = memoryview(mmap.mmap(-1, 8 * _ROW * processes)).cast("Q")

    def row(self, process: int) -> Row:
        return Row(self._cells[process * _ROW : (process + 1) * _ROW])

    def sums(self) -> dict[str, int]:
        """What all processes did together, by result."""
        return {result: sum(self._cells[1 + i :: _ROW]) for i, result in enumerate(RESULTS)}

    def still_for(self, clock: Callable[[], float] = time.monotonic) -> float:
        """For how many seconds the slowest process's loop has not turned; 0 before each has turned once."""
        turned = list(self._cells[::_ROW])
        return clock() - min(turned) / 1000 if all(turned) else 0.0
