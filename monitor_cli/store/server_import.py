"""Taking a file of servers in: which row each line means, what differs, and all of it or nothing.

A line means the row with its `id`; without one the row with its (server_id, channel_id, server_tag); else a new server
(SPEC 9, Identity). None of the three is unique, so a line that could mean several rows is a bad one. An empty cell of
an optional column, but for primary_server and meta, says nothing: it leaves a row as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from monitor_cli.csvfile import BadLines, Line
from monitor_cli.db import AnyRow
from monitor_cli.schema import monitor
from monitor_cli.store.channels import chunks
from monitor_cli.store.servers import COLUMNS, DEFAULTS, READERS, Update, find, new_rows, same, write_all

Key = tuple[int, int, str]

_SAYS_NOTHING = DEFAULTS.keys() - {"primary_server", "meta"}


class Counts(NamedTuple):
    """What an import did."""

    added: int
    changed: int
    unchanged: int


class _Entry(NamedTuple):
    line: Line
    id: int | None
    key: Key


def import_servers(
    conn: Connection, lines: Sequence[Line], bad: BadLines, advance: Callable[[int], None] = lambda _: None
) -> Counts:
    """Add and update servers. Raises MonitorError with every bad line, those in `bad` included. `advance` is told how
    many lines were dealt with."""
    bad = bad.copy()
    entries = _entries(lines, bad)
    by_id, by_key = _existing(conn, entries)
    new: list[dict[str, Any]] = []
    meant: dict[int, Line] = {}
    differing: dict[int, Line] = {}
    for entry in entries:
        row = _meant(entry, by_id, by_key, bad)
        if row is None:
            new.append(_values(entry.line, None, bad))
            continue
        if (other := meant.setdefault(row.id, entry.line)) is not entry.line:
            bad.add(entry.line.number, f"it means the server with the id {row.id}, as line {other.number} does")
        if _values(entry.line, row, bad):
            differing[row.id] = entry.line
    bad.check()
    # The rows as they are now, locked: another program may have written one since.
    locked = find(conn, differing, lock=True)
    updates = [Update(row, _values(differing[row.id], row, bad)) for row in locked.values()]
    bad.check()
    unchanged = len(entries) - len(new) - len(updates)
    advance(unchanged)
    write_all(conn, new_rows(conn, new), updates, advance)
    return Counts(len(new), len(updates), unchanged)


def cell(value: Any) -> str:
    """A column's value as it stands in a file."""
    return "" if value is None else str(value)


def _entries(lines: Sequence[Line], bad: BadLines) -> list[_Entry]:
    """The lines with what they are known by. Those without it, or with that of an earlier line, are bad; rows may share
    their key where both have an id to tell them apart."""
    entries: list[_Entry] = []
    ids: dict[int, int] = {}
    for line in lines:
        try:
            entry = _entry(line)
        except ValueError:
            _values(line, None, bad)  # says this, and what else is wrong with the line
            continue
        if entry.id is not None and (first := ids.setdefault(entry.id, line.number)) != line.number:
            bad.add(line.number, f"it has the id of line {first}")
            continue
        entries.append(entry)
    keys: dict[Key, int] = {}
    for entry in sorted(entries, key=lambda entry: entry.id is None):
        first = keys.setdefault(entry.key, entry.line.number)
        if entry.id is None and first != entry.line.number:
            bad.add(entry.line.number, f"it has the server_id, channel_id and server_tag of line {first}: give id")
    return entries


def _entry(line: Line) -> _Entry:
    cells = line.cells
    id_ = READERS["id"](cells["id"]) if cells.get("id") else None
    key = (READERS["server_id"](cells["server_id"]), READERS["channel_id"](cells["channel_id"]), cells["server_tag"])
    return _Entry(line, id_, key)


def _existing(conn: Connection, entries: Iterable[_Entry]) -> tuple[dict[int, AnyRow], dict[Key, list[AnyRow]]]:
    """The rows that the lines may mean, by id and by key."""
    by_id: dict[int, AnyRow] = {}
    columns = [*(monitor.c[name] for name in COLUMNS)]
    ids = sorted({entry.id for entry in entries if entry.id is not None})
    channels = sorted({entry.key[1] for entry in entries if entry.id is None})
    for column, wanted in ((monitor.c.id, ids), (monitor.c.channel_id, channels)):
        for some in chunks(wanted):
            by_id.update((row.id, row) for row in conn.execute(select(*columns).where(column.in_(some))))
    by_key: dict[Key, list[AnyRow]] = {}
    for row in by_id.values():
        by_key.setdefault((row.server_id, row.channel_id, row.server_tag), []).append(row)
    return by_id, by_key


def _meant(entry: _Entry, by_id: dict[int, AnyRow], by_key: dict[Key, list[AnyRow]], bad: BadLines) -> AnyRow | None:
    """The row that a line means; None for a new server."""
    if entry.id is not None:
        return by_id.get(entry.id)
    rows = by_key.get(entry.key, [])
    if len(rows) > 1:
        ids = ", ".join(str(row.id) for row in rows[:5])
        bad.add(entry.line.number, f"several servers have its server_id, channel_id and server_tag (id {ids}): give id")
    return rows[0] if rows else None


def _values(line: Line, row: AnyRow | None, bad: BadLines) -> dict[str, Any]:
    """The columns in which a line differs from its row (of a new server: all that it gives). What is there already is
    not judged: it may be odd, and it stays."""
    old = row._mapping if row is not None else None
    values: dict[str, Any] = {}
    for name, text in line.cells.items():
        if (not text and (name in _SAYS_NOTHING or name == "id")) or (old is not None and text == cell(old[name])):
            continue
        try:
            values[name] = READERS[name](text)
        except ValueError as error:
            bad.add(line.number, f"{name} {error}")
            continue
        if old is not None and same(name, old[name], values[name]):
            del values[name]
    return values
