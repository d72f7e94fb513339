"""A source that lists only what is affected (Google Cloud): what it does not name is operational; with several sources
only where the row is that source's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Cli
from tests.support.http import StatusPage
from tests.support.pages import google_incident
from tests.support.world import World

OVER = [google_incident("SERVICE_OUTAGE", "vm", end="2026-01-01T01:00:00+00:00")]


def state(world: World, server: int) -> tuple[Any, ...]:
    row = world.server_row(server)
    return row.incident_status, row.final_status, row.status_report


@pytest.fixture
def sync(cli: Cli, status_page: StatusPage, tmp_path: Path) -> Any:
    """sync(google=…, page=…) serves these and runs incident-sync on all that were ever given; None: it answers 500."""
    sources: dict[str, str] = {}

    def run(*args: str, **documents: Any) -> Any:
        for name, document in documents.items():
            path = f"/{name}.json"
            if document is None:
                status_page.serve(path, status=500)
            else:
                status_page.serve(path, document)
            sources[name] = status_page.url(path)
        config = tmp_path / "config.toml"
        config.write_text("".join(f'[[sources]]\nname = "{name}"\nurl = "{url}"\n' for name, url in sources.items()))
        return cli("--config", str(config), "incident-sync", *args)

    return run


def page(**words: str) -> dict[str, Any]:
    return {
        "page": {"id": "p"},
        "components": [{"id": key, "name": key, "status": word} for key, word in words.items()],
    }


def test_one_source_alone_says_it_of_every_server(sync: Any, world: World) -> None:
    affected = world.server(tag="vm")
    named_before = world.server(tag="sql", final_status="critical", incident_status="SERVICE_OUTAGE")
    never_told = world.server(tag="dns", final_status=None, incident_status=None)
    as_it_is = world.server(tag="run")
    sync(google=[google_incident("SERVICE_OUTAGE", "vm")]).quiet()
    assert state(world, affected) == ("SERVICE_OUTAGE", "critical", 1)
    assert state(world, named_before) == ("operational", "operational", 1)
    assert state(world, never_told) == ("operational", "operational", 1)
    assert state(world, as_it_is) == ("operational", "operational", 0)
    assert [(c.monitor_id, c.to_type, c.source) for c in world.changes()] == [
        (affected, "critical", "google"),
        (named_before, "operational", "google"),
        (never_told, "operational", "google"),
    ]
    sync().quiet()
    assert len(world.changes()) == 3


def test_it_comes_back_when_the_incident_is_over(sync: Any, world: World) -> None:
    server, other = world.server(tag="vm"), world.server(tag="vm")
    sync(google=[google_incident("SERVICE_DISRUPTION", "vm")]).quiet()
    assert state(world, server) == state(world, other) == ("SERVICE_DISRUPTION", "warning", 1)
    sync(google=OVER).quiet()
    assert state(world, server) == state(world, other) == ("operational", "operational", 1)


def test_a_preview_shows_it_and_writes_nothing(sync: Any, world: World) -> None:
    server = world.server(tag="sql", name="sql one", final_status="critical", incident_status="SERVICE_OUTAGE")
    result = sync("--dry-run", google=OVER)
    assert result.code == 0
    assert "sql one" in result.out
    assert state(world, server) == ("SERVICE_OUTAGE", "critical", 0)


def test_beside_another_source_a_row_is_whose_change_it_had_last(sync: Any, world: World) -> None:
    googles, pages, nobodys = world.server(tag="vm"), world.server(tag="a"), world.server(tag="sql", final_status=None)
    sync(google=[google_incident("SERVICE_OUTAGE", "vm")], page=page(a="major_outage")).quiet()
    assert state(world, googles) == ("SERVICE_OUTAGE", "critical", 1)
    assert state(world, pages) == ("major_outage", "critical", 1)
    assert state(world, nobodys) == ("operational", "operational", 1)
    result = sync(google=OVER, page=page(b="operational"))
    assert "component.missing" in result.err
    assert "components=a" in result.err
    assert state(world, googles) == ("operational", "operational", 1)
    assert state(world, pages) == ("major_outage", "critical", 1)


def test_while_another_source_is_down_its_rows_stay(sync: Any, world: World) -> None:
    googles, pages, new = world.server(tag="vm"), world.server(tag="a"), world.server(tag="c", final_status="warning")
    sync(google=[google_incident("SERVICE_OUTAGE", "vm")], page=page(a="major_outage", c="partial_outage"))
    assert sync(google=OVER, page=None).code == 75
    assert state(world, googles) == ("operational", "operational", 1)
    assert state(world, pages) == ("major_outage", "critical", 1)
    assert state(world, new) == ("partial_outage", "warning", 0)  # it has no change yet, so it may be either's


def test_one_of_several_read_alone_says_it_of_its_own(sync: Any, world: World) -> None:
    googles, pages, new = world.server(tag="vm"), world.server(tag="a"), world.server(tag="c", final_status="warning")
    sync(google=[google_incident("SERVICE_OUTAGE", "vm")], page=page(a="major_outage", c="partial_outage"))
    sync("--source", "google", google=OVER).quiet()
    assert state(world, googles) == ("operational", "operational", 1)
    assert state(world, pages) == ("major_outage", "critical", 1)
    assert state(world, new) == ("partial_outage", "warning", 0)


def test_a_google_that_is_down_changes_nothing(sync: Any, world: World) -> None:
    server = world.server(tag="vm")
    sync(google=[google_incident("SERVICE_OUTAGE", "vm")]).quiet()
    assert sync(google=None).code == 75
    assert state(world, server) == ("SERVICE_OUTAGE", "critical", 1)


def test_a_source_that_is_no_more_owns_nothing(sync: Any, cli: Cli, world: World, status_page: StatusPage) -> None:
    server = world.server(tag="vm")
    url = status_page.serve("/old.json", [google_incident("SERVICE_OUTAGE", "vm")])
    cli("incident-sync", "--url", url).quiet()
    sync(google=OVER, page=page(a="operational")).quiet()
    assert state(world, server) == ("operational", "operational", 1)
