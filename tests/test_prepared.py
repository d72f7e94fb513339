"""One value by a prepared statement: what the driver's cursor would give, and what it would say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pytest
from pymysql import err
from pymysql.constants import COMMAND
from sqlalchemy import Connection, bindparam, exc, func, literal_column, select

from monitor_cli import prepared, schema
from monitor_cli.db import Database
from monitor_cli.prepared import value
from tests.support.mariadb import MariaDB
from tests.support.stores import Store
from tests.support.world import World

ECHO = select(bindparam("given", type_=schema.String))
NAME = select(schema.account.c.name).where(schema.account.c.api_key_sha256 == bindparam("digest"))
SOME = select(func.max(schema.account.c.name)).where(schema.account.c.api_key_sha256 >= bindparam("least"))


@contextmanager
def serving(url: str) -> Iterator[Database]:
    database = Database(url, serving=True)
    try:
        yield database
    finally:
        database.close()


@pytest.fixture
def conn(database: Store) -> Iterator[Connection]:
    with serving(database.url) as opened, opened.engine.connect() as connection:
        yield connection


def commands(conn: Connection) -> list[int]:
    """What the driver sends from now on."""
    driver: Any = conn.connection.dbapi_connection
    sent: list[int] = []
    send: Callable[..., Any] = driver._execute_command

    def heard(command: int, data: str | bytes) -> Any:
        sent.append(command)
        return send(command, data)

    driver._execute_command = heard
    return sent


def test_it_is_what_the_cursor_gives(conn: Connection, world: World):
    world.account("ಕರ್ನಾಟಕ %s ?", key="k")
    assert value(conn, SOME, "") == conn.execute(SOME, {"least": ""}).scalar() == "ಕರ್ನಾಟಕ %s ?"
    for given in ("?", "%s %%", "'; --", "\\'", "ಕರ್ನಾಟಕ"):
        assert value(conn, ECHO, given) == given


def test_no_row_and_null_are_none(conn: Connection):
    assert value(conn, NAME, "unknown") is None
    assert value(conn, SOME, "unknown") is None


@pytest.mark.parametrize("length", [0, 1, 250, 251, 252, 0xFFFF, 0x10000, 3_000_000])
def test_texts_of_every_length(conn: Connection, database: Store, length: int):
    if database.name == "sqlite":
        pytest.skip("SQLite has no protocol")
    repeated = select(func.repeat(bindparam("given", type_=schema.String), literal_column(str(length))))
    for _ in range(2):
        assert value(conn, repeated, "ü") == "ü" * length
    assert value(conn, repeated, "'") == "'" * length


def test_it_is_prepared_once_a_connection(conn: Connection, database: Store):
    if database.name == "sqlite":
        pytest.skip("SQLite has no protocol")
    sent = commands(conn)
    for _ in range(3):
        value(conn, NAME, "unknown")
    assert sent == [COMMAND.COM_STMT_PREPARE, *[COMMAND.COM_STMT_EXECUTE] * 3]


def test_a_table_that_is_made_anew(conn: Connection, database: Store, world: World):
    world.account("acme", key="k")
    assert value(conn, SOME, "") == "acme"
    with database.write() as other:
        other.exec_driver_sql(f"DROP TABLE {schema.account.name}")
        other.exec_driver_sql(f"CREATE TABLE {schema.account.name} (name VARCHAR(9), api_key_sha256 VARCHAR(64))")
        other.exec_driver_sql(f"INSERT INTO {schema.account.name} VALUES ('other', 'x')")
    assert value(conn, SOME, "") == "other"


def test_what_the_server_says_is_raised(conn: Connection, database: Store):
    with database.write() as other:
        other.exec_driver_sql(f"DROP TABLE {schema.account.name}")
    for _ in range(2):
        with pytest.raises(exc.DBAPIError, match=r"no such table|doesn't exist") as caught:
            value(conn, NAME, "secret")
        assert not caught.value.connection_invalidated
        assert "secret" not in str(caught.value)
    assert (
        value(conn, select(func.max(schema.number.c.number)).where(schema.number.c.number == bindparam("n")), "")
        is None
    )


def test_a_statement_that_the_server_forgot(conn: Connection, database: Store):
    if database.name == "sqlite":
        pytest.skip("SQLite has no protocol")
    value(conn, NAME, "unknown")
    driver: Any = conn.connection.dbapi_connection
    (head,) = conn.info.values()
    driver._execute_command(COMMAND.COM_STMT_CLOSE, head[:4])
    sent = commands(conn)
    assert value(conn, NAME, "unknown") is None
    assert sent == [COMMAND.COM_STMT_EXECUTE, COMMAND.COM_QUERY]
    assert value(conn, NAME, "unknown") is None
    assert sent[2:] == [COMMAND.COM_STMT_PREPARE, COMMAND.COM_STMT_EXECUTE]


def test_a_server_that_will_not_prepare(own_mariadb: MariaDB):
    url = own_mariadb.create_database()
    own_mariadb.execute("SET GLOBAL max_prepared_stmt_count = 0")
    with serving(url) as opened, opened.engine.connect() as conn:
        assert value(conn, ECHO, "given") == "given"


def test_a_connection_that_was_ended(database: Store, mariadb: MariaDB):
    if database.name != "mariadb":
        pytest.skip("ends a connection as MariaDB's administrator")
    with serving(database.url) as opened, opened.engine.connect() as conn:
        value(conn, NAME, "unknown")
        mariadb.execute(f"KILL {conn.connection.dbapi_connection.thread_id()}")  # type: ignore[union-attr]
        with pytest.raises(exc.DBAPIError) as caught:
            value(conn, NAME, "unknown")
        assert caught.value.connection_invalidated
        assert value(conn, NAME, "unknown") is None  # on a new one


class Sent:
    """A connection that has this to say."""

    def __init__(self, *packets: bytes, first: int = 1) -> None:
        self.said = b"".join(
            len(packet).to_bytes(3, "little") + bytes([number & 0xFF]) + packet
            for number, packet in enumerate(packets, first)
        )
        self.closed = False

    def _read_bytes(self, size: int) -> bytes:
        read, self.said = self.said[:size], self.said[size:]
        return read

    def _force_close(self) -> None:
        self.closed = True


def test_a_packet_that_goes_on_in_the_next():
    whole = b"x" * 0xFFFFFF
    packets = prepared._packets(Sent(b"a", whole, b"y", whole, b"", b"z"))
    assert list(islice(packets, 4)) == [b"a", whole + b"y", whole, b"z"]


def test_what_came_unasked_ends_the_connection():
    """MariaDB says that it shuts down, MySQL that nobody spoke for too long, in a packet numbered 0."""
    sent = Sent(b"\xff\x1d\x04#08S01Server shutdown", first=0)
    with pytest.raises(err.OperationalError, match="Lost connection") as caught:
        next(prepared._packets(sent))
    assert (caught.value.args[0], sent.closed) == (2013, True)


def test_the_parameter_is_not_in_what_is_told(conn: Connection):
    with pytest.raises(exc.DBAPIError) as caught:
        value(conn, select(literal_column("nothing")).where(literal_column("1") == bindparam("one")), "secret")
    assert "secret" not in str(caught.value)
