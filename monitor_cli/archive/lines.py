"""A row as a line of JSON, and back: the same row always is the same bytes, so that rows are compared as lines."""

from __future__ import annotations

import json
import re

from monitor_cli.store import archivable
from monitor_cli.store.archivable import TABLES, Row, TableName

_NAMES = {name: tuple(table.c.keys()) for name, table in TABLES.items()}
_NEEDED = {name: {column.name for column in table.c if not column.nullable} for name, table in TABLES.items()}
_SURROGATE = re.compile("[\ud800-\udfff]")


def line_of(table: TableName, row: Row) -> bytes:
    """A row's line, without its end: an object of its columns, in UTF-8."""
    named = dict(zip(_NAMES[table], row, strict=True))
    return json.dumps(named, ensure_ascii=False, separators=(",", ":")).encode()


def id_of(line: bytes) -> int:
    """The id of the row in a line that line_of made."""
    found: int = json.loads(line)["id"]
    return found


def read(line: bytes) -> tuple[TableName, Row]:
    """The table and the row of a line; a column that the table did not have yet is NULL. Raises ValueError with what
    is wrong: also of a row that archive never takes, for back in the database it would be told to customers."""
    found = json.loads(line)
    table = _table_of(found) if isinstance(found, dict) else None
    if table is None:
        raise ValueError("is no row of a table that this version archives")
    row = tuple(found.get(name) for name in _NAMES[table])
    if not all(map(_is_possible, row)) or type(row[0]) is not int or row[0] < 1:
        raise ValueError("has values that no row has")
    named = dict(zip(_NAMES[table], row, strict=True))
    if any(named[name] is None for name in _NEEDED[table]):
        raise ValueError("lacks a value that every row has")
    if not archivable.is_over(table, named):
        raise ValueError("is a row that archive never takes: it is still to be told")
    return table, row


def _is_possible(value: object) -> bool:
    """Whether a column can have it: a number of 64 bits, a text of whole characters, NULL."""
    if isinstance(value, str):
        return not _SURROGATE.search(value)
    return value is None or (type(value) is int and -(2**63) <= value < 2**63)


def _table_of(row: dict[str, object]) -> TableName | None:
    """The table whose columns these are."""
    return next((name for name, names in _NAMES.items() if _NEEDED[name] <= row.keys() <= set(names)), None)
