"""What incident-sync tells people: once when it begins and once when it is over; several sources beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monitor_cli import schema
from tests.support.cli import Cli, Result
from tests.support.http import StatusPage
from tests.support.world import World
from tests.test_sync import page, state


class Sources:
    """Two configured sources, `one` and `two`, on one server."""

    def __init__(self, cli: Cli, status_page: StatusPage, config: Path) -> None:
        self._cli = cli
        self._page = status_page
        self._config = config
        self.names = ["one", "two"]
        self.configure()

    def configure(self, *names: str, more: str = "") -> None:
        tables = [
            f'[[sources]]\nname = "{name}"\nurl = "{self._page.url(f"/{name}.json")}"\ntimeout = 2\n{more}'
            for name in names or self.names
        ]
        self._config.write_text("\n".join(tables))

    def serve(self, **words: dict[str, str] | int) -> None:
        """A document (or a status that fails) for each source named."""
        for name, value in words.items():
            if isinstance(value, int):
                self._page.serve(f"/{name}.json", status=value)
            else:
                self._page.serve(f"/{name}.json", page(value))

    def sync(self, *args: str) -> Result:
        return self._cli("--config", str(self._config), "incident-sync", *args)

    def says(self, *args: str, code: int = 0) -> list[str]:
        result = self.sync(*args)
        assert (result.code, result.out) == (code, "")
        return result.err.splitlines()


@pytest.fixture
def sources(cli: Cli, status_page: StatusPage, tmp_path: Path) -> Sources:
    return Sources(cli, status_page, tmp_path / "config.toml")


def test_the_others_are_read_while_one_fails(sources: Sources, world: World) -> None:
    a, b = world.server(tag="a"), world.server(tag="b")
    sources.serve(one=500, two={"b": "major_outage"})
    (line,) = sources.says(code=75)
    assert line.startswith("source.failed source=one ")
    assert state(world, a) == ("operational", "operational", 0)
    assert state(world, b) == ("major_outage", "critical", 1)
    assert [(r.name, r.last_good_at is None, r.failing_since is None) for r in world.rows(schema.source)] == [
        ("one", True, False),
        ("two", False, True),
    ]
    sources.serve(two=500)
    (line,) = sources.says(code=75)
    assert line.startswith("source.failed source=two ")
    assert sources.says(code=75) == []
    sources.serve(two={"b": "operational"})
    (line,) = sources.says(code=75)
    assert line.startswith("source.recovered source=two ")


def test_a_missing_component_is_told_once_and_keeps_its_status(sources: Sources, world: World) -> None:
    sources.serve(one={"a": "operational"}, two={"b": "major_outage"})
    server = world.server(tag="b")
    world.server(server_tag="", name="names no component")
    assert sources.says() == []
    sources.serve(two={})
    assert sources.says() == ['component.missing source="one, two" components=b']
    assert sources.says() == []
    assert state(world, server) == ("major_outage", "critical", 1)
    assert [(r.source, r.kind, r.subject) for r in world.rows(schema.condition)] == [("", "missing", "b")]
    sources.serve(two={"b": "major_outage"})
    assert sources.says() == ['component.found source="one, two" components=b']
    assert sources.says() == []
    assert world.rows(schema.condition) == []


def test_nothing_is_missing_while_a_source_fails_or_is_left_out(sources: Sources, world: World) -> None:
    world.server(tag="b")
    sources.serve(one={"a": "operational"}, two=503)
    (line,) = sources.says(code=75)
    assert line.startswith("source.failed")
    assert sources.says("--source", "one") == []


def test_many_missing_components_are_one_line(sources: Sources, world: World) -> None:
    sources.configure("one")
    for n in range(30):
        world.server(tag=f"t{n:02}")
    sources.serve(one={"t00": "operational"})
    (line,) = sources.says()
    assert "t01, t02" in line
    assert line.endswith('t20 and 9 more"')
    assert len(world.rows(schema.condition)) == 29


def test_an_unknown_word_is_a_warning_and_told_once(sources: Sources, world: World) -> None:
    sources.configure("one")
    server = world.server(tag="a")
    sources.serve(one={"a": "on_fire", "b": "odd"})
    assert sources.says() == ['word.unknown source=one words="odd, on_fire" type=warning']
    assert state(world, server) == ("on_fire", "warning", 1)
    assert sources.says() == []
    sources.serve(one={"a": "on_fire"})
    assert sources.says() == ["word.gone source=one words=odd"]
    sources.configure("one", more='status_map = { on_fire = "critical" }\n')
    assert sources.says() == ["word.gone source=one words=on_fire"]
    assert state(world, server) == ("on_fire", "critical", 1)
    assert sources.says() == []


@pytest.mark.parametrize("worse", ["one", "two"])
def test_a_tag_of_two_sources_takes_the_worst(sources: Sources, world: World, worse: str) -> None:
    server = world.server(tag="a")
    sources.serve(one={"a": "partial_outage", "x": "operational"}, two={"a": "partial_outage", "x": "operational"})
    sources.serve(**{worse: {"a": "major_outage", "x": "operational"}})
    assert sources.says() == ['component.shared source="one, two" components=a taken=worst']  # no server names x
    assert sources.says() == []
    assert state(world, server) == ("major_outage", "critical", 1)
    assert world.changes()[-1].source == worse
    sources.serve(one={"a": "major_outage"}, two={})
    assert sources.says() == ['component.shared.gone source="one, two" components=a']


def test_of_a_shared_tag_what_is_left_counts_only_where_it_is_worse(sources: Sources, world: World) -> None:
    """The worse of two sources fails, or is left out: nothing gets better by that."""
    server = world.server(tag="a")
    sources.serve(one={"a": "partial_outage"}, two={"a": "operational"})
    sources.says()
    before = world.server_row(server)
    sources.serve(one=503)
    sources.says(code=75)
    sources.says("--source", "two")
    assert world.server_row(server) == before
    sources.serve(two={"a": "major_outage"})
    sources.says(code=75)
    assert state(world, server) == ("major_outage", "critical", 1)
    sources.serve(one={"a": "operational"}, two={"a": "operational"})
    sources.says()
    assert state(world, server) == ("operational", "operational", 1)


def test_two_command_lines_keep_out_of_each_others_way(cli: Cli, world: World, status_page: StatusPage) -> None:
    world.server(tag="a")
    world.server(tag="b")
    urls = [status_page.serve(f"/{tag}.json", page({tag: "operational"})) for tag in "ab"]
    for url in urls:
        assert cli("incident-sync", "--url", url).err.startswith("component.missing")
    for url in urls * 2:
        cli("incident-sync", "--url", url).quiet()


def test_control_characters_of_a_source_reach_no_terminal(cli: Cli, world: World, status_page: StatusPage) -> None:
    world.server(tag="a")
    status_page.serve("/x.json", page({"a": "\x1b[2Jdown\nsource.failed source=forged"}))
    result = cli("incident-sync", "--url", status_page.url("/x.json"))
    assert len(result.err.splitlines()) == 1
    assert "\x1b" not in result.err


def test_verbose_tells_each_change(sources: Sources, world: World, cli: Cli) -> None:
    sources.configure("one")
    server = world.server(tag="a", name="voice 1")
    sources.serve(one={"a": "major_outage"})
    result = cli("-v", "--config", str(sources._config), "incident-sync").ok()
    lines = result.err.splitlines()
    assert lines[0].startswith("source.read source=one components=1 ")
    assert lines[1] == (
        f'server.changed id={server} server_tag=a name="voice 1" from=operational to=critical '
        "incident_status=major_outage source=one"
    )
    assert lines[2] == "sync.done servers=1 written=1"


def test_quiet_says_errors_only(sources: Sources, world: World, cli: Cli) -> None:
    world.server(tag="nowhere")
    sources.serve(one={"a": "odd"}, two=500)
    result: Any = cli("-q", "--config", str(sources._config), "incident-sync")
    (line,) = result.err.splitlines()
    assert line.startswith("source.failed source=two ")
