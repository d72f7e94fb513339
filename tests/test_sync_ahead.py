"""Rows are fetched while sources are read: all of them, in order, bounded, and nothing is left running."""

from __future__ import annotations

import threading
import time

import pytest

from monitor_cli import schema
from monitor_cli.errors import DatabaseAway
from monitor_cli.store import sync_rows
from monitor_cli.sync import ahead
from monitor_cli.sync.ahead import Ahead
from tests.support.stores import Store


@pytest.fixture
def filled(database: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """105 rows with gaps between their ids, in blocks of ten, of which two are fetched ahead."""
    monkeypatch.setattr(sync_rows, "BLOCK", 10)
    monkeypatch.setattr(ahead, "BLOCKS", 2)
    monkeypatch.setattr(ahead, "_LOOK_UP_SECONDS", 0.02)
    rows = [
        {"id": 3 * n + 1, "server_id": 1, "name": "s", "server_tag": f"t{n}", "channel_id": n, "incident_status": None}
        for n in range(105)
    ]
    with database.write() as conn:
        conn.execute(schema.monitor.insert(), rows)
    return database


def fetching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "rows"]


def ended() -> bool:
    end = time.monotonic() + 10
    while fetching() and time.monotonic() < end:
        time.sleep(0.02)
    return not fetching()


def test_every_row_in_order(filled: Store) -> None:
    with Ahead(filled.database, None) as blocks:
        seen = [row for block in blocks for row in block.glimpses()]
    assert [row.id for row in seen] == [3 * n + 1 for n in range(105)]
    assert [row.tag for row in seen] == [f"t{n}" for n in range(105)]
    assert {(row.word, row.final, row.capacity) for row in seen} == {("", "operational", 0)}
    assert ended()


def test_an_empty_table(database: Store) -> None:
    with Ahead(database.database, 0.9) as blocks:
        assert list(blocks) == []


def test_no_more_than_some_are_fetched_ahead(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    original = sync_rows.blocks

    def blocks(*args: object) -> object:
        for block in original(*args):  # type: ignore[arg-type]
            fetched.append(block)
            yield block

    monkeypatch.setattr(sync_rows, "blocks", blocks)
    with Ahead(filled.database, None) as found:
        time.sleep(0.5)
        assert len(fetched) <= 3
        assert sum(block.rows for block in found) == 105


def test_who_gives_up_leaves_nothing_running(filled: Store) -> None:
    with Ahead(filled.database, None) as blocks:
        next(iter(blocks))
        assert fetching()
    assert ended()


def test_what_fetching_raises_is_raised(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    original = sync_rows.blocks

    def blocks(*args: object) -> object:
        yield next(iter(original(*args)))  # type: ignore[arg-type]
        raise DatabaseAway("it has gone")

    monkeypatch.setattr(sync_rows, "blocks", blocks)
    with Ahead(filled.database, None) as found, pytest.raises(DatabaseAway):
        list(found)
    assert ended()
