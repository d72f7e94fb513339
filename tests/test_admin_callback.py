"""The callback commands, through the real command line on both stores."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from sqlalchemy import update

from monitor_cli import schema
from tests.support.cli import Cli
from tests.support.stores import Store
from tests.support.world import World

URL = "https://192.0.78.9/hook"  # a public address: nothing is looked up, nothing is sent
ADD = ("callback", "add", "--account", "acme", "--title", "Status", "--name", "hook")


@pytest.fixture
def acme(world: World) -> int:
    return world.account("acme")


def show(cli: Cli, callback: int = 1) -> dict[str, Any]:
    shown: dict[str, Any] = cli.ok("callback", "show", str(callback), "--json").json
    return shown


def test_add_prints_the_secret_once(cli: Cli, world: World, acme: int) -> None:
    made = cli.ok(*ADD, "--url", URL, "--json").json
    assert list(made) == ["id", "secret"]
    assert made["id"] == 1
    prefix, key = made["secret"].split("_")
    assert prefix == "whsec"
    assert 24 <= len(base64.b64decode(key, validate=True)) <= 64
    row = world.callback_row(1)
    assert (row.secret, row.destination, row.account_id) == (made["secret"], "192.0.78.9:443", acme)
    assert show(cli) == {
        "id": 1,
        "account": "acme",
        "title": "Status",
        "name": "hook",
        "url": URL,
        "method": "GET",
        "payload": None,
        "headers": {},
        "raw_json": False,
        "status": "active",
        "reason": None,
        "owed": 0,
        "owed_since": None,
    }
    table = cli.ok(*ADD, "--url", URL).out.splitlines()
    assert [line.split()[0] for line in table] == ["id", "secret"]
    shown = (
        cli.ok("callback", "list").out + cli.ok("callback", "show", "1").out + cli.ok("callback", "list", "--json").out
    )
    assert "whsec" not in shown


def test_add_takes_all_fields_and_redacts_header_values(cli: Cli, world: World, acme: int) -> None:
    headers = ("--header", "Authorization: Bearer s3cret", "--header", "X-Two:  s3cret2 ")
    cli.ok(*ADD, "--url", URL, "--payload", "data={response}", *headers, "--inactive")
    assert json.loads(world.callback_row(1).headers) == [["Authorization", "Bearer s3cret"], ["X-Two", "s3cret2"]]
    shown = show(cli)
    assert (shown["method"], shown["payload"], shown["status"]) == ("POST", "data={response}", "inactive")
    assert shown["headers"] == {"Authorization": "***", "X-Two": "***"}
    cli.ok(*ADD, "--url", URL, "--raw-json")
    assert (show(cli, 2)["method"], show(cli, 2)["raw_json"], show(cli, 2)["payload"]) == ("POST", True, None)
    everything = [
        cli.ok("callback", *c).out for c in (["list"], ["list", "--json"], ["show", "1"], ["show", "1", "--json"])
    ]
    assert "s3cret" not in "".join(everything)


def test_a_callback_hears_of_changes_from_its_creation_on(cli: Cli, world: World, acme: int) -> None:
    cli.ok(*ADD, "--url", URL)
    server = world.server()
    newest = world.flag(server, "critical")
    cli.ok(*ADD, "--url", URL)
    assert [world.callback_row(i).hears_from for i in (1, 2)] == [0, newest]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--url", "ftp://192.0.78.9/"), "the URL is refused: its scheme is ftp, not http or https"),
        (("--url", "https://u:p@192.0.78.9/"), "user name or password"),
        (("--url", " https://192.0.78.9/"), "a blank or a control character"),
        (("--url", "http://10.1.2.3/"), "the URL is refused"),
        (("--url", "http://[::1]/"), "the URL is refused"),
        (("--url", "http://localhost/"), "its host is localhost"),
        (("--url", "https://192.0.78.9/", "--header", "Host: x"), "the header Host is set by monitor-cli"),
        (("--url", "https://192.0.78.9/", "--header", "no colon"), "a header has no colon"),
        (("--url", "https://192.0.78.9/", "--header", "A: s3cret\r\nB: c"), "the value of the header A has a line end"),
        (("--url", "https://192.0.78.9/", "--raw-json", "--payload", "{"), "is not JSON"),
        (("--url", "https://192.0.78.9/", "--title", ""), "is empty"),
        (("--url", "https://192.0.78.9/", "--name", "a\nb"), "control character"),
    ],
)
def test_what_cannot_be_meant_is_refused(cli: Cli, acme: int, options: tuple[str, ...], words: str) -> None:
    result = cli(*ADD, *options)
    assert (result.code, result.out) == (2, "")
    assert words in result.err
    assert "s3cret" not in result.err
    assert cli.ok("callback", "list", "--json").json == []


def test_private_networks_that_the_operator_allows(cli: Cli, acme: int) -> None:
    cli.ok(*ADD, "--url", "http://10.1.2.3/", env={"MONITOR_ALLOW_NETWORKS": "10.0.0.0/8"})
    assert show(cli)["url"] == "http://10.1.2.3/"


def test_names_are_looked_up(cli: Cli, acme: int, hosts: dict[str, list[str]]) -> None:
    hosts["good.test"] = ["192.0.78.9"]
    hosts["bad.test"] = ["192.0.78.9", "127.0.0.1"]
    assert cli.ok(*ADD, "--url", "http://good.test/?{response}").err == ""
    refused = cli(*ADD, "--url", "http://bad.test/?{response}")
    assert refused.code == 2
    assert "the URL is refused: bad.test resolves to an address that is" in refused.err
    absent = cli.ok(*ADD, "--url", "http://absent.test/?{response}")
    assert absent.err.startswith("callback.unresolved host=absent.test")
    assert len(absent.err.splitlines()) == 1
    assert cli.ok("-q", *ADD, "--url", "http://absent.test/?{response}").err == ""
    assert [row["url"] for row in cli.ok("callback", "list", "--json").json] == [
        "http://good.test/?{response}",
        "http://absent.test/?{response}",
        "http://absent.test/?{response}",
    ]


def test_what_is_hardly_meant_is_accepted_with_a_warning(cli: Cli, acme: int) -> None:
    def said(*options: str) -> list[str]:
        return [line.split()[0] for line in cli.ok(*ADD, "--url", *options).err.splitlines()]

    assert said(URL) == ["callback.tells_nothing"]
    assert said(URL, "--payload", "a=b") == ["callback.tells_nothing"]
    assert said(URL, "--raw-json") == []
    assert said(URL, "--raw-json", "--payload", '{"text": "hello"}') == ["callback.tells_nothing"]
    assert said(URL + "?{response}") == said(URL, "--payload", "a={type}") == []
    assert said(URL + "?n={respons}") == ["callback.placeholder_unknown", "callback.tells_nothing"]
    assert said(URL + "?n={response}&c={regioncode}") == ["callback.placeholder_unknown"]
    assert said(URL + "?n={response}&c={colour}") == []
    near = cli.ok("callback", "edit", "1", "--url", URL + "?n={Response}").err
    assert "did_you_mean={response}" in near
    cli("callback", "edit", "1", "--title", "New").quiet()
    doubled = cli(*ADD, "--url", URL + "?{type}", "--header", "X-A: 1", "--header", "x-a: 2")
    assert doubled.code == 2
    assert "the header X-A is given twice" in doubled.err


def test_list_says_what_waits_for_a_run(cli: Cli, world: World, acme: int) -> None:
    server = world.server()
    cli("-v", "callback", "list").quiet()
    world.flag(server, "critical")
    cli("callback", "list").quiet()
    assert cli.ok("-v", "callback", "list").err == "changes.waiting servers=1\n"
    done = cli.on_terminal("callback", "list")
    assert (done.code, done.err) == (0, "no callbacks\n1 change waits for callback-run\n")


def test_edit_changes_what_is_named(cli: Cli, world: World, acme: int) -> None:
    made = cli.ok(*ADD, "--url", URL, "--payload", "a={response}", "--header", "A: 1", "--json").json
    cli("callback", "edit", "1", "--url", "http://192.0.78.10:8080/{type}", "--title", "New").quiet()
    row = world.callback_row(1)
    assert (row.destination, row.title, row.name, row.secret) == ("192.0.78.10:8080", "New", "hook", made["secret"])
    assert (row.payload, json.loads(row.headers)) == ("a={response}", [["A", "1"]])
    cli("callback", "edit", "1", "--header", "B: 2", "--header", "C: 3", "--raw-json").quiet()
    assert json.loads(world.callback_row(1).headers) == [["B", "2"], ["C", "3"]]
    assert (world.callback_row(1).raw_json, show(cli)["method"]) == (1, "POST")
    cli("callback", "edit", "1", "--no-headers", "--no-raw-json", "--payload", "").quiet()
    assert (show(cli)["headers"], show(cli)["method"], show(cli)["payload"]) == ({}, "GET", None)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 2),
        (("--url", "http://10.1.2.3/"), 2),
        (("--payload", "{", "--raw-json"), 2),
        (("--header", "Host: a"), 2),
        (("--header", "A: b", "--no-headers"), 2),
        (("--name", " "), 2),
    ],
)
def test_an_edit_that_cannot_be_meant_changes_nothing(
    cli: Cli, world: World, acme: int, options: tuple[str, ...], code: int
) -> None:
    cli.ok(*ADD, "--url", URL)
    before = world.callback_row(1)
    assert cli("callback", "edit", "1", *options).code == code
    assert world.callback_row(1) == before


@pytest.mark.parametrize("command", ["show", "edit", "enable", "disable", "remove"])
def test_an_unknown_callback(cli: Cli, acme: int, command: str) -> None:
    options = {"edit": ["--title", "x"], "remove": ["--yes"]}.get(command, [])
    result = cli("callback", command, "7", *options)
    assert (result.code, result.out) == (1, "")
    assert "there is no callback 7" in result.err
    assert cli("callback", command, "0", *options).code == 2
    assert cli("callback", command, str(2**63), *options).code == 2


# --- what it is owed --------------------------------------------------------------------------------------------------


@pytest.fixture
def owing(cli: Cli, world: World, acme: int) -> int:
    """A disabled callback that is owed a change of channel 7."""
    world.number(acme, "+911", channel=7)
    callback = world.callback(acme, URL, active=False)
    world.callback(acme, URL)
    cli.ok("server", "edit", str(world.server(channel=7)), "--final-status", "critical")
    return callback


def test_list_and_show_tell_what_is_owed(cli: Cli, world: World, owing: int) -> None:
    world.account("other")
    shown = show(cli, owing)
    assert (shown["owed"], shown["status"]) == (1, "inactive")
    assert shown["owed_since"].startswith("20")
    assert shown["owed_since"].endswith("Z")
    listed = cli.ok("callback", "list", "--account", "acme", "--json").json
    assert [(row["id"], row["owed"]) for row in listed] == [(owing, 1), (owing + 1, 1)]
    assert cli.ok("callback", "list", "--account", "other", "--json").json == []


def test_enable_disable(cli: Cli, world: World, owing: int, database: Store) -> None:
    c = schema.callback
    with database.write() as conn:
        conn.execute(update(c).where(c.c.id == owing).values(reason="410 Gone"))
    assert (show(cli, owing)["status"], show(cli, owing)["reason"]) == ("off", "410 Gone")
    cli("callback", "enable", str(owing)).quiet()
    assert (show(cli, owing)["status"], show(cli, owing)["reason"]) == ("active", None)
    assert [row.state for row in world.deliveries(owing)] == ["open"]
    with database.write() as conn:
        conn.execute(update(c).where(c.c.id == owing).values(active=0, reason="410 Gone"))
    cli("callback", "disable", str(owing), str(owing + 1)).quiet()
    assert [(show(cli, i)["status"], show(cli, i)["reason"]) for i in (owing, owing + 1)] == [("inactive", None)] * 2
    assert len(world.owed()) == 2
    assert cli("callback", "enable", str(owing), "99").code == 1
    assert show(cli, owing)["status"] == "inactive"


def test_edit_makes_what_is_owed_due_at_once(cli: Cli, world: World, owing: int, database: Store) -> None:
    d = schema.delivery
    with database.write() as conn:
        conn.execute(update(d).values(due_at=2**50, attempts=3))
    before = {row.callback_id: row for row in world.deliveries()}
    cli("callback", "edit", str(owing), "--title", "new").quiet()
    after = {row.callback_id: row for row in world.deliveries()}
    assert (after[owing].attempts, after[owing].rearmed) == (0, before[owing].rearmed + 1)
    assert after[owing].due_at < 2**50
    assert after[owing + 1] == before[owing + 1]


def test_remove_drops_what_is_owed(cli: Cli, world: World, owing: int) -> None:
    refused = cli("callback", "remove", str(owing))
    assert refused.code == 2
    assert f"Remove callback {owing} (" in refused.err
    assert cli("callback", "remove", str(owing), "99", "--yes").code == 1
    assert len(world.owed()) == 2
    cli("callback", "remove", str(owing), "--yes").quiet()
    assert [row["id"] for row in cli.ok("callback", "list", "--json").json] == [owing + 1]
    assert [row.callback_id for row in world.owed(all_rows=True)] == [owing + 1]
    assert {row.callback_id: row.state for row in world.deliveries()} == {owing: "failed", owing + 1: "open"}
