"""SQLAlchemy's engine for a database_url: the URL judged, the driver told how to dial, each session set up."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from functools import cache
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any
from warnings import catch_warnings, simplefilter

from sqlalchemy import Connection, Engine, create_engine, event, exc
from sqlalchemy.engine import URL, make_url

from monitor_cli import safetext
from monitor_cli.errors import ConfigError


def described(url: str | URL) -> str:
    """A database_url for people: without the password, and without the query, where one may stand too. Raises
    ConfigError (78) where it is none, or names a store or an option file that is not there."""
    return shown(parse(url))


def shown(url: URL) -> str:
    """What `described` says of a URL that is parsed."""
    return url.difference_update_query(url.query).render_as_string(hide_password=True)


def parse(url: str | URL) -> URL:
    """A database_url, judged. Raises ConfigError (78)."""
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
    from configparser import Error as ParserError  # few URLs name such a file
    from configparser import RawConfigParser

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


_RESTED_SECONDS = 1.0  # in the pool, after which a connection is pinged before it is used
_ALWAYS: dict[str, Any] = {"hide_parameters": True}  # secrets are among them, and an error's text reaches logs
_WORKING: dict[str, Any] = {
    "isolation_level": "READ COMMITTED",
    "pool_reset_on_return": None,  # whoever takes a connection ends its transaction (db)
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


def engine(url: URL, create: bool, serving: bool) -> Engine:
    """The engine for a parsed URL; it dials nothing yet. `create`: a SQLite file that is not there is made; `serving`:
    for the incident API. Raises ConfigError (78)."""
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url, create, serving)
    try:
        made = create_engine(url, pool_recycle=3600, **(_SERVING if serving else _WORKING), **_ALWAYS)
    except Exception as error:
        raise _misused(error, url.query) from None
    event.listen(made, "do_connect", _dial)
    event.listen(made, "connect", _mysql_session)
    if not serving:
        _ping_what_rested(made)
    return made


def _ping_what_rested(made: Engine) -> None:
    """Replace a connection that died in the pool, as pool_pre_ping does, but ask only where it was not used a moment
    ago: in a run that would be a round trip more for each transaction."""

    @event.listens_for(made, "checkin")
    def _left(_connection: Any, record: Any) -> None:
        record.info["left"] = monotonic()

    @event.listens_for(made, "checkout")
    def _taken(connection: Any, record: Any, _fairy: Any) -> None:
        if monotonic() > record.info.get("left", inf) + _RESTED_SECONDS:
            try:
                made.dialect.do_ping(connection)
            except made.dialect.loaded_dbapi.Error as error:
                raise exc.InvalidatePoolError from error


def _dial(dialect: Any, _record: Any, args: Any, options: Any) -> Any:
    """Connect; what the driver cannot make sense of is the configuration's fault."""
    try:
        connect = dialect.connect if dialect.name == "sqlite" else _pymysql()
        return connect(*args, **options)
    except dialect.loaded_dbapi.Error:
        raise
    except Exception as error:  # a driver says it in many ways: no such option, no such host name, no such number
        raise _misused(error, options) from None


@cache
def _pymysql() -> Callable[..., Any]:
    """PyMySQL's connect. Where nothing is said of TLS it takes what the server offers and verifies nothing, but reads
    the system's certificate authorities first, for each connection anew: 25 ms of a command that cron starts every
    minute."""
    from ssl import CERT_NONE, PROTOCOL_TLS_CLIENT, SSLContext

    from pymysql.connections import Connection as Driver

    unverified = SSLContext(PROTOCOL_TLS_CLIENT)
    unverified.check_hostname, unverified.verify_mode = False, CERT_NONE

    class Dialling(Driver):
        def _create_ssl_ctx(self, asked: Any) -> SSLContext:
            return super()._create_ssl_ctx(asked) if asked else unverified  # type: ignore[misc]  # not in its stubs

    return Dialling


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
            made = create_engine(url, connect_args={"timeout": 30, "check_same_thread": False}, **mode)
    except Exception as error:
        raise _misused(error, url.query) from None
    event.listen(made, "do_connect", _dial)

    @event.listens_for(made, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself; _begin does
        for pragma in ("busy_timeout=30000", "query_only=ON" if serving else "journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")

    if serving:
        return made

    @event.listens_for(made, "begin")
    def _begin(conn: Connection) -> None:
        # A transaction that reads first and writes later could not be repeated by SQLite's own waiting.
        conn.exec_driver_sql("BEGIN IMMEDIATE" if conn.get_execution_options().get("monitor_write") else "BEGIN")

    return made
