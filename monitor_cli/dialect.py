"""Every difference between the stores that a statement meets: clocks, upserts, aggregates, many rows at once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import (
    BindParameter,
    Connection,
    FromClause,
    Insert,
    Select,
    Table,
    TextClause,
    bindparam,
    func,
    literal_column,
    text,
    tuple_,
)
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import UserDefinedType

S = TypeVar("S", bound=Select[Any])
R = TypeVar("R", bound=tuple[Any, ...])


def is_mysql(conn: Connection) -> bool:
    return conn.dialect.name in ("mysql", "mariadb")


def now_sql(conn: Connection) -> ColumnElement[int]:
    """The database's clock in milliseconds since 1970, as an SQL expression."""
    return literal_column(now_text(conn))


def now_text(conn: Connection) -> str:
    """The same as text, for statements written as text."""
    if is_mysql(conn):
        return "CAST(UNIX_TIMESTAMP(NOW(3))*1000 AS SIGNED)"
    return "CAST((julianday('now')-2440587.5)*86400000 AS INTEGER)"


def now_ms(conn: Connection) -> int:
    """The database's clock now, milliseconds since 1970."""
    return int(conn.execute(statement(f"SELECT {now_text(conn)}", {})).scalar_one())


def drop_when_silent(conn: Connection, seconds: int) -> None:
    """Have the server end this connection, and roll back its transaction, that says nothing for so long: what it has
    locked is held no longer by a process that is stopped. (SQLite's locks end with their process.)"""
    if is_mysql(conn):
        conn.exec_driver_sql(f"SET wait_timeout={seconds:d}")


def upsert(
    conn: Connection,
    table: Table,
    key: Sequence[str],
    update: Callable[[Any, Table], Mapping[str, Any]],
    select: Any = None,
) -> Insert:
    """INSERT that updates where the key exists. `update(new, old)` gives the SET list from the new row's and the old
    row's columns; with `select` = (column names, SELECT) the rows come from the database itself."""
    if is_mysql(conn):
        my = mysql.insert(table)
        if select is not None:
            my = my.from_select(*select)
        return my.on_duplicate_key_update(list(update(my.inserted, table).items()))  # a list keeps its order
    lite = sqlite.insert(table)
    if select is not None:
        lite = lite.from_select(*select)
    return lite.on_conflict_do_update(index_elements=list(key), set_=dict(update(lite.excluded, table)))


class Literals(dict[int | str | None, str]):
    """What stands in a statement's text for values: whole numbers, NULL and plain words as they are, since the driver
    takes far longer to escape a value than to send it; for any other text a mark, and the text is a parameter.

    `literals[value]` is for the next value, in the order in which they stand in the statement. The same few come again
    and again: what is no mark is looked up."""

    def __init__(self, conn: Connection) -> None:
        super().__init__({None: "NULL"})
        self.texts: list[str] = []
        self._mark = "%s" if is_mysql(conn) else "?"

    def __missing__(self, value: int | str) -> str:
        if not isinstance(value, str):
            return int.__repr__(value)
        if _PLAIN(value):
            self[value] = literal = f"'{value}'"
            return literal
        self.texts.append(value)
        return self._mark


_PLAIN = re.compile(r"[A-Za-z0-9_-]*", re.ASCII).fullmatch  # what no store could take for anything but text


def insert_rows(
    conn: Connection, table: Table, columns: Sequence[str], rows: Iterable[Sequence[int | str | None]]
) -> None:
    """INSERT many rows in one statement."""
    literals = Literals(conn)
    insert_groups(conn, table, columns, [f"({','.join([literals[value] for value in row])})" for row in rows], literals)


def insert_groups(
    conn: Connection, table: Table, columns: Sequence[str], groups: Sequence[str], literals: Literals, tail: str = ""
) -> None:
    """The same of rows as they stand in the statement, (1,NULL,'x'): to write one by a format that knows its numbers
    takes a third of the time that asking about each value does."""
    if groups:
        insert = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES {','.join(groups)} {tail}"
        conn.exec_driver_sql(insert, tuple(literals.texts))


def id_list(ids: Iterable[int]) -> str:
    """What stands between the brackets of an IN list of ids; no text gets through."""
    return ",".join(map(int.__repr__, ids)) or "NULL"


class _Ids(UserDefinedType[Iterable[int]]):
    """Whole numbers with commas between, as one literal: SQLAlchemy takes 3 µs for each that it renders by itself."""

    cache_ok = True

    def literal_processor(self, dialect: Any) -> Callable[[Iterable[int]], str]:
        return id_list


def ids_parameter(name: str, ids: Iterable[int] | None = None) -> BindParameter[Any]:
    """A parameter for what stands between the brackets of an IN list of ids, written into the statement's text; see
    Literals."""
    return bindparam(name, None if ids is None else list(ids), _Ids(), literal_execute=True)


def among(column: ColumnElement[int], ids: Iterable[int]) -> ColumnElement[bool]:
    """Whether an id is one of these."""
    return column.op("IN", is_comparison=True)(tuple_(ids_parameter("ids", ids)))


def by_index(query: S, table: FromClause, index: str) -> S:
    """The SELECT, which has to use this index of a table on MySQL: the optimizer's own choice may be to scan all of it,
    after a burst into a small table (its statistics are stale) or where the end of another index looks near."""
    for dialect in ("mysql", "mariadb"):
        query = query.with_hint(table, f"FORCE INDEX ({index})", dialect)
    return query


def forced(conn: Connection, index: str) -> str:
    """The same for a statement written as text: what stands behind the table's name."""
    return f"FORCE INDEX ({index})" if is_mysql(conn) else ""


def decoded_rows(
    conn: Connection, kind: type[R], numbers: Sequence[str], texts: Sequence[str], rest: str, values: Mapping[str, Any]
) -> list[R]:
    """All rows of `SELECT numbers, texts rest`, which has no order, as the NamedTuple `kind` of these columns. Lists of
    whole numbers among the `values` stand between the brackets of an IN list; other lists come with brackets of their
    own. From MySQL the rows come as one JSON text, made into objects by a library in C: a driver in Python takes a
    microsecond for each value. Where that is more than the server lets one value be, they come as rows."""
    if is_mysql(conn):
        row = ",',',".join([*(f"IFNULL({column},'null')" for column in numbers), _end_of_array(texts)])
        whole = f"SELECT COUNT(*), CONCAT('[', GROUP_CONCAT('[',{row}), ']') {rest}"
        count, lines = conn.execute(statement(whole, values), values).one()
        if not count:
            return []
        with suppress(ValueError):  # cut, NULL (over max_allowed_packet), or a platform's view has something else there
            rows = _decoder(kind)(lines or "")
            if len(rows) == count:
                return rows
    plain = f"SELECT {', '.join((*numbers, *texts))} {rest}"
    return [kind(*row) for row in conn.execute(statement(plain, values), values)]


def statement(sql: str, values: Mapping[str, Any]) -> TextClause:
    """Text with these parameters; lists as in decoded_rows."""
    lists = {name: value for name, value in values.items() if isinstance(value, list)}
    ids = frozenset(name for name, value in lists.items() if value and isinstance(value[0], int))
    return _statement(sql, ids, frozenset(lists) - ids)


@cache
def _statement(sql: str, ids: frozenset[str], others: frozenset[str]) -> TextClause:
    parameters = (*map(ids_parameter, ids), *(bindparam(name, expanding=True) for name in others))
    return text(sql).bindparams(*parameters)


def _end_of_array(texts: Sequence[str]) -> str:
    """JSON_ARRAY without its first bracket: for numbers it takes twice as long as writing them down."""
    return f"SUBSTR(JSON_ARRAY({', '.join(f'CONVERT({column} USING utf8mb4)' for column in texts)}), 2)"


@cache
def _decoder(kind: type[R]) -> Callable[[str], list[R]]:
    import msgspec  # a run that finds nothing to do does not wait for it

    return msgspec.json.Decoder(list[kind]).decode  # type: ignore[valid-type]


VALUE_END, ROW_END = "\x1f", "\x1e"  # ASCII's own marks for it


def packed(conn: Connection, texts: Sequence[str], numbers: Sequence[str]) -> str:
    """An SQL aggregate that gives these columns of all rows as one text (or its bytes in UTF-8), NULL as ''. A driver
    in Python takes far longer for many values than for one."""
    row = _joined(conn, VALUE_END, [*(_packable(conn, text) for text in texts), *numbers])
    return _gathered(conn, row, ROW_END)


def packed_in_three(conn: Connection, key: str, texts: Sequence[str], numbers: Sequence[str], id_: str) -> str:
    """The same with three values a row, so that it is told apart by one split: the text `key`, all that is in `texts`
    and `numbers` with VALUE_ENDs between, and a number. Between all these, and the rows, is a ROW_END."""
    middle = _joined(conn, VALUE_END, [*(_packable(conn, text) for text in texts), *numbers])
    return _gathered(conn, _joined(conn, ROW_END, [_packable(conn, key), middle, id_]), ROW_END)


def _packable(conn: Connection, text: str) -> str:
    if is_mysql(conn):  # as bytes: columns of an adopted table may have character sets and collations that do not mix
        return f"CAST(CONVERT(COALESCE({text}, '') USING utf8mb4) AS BINARY)"
    return f"COALESCE({text}, '')"


def _joined(conn: Connection, mark: str, values: Sequence[str]) -> str:
    if is_mysql(conn):
        return f"CONCAT_WS(X'{ord(mark):02X}', {', '.join(values)})"
    return f" || char({ord(mark)}) || ".join(values)


def _gathered(conn: Connection, row: str, mark: str) -> str:
    if is_mysql(conn):
        return f"GROUP_CONCAT({row} SEPARATOR X'{ord(mark):02X}')"
    return f"group_concat({row}, char({ord(mark)}))"


def exact(conn: Connection, column: Any) -> ColumnElement[Any]:
    """A text column of a table (NULL as '') so that it groups byte for byte; `exact_text` reads what comes."""
    return literal_column(_packable(conn, f"{column.table.name}.{column.name}"))


def exact_text(value: bytes | str) -> str:
    """The text of a value that `exact` gave."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def group_key(conn: Connection, *columns: Any) -> ColumnElement[Any]:
    """What several text columns (NULL as '') group by, byte for byte, where there are very many rows: long values make
    temporary tables on disk of MySQL's. `group_key_of` gives the same of known values."""
    values = _joined(conn, VALUE_END, [_packable(conn, f"{c.table.name}.{c.name}") for c in columns])
    return literal_column(f"UNHEX(MD5({values}))" if is_mysql(conn) else values)


def group_key_of(conn: Connection, *values: str) -> bytes | str:
    """The key that `group_key` gives these values."""
    text_ = VALUE_END.join(values)
    return hashlib.md5(text_.encode(), usedforsecurity=False).digest() if is_mysql(conn) else text_


def counted_lines(conn: Connection, column: str) -> str:
    """An SQL aggregate of text: how many values a group has, and below that a line for each; NULL where it has none.
    Where they are more than the server lets one value be, some or all of the lines are missing."""
    if is_mysql(conn):
        lines = f"GROUP_CONCAT({column} SEPARATOR '\n')"
        return f"IFNULL(CONCAT(COUNT({column}), '\n', {lines}), NULLIF(COUNT({column}), 0))"
    return f"COUNT({column}) || char(10) || group_concat({column}, char(10))"


def greatest(conn: Connection, *values: Any) -> ColumnElement[Any]:
    return func.greatest(*values) if is_mysql(conn) else func.max(*values)
