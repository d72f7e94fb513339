"""Everything that can be typed or set is in the documentation: docs/commands.md and man/ are as the help texts are, and
every environment variable that the code reads has its line."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from monitor_cli import config
from monitor_cli.cli import cli as root
from tools import reference
from tools.commandtree import described

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = (ROOT / "docs" / "commands.md").read_text("utf-8")
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text("utf-8")
PAGES = sorted((ROOT / "man").glob("*.1"))

# Read through a constant or a function, or by a library of ours.
BY_OTHER_WAYS = {"CREDENTIALS_DIRECTORY", "_MONITOR_CLI_COMPLETE", "MONITOR_CONFIG", "MONITOR_TEST_MYSQL_URL"}


def test_the_generated_pages_are_current() -> None:
    assert reference.stale() == [], "make docs"


def test_every_command_and_option_is_in_the_reference() -> None:
    """By click's own tree, not by what wrote the page."""
    sections = {part.partition("\n")[0].strip("# "): part for part in re.split(r"^##+ ", COMMANDS, flags=re.MULTILINE)}
    seen = 0

    def look(command: click.Command, path: str, parent: click.Context | None) -> None:
        nonlocal seen
        section = sections[path or "monitor-cli"]
        with click.Context(command, info_name=path.rpartition(" ")[2] or "monitor-cli", parent=parent) as context:
            for parameter in command.params:
                names = parameter.opts if isinstance(parameter, click.Option) else [parameter.make_metavar(context)]
                for name in [*names, *parameter.secondary_opts]:
                    seen += 1
                    assert name.replace("|", "\\|") in section or name in section, f"{path}: {name}"
            if isinstance(command, click.Group):
                for child in command.list_commands(context):
                    found = command.get_command(context, child)
                    assert found is not None
                    look(found, f"{path} {child}".strip(), context)

    look(root, "", None)
    assert seen > 100


def test_every_environment_variable_is_in_the_configuration_s_page() -> None:
    read = {config.env_name(f.name) for f in config.names() if f.name != "sources"} | BY_OTHER_WAYS
    for file in (ROOT / "monitor_cli").rglob("*.py"):
        read |= set(re.findall(r"""os\.environ(?:\.get\(|\[)["'](\w+)["']""", file.read_text("utf-8")))
    assert len(read) > 20
    missing = sorted(name for name in read if f"`{name}`" not in CONFIGURATION)
    assert not missing, f"docs/configuration.md does not have {', '.join(missing)}"


def test_every_example_in_a_page_is_one_of_the_help_texts() -> None:
    for command in described():
        assert "\n".join(command.example) in COMMANDS, command.path
        assert command.summary


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_man_page_is_right_troff(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert lines[1].startswith(".TH MONITOR-CLI")
    headings = [line.removeprefix(".SH ") for line in lines if line.startswith(".SH ")]
    assert headings[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    assert headings[-1] == "SEE ALSO"
    assert lines.count(".nf") == lines.count(".fi")
    requests = {line.partition(" ")[0] for line in lines if line.startswith(".")}
    assert requests <= {".TH", ".SH", ".PP", ".TP", ".B", ".I", ".nf", ".fi", '.\\"'}
    assert not [line for line in lines if line.startswith("'")]


def _groff() -> str:
    if found := shutil.which("groff"):
        return found
    pytest.skip("groff is not installed")


def test_groff_has_no_complaint() -> None:
    assert len(PAGES) > 10
    done = subprocess.run(
        [_groff(), "-man", "-ww", "-z", "-Tutf8", "-K", "utf8", *map(str, PAGES)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_man_page_shows_what_the_help_says() -> None:
    page = ROOT / "man" / "monitor-cli-callback.1"
    command = [_groff(), "-man", "-Tutf8", "-K", "utf8", "-P-cbou", "-rLL=200n", "-rHY=0", str(page)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    words = " ".join(shown.split())
    for callback in (one for one in described() if one.page == "monitor-cli-callback"):
        assert callback.usage in words
        for paragraph in callback.text:
            assert paragraph in words
        for line in callback.example:
            assert " ".join(line.split()) in words
        for option, text in callback.options:
            assert " ".join(f"{option} {text}".split()) in words
