"""The number commands, through the real command line on both stores."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.cli import Cli
from tests.support.world import World

HEADER = "account,channel_id,number\n"


@pytest.fixture(autouse=True)
def _accounts(world: World) -> None:
    world.account("acme")
    world.account("globex, inc")


def numbers(cli: Cli, *options: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in cli.ok("number", "list", "--json", *options).json]


def test_add_list_and_move(cli: Cli, world: World) -> None:
    for channel in (7, 8):
        world.server(channel=channel)
    cli("number", "add", "acme", "--channel", "7", "+912", "+911", "+912").quiet()
    cli("number", "add", "globex, inc", "--channel", "7", "+911").quiet()
    cli("number", "add", "acme", "--channel", "8", "+912", "+913").quiet()
    assert cli.ok("number", "list", "--json").json[0] == {"account": "acme", "number": "+911", "channel_id": 7}
    assert numbers(cli, "--account", "acme") == [("acme", "+911", 7), ("acme", "+912", 8), ("acme", "+913", 8)]
    assert numbers(cli, "--channel", "7") == [("acme", "+911", 7), ("globex, inc", "+911", 7)]
    assert cli.ok("number", "list").out.splitlines()[0].split() == ["ACCOUNT", "NUMBER", "CHANNEL_ID"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "is empty"),
        ("+91 1", "has a blank in it"),
        ("+91\u3000", "has blanks around it"),
        ("+91\t1", "has a control character"),
        ("1" * 33, "has 33 characters, more than 32"),
    ],
)
def test_a_number_that_cannot_be_meant(cli: Cli, value: str, words: str) -> None:
    result = cli("number", "add", "acme", "--channel", "7", "+911", value)
    assert result.code == 2
    assert words in result.err
    imported = cli("number", "import", "-", stdin=f'{HEADER}acme,7,+911\nacme,7,"{value}"\n')
    assert imported.code == 1
    assert "line 3: number" in imported.err
    assert words in imported.err
    assert numbers(cli) == []


def test_numbers_on_a_channel_without_a_server(cli: Cli, world: World) -> None:
    world.server(channel=7)
    cli("number", "add", "acme", "--channel", "7", "+911").quiet()
    assert cli.ok("number", "add", "acme", "--channel", "8", "+911").err.startswith("channel.no_server channels=8 ")


def test_a_channel_out_of_range(cli: Cli) -> None:
    assert cli("number", "add", "acme", "--channel", "2147483648", "+911").code == 2
    assert cli("number", "add", "acme", "--channel", "x", "+911").code == 2


def test_remove(cli: Cli) -> None:
    cli.ok("number", "add", "acme", "--channel", "7", "+911", "+912", "+913")
    cli.ok("number", "add", "globex, inc", "--channel", "7", "+911")
    assert cli("number", "remove", "acme", "+911").code == 2
    absent = cli("number", "remove", "acme", "+911", "+919", "--yes")
    assert absent.code == 1
    assert "acme has no number +919" in absent.err
    assert len(numbers(cli)) == 4
    cli("number", "remove", "acme", "+911", "+913", "--yes").quiet()
    assert numbers(cli) == [("acme", "+912", 7), ("globex, inc", "+911", 7)]


def test_import_adds_and_moves(cli: Cli, world: World) -> None:
    for channel in (7, 8, 9):
        world.server(channel=channel)
    cli.ok("number", "add", "acme", "--channel", "7", "+911", "+912")
    text = f'\ufeff{HEADER}\nacme,8,+911\nacme,7,+912\n"globex, inc",7,+911\nacme,9,+913\n'.replace("\n", "\r\n")
    result = cli.ok("-v", "number", "import", "-", stdin=text)
    assert (result.out, result.err) == ("", "numbers.imported added=2 moved=1 unchanged=1\n")
    assert numbers(cli) == [
        ("acme", "+911", 8),
        ("acme", "+912", 7),
        ("acme", "+913", 9),
        ("globex, inc", "+911", 7),
    ]
    cli("number", "import", "-", stdin=text).quiet()


def test_import_is_all_or_nothing_and_names_each_bad_line(cli: Cli) -> None:
    text = HEADER + "acme,7,+911\nacmee,x,+912\nacme,9,+911\nacme,7\nAcme,7,+913\n"
    result = cli("number", "import", "-", stdin=text)
    assert (result.code, result.out) == (1, "")
    assert [line.strip() for line in result.err.splitlines()] == [
        "monitor-cli: stdin: 4 bad lines, nothing was imported",
        "line 3: no account named 'acmee'; channel_id 'x' is not a whole number from -2147483648 to 2147483647",
        "line 4: it has the account and number of line 2",
        "line 5: it has 2 values, the header 3",
        "line 6: no account named 'Acme'",
    ]
    assert numbers(cli) == []
    wrong = cli("number", "import", "-", stdin="account,number\n")
    assert (wrong.code, "the column channel_id is missing" in wrong.err) == (1, True)


def test_many_numbers(cli: Cli, world: World) -> None:
    lines = [f"acme,{i % 50},+91{i}" for i in range(5000)]
    told = cli.ok("number", "import", "-", stdin=HEADER + "\n".join(lines)).err
    assert told.startswith('channel.no_server channels="0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …" count=50 ')
    assert told.count("\n") == 1
    for channel in (*range(50), 99):
        world.server(channel=channel)
    assert len(numbers(cli)) == 5000
    cli(
        "number", "import", "-", stdin=HEADER + "\n".join(line.replace("acme,1,", "acme,99,") for line in lines)
    ).quiet()
    assert len(numbers(cli, "--channel", "99")) == 100
