"""Archiving: day by day and table by table, what may leave is written into a file, and deleted where the file has it.

A run may be killed at any point, and the next one goes on: what a good file of that day has already is not written
again, and only what a good file has, to the byte, is deleted. Rows come in pages by id, so memory stays the same.
"""

from __future__ import annotations

import heapq
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from monitor_cli.archive import files
from monitor_cli.archive.lease import Lease, held
from monitor_cli.archive.lines import id_of, line_of
from monitor_cli.db import Connection, Database
from monitor_cli.store import archivable
from monitor_cli.store.archivable import TABLES, Day, Row

log = logging.getLogger(__name__)

PAGE = 500  # rows read, and deleted, at once
_LONGEST_PAUSE = 0.5

Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]


@dataclass
class Outcome:
    """What a run did: how many rows left the database, and the files that it wrote."""

    rows: int = 0
    files: list[Path] = field(default_factory=list)


class Planned(NamedTuple):
    """What a run would do with a day of a table: rows that leave, and the file that has them, or would (None: they are
    dropped)."""

    day: Day
    file: Path | None


def archive(
    database: Database,
    before_at: int,
    directory: Path | None,
    progress: Progress = lambda _total: nullcontext(lambda _rows: None),
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Move what is older than `before_at` (milliseconds since 1970) into files below `directory`; None: drop it.
    `progress(total)` gives what is told how many rows have gone. Raises lease.Busy where another run is at work,
    OutsideError where the disk is full: the rows of the file that could not be written are still there."""
    with held(database, clock) as lease:
        if directory is not None:
            files.tidy(directory)
        days = survey(database, before_at, lease.keep)
        run = _Run(database, before_at, directory, lease, sleep)
        with progress(sum(day.rows for day in days)) as advance:
            for day in days:
                run.day(day, advance)
    return run.outcome


def survey(database: Database, before_at: int, keep: Callable[[], None] = lambda: None) -> list[Day]:
    """What may leave, by table and day, in the order in which it does. `keep` is called now and then."""
    found: list[Day] = []
    for table in TABLES:
        days: dict[int, Day] = {}
        with database.read() as conn:
            after, last = 0, archivable.last_id(conn, table, before_at)
        while after < last:
            keep()
            with database.read() as conn:
                some, after = archivable.survey(conn, table, before_at, after, last)
            for day in some:
                days[day.starts_at] = _together(days.get(day.starts_at, day), day)
        found += sorted(days.values(), key=lambda day: day.starts_at)
    return found


def plan(database: Database, before_at: int, directory: Path | None) -> Iterator[Planned]:
    """What `archive` would do, day by day; writes nothing."""
    for day in survey(database, before_at):
        file = None
        if directory is not None:
            run = _Run(database, before_at, directory, None, lambda _seconds: None)
            there = files.good(directory, day)
            unwritten = next(run.unwritten(day, there), None)
            file = files.next_path(directory, day) if unwritten is not None or not there else there[-1]
        yield Planned(day, file)


class _Run:
    """One run. Without a lease it only looks."""

    def __init__(
        self,
        database: Database,
        before_at: int,
        directory: Path | None,
        lease: Lease | None,
        sleep: Callable[[float], None],
    ) -> None:
        self._database = database
        self._before_at = before_at
        self._directory = directory
        self._lease = lease
        self._sleep = sleep
        self.outcome = Outcome()

    def day(self, day: Day, advance: Callable[[int], None]) -> None:
        """Have the rows of a day in a file, then delete them."""
        there: list[Path] | None = None
        if self._directory is not None:
            there = files.good(self._directory, day)
            written = files.write(self._directory, day, self.unwritten(day, there))
            if written is not None:
                files.check(written.path)
                there.append(written.path)
                self.outcome.files.append(written.path)
                facts = {"file": str(written.path), "rows": written.rows}
                log.info("archive.file", extra={"facts": facts})
        self._delete(day, there, advance)

    def unwritten(self, day: Day, there: Sequence[Path]) -> Iterator[bytes]:
        """The lines of the rows that none of these files has."""
        shelf = _Shelf(there)
        for page in self._pages(day):
            for row in page:
                line = line_of(day.table, row)
                if not shelf.has(row[0], line):
                    yield line

    def _delete(self, day: Day, there: Sequence[Path] | None, advance: Callable[[int], None]) -> None:
        shelf = None if there is None else _Shelf(there)
        for page in self._pages(day):
            kept = [row for row in page if shelf is None or shelf.has(row[0], line_of(day.table, row))]
            started = time.monotonic()
            gone = self._database.transact(partial(self._remove, day=day, rows=kept))
            self.outcome.rows += gone
            advance(gone)
            # As long as it took: half of the time is others', who on SQLite wait for one writer.
            self._sleep(min(time.monotonic() - started, _LONGEST_PAUSE))

    def _remove(self, conn: Connection, day: Day, rows: Sequence[Row]) -> int:
        assert self._lease is not None
        self._lease.hold(conn)
        gone = archivable.remove(conn, day.table, self._before_at, {_id(row): row for row in rows})
        if gone:
            archivable.mark(conn, day.table, self._before_at)
        return gone

    def _pages(self, day: Day) -> Iterator[list[Row]]:
        after = 0
        while True:
            if self._lease is not None:
                self._lease.keep()
            with self._database.read() as conn:
                page = archivable.page(conn, day, self._before_at, after, PAGE)
            if not page:
                return
            yield page
            after = _id(page[-1])


class _Shelf:
    """The files of a day, gone through once by id."""

    def __init__(self, paths: Sequence[Path]) -> None:
        each = [((id_of(line), line) for line in files.lines(path)) for path in paths]
        self._rest = heapq.merge(*each)
        self._next = next(self._rest, None)

    def has(self, key: object, line: bytes) -> bool:
        """Whether one of the files has this very line. To be asked by ascending ids."""
        assert isinstance(key, int)
        found = False
        while self._next is not None and self._next[0] <= key:
            found = found or self._next[1] == line
            self._next = next(self._rest, None)
        return found


def _id(row: Row) -> int:
    key = row[0]
    assert isinstance(key, int)
    return key


def _together(one: Day, other: Day) -> Day:
    if one is other:
        return one
    return one._replace(rows=one.rows + other.rows, first=min(one.first, other.first), last=max(one.last, other.last))
