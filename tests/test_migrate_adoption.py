"""A platform's own infi_voice_monitor: adopted with its rows unharmed, or refused with a list; views left alone."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor_cli import migrate, schema
from monitor_cli.migrate import shape
from tests.support.cli import Cli, Running
from tests.support.mariadb import MariaDB
from tests.support.stores import Store

MONITOR = "infi_voice_monitor"
MakeCli = Callable[[str | None], Cli]

# As the PHP plugin left it: other collations and character sets mixed, NULLs where one may, wider and unsigned types.
PHP_TABLE = f"""
CREATE TABLE {MONITOR} (
  id int(11) unsigned NOT NULL AUTO_INCREMENT,
  server_id smallint(6) NOT NULL,
  name varchar(100) COLLATE utf8mb3_unicode_ci DEFAULT NULL,
  server_tag varchar(30) CHARACTER SET latin1 NOT NULL,
  channel_id int(10) unsigned NOT NULL,
  capacity int(11) DEFAULT NULL,
  used int(11) DEFAULT NULL,
  primary_server varchar(255) DEFAULT NULL,
  region varchar(100) CHARACTER SET latin1 DEFAULT NULL,
  region_code varchar(100) DEFAULT NULL,
  incident_status varchar(50) DEFAULT NULL,
  final_status varchar(50) DEFAULT NULL,
  status_report tinyint(1) DEFAULT 0,
  meta mediumtext DEFAULT NULL,
  created int(11) DEFAULT NULL,
  modified bigint(20) DEFAULT NULL,
  note varchar(20) DEFAULT 'theirs',
  PRIMARY KEY (id)
) ENGINE=InnoDB AUTO_INCREMENT=400 DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci COMMENT='voice monitor'
"""
PHP_ROWS = f"""
INSERT INTO {MONITOR} VALUES
 (1, 1, 'blr-1', 'tag-é', 7, 100, 20, NULL, 'karnataka', 'KA-IN', 'operational', 'Operational', 0, NULL, 1, 1, NULL),
 (2, 2, NULL, 'TAG-é', 7, NULL, NULL, '', NULL, NULL, NULL, NULL, NULL, '', NULL, NULL, 'x'),
 (3, -3, 'Zürich ', 't ', 8, 10, 11, 'blr-1', 'Zürich', 'ka-in', 'Degraded', 'WARNING', 1, '{{"a": 1}}', 0, 5, ''),
 (77, 32767, 'दिल्ली', '', 4294967295, 0, 0, NULL, '', ' KA', 'weird word', 'nonsense', 1, '\\\\n', -1, 9999999999, 'q')
"""
PLAIN = """
  id {id}, server_id SMALLINT NOT NULL, name VARCHAR(100), server_tag VARCHAR(30), channel_id INT, capacity INT,
  used INT, primary_server VARCHAR(100), region VARCHAR(100), region_code VARCHAR(100), incident_status VARCHAR(50),
  final_status VARCHAR(50), status_report TINYINT, meta TEXT, created INT, modified INT
"""


def plain(store: Store) -> str:
    """The table of the contract, as somebody would type it."""
    key = "INTEGER PRIMARY KEY" if store.name == "sqlite" else "INT AUTO_INCREMENT PRIMARY KEY"
    return f"CREATE TABLE {MONITOR} ({PLAIN.format(id=key)})"


def execute(store: Store, *statements: str) -> None:
    with store.write() as conn:
        for statement in statements:
            conn.exec_driver_sql(statement)


def shapes(store: Store) -> dict[str, shape.Shape]:
    with store.read() as conn:
        return shape.read_all(conn)


def bytes_of(store: Store) -> list[tuple[object, ...]]:
    """Every row with the bytes that are stored, whatever the character set."""
    columns = list(shapes(store)[MONITOR].columns)
    with store.read() as conn:
        chosen = ", ".join(f"HEX({column})" for column in columns)
        return [tuple(row) for row in conn.exec_driver_sql(f"SELECT {chosen} FROM {MONITOR} ORDER BY id")]


def created_as(store: Store) -> str:
    with store.read() as conn:
        if store.name == "sqlite":
            query = "SELECT sql FROM sqlite_master WHERE name = 'infi_voice_monitor'"
            return str(conn.exec_driver_sql(query).scalar_one())
        return str(conn.exec_driver_sql(f"SHOW CREATE TABLE {MONITOR}").one()[1])


PAGE = """
{"page": {"id": "p", "name": "Voice", "url": "https://status.example"},
 "components": [{"id": "tag-é", "name": "Bangalore", "status": "major_outage", "group": false},
                {"id": "t ", "name": "Zürich", "status": "operational", "group": false}],
 "incidents": [], "scheduled_maintenances": [], "status": {"indicator": "major", "description": "Major outage"}}
"""


@pytest.fixture
def php(mariadb: MariaDB) -> Store:
    store = Store("mariadb", mariadb.create_database())
    execute(store, PHP_TABLE, PHP_ROWS)
    return store


def test_the_table_of_the_php_plugin_goes_up_and_down_unharmed(php: Store, make_cli: MakeCli) -> None:
    cli = make_cli(php.url)
    rows, statement = bytes_of(php), created_as(php)
    assert len(rows) == 4
    out = cli.ok("db", "upgrade").out.splitlines()
    assert f"adopted {MONITOR} (4 rows)" in out
    assert bytes_of(php) == rows
    indexes = shapes(php)[MONITOR].indexes
    assert indexes["ix_infi_voice_monitor_status_report_id"] == ("status_report", "id")
    assert indexes["ix_infi_voice_monitor_channel_id"] == ("channel_id",)
    cli("db", "check").quiet()
    down = cli.ok("db", "downgrade", "--yes").out.splitlines()
    assert f"kept {MONITOR}" in down
    assert bytes_of(php) == rows
    assert created_as(php) == statement
    assert set(shapes(php)) == {MONITOR}


def test_after_a_sync_only_what_it_changed_differs(php: Store, make_cli: MakeCli, tmp_path: Path) -> None:
    """`Operational` counts as operational, an unknown word and NULL as never told; the other rows keep every byte."""
    page = tmp_path / "summary.json"
    page.write_text(PAGE, "utf-8")
    cli = make_cli(php.url)
    before = {row[0]: row for row in bytes_of(php)}
    cli.ok("db", "upgrade")
    cli.ok("incident-sync", "--provider", "statuspage", "--file", str(page))
    cli.ok("db", "downgrade", "--yes")
    after = {row[0]: row for row in bytes_of(php)}
    columns = list(shapes(php)[MONITOR].columns)
    differing = {
        int(str(key), 16): {name for name, old, new in zip(columns, row, after[key], strict=True) if old != new}
        for key, row in before.items()
    }
    written = {"incident_status", "final_status", "status_report", "modified"}
    assert differing == {1: written, 2: set(), 3: written - {"status_report"}, 77: set()}
    with php.read() as conn:
        rows = conn.exec_driver_sql(f"SELECT id, incident_status, final_status, status_report FROM {MONITOR}").all()
    assert rows[0] == (1, "major_outage", "critical", 1)
    assert rows[2] == (3, "operational", "operational", 1)


def test_the_table_as_the_contract_has_it_is_adopted(engine: Store, make_cli: MakeCli) -> None:
    cli = make_cli(engine.url)
    execute(engine, plain(engine), f"INSERT INTO {MONITOR} (id, server_id, name, used) VALUES (5, 1, 'a', NULL)")
    rows, statement = bytes_of(engine), created_as(engine)
    assert f"adopted {MONITOR} (1 row)" in cli.ok("db", "upgrade").out
    cli("db", "check").quiet()
    assert bytes_of(engine) == rows
    cli.ok("db", "downgrade", "--yes")
    assert (bytes_of(engine), created_as(engine)) == (rows, statement)


def test_a_table_that_others_hold_is_not_waited_for_without_end(
    php: Store, make_cli: MakeCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate.run, "LOCK_WAIT_SECONDS", 1)
    cli = make_cli(php.url)
    with php.read() as conn:
        conn.exec_driver_sql(f"SELECT COUNT(*) FROM {MONITOR}").scalar_one()
        busy = cli("db", "upgrade")
    assert busy.code == 75
    assert "is busy" in busy.err
    cli.ok("db", "upgrade")
    cli("db", "check").quiet()


def test_values_that_only_a_wider_column_holds_are_worked_with(engine: Store, make_cli: MakeCli) -> None:
    wide = {"server_id SMALLINT": "server_id BIGINT", "channel_id INT": "channel_id BIGINT"}
    statement = plain(engine)
    for name in ("name", "region", "region_code"):
        wide[f"{name} VARCHAR(100)"] = f"{name} VARCHAR(255)"
    for old, new in wide.items():
        statement = statement.replace(old, new, 1)
    long = "x" * 255
    row = f"(1, 3000000000, '{long}', 'tag', 5000000000, '{long}', '{long}', 'operational', 0)"
    columns = "id, server_id, name, server_tag, channel_id, region, region_code, final_status, status_report"
    execute(engine, statement, f"INSERT INTO {MONITOR} ({columns}) VALUES {row}")
    cli = make_cli(engine.url)
    cli.ok("db", "upgrade")
    cli.ok("account", "add", "acme")
    execute(engine, f"INSERT INTO {schema.number.name} VALUES (1, '+911', 5000000000)")
    cli.ok("server", "edit", "1", "--final-status", "critical")
    with engine.read() as conn:
        change = conn.execute(schema.change.select()).one()
    assert (change.server_id, change.channel_id, change.region, change.name) == (3000000000, 5000000000, long, long)


def test_an_index_of_theirs_on_the_same_columns_is_enough(engine: Store, make_cli: MakeCli) -> None:
    theirs = {"theirs_a": ("channel_id", "server_tag"), "theirs_b": ("status_report",)}
    execute(engine, plain(engine), *(f"CREATE INDEX {n} ON {MONITOR} ({', '.join(c)})" for n, c in theirs.items()))
    cli = make_cli(engine.url)
    cli.ok("db", "upgrade")
    cli("db", "check").quiet()
    # InnoDB's end with the primary key; in SQLite's the row's number is the primary key.
    assert not any(name.startswith("ix_") for name in shapes(engine)[MONITOR].indexes)
    cli.ok("db", "downgrade", "--yes")
    assert set(theirs) <= set(shapes(engine)[MONITOR].indexes)


def test_an_index_on_other_columns_is_not(engine: Store, make_cli: MakeCli) -> None:
    execute(engine, plain(engine), f"CREATE INDEX theirs ON {MONITOR} (server_id, channel_id)")
    make_cli(engine.url).ok("db", "upgrade")
    assert "ix_infi_voice_monitor_channel_id" in shapes(engine)[MONITOR].indexes


def test_every_misfit_is_listed_and_nothing_is_changed(engine: Store, make_cli: MakeCli) -> None:
    statement = plain(engine)
    for old, new in {
        "name VARCHAR(100)": "name VARCHAR(50)",
        "server_tag VARCHAR(30)": "server_tag INT",
        "channel_id INT": "channel_id SMALLINT",
        "meta TEXT": "meta VARCHAR(255)",
        "created INT": "created DATETIME",
        "region_code VARCHAR(100),": "",
        "final_status VARCHAR(50),": "",
    }.items():
        assert old in statement
        statement = statement.replace(old, new, 1)
    execute(engine, statement, f"INSERT INTO {MONITOR} (id, server_id) VALUES (1, 1)")
    rows, statement = bytes_of(engine), created_as(engine)
    cli = make_cli(engine.url)
    for command in ("upgrade", "check"):
        result = cli("db", command)
        assert (result.code, result.out) == (78, "")
        listed = "\n".join(line for line in result.err.splitlines() if line.startswith("  - "))
        for words in (
            f"{MONITOR}.name is VARCHAR(50), too narrow: it has to be VARCHAR(100)",
            f"{MONITOR}.server_tag is INT",
            f"{MONITOR}.channel_id is SMALLINT",
            f"{MONITOR}.meta is VARCHAR(255), too narrow: it has to be TEXT",
            f"{MONITOR}.created is DATETIME, another kind of type: it has to be INT",
            f"{MONITOR}.region_code is missing: it has to be VARCHAR(100)",
            f"{MONITOR}.final_status is missing: it has to be VARCHAR(50)",
        ):
            assert words in listed
        assert "Traceback" not in result.err
    assert (bytes_of(engine), created_as(engine)) == (rows, statement)
    assert set(shapes(engine)) == {MONITOR}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("server_id SMALLINT", "server_id BIGINT UNSIGNED"),
        ("name VARCHAR(100)", "name TEXT"),
        ("server_tag VARCHAR(30)", "server_tag CHAR(30)"),
        ("region VARCHAR(100)", "region LONGTEXT"),
        ("status_report TINYINT", "status_report BOOLEAN"),
        ("meta TEXT", "meta LONGTEXT"),
        ("created INT", "created INT UNSIGNED"),
        ("modified INT", "modified BIGINT"),
    ],
)
def test_wider_types_are_fine(old: str, new: str, engine: Store, make_cli: MakeCli) -> None:
    assert old in plain(engine)
    execute(engine, plain(engine).replace(old, new, 1))
    cli = make_cli(engine.url)
    cli.ok("db", "upgrade")
    cli("db", "check").quiet()


def test_json_will_do_for_meta(mariadb: MariaDB, make_cli: MakeCli) -> None:
    store = Store("mariadb", mariadb.create_database())
    execute(store, plain(store).replace("meta TEXT", "meta JSON"))
    make_cli(store.url).ok("db", "upgrade")
    store.close()


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("id INT, UNIQUE (id)", "id is not the primary key"),
        ("id INT PRIMARY KEY", "id does not number rows by itself"),
        ("id SMALLINT PRIMARY KEY", "id is SMALLINT"),
    ],
)
def test_an_id_that_is_no_key_or_does_not_count(key: str, words: str, engine: Store, make_cli: MakeCli) -> None:
    name, _, rest = key.partition(",")
    statement = f"CREATE TABLE {MONITOR} ({PLAIN.format(id=name.removeprefix('id '))}{',' + rest if rest else ''})"
    execute(engine, statement)
    result = make_cli(engine.url)("db", "upgrade")
    assert result.code == 78
    assert f"{MONITOR}.{words}" in result.err
    assert set(shapes(engine)) == {MONITOR}


def test_an_engine_without_transactions_is_refused_with_the_cure(mariadb: MariaDB, make_cli: MakeCli) -> None:
    store = Store("mariadb", mariadb.create_database())
    execute(store, f"{plain(store)} ENGINE=MyISAM")
    cli = make_cli(store.url)
    result = cli("db", "upgrade")
    assert result.code == 78
    cure = f"ALTER TABLE {MONITOR} ENGINE=InnoDB"
    assert f"MyISAM, without transactions: {cure}" in result.err
    execute(store, cure)
    cli.ok("db", "upgrade")
    store.close()


def test_a_view_in_the_place_of_the_table_is_refused(engine: Store, make_cli: MakeCli) -> None:
    execute(engine, plain(engine).replace(MONITOR, "theirs"), f"CREATE VIEW {MONITOR} AS SELECT * FROM theirs")
    result = make_cli(engine.url)("db", "upgrade")
    assert result.code == 78
    assert f"{MONITOR} is a view" in result.err


# --- accounts, subscriptions, numbers ---------------------------------------------------------------------------------

THEIRS = (
    "CREATE TABLE customer (id INT PRIMARY KEY, name VARCHAR(60), digest CHAR(64))",
    "CREATE TABLE rented (customer INT, phone VARCHAR(20), channel INT)",
    "INSERT INTO customer VALUES (1, 'acme', 'ab')",
    "CREATE VIEW infi_voice_monitor_account AS SELECT id, name, digest AS api_key_sha256 FROM customer",
    "CREATE VIEW infi_voice_monitor_number AS SELECT customer AS account_id, phone AS number, channel AS channel_id "
    "FROM rented",
    "CREATE TABLE infi_voice_monitor_subscription (account_id INT PRIMARY KEY, active INT)",
    "INSERT INTO infi_voice_monitor_subscription VALUES (1, 1)",
)


def test_views_and_tables_of_theirs_are_left_alone(engine: Store, make_cli: MakeCli) -> None:
    execute(engine, *THEIRS)
    cli = make_cli(engine.url)
    out = cli.ok("db", "upgrade").out.splitlines()
    assert "left infi_voice_monitor_account as it is (a view)" in out
    assert "left infi_voice_monitor_subscription as it is (a table not made by us)" in out
    assert "infi_voice_monitor_number" not in next(line for line in out if line.startswith("created")).split(", ")
    cli("db", "check").quiet()
    cli.ok("db", "downgrade", "--yes")
    left = shapes(engine)
    assert set(left) == {MONITOR, *(f"{MONITOR}_{name}" for name in ("account", "number", "subscription"))}
    with engine.read() as conn:
        assert conn.exec_driver_sql("SELECT * FROM infi_voice_monitor_account").all() == [(1, "acme", "ab")]
        assert conn.exec_driver_sql("SELECT * FROM infi_voice_monitor_subscription").all() == [(1, 1)]
    cli.ok("db", "upgrade")


def test_a_view_of_another_shape_is_refused(engine: Store, make_cli: MakeCli) -> None:
    execute(
        engine,
        *THEIRS[:2],
        "CREATE VIEW infi_voice_monitor_account AS SELECT id, name FROM customer",
        "CREATE VIEW infi_voice_monitor_number AS "
        "SELECT phone AS account_id, customer AS number, channel AS channel_id FROM rented",
    )
    result = make_cli(engine.url)("db", "upgrade")
    assert result.code == 78
    assert "infi_voice_monitor_account.api_key_sha256 is missing: it has to be VARCHAR(64)" in result.err
    assert "infi_voice_monitor_number.account_id is VARCHAR(20): it has to be BIGINT" in result.err
    assert "infi_voice_monitor_number.number is INT" in result.err
    assert MONITOR not in shapes(engine)


def test_a_view_whose_table_has_gone_is_refused(engine: Store, make_cli: MakeCli) -> None:
    execute(engine, *THEIRS[:2], *THEIRS[3:5], "DROP TABLE customer")
    result = make_cli(engine.url)("db", "upgrade")
    assert result.code == 78
    assert "infi_voice_monitor_account cannot be read" in result.err
    assert "Traceback" not in result.err


def test_a_name_of_ours_that_another_took(engine: Store, make_cli: MakeCli) -> None:
    execute(engine, "CREATE TABLE infi_voice_monitor_callback (id INT)")
    result = make_cli(engine.url)("db", "upgrade")
    assert result.code == 78
    assert "infi_voice_monitor_callback is there, but was not made by monitor-cli" in result.err


# --- killed -----------------------------------------------------------------------------------------------------------


def kill_half_way(running: Running, count: Callable[[], int], steps: int, pause: float) -> bool:
    """SIGKILL a process once it has made or dropped so many tables; whether it was still at work then."""
    before = count()
    while not running.ended and abs(count() - before) < steps:
        time.sleep(0.001)
    time.sleep(pause)
    return running.kill().code < 0


def test_killed_at_any_moment_and_run_again(php: Store, mariadb: MariaDB, make_cli: MakeCli) -> None:
    """SIGKILL at random moments of upgrades and downgrades; what was left is brought to its end by the next run."""
    cli = make_cli(php.url)
    rows, statement = bytes_of(php), created_as(php)
    migrate.upgrade(php.url)
    upgraded = {name: found.indexes for name, found in shapes(php).items()}
    migrate.downgrade(php.url)
    chance, killed = random.Random(7), 0

    def count() -> int:
        return len(mariadb.execute("SHOW TABLES", database=php.database.url.database))

    for command, end in ((["upgrade"], upgraded), (["downgrade", "--yes"], None)) * 2:
        for _ in range(3):
            running = cli.start("db", *command)
            killed += kill_half_way(running, count, chance.randint(1, 5), chance.uniform(0, 0.03))
            assert bytes_of(php) == rows
        cli.ok("db", *command)
        if end is None:
            assert set(shapes(php)) == {MONITOR}
            assert created_as(php) == statement
        else:
            assert {name: found.indexes for name, found in shapes(php).items()} == end
            cli("db", "check").quiet()
    assert killed >= 4, "hardly any run was killed half-way: nothing was tried"
    assert bytes_of(php) == rows
    php.close()


def test_a_kill_between_up_and_down_can_be_mended_either_way(php: Store, make_cli: MakeCli) -> None:
    """A downgrade killed half-way can be taken back by an upgrade, and an upgrade by a downgrade."""
    cli = make_cli(php.url)
    migrate.upgrade(php.url)
    execute(php, *(f"DROP TABLE {t.name}" for t in (schema.account, schema.owed)))
    cli.ok("db", "upgrade")
    cli("db", "check").quiet()
    execute(php, f"DELETE FROM {schema.VERSION_TABLE}", f"DROP TABLE {schema.attempt.name}")
    cli.ok("db", "downgrade", "--yes")
    assert set(shapes(php)) == {MONITOR}
    php.close()
