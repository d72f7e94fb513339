"""docs/database.md holds on MariaDB: its statements are run as they stand there, over a platform's own tables with
collations mixed, with users who have the documented privileges and no other."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import Connection, Select, select, text
from sqlalchemy.engine import make_url

from monitor_cli import schema
from monitor_cli.db import Database
from monitor_cli.errors import ConfigError, MonitorError
from monitor_cli.store import listing
from monitor_cli.types import Type
from tests.support.cli import Cli
from tests.support.http import Receiver
from tests.support.mariadb import MariaDB
from tests.support.stores import Store
from tests.support.world import World

DOCS = Path(__file__).resolve().parent.parent / "docs" / "database.md"
LOCAL = {"MONITOR_ALLOW_NETWORKS": "127.0.0.0/8"}
PAGE = """
{"page": {"id": "p", "name": "Voice", "url": "https://status.example"},
 "components": [{"id": "zh-1", "name": "Zurich", "status": "major_outage", "group": false}],
 "incidents": [], "scheduled_maintenances": [], "status": {"indicator": "major", "description": "Major outage"}}
"""
MakeCli = Callable[[str | None], Cli]


def blocks() -> list[list[str]]:
    """The SQL of the page: its blocks' statements, in its order."""
    found = re.findall(r"^```sql\n(.*?)^```$", DOCS.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [[statement.strip() for statement in block.split(";\n") if statement.strip()] for block in found]


USERS, GRANTS, TABLES, COLUMNS, VIEWS = blocks()


class Platform(NamedTuple):
    """A platform's database, upgraded as the page says, and its users' URLs."""

    store: Store
    upgrade: str
    cron: str
    api: str


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture
def platform(mariadb: MariaDB, make_cli: MakeCli) -> Iterator[Platform]:
    store = Store("mariadb", mariadb.create_database())
    name = str(make_url(store.url).database)

    def own(statement: str) -> str:
        """On this database and address, with users of this test's own."""
        named = statement.replace("voice.", f"`{name}`.").replace("'localhost'", "'127.0.0.1'")
        return re.sub(r"'monitor_(\w+)'@", rf"'{name}_\1'@", named)

    def url(user: str) -> str:
        password = re.search(rf"'monitor_{user}'@'localhost' IDENTIFIED BY '(.*)'", "\n".join(USERS))
        assert password is not None
        port = mariadb.port
        whole = make_url(f"mysql+pymysql://{name}_{user}@127.0.0.1:{port}/{name}").set(password=password[1])
        return whole.render_as_string(hide_password=False)

    mariadb.execute(*map(own, USERS))
    mariadb.execute(*TABLES, *COLUMNS, *VIEWS, database=name)
    users = "(1, 'acme', 'key-a', 0), (2, 'Zürich', 'key-b', 0), (3, 'closed', 'key-c', 1), (4, 'keyless', NULL, 0)"
    mariadb.execute(
        f"INSERT INTO users (id, login, api_key, closed) VALUES {users}",
        "INSERT INTO user_plugins VALUES (1, 'health-check', 'active'), (2, 'health-check', 'inactive'), "
        "(1, 'billing', 'inactive')",
        "INSERT INTO rented_numbers (user_id, msisdn, channel, released) VALUES (1, '+911', 7, NULL), "
        "(1, '+912', 7, '2020-01-01'), (1, '+913', 8, NULL), (2, '+914', 7, NULL)",
        database=name,
    )
    make_cli(url("upgrade")).ok("db", "upgrade")
    mariadb.execute(*map(own, GRANTS))
    yield Platform(store, url("upgrade"), url("cron"), url("api"))
    store.close()


def explain(store: Store, query: Select[tuple[object, ...]]) -> list[dict[str, object]]:
    with store.read() as conn:
        sql = str(query.compile(dialect=conn.dialect, compile_kwargs={"literal_binds": True}))
        return [dict(row) for row in conn.exec_driver_sql("EXPLAIN " + sql.replace("%", "%%")).mappings()]


def rows_read(url: str, key: str) -> int:
    """How many rows and entries of indexes the database reads where the API asks, in its own way."""
    api = Database(url, serving=True)

    def so_far(conn: Connection) -> int:
        return sum(int(row[1]) for row in conn.execute(text("SHOW SESSION STATUS LIKE 'Handler_read%'")))

    def read(conn: Connection) -> int:
        assert listing.of_key(conn, key) is not None
        before = so_far(conn)
        for_counting = so_far(conn) - before
        assert listing.of_key(conn, key) is not None
        return so_far(conn) - before - 2 * for_counting

    try:
        return api.query(read)
    finally:
        api.close()


def test_the_page_names_every_table_of_ours() -> None:
    granted = set(re.findall(r"voice\.(infi_\w+) TO 'monitor_cron'", "\n".join(GRANTS)))
    assert granted == {*schema.metadata.tables, schema.VERSION_TABLE}


def test_the_views_are_of_the_right_shape(platform: Platform, make_cli: MakeCli) -> None:
    make_cli(platform.cron)("db", "check").quiet()
    with platform.store.read() as conn:
        accounts = conn.execute(select(schema.account).order_by(schema.account.c.id)).all()
        assert accounts == [(1, "acme", digest("key-a")), (2, "Zürich", digest("key-b"))]
        assert set(conn.execute(select(schema.subscription)).all()) == {(1, 1), (2, 0)}
        assert set(conn.execute(select(schema.number)).all()) == {(1, "+911", 7), (1, "+913", 8), (2, "+914", 7)}


def test_the_lookups_use_indexes_through_the_views(platform: Platform, mariadb: MariaDB) -> None:
    many = ", ".join(f"({n}, 'user{n}', 'key-{n}')" for n in range(1000, 4000))
    rented = ", ".join(f"({n}, '+{n}', {n})" for n in range(1000, 4000))
    name = make_url(platform.store.url).database
    mariadb.execute(
        f"INSERT INTO users (id, login, api_key) VALUES {many}",
        f"INSERT INTO rented_numbers (user_id, msisdn, channel) VALUES {rented}",
        "INSERT INTO user_plugins SELECT id, 'health-check', 'active' FROM users WHERE id >= 1000",
        "ANALYZE TABLE users, rented_numbers, user_plugins",
        database=name,
    )
    by_key = select(schema.account.c.id).where(schema.account.c.api_key_sha256 == digest("key-2000"))
    (row,) = explain(platform.store, by_key)
    assert (row["key"], str(row["rows"])) == ("users_api_key_sha256", "1")
    asked = {
        str(row["table"]): row for row in explain(platform.store, listing._LISTING.params(digest=digest("key-2000")))
    }
    assert (asked["users"]["key"], asked["user_plugins"]["key"]) == ("users_api_key_sha256", "PRIMARY")
    assert asked["rented_numbers"]["key"] == "rented_numbers_user_channel"
    assert 0 < rows_read(platform.api, digest("key-2000")) < 20  # of a statement that is prepared there is no plan
    concerned = (
        select(schema.callback.c.id)
        .join(schema.number, schema.number.c.account_id == schema.callback.c.account_id)
        .join(schema.subscription, schema.subscription.c.account_id == schema.number.c.account_id)
        .where(schema.number.c.channel_id.in_([2000, 2001]), schema.subscription.c.active == 1)
    )
    plan = {str(row["table"]): row for row in explain(platform.store, concerned)}
    assert plan["rented_numbers"]["key"] in ("rented_numbers_channel_user", "rented_numbers_user_channel")
    assert plan["user_plugins"]["key"] == "PRIMARY"
    for table in ("rented_numbers", "user_plugins"):
        assert int(str(plan[table]["rows"])) < 10


def test_an_outage_reaches_customers_and_the_api_through_views(
    platform: Platform, make_cli: MakeCli, receiver: Receiver, tmp_path: Path
) -> None:
    """The whole way, with the cron jobs' user and the API's."""
    cron, world = make_cli(platform.cron), World(platform.store)
    world.server(channel=7, tag="zh-1", region="Zürich", region_code="ZH")
    heard, silent = receiver.url("/acme"), receiver.url("/inactive")
    for account, address in (("acme", heard), ("Zürich", silent)):
        cron.ok(
            "callback",
            "add",
            "--account",
            account,
            "--title",
            "t",
            "--name",
            "n",
            "--url",
            address,
            "--raw-json",
            env=LOCAL,
        )
    page = tmp_path / "summary.json"
    page.write_text(PAGE)
    cron.ok("incident-sync", "--provider", "statuspage", "--file", str(page))
    cron.process("callback-run", env=LOCAL).quiet()
    assert [request.path for request in receiver.requests] == ["/acme"]
    assert receiver.requests[0].body.decode().count('"+911"') == 1
    assert '"type":"critical"' in receiver.requests[0].body.decode()

    api = Database(platform.api, serving=True)
    found = api.query(lambda conn: listing.of_key(conn, digest("key-a")))
    assert found is not None
    assert [(entry.type, entry.numbers) for entry in found.entries] == [(Type.CRITICAL, ("+911",))]
    inactive = api.query(lambda conn: listing.of_key(conn, digest("key-b")))
    assert inactive is not None
    assert not inactive.subscribed
    assert api.query(lambda conn: listing.of_key(conn, digest("key-c"))) is None
    api.close()


def test_the_api_user_can_read_what_it_needs_and_write_nothing(platform: Platform) -> None:
    api = Database(platform.api)
    api.check_revision()
    for table in (schema.monitor, *schema.ACCOUNT_TABLES):
        with api.read() as conn:
            conn.execute(select(table).limit(1)).all()
    for statement in (schema.monitor.update().values(used=1), schema.monitor.delete(), schema.callback.select()):
        with pytest.raises(ConfigError, match="denied"), api.write() as conn:
            conn.execute(statement)
    api.close()


def test_the_cron_user_changes_no_table(platform: Platform, make_cli: MakeCli) -> None:
    cron = make_cli(platform.cron)
    denied = cron("db", "downgrade", "--yes")
    assert denied.code == 78
    assert "denied" in denied.err
    assert "choose" not in denied.err
    cron("db", "check").quiet()
    with pytest.raises(MonitorError, match="denied"), Database(platform.cron).write() as conn:
        conn.execute(schema.monitor.delete())


def test_the_cron_user_edits_a_server_of_a_platform_with_more_columns(
    platform: Platform, make_cli: MakeCli, mariadb: MariaDB
) -> None:
    server = World(platform.store).server(channel=7)
    name = make_url(platform.store.url).database
    mariadb.execute("ALTER TABLE infi_voice_monitor ADD COLUMN rack INT NOT NULL", database=name)
    mariadb.execute("ALTER TABLE infi_voice_monitor ALTER COLUMN rack DROP DEFAULT", database=name)
    cron = make_cli(platform.cron)
    cron("server", "edit", str(server), "--used", "5", "--channel-id", "8").quiet()
    row = cron.ok("server", "show", str(server), "--json").json
    assert (row["used"], row["channel_id"]) == (5, 8)
    exported = cron.ok("server", "export").out
    cron("server", "import", "-", stdin=exported.replace(",5,", ",6,")).quiet()
    assert cron.ok("server", "show", str(server), "--json").json["used"] == 6


def test_check_tells_a_user_without_rights_what_it_may_not_read(platform: Platform, make_cli: MakeCli) -> None:
    result = make_cli(platform.api)("db", "check")
    assert result.code == 78
    assert "infi_voice_monitor_callback cannot be read: SELECT command denied" in result.err
    assert "infi_voice_monitor_callback is missing" not in result.err
    assert "infi_voice_monitor cannot be written: UPDATE command denied" in result.err
    assert "infi_voice_monitor_account" not in result.err
    assert "GRANT this user" in result.err
    assert "db check --api" in result.err
    assert "db upgrade" not in result.err


def test_check_of_the_api_user_asks_for_no_more_than_it_needs(
    platform: Platform, make_cli: MakeCli, mariadb: MariaDB
) -> None:
    api = make_cli(platform.api)
    api("db", "check", "--api").quiet()
    url = make_url(platform.api)
    for table in ("infi_voice_monitor_number", "infi_voice_monitor_version"):
        mariadb.execute(f"REVOKE SELECT ON `{url.database}`.{table} FROM '{url.username}'@'127.0.0.1'")
        result = api("db", "check", "--api")
        assert result.code == 78
        assert f"  - {table} cannot be read: SELECT command denied" in result.err
        assert "GRANT this user" in result.err
        assert "db upgrade" not in result.err


@pytest.mark.parametrize(
    ("right", "table"),
    [
        ("UPDATE", "infi_voice_monitor"),
        ("INSERT", "infi_voice_monitor_owed"),
        ("DELETE", "infi_voice_monitor_change"),
        ("UPDATE", "infi_voice_monitor_delivery"),
    ],
)
def test_check_tells_the_cron_user_what_it_may_not_write(
    right: str, table: str, platform: Platform, make_cli: MakeCli, mariadb: MariaDB
) -> None:
    url = make_url(platform.cron)
    mariadb.execute(f"REVOKE {right} ON `{url.database}`.{table} FROM '{url.username}'@'127.0.0.1'")
    result = make_cli(platform.cron)("db", "check")
    assert result.code == 78
    (problem,) = [line for line in result.err.splitlines() if line.startswith("  - ")]
    assert problem.startswith(f"  - {table} cannot be written: {right} command denied")
    assert "GRANT this user" in result.err
    assert "db upgrade" not in result.err


def test_the_upgrader_can_take_everything_back(platform: Platform, make_cli: MakeCli) -> None:
    upgrader = make_cli(platform.upgrade)
    upgrader.ok("db", "downgrade", "--yes")
    upgrader.ok("db", "downgrade", "--yes")
    with platform.store.read() as conn:
        left = set(conn.exec_driver_sql("SHOW TABLES").scalars())
    views = {table.name for table in schema.ACCOUNT_TABLES}
    assert left == {"infi_voice_monitor", "users", "user_plugins", "rented_numbers", *views}
    upgrader.ok("db", "upgrade")


def test_commands_that_would_write_to_a_view_say_why(platform: Platform, make_cli: MakeCli) -> None:
    admin = make_cli(platform.store.url)
    for args in (["account", "add", "new"], ["number", "add", "acme", "--channel", "7", "+999"]):
        result = admin(*args)
        assert result.code == 1
        assert "view" in result.err
    assert [row["name"] for row in admin.ok("account", "list", "--json").json] == ["acme", "Zürich"]
