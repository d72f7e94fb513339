"""callback replay, through the real command line, on both stores: who is sent what again, and who is not."""

from __future__ import annotations

import os
import pty
import subprocess

import pytest
from sqlalchemy import event, text

from monitor_cli import schema
from monitor_cli.store import outbox, replays
from monitor_cli.types import Region, Unit
from tests.support.cli import SCRIPT, Cli
from tests.support.http import Answer, Receiver
from tests.support.stores import Store
from tests.support.world import World

LOCAL = {"MONITOR_ALLOW_NETWORKS": "127.0.0.0/8"}
GIVES_UP = {**LOCAL, "MONITOR_RETRY_SCHEDULE": "0.01", "MONITOR_MAX_SECONDS": "30"}


class Scene:
    """Two accounts with two callbacks each and two servers, all of it told once that both are critical."""

    def __init__(self, cli: Cli, world: World, receiver: Receiver) -> None:
        self.cli, self.world, self.receiver = cli, world, receiver
        self.servers = [world.server(channel=channel) for channel in (1, 2)]
        self.callbacks: dict[str, int] = {}
        self.accounts: dict[str, int] = {}
        for account in ("acme", "other"):
            self.accounts[account] = world.account(account)
            for channel in (1, 2):
                world.number(self.accounts[account], f"+{account}{channel}", channel=channel)
            for name in (f"{account}-1", f"{account}-2"):
                url = receiver.url(f"/{name}")
                self.callbacks[name] = world.callback(self.accounts[account], url, name=name, raw_json=True)
        for server in self.servers:
            world.flag(server, "critical")
        self.run()
        receiver.clear()

    def run(self, **env: str) -> None:
        self.cli("callback-run", env={**LOCAL, **env}).quiet()

    def replayed(self, *options: str) -> dict[str, list[str]]:
        """Replay and run: the paths that were called, with the numbers told."""
        result = self.cli.ok("callback", "replay", *options)
        assert result.out == ""
        self.receiver.clear()
        self.run()
        return {
            r.path[1:]: sorted(n for entry in r.json["data"]["incidents"] for n in entry["numbers"])
            for r in self.receiver.requests
        }


@pytest.fixture
def scene(cli: Cli, world: World, receiver: Receiver) -> Scene:
    return Scene(cli, world, receiver)


def test_the_newest_truth_is_sent_again_to_those_that_are_named(scene: Scene) -> None:
    acme = ["+acme1", "+acme2"]
    one = str(scene.callbacks["acme-1"])
    assert scene.replayed("--callback", one) == {"acme-1": acme}
    assert [entry["type"] for entry in scene.receiver.requests[0].json["data"]["incidents"]] == ["critical"]
    assert scene.replayed("--account", "acme") == {"acme-1": acme, "acme-2": acme}
    assert len(scene.replayed("--since", "1h")) == 4
    assert scene.replayed("--callback", one, "--account", "other") == {}
    assert {row.state for row in scene.world.deliveries()} == {"done"}
    ids = {row.webhook_id for row in scene.world.attempts()}
    assert len(ids) == len(scene.world.attempts())  # news again, not the same news


def test_a_replay_of_what_went_back_tells_what_is_now(scene: Scene) -> None:
    for callback in scene.callbacks:
        scene.receiver.answer(f"/{callback}", Answer(500))
    scene.world.flag(scene.servers[0], "operational")
    scene.run(**GIVES_UP)
    assert {row.callback_id for row in scene.world.owed()} == set(scene.callbacks.values())
    for callback in scene.callbacks:
        scene.receiver.answer(f"/{callback}", Answer(200))
    assert scene.replayed("--account", "acme", "--failed") == {"acme-1": ["+acme1"], "acme-2": ["+acme1"]}
    (entry,) = scene.receiver.requests[0].json["data"]["incidents"]
    assert entry["type"] == "operational"
    assert scene.replayed("--account", "acme", "--failed") == {}
    assert scene.replayed("--failed") == {"other-1": ["+other1"], "other-2": ["+other1"]}


def test_a_time_chooses_what_changed_in_it(scene: Scene, database: Store) -> None:
    hour = 3_600_000
    with database.write() as conn:  # channel 1 changed two days ago
        for table, column in ((schema.change.name, "created_at"), (schema.owed.name, "owed_since_at")):
            conn.execute(text(f"UPDATE {table} SET {column} = {column} - {48 * hour} WHERE channel_id = 1"))
    callback = ("--callback", str(scene.callbacks["acme-2"]))
    assert scene.replayed(*callback, "--since", "1h") == {"acme-2": ["+acme2"]}
    with database.write() as conn:  # the replay made it owed just now
        conn.execute(text(f"UPDATE {schema.owed.name} SET owed_since_at = 0"))
    assert scene.replayed(*callback, "--since", "3d", "--until", "1d") == {"acme-2": ["+acme1"]}
    with database.write() as conn:
        conn.execute(text(f"UPDATE {schema.owed.name} SET owed_since_at = 1000"))
    assert scene.replayed(*callback, "--since", "2020-01-01", "--until", "3d") == {}


def test_those_that_hear_nothing_are_said_and_left_out(scene: Scene, cli: Cli) -> None:
    cli.ok("callback", "disable", str(scene.callbacks["acme-1"]))
    cli.ok("account", "unsubscribe", "other")
    before = scene.world.owed(all_rows=True)
    shown = cli.ok("callback", "replay", "--since", "1h", "--dry-run")
    assert (
        shown.err == "callback-run would send the newest status of 2 channels to 1 callback of 1 account; "
        "left out: 1 not active, 2 not subscribed\n"
    )
    lines = [line.split() for line in shown.out.splitlines()]
    assert lines[0] == ["CALLBACK_ID", "ACCOUNT", "NAME", "CHANNELS", "URL", "LEFT_OUT"]
    assert [(line[2], line[3], line[5:]) for line in lines[1:]] == [
        ("acme-1", "2", ["not", "active"]),
        ("acme-2", "2", []),
        ("other-1", "2", ["not", "subscribed"]),
        ("other-2", "2", ["not", "subscribed"]),
    ]
    assert scene.world.owed(all_rows=True) == before
    assert set(scene.replayed("--since", "1h")) == {"acme-2"}


def test_retry_after_binds_a_replay_too(scene: Scene) -> None:
    scene.receiver.answer("/acme-1", Answer(503, headers=[("Retry-After", "3600")]))
    scene.world.flag(scene.servers[0], "warning")
    scene.run()
    assert scene.replayed("--callback", str(scene.callbacks["acme-1"])) == {}
    (opened,) = [row for row in scene.world.deliveries() if row.state == "open"]
    assert (opened.due_at, opened.attempts) == (opened.not_before, 0)
    assert len(scene.world.owed()) == 2


@pytest.mark.parametrize("bound", [{"limit": 3}, {"limit": 1}, {"most": 1}, {"most": 3}, {}])
def test_pages_are_bounded_and_go_on_where_they_ended(scene: Scene, database: Store, bound: dict[str, int]) -> None:
    with database.read() as conn:
        wanted = replays.selection(conn)
    after: int | None = 0
    seen = []
    while after is not None:
        with database.write() as conn:
            found, after = replays.page(conn, wanted, after, **bound)
        assert len(found) <= bound.get("limit", bound.get("most", 4))
        seen += [one.callback_id for one in found]
    assert seen == sorted(scene.callbacks.values())


def test_many_are_marked_in_few_statements(world: World, database: Store) -> None:
    units = [Unit(channel, Region("r", "R")) for channel in range(200)]
    callback = world.callback(world.account("acme"), "https://192.0.78.9/")
    statements: list[str] = []
    event.listen(database.database.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    for _ in range(2):
        database.database.transact(lambda conn: outbox.replay(conn, {callback: units}))
    rows = world.owed(callback)
    assert len(rows) == 200
    assert {(row.wanted, row.told, row.unsure) for row in rows} == {(2, 0, schema.REPLAYED)}
    assert len([s for s in statements if s.startswith(f"INSERT INTO {schema.owed.name} ")]) == 2


def test_a_progress_bar_on_a_terminal(scene: Scene, cli: Cli) -> None:
    main, terminal = pty.openpty()
    done = subprocess.run(
        [str(SCRIPT), "callback", "replay", "--account", "acme"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**cli.environment(), "TERM": "xterm"},
        timeout=60,
    )
    os.close(terminal)
    shown = os.read(main, 65536).decode()
    os.close(main)
    assert (done.returncode, done.stdout) == (0, b"")
    assert shown.startswith("callback-run sends the newest status of 4 channels to 2 callbacks of 1 account")
    assert "100%" in shown
    assert len(scene.world.owed()) == 4


def test_what_cannot_be_meant(scene: Scene, cli: Cli) -> None:
    nothing = cli("callback", "replay")
    assert (nothing.code, nothing.out) == (2, "")
    assert "say what to send again" in nothing.err
    assert cli("callback", "replay", "--dry-run").code == 2
    for options in (["--callback", "99"], ["--account", "nobody"]):
        assert cli("callback", "replay", *options).code == 1
    assert cli("callback", "replay", "--since", "soon").code == 2
    assert scene.world.owed() == []
