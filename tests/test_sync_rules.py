"""`confirm` and the load rule through the real command line, on each store: what is written, told and remembered."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from monitor_cli import schema
from tests.support.cli import Cli, Result
from tests.support.http import Receiver, StatusPage
from tests.support.world import World
from tests.test_sync import PATH, page, state

LOAD = {"MONITOR_CAPACITY_WARNING": "0.9", "MONITOR_CAPACITY_CRITICAL": "1.0"}


class Syncs:
    """Syncs of one page; `env` are their settings."""

    def __init__(self, cli: Cli, status_page: StatusPage, world: World) -> None:
        self._cli, self._page, self._world = cli, status_page, world
        self.env: dict[str, str] = {}

    def __call__(self, words: dict[str, str] | None, *args: str, code: int = 0, **more: Any) -> Result:
        """A sync of a page with these components; None: the page is down."""
        if words is None:
            self._page.serve(PATH, status=503)
            code = 75
        else:
            self._page.serve(PATH, page(words, **more))
        result = self._cli("incident-sync", "--url", self._page.url("/"), *args, env=self.env)
        assert result.code == code, result.err
        return result

    def used(self, server: int, used: int) -> None:
        """What the platform writes."""
        with self._world.database.write() as conn:
            conn.execute(update(schema.monitor).where(schema.monitor.c.id == server).values(used=used))


@pytest.fixture
def syncs(cli: Cli, status_page: StatusPage, world: World) -> Syncs:
    return Syncs(cli, status_page, world)


def remembered(world: World) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in world.rows(schema.standing)]


# --- confirm ----------------------------------------------------------------------------------------------------------


def test_a_new_type_waits_and_its_word_does_not(syncs: Syncs, world: World) -> None:
    server, well = world.server(tag="a"), world.server(tag="b", modified=5)
    syncs.env = {"MONITOR_CONFIRM": "3"}
    for n in (1, 2):
        syncs({"a": "major_outage", "b": "operational"}).quiet()
        assert state(world, server) == ("major_outage", "operational", 0)
        assert remembered(world) == [(server, "operational", "operational", "operational", "critical", n)]
        assert world.changes() == []
    syncs({"a": "major_outage", "b": "operational"}).quiet()
    assert state(world, server) == ("major_outage", "critical", 1)
    (change,) = world.changes()
    assert (change.from_type, change.to_type, change.incident_status) == ("operational", "critical", "major_outage")
    assert remembered(world) == []
    assert world.server_row(well).modified == 5


def test_a_type_that_came_back_begins_again(syncs: Syncs, world: World) -> None:
    server = world.server(tag="a")
    syncs.env = {"MONITOR_CONFIRM": "2"}
    for word in ("major_outage", "operational", "major_outage", "partial_outage", "major_outage", "operational"):
        syncs({"a": word}).quiet()
        assert state(world, server) == (word, "operational", 0)
    assert remembered(world) == []
    syncs({"a": "partial_outage"})
    syncs({"a": "degraded_performance"})  # another word of the same type
    assert state(world, server) == ("degraded_performance", "warning", 1)


def test_a_source_that_is_down_neither_counts_nor_resets(syncs: Syncs, world: World) -> None:
    server = world.server(tag="a")
    syncs.env = {"MONITOR_CONFIRM": "2"}
    syncs({"a": "major_outage"})
    before = remembered(world), world.server_row(server)
    syncs(None)
    syncs(None)
    assert (remembered(world), world.server_row(server)) == before
    syncs({"a": "major_outage"})
    assert state(world, server) == ("major_outage", "critical", 1)


def test_a_dry_run_counts_nothing(syncs: Syncs, world: World) -> None:
    server = world.server(tag="a")
    syncs.env = {"MONITOR_CONFIRM": "2"}
    out = syncs({"a": "major_outage"}, "--dry-run").out.splitlines()[1].split()
    assert out[1:6] == ["a", "server", "1", "operational", "operational"]  # the word alone would change
    assert remembered(world) == []
    syncs({"a": "major_outage"})
    out = syncs({"a": "major_outage"}, "--dry-run").out.splitlines()[1].split()
    assert out[4:6] == ["operational", "critical"]
    assert state(world, server) == ("major_outage", "operational", 0)


def test_another_programs_type_is_no_new_one(syncs: Syncs, world: World) -> None:
    server = world.server(tag="a")
    syncs.env = {"MONITOR_CONFIRM": "2"}
    syncs({"a": "major_outage"})
    world.flag_by_hand(server, "critical")
    syncs({"a": "major_outage"}).quiet()
    assert state(world, server) == ("major_outage", "critical", 1)
    assert (world.changes(), remembered(world)) == ([], [])


def test_rows_that_are_gone_are_forgotten(syncs: Syncs, world: World) -> None:
    servers = [world.server(tag="a") for _ in range(3)]
    syncs.env = {"MONITOR_CONFIRM": "9"}
    syncs({"a": "major_outage"})
    assert [row[0] for row in remembered(world)] == servers
    with world.database.write() as conn:
        conn.execute(schema.monitor.delete().where(schema.monitor.c.id != servers[1]))
    syncs({"a": "major_outage"})
    assert [row[0] for row in remembered(world)] == [servers[1]]


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many"])
def test_what_confirm_cannot_be(syncs: Syncs, world: World, value: str) -> None:
    syncs.env = {"MONITOR_CONFIRM": value}
    assert "confirm must be a whole number from 1 to 1000" in syncs({}, code=78).err


# --- the load ---------------------------------------------------------------------------------------------------------


def test_a_full_server_is_told_and_told_again_when_it_is_not(
    syncs: Syncs, world: World, cli: Cli, receiver: Receiver
) -> None:
    server = world.server(tag="a", channel=1, capacity=100, used=89)
    account = world.account("acme")
    world.number(account, "+1", channel=1)
    world.callback(account, receiver.url("/hook"), raw_json=True)
    syncs.env = LOAD
    told = []
    for used in (89, 90, 100, 99, 96, 95, 86, 85, 89):
        syncs.used(server, used)
        receiver.clear()
        syncs({"a": "operational"}).quiet()
        cli("callback-run", env={"MONITOR_ALLOW_NETWORKS": "127.0.0.0/8"}).quiet()
        told += [(used, request.json["data"]["incidents"][0]["type"]) for request in receiver.requests]
    assert told == [(90, "warning"), (100, "critical"), (95, "warning"), (85, "operational")]
    found = [(c.from_type, c.to_type, c.source, c.incident_status, c.incident_title) for c in world.changes()]
    assert found[:2] == [
        ("operational", "warning", "load", "operational", "90 of 100 channels in use"),
        ("warning", "critical", "load", "operational", "100 of 100 channels in use"),
    ]
    assert found[3][:4] == ("warning", "operational", found[3][2], "operational")
    assert found[3][2].startswith("127.0.0.1:")  # now it is what the page says
    assert remembered(world) == []


def test_the_worst_of_component_and_load(syncs: Syncs, world: World) -> None:
    server = world.server(tag="a", capacity=10, used=9)
    syncs.env = LOAD
    for word, used, final in (
        ("operational", 9, "warning"),
        ("major_outage", 9, "critical"),
        ("major_outage", 10, "critical"),
        ("partial_outage", 10, "critical"),
        ("partial_outage", 1, "warning"),
        ("operational", 1, "operational"),
    ):
        syncs.used(server, used)
        syncs({"a": word}).quiet()
        assert state(world, server)[:2] == (word, final)


def test_every_row_is_judged_while_its_source_is_down_and_where_it_has_none(syncs: Syncs, world: World) -> None:
    down = world.server(tag="a", capacity=100, used=10)
    unnamed = world.server(tag="nowhere", capacity=100, used=10, final_status="warning", incident_status="odd")
    untagged = world.server(capacity=100, used=10)
    with world.database.write() as conn:
        conn.execute(update(schema.monitor).where(schema.monitor.c.id == untagged).values(server_tag=""))
    servers = (down, unnamed, untagged)
    syncs.env = LOAD
    syncs({"a": "partial_outage"})
    assert [state(world, s)[1] for s in servers] == ["warning", "warning", "operational"]
    for used, finals in (
        (100, ["critical", "critical", "critical"]),
        (91, ["warning", "warning", "warning"]),
        (86, ["warning", "warning", "warning"]),  # the last one by the load alone, still
        (85, ["warning", "warning", "operational"]),
        (100, ["critical", "critical", "critical"]),
    ):
        for server in servers:
            syncs.used(server, used)
        syncs(None)
        assert [state(world, s)[1] for s in servers] == finals
        assert [state(world, s)[0] for s in servers] == ["partial_outage", "odd", "operational"]
    for server in servers:
        syncs.used(server, 0)
    syncs({"a": "operational"})
    assert [state(world, s)[1] for s in servers] == ["operational", "warning", "operational"]
    assert remembered(world) == []


def test_the_load_waits_for_confirm_too(syncs: Syncs, world: World) -> None:
    server = world.server(tag="a", capacity=100, used=95)
    syncs.env = {**LOAD, "MONITOR_CONFIRM": "2"}
    for used, final in ((95, "operational"), (10, "operational"), (95, "operational"), (86, "warning")):
        syncs.used(server, used)
        syncs({"a": "operational"}).quiet()
        assert state(world, server)[1] == final


def test_nothing_is_judged_by_load_by_default(syncs: Syncs, world: World) -> None:
    server = world.server(tag="a", capacity=100, used=100, modified=5)
    syncs({"a": "operational"}).quiet()
    assert world.server_row(server).modified == 5


def test_rules_that_are_turned_off_leave_their_rows(syncs: Syncs, world: World) -> None:
    server = world.server(tag="a", capacity=100, used=100)
    syncs.env = LOAD
    syncs({"a": "operational"})
    assert state(world, server)[1] == "critical"
    syncs.env = {}
    syncs(None)
    assert state(world, server)[1] == "operational"
    assert remembered(world) == []


def test_only_what_changes_is_written(syncs: Syncs, world: World) -> None:
    full, free = world.server(tag="a", capacity=10, used=10), world.server(tag="b", capacity=10, used=1, modified=5)
    syncs.env = LOAD
    syncs({"a": "operational", "b": "operational"})
    with world.database.write() as conn:
        conn.execute(update(schema.monitor).where(schema.monitor.c.id == full).values(modified=5))
    before = remembered(world)
    for words in ({"a": "operational", "b": "operational"}, None):
        syncs(words)
        assert [world.server_row(s).modified for s in (full, free)] == [5, 5]
        assert remembered(world) == before


def test_a_preview_of_the_load(syncs: Syncs, world: World) -> None:
    world.server(tag="a", name="full", capacity=10, used=10)
    syncs.env = LOAD
    line = syncs({"a": "operational"}, "--dry-run").out.splitlines()[1].split()
    assert line[1:] == ["a", "full", "operational", "critical", "operational", "load"]


def test_ids_and_texts_of_any_kind_are_looked_at(syncs: Syncs, world: World) -> None:
    """What marks values in the text of a block may stand in a value; NULL and odd numbers too."""
    odd = world.server(tag="x\x1fy\x1ez", name="odd", capacity=10, used=10, incident_status="a\x1fb")
    null = world.server(tag="a", incident_status=None, final_status=None)
    other = world.server(tag="a", capacity=10, used=1, id=2**31 - 1)
    syncs.env = LOAD
    syncs({"a": "major_outage"})
    assert [state(world, s)[1] for s in (odd, other, null)] == ["critical"] * 3
    assert state(world, odd)[0] == "a\x1fb"
