"""Upgrade, downgrade, and what is said about a database: alembic run on a connection of ours.

Every run looks at the database first and does what is left to do, so it may be killed and run again, and two may run at
once: the one that comes second to a table starts over and finds it there.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Table, column, func, select, text
from sqlalchemy import table as table_of

from alembic import command
from monitor_cli import schema
from monitor_cli.db import NEWER_HINT, Database, code_of
from monitor_cli.dialect import is_mysql
from monitor_cli.errors import ConfigError, MonitorError
from monitor_cli.migrate import adoption, shape
from monitor_cli.words import many

Report = Callable[[str], None]

LOCK_WAIT_SECONDS = 60  # for a platform's long transaction on a table; others queue up behind us while we wait

# Somebody else made or dropped it since we looked: table, index, version row; or a deadlock.
_RACED = {1050, 1051, 1061, 1062, 1091, 1213}
_TRIES = 20

logging.getLogger("alembic").addHandler(logging.NullHandler())


def upgrade(url: str | URL, report: Report = lambda _line: None) -> None:
    """Bring a database to head: create what is missing, adopt what is there. `report` is given a line for each thing
    done. Raises ConfigError (78) with every misfit in one message, and then nothing was changed."""
    database = _open(url, create=True)
    try:
        with database.read() as conn:
            _require_database(conn)
            before, revision = shape.read_all(conn), _revision(conn)
        _repeated(lambda: _upgrade(database))
        with database.read() as conn:
            for line in _done(conn, before, shape.read_all(conn), revision):
                report(line)
    finally:
        database.close()


def downgrade(url: str | URL, report: Report = lambda _line: None) -> None:
    """Drop the tables and indexes that we made: never infi_voice_monitor, a view, or a table of the platform's."""
    database = _open(url)
    try:
        with database.read() as conn:
            _require_database(conn)
            before = shape.read_all(conn)
        _repeated(lambda: _downgrade(database))
        with database.read() as conn:
            for line in _undone(before, shape.read_all(conn)):
                report(line)
    finally:
        database.close()


@dataclass(frozen=True)
class Current:
    """Where a database stands: its revision (None: no tables), this code's, and the store without its password."""

    revision: str | None
    head: str
    store: str

    def record(self) -> dict[str, Any]:
        return asdict(self)


def current(url: str | URL) -> Current:
    """The revision of a database. Raises ConfigError where there is none, DatabaseAway."""
    database = _open(url)
    try:
        with database.read() as conn:
            _require_database(conn)
            return Current(_revision(conn), schema.REVISION, database.where)
    finally:
        database.close()


class Findings(NamedTuple):
    """What a check found, as sentences, by how it is mended: by `db upgrade`, by hand, by GRANT, by a newer version."""

    upgrade: list[str]
    by_hand: list[str]
    refused: list[str]
    newer: list[str]


def check(url: str | URL, *, api: bool = False) -> Findings:
    """What does not fit: revision, tables, columns, indexes, the views' shape, and the rights of this user, who is the
    cron jobs' or with `api` the incident API's. Writes are tried without effect. Raises ConfigError where a file cannot
    be written at all."""
    database = _open(url)
    try:
        with database.read() if api else database.write() as conn:
            _require_database(conn)
            return _check(conn, api)
    finally:
        database.close()


# --- the runs ---------------------------------------------------------------------------------------------------------


def _upgrade(database: Database) -> None:
    with database.write() as conn:
        shapes = _look(conn)
        if found := adoption.misfits(conn, shapes):
            listed = "\n".join(f"  - {problem}" for problem in found)
            raise ConfigError(
                f"the database {database.where} does not fit; nothing was changed:\n{listed}",
                "mend this, then run again: monitor-cli db upgrade",
            )
        if _revision(conn) == schema.REVISION and adoption.missing(shapes):
            # A downgrade was killed, or somebody dropped an index: every revision again, each step where needed.
            conn.execute(text(f"DELETE FROM {schema.VERSION_TABLE}"))
        _alembic(conn, command.upgrade, "head")


def _downgrade(database: Database) -> None:
    with database.write() as conn:
        shapes = _look(conn)
        if _revision(conn) is None and any(found.made_here for found in shapes.values()):
            _alembic(conn, command.stamp, "head")  # an upgrade was killed, or a downgrade before its very end
        if _revision(conn) is not None:
            _alembic(conn, command.downgrade, "base")
        conn.execute(text(f"DROP TABLE IF EXISTS {schema.VERSION_TABLE}"))


def _look(conn: Connection) -> dict[str, shape.Shape]:
    if is_mysql(conn):
        conn.execute(text(f"SET SESSION lock_wait_timeout = {LOCK_WAIT_SECONDS}"))
    _refuse_unknown(_revision(conn))
    return shape.read_all(conn)


def _check(conn: Connection, api: bool) -> Findings:
    found, shapes = Findings([], [], [], []), shape.read_all(conn)
    problem = adoption.unreadable(conn, table_of(schema.VERSION_TABLE, column("version_num")))
    if problem is not None and not problem.is_missing:
        found.refused.append(problem.words)
    elif (revision := _revision(conn)) != schema.REVISION:
        needs = f"the revision is {revision or 'none'}: this version of monitor-cli needs {schema.REVISION}"
        (found.upgrade if _known(revision) else found.newer).append(needs)
    found.upgrade.extend(adoption.missing(shapes))
    found.by_hand.extend([*adoption.misfits(conn, shapes), *adoption.damaged(conn, shapes)])
    for one in schema.metadata.tables.values():
        _try_rights(conn, one, found, api)
    return found


def _try_rights(conn: Connection, one: Table, found: Findings, api: bool) -> None:
    """What this user may not do with a table, in place of what its shape seemed to be."""
    said = f"the table {one.name} is missing"
    if api and one is not schema.monitor and one not in schema.ACCOUNT_TABLES:
        found.upgrade[:] = [line for line in found.upgrade if line != said]  # not the API's: invisible to its user
        return
    problem = adoption.unreadable(conn, one)
    if problem is None:
        found.refused.extend([] if api else adoption.unwritable(conn, one))
    elif not problem.is_missing:
        # Without any right to it a table is invisible, not missing; and an unknown column was named already.
        found.upgrade[:] = [line for line in found.upgrade if line != said]
        if not any(line.startswith((f"{one.name}.", f"{one.name} ")) for line in found.by_hand):
            found.refused.append(problem.words)


def _alembic(conn: Connection, run: Callable[[Config, str], Any], revision: str) -> None:
    config = _config()
    config.attributes["connection"] = conn
    try:
        run(config, revision)
    except CommandError as error:
        raise MonitorError(f"the migrations: {error}") from error


def _config() -> Config:
    package = Path(__file__).resolve().parent.parent
    installed = package / "migrations"  # of a wheel; a checkout (and an editable install) has them beside the package
    place = installed if (installed / "env.py").is_file() else package.parent / "alembic"
    if not (place / "env.py").is_file():
        raise MonitorError(f"the migrations are not in {installed}", "install monitor-cli again")
    config = Config()
    config.set_main_option("script_location", str(place).replace("%", "%%"))
    return config


def _repeated(work: Callable[[], None]) -> None:
    for tried in range(1, _TRIES + 1):
        try:
            return work()
        except MonitorError as error:
            if tried == _TRIES or not _raced(error):
                raise
        time.sleep(random.uniform(0.01, 0.1))
    return None


def _raced(error: MonitorError) -> bool:
    cause = error.__cause__
    return cause is not None and (code_of(cause) in _RACED or "is locked" in str(getattr(cause, "orig", "")))


# --- the database -----------------------------------------------------------------------------------------------------


def _open(url: str | URL, *, create: bool = False) -> Database:
    try:
        return Database(url, create=create)
    except OSError as error:
        raise ConfigError(f"the database's directory {error.filename} cannot be made: {error.strerror}") from None


def _require_database(conn: Connection) -> None:
    if is_mysql(conn) and conn.execute(text("SELECT DATABASE()")).scalar() is None:
        raise ConfigError("database_url names no database", "write it as mysql+pymysql://user:password@host/database")


def _revision(conn: Connection) -> str | None:
    """The version table's row. It may be absent, or empty after a kill."""
    if schema.VERSION_TABLE not in shape.read_all(conn):
        return None
    found = conn.execute(text(f"SELECT version_num FROM {schema.VERSION_TABLE}")).scalars().all()
    return ", ".join(sorted(found)) or None


def _refuse_unknown(revision: str | None) -> None:
    if not _known(revision):
        raise ConfigError(
            f"the database is at revision {revision}; this version of monitor-cli knows none after {schema.REVISION}",
            NEWER_HINT,
        )


def _known(revision: str | None) -> bool:
    return revision is None or set(revision.split(", ")) <= set(schema.REVISIONS)


# --- words ------------------------------------------------------------------------------------------------------------


def _done(conn: Connection, before: adoption.Shapes, after: adoption.Shapes, revision: str | None) -> list[str]:
    lines = []
    name = schema.monitor.name
    if name in before and revision is None:
        rows = conn.execute(select(func.count()).select_from(schema.monitor)).scalar_one()
        lines.append(f"adopted {name} ({many(rows, 'row')})")
    for table, shaped in sorted(after.items()):
        if table in before:
            added = sorted(set(shaped.indexes) - set(before[table].indexes))
            lines += [f"added the index {index} to {table}" for index in added]
    for table in (t.name for t in schema.ACCOUNT_TABLES):
        if table in before and not before[table].made_here and revision is None:
            lines.append(f"left {table} as it is ({'a view' if before[table].is_view else 'a table not made by us'})")
    if created := sorted(set(after) - set(before)):
        lines.append(f"created {', '.join(created)}")
    return [*lines, f"the database is at revision {schema.REVISION}"]


def _undone(before: adoption.Shapes, after: adoption.Shapes) -> list[str]:
    lines = []
    if dropped := sorted(set(before) - set(after)):
        lines.append(f"dropped {', '.join(dropped)}")
    for table, shaped in sorted(after.items()):
        gone = sorted(set(before[table].indexes) - set(shaped.indexes)) if table in before else []
        lines += [f"dropped the index {index} of {table}" for index in gone]
        lines.append(f"kept {table}{' (a view)' if shaped.is_view else ''}")
    return lines or ["there was nothing of ours in the database"]
