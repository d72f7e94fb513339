"""Text from outside on terminals and in logs: no control or bidirectional character gets through, and none goes on for
ever; nothing that may be a secret is repeated; whatever goes wrong is a line."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor_cli import safetext
from monitor_cli.cli import account
from monitor_cli.db import Database
from monitor_cli.errors import MonitorError
from monitor_cli.sources import shown
from tests.support.cli import SCRIPT, Cli
from tests.support.http import Answer, Receiver, StatusPage
from tests.support.stores import Store
from tests.support.world import World

C1 = "".join(map(chr, range(0x7F, 0xA0)))
BIDI = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
EVIL = f"red\x9b31m{C1}{BIDI}end"
LOCAL = {"MONITOR_ALLOW_NETWORKS": "127.0.0.0/8", "MONITOR_MAX_SECONDS": "2"}


def unsafe(text: str) -> set[str]:
    """The characters of a text that a terminal may obey."""
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\n"}


@settings(deadline=None)
@given(st.text())
def test_whatever_it_is_it_is_printable_and_short(text: str) -> None:
    for safe in (safetext.masked(text), safetext.escaped(text), safetext.lines(text)):
        assert not unsafe(safe)
    assert len(safetext.short(text * 50, 20)) <= 20 * 12  # of an astral character 12 are shown
    assert safetext.lines(text).count("\n") == text.count("\n")


@settings(deadline=None)
@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_is_safe_and_says_the_same(value: object) -> None:
    for how in ({}, {"indent": 2}):
        text = safetext.to_json(value, **how)
        assert not unsafe(text)
        assert json.loads(text) == value


@pytest.fixture
def lite(make_cli: Callable[[str | None], Cli], sqlite_database: Store) -> Cli:
    return make_cli(sqlite_database.url)


@pytest.fixture
def rows(sqlite_database: Store) -> World:
    return World(sqlite_database)


def test_what_customers_and_pages_say_moves_no_terminal(
    lite: Cli, rows: World, receiver: Receiver, status_page: StatusPage
) -> None:
    acme = rows.account(f"acme{EVIL}")
    rows.number(acme, "+911", channel=1)
    server = rows.server(channel=1, tag="t", name=f"server{EVIL}", final_status="operational")
    callback = rows.callback(acme, receiver.url("/hook"), name=EVIL, title=EVIL, raw_json=True, reason=EVIL)
    receiver.answer("/hook", Answer(500, EVIL.encode(), also={"X-Odd": "a\x85b"}))
    document = {
        "page": {"name": EVIL},
        "status": {"indicator": "none"},
        "components": [{"id": "t", "name": EVIL, "status": f"odd{EVIL}"}],
        "incidents": [],
    }
    url = status_page.serve("/api/v2/summary.json", document)
    sync = ("--url", url, "--provider", "statuspage")
    rows.flag(server, "critical", incident_title=EVIL)
    commands: list[tuple[str, ...]] = [
        ("callback-run", "--dry-run"),
        ("callback-run",),
        ("incident-sync", *sync, "--dry-run"),
        ("incident-sync", *sync),
        ("source", "check", "--url", url),
        ("source", "check", "--url", url, "--json"),
        ("status",),
        ("status", "--json"),
        ("check",),
        ("check", "--json"),
        ("callback", "test", str(callback)),
        ("callback", "test", str(callback), "--json"),
        ("callback", "remove", str(callback)),
        ("account", "remove", f"acme{EVIL}"),
        ("account", "show", EVIL),
        (EVIL,),
        ("account", "list", EVIL),
        ("account", "list", f"--{EVIL}"),
        ("run-helper", EVIL),
        ("server", "list", "--region", EVIL),
    ]
    for what in ("account", "callback", "server", "number", "delivery"):
        commands += [(what, "list"), (what, "list", "--json")]
    commands += [("callback", "show", str(callback)), ("callback", "show", str(callback), "--json")]
    commands += [("delivery", "show", "1"), ("delivery", "show", "1", "--json")]
    seen = 0
    for log_format in ("text", "json"):
        for command in commands:
            result = lite("-vv", "--log-format", log_format, *command, env=LOCAL)
            for text in (result.out, result.err):
                assert not unsafe(text), (log_format, command, sorted(map(ascii, unsafe(text))))
                seen += "31m" in text
            assert "internal error" not in result.err, (command, result.err)
    assert seen > 30  # it was there


def test_a_question_on_a_terminal_is_safe(lite: Cli, rows: World) -> None:
    rows.account(f"acme{EVIL}")
    main, other = pty.openpty()
    process = subprocess.Popen(
        [str(SCRIPT), "account", "remove", f"acme{EVIL}"],
        stdin=other,
        stdout=other,
        stderr=other,
        env=lite.environment(),
    )
    os.close(other)
    asked = b""
    while not asked.rstrip().endswith(b"[y/N]:"):
        asked += os.read(main, 4096)
    os.write(main, b"n\n")
    process.wait(30)
    os.close(main)
    assert b"Remove the account acmered\\u009b31m" in asked
    assert not unsafe(asked.decode().replace("\r", ""))


def test_a_fact_of_a_log_line_does_not_go_on_for_ever(lite: Cli, status_page: StatusPage) -> None:
    document = {"components": [{"id": "t", "name": "n", "status": "x" * 100_000}], "page": {}, "status": {}}
    url = status_page.serve("/api/v2/summary.json", document)
    for log_format in ("text", "json"):
        result = lite("-vv", "--log-format", log_format, "incident-sync", "--url", url, "--provider", "statuspage")
        assert max(map(len, result.err.splitlines()), default=0) < 3000


# --- secrets are not repeated -----------------------------------------------------------------------------------------

SECRET = "hunter2SECRET"


@pytest.mark.parametrize(
    "command",
    [
        ("account", "add", "acme", "--api-key", f"{SECRET} "),
        ("account", "add", "acme", "--api-key", f"{SECRET}\n"),
        ("account", "add", "acme", "--api-key", f"{SECRET} x"),
        ("account", "add", "acme", "--api-key", SECRET * 20),
        ("account", "add", "acme", SECRET),
        ("account", "rotate-key", "acme", SECRET),
        ("callback", "add", "--header", "Authorization:", SECRET),
        ("callback", "edit", "1", "--header", f"X-Token={SECRET}: x"),
        ("callback", "edit", "1", "--header", SECRET),
        ("callback", "edit", "1", "--header", f"X-T: {SECRET}\n"),
        ("callback", "edit", "1", "--header", f"X-T: {SECRET}\u0416"),
        ("callback", "edit", "1", "--url", f"https://user:p@{SECRET}@example.com/"),
        ("callback", "edit", "1", "--url", f"https://user:{SECRET}/x@example.com/"),
        ("callback", "edit", "1", "--url", f"https://{SECRET}!/x:y@example.com/"),
        ("callback", "edit", "1", "--url", f"https://user:{SECRET}?x@example.com/"),
        ("callback", "edit", "1", "--raw-json", "--payload", f"token={SECRET}%ff"),
        ("callback", "edit", "1", "--raw-json", "--payload", f'{{"token": "{SECRET}" x}}'),
        ("incident-sync", "--url", f"https://user:p@{SECRET}@127.0.0.1:1/"),
        ("incident-sync", "--url", f"https://user:{SECRET}/x@127.0.0.1:1/"),
        ("incident-sync", "--url", f"https://user:p?{SECRET}@127.0.0.1:1/"),
        ("incident-sync", "--url", f"https://user:{SECRET}#x@127.0.0.1:1/"),
        ("incident-sync", "--url", f"user:{SECRET}@127.0.0.1/"),
        ("incident-sync", "--url", f"https://user:{SECRET}@[127.0.0.1/"),
        ("incident-sync", "--url", f"http://127.0.0.1:1/?key={SECRET}"),
        ("source", "check", "--url", f"https://user:p@{SECRET}@127.0.0.1:1/", "--json"),
        ("config", "show"),
    ],
    ids=lambda command: f"{command[0]}-{command[-1]}",
)
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_value_that_may_be_a_secret_is_not_repeated(
    lite: Cli, rows: World, command: tuple[str, ...], log_format: str
) -> None:
    rows.callback(rows.account("acme"), "https://customer.test/")
    env = {"MONITOR_INCIDENT_URL": f"https://user:p@{SECRET}/@127.0.0.1:1/"}
    result = lite("-vv", "--log-format", log_format, *command, env=env)
    assert (result.code != 0) == (command != ("config", "show"))
    assert SECRET not in result.out + result.err, result.err
    assert "internal error" not in result.err


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://user:pw@host/path?key=x#f", "https://host/path?…"),
        ("https://user:p@w/@host/path", "https://host/path"),
        ("https://user:p?w@host/path", "https://…"),
        ("https://host/path", "https://host/path"),
        ("https://host/api?mail=a@b", "https://…"),
        ("https://host/p#fragment", "https://host/p"),
        ("http://[", "the URL"),
        ("https://host/\u202e" + "x" * 500, None),
    ],
)
def test_an_address_is_shown_without_what_may_be_secret(url: str, words: str | None) -> None:
    found = shown(url)
    assert words is None or found == words
    assert len(found) <= 210
    assert not unsafe(found)


# --- database_url -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        (f"mysql://user:p@{SECRET}@127.0.0.1:1/db", 78, "an @ too many"),
        (f"mysql://user:{SECRET}@x/y@127.0.0.1:1/db", 78, "an @ too many"),
        (f"mysql://user:p@{SECRET}?y@127.0.0.1:1/db", 78, "an @ too many"),
        (f"us/er:{SECRET}@127.0.0.1/db", 78, "is not a URL"),
        (f"mysql://us/er:{SECRET}@127.0.0.1/db", 78, "an @ too many"),
        (f"mysql://user:{SECRET}@127.0.0.1:x/db", 78, "is not a URL"),
        (f"postgresql://user:{SECRET}@127.0.0.1/db", 78, "not supported: postgresql"),
        (f"mysql://u:{SECRET}@.example.com/db", 78, "part of its host's name is empty or too long"),
        (f"mysql://u:{SECRET}@{'a' * 64}.example/db", 78, "part of its host's name is empty or too long"),
        (f"mysql://u:{SECRET}@127.0.0.1:1/db?charset=bogus", 75, "Connection refused"),
        (f"mysql://u:{SECRET}@127.0.0.1:1/db?bogus={SECRET}", 78, "has no option bogus"),
        (f"mysql://u:{SECRET}@127.0.0.1:1/db?connect_timeout={SECRET}", 78, "port or options (ValueError)"),
        (f"mysql://u:{SECRET}@127.0.0.1:1/db?local_infile={SECRET}", 78, "port or options"),
        (f"mysql://u:{SECRET}@127.0.0.1:1/db?ssl_ca=/none", 78, "No such file"),
        (f"mysql://u:{SECRET}@127.0.0.1:1/db?plugin={SECRET}", 78, "port or options"),
        ("sqlite:///monitor.db?bogus=1", 78, "has no option bogus"),
        ("sqlite:///monitor.db?timeout=x", 78, "port or options (ValueError)"),
        ("sqlite:///" + "a" * 5000, 78, "File name too long"),
    ],
)
def test_a_database_url_that_cannot_be_used_is_a_line_without_its_password(
    make_cli: Callable[[str | None], Cli], url: str, code: int, words: str
) -> None:
    cli = make_cli(url)
    (cli.home / "monitor.db").touch()
    for command in (("account", "list"), ("config", "check"), ("db", "upgrade")):
        for options in ((), ("-vv",), ("--log-format", "json")):
            result = cli(*options, *command)
            assert SECRET not in result.out + result.err, (command, result.err)
            assert ("Traceback" in result.err) <= ("-vv" in options)
            assert "internal error" not in result.err, result.err
    result = cli("account", "list")
    assert (result.code, words in result.err) == (code, True), result.err
    assert SECRET not in cli("config", "show").out


def test_connections_are_utf8mb4_whatever_the_url_says(database: Store, make_cli: Callable[[str | None], Cli]) -> None:
    if database.name == "sqlite":
        pytest.skip("SQLite has one encoding")
    for query in ("", "?charset=latin1", "?charset=bogus"):
        odd = Database(database.url.partition("?")[0] + query)
        with odd.read() as conn:
            rows = dict(conn.exec_driver_sql("SHOW VARIABLES LIKE 'character_set_c%%'").all())
        odd.close()
        assert {rows["character_set_client"], rows["character_set_connection"]} == {"utf8mb4"}
        cli = make_cli(database.url.partition("?")[0] + query)
        name = f"ಕರ್ನಾಟಕ 🚨{query}"
        cli.ok("account", "add", name)
        assert name in [one["name"] for one in cli.ok("account", "list", "--json").json]


# --- whatever goes wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a = " + "[" * 5000 + "]" * 5000, "is nested too deep"),
        ("a = " + "{b=" * 5000 + "1" + "}" * 5000, "is nested too deep"),
        ("a = " + "1" * 5000, "is not TOML"),
    ],
)
def test_a_configuration_that_python_cannot_read(
    make_cli: Callable[[str | None], Cli], tmp_path: Path, content: str, words: str
) -> None:
    file = tmp_path / "c.toml"
    file.write_text(content)
    result = make_cli(None)("--config", str(file), "config", "check")
    assert (result.code, words in result.err, len(result.err.splitlines())) == (78, True, 1), result.err


@pytest.mark.parametrize(
    "error", [RuntimeError(f"odd{EVIL}\nwords"), RecursionError("deep"), KeyError("x"), MemoryError()]
)
def test_what_nobody_foresaw_is_a_line(lite: Cli, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(account.accounts, "listed", fail)
    result = lite("account", "list")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"monitor-cli: internal error: {type(error).__name__}: ")
    assert "Traceback" not in result.err
    assert not unsafe(result.err)
    assert "Traceback (most recent call last)" in lite("-vv", "account", "list").err
    line = json.loads(lite("--log-format", "json", "account", "list").err)
    assert (line["event"], line["exit_code"]) == ("error", 1)


def test_a_foreseen_error_is_no_internal_one(lite: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise MonitorError("words", "hint")

    monkeypatch.setattr(account.accounts, "listed", fail)
    assert lite("account", "list").err == "monitor-cli: words\n  hint\n"
