"""server import --from-source: a server row for each component of a source that has none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitor_cli import schema
from tests.support.cli import Cli, Result
from tests.support.http import StatusPage
from tests.support.world import World
from tests.test_sync import PATH, page, state

ALL = ["--server-id", "4", "--channel-id", "700+", "--region", "karnataka", "--region-code", "KA-IN"]
Import = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path, status_page: StatusPage) -> Path:
    file = tmp_path / "config.toml"
    file.write_text(
        f'[[sources]]\nname = "carrier"\nurl = "{status_page.url("/")}"\ntag_prefix = "c-"\ntags = {{ z = "own" }}\n'
        f'[[sources]]\nname = "other"\nurl = "{status_page.url("/other.json")}"\n'
    )
    return file


@pytest.fixture
def import_(cli: Cli, config: Path) -> Import:
    def run(*args: str, source: str = "carrier", **more: Any) -> Result:
        return cli("--config", str(config), "server", "import", "--from-source", source, *args, **more)

    return run


def found(world: World) -> list[tuple[Any, ...]]:
    columns = ("server_id", "name", "server_tag", "channel_id", "region", "region_code")
    return [tuple(getattr(row, name) for name in columns) for row in world.rows(schema.monitor)]


def test_each_component_without_a_server_gets_one(
    import_: Import, cli: Cli, config: Path, world: World, status_page: StatusPage
) -> None:
    there = world.server(tag="c-b", name="mine", server_id=9, channel=5, region="kerala", region_code="KL-IN")
    status_page.serve(PATH, page({"a": "major_outage", "b": "operational", "z": "operational"}))
    status_page.serve("/other.json", page({}))
    import_(*ALL).quiet()
    assert found(world) == [
        (9, "mine", "c-b", 5, "kerala", "KL-IN"),
        (4, "A", "c-a", 700, "karnataka", "KA-IN"),
        (4, "Z", "own", 701, "karnataka", "KA-IN"),
    ]
    assert {row.final_status for row in world.rows(schema.monitor)} == {"operational"}
    assert world.changes() == []
    import_(*ALL).quiet()  # again: there is nothing to do
    assert len(found(world)) == 3
    cli("--config", str(config), "incident-sync").quiet()
    assert state(world, there + 1) == ("major_outage", "critical", 1)


def test_a_dry_run_prints_what_import_takes(
    import_: Import, cli: Cli, world: World, status_page: StatusPage, tmp_path: Path
) -> None:
    world.server(tag="c-b")
    document = page({"a": "operational", "b": "operational", "c": "operational"})
    document["components"][0]["name"] = 'Voice "1", Zürich'
    status_page.serve(PATH, document)
    before = world.rows(schema.monitor)
    out = import_("--dry-run", "--region", "kerala").ok().out
    assert out.splitlines() == [
        "server_id,name,server_tag,channel_id,region,region_code",
        ',"Voice ""1"", Zürich",c-a,,kerala,',
        ",C,c-c,,kerala,",
    ]
    assert world.rows(schema.monitor) == before
    file = tmp_path / "servers.csv"
    file.write_text(import_("--dry-run", *ALL).out)
    cli("server", "import", str(file)).quiet()
    assert found(world)[1:] == [
        (4, 'Voice "1", Zürich', "c-a", 700, "karnataka", "KA-IN"),
        (4, "C", "c-c", 701, "karnataka", "KA-IN"),
    ]


def test_it_is_all_or_nothing_and_names_what_is_bad(import_: Import, world: World, status_page: StatusPage) -> None:
    status_page.serve(
        PATH, page({"a": "operational", "x" * 40: "operational", "b": "operational", "y y ": "operational"})
    )
    for args in (ALL, ["--dry-run"]):
        result = import_(*args)
        assert (result.code, result.out) == (1, "")
        first, *lines, last = result.err.splitlines()
        assert first == "monitor-cli: source carrier: 2 bad components, nothing was imported"
        assert f"component 2: its id '{'x' * 40}' has 42 characters, more than 30" in lines[0]
        assert "component 4" in last
    result = import_("--server-id", "32767+", *ALL[2:])
    assert result.code == 1
    assert found(world) == []


def test_a_number_that_counts_too_far(import_: Import, world: World, status_page: StatusPage) -> None:
    status_page.serve(PATH, page({"a": "operational", "b": "operational"}))
    result = import_("--server-id", "32767+", *ALL[2:])
    assert "component 2: server_id '32768' is not a whole number from -32768 to 32767" in result.err
    assert found(world) == []


def test_names_that_no_server_can_have_are_made_fit(import_: Import, world: World, status_page: StatusPage) -> None:
    document = page({"a": "operational", "b": "operational"})
    document["components"][0]["name"] = "n" * 99 + " more"
    document["components"][1]["name"] = None
    status_page.serve(PATH, document)
    import_(*ALL).quiet()
    assert [row[1] for row in found(world)] == ["n" * 99, "b"]


def test_components_that_share_a_tag_share_a_server(
    import_: Import, world: World, status_page: StatusPage, config: Path
) -> None:
    config.write_text(config.read_text().replace('{ z = "own" }', '{ a = "own", b = "own" }'))
    status_page.serve(PATH, page({"a": "operational", "b": "operational"}))
    import_(*ALL).quiet()
    assert [row[2] for row in found(world)] == ["own"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "give --server-id, --channel-id, --region, --region-code"),
        (ALL[:4], "give --region, --region-code"),
        (["--server-id", "x", *ALL[2:]], "neither a whole number nor one with a plus"),
        (["--region", "a\nb"], "has a control character"),
        (["servers.csv"], "one of them"),
    ],
)
def test_what_cannot_be_meant(
    import_: Import, world: World, status_page: StatusPage, args: list[str], words: str
) -> None:
    status_page.serve(PATH, page({"a": "operational"}))
    result = import_(*args)
    assert (result.code, result.out) == (2, "")
    assert words in result.err
    assert status_page.requests == []


def test_what_goes_with_a_file_and_what_does_not(cli: Cli, world: World) -> None:
    for args in ([], ["servers.csv", "--dry-run"], ["servers.csv", "--channel-id", "5"]):
        assert cli("server", "import", *args).code == 2


def test_a_source_that_is_unknown_or_down(import_: Import, world: World, status_page: StatusPage) -> None:
    assert import_(*ALL, source="carier").code == 2
    status_page.serve(PATH, status=500)
    result = import_(*ALL)
    assert result.code == 75
    assert "HTTP 500" in result.err
    assert found(world) == []
