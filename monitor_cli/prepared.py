"""One value from a statement that the server has parsed already: PyMySQL's connection, its cursor passed over.

PyMySQL has no prepared statements and takes every answer apart in Python; the incident API's one statement cost it more
than all the rest of a request (docs/serving.md). Over the wire goes the binary protocol that MySQL and MariaDB share
(dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_command_phase_ps.html), by the connection's own
`_execute_command` and `_read_bytes`: time-outs, TLS and what is said of a lost connection stay PyMySQL's. A driver that
has not these two (SQLite's) is asked by its cursor, and so is a server that will not prepare.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from typing import Any

from pymysql import err
from pymysql.constants import COMMAND, CR, ER
from sqlalchemy import Connection, Select, exc
from sqlalchemy.engine import Dialect

_TEXT = b"\xfd\x00"  # MYSQL_TYPE_VAR_STRING, of the connection's character set
_WHOLE = 0xFFFFFF  # a packet of this length goes on in the next one
_ERROR, _END = 0xFF, 0xFE  # what a packet that is no row begins with
_LONG = {0xFC: 5, 0xFD: 6, 0xFE: 11}  # where a row's text begins whose length does not fit into one byte

# Unknown statement (a proxy in between changed the connection), not preparable, too many are prepared on the server, a
# table that it names is changed all the time.
_UNPREPARED = {ER.UNKNOWN_STMT_HANDLER, ER.UNSUPPORTED_PS, ER.MAX_PREPARED_STMT_COUNT_REACHED, 1615}


def value(conn: Connection, statement: Select[Any], parameter: str) -> Any:
    """The one value that `statement`, with its one parameter (at most 250 bytes), gives as text; None where it is NULL
    or there is no row. Raises exc.DBAPIError as Connection.execute does."""
    try:
        return _value(conn, _sql(statement, conn.dialect), parameter)
    except Exception as error:
        driver: Any = conn.dialect.dbapi
        if not isinstance(error, driver.Error):
            raise
        lost = conn.dialect.is_disconnect(error, conn.connection, None)
        if lost:
            conn.invalidate(error)
        raise exc.DBAPIError.instance(
            str(statement),
            None,
            error,
            driver.Error,
            hide_parameters=True,
            connection_invalidated=lost,
            dialect=conn.dialect,
        ) from error


class _Sql:
    """A statement as the driver's cursor takes it, and as the server prepares it."""

    def __init__(self, statement: Select[Any], dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        (self.name,) = compiled.params
        self.named = not dialect.positional
        self.text = str(compiled)
        self.marked = self.text % {self.name: "?"} if self.named else self.text


_sql = cache(_Sql)


def _value(conn: Connection, sql: _Sql, parameter: str) -> Any:
    connection: Any = conn.connection.dbapi_connection
    if hasattr(connection, "_execute_command") and hasattr(connection, "_read_bytes"):
        try:
            head = conn.info.get(sql) or conn.info.setdefault(sql, _prepare(connection, sql.marked))
            return _execute(connection, head, parameter.encode())
        except err.Error as error:
            if not error.args or error.args[0] not in _UNPREPARED:
                raise
            conn.info.pop(sql, None)
    cursor = connection.cursor()
    try:
        cursor.execute(sql.text, {sql.name: parameter} if sql.named else (parameter,))
        row = cursor.fetchone()
        return row and row[0]
    finally:
        cursor.close()


def _prepare(connection: Any, text: str) -> bytes:
    """What every execution of the statement begins with."""
    connection._execute_command(COMMAND.COM_STMT_PREPARE, text)
    packets = _packets(connection)
    number, columns, parameters = struct.unpack_from("<IHH", next(packets), 1)
    for _ in range(4):  # the description of the parameter and of the column, each with an end
        next(packets)
    assert (columns, parameters) == (1, 1)
    return struct.pack("<IBIBB", number, 0, 1, 0, 1) + _TEXT  # no cursor, once, no NULL, types follow


def _execute(connection: Any, head: bytes, parameter: bytes) -> str | None:
    connection._execute_command(COMMAND.COM_STMT_EXECUTE, b"%b%c%b" % (head, len(parameter), parameter))
    packets = _packets(connection)
    for _ in range(3):  # how many columns, the one's description, the end of them
        next(packets)
    row = next(packets)
    if row[0] == _END:
        return None
    next(packets)  # the end
    if row[1]:  # which columns are NULL
        return None
    text: str = row[_LONG.get(row[2], 3) :].decode(connection.encoding)
    return text


def _packets(connection: Any) -> Iterator[bytes]:
    """The packets of an answer, each whole. Raises the driver's errors."""
    read, number, packet = connection._read_bytes, 1, b""
    while True:
        head = read(4)
        if head[3] != number & 0xFF:  # what the server said before it was asked: that it ends the connection
            connection._force_close()
            raise err.OperationalError(CR.CR_SERVER_LOST, "Lost connection to MySQL server during query")
        number += 1
        size = head[0] | head[1] << 8 | head[2] << 16
        packet += read(size)
        if size == _WHOLE:
            continue
        if packet[0] == _ERROR:
            err.raise_mysql_exception(packet)
        yield packet
        packet = b""
