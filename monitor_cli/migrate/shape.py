"""What a table or view looks like in the database: its columns' families and sizes, indexes, engine, and whether we
made it. Read from information_schema (a view's definition needs a privilege that its user may lack) and from SQLite's
own tables; types are judged as they are declared, on SQLite too, which enforces no length."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, exc, text

from monitor_cli import schema
from monitor_cli.dialect import is_mysql

# Bytes of an integer, characters of a text (of four bytes each, where the limit is one of bytes).
_INTEGERS = {"tinyint": 1, "bool": 1, "boolean": 1, "smallint": 2, "mediumint": 3, "int": 4, "integer": 4, "bigint": 8}
_TEXTS = {"tinytext": 63, "text": 16383, "clob": 16383, "mediumtext": 4194303, "longtext": 1073741823}
_CHARACTERS = {"char", "varchar", "nchar", "nvarchar", "character", "character varying", "varying character"}
_UNBOUNDED = 1 << 31


class Size(NamedTuple):
    """A type's family (integer, text, json, another's own name, '' for none) and size (bytes, or characters)."""

    family: str
    size: int


@dataclass(frozen=True)
class ColumnShape:
    """A column: its type as declared, and whether the database numbers it by itself."""

    name: str
    declared: str
    numbered: bool = False

    @property
    def kind(self) -> Size:
        return judge(self.declared)


@dataclass(frozen=True)
class Shape:
    """A table or view as it is. `columns` by lower-case name (MySQL compares column names without case)."""

    name: str
    is_view: bool = False
    made_here: bool = False
    engine: str | None = None
    transactional: bool = True
    columns: Mapping[str, ColumnShape] = field(default_factory=dict)
    primary_key: tuple[str, ...] = ()
    indexes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def covers(self, columns: Iterable[str]) -> bool:
        """Whether an index begins with these columns; InnoDB's and SQLite's end with the primary key unsaid."""
        wanted = tuple(columns)
        return any((has + self.primary_key)[: len(wanted)] == wanted for has in self.indexes.values())


def judge(declared: str) -> Size:
    """Family and size of a declared type: 'int(11) unsigned' → integer, 4; 'varchar(100)' → text, 100."""
    found = re.match(r"([a-z ]*[a-z])\s*(?:\((\d+)\))?", declared.strip().lower())
    if found is None:
        return Size("", 0)
    word, length = re.sub(r" (unsigned|signed|zerofill).*", "", found[1]), found[2]
    if word in _INTEGERS:
        return Size("integer", _INTEGERS[word])
    if word in _TEXTS:
        return Size("text", _TEXTS[word])
    if word in _CHARACTERS:
        return Size("text", int(length) if length else _UNBOUNDED)
    return Size(word, 0)


def read_all(conn: Connection) -> dict[str, Shape]:
    """Every table and view that is called infi_voice_monitor or begins with our prefix, and that this user may see."""
    return _read_mysql(conn) if is_mysql(conn) else _read_sqlite(conn)


# --- MySQL and MariaDB ------------------------------------------------------------------------------------------------

_OURS = "TABLE_SCHEMA = DATABASE() AND (TABLE_NAME = :table OR LEFT(TABLE_NAME, :length) = :prefix)"
_NAMES = {"table": schema.monitor.name, "prefix": schema.PREFIX, "length": len(schema.PREFIX)}


def _read_mysql(conn: Connection) -> dict[str, Shape]:
    for _ in range(100):
        found = _glance(conn)
        # A table that another session is just creating or dropping shows no engine, no columns or no keys. One that has
        # no primary key for good costs two seconds here, and is refused then.
        if all(shape.is_view or (shape.engine and shape.columns and shape.primary_key) for shape in found.values()):
            break
        time.sleep(0.02)
    return found


def _glance(conn: Connection) -> dict[str, Shape]:
    engines = conn.execute(text("SELECT ENGINE, TRANSACTIONS FROM information_schema.ENGINES")).all()
    transactional = {engine.lower() for engine, yes in engines if yes == "YES"}
    tables = _rows(conn, "TABLES", "TABLE_NAME")  # first: what is in it has its columns by the time they are read
    columns, indexes = _mysql_columns(conn), _mysql_indexes(conn)
    return {
        row["TABLE_NAME"]: Shape(
            row["TABLE_NAME"],
            is_view="VIEW" in row["TABLE_TYPE"],
            made_here=row["TABLE_COMMENT"] == schema.MADE_HERE,
            engine=row["ENGINE"],
            transactional=(row["ENGINE"] or "").lower() in transactional,
            columns=columns.get(row["TABLE_NAME"], {}),
            primary_key=indexes.get(row["TABLE_NAME"], {}).get("PRIMARY", ()),
            indexes=indexes.get(row["TABLE_NAME"], {}),
        )
        for row in tables
    }


def _rows(conn: Connection, what: str, order: str) -> list[dict[str, Any]]:
    query = text(f"SELECT * FROM information_schema.{what} WHERE {_OURS} ORDER BY {order}")
    return [{key.upper(): value for key, value in row.items()} for row in conn.execute(query, _NAMES).mappings()]


def _mysql_columns(conn: Connection) -> dict[str, dict[str, ColumnShape]]:
    columns: dict[str, dict[str, ColumnShape]] = {}
    for row in _rows(conn, "COLUMNS", "TABLE_NAME, ORDINAL_POSITION"):
        shape = ColumnShape(row["COLUMN_NAME"], row["COLUMN_TYPE"], "auto_increment" in row["EXTRA"].lower())
        columns.setdefault(row["TABLE_NAME"], {})[shape.name.lower()] = shape
    return columns


def _mysql_indexes(conn: Connection) -> dict[str, dict[str, tuple[str, ...]]]:
    """The indexes that the optimizer may use for finding rows by whole columns."""
    indexes: dict[str, dict[str, tuple[str, ...]]] = {}
    for row in _rows(conn, "STATISTICS", "TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX"):
        if row["INDEX_TYPE"] != "BTREE" or row.get("IGNORED") == "YES" or row.get("IS_VISIBLE") == "NO":
            continue
        # A part of a column, or an expression, finds no rows by that column.
        part = f"({row['COLUMN_NAME']})" if row["SUB_PART"] or not row["COLUMN_NAME"] else row["COLUMN_NAME"].lower()
        of_table = indexes.setdefault(row["TABLE_NAME"], {})
        of_table[row["INDEX_NAME"]] = (*of_table.get(row["INDEX_NAME"], ()), part)
    return indexes


# --- SQLite -----------------------------------------------------------------------------------------------------------


def _read_sqlite(conn: Connection) -> dict[str, Shape]:
    query = text(
        "SELECT name, type, sql FROM sqlite_master WHERE type IN ('table', 'view') "
        "AND (name = :table OR substr(name, 1, :length) = :prefix)"
    )
    return {row.name: _sqlite_shape(conn, row.name, row.type, row.sql) for row in conn.execute(query, _NAMES)}


def _sqlite_shape(conn: Connection, name: str, kind: str, sql: str) -> Shape:
    columns, key = _sqlite_columns(conn, name)
    indexes = {}
    for index in conn.execute(text("SELECT name, partial FROM pragma_index_list(:name)"), {"name": name}):
        parts = conn.execute(text("SELECT name FROM pragma_index_info(:name) ORDER BY seqno"), {"name": index.name})
        if not index.partial:
            indexes[index.name] = tuple((part or "()").lower() for part in parts.scalars())
    return Shape(
        name,
        is_view=kind == "view",
        made_here=_has_our_names(name, sql, indexes),
        columns=columns,
        primary_key=key,
        indexes=indexes,
    )


def _sqlite_columns(conn: Connection, name: str) -> tuple[dict[str, ColumnShape], tuple[str, ...]]:
    """The columns and the primary key; none of a view whose table has gone."""
    columns, key = {}, []
    try:
        rows = conn.execute(text("SELECT name, type, pk FROM pragma_table_info(:name)"), {"name": name}).all()
    except exc.OperationalError:
        return {}, ()
    for row in rows:
        # Only a key declared INTEGER is the row's number; INT, say, is a column like any other.
        numbered = row.pk == 1 and row.type.upper() == "INTEGER"
        columns[row.name.lower()] = ColumnShape(row.name, row.type, numbered)
        if row.pk:
            key.append((row.pk, row.name.lower()))
    return columns, tuple(column for _, column in sorted(key))


def _has_our_names(name: str, sql: str, indexes: Iterable[str]) -> bool:
    """SQLite has no comments on tables: ours are known by the names of their constraints and indexes (which an adopted
    infi_voice_monitor has too)."""
    if name == schema.monitor.name:
        return False
    constraints = (f"CONSTRAINT pk_{name} ", f"CONSTRAINT uq_{name}_")
    return any(words in sql for words in constraints) or any(index.startswith(f"ix_{name}_") for index in indexes)
