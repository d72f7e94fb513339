"""Keys of a source in files: headers_file and basic_auth_file. What they hold is sent, and shown nowhere."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Cli
from tests.support.http import StatusPage
from tests.support.stores import Store
from tests.test_sync import PATH, page


@pytest.fixture
def cli(sqlite_database: Store, make_cli: Callable[[str | None], Cli]) -> Cli:
    return make_cli(sqlite_database.url)


@pytest.fixture
def sync(cli: Cli, status_page: StatusPage, tmp_path: Path) -> Any:
    """sync("lines of the source's table", *command) with `{dir}` for the folder of the files."""
    status_page.serve(PATH, page({}))

    def run(lines: str, *command: str) -> Any:
        config = tmp_path / "c.toml"
        table = f'[[sources]]\nname = "main"\nurl = "{status_page.url(PATH)}"\n'
        config.write_text(table + lines.replace("{dir}", str(tmp_path)))
        return cli("--config", str(config), *(command or ("incident-sync",)))

    return run


def test_headers_of_a_file(sync: Any, status_page: StatusPage, tmp_path: Path) -> None:
    (tmp_path / "h").write_text("# the key\nX-Key: s3cret: with a colon\n\nx-other:y\n")
    sync('headers_file = "{dir}/h"\nheaders = { X-Other = "n", Accept = "text/plain" }').quiet()
    (request,) = status_page.requests
    assert [request.header(name) for name in ("X-Key", "X-Other", "Accept")] == [
        "s3cret: with a colon",
        "y",
        "text/plain",
    ]


def test_basic_authentication(sync: Any, status_page: StatusPage, tmp_path: Path) -> None:
    (tmp_path / "auth").write_text("zoë:pa:ss\n")
    sync('basic_auth_file = "{dir}/auth"').quiet()
    kind, _, code = status_page.requests[0].header("Authorization").partition(" ")
    assert (kind, base64.b64decode(code).decode()) == ("Basic", "zoë:pa:ss")


@pytest.mark.parametrize(
    ("lines", "content", "words"),
    [
        ('headers_file = "{dir}/none"', "", "the source 'main': headers_file {dir}/none: No such file or directory"),
        ('basic_auth_file = "{dir}/none"', "", "basic_auth_file {dir}/none: No such file or directory"),
        ('basic_auth_file = "{dir}/f"', "s3cret", "basic_auth_file {dir}/f is not one line user:password"),
        ('basic_auth_file = "{dir}/f"', "a:s3cret\nb:c", "is not one line user:password"),
        ('headers_file = "{dir}/f"', "X: y\ns3cret\n", "headers_file {dir}/f, line 2: it is not Name: value"),
        ('headers_file = "{dir}/f"', "s3 cret: y\n", "line 1: it is no name of a header"),
        ('headers_file = "{dir}/f"', "X: s3cret\x00\n", "line 1: it has a value with control characters"),
        ('headers_file = "{dir}/f"', "X: s3cret 障害\n", "line 1: it has a value with characters that no header"),
        ('headers = { X = "s3cret\\n" }', "", "headers 'X' has a value with control characters, or blanks around it"),
        ('headers = { "X Y" = "s3cret" }', "", "headers 'X Y' is no name of a header"),
    ],
)
@pytest.mark.parametrize("command", [["incident-sync"], ["source", "check"], ["config", "check"]])
def test_what_cannot_be_used(
    sync: Any, status_page: StatusPage, tmp_path: Path, lines: str, content: str, words: str, command: list[str]
) -> None:
    (tmp_path / "f").write_text(content)
    result = sync(lines, *command)
    assert (result.code, result.out) == (78, "")
    assert words.replace("{dir}", str(tmp_path)) in result.err
    assert "s3cret" not in result.err.replace("'s3cret'", "")
    assert status_page.requests == []


def test_secrets_are_shown_nowhere(sync: Any, status_page: StatusPage, tmp_path: Path) -> None:
    (tmp_path / "h").write_text("X-Key: s3cret")
    (tmp_path / "a").write_text("user:s3cret")
    lines = 'headers_file = "{dir}/h"\nbasic_auth_file = "{dir}/a"'
    status_page.serve(PATH, status=401)
    for command in (["incident-sync"], ["-vv", "incident-sync"], ["config", "show", "--json"], ["source", "check"]):
        result = sync(lines, *command)
        assert "s3cret" not in result.out + result.err
        assert base64.b64encode(b"user:s3cret").decode() not in result.out + result.err


def test_a_command_that_reads_no_source_needs_no_file(sync: Any) -> None:
    """callback-run's user need not be able to read it."""
    sync('headers_file = "{dir}/none"', "callback-run").quiet()
    sync('headers_file = "{dir}/none"', "source", "list").ok()
