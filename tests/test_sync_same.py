"""ETag and Last-Modified: a page that says that it is still the same counts as one that was seen, on each store."""

from __future__ import annotations

import json
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from monitor_cli import schema
from monitor_cli.sources import memory
from monitor_cli.store import documents
from tests.support import pages
from tests.support.cli import Cli
from tests.support.http import Answer, Receiver, StatusPage
from tests.support.world import World
from tests.test_sync import PATH, everything, page, state

OLD = "Wed, 21 Oct 2015 07:28:00 GMT"


def asked(status_page: StatusPage, path: str = PATH) -> list[str | None]:
    """What the requests to a path said in If-None-Match, and forgets them."""
    found = [request.header("If-None-Match") for request in status_page.to(path)]
    status_page.clear()
    return found


def kept(world: World) -> list[tuple[str, str | None, int]]:
    return [(row.source, row.etag, row.part) for row in world.rows(schema.document)]


@pytest.fixture
def sync(cli: Cli, status_page: StatusPage) -> Callable[..., Any]:
    """sync({"tag": "word"}) serves a page with an ETag and runs incident-sync on it; None: the page as it is."""

    def run(words: dict[str, str] | None, *args: str, **more: Any) -> Any:
        if words is not None:
            status_page.serve(PATH, page(words), etag=True)
        return cli("incident-sync", "--url", status_page.url(PATH), *args, **more)

    return run


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_a_document_that_is_the_same_is_not_sent_again(sync: Any, world: World, status_page: StatusPage) -> None:
    server = world.server(tag="a")
    sync({"a": "major_outage"}).quiet()
    assert asked(status_page) == [None]
    assert state(world, server) == ("major_outage", "critical", 1)
    before = everything(world), world.rows(schema.document)
    sync(None).quiet()
    (tag,) = asked(status_page)
    assert tag == before[1][0].etag
    assert (everything(world), world.rows(schema.document)) == before
    sync({"a": "operational"}).quiet()
    assert asked(status_page) == [tag]
    assert state(world, server)[1] == "operational"
    sync(None).quiet()
    assert asked(status_page) == [world.rows(schema.document)[0].etag] != [tag]


def test_rows_are_judged_by_it_all_the_same(sync: Any, world: World, status_page: StatusPage) -> None:
    """A server that is new, and one that another program wrote, get what the page says, though it sends nothing."""
    old = world.server(tag="a")
    sync({"a": "major_outage"})
    new, missing = world.server(tag="a"), world.server(tag="b")
    world.flag_by_hand(old, "operational")
    assert sync(None).err.startswith("component.missing")
    assert [state(world, s)[1] for s in (old, new, missing)] == ["critical", "critical", "operational"]
    assert len(asked(status_page)) == 2


def test_it_counts_as_a_sync_that_saw_the_same(sync: Any, world: World, status_page: StatusPage) -> None:
    server = world.server(tag="a")
    env = {"MONITOR_CONFIRM": "3"}
    sync({"a": "major_outage"}, env=env)
    sync(None, env=env)
    assert state(world, server) == ("major_outage", "operational", 0)
    sync(None, env=env)
    assert state(world, server) == ("major_outage", "critical", 1)
    assert [tag is None for tag in asked(status_page)] == [True, False, False]


def test_a_failing_source_recovers_by_it(sync: Any, world: World, status_page: StatusPage) -> None:
    sync({"a": "operational"})
    status_page.serve(PATH, status=500)
    assert sync(None).code == 75
    assert sync({"a": "operational"}).err.startswith("source.recovered")
    assert [tag is None for tag in asked(status_page)] == [True, False, False]


def test_last_modified(cli: Cli, world: World, receiver: Receiver) -> None:
    server = world.server(tag="a")
    body = json.dumps(page({"a": "major_outage"})).encode()
    receiver.answer("/x.json", Answer(200, body, [("Last-Modified", OLD)]), Answer(304))
    url = receiver.url("/x.json")
    cli("incident-sync", "--url", url).quiet()
    world.flag_by_hand(server, "operational")
    cli("incident-sync", "--url", url).quiet()
    assert [r.header("If-Modified-Since") for r in receiver.requests] == [None, OLD]
    assert state(world, server)[1] == "critical"


@pytest.mark.parametrize("date", [True, False])
def test_what_was_modified_just_now_is_asked_for_again(cli: Cli, world: World, receiver: Receiver, date: bool) -> None:
    """It may change once more within the second that Last-Modified tells."""
    headers = [("Last-Modified", formatdate(usegmt=True)), *([("Date", formatdate(usegmt=True))] if date else [])]
    receiver.answer("/x.json", Answer(200, json.dumps(page({})).encode(), headers))
    for _ in range(2):
        cli("incident-sync", "--url", receiver.url("/x.json")).quiet()
    assert [r.header("If-Modified-Since") for r in receiver.requests] == [None, None]


@pytest.mark.parametrize("args", [["--dry-run"], ["source", "check"]], ids=["dry-run", "source check"])
def test_who_only_looks_reads_it_whole(
    sync: Any, cli: Cli, world: World, status_page: StatusPage, args: list[str]
) -> None:
    sync({"a": "operational"})
    before = world.rows(schema.document)
    command = ["incident-sync", *args] if args[0].startswith("-") else args
    cli.ok(*command, "--url", status_page.url(PATH))
    assert asked(status_page) == [None, None]
    assert world.rows(schema.document) == before


def test_a_redirect_that_leads_elsewhere_asks_anew(cli: Cli, world: World, status_page: StatusPage) -> None:
    server = world.server(tag="a")
    one = status_page.serve("/one.json", page({"a": "operational"}), etag=True)
    two = status_page.serve("/two.json", page({"a": "major_outage"}), etag=True)
    url = status_page.serve("/x.json", status=302, headers=[("Location", one)])
    for _ in range(2):
        cli("incident-sync", "--url", url).quiet()
    status_page.serve("/x.json", status=302, headers=[("Location", two)])
    cli("incident-sync", "--url", url).quiet()
    assert state(world, server)[1] == "critical"
    assert set(asked(status_page, "/x.json")) == {None}


def test_each_document_of_a_page_has_its_own(cli: Cli, world: World, status_page: StatusPage) -> None:
    kuma = pages.PAGES["kuma"]
    for path, document in kuma.serves.items():
        status_page.serve(path, document, etag=True)
    for key in kuma.expected:
        world.server(tag=key)
    args = ("incident-sync", "--provider", "uptime-kuma", "--url", status_page.url(kuma.urls[0]))
    cli(*args).ok()
    first = [r for r in status_page.requests if r.path in kuma.serves]
    status_page.clear()
    before = everything(world)
    cli(*args).ok()
    again = [r for r in status_page.requests if r.path in kuma.serves]
    assert len(again) == len(first) >= 2
    assert all(r.header("If-None-Match") for r in again)
    assert everything(world) == before
    changed = next(path for path in kuma.serves if "heartbeat" in path)
    beats = {"heartbeatList": {key: [{"status": 0, "time": "2026-01-01 00:00:00"}] for key in kuma.expected}}
    status_page.serve(changed, {**kuma.serves[changed], **beats}, etag=True)
    cli(*args).ok()
    assert {row.final_status for row in world.rows(schema.monitor)} == {"critical"}


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_no_key_of_an_address_is_kept(cli: Cli, world: World, status_page: StatusPage) -> None:
    status_page.serve("/x.json", page({}), etag=True)
    cli("incident-sync", "--url", status_page.url("/x.json?key=s3cret")).quiet()
    (row,) = world.rows(schema.document)
    assert "s3cret" not in repr(row)


def test_a_large_document_is_kept_in_parts(
    sync: Any, world: World, status_page: StatusPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "PART", 100)
    words = {f"t{n}": "operational" for n in range(400)}
    server = world.server(tag="t399", final_status="critical")
    sync(words).quiet()
    assert [part for *_, part in kept(world)] == list(range(len(kept(world))))
    assert len(kept(world)) > 3
    world.flag_by_hand(server, "critical")
    sync(None).quiet()
    assert state(world, server)[1] == "operational"
    sync({"t399": "major_outage"})
    assert len(kept(world)) == 1


def test_a_document_that_is_too_large_is_not_kept(
    sync: Any, world: World, status_page: StatusPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MOST_PACKED", 50)
    sync({"a": "operational"}).quiet()
    sync(None).quiet()
    assert asked(status_page) == [None, None]
    assert kept(world) == []


@pytest.mark.parametrize("damage", ["gone", "broken", "cut"])
def test_what_is_no_more_on_the_shelf_is_asked_for_again(
    sync: Any, world: World, status_page: StatusPage, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    server = world.server(tag="a")
    sync({"a": "major_outage"})
    world.flag_by_hand(server, "operational")
    packed = documents.packed
    answers = {"gone": lambda _: None, "broken": lambda _: b"nonsense", "cut": lambda body: body[:-9]}
    monkeypatch.setattr(documents, "packed", lambda conn, key: answers[damage](packed(conn, key)))
    sync(None).quiet()
    assert [tag is None for tag in asked(status_page)] == [True, False, True]
    assert state(world, server)[1] == "critical"


def test_after_an_hour_it_is_read_whole(sync: Any, world: World, status_page: StatusPage) -> None:
    """A server that says wrongly that nothing has changed must not hide an outage for good."""
    sync({"a": "operational"})
    d = schema.document
    with world.database.write() as conn:
        conn.execute(update(d).values(read_at=d.c.read_at - documents.TRUSTED_MS))
    sync(None)
    sync(None)
    assert [tag is None for tag in asked(status_page)] == [True, True, False]


def test_what_is_not_asked_for_any_more_is_forgotten(
    cli: Cli, world: World, status_page: StatusPage, tmp_path: Path
) -> None:
    config = tmp_path / "c.toml"

    def sync(path: str) -> None:
        config.write_text(f'[[sources]]\nname = "s"\nurl = "{status_page.url(path)}"\n')
        cli("--config", str(config), "incident-sync").quiet()

    for path in ("/one.json", "/two.json"):
        status_page.serve(path, page({}), etag=True)
    sync("/one.json")
    address = memory.hashed(status_page.url("/one.json"))
    assert [row.address for row in world.rows(schema.document)] == [address]
    sync("/two.json")
    assert [row.address for row in world.rows(schema.document)] == [memory.hashed(status_page.url("/two.json"))]
    status_page.serve("/two.json", page({}))  # no validator any more
    sync("/two.json")
    assert kept(world) == []


def test_sources_that_are_no_more_are_forgotten(sync: Any, cli: Cli, world: World, status_page: StatusPage) -> None:
    sync({"a": "operational"})
    other = status_page.serve("/other.json", page({}))
    cli("incident-sync", "--url", other).quiet()
    assert len(kept(world)) == 1
    s = schema.source
    with world.database.write() as conn:
        conn.execute(update(s).values(last_good_at=s.c.last_good_at - 8 * 86_400_000))
    cli("incident-sync", "--url", other).quiet()
    assert kept(world) == []


@pytest.mark.parametrize("etag", ['"' + "x" * 600 + '"', "", 'W/"weak"'])
def test_odd_validators(cli: Cli, world: World, receiver: Receiver, etag: str) -> None:
    body = json.dumps(page({})).encode()
    receiver.answer("/x.json", Answer(200, body, [("ETag", etag), ("Last-Modified", "yesterday")]))
    for _ in range(2):
        cli("incident-sync", "--url", receiver.url("/x.json")).quiet()
    expected = etag if etag.startswith("W/") else None
    assert [r.header("If-None-Match") for r in receiver.requests] == [None, expected]


def test_a_304_that_was_not_asked_for_is_an_error(cli: Cli, world: World, receiver: Receiver) -> None:
    receiver.answer("/x.json", Answer(304))
    result = cli("incident-sync", "--url", receiver.url("/x.json"))
    assert result.code == 75
    assert "answered HTTP 304" in result.err
