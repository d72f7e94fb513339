"""The account commands, through the real command line on both stores."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from sqlalchemy import select, text

from monitor_cli import schema
from tests.support.cli import Cli
from tests.support.stores import Store
from tests.support.world import World


def accounts(cli: Cli) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cli.ok("account", "list", "--json").json
    return found


def digests(database: Store) -> list[str]:
    with database.read() as conn:
        return list(conn.execute(select(schema.account.c.api_key_sha256).order_by(schema.account.c.id)).scalars())


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def test_add_shows_the_key_once_and_keeps_its_digest(cli: Cli, database: Store) -> None:
    made = cli.ok("account", "add", "acme", "--json").json
    assert list(made) == ["id", "name", "api_key"]
    assert (made["id"], made["name"]) == (1, "acme")
    assert len(made["api_key"]) == 43
    given = cli.ok("account", "add", "ಅಕ್ಮೆ", "--api-key", "key-2", "--unsubscribed", "--json").json
    assert given == {"id": 2, "name": "ಅಕ್ಮೆ", "api_key": "key-2"}
    assert digests(database) == [sha256(made["api_key"]), sha256("key-2")]
    assert accounts(cli) == [
        {"id": 1, "name": "acme", "subscribed": True},
        {"id": 2, "name": "ಅಕ್ಮೆ", "subscribed": False},
    ]
    assert cli.ok("account", "show", "acme", "--json").json == {"id": 1, "name": "acme", "subscribed": True}
    everything = cli.ok("account", "list").out + cli.ok("account", "show", "acme").out
    assert made["api_key"] not in everything


@pytest.mark.parametrize("name", ["", " acme", "acme ", "ac\nme", "a\x00", "x" * 191, "\udcff"])
def test_a_name_that_cannot_be_meant(cli: Cli, name: str) -> None:
    result = cli("account", "add", name)
    assert (result.code, result.out) == (2, "")
    assert accounts(cli) == []


@pytest.mark.parametrize("key", ["", "a b", "a\n", "x" * 201])
def test_a_key_that_cannot_be_meant(cli: Cli, key: str) -> None:
    assert cli("account", "add", "acme", "--api-key", key).code == 2
    assert accounts(cli) == []


def test_names_and_keys_are_unique_byte_for_byte(cli: Cli) -> None:
    cli.ok("account", "add", "acme", "--api-key", "one")
    doubled = cli("account", "add", "acme")
    assert (doubled.code, doubled.out) == (1, "")
    assert "already an account named 'acme'" in doubled.err
    same_key = cli("account", "add", "other", "--api-key", "one")
    assert (same_key.code, same_key.out) == (1, "")
    assert "another account has this API key" in same_key.err
    cli.ok("account", "add", "Acme")
    cli.ok("account", "add", "acmé")
    assert [account["name"] for account in accounts(cli)] == ["Acme", "acme", "acmé"]
    assert cli("account", "show", "ACME").code == 1


@pytest.mark.parametrize(
    "command",
    [
        ("account", "show", "acmee"),
        ("account", "remove", "acmee", "--yes"),
        ("account", "subscribe", "acmee"),
        ("account", "unsubscribe", "acmee"),
        ("account", "rotate-key", "acmee"),
        ("number", "add", "acmee", "--channel", "1", "+1"),
        ("number", "remove", "acmee", "+1", "--yes"),
        ("number", "list", "--account", "acmee"),
        ("callback", "list", "--account", "acmee"),
        ("callback", "add", "--account", "acmee", "--title", "t", "--name", "n", "--url", "https://192.0.78.9/"),
    ],
)
def test_an_unknown_account(cli: Cli, world: World, command: tuple[str, ...]) -> None:
    world.account("acme")
    result = cli(*command)
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines() == ["monitor-cli: no account named 'acmee'", "  did you mean 'acme'?"]


def test_a_name_of_odd_bytes_is_unknown(cli: Cli) -> None:
    result = cli("account", "show", "\udcff")
    assert result.code == 1
    assert "no account named" in result.err


def test_subscribing(cli: Cli, world: World) -> None:
    world.account("acme", subscribed=None)
    for command, subscribed in [("subscribe", True), ("subscribe", True), ("unsubscribe", False), ("subscribe", True)]:
        cli("account", command, "acme").quiet()
        assert accounts(cli)[0]["subscribed"] is subscribed


def test_subscribing_again_owes_what_differs(cli: Cli, world: World, database: Store) -> None:
    acme = world.account("acme")
    world.number(acme, "+911", channel=7)
    server = world.server(channel=7, final_status="critical")
    callback = world.callback(acme, "http://hooks.test/")
    with database.write() as conn:
        conn.execute(
            schema.owed.insert().values(
                callback_id=callback,
                channel_id=7,
                region="karnataka",
                region_code="KA-IN",
                wanted=1,
                told=1,
                told_type="operational",
                owed_since_at=1,
            )
        )
    cli("account", "subscribe", "acme").quiet()
    assert world.owed(callback) == []  # it was subscribed all the while
    cli("account", "unsubscribe", "acme").quiet()
    cli("account", "subscribe", "acme").quiet()
    assert [row.told_type for row in world.owed(callback)] == ["operational"]
    assert [row.state for row in world.deliveries(callback)] == ["open"]
    assert server


def test_rotate_key(cli: Cli, database: Store) -> None:
    cli.ok("account", "add", "acme", "--api-key", "old")
    made = cli.ok("account", "rotate-key", "acme", "--json").json
    assert (made["id"], made["name"]) == (1, "acme")
    assert digests(database) == [sha256(made["api_key"])]
    cli.ok("account", "rotate-key", "acme", "--api-key", "mine")
    assert digests(database) == [sha256("mine")]


def test_remove_takes_everything_of_the_account(cli: Cli, world: World, database: Store) -> None:
    acme, other = world.account("acme"), world.account("other")
    server = world.server(channel=7)
    for account in (acme, other):
        world.number(account, "+911", "+912", channel=7)
        world.callback(account, "http://hooks.test/")
    cli.ok("server", "edit", str(server), "--final-status", "critical")
    assert len(world.owed()) == 2
    refused = cli("account", "remove", "acme")
    assert refused.code == 2
    assert "Remove the account acme with 2 numbers and 1 callback?" in refused.err
    assert len(accounts(cli)) == 2
    cli("account", "remove", "acme", "--yes").quiet()
    assert [account["name"] for account in accounts(cli)] == ["other"]
    assert [row["account"] for row in cli.ok("number", "list", "--json").json] == ["other", "other"]
    assert [row["account"] for row in cli.ok("callback", "list", "--json").json] == ["other"]
    assert len(world.owed()) == 1
    assert sorted(row.state for row in world.deliveries()) == ["failed", "open"]
    with database.read() as conn:
        assert list(conn.execute(select(schema.subscription.c.account_id)).scalars()) == [other]


# --- on a platform: views ---------------------------------------------------------------------------------------------


@pytest.fixture
def platform(database: Store) -> Store:
    """The three account tables as views over tables of a platform."""
    with database.write() as conn:
        collate = " COLLATE utf8mb4_general_ci" if database.name != "sqlite" else ""
        for table in schema.ACCOUNT_TABLES:
            conn.execute(text(f"DROP TABLE {table.name}"))
        conn.execute(text(f"CREATE TABLE users (id BIGINT, login VARCHAR(50){collate}, digest VARCHAR(64))"))
        conn.execute(text("CREATE TABLE plugins (user_id BIGINT, active INT)"))
        conn.execute(text(f"CREATE TABLE dids (user_id BIGINT, did VARCHAR(32){collate}, channel INT)"))
        conn.execute(text("INSERT INTO users VALUES (1, 'acme', 'd1'), (2, 'Acme', 'd2'), (3, 'globex', 'd3')"))
        conn.execute(text("INSERT INTO plugins VALUES (1, 1), (2, 0)"))
        conn.execute(text("INSERT INTO dids VALUES (1, '+911', 7), (3, '+913', 8)"))
        for view, query in (
            ("account", "SELECT id, login AS name, digest AS api_key_sha256 FROM users"),
            ("subscription", "SELECT user_id AS account_id, active FROM plugins"),
            ("number", "SELECT user_id AS account_id, did AS number, channel AS channel_id FROM dids"),
        ):
            conn.execute(text(f"CREATE VIEW {schema.PREFIX}{view} AS {query}"))
    return database


@pytest.mark.parametrize(
    ("command", "views"),
    [
        (("account", "add", "new"), ("account", "subscription")),
        (("account", "rotate-key", "acme"), ("account",)),
        (("account", "remove", "acme"), ("account", "subscription", "number")),
        (("account", "remove", "acme", "--yes"), ("account", "subscription", "number")),
        (("account", "subscribe", "Acme"), ("subscription",)),
        (("account", "unsubscribe", "acme"), ("subscription",)),
        (("number", "add", "acme", "--channel", "9", "+912"), ("number",)),
        (("number", "remove", "acme", "+911", "--yes"), ("number",)),
        (("number", "import", "-"), ("number",)),
    ],
)
def test_a_view_is_not_written_to(cli: Cli, platform: Store, command: tuple[str, ...], views: tuple[str, ...]) -> None:
    before = cli.ok("account", "list").out, cli.ok("number", "list").out
    result = cli(*command, stdin="account,channel_id,number\nacme,9,+911\n")
    assert (result.code, result.out) == (1, "")
    assert "view" in result.err
    assert all(schema.PREFIX + view in result.err for view in views)
    assert (cli.ok("account", "list").out, cli.ok("number", "list").out) == before


def test_views_are_read_byte_for_byte(cli: Cli, platform: Store) -> None:
    assert sorted(account["name"] for account in accounts(cli)) == ["Acme", "acme", "globex"]
    assert cli.ok("account", "show", "acme", "--json").json == {"id": 1, "name": "acme", "subscribed": True}
    assert cli.ok("account", "show", "Acme", "--json").json == {"id": 2, "name": "Acme", "subscribed": False}
    assert cli("account", "show", "ACME").code == 1
    assert cli.ok("number", "list", "--account", "acme", "--json").json == [
        {"account": "acme", "number": "+911", "channel_id": 7}
    ]
    added = ("callback", "add", "--account", "Acme", "--title", "t", "--name", "n", "--url", "https://192.0.78.9/")
    assert cli.ok(*added, "--json").json["id"] == 1
    assert cli.ok("callback", "show", "1", "--json").json["account"] == "Acme"
