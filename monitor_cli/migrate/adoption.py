"""Whether what a database already has fits: a platform's infi_voice_monitor, its views of accounts, our own tables.

Every function gives a list of sentences, all that is wrong at once, so that people mend it in one go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import (
    Column,
    Connection,
    Dialect,
    Executable,
    Table,
    TableClause,
    delete,
    exc,
    false,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import mysql

from monitor_cli import schema
from monitor_cli.db import code_of
from monitor_cli.migrate.shape import ColumnShape, Shape, judge

Shapes = Mapping[str, Shape]

_MYSQL: Dialect = mysql.dialect()
_BINARY = {"binary", "varbinary", "blob", "tinyblob", "mediumblob", "longblob"}


def misfits(conn: Connection, shapes: Shapes) -> list[str]:
    """What has to be mended by people before an upgrade can adopt it; nothing of it is ever changed by us."""
    found = []
    if schema.monitor.name in shapes:
        found += _monitor(shapes[schema.monitor.name])
    for table in schema.metadata.tables.values():
        shape = shapes.get(table.name)
        if shape is None or shape.made_here or table is schema.monitor:
            continue
        if table in schema.ACCOUNT_TABLES:
            found += _foreign_account(conn, table, shape)
        else:
            found.append(f"{table.name} is there, but was not made by monitor-cli: rename or drop it")
    version = shapes.get(schema.VERSION_TABLE)
    if version is not None and version.is_view:
        found.append(f"{version.name} is a view: monitor-cli needs the name for a table of its own")
    return found


def missing(shapes: Shapes) -> list[str]:
    """The tables and indexes that an upgrade would make."""
    found = []
    for table in schema.metadata.tables.values():
        shape = shapes.get(table.name)
        if shape is None:
            found.append(f"the table {table.name} is missing")
        elif shape.made_here or table is schema.monitor:
            found += [
                f"the index {index.name} on {table.name} ({', '.join(index.columns.keys())}) is missing"
                for index in sorted(table.indexes, key=lambda index: str(index.name))
                if index.name not in shape.indexes
                and not (table is schema.monitor and shape.covers(index.columns.keys()))
            ]
    return found


def damaged(conn: Connection, shapes: Shapes) -> list[str]:
    """Columns that a table of our own lacks: somebody changed it."""
    return [
        problem
        for table in schema.metadata.tables.values()
        if table.name in shapes and shapes[table.name].made_here
        for problem in _columns(table, shapes[table.name], conn.dialect)
    ]


class Unreadable(NamedTuple):
    """Why a table or view cannot be read; `is_missing`: because it is not there."""

    words: str
    is_missing: bool


def unreadable(conn: Connection, table: TableClause) -> Unreadable | None:
    """Try to read a table or view as this user; None where that works."""
    refused = _refused(conn, select(*table.c).limit(1))
    if refused is None:
        return None
    words, code = refused
    return Unreadable(f"{table.name} cannot be read: {words}", code == 1146 or "no such table" in words)


def unwritable(conn: Connection, table: Table) -> list[str]:
    """Try as this user, and without effect, what the cron jobs write. A platform's accounts are never written by them,
    and infi_voice_monitor is only updated: `server add` and `server remove` need more (docs/database.md)."""
    if table in schema.ACCOUNT_TABLES:
        return []
    if table is schema.monitor:
        names = ["incident_status", "final_status", "status_report", "modified"]
    else:
        names = table.c.keys()
    tried: list[Executable] = [update(table).values({name: table.c[name] for name in names}).where(false())]
    if table is not schema.monitor:
        tried.append(insert(table).from_select(table.c.keys(), select(*table.c).where(false())))
        tried.append(delete(table).where(false()))
    refusals = [refused[0] for statement in tried if (refused := _refused(conn, statement))]
    return [f"{table.name} cannot be written: {words}" for words in refusals]


def _refused(conn: Connection, statement: Executable) -> tuple[str, int | None] | None:
    """The store's words and error number where it refuses a statement."""
    try:
        conn.execute(statement).close()
    except exc.DBAPIError as error:
        if error.connection_invalidated or "readonly database" in str(error.orig):  # SQLite: a file has no privileges
            raise
        args = error.orig.args if error.orig is not None else ()
        return str(args[1] if len(args) > 1 else error.orig), code_of(error)
    return None


# --- one table --------------------------------------------------------------------------------------------------------


def _monitor(shape: Shape) -> list[str]:
    name = shape.name
    if shape.is_view:
        return [f"{name} is a view: monitor-cli writes to it and needs indexes, so it has to be the table itself"]
    found = _columns(schema.monitor, shape, _MYSQL)
    key = shape.columns.get("id")
    if shape.primary_key != ("id",):
        found.append(f"{name}.id is not the primary key")
    if key is not None and not key.numbered:
        found.append(f"{name}.id does not number rows by itself: it has to be AUTO_INCREMENT (SQLite: INTEGER)")
    if not shape.transactional:
        found.append(f"{name} has the engine {shape.engine}, without transactions: ALTER TABLE {name} ENGINE=InnoDB")
    return found


def _foreign_account(conn: Connection, table: Table, shape: Shape) -> list[str]:
    """A platform's own: only read by us, so the families of its types count, not their lengths."""
    found = []
    for column in table.c:
        there = shape.columns.get(column.name)
        needs = _word(column, _MYSQL)
        if there is None:
            found.append(f"{table.name}.{column.name} is missing: it has to be {needs}")
        elif not _same_family(judge(needs).family, there):
            found.append(f"{table.name}.{column.name} is {there.declared.upper()}: it has to be {needs}")
    if not found or not shape.columns:
        problem = unreadable(conn, table)
        return [problem.words] if problem else found
    return found


def _same_family(needed: str, there: ColumnShape) -> bool:
    family = there.kind.family
    if family == "":  # an expression in a view on SQLite
        return True
    if needed == "integer":
        return family not in {"text", "json", "enum", "set", *_BINARY}
    return family == needed


def _columns(table: Table, shape: Shape, dialect: Dialect) -> list[str]:
    """The columns of a table we write to that are missing, of another family, or too narrow."""
    found = []
    for column in table.c:
        needs, there = _word(column, dialect), shape.columns.get(column.name)
        where = f"{shape.name}.{column.name}"
        if there is None:
            found.append(f"{where} is missing: it has to be {needs}")
        elif there.kind.family == "json" and column.name == "meta":
            continue
        elif there.kind.family != judge(needs).family:
            found.append(f"{where} is {there.declared.upper()}, another kind of type: it has to be {needs}")
        elif there.kind.size < judge(needs).size:
            found.append(f"{where} is {there.declared.upper()}, too narrow: it has to be {needs} or wider")
    return found


def _word(column: Column[object], dialect: Dialect) -> str:
    """A column's type as people write it."""
    return column.type.compile(dialect=dialect).replace("INTEGER", "INT").partition(" ")[0]
