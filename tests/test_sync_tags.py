"""`tag_prefix` and `tags`: which server_tag a component of a source has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Cli
from tests.support.http import StatusPage
from tests.support.pages import google_incident
from tests.support.world import World
from tests.test_sync import page, state


@pytest.fixture
def sync(cli: Cli, status_page: StatusPage, tmp_path: Path) -> Any:
    """sync(one=(document, 'lines of its table')) runs incident-sync on these sources."""

    def run(**sources: tuple[Any, str]) -> Any:
        tables = []
        for name, (document, lines) in sources.items():
            url = status_page.serve(f"/{name}.json", document)
            tables.append(f'[[sources]]\nname = "{name}"\nurl = "{url}"\n{lines}\n')
        config = tmp_path / "config.toml"
        config.write_text("".join(tables))
        return cli("--config", str(config), "incident-sync")

    return run


def test_two_sources_that_share_ids(sync: Any, world: World) -> None:
    one, two, bare = world.server(tag="dc1-7"), world.server(tag="7"), world.server(tag="dc1-8")
    result = sync(
        one=(page({"7": "major_outage", "8": "operational"}), 'tag_prefix = "dc1-"'),
        two=(page({"7": "partial_outage"}), ""),
    )
    result.quiet()
    assert [state(world, s)[1] for s in (one, two, bare)] == ["critical", "warning", "operational"]
    assert [c.source for c in world.changes()] == ["one", "two"]


def test_single_components_have_a_tag_of_their_own(sync: Any, world: World) -> None:
    long = "core_front-end-of-the-media-gateways"
    media, prefixed, unprefixed = world.server(tag="media"), world.server(tag="p-b"), world.server(tag="p-" + long[:28])
    words = {long: "major_outage", "b": "partial_outage", "c": "operational"}
    result = sync(one=(page(words), f'tag_prefix = "p-"\ntags = {{ "{long}" = "media" }}'))
    assert "component.missing" in result.err
    assert [state(world, s)[1] for s in (media, prefixed, unprefixed)] == ["critical", "warning", "operational"]


def test_components_that_are_given_one_tag_count_as_the_worst_of_them(sync: Any, world: World) -> None:
    server = world.server(tag="voice")
    tags = 'tags = { a = "voice", b = "voice", c = "voice" }'
    sync(one=(page({"a": "operational", "b": "major_outage", "c": "partial_outage"}), tags)).quiet()
    assert state(world, server) == ("major_outage", "critical", 1)


def test_a_prefix_makes_tags_meet(sync: Any, world: World) -> None:
    server = world.server(tag="x1")
    result = sync(one=(page({"1": "operational"}), 'tag_prefix = "x"'), two=(page({"x1": "major_outage"}), ""))
    assert result.err.startswith("component.shared")
    assert state(world, server)[1] == "critical"


def test_silence_is_about_tags_that_can_be_its_own(sync: Any, world: World) -> None:
    """A source that lists only what is affected says nothing about tags without its prefix."""
    own, named, other = (
        world.server(tag=tag, final_status="critical", incident_status="SERVICE_OUTAGE")
        for tag in ("g-vm", "data", "elsewhere")
    )
    lines = 'tag_prefix = "g-"\ntags = { sql = "data" }'
    result = sync(google=([google_incident("SERVICE_OUTAGE", "dns")], lines))
    assert "component.missing" in result.err
    assert "components=elsewhere" in result.err
    assert [state(world, s)[1] for s in (own, named, other)] == ["operational", "operational", "critical"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("tag_prefix = 5", "tag_prefix must be text"),
        ("tags = ['a']", "tags must be a table of text"),
        ("tags = { a = 5 }", "tags must be a table of text"),
    ],
)
def test_what_they_cannot_be(sync: Any, world: World, line: str, words: str) -> None:
    result = sync(one=(page({}), line))
    assert result.code == 78
    assert words in result.err
