"""The database: engine, transactions, retry. SQL itself lives in store/, the differences between the stores in dialect.

A command opens one Database. `read()` and `write()` give a Connection in one transaction; `transact()` runs a function
in one and starts it again where the store gave up on it (deadlock, lock time-out, certification failure, SQLite's
busy). Whoever opens the transaction owns it: functions in store/ take a Connection and never commit.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from configparser import Error as ParserError
from configparser import RawConfigParser
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from warnings import catch_warnings, simplefilter

from sqlalchemy import Connection as Connection
from sqlalchemy import (
    Engine,
    Row,
    create_engine,
    event,
    exc,
    text,
)
from sqlalchemy.engine import URL, make_url

from monitor_cli import safetext, schema
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
        self.url = _parse(url)
        self.engine = _engine(self.url, create, serving)
        self._keeps = serving
        self._kept: deque[Connection] = deque()

    @property
    def where(self) -> str:
        return _shown(self.url)

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
        except exc.NoSuchModuleError as error:  # pragma: no cover - _parse refuses it first
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


def described(url: str | URL) -> str:
    """A database_url for people: without the password, and without the query, where one may stand too. Raises
    ConfigError (78) where it is none, or names a store or an option file that is not there."""
    return _shown(_parse(url))


def _shown(url: URL) -> str:
    return url.difference_update_query(url.query).render_as_string(hide_password=True)


def _parse(url: str | URL) -> URL:
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):
        raise ConfigError(
            "database_url is not a URL",
            "write it as mysql+pymysql://user:password@host/database or sqlite:////path/file.db",
        ) from None
    _check_option_file(parsed)
    _check_ats(url, parsed)
    if parsed.get_backend_name() in ("mysql", "mariadb") and parsed.get_driver_name() == "pymysql":
        return _in_utf8(parsed)
    if parsed.get_backend_name() == "sqlite" and parsed.get_driver_name() == "pysqlite":
        return parsed
    if parsed.drivername in ("mysql", "mariadb"):
        return _in_utf8(parsed.set(drivername=f"{parsed.drivername}+pymysql"))
    raise ConfigError(
        f"database_url names a store that is not supported: {parsed.drivername}",
        "use mysql+pymysql:// (MySQL 8, MariaDB 10.6 and newer) or sqlite:///",
    )


def _in_utf8(url: URL) -> URL:
    """Names are in every script: what the URL says else of it, or an option file, would lose them."""
    return url.update_query_dict({"charset": "utf8mb4"})


def _check_ats(given: str | URL, url: URL) -> None:
    """An @ in a password cuts it in two, and its rest would be taken for the host, and shown. Raises ConfigError."""
    if url.get_backend_name() == "sqlite":
        return
    if (isinstance(given, str) and given.count("@") > 1) or any(
        "@" in part for part in (url.host, url.database) if part
    ):
        raise ConfigError(
            "database_url has an @ too many: is a character of its password not escaped?",
            "write @ as %40, / as %2F, ? as %3F and # as %23 in user, password and options",
        )


def _check_option_file(url: URL) -> None:
    """PyMySQL passes over an option file that is not there, and would then try some other user and host."""
    path = url.query.get("read_default_file")
    if not isinstance(path, str):
        return
    try:
        RawConfigParser(strict=False, allow_no_value=True).read_string(Path(path).expanduser().read_text("utf-8"))
    except (ParserError, UnicodeDecodeError):
        raise ConfigError(
            f"database_url: read_default_file {path} is no MySQL option file", "it has [client] and lines of key=value"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"database_url: read_default_file {path}: {error.strerror}", "check the path and who may read it"
        ) from None


_ALWAYS: dict[str, Any] = {"hide_parameters": True}  # secrets are among them, and an error's text reaches logs
_WORKING: dict[str, Any] = {
    "isolation_level": "READ COMMITTED",
    "pool_pre_ping": True,
    "connect_args": {"connect_timeout": 10, "read_timeout": 10, "write_timeout": 120},
}
# The incident API: single SELECTs, so nothing is begun, rolled back or pinged (docs/serving.md has what that saves);
# short timeouts, since a client waits; a bounded pool, so that a slow database piles up neither threads nor sessions.
_POOL: dict[str, Any] = {
    "isolation_level": "AUTOCOMMIT",
    "skip_autocommit_rollback": True,
    "pool_reset_on_return": None,
    "pool_size": 32,
    "max_overflow": 0,
    "pool_timeout": 5,
    "pool_use_lifo": True,
}
_SERVING = {**_POOL, "connect_args": {"connect_timeout": 3, "read_timeout": 3, "write_timeout": 10}}


def _engine(url: URL, create: bool, serving: bool) -> Engine:
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url, create, serving)
    try:
        engine = create_engine(url, pool_recycle=3600, **(_SERVING if serving else _WORKING), **_ALWAYS)
    except Exception as error:
        raise _misused(error, url.query) from None
    event.listen(engine, "do_connect", _dial)
    event.listen(engine, "connect", _mysql_session)
    return engine


def _dial(dialect: Any, _record: Any, args: Any, options: Any) -> Any:
    """Connect; what the driver cannot make sense of is the configuration's fault."""
    try:
        return dialect.connect(*args, **options)
    except dialect.loaded_dbapi.Error:
        raise
    except Exception as error:  # a driver says it in many ways: no such option, no such host name, no such number
        raise _misused(error, options) from None


def _misused(error: Exception, options: Collection[str]) -> ConfigError:
    """The words for what a driver made nothing of. Its own are not repeated: a password may be in them."""
    if isinstance(error, UnicodeError):
        words = "a part of its host's name is empty or too long"
    elif named := [name for name in options if f"'{name}'" in str(error)]:
        words = f"the driver has no option {', '.join(named)}"
    else:
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        words = f"the driver makes nothing of its port or options ({reason})"
    return ConfigError(f"database_url: {words}", "what stands after the ? goes to the driver (docs/database.md)")


def _mysql_session(connection: Any, _record: Any) -> None:
    # PyMySQL's connect_timeout ends with TCP; a server that then says nothing was given up as early by read_timeout.
    connection._read_timeout = connection._write_timeout
    with connection.cursor() as cursor:
        cursor.execute(
            "SET time_zone='+00:00', innodb_lock_wait_timeout=5, group_concat_max_len=67108864, "
            "sql_mode='STRICT_TRANS_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO'"
        )


def _prepare_file(file: Path, create: bool) -> None:
    if create:
        file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # SQLite says it in its own words
            file.touch(mode=0o600)  # it holds the customers' secrets; -wal and -shm get the same mode
    elif not file.exists():
        raise ConfigError(f"the database {file} does not exist", "run: monitor-cli db upgrade")


def _sqlite_engine(url: URL, create: bool, serving: bool) -> Engine:
    path = url.database
    if path and path != ":memory:" and not path.startswith("file:"):
        try:
            _prepare_file(Path(path), create)
        except OSError as error:
            raise ConfigError(f"the database {safetext.short(path)}: {error.strerror}", "check its path") from None
    mode = {**(_POOL if serving else {}), **_ALWAYS}
    try:
        with catch_warnings():
            simplefilter("error", exc.SAWarning)  # it warns of options that the driver does not have
            engine = create_engine(url, connect_args={"timeout": 30, "check_same_thread": False}, **mode)
    except Exception as error:
        raise _misused(error, url.query) from None
    event.listen(engine, "do_connect", _dial)

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself; _begin does
        for pragma in ("busy_timeout=30000", "query_only=ON" if serving else "journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")

    if serving:
        return engine

    @event.listens_for(engine, "begin")
    def _begin(conn: Connection) -> None:
        # A transaction that reads first and writes later could not be repeated by SQLite's own waiting.
        conn.exec_driver_sql("BEGIN IMMEDIATE" if conn.get_execution_options().get("monitor_write") else "BEGIN")

    return engine
