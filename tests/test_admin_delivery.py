"""delivery list and show, through the real command line on both stores: what callback-run did, as people look it up."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text

from monitor_cli import schema
from monitor_cli.store import deliveries
from monitor_cli.store.deliveries import Choice
from tests.support.cli import Cli
from tests.support.http import Answer, Receiver
from tests.support.stores import Store
from tests.support.world import World

LATER = {
    "MONITOR_ALLOW_NETWORKS": "127.0.0.0/8",
    "MONITOR_RETRY_SCHEDULE": "300",
    "MONITOR_MAX_SECONDS": "30",
}
KEYS = ["id", "callback_id", "account", "state", "attempts", "next_attempt_at", "created_at", "settled_at",
        "http_status", "error"]  # fmt: skip
ATTEMPT_KEYS = ["started_at", "duration_ms", "http_status", "error", "response"]
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def sent(cli: Cli, world: World, receiver: Receiver) -> dict[str, int]:
    """Three callbacks of two accounts: one was told, one has failed, one is to be tried again in 5 minutes."""
    server = world.server(channel=1)
    ids = {}
    for name, account in (("told", "acme"), ("failed", "acme"), ("open", "other")):
        if account not in ids:
            ids[account] = world.account(account)
            world.number(ids[account], f"+91{ids[account]}", channel=1)
        ids[name] = world.callback(ids[account], receiver.url(f"/{name}"), raw_json=True)
    receiver.answer("/failed", Answer(500, b"first\x1b[31m\n" + b"x" * 2000), Answer(503, b"second"))
    receiver.answer("/open", Answer(drop="after"))
    world.flag(server, "critical")
    cli("callback-run", env=LATER).quiet()
    with world.database.write() as conn:
        d = schema.delivery
        conn.execute(d.update().where(d.c.callback_id == ids["failed"]).values(due_at=0))
    cli("callback-run", env=LATER).quiet()
    return ids


def rows(cli: Cli, *options: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = cli.ok("delivery", "list", *options, "--json").json
    return listed


def test_list_says_what_came_of_each(cli: Cli, sent: dict[str, int]) -> None:
    listed = rows(cli)
    assert all(list(row) == KEYS for row in listed)
    assert [row["id"] for row in listed] == sorted((row["id"] for row in listed), reverse=True)
    found = {row["callback_id"]: row for row in listed}
    told, failed, opened = (found[sent[name]] for name in ("told", "failed", "open"))
    assert (told["state"], told["attempts"], told["http_status"], told["error"]) == ("done", 1, 200, None)
    assert (failed["state"], failed["attempts"], failed["http_status"], failed["error"]) == ("failed", 2, 503, None)
    assert (opened["state"], opened["attempts"], opened["http_status"]) == ("open", 1, None)
    assert opened["error"]
    assert [told["account"], opened["account"]] == ["acme", "other"]
    for row in (told, failed):
        assert row["next_attempt_at"] is None
        assert ISO.fullmatch(row["settled_at"])
    assert opened["settled_at"] is None
    wait = datetime.fromisoformat(opened["next_attempt_at"]) - datetime.fromisoformat(opened["created_at"])
    assert 200 < wait.total_seconds() < 400


def test_list_chooses(cli: Cli, world: World, sent: dict[str, int], database: Store) -> None:
    def callbacks(*options: str) -> list[int]:
        return [row["callback_id"] for row in rows(cli, *options)]

    assert callbacks("--callback", str(sent["told"])) == [sent["told"]]
    assert sorted(callbacks("--account", "acme")) == [sent["told"], sent["failed"]]
    for state, name in (("done", "told"), ("failed", "failed"), ("open", "open")):
        assert callbacks("--state", state) == [sent[name]]
    assert callbacks("--state", "open", "--account", "other") == [sent["open"]]
    assert callbacks("--state", "open", "--account", "acme") == []
    assert callbacks("--state", "failed", "--callback", str(sent["told"])) == []
    assert callbacks("--limit", "2") == callbacks()[:2]
    assert callbacks("--since", "1h") == callbacks()
    assert callbacks("--since", "2999-01-01T00:00:00+05:30") == []
    assert callbacks("--until", "2999-01-01") == callbacks()
    assert callbacks("--until", "1h") == []
    assert callbacks("--state", "failed", "--until", "2999-01-01") == []  # looks back from then
    unknown = cli("delivery", "list", "--account", "nobody")
    assert (unknown.code, unknown.out) == (1, "")
    assert cli("delivery", "list", "--since", "yesterday").code == 2
    with database.write() as conn:  # ten days ago
        conn.execute(text(f"UPDATE {schema.delivery.name} SET created_at = created_at - 864000000"))
    assert callbacks("--state", "failed") == []
    assert callbacks("--state", "failed", "--since", "30d") == [sent["failed"]]
    assert callbacks("--state", "failed", "--account", "acme") == [sent["failed"]]
    assert callbacks("--state", "open") == [sent["open"]]


def test_show_has_every_attempt(cli: Cli, sent: dict[str, int]) -> None:
    (failed,) = rows(cli, "--callback", str(sent["failed"]))
    shown = cli.ok("delivery", "show", str(failed["id"]), "--json").json
    assert list(shown) == [*KEYS, "attempt_list"]
    assert {key: shown[key] for key in KEYS} == failed
    attempts = shown["attempt_list"]
    assert all(list(attempt) == ATTEMPT_KEYS for attempt in attempts)
    assert [attempt["http_status"] for attempt in attempts] == [500, 503]
    assert attempts[0]["response"].startswith("first\x1b[31m\nxxx")
    assert len(attempts[0]["response"]) == 1024
    assert all(ISO.fullmatch(attempt["started_at"]) for attempt in attempts)
    assert attempts[0]["started_at"] <= attempts[1]["started_at"]
    (opened,) = rows(cli, "--callback", str(sent["open"]))
    (lost,) = cli.ok("delivery", "show", str(opened["id"]), "--json").json["attempt_list"]
    assert lost["error"] == opened["error"]


def test_a_late_attempt_stands_where_it_began_and_is_not_the_last_one(
    cli: Cli, sent: dict[str, int], database: Store
) -> None:
    (failed,) = rows(cli, "--callback", str(sent["failed"]))
    first = cli.ok("delivery", "show", str(failed["id"]), "--json").json["attempt_list"][0]
    began = int(datetime.fromisoformat(first["started_at"]).timestamp() * 1000) - 60_000
    late = {"delivery_id": failed["id"], "started_at": began, "duration_ms": 90_000, "error": "no answer", "late": 1}
    with database.write() as conn:
        conn.execute(insert(schema.attempt), {**late, "webhook_id": "msg_1"})
    shown = cli.ok("delivery", "show", str(failed["id"]), "--json").json
    assert (shown["attempts"], shown["http_status"], shown["error"]) == (3, 503, None)
    assert [attempt["http_status"] for attempt in shown["attempt_list"]] == [None, 500, 503]
    with database.write() as conn:
        conn.execute(schema.attempt.delete().where(schema.attempt.c.late == 0))
    (only,) = rows(cli, "--callback", str(sent["failed"]))
    assert (only["attempts"], only["http_status"], only["error"]) == (1, None, "no answer")


def test_tables_are_for_people(cli: Cli, sent: dict[str, int]) -> None:
    lines = cli.ok("delivery", "list").out.splitlines()
    assert lines[0].split()[:4] == ["ID", "CALLBACK_ID", "ACCOUNT", "STATE"]
    assert len(lines) == 4
    (failed,) = rows(cli, "--callback", str(sent["failed"]))
    shown = cli.ok("delivery", "show", str(failed["id"])).out
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) < 200
    assert re.search(r"^state +failed$", shown, re.MULTILINE)
    assert re.search(r"\b503\b.*second$", shown, re.MULTILINE)


def test_what_was_removed_and_what_never_was(cli: Cli, sent: dict[str, int]) -> None:
    (told,) = rows(cli, "--callback", str(sent["told"]))
    cli.ok("callback", "remove", str(sent["told"]), "--yes")
    assert rows(cli, "--callback", str(sent["told"])) == [{**told, "account": None}]
    assert cli.ok("delivery", "show", str(told["id"]), "--json").json["account"] is None
    absent = cli("delivery", "show", "999")
    assert (absent.code, absent.out) == (1, "")
    assert "there is no delivery 999" in absent.err


def test_the_documentation_names_the_keys() -> None:
    words = (Path(__file__).resolve().parent.parent / "docs" / "operations.md").read_text("utf-8").replace("\n", " ")
    assert ", ".join(KEYS).replace("account,", "account (null once the callback is removed),") in words
    assert f"`attempt_list`: objects with {', '.join(ATTEMPT_KEYS)}" in words


@pytest.mark.parametrize(
    ("choice", "index"),
    [
        (Choice(callback_id=2), "delivery_callback_id"),
        (Choice(account="acme"), "delivery_callback_id"),
        (Choice(state="open"), "delivery_open_callback_id"),
        (Choice(account="acme", state="open"), "delivery_open_callback_id"),
        (Choice(state="failed", since_at=1), "delivery_created"),
        (Choice(), "delivery_created"),
    ],
)
def test_each_list_goes_by_an_index(world: World, database: Store, choice: Choice, index: str) -> None:
    account = world.account("acme")
    callbacks = [world.callback(account, "https://192.0.78.9/") for _ in range(3)]
    now = int(time.time() * 1000)
    with database.write() as conn:
        conn.execute(
            insert(schema.delivery),
            [
                {"callback_id": callbacks[i % 3], "state": ("failed", "done")[i % 2], "created_at": now - i}
                for i in range(2000)
            ],
        )
    with database.read() as conn:
        query = deliveries._chosen(choice, callbacks if choice.account else None, 10)
        sql = str(query.compile(conn, compile_kwargs={"literal_binds": True}))
        explain = "EXPLAIN QUERY PLAN" if database.name == "sqlite" else "EXPLAIN"
        plan = [tuple(row) for row in conn.execute(text(f"{explain} {sql}"))]
    wanted = {"delivery_open_callback_id": "autoindex"}.get(index, index) if database.name == "sqlite" else index
    assert any(wanted in str(row) for row in plan), plan
