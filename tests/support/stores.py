"""The stores that the suite runs on: a fresh database for each test, empty or upgraded, in a few milliseconds.

An upgraded database is not migrated again for each test: one template a session is, and copied (SQLite: its file;
MariaDB and MySQL: its CREATE TABLE statements and rows).
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pymysql
from sqlalchemy import Connection
from sqlalchemy.engine import make_url

from monitor_cli import migrate
from monitor_cli.db import Database

T = TypeVar("T")


class Store:
    """One test's database: `name` (sqlite, mariadb, mysql), `url`, and `database`, opened when first used."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.url = url
        self._database: Database | None = None

    @property
    def database(self) -> Database:
        if self._database is None:
            self._database = Database(self.url, create=True)
        return self._database

    def read(self) -> AbstractContextManager[Connection]:
        return self.database.read()

    def write(self) -> AbstractContextManager[Connection]:
        return self.database.write()

    def transact(self, work: Callable[[Connection], T], **options: Any) -> T:
        return self.database.transact(work, **options)

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


class Server(Protocol):
    """Where databases of a MySQL kind are made."""

    def create_database(self, name: str | None = None) -> str: ...
    def drop_database(self, url: str) -> None: ...


class RemoteServer:
    """A server that somebody runs (MONITOR_TEST_MYSQL_URL); its user may create and drop databases."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)

    @property
    def host(self) -> str:
        return self._url.host or "localhost"

    def create_database(self, name: str | None = None) -> str:
        name = name or f"monitor_test_{secrets.token_hex(6)}"
        self._execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        return self._url.set(database=name).render_as_string(hide_password=False)

    def drop_database(self, url: str) -> None:
        self._execute("SET SESSION lock_wait_timeout=10", f"DROP DATABASE IF EXISTS `{make_url(url).database}`")

    def _execute(self, *statements: str) -> None:
        u = self._url
        connection = pymysql.connect(
            host=u.host or "localhost", port=u.port or 3306, user=u.username, password=u.password or "", autocommit=True
        )
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        finally:
            connection.close()


class SQLiteStores:
    """Makes SQLite stores; the template is a file."""

    name = "sqlite"

    def __init__(self, directory: Path) -> None:
        self._template = directory / "template.db"

    def empty(self, directory: Path) -> Store:
        return Store("sqlite", f"sqlite:///{directory / 'monitor.db'}")

    def upgraded(self, store: Store) -> None:
        if not self._template.exists():
            # The journal is gone once the last connection closes: the one file is then all of it.
            migrate.upgrade(f"sqlite:///{self._template}")
        shutil.copyfile(self._template, str(make_url(store.url).database))

    def drop(self, store: Store) -> None:
        store.close()


class MySQLStores:
    """Makes stores on a MySQL-like server; the template is a list of statements."""

    def __init__(self, name: str, server: Server) -> None:
        self.name = name
        self._server = server
        self._template: list[str] = []
        self._rows: list[tuple[str, list[tuple[Any, ...]]]] = []

    def empty(self, directory: Path) -> Store:
        return Store(self.name, self._server.create_database())

    def upgraded(self, store: Store) -> None:
        if not self._template:
            self._learn()
        with store.write() as conn:
            for statement in self._template:
                conn.exec_driver_sql(statement)
            for statement, rows in self._rows:
                conn.exec_driver_sql(statement, rows)

    def drop(self, store: Store) -> None:
        store.close()
        with suppress(pymysql.err.OperationalError):  # a process of the test still holds it: the server goes anyway
            self._server.drop_database(store.url)

    def _learn(self) -> None:
        url = self._server.create_database()
        migrate.upgrade(url)
        database = Database(url)
        with database.read() as conn:
            for (table,) in conn.exec_driver_sql("SHOW TABLES").all():
                created = conn.exec_driver_sql(f"SHOW CREATE TABLE `{table}`").one()[1]
                self._template.append(created.replace("%", "%%"))
                if rows := [tuple(row) for row in conn.exec_driver_sql(f"SELECT * FROM `{table}`")]:
                    marks = ", ".join(["%s"] * len(rows[0]))
                    self._rows.append((f"INSERT INTO `{table}` VALUES ({marks})", rows))
        database.close()
        self._server.drop_database(url)
