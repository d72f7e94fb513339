"""The shell's completion: asked as bash, zsh and fish ask; it never fails, prompts, writes or takes long."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cli import SCRIPT, Cli, Result
from tests.support.stores import Store
from tests.support.world import World

VARIABLE = "_MONITOR_CLI_COMPLETE"
SOURCES = '[[sources]]\nname = "carrier"\nurl = "https://status.example.com"\n[[sources]]\nname = "core"\nurl = "x"\n'


def complete(cli: Cli, line: str, **env: str) -> list[str]:
    """What is offered for the last word of a line, by the program as bash calls it."""
    result = asked(cli, line, **env)
    return [item.partition(",")[2] for item in result.out.splitlines() if item]


def asked(cli: Cli, line: str, shell: str = "bash", **env: str) -> Result:
    words = line.split(" ")
    asks = {VARIABLE: f"{shell}_complete", "COMP_WORDS": line.strip(), "COMP_CWORD": str(len(words) - 1)}
    if shell == "fish":
        asks["COMP_CWORD"] = words[-1]
    result = cli(env={**asks, **env})
    assert (result.code, result.err) == (0, "")
    return result


@pytest.fixture
def bare(make_cli: Callable[[str | None], Cli]) -> Cli:
    return make_cli(None)


def test_commands_and_options(bare: Cli) -> None:
    assert complete(bare, "monitor-cli incid") == ["incident-sync"]
    assert complete(bare, "monitor-cli callback rotate") == ["rotate-secret"]
    assert "--watch" in complete(bare, "monitor-cli callback-run --")
    assert complete(bare, "monitor-cli incident-sync --provider statusp") == ["statuspage", "statuspal"]
    assert asked(bare, "monitor-cli number import ").out.startswith("file,")
    assert asked(bare, "monitor-cli --config ").out.startswith("file,")


def offered(cli: Cli, shell: str, *words: str) -> list[str]:
    """What a shell is offered for the last of these words, as its own variables have them."""
    env = {VARIABLE: f"{shell}_complete", "COMP_WORDS": " ".join(("monitor-cli", *words)).strip()}
    env["COMP_CWORD"] = words[-1] if shell == "fish" else str(len(words))
    lines = cli(env=env).out.splitlines()
    return lines[1::3] if shell == "zsh" else [line.partition(",")[2].partition("\t")[0] for line in lines]


def test_a_value_that_is_joined_to_its_option(bare: Cli) -> None:
    """bash has the `=` as a word of its own; zsh and fish replace the whole word."""
    joined = ["--provider=statuspage", "--provider=statuspal"]
    assert offered(bare, "bash", "incident-sync", "--provider", "=", "statusp") == ["statuspage", "statuspal"]
    assert "gatus" in offered(bare, "bash", "incident-sync", "--provider", "=")
    assert offered(bare, "bash", "incident-sync", "--provider", "=", "gatus", "--dry") == ["--dry-run"]
    for shell in ("zsh", "fish"):
        assert offered(bare, shell, "incident-sync", "--provider=statusp") == joined
        assert "--provider=gatus" in offered(bare, shell, "incident-sync", "--provider=")
        assert offered(bare, shell, "incident-sync", "--provider", "statusp") == ["statuspage", "statuspal"]
        assert offered(bare, shell, "incident-sync", "--provider=gatus", "--dry") == ["--dry-run"]


def test_fish_loses_nothing_of_a_description_with_commas(bare: Cli) -> None:
    (line,) = asked(bare, "monitor-cli db", "fish").out.splitlines()
    assert line == "plain,db\tCreate; adopt; check or drop monitor-cli's..."


def test_names_from_the_database(cli: Cli, world: World) -> None:
    world.account("acme")
    world.account("acme%")  # no sign of the database's means anything
    other = world.account("zeta")
    for name in ("with blanks", "a;id", "*", "$(id)", "new\nline", "a\tb"):
        world.account(name)  # a shell would take these for something else
    ids = [world.callback(other, "https://a.example/", name="to\nnews") for _ in range(2)]
    assert complete(cli, "monitor-cli account show ") == ["acme", "zeta"]
    assert complete(cli, "monitor-cli account show a") == ["acme"]
    assert complete(cli, "monitor-cli callback add --account ze") == ["zeta"]
    assert complete(cli, "monitor-cli number add ") == ["acme", "zeta"]
    for command in ("show", "test", "enable 1", "replay --callback", "edit"):
        assert complete(cli, f"monitor-cli callback {command} ") == [str(i) for i in ids], command
    assert complete(cli, f"monitor-cli callback show {ids[0]}") == [str(ids[0])]
    assert complete(cli, "monitor-cli callback show x") == []
    assert asked(cli, "monitor-cli callback show ", "zsh").out.splitlines()[:3] == [
        "plain",
        str(ids[0]),
        "to\N{REPLACEMENT CHARACTER}news, of zeta",
    ]
    assert asked(cli, "monitor-cli account show ", "fish").out.splitlines()[0].startswith("plain")


def test_a_hundred_are_enough(cli: Cli, world: World) -> None:
    for number in range(120):
        world.account(f"account-{number:03}")
    assert len(complete(cli, "monitor-cli account show ")) == 100
    assert complete(cli, "monitor-cli account show account-11") == [f"account-11{n}" for n in range(10)]


def test_sources_of_the_configuration_that_the_line_names(bare: Cli, tmp_path: Path) -> None:
    file = tmp_path / "monitor.toml"
    file.write_text(SOURCES)
    assert complete(bare, f"monitor-cli --config {file} incident-sync --source c") == ["carrier", "core"]
    assert complete(bare, "monitor-cli source check --source ca", MONITOR_CONFIG=str(file)) == ["carrier"]
    assert complete(bare, f"monitor-cli --config {file} server import --from-source co") == ["core"]


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"MONITOR_CONFIG": "/nowhere.toml"},
        {"MONITOR_DATABASE_URL": "nonsense"},
        {"MONITOR_DATABASE_URL": "mysql+pymysql://nobody:wrong@127.0.0.1:1/voice"},
        {"MONITOR_DATABASE_URL": "sqlite:////nowhere/monitor.db"},
        {"CREDENTIALS_DIRECTORY": "/nowhere", "MONITOR_CONCURRENCY": "many"},
    ],
)
def test_what_is_wrong_offers_nothing_and_says_nothing(bare: Cli, env: dict[str, str]) -> None:
    assert complete(bare, "monitor-cli account show ", **env) == []
    assert complete(bare, "monitor-cli callback show ", **env) == []
    assert list(bare.home.rglob("*.db")) == []


def test_no_tables_and_a_refused_password(make_cli: Callable[[str | None], Cli], engine: Store) -> None:
    with engine.read():
        pass  # the database is there, and empty
    assert complete(make_cli(engine.url), "monitor-cli account show ") == []
    if engine.name != "sqlite":
        assert complete(make_cli(engine.url.replace(":", ":x", 2)), "monitor-cli account show ") == []


@pytest.fixture
def silent_server() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_database_that_does_not_answer_is_not_waited_for(bare: Cli, silent_server: int) -> None:
    url = f"mysql+pymysql://monitor:password@127.0.0.1:{silent_server}/voice?read_timeout=90"
    started = time.monotonic()
    assert complete(bare, "monitor-cli account show ", MONITOR_DATABASE_URL=url) == []
    assert time.monotonic() - started < 30  # without a limit of its own it is 90


# --- real shells ------------------------------------------------------------------------------------------------------

_BASH = """
eval "$(_MONITOR_CLI_COMPLETE=bash_source monitor-cli)"
complete -p monitor-cli >&2
COMP_WORDS=(monitor-cli account show ac); COMP_CWORD=3
_monitor_cli_completion monitor-cli
printf '%s\\n' "${COMPREPLY[@]}"
"""
_ZSH = """
autoload -Uz compinit; compinit -u -d "$HOME/.zcompdump"
eval "$(_MONITOR_CLI_COMPLETE=zsh_source monitor-cli)"
_describe() { shift 2; print -l ${(P)1} }; compadd() { local name=${@[-1]}; print -l -- ${(P)name} }
words=(monitor-cli account show ac); CURRENT=4
_monitor_cli_completion
"""
_FISH = """
_MONITOR_CLI_COMPLETE=fish_source monitor-cli | source
complete -C 'monitor-cli account show ac'
"""


def test_the_lines_are_the_documented_ones() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "install.md").read_text("utf-8").replace("\\|", "|")
    for script in (_BASH, _ZSH, _FISH):
        (line,) = (line for line in script.splitlines() if VARIABLE in line)
        assert f"`{line}`" in page


@pytest.mark.parametrize(
    ("shell", "script"),
    [(["bash", "--norc", "-c"], _BASH), (["zsh", "-f", "-c"], _ZSH), (["fish", "--no-config", "-c"], _FISH)],
    ids=["bash", "zsh", "fish"],
)
def test_the_documented_line_in_a_real_shell(cli: Cli, world: World, shell: list[str], script: str) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    world.account("acme")
    env = cli.environment()
    env["PATH"] = os.pathsep.join([str(SCRIPT.parent), env.get("PATH", os.defpath)])
    for _ in range(5):  # on a machine that is busy two seconds may not be enough, and then nothing is offered
        done = subprocess.run(
            [*shell, script], env=env, cwd=cli.home, capture_output=True, text=True, timeout=120, check=False
        )
        if done.stdout.strip():
            break
    assert done.stdout.split() == ["acme"], done.stderr
