"""Whatever becomes of archive's process: every row is in the tables or in a good file, never in neither."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from monitor_cli import schema
from monitor_cli.archive import files, run
from monitor_cli.db import Database
from monitor_cli.dialect import insert_rows
from monitor_cli.store.archivable import TABLES
from tests.support.cli import Cli
from tests.support.past import Past, midnight
from tests.support.world import World
from tests.test_archive import archived, everything

ROWS = 600  # of each table, over five days: fifteen files, and as many deletions, to be killed between


@pytest.fixture
def past(world: World) -> Past:
    return Past(world)


def fill(world: World) -> None:
    """Many rows quickly: history of a server, deliveries of a callback that is gone, each with an attempt."""
    server, step = world.server(), 5 * 86_400_000 // ROWS
    with world.database.write() as conn:
        moments = [midnight(110) + n * step for n in range(ROWS)]
        columns = ("monitor_id", "server_id", "name", "channel_id", "region", "region_code", "to_type", "flag_stood")
        rows = [(server, 1, f"é {n}", 1, "r", "c", "critical", 0, 1, "carrier", t) for n, t in enumerate(moments)]
        insert_rows(conn, schema.change, (*columns, "planned", "source", "created_at"), rows)
        columns = ("callback_id", "state", "attempts", "created_at", "settled_at")
        insert_rows(conn, schema.delivery, columns, [(4711, "done", 1, t, t + 1) for t in moments])
        columns = ("delivery_id", "started_at", "duration_ms", "http_status", "response", "webhook_id")
        rows_ = [(n + 1, t, 3, 200, os.urandom(40).hex(), f"msg_{n}") for n, t in enumerate(moments)]
        insert_rows(conn, schema.attempt, columns, rows_)


def expire(world: World) -> None:
    """What 60 seconds do to the lease of a killed run."""
    with world.database.write() as conn:
        conn.execute(update(schema.lease).values(lease_until=0))


def test_sigkill_at_random_moments_loses_no_row(cli: Cli, world: World, tmp_path: Path) -> None:
    """Real processes: archive and restore, each killed at some points of its work, then run to its end."""
    past, target, chance = Past(world), tmp_path / "archive", random.Random(11)
    fill(world)
    whole = past.rows()
    left = {"attempt": 0, "delivery": 0, "change": 1}  # the newest of its server

    def killed(progress: Callable[[], int], steps: int, *args: str) -> bool:
        """Kill it once it has come so far, or a moment later; whether it was still at work."""
        before, running = progress(), cli.start(*args)
        while not running.ended and abs(progress() - before) < steps:
            time.sleep(0.001)
        time.sleep(chance.choice([0, 0, chance.uniform(0, 0.05)]))
        was_at_work = running.kill().code < 0
        expire(world)
        assert everything(past, target) == whole
        return was_at_work

    def written() -> int:
        return len(os.listdir(target)) if target.exists() else 0

    def live() -> int:
        with world.database.read() as conn:
            return sum(conn.execute(select(func.count()).select_from(t)).scalar_one() for t in TABLES.values())

    archive = ("archive", "--to", str(target))
    at_work = [killed(written, chance.randint(1, 3), *archive), killed(written, chance.randint(3, 9), *archive)]
    at_work += [killed(live, chance.randint(1, 1000), *archive) for _ in range(2)]
    cli.process(*archive).quiet()
    assert {table: len(rows) for table, rows in past.rows().items()} == left
    assert everything(past, target) == whole

    restore = ("archive", "restore", *sorted(map(str, target.glob("*.gz"))))
    at_work += [killed(live, chance.randint(1, 1000), *restore) for _ in range(2)]
    cli.process(*restore).quiet()
    assert past.rows() == whole
    assert sum(at_work) >= 4, "hardly any run was killed half-way: nothing was tried"


def test_at_every_step_each_row_is_in_one_or_the_other(
    past: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill leaves what there is at that moment; so it is looked at around each step that changes something. And of
    a file nothing is deleted before its content and both of its names are on the disk."""
    target = tmp_path / "archive"
    for days in (102, 101):
        for _ in range(3):
            past.change(1, days=days)
            past.delivery(4711, days=days, attempts=2)
    whole = past.rows()
    monkeypatch.setattr(run, "PAGE", 2)
    steps: list[str] = []
    synced: set[str] = set()  # what is on the disk by now: contents by temporary names, directories' names
    named: list[str] = []  # names given since the directory was last synced

    def watched(name: str, step: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
        def around(*args: Any, **options: Any) -> Any:
            assert everything(past, target) == whole
            note(*args)
            result = step(*args, **options)
            steps.append(name)
            assert everything(past, target) == whole
            return result

        return around

    def on_fsync(handle: int) -> None:
        path = os.readlink(f"/proc/self/fd/{handle}")
        synced.add(path)
        if path == str(target):
            named.clear()

    def on_link(temporary: Path, path: Path) -> None:
        assert str(temporary) in synced, "it got its name before its content was on the disk"
        if path.name.endswith(".gz"):
            assert named == [], "it got its name before that of its checksum was on the disk"
        named.append(path.name)

    def on_transact(*_: Any) -> None:
        assert named == [], "rows were to be deleted before the file's name was on the disk"

    monkeypatch.setattr(files.os, "fsync", watched("sync", os.fsync, on_fsync))
    monkeypatch.setattr(files.os, "link", watched("name", os.link, on_link))
    monkeypatch.setattr(Path, "unlink", watched("unlink", Path.unlink, lambda *_: None))
    monkeypatch.setattr(Database, "transact", watched("transact", Database.transact, on_transact))
    done = run.archive(past.world.database, midnight(90), target, sleep=lambda _: None)
    assert done.rows == 24
    assert not any(past.rows().values())
    assert archived(target)
    assert (steps.count("name"), steps.count("transact")) == (12, 16)


def test_a_row_that_changed_since_it_was_written_is_not_deleted(past: Past, tmp_path: Path) -> None:
    """Nothing writes a closed row; should a person do so at this moment, their word is not lost."""
    key = past.delivery(4711, days=101, attempts=0)

    target, original = tmp_path / "archive", files.check

    def then_edit(path: Path) -> None:
        original(path)
        with past.world.database.write() as conn:
            conn.execute(update(schema.delivery).values(attempts=9))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "check", then_edit)
        run.archive(past.world.database, midnight(90), target, sleep=lambda _: None)
    assert past.rows()["delivery"][key][past.world.rows(schema.delivery)[0]._fields.index("attempts")] == 9
    run.archive(past.world.database, midnight(90), target, sleep=lambda _: None)
    assert not past.rows()["delivery"]
    assert len(list(target.glob("*.gz"))) == 2


def test_callback_run_goes_on_beside_it(cli: Cli, world: World, receiver: Any, tmp_path: Path) -> None:
    """While an archive deletes, what changes is told in time, and neither is in the other's way."""
    fill(world)
    server, account = world.server(channel=2), world.account("acme")
    world.number(account, "+911", channel=2)
    world.callback(account, receiver.url("/hook"), raw_json=True)
    running = cli.start("archive", "--to", str(tmp_path / "archive"))
    told = 0
    while not running.ended and told < 4:
        world.flag(server, "critical" if told % 2 == 0 else "operational")
        cli("callback-run", env={"MONITOR_ALLOW_NETWORKS": "127.0.0.0/8"}).quiet()
        told += 1
        assert len(receiver.requests) == told
    running.wait().quiet()
    assert told > 0
