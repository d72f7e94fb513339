"""Restoring: the rows of a file that are missing go back into the database, with the ids that they had."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from monitor_cli.archive import files
from monitor_cli.archive.files import Damaged
from monitor_cli.archive.lease import Lease, held
from monitor_cli.archive.lines import read
from monitor_cli.db import Connection, Database
from monitor_cli.errors import MonitorError
from monitor_cli.store import archivable
from monitor_cli.store.archivable import TABLES, Row, TableName

log = logging.getLogger(__name__)

BATCH = 500


class Restored(NamedTuple):
    """What became of a file: its table, how many rows it has, and how many of them were missing and are back."""

    table: str
    rows: int
    inserted: int


def count(path: Path) -> int:
    """How many rows a file has, all of it looked at. Raises Damaged where it is not as it was written."""
    files.check(path)
    return sum(len(rows) for _, rows in _batches(path))


def restore(database: Database, path: Path, advance: Callable[[int], None] = lambda _rows: None) -> Restored:
    """Insert the rows of a file that are not in the database; those that are there stay. Raises Damaged where the file
    is not as it was written, MonitorError where the database has another row of such an id: before anything is
    inserted. A run that was killed is gone on with by the next."""
    rows = count(path)
    with held(database) as lease:
        for table, batch in _batches(path):
            lease.keep()
            with database.read() as conn:
                _missing(conn, path, table, batch)
        inserted, name = 0, ""
        for table, batch in _batches(path):
            name = TABLES[table].name
            inserted += database.transact(partial(_insert, lease=lease, path=path, table=table, batch=batch))
            advance(len(batch))
    log.info("archive.restored", extra={"facts": {"file": str(path), "rows": rows, "inserted": inserted}})
    return Restored(name, rows, inserted)


def _insert(conn: Connection, lease: Lease, path: Path, table: TableName, batch: Mapping[int, Row]) -> int:
    lease.hold(conn)
    missing = _missing(conn, path, table, batch)
    archivable.put_back(conn, table, missing)
    return len(missing)


def _missing(conn: Connection, path: Path, table: TableName, batch: Mapping[int, Row]) -> list[Row]:
    there = archivable.present(conn, table, batch)
    for key, row in there.items():
        if row != batch[key]:
            raise MonitorError(
                f"{path}: the database has another {TABLES[table].name} of the id {key}; nothing was restored",
                "a file goes back only into the database that it came from",
            )
    return [row for key, row in batch.items() if key not in there]


def _batches(path: Path) -> Iterator[tuple[TableName, dict[int, Row]]]:
    """The rows of a file in batches of at most BATCH, by id; sooner where they are long."""
    batch: dict[int, Row] = {}
    of: TableName | None = None
    size = 0
    for number, line in enumerate(files.lines(path), 1):
        try:
            table, row = read(line)
            if of not in (None, table):
                raise ValueError("is of another table than the lines before")
        except ValueError as error:
            raise Damaged(f"{path}: line {number} {error}", "is it a file that archive wrote?") from None
        of = table
        key = row[0]
        assert isinstance(key, int)
        batch[key] = row
        size += len(line)
        if len(batch) == BATCH or size > files.LONGEST_LINE:
            yield of, batch
            batch, size = {}, 0
    if batch and of is not None:
        yield of, batch
