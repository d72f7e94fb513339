"""The database: transactions, retry. SQL itself lives in store/, the differences between the stores in dialect.

A command opens one Database. `read()` and `write()` give a Connection in one transaction; `transact()` runs a function
in one and starts it again where the store gave up on it (deadlock, lock time-out, certification failure, SQLite's
busy). Whoever opens the transaction owns it: functions in store/ take a Connection and never commit.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from sqlalchemy import Connection as Connection
from sqlalchemy import Row, event, exc, text
from sqlalchemy.engine import URL

from monitor_cli import engines, schema
from monitor_cli.errors import ConfigError, DatabaseAway, MonitorError

T = TypeVar("T")
AnyRow = Row[*tuple[Any, ...]]

# Deadlock (on Galera also: another node's transaction was first), lock wait time-out, "record has changed"; and two
# planners opening one delivery.
_CONFLICT = {1213, 1205, 1020}
_NOT_READY = 1047  # a Galera node that joins, or has lost the majority
_TOO_LARGE = ("wsrep_max_ws", "writeset size exceeded")  # 1180 and 1105, which mean other things too
_DUPLICATE, _RACED_KEY = 1062, "open_callback_id"
_AWAY = frozenset(
    (1021, 1040, 1053, 1077, 1114, 1152, 1158, 1159, 1160, 1161, 1184, 1203, 1226, 1927, 2002, 2003, 2006, 2013, 2055)
)
_MISSING_TABLE = {1146}
_REFUSED = {1044, 1045, 1049, 1142, 1143, 1698, 2054, 2059, 2061}
_TRIES = 12
_KEPT = 4  # connections that `query` keeps out of the pool
_LONGEST_PAUSE, _LONGEST = 2.0, 30.0  # seconds; a wait for a lock takes five by itself

NEWER_HINT = "a newer version wrote it: install that one, or a newer one"
"""For a database at a revision that this code does not know; `db upgrade` refuses it as well."""


class Database:
    """One store, opened by its SQLAlchemy URL. Nothing is dialled before the first transaction."""

    def __init__(self, url: str | URL, *, create: bool = False, serving: bool = False) -> None:
        self.url = engines.parse(url)
        self.engine = engines.engine(self.url, create, serving)
        self._keeps = serving
        self._kept: deque[Connection] = deque()

    @property
    def where(self) -> str:
        return engines.shown(self.url)

    @property
    def is_mysql(self) -> bool:
        return self.engine.dialect.name in ("mysql", "mariadb")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self._translated(), self.engine.connect() as conn, conn.begin():
            yield conn

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes: all of it or, on any exception, nothing."""
        with self._translated(), self.engine.connect() as conn:
            conn = conn.execution_options(monitor_write=True)
            with conn.begin():
                yield conn

    def query(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads, in autocommit: each statement sees one state of its own. For an engine opened
        with `serving`. A kept connection that died since its last use is replaced without a word."""
        with self._translated():
            started = time.monotonic()
            try:
                return self._with_kept(work)
            except exc.DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                self._drop_kept()  # whatever ended this connection may have ended the others
                # A dead connection fails at once; one that was lost while it worked must not take as long again.
                if time.monotonic() - started > 1:
                    raise
            with self.engine.connect() as conn:
                return work(conn)

    def _with_kept(self, work: Callable[[Connection], T]) -> T:
        """The pool's own check-out and return take half as long as a short query: a few connections stay out."""
        try:
            conn = self._kept.pop()
        except IndexError:
            conn = self.engine.connect()
        try:
            answer = work(conn)
        except BaseException:
            conn.close()
            raise
        if self._keeps and len(self._kept) < _KEPT:
            self._kept.append(conn)
        else:
            conn.close()
        return answer

    def _drop_kept(self) -> None:
        with suppress(IndexError):
            while True:
                self._kept.pop().close()
        self.engine.dispose()

    def transact(self, work: Callable[[Connection], T], *, sleep: Callable[[float], None] = time.sleep) -> T:
        """Run `work` in a writing transaction, again from the start where the store gave up on it. Uses nothing of a
        run before its COMMIT succeeded, as Galera asks. Raises DatabaseAway after the last try."""
        begun = time.monotonic()
        for tried in range(1, _TRIES + 1):
            try:
                with self.write() as conn:
                    return work(conn)
            except DatabaseAway as error:
                late = tried == _TRIES or time.monotonic() - begun > _LONGEST
                if late or not isinstance(error, _Again):
                    raise
                sleep(random.uniform(0.5, 1.5) * min(_LONGEST_PAUSE, 0.02 * 2**tried))
        raise AssertionError("unreachable")

    def close(self) -> None:
        self._drop_kept()

    def drop_when_silent(self, seconds: int) -> None:
        """Have the server end a connection, and roll back its transaction, that says nothing for so long: the locks of
        a process that is stopped, or of a host that vanished, hold others up no longer than that. Before the first
        connection, and for who keeps no transaction waiting; SQLite's locks end with their process."""
        if self.is_mysql:
            event.listen(self.engine, "connect", lambda connection, _: connection.query(f"SET wait_timeout={seconds}"))

    def check_revision(self) -> None:
        """Raise ConfigError (78) unless the tables are there and at this code's revision."""
        try:
            with self.read() as conn:
                found = conn.execute(text(f"SELECT version_num FROM {schema.VERSION_TABLE}")).scalars().all()
        except _NoTable:
            found = []
        if found != [schema.REVISION]:
            state = f"is at revision {', '.join(found)}" if found else "has no tables"
            raise ConfigError(
                f"the database {self.where} {state}; this version of monitor-cli needs {schema.REVISION}",
                "run: monitor-cli db upgrade" if set(found) <= set(schema.REVISIONS) else NEWER_HINT,
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except exc.DBAPIError as error:
            raise _translate(error, self.where) from error
        except exc.TimeoutError as error:
            raise DatabaseAway(f"the database {self.where} has no connection left for us") from error
        except UnicodeEncodeError as error:  # bytes on a command line or in a file's name that are not UTF-8
            # Only the odd characters: what stands around them may be a whole statement with secrets in it.
            odd = error.object[error.start : error.end][:20]
            raise MonitorError(f"this is not text that can be stored: {odd!a}") from None
        except exc.NoSuchModuleError as error:  # pragma: no cover - engines.parse refuses it first
            raise ConfigError(f"database_url: {error}") from error


class _Again(DatabaseAway):
    """The store gave up on this transaction; the same again may succeed."""


class _NoTable(ConfigError):
    """A table that the statement names is not there."""


def code_of(error: BaseException) -> int | None:
    """MySQL's error number in a driver's exception, or None."""
    args = getattr(getattr(error, "orig", error), "args", ())
    return args[0] if args and isinstance(args[0], int) else None


def _translate(error: exc.DBAPIError, where: str) -> MonitorError:
    code, words = code_of(error), str(error.orig)
    reason = str(error.orig.args[1]) if code is not None and error.orig and len(error.orig.args) > 1 else words
    raced = code == _DUPLICATE and _RACED_KEY in reason
    if code in _CONFLICT or raced:
        return _Again(f"the database {where} is busy: others hold or write the same rows (error {code})")
    if "database is locked" in words or "database table is locked" in words:
        return _Again(f"the database {where} is busy: {reason}")
    if code == _NOT_READY:
        return _Again(f"the database {where} is not ready: {reason}")
    if any(phrase in reason for phrase in _TOO_LARGE):
        return MonitorError(
            f"the database {where} takes no transaction as large as this: {reason}",
            "raise wsrep_max_ws_rows and wsrep_max_ws_size, or give it fewer rows at once",
        )
    if code in _MISSING_TABLE or "no such table" in words:
        return _NoTable(f"the database {where} lacks a table: {reason}", "run: monitor-cli db upgrade")
    if code in _REFUSED:
        return ConfigError(
            f"the database {where} refuses us: {reason}", "check user, password, database name and GRANTs"
        )
    if "unable to open database file" in words:
        return ConfigError(f"the database {where} cannot be opened", "run: monitor-cli db upgrade, or check the path")
    if "readonly database" in words:
        return ConfigError(f"the database {where} cannot be written by this user", "check the file's owner and mode")
    if code in _AWAY or error.connection_invalidated or isinstance(error, exc.OperationalError | exc.InterfaceError):
        return DatabaseAway(f"the database {where} does not answer: {reason}")
    return MonitorError(f"the database {where} refused a statement: {reason}")
