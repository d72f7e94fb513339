"""What README.md tells a newcomer to type works, in this order, on an empty home; what is not run at least exists."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import network_guard
from tests.support.cli import Cli
from tests.support.readme import Command, Failure, calls, commands, environment, run, with_free_ports

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
_WORD = re.compile(r"[a-z][a-z-]*")


@pytest.fixture
def shell_env(tmp_path: Path, make_cli: Callable[[str | None], Cli]) -> dict[str, str]:
    base = make_cli(None).environment()
    del base["XDG_DATA_HOME"], base["XDG_CONFIG_HOME"], base["HOME"]
    return {**environment(tmp_path, base), **network_guard.child_environment(str(tmp_path / ".violations"))}


def test_every_command_of_the_readme_works(tmp_path: Path, shell_env: dict[str, str]) -> None:
    typed = [command for command in commands(README) if command.not_run is None]
    assert any(calls(command.text) for command in typed), "README.md has no command to run"
    shutil.copytree(ROOT / "docs", tmp_path / "docs")  # files that the page points to
    shutil.copy(ROOT / "crontab.example", tmp_path)
    run(typed, tmp_path, shell_env)
    assert not (tmp_path / ".violations").exists(), (tmp_path / ".violations").read_text()


def test_commands_that_are_not_run_exist_with_their_options(make_cli: Callable[[str | None], Cli]) -> None:
    cli = make_cli(None)
    for command in commands(README):
        for target in re.findall(r"(?:^|&& |; )make ([a-z]+)", command.text):
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), f"no make {target}"
        for call in calls(command.text):
            assert_exists(cli, call, f"line {command.line}: {command.text}")


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            path, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", path):
                continue
            file = page.parent / path if path else page
            assert file.is_file(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(file.read_text("utf-8")), f"{page.name}: {target}"


def anchors(text: str) -> list[str]:
    """The names that GitHub gives to a page's headings."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


def assert_exists(cli: Cli, call: list[str], where: str) -> None:
    """The command that a call names is there, and knows each option given (before or after its name)."""
    path: list[str] = []
    helps = cli.ok("--help").out
    for word in call:
        if word == "--":
            break
        if word.startswith("-"):
            option = word.partition("=")[0]
            assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", helps), f"{where}: no option {option}"
        elif _WORD.fullmatch(word):
            answer = cli(*path, word, "--help")
            if answer.code == 0 and f"monitor-cli {' '.join([*path, word])} " in answer.out:
                path.append(word)
                helps += answer.out
    assert path or not [word for word in call if not word.startswith("-")], f"{where}: no such command"


# --- the reader itself ------------------------------------------------------------------------------------------------

PAGE = """
```console
$ echo one \\
>   two
one two
  $ cat > file <<'EOF'
a
$ b
EOF
$ test -s file
```

<!-- not run: needs a server -->

```console
$ mysql < grants.sql
```

```sh
cd /
pwd
```

```python
$ no
```

```crontab
# each minute
* * * * * monitor-cli incident-sync
```
"""


def test_the_reader_finds_commands() -> None:
    assert commands(PAGE) == [
        Command("echo one \\\n  two", 3, None),
        Command("cat > file <<'EOF'\na\n$ b\nEOF", 6, None),
        Command("test -s file", 10, None),
        Command("mysql < grants.sql", 16, "needs a server"),
        Command("cd /\npwd", 20, None),
        Command("* * * * * monitor-cli incident-sync", 30, "cron runs it"),
    ]


def test_the_reader_finds_calls() -> None:
    text = "X=1 monitor-cli -v db upgrade && /opt/bin/monitor-cli callback add --url 'http://a/?b&c' | jq .id > f # x"
    assert calls(text) == [["-v", "db", "upgrade"], ["callback", "add", "--url", "http://a/?b&c"]]


def test_the_shell_keeps_its_state_and_names_what_failed(tmp_path: Path, shell_env: dict[str, str]) -> None:
    good = [Command("cd /tmp; name=value", 1, None), Command('test "$name" = value -a "$PWD" = /tmp', 2, None)]
    run(good, tmp_path, shell_env)
    bad = [*good, Command("echo said; false | true", 3, None), Command("touch reached", 4, None)]
    with pytest.raises(Failure, match=r"line 3: echo said; false \| true\nended with 1; the output so far:\nsaid"):
        run(bad, tmp_path, shell_env)
    assert not (tmp_path / "reached").exists()


def test_a_server_in_the_background_is_waited_for_and_ended(tmp_path: Path, shell_env: dict[str, str]) -> None:
    typed = [
        Command("echo found > index.html; python -m http.server 8080 &", 1, None),
        Command("curl -s http://127.0.0.1:8080/ > got; echo $! > pid", 2, None),
    ]
    run(typed, tmp_path, shell_env)
    assert (tmp_path / "got").read_text() == "found\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_command_that_never_ends_fails(tmp_path: Path, shell_env: dict[str, str]) -> None:
    with pytest.raises(Failure, match="line 7: sleep 60\ndid not end"):
        run([Command("sleep 60", 7, None)], tmp_path, shell_env, timeout=0.5)


def test_ports_are_replaced_by_free_ones() -> None:
    found = [Command("monitor-cli serve-api &", 1, None), Command("curl http://127.0.0.1:8080/", 2, None)]
    server, client = (command.text for command in with_free_ports(found))
    port = client.rpartition(":")[2].rstrip("/")
    assert port != "8080"
    assert server == f"monitor-cli serve-api --port {port} &"
