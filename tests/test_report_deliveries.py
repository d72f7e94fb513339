"""report deliveries: attempts, how soon changes were told, what failed and what is owed, of accounts and callbacks."""

from __future__ import annotations

import csv
import io
import time
import tracemalloc
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, insert, update

from monitor_cli import schema
from monitor_cli.reports import figures
from monitor_cli.reports.figures import percent, percentile, shown_percent
from monitor_cli.store import tellings
from monitor_cli.words import span
from tests.support.cli import Cli
from tests.support.http import Receiver
from tests.support.world import World
from tests.test_callback_run import LOCAL
from tests.test_report_availability import millis

OCTOBER = ("--month", "2024-10")


class Told:
    """Writes deliveries and attempts as they are after a run."""

    def __init__(self, world: World) -> None:
        self.world = world

    def delivery(self, callback: int, changed_at: int | None, created_at: int, state: str = "done") -> int:
        values = {"callback_id": callback, "state": state, "changed_at": changed_at, "created_at": created_at}
        with self.world.database.write() as conn:
            key = conn.execute(insert(schema.delivery).values(**values, settled_at=created_at + 1)).inserted_primary_key
        assert key is not None
        return int(key[0])

    def attempt(self, delivery: int, at: int, ms: int, status: int | None, part: int = 0) -> None:
        row = {"delivery_id": delivery, "started_at": at, "duration_ms": ms, "http_status": status, "part": part}
        with self.world.database.write() as conn:
            conn.execute(insert(schema.attempt).values(**row, webhook_id="msg"))


@pytest.fixture
def told(world: World) -> Told:
    return Told(world)


def report(cli: Cli, *args: str) -> tuple[dict[str | None, Any], dict[int, Any]]:
    shown = cli.ok("report", "deliveries", *OCTOBER, "--json", *args).json
    return {row["account"]: row for row in shown["accounts"]}, {row["callback_id"]: row for row in shown["callbacks"]}


def test_figures_by_hand(cli: Cli, world: World, told: Told) -> None:
    acme, globex = world.account("acme"), world.account("globex")
    first, second = (world.callback(acme, "http://127.0.0.1:9/", name=name) for name in ("one", "two"))
    third = world.callback(globex, "http://127.0.0.1:9/")
    t = millis("2024-10-10")
    for n in range(20):  # told 10, 20, … 200 s after the change, answers take 100, 200, … 2000 ms
        at = t + n * 3_600_000
        one = told.delivery(first, at, at + 5000)
        told.attempt(one, at + (n + 1) * 10_000 - (n + 1) * 100, (n + 1) * 100, 204)
    failed = told.delivery(second, t, t + 1000, "failed")
    for status in (500, None, 302):
        told.attempt(failed, t + 2000, 50, status)
    replayed = told.delivery(third, None, t)  # no change began it: it has no wait
    told.attempt(replayed, t, 70, 200)
    accounts, callbacks = report(cli)
    assert callbacks[first] == {
        "callback_id": first,
        "account": "acme",
        "title": "A callback",
        "name": "one",
        "attempts": 20,
        "succeeded": 20,
        "success_percent": 100.0,
        "latency_p50_ms": 1000,
        "latency_p95_ms": 1900,
        "deliveries": 20,
        "told": 20,
        "failed": 0,
        "told_p50_seconds": 100.0,
        "told_p95_seconds": 190.0,
        "owed": 0,
        "owed_since": None,
    }
    assert callbacks[second] | {"attempts": 3, "succeeded": 0, "success_percent": 0.0, "failed": 1} == callbacks[second]
    assert (callbacks[third]["told"], callbacks[third]["told_p50_seconds"]) == (1, None)
    assert list(accounts) == ["acme", "globex"]
    assert accounts["acme"] == {
        "account": "acme",
        "callbacks": 2,
        "attempts": 23,
        "succeeded": 20,
        "success_percent": 86.956521,
        "latency_p50_ms": 900,
        "latency_p95_ms": 1900,
        "deliveries": 21,
        "told": 20,
        "failed": 1,
        "told_p50_seconds": 100.0,
        "told_p95_seconds": 190.0,
        "owed": 0,
        "owed_since": None,
    }


def test_a_split_request_is_told_with_its_last_part(cli: Cli, world: World, told: Told) -> None:
    callback = world.callback(world.account("acme"), "http://127.0.0.1:9/")
    t = millis("2024-10-10")
    one = told.delivery(callback, t, t)
    for part, at in ((1, 1000), (2, 2000), (3, 9000)):
        told.attempt(one, t + at, 500, 200, part)
    other = told.delivery(callback, t, t)  # told at the first 2xx; what came later was of another change
    told.attempt(other, t + 1000, 500, 200)
    told.attempt(other, t + 60_000, 500, 200)
    _, callbacks = report(cli)
    assert (callbacks[callback]["told_p50_seconds"], callbacks[callback]["told_p95_seconds"]) == (1.5, 9.5)


def test_who_took_some_of_the_parts_was_not_told(cli: Cli, world: World, told: Told) -> None:
    """Some of the numbers are still owed: the rest is retried, or the delivery failed."""
    callback = world.callback(world.account("acme"), "http://127.0.0.1:9/")
    t = millis("2024-10-10")
    for state in ("failed", "open"):
        one = told.delivery(callback, t, t, state)
        told.attempt(one, t + 1000, 500, 200, part=1)
        told.attempt(one, t + 2000, 500, 500, part=2)
    _, callbacks = report(cli)
    assert (callbacks[callback]["deliveries"], callbacks[callback]["told"], callbacks[callback]["failed"]) == (2, 0, 1)
    assert callbacks[callback]["told_p50_seconds"] is None


def test_only_the_window_and_the_account(cli: Cli, world: World, told: Told) -> None:
    acme, globex = world.account("acme"), world.account("globex")
    mine, other = (world.callback(account, "http://127.0.0.1:9/") for account in (acme, globex))
    for at in ("2024-09-30T23:59:59", "2024-10-01T00:00:00", "2024-10-31T23:59:59", "2024-11-01T00:00:00"):
        for callback in (mine, other):
            told.attempt(told.delivery(callback, millis(at), millis(at)), millis(at), 10, 200)
    accounts, callbacks = report(cli, "--account", "acme")
    assert list(accounts) == ["acme"]
    assert list(callbacks) == [mine]
    assert (callbacks[mine]["attempts"], callbacks[mine]["deliveries"]) == (2, 2)
    shown = cli.ok("report", "deliveries", "--since", "2024-09-01", "--json").json
    assert shown["notes"][0].startswith("deliveries and attempts are kept from 2024-09-30 23:59:59+00:00 on only")


@pytest.mark.parametrize("asked", [tellings.attempts, tellings.deliveries])
def test_rows_come_in_blocks(asked: Any, world: World, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million deliveries were one block: 300 MiB."""
    callback = world.callback(world.account("acme"), "http://127.0.0.1:9/")
    for n in range(7):
        told.attempt(told.delivery(callback, n, n), n, 1, 200)
    monkeypatch.setattr(tellings, "_BLOCK", 3)
    with world.database.read() as conn:
        rows = asked(conn, 0, 100)
        next(rows)
        assert len(rows.gi_frame.f_locals["block"]) == 3
        assert len(list(rows)) == 6


def test_removed_callbacks_and_accounts_have_a_line_of_their_own(cli: Cli, world: World, told: Told) -> None:
    callback = world.callback(world.account("acme"), "http://127.0.0.1:9/")
    told.attempt(told.delivery(callback, millis("2024-10-02"), millis("2024-10-02")), millis("2024-10-02"), 10, 200)
    with world.database.write() as conn:
        conn.execute(delete(schema.callback))
    accounts, callbacks = report(cli)
    assert list(accounts) == [None]
    assert (callbacks[callback]["account"], callbacks[callback]["name"], callbacks[callback]["attempts"]) == (
        None,
        None,
        1,
    )
    assert "(removed)" in cli.ok("report", "deliveries", *OCTOBER).out


def test_the_real_thing_told_failed_and_owed(cli: Cli, world: World, receiver: Receiver) -> None:
    server = world.server(channel=1)
    acme, globex = world.account("acme"), world.account("globex")
    for account in (acme, globex):
        world.number(account, f"+91{account}", channel=1)
    good = world.callback(acme, receiver.url("/good"), raw_json=True)
    bad = world.callback(globex, receiver.url("/bad"), raw_json=True)
    receiver.answer("/bad", 500)
    world.flag(server, "critical")
    time.sleep(0.3)
    env = {**LOCAL, "MONITOR_RETRY_SCHEDULE": "0.05", "MONITOR_MAX_SECONDS": "4"}
    cli.ok("callback-run", env=env)
    shown = cli.ok("report", "deliveries", "--since", "1h", "--json").json
    callbacks = {row["callback_id"]: row for row in shown["callbacks"]}
    assert callbacks[good] | {"attempts": 1, "succeeded": 1, "told": 1, "failed": 0, "owed": 0} == callbacks[good]
    assert 0.3 <= callbacks[good]["told_p50_seconds"] < 60
    assert callbacks[bad] | {"attempts": 2, "succeeded": 0, "told": 0, "failed": 1, "owed": 1} == callbacks[bad]
    assert callbacks[bad]["owed_since"].endswith("Z")
    rows = list(csv.DictReader(io.StringIO(cli.ok("report", "deliveries", "--since", "1h", "--format", "csv").out)))
    assert [row["part"] for row in rows] == ["accounts", "accounts", "callbacks", "callbacks"]


def test_a_delivery_keeps_the_first_change_that_it_is_about(cli: Cli, world: World) -> None:
    server = world.server(channel=1)
    account = world.account("acme")
    world.number(account, "+911", channel=1)
    callback = world.callback(account, "http://127.0.0.1:9/")
    off = {**LOCAL, "MONITOR_MAX_SECONDS": "0.2", "MONITOR_RETRY_SCHEDULE": "3600"}
    first = world.flag(server, "critical")
    cli.ok("callback-run", env=off)
    world.flag(server, "warning")
    cli.ok("callback-run", env=off)
    (one,) = world.deliveries(callback)
    times = {change.id: change.created_at for change in world.changes()}
    assert (one.changed_at, one.rearmed) == (times[first], 1)
    with world.database.write() as conn:
        conn.execute(update(schema.monitor).values(status_report=1))
        conn.execute(update(schema.delivery).values(state="done", open_callback_id=None, due_at=None))
    cli.ok("callback-run", env=off)  # another program's flag: nobody knows when it changed
    assert [row.changed_at for row in world.deliveries(callback)] == [times[first], None]


# --- figures ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 10**6), min_size=1), st.integers(1, 100))
def test_a_percentile_is_the_least_value_that_so_many_do_not_pass(values: list[int], share: int) -> None:
    enough = [v for v in values if 100 * sum(other <= v for other in values) >= share * len(values)]
    assert percentile(values, share) == min(enough)
    with pytest.MonkeyPatch.context() as patch:  # as of many values
        patch.setattr(figures, "_FEW", 2)
        assert percentile(array("Q", values), share) == min(enough)


def test_percentiles_of_many_values_take_little_memory() -> None:
    values = array("Q", (n * 7919 % 500_000 for n in range(300_000)))
    tracemalloc.start()
    try:
        assert percentile(values, 95) == sorted(values)[285_000 - 1]
        tracemalloc.reset_peak()
        percentile(values, 95)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000  # sorted: 12 MB
    finally:
        tracemalloc.stop()


@given(st.integers(0, 10**9), st.integers(1, 10**9))
def test_a_share_is_100_only_of_all(part: int, more: int) -> None:
    share = percent(part, part + more)
    assert share is not None
    assert share < 100
    assert shown_percent(share) != "100.000 %"
    assert percent(more, more) == 100.0
    assert percent(0, 0) is None


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "–"),
        (0, "0 s"),
        (0.04, "0.1 s"),
        (9.91, "10.0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (3599, "59 min 59 s"),
        (86399, "1 d 00 h"),
        (90061, "1 d 01 h"),
        (2678400, "31 d 00 h"),
    ],
)
def test_spans_for_people(seconds: float | None, shown: str) -> None:
    assert span(seconds) == shown
