"""db upgrade, downgrade, current, check on an empty database: through the real command line, on each store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.engine import make_url

from monitor_cli import migrate, schema
from monitor_cli.migrate import shape
from tests.support.cli import Cli
from tests.support.mariadb import MariaDB
from tests.support.stores import Store

ROOT = Path(__file__).resolve().parent.parent
ALL = {*schema.metadata.tables, schema.VERSION_TABLE}

MakeCli = Callable[[str | None], Cli]


def shapes(store: Store) -> dict[str, shape.Shape]:
    with store.read() as conn:
        return shape.read_all(conn)


def statements(store: Store) -> dict[str, list[str]]:
    """How each table would be created, its lines sorted: the order of keys says nothing."""
    with store.read() as conn:
        if store.name == "sqlite":
            rows = conn.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> :v"), V)
        else:
            names = conn.exec_driver_sql("SHOW TABLES").scalars().all()
            rows = [conn.exec_driver_sql(f"SHOW CREATE TABLE `{n}`").one() for n in names if n != schema.VERSION_TABLE]
        return {name: sorted(line.strip(" ,") for line in sql.splitlines()) for name, sql in rows}


V = {"v": schema.VERSION_TABLE}


def execute(store: Store, *lines: str) -> None:
    with store.write() as conn:
        for line in lines:
            conn.exec_driver_sql(line)


def test_the_code_needs_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "alembic"))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_current_head() == schema.REVISION
    assert tuple(reversed([script.revision for script in scripts.walk_revisions()])) == schema.REVISIONS


def test_upgrade_creates_everything_and_says_so_and_is_then_done(engine: Store, make_cli: MakeCli) -> None:
    cli = make_cli(engine.url)
    first = cli.ok("db", "upgrade")
    assert set(shapes(engine)) == ALL
    created, last = first.out.splitlines()
    assert set(created.removeprefix("created ").split(", ")) == ALL
    assert last == f"the database is at revision {schema.REVISION}"
    assert first.err == ""
    before = statements(engine)
    assert cli.ok("db", "upgrade").out.splitlines() == [last]
    assert statements(engine) == before
    cli("db", "check").quiet()


def test_a_migrated_database_is_the_one_that_the_code_describes(engine: Store, tmp_path: Path) -> None:
    migrate.upgrade(engine.url)
    migrated = statements(engine)
    with engine.read() as conn:
        options = {"version_table": schema.VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(conn, opts=options)
        assert compare_metadata(context, schema.metadata) == []
    migrate.downgrade(engine.url)
    execute(engine, f"DROP TABLE {schema.monitor.name}")
    with engine.write() as conn:
        schema.metadata.create_all(conn)
    assert statements(engine) == migrated


def test_down_and_up_again(database: Store, make_cli: MakeCli) -> None:
    cli = make_cli(database.url)
    execute(
        database,
        f"INSERT INTO {schema.monitor.name} (server_id, name, server_tag, channel_id) VALUES (1, 'a', 'b', 2)",
    )
    before = statements(database)
    out = cli.ok("db", "downgrade", "--yes").out
    left = shapes(database)
    assert set(left) == {schema.monitor.name}
    assert not any(name.startswith("ix_") for name in left[schema.monitor.name].indexes)
    assert f"kept {schema.monitor.name}" in out.splitlines()
    assert "infi_voice_monitor_callback" in out
    cli.ok("db", "downgrade", "--yes")
    again = cli.ok("db", "upgrade").out
    assert f"adopted {schema.monitor.name} (1 row)" in again.splitlines()
    assert statements(database) == before
    cli("db", "check").quiet()


def test_downgrade_asks_first(database: Store, make_cli: MakeCli) -> None:
    refused = make_cli(database.url)("db", "downgrade")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert set(shapes(database)) == ALL


def test_current(engine: Store, make_cli: MakeCli) -> None:
    cli = make_cli(engine.url)
    if engine.name != "sqlite":
        assert cli.ok("db", "current", "--json").json["revision"] is None
    else:
        absent = cli("db", "current")
        assert (absent.code, "does not exist" in absent.err) == (78, True)
    migrate.upgrade(engine.url)
    found = cli.ok("db", "current", "--json").json
    assert found == {"revision": schema.REVISION, "head": schema.REVISION, "store": engine.database.where}
    password = engine.database.url.password
    assert password is None or password not in cli.ok("db", "current").out


def test_an_unknown_revision_is_left_alone(database: Store, make_cli: MakeCli) -> None:
    execute(database, f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'")
    before = statements(database)
    cli = make_cli(database.url)
    for args in (["upgrade"], ["downgrade", "--yes"]):
        result = cli("db", *args)
        assert (result.code, result.out) == (78, "")
        assert "revision 9999" in result.err
        assert "Traceback" not in result.err
    assert statements(database) == before
    for args in (["db", "check"], ["server", "list"]):
        result = cli(*args)
        assert result.code == 78
        assert "9999" in result.err
        assert "a newer version wrote it" in result.err
        assert "db upgrade" not in result.err


@pytest.mark.parametrize("damage", ["an index", "a table", "half a downgrade"])
def test_upgrade_mends_what_is_missing_at_head(damage: str, database: Store, make_cli: MakeCli) -> None:
    before = statements(database)
    if damage == "an index":
        on = "" if database.name == "sqlite" else f" ON {schema.monitor.name}"
        execute(database, f"DROP INDEX ix_infi_voice_monitor_channel_id{on}")
    elif damage == "a table":
        execute(database, f"DROP TABLE {schema.condition.name}")
    else:
        execute(database, *(f"DROP TABLE {t.name}" for t in (schema.account, schema.callback, schema.change)))
    cli = make_cli(database.url)
    complaint = cli("db", "check")
    assert complaint.code == 78
    assert "is missing" in complaint.err
    assert "db upgrade" in complaint.err
    cli.ok("db", "upgrade")
    assert statements(database) == before
    cli("db", "check").quiet()


@pytest.mark.parametrize("left", ["no version row", "no version table"])
def test_downgrade_goes_on_after_a_kill(left: str, database: Store, make_cli: MakeCli) -> None:
    """An upgrade that was killed has no version yet; a downgrade that was killed may have none any more."""
    execute(database, f"DELETE FROM {schema.VERSION_TABLE}", f"DROP TABLE {schema.account.name}")
    if left == "no version table":
        execute(database, f"DROP TABLE {schema.VERSION_TABLE}")
    make_cli(database.url).ok("db", "downgrade", "--yes")
    assert set(shapes(database)) == {schema.monitor.name}


def test_check_names_each_damage(database: Store, make_cli: MakeCli) -> None:
    execute(
        database,
        f"ALTER TABLE {schema.owed.name} DROP COLUMN unsure",
        f"DELETE FROM {schema.VERSION_TABLE}",
        f"DROP TABLE {schema.lease.name}",
    )
    result = make_cli(database.url)("db", "check")
    assert result.code == 78
    problems = [line[4:] for line in result.err.splitlines() if line.startswith("  - ")]
    assert problems == [
        f"the revision is none: this version of monitor-cli needs {schema.REVISION}",
        f"the table {schema.lease.name} is missing",
        f"{schema.owed.name}.unsure is missing: it has to be SMALLINT",
    ]
    assert "by hand: docs/database.md" in result.err
    assert result.err.endswith("run: monitor-cli db upgrade\n")
    assert "GRANT" not in result.err


def test_check_names_a_file_that_cannot_be_written(sqlite_database: Store, make_cli: MakeCli) -> None:
    path = Path(str(make_url(sqlite_database.url).database))
    result = make_cli(f"sqlite:///file:{path}?mode=ro&uri=true")("db", "check")
    assert result.code == 78
    assert "owner and mode" in result.err


def test_two_upgrades_at_once(engine: Store, make_cli: MakeCli) -> None:
    cli = make_cli(engine.url)
    for _ in range(3):
        running = [cli.start("db", "upgrade") for _ in range(3)]
        for result in [process.wait() for process in running]:
            result.ok()
            assert result.err == ""
        cli("db", "check").quiet()
        migrate.downgrade(engine.url)
        execute(engine, f"DROP TABLE {schema.monitor.name}")


def test_a_failing_upgrade_of_sqlite_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from monitor_cli.migrate.steps import Steps

    original, done = Steps.index, []

    def index(self: Steps, *args: str) -> None:
        done.append(args)
        if len(done) == 5:
            raise RuntimeError("the disk is full")
        original(self, *args)

    monkeypatch.setattr(Steps, "index", index)
    store = Store("sqlite", f"sqlite:///{tmp_path / 'new' / 'dir' / 'm.db'}")
    with pytest.raises(RuntimeError):
        migrate.upgrade(store.url)
    assert shapes(store) == {}
    monkeypatch.undo()
    migrate.upgrade(store.url)
    assert set(shapes(store)) == ALL
    store.close()


def test_a_directory_that_cannot_be_made(tmp_path: Path, make_cli: MakeCli) -> None:
    (tmp_path / "file").write_text("")
    result = make_cli(f"sqlite:///{tmp_path / 'file' / 'sub' / 'm.db'}")("db", "upgrade")
    assert result.code == 78
    assert "Not a directory" in result.err
    assert "Traceback" not in result.err


def test_a_server_that_is_away(make_cli: MakeCli) -> None:
    cli = make_cli("mysql+pymysql://someone:hush-hush@127.0.0.1:1/voice")
    for command in (["upgrade"], ["downgrade", "--yes"], ["current"], ["check"]):
        result = cli("db", *command)
        assert result.code == 75
        assert "hush-hush" not in result.err + result.out
        assert "Traceback" not in result.err


def test_an_option_file_holds_user_password_and_database(mariadb: MariaDB, make_cli: MakeCli, tmp_path: Path) -> None:
    name = mariadb.create_database().rpartition("/")[2].partition("?")[0]
    options = tmp_path / "my.cnf"
    lines = f"[client]\nhost=127.0.0.1\nport={mariadb.port}\nuser={mariadb.user}\npassword={mariadb.password}\n"
    options.write_text(lines)
    without = make_cli(f"mysql+pymysql:///?read_default_file={options}")("db", "upgrade")
    assert (without.code, "names no database" in without.err) == (78, True)
    for url in (f"mysql+pymysql:///{name}?read_default_file={options}", f"mysql:///?read_default_file={options}"):
        if "pymysql" not in url:
            options.write_text(f"{lines}database={name}\n")
        cli = make_cli(url)
        cli.ok("db", "upgrade")
        cli("db", "check").quiet()
        assert mariadb.password not in cli.ok("db", "current").out
    assert {row[0] for row in mariadb.execute("SHOW TABLES", database=name)} == ALL


def test_a_password_with_signs_that_mean_something(mariadb: MariaDB, make_cli: MakeCli) -> None:
    url = mariadb.create_database()
    name = url.rpartition("/")[2].partition("?")[0]
    mariadb.execute(
        f"CREATE USER 'odd-{name}'@'%' IDENTIFIED BY 'p%40s%(x)s/w'", f"GRANT ALL ON `{name}`.* TO 'odd-{name}'@'%'"
    )
    cli = make_cli(f"mysql+pymysql://odd-{name}:p%2540s%25%28x%29s%2Fw@127.0.0.1:{mariadb.port}/{name}")
    result = cli.ok("db", "upgrade")
    assert "p%40" not in result.out + cli.ok("db", "current").out
    cli("db", "check").quiet()


def test_nothing_of_alembic_reaches_the_outputs(engine: Store, make_cli: MakeCli) -> None:
    cli = make_cli(engine.url)
    result: Any = cli.process("-v", "db", "upgrade").ok()
    assert result.err == ""
    assert "alembic" not in result.out.lower()
