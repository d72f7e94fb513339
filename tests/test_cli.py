"""The command line as a whole: help, global options, exit codes, and what people read when something is wrong."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import click
import pytest
from sqlalchemy import text

from monitor_cli import __version__, engines
from monitor_cli.cli import cli as root
from monitor_cli.cli import incident_sync
from monitor_cli.db import Database
from monitor_cli.errors import ConfigError, DatabaseAway, MonitorError, OutsideError, SourceError, UsageError
from tests.support.cli import SCRIPT, Cli
from tests.support.http import Receiver
from tests.support.stores import Store
from tests.support.world import World


def every_command() -> Iterator[tuple[str, click.Command]]:
    """Each command with its name as typed, groups included."""

    def walk(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        yield name, command
        if isinstance(command, click.Group):
            with click.Context(command) as context:
                for child in command.list_commands(context):
                    found = command.get_command(context, child)
                    assert found is not None
                    yield from walk(f"{name} {child}".strip(), found)

    yield from walk("", root)


COMMANDS = dict(every_command())


@pytest.fixture
def bare(make_cli: Callable[[str | None], Cli]) -> Cli:
    """monitor-cli without a database."""
    return make_cli(None)


@pytest.fixture
def lite(make_cli: Callable[[str | None], Cli], sqlite_database: Store) -> Cli:
    """monitor-cli on an upgraded SQLite database."""
    return make_cli(sqlite_database.url)


# --- help -------------------------------------------------------------------------------------------------------------


def test_the_commands_are_found() -> None:
    assert {"incident-sync", "callback-run", "serve-api", "run-helper", "demo"} <= set(COMMANDS)
    assert {"callback add", "account rotate-key", "number import", "server export", "config show"} <= set(COMMANDS)
    assert {"db upgrade", "db downgrade", "db current", "db check"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_of_this_command(bare: Cli, name: str) -> None:
    result = bare.ok(*name.split(), "--help")
    assert result.err == ""
    example = re.search(r"^  Example:  (.*monitor-cli .*)$", result.out, re.MULTILINE)
    assert example, result.out
    assert re.search(rf"monitor-cli (--?[\w-]+( \S+\.toml)? )*{re.escape(name)}", example[1]), example[1]
    assert "Example" not in result.out.replace(example[0], "")
    assert bare.ok(*name.split(), "-h").out == result.out
    assert max(map(len, result.out.splitlines())) <= 120


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_says_what_it_is_for(name: str) -> None:
    command = COMMANDS[name]
    assert command.get_short_help_str(200)
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts}"


@pytest.mark.parametrize("name", [name for name in COMMANDS if name.split()[-1:] in (["list"], ["show"], ["current"])])
def test_what_prints_a_table_prints_json_too(name: str) -> None:
    assert "--json" in {option for parameter in COMMANDS[name].params for option in parameter.opts}


def test_python_m_is_the_same(bare: Cli) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "monitor_cli", "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == bare.ok("--help").out
    assert done.stdout.startswith("Usage: monitor-cli ")


# --- global options ---------------------------------------------------------------------------------------------------


def test_version(bare: Cli) -> None:
    assert bare.ok("--version").out == f"monitor-cli, version {__version__}\n"


def test_global_options_stand_before_the_command(lite: Cli) -> None:
    lite("-v", "callback-run").quiet()
    for option in (["-v"], ["-q"], ["--log-format", "json"], ["--config", "x"]):
        result = lite("callback-run", *option)
        assert (result.code, result.out) == (2, "")
        assert f"\n  {option[0]} stands before the command: monitor-cli {option[0]} … COMMAND\n" in result.err
    assert "stands before" not in lite("callback-run", "--nonsense").err


def failing_source(cli: Cli, *options: str) -> str:
    """What an incident-sync prints whose source is not there."""
    result = cli(*options, "incident-sync", "--url", "http://127.0.0.1:1/")
    assert (result.code, result.out) == (75, "")
    return result.err


def test_verbose_says_more_and_quiet_less(lite: Cli) -> None:
    assert failing_source(lite).startswith("source.failed ")
    assert failing_source(lite) == ""  # told once, not every minute
    assert "source.failing " in failing_source(lite, "-v")
    page = lite.home / "page.json"
    page.write_text('{"page": {"id": "p"}, "components": [{"id": "c", "name": "C", "status": "novel"}]}')
    lite("-q", "incident-sync", "--file", str(page)).quiet()
    assert "word.gone" in lite("incident-sync", "--file", str(write(page, "operational"))).err
    assert "word.unknown" in lite("incident-sync", "--file", str(write(page, "novel"))).err


def write(page: os.PathLike[str], word: str) -> os.PathLike[str]:
    document = {"page": {"id": "p"}, "components": [{"id": "c", "name": "C", "status": word}]}
    with open(page, "w") as file:
        json.dump(document, file)
    return page


def test_log_lines_as_json(lite: Cli) -> None:
    (line,) = failing_source(lite, "--log-format", "json").splitlines()
    found = json.loads(line)
    assert list(found)[:3] == ["at", "level", "event"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["at"])
    assert (found["level"], found["event"]) == ("error", "source.failed")
    assert found["source"] == "127.0.0.1:1"
    assert found["error"]
    assert lite("--log-format", "xml", "callback-run").code == 2


# --- exit codes and errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "code"),
    [(MonitorError, 1), (UsageError, 2), (OutsideError, 75), (SourceError, 75), (DatabaseAway, 75), (ConfigError, 78)],
)
def test_an_error_is_a_line_a_hint_and_its_code(
    lite: Cli, monkeypatch: pytest.MonkeyPatch, kind: type[MonitorError], code: int
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise kind("the moon is away", "wait for it")

    monkeypatch.setattr(incident_sync, "synchronise", fail)
    command = ["incident-sync", "--url", "http://127.0.0.1:1/"]
    result = lite(*command)
    assert (result.code, result.out, result.err) == (code, "", "monitor-cli: the moon is away\n  wait for it\n")
    assert lite("-q", *command).err == result.err
    for quiet in ([], ["-q"]):
        result = lite("--log-format", "json", *quiet, *command)
        found = json.loads(result.err)
        assert result.code == code
        assert (found["level"], found["event"], found["exit_code"]) == ("error", "error", code)
        assert (found["message"], found["hint"]) == ("the moon is away", "wait for it")
    traced = lite("-vv", *command)
    assert traced.code == code
    assert "Traceback (most recent call last)" in traced.err  # debugging was asked for


def test_wrong_usage_as_json_is_one_line(lite: Cli) -> None:
    for args in ["incident-sync", "--no-such-option"], ["delivery", "show", "abc"], ["db", "downgrade"]:
        result = lite("--log-format", "json", *args)
        assert result.code == 2
        assert json.loads(result.err)["exit_code"] == 2
    assert "'abc' is not a valid whole number." in lite("delivery", "show", "abc").err


@pytest.mark.parametrize(
    "args",
    [
        ["--nonsense"],
        ["nonsense"],
        ["callback-run", "--nonsense"],
        ["callback-run", "surplus"],
        ["callback-run", "--max-seconds", "soon"],
        ["callback-run", "--max-seconds", "nan"],
        ["callback-run", "--max-seconds", "inf"],
        ["status", "--watch", "--interval", "nan"],
        ["callback", "nonsense"],
        ["callback", "show", "one"],
        ["account", "add"],
        ["incident-sync", "--file", "/nonexistent.json"],
        ["incident-sync", "--file", "/"],
        ["incident-sync", "--provider", "nonsense"],
        ["server", "import", "/nonexistent.csv"],
        ["account", "remove", "nobody"],
        ["db", "downgrade"],
        ["callback", "replay", "--since", "2h", "--until", "3h"],
        ["delivery", "list", "--since", "2h", "--until", "3h"],
    ],
)
def test_wrong_usage_is_2(lite: Cli, args: list[str]) -> None:
    result = lite(*args)
    if args == ["account", "remove", "nobody"]:
        assert result.code == 1  # it could have been meant: there is no such account
    else:
        assert result.code == 2
    assert result.out == ""
    assert result.err
    assert "Traceback" not in result.err


def test_a_group_alone_shows_its_help(bare: Cli) -> None:
    for args in ([], ["callback"], ["db"]):
        result = bare(*args)
        assert result.code == 2
        assert "Usage: monitor-cli" in result.err + result.out
        assert "Commands:" in result.err + result.out


def test_a_database_without_tables_is_78_and_one_that_is_away_75(bare: Cli, make_cli: Callable[[str], Cli]) -> None:
    away = make_cli("mysql+pymysql://u:pa55@127.0.0.1:1/voice")
    for args in (["callback-run"], ["server", "list"], ["incident-sync", "--url", "http://127.0.0.1:1/"]):
        result = bare(*args)
        assert (result.code, result.out) == (78, "")
        assert result.err.endswith("\n  run: monitor-cli db upgrade\n")
        result = away(*args)
        assert (result.code, result.out) == (75, "")
        assert result.err.startswith(
            "monitor-cli: the database mysql+pymysql://u:***@127.0.0.1:1/voice does not answer"
        )
        assert result.err.count("\n") == 1


@pytest.fixture
def short_dial(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database is waited for a tenth as long as usual: a second for connecting, twelve for a query."""
    short = {name: seconds // 10 for name, seconds in engines._WORKING["connect_args"].items()}
    monkeypatch.setitem(engines._WORKING, "connect_args", short)


def test_a_database_that_takes_the_connection_and_says_nothing_is_75_in_time(
    make_cli: Callable[[str], Cli], short_dial: None
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        result = make_cli(f"mysql+pymysql://u:p@127.0.0.1:{silent.getsockname()[1]}/x")("status")
        assert time.monotonic() - started < 10  # not a query's twelve
    assert (result.code, result.out) == (75, "")
    assert "does not answer" in result.err


@pytest.mark.parametrize("engine", ["mariadb"], indirect=True)
def test_a_query_may_take_longer_than_connecting(engine: Store, short_dial: None) -> None:
    database = Database(engine.url)
    with database.read() as conn:
        assert conn.execute(text("SELECT SLEEP(1.5)")).scalar() == 0
    database.close()


# --- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_a_reader_that_goes_away_is_no_error(lite: Cli, json_option: list[str]) -> None:
    lines = "".join(f"{n},server {n},tag-{n},{n},karnataka,KA-IN\n" for n in range(1, 3000))
    lite("server", "import", "-", stdin=f"server_id,name,server_tag,channel_id,region,region_code\n{lines}").quiet()
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [str(SCRIPT), "server", "list", *json_option],
        stdout=writing,
        stderr=subprocess.PIPE,
        env=lite.environment(),
        text=True,
    )
    os.close(writing)
    assert os.read(reading, 1) in (b"[", b"I")
    os.close(reading)
    _, err = process.communicate(timeout=60)
    assert err == ""
    assert process.returncode == 1


def test_a_full_disk_under_stdout_is_one_line(lite: Cli) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [str(SCRIPT), "config", "show"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=lite.environment(),
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", ">&-"])
def test_closed_streams_lead_nowhere(cli: Cli, world: World, receiver: Receiver, closed: str) -> None:
    """As a crontab may close them: the work is done all the same, and no socket or file gets what is printed."""
    world.number(world.account("acme"), "+1", channel=1)
    world.callback(1, receiver.url("/hook"), raw_json=True)
    world.flag(world.server(channel=1), "critical")
    env = {**cli.environment(), "MONITOR_ALLOW_NETWORKS": "127.0.0.0/8"}
    for words, code in (
        ("callback-run --max-seconds 3", 0),
        ("incident-sync --url http://127.0.0.1:1/", 75),
        ("callback list --json", 0),
        ("server remove 1", 2),
    ):
        line = f'exec "$0" {words} {closed}'
        done = subprocess.run(["sh", "-c", line, str(SCRIPT)], env=env, capture_output=True, timeout=60)
        assert (done.returncode, done.stdout) == (code, b""), (words, done)
        assert b"defect" not in done.stderr
    assert [request.target for request in receiver.requests] == ["/hook"]


def test_nothing_but_ascii_in_the_environment(lite: Cli) -> None:
    """Cron's locale: names in other scripts are printed all the same."""
    lite.ok("account", "add", "ಕರ್ನಾಟಕ")
    bare = {**lite.environment(), "LANG": "C", "LC_ALL": "C"}
    done = subprocess.run([str(SCRIPT), "account", "list"], capture_output=True, env=bare, check=True, timeout=60)
    assert "ಕರ್ನಾಟಕ" in done.stdout.decode()


def test_bytes_that_are_no_text_are_refused_in_a_line(cli: Cli) -> None:
    """On both stores: what comes from a command line may be anything."""
    bad = b"\xff".decode("utf-8", "surrogateescape")
    commands = [
        ["account", "add", bad],
        ["account", "show", bad],
        ["server", "import", bad],
        ["incident-sync", "--file", bad],
        ["incident-sync", "--url", f"http://{bad}"],
        ["run-helper", bad],
        ["--config", bad, "config", "show"],
        [bad],
    ]
    for args in commands:
        result = cli(*args)
        assert result.code in (1, 2, 78), args
        assert result.out == ""
        assert result.err
    listed = cli("server", "list", "--region", bad, "--json")
    assert (listed.code, listed.out.strip()) in ((0, "[]"), (1, ""))
