"""source list and source check: what people see while they set a source up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monitor_cli import schema
from tests.support.cli import Cli
from tests.support.http import StatusPage
from tests.support.pages import google_incident
from tests.support.world import World
from tests.test_sync import PATH, page

WORDS = {"a": "operational", "b": "on_fire", "much-too-long-for-a-server-tag-1": "major_outage"}


def rows(world: World) -> list[Any]:
    return [world.rows(table) for table in schema.metadata.sorted_tables]


@pytest.fixture
def config(tmp_path: Path, status_page: StatusPage) -> Path:
    """Two sources; the second one's URL has secrets in it."""
    file = tmp_path / "config.toml"
    file.write_text(
        f'[[sources]]\nname = "one"\nprovider = "statuspage"\nurl = "{status_page.url("/")}"\n'
        f'[[sources]]\nname = "two"\nurl = "http://u:s3cret@127.0.0.1:{status_page.port}/two.json?key=s3cret"\n'
        'tag_prefix = "two-"\nstatus_map = { odd = "critical" }\n'
    )
    status_page.serve(PATH, page(WORDS))
    status_page.serve("/two.json", page({"a": "odd"}))
    return file


# --- list -------------------------------------------------------------------------------------------------------------


def test_list_tells_how_reading_went(cli: Cli, world: World, status_page: StatusPage, config: Path) -> None:
    def listed() -> Any:
        return cli.ok("--config", str(config), "source", "list", "--json").json

    where = f"http://127.0.0.1:{status_page.port}"
    never = {"last_good_at": None, "failing_since": None, "error": None}
    assert listed() == [
        {"name": "one", "provider": "statuspage", "url": where + "/", **never},
        {"name": "two", "provider": "auto", "url": where + "/two.json?…", **never},
    ]
    status_page.serve("/two.json", status=503)
    assert cli("--config", str(config), "incident-sync").code == 75
    one, two = listed()
    assert (one["failing_since"], one["error"], two["last_good_at"]) == (None, None, None)
    assert one["last_good_at"].endswith("Z")
    assert two["failing_since"].endswith("Z")
    assert two["error"] == f"{where}/two.json?…: answered HTTP 503 Service Unavailable"
    status_page.serve("/two.json", page({}))
    cli("--config", str(config), "incident-sync")
    assert (listed()[1]["failing_since"], listed()[1]["error"]) == (None, None)
    lines = cli.ok("--config", str(config), "source", "list").out.splitlines()
    assert lines[0].split() == ["NAME", "PROVIDER", "URL", "LAST_GOOD_AT", "FAILING_SINCE", "ERROR"]
    assert lines[1].split()[:3] == ["one", "statuspage", where + "/"]


def test_list_of_none_and_of_the_environment(cli: Cli, database: Any) -> None:
    assert cli.ok("source", "list", "--json").json == []
    cli("source", "list").quiet()
    (one,) = cli.ok("source", "list", "--json", env={"MONITOR_INCIDENT_URL": "https://status.example/x?k=s3cret"}).json
    assert (one["name"], one["url"]) == ("status.example/x?…", "https://status.example/x?…")


# --- check ------------------------------------------------------------------------------------------------------------


def test_check_shows_components_and_what_matches(cli: Cli, world: World, status_page: StatusPage, config: Path) -> None:
    first, second, other = world.server(tag="a"), world.server(tag="a"), world.server(tag="two-a")
    nowhere = world.server(tag="nowhere")
    before = rows(world)
    found = cli.ok("--config", str(config), "source", "check", "--json").json
    one, two = found["sources"]
    assert {key: one[key] for key in ("name", "provider", "url", "documents", "error", "only_affected")} == {
        "name": "one",
        "provider": "statuspage",
        "url": status_page.url("/"),
        "documents": [status_page.url(PATH)],
        "error": None,
        "only_affected": False,
    }
    a, b, long = one["components"]
    assert a == {
        "id": "a",
        "name": "A",
        "word": "operational",
        "type": "operational",
        "known": True,
        "server_tag": "a",
        "unfit": None,
        "servers": [first, second],
        "incident": None,
    }
    assert (b["type"], b["known"], b["servers"]) == ("warning", False, [])
    assert long["unfit"] == "has 32 characters, more than 30"
    (prefixed,) = two["components"]
    assert two["provider"] == "statuspage"  # recognised
    assert (prefixed["server_tag"], prefixed["type"], prefixed["servers"]) == ("two-a", "critical", [other])
    assert found["unmatched"] == [{"server_tag": "nowhere", "servers": [nowhere]}]
    assert rows(world) == before


def test_check_for_people(cli: Cli, world: World, status_page: StatusPage, config: Path) -> None:
    server = world.server(tag="a")
    world.server(tag="nowhere")
    out = cli.ok("--config", str(config), "source", "check", "--source", "one").out
    lines = out.splitlines()
    assert lines[0].split() == ["name", "one"]
    assert "components  3 (1 with a server)" in lines
    table = [line for line in lines if line.startswith(("ID ", "a ", "b ", "much"))]
    assert table[0].split() == ["ID", "NAME", "WORD", "TYPE", "SERVER_TAG", "SERVERS", "NOTE"]
    assert table[1].split() == ["a", "A", "operational", "operational", "a", str(server)]
    assert table[2].endswith("unknown word")
    assert table[3].endswith("no server can have this: it has 32 characters, more than 30")
    assert lines[-1] == "server_tags that no component has: nowhere"


def test_check_of_a_url_and_of_files(cli: Cli, world: World, status_page: StatusPage, tmp_path: Path) -> None:
    incident = {"name": "Fire", "status": "identified", "shortlink": "https://x.example/1", "components": [{"id": "a"}]}
    document = page({"a": "major_outage"}, incidents=[incident])
    url = status_page.serve("/x.json", document)
    file = tmp_path / "x.json"
    file.write_text(json.dumps(document))
    for args in (["--url", url], ["--file", str(file)], ["--file", str(file), "--provider", "statuspage"]):
        (source,) = cli.ok("source", "check", *args, "--json").json["sources"]
        (component,) = source["components"]
        assert component["incident"] == {"title": "Fire", "link": "https://x.example/1"}
        assert component["type"] == "critical"
    assert "Fire" in cli.ok("source", "check", "--url", url).out


def test_a_source_that_lists_only_what_is_affected(cli: Cli, world: World, status_page: StatusPage) -> None:
    world.server(tag="other")
    url = status_page.serve("/incidents.json", [google_incident("SERVICE_OUTAGE", "vm")])
    assert cli.ok("source", "check", "--url", url, "--json").json["sources"][0]["only_affected"] is True
    assert cli.ok("source", "check", "--url", url).out.endswith("server_tags not named, so operational: other\n")


@pytest.mark.parametrize("serve", [{"status": 500}, {"document": b"<html>"}, {"document": []}])
def test_what_cannot_be_read(
    cli: Cli, world: World, status_page: StatusPage, config: Path, serve: dict[str, Any]
) -> None:
    world.server(tag="two-a")
    before = rows(world)
    status_page.serve(PATH, **serve)
    for options in ([], ["--json"]):
        result = cli("--config", str(config), "source", "check", *options)
        assert result.code == 75
        assert result.err.startswith("monitor-cli: one: http://127.0.0.1")
        assert "Traceback" not in result.err
    one, two = result.json["sources"]
    assert one["error"]
    assert one["components"] == []
    assert two["components"][0]["servers"]  # the others are shown all the same
    assert rows(world) == before


@pytest.mark.parametrize(
    ("args", "code"), [((), 78), (("--source", "x"), 2), (("--url", "x"), 2), (("--file", "/nonexistent"), 2)]
)
def test_what_cannot_be_meant(cli: Cli, database: Any, args: tuple[str, ...], code: int) -> None:
    assert cli("source", "check", *args).code == code
