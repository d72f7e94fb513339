"""The API's rate limits: who is counted, what is refused, and what is not; shared by processes that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from monitor_cli import config
from monitor_cli.api import buckets as buckets_room
from monitor_cli.api.app import Application
from monitor_cli.api.buckets import Buckets, Rate, Table
from monitor_cli.api.client import UNREADABLE, Clients, account_of
from monitor_cli.api.limits import Limits
from monitor_cli.api.reader import Reader
from monitor_cli.db import Database
from tests.support.stores import Store
from tests.support.world import World
from tests.test_api import Client

SECOND = 1_000_000_000
ROOT = Path(__file__).resolve().parent.parent
GOOD = "api_key=secret-key&method=monitor"
OTHER = "api_key=other-key&method=monitor"
BAD = "api_key=wrong&method=monitor"


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    made = Table(str(tmp_path))
    yield made
    made.close()


class Clock:
    def __init__(self) -> None:
        self.now = 1_000 * SECOND

    def __call__(self) -> int:
        return self.now


# --- buckets ----------------------------------------------------------------------------------------------------------


def test_a_bucket_gives_its_burst_then_its_rate(table: Table):
    rate = Rate.of(10, 5)
    now = 1_000 * SECOND
    assert [table.buckets.take(0, 7, rate, now) for _ in range(7)] == [0] * 5 + [SECOND // 10] * 2
    assert table.buckets.wait(0, 7, rate, now) == SECOND // 10
    assert table.buckets.take(0, 7, rate, now + SECOND // 10) == 0
    assert table.buckets.take(0, 7, rate, now + SECOND // 10) == SECOND // 10
    assert [table.buckets.take(0, 7, rate, now + 60 * SECOND) for _ in range(6)][-2:] == [0, SECOND // 10]


def test_asking_takes_nothing_and_buckets_are_apart(table: Table):
    rate = Rate.of(1, 1)
    assert [table.buckets.wait(0, 7, rate, SECOND) for _ in range(9)] == [0] * 9
    assert table.buckets.take(0, 7, rate, SECOND) == 0
    assert table.buckets.take(0, 7, rate, SECOND) > 0
    assert table.buckets.take(0, 7 + buckets_room._SETS, rate, SECOND) == 0  # shares its place
    assert table.buckets.take(1, 7, rate, SECOND) == 0


def test_a_fraction_of_a_burst_is_one(table: Table):
    rate = Rate.of(0.5, 0.3)
    assert [table.buckets.take(0, 1, rate, SECOND) for _ in range(2)] == [0, 2 * SECOND]
    assert Rate.of(0, 5) is None
    assert Rate.of(5, 0) is None


def test_a_full_place_forgets_whom_it_owes_least(table: Table):
    rate = Rate.of(1, 100)
    names = [1 + n * buckets_room._SETS for n in range(6)]
    for tokens, name in zip((50, 40, 30, 20), names, strict=False):
        for _ in range(tokens):
            table.buckets.take(0, name, rate, SECOND)
    for name in names[4:]:
        assert table.buckets.take(0, name, rate, SECOND) == 0
    for _ in range(50):
        assert table.buckets.take(0, names[0], rate, SECOND) == 0
    assert table.buckets.take(0, names[0], rate, SECOND) > 0  # what it had taken was kept


def test_a_time_that_cannot_be_is_none(table: Table):
    rate = Rate.of(1, 10)
    for _ in range(10):
        table.buckets.take(0, 7, rate, 10_000 * SECOND)
    assert table.buckets.take(0, 7, rate, 10_000 * SECOND) > 0
    assert table.buckets.take(0, 7, rate, 5 * SECOND) == 0  # after a reboot the clock starts anew


def test_tables_of_one_name_are_one_and_gone_with_the_last(tmp_path: Path):
    name = str(tmp_path)
    first, second, apart = Table(name), Table(name), Table(name + "x")
    path, rate = first._path, Rate.of(1, 1)
    assert first.shared
    assert path.stat().st_mode & 0o777 == 0o600
    assert first.buckets.name(b"x") == second.buckets.name(b"x") != apart.buckets.name(b"x")
    assert first.buckets.take(0, 1, rate, SECOND) == 0
    assert second.buckets.take(0, 1, rate, SECOND) > 0
    assert apart.buckets.take(0, 1, rate, SECOND) == 0
    first.close()
    assert path.exists()
    second.close()
    apart.close()
    assert not path.exists()
    assert second.buckets.take(0, 1, rate, SECOND) > 0  # what is mapped goes on


@pytest.mark.parametrize("what", ["open", "short", "link", "directory"])
def test_a_file_that_is_not_ours_is_not_used(tmp_path: Path, what: str):
    table = Table(str(tmp_path))
    path = table._path
    table.close()
    try:
        if what == "directory":
            path.mkdir()
        elif what == "link":
            (tmp_path / "target").write_bytes(bytes(buckets_room._SIZE))
            path.symlink_to(tmp_path / "target")
        else:
            path.write_bytes(b"short")
            path.chmod(0o666 if what == "open" else 0o600)
        table = Table(str(tmp_path))
        assert not table.shared
        assert str(path) in (table.reason or "")
        rate = Rate.of(1, 1)
        assert [table.buckets.take(0, 1, rate, SECOND) for _ in range(2)] == [0, SECOND]
        table.close()
        assert path.exists() or path.is_symlink()
    finally:
        path.rmdir() if what == "directory" else path.unlink()


TAKER = """
import hashlib, sys, time
from monitor_cli.api.buckets import Rate, Table
buckets, rate, work = Table(sys.argv[1]).buckets, Rate.of(0.001, 1000), bytes(100_000)
print("up", flush=True)
sys.stdin.readline()
granted = 0
for _ in range(int(sys.argv[2])):
    hashlib.sha256(work)  # about what a request takes
    granted += buckets.take(0, 7, rate, time.monotonic_ns()) == 0
    if not _ % 50:
        print(granted, flush=True)
print(granted, flush=True)
"""


def _takers(name: str, takes: list[int]) -> list[subprocess.Popen[str]]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = [
        subprocess.Popen([sys.executable, "-c", TAKER, name, str(n)], env=environ, text=True, stdin=-1, stdout=-1)
        for n in takes
    ]
    for taker in found:
        assert taker.stdout is not None
        assert taker.stdout.readline() == "up\n"
    return found


def test_processes_share_a_bucket_and_one_that_is_killed_harms_nobody(table: Table, tmp_path: Path):
    killed, first, second = _takers(str(tmp_path), [100_000_000, 800, 800])
    for taker in (killed, first, second):
        assert taker.stdin is not None
        taker.stdin.write("\n")
        taker.stdin.flush()
    outs = [taker.communicate(timeout=60)[0].split() for taker in (first, second)]
    killed.send_signal(signal.SIGKILL)
    before = killed.communicate(timeout=60)[0].split()
    granted = sum(int(out[-1]) for out in outs) + int(before[-1])
    # Whoever is interrupted between its last look and its write gives back what the others took meanwhile. The one
    # that was killed may not have told its last 50. Unshared it would be 2600.
    assert 1000 - 50 <= granted <= 1500
    now = time.monotonic_ns()
    assert table.buckets.take(0, 7, Rate.of(0.001, 1000), now) > 0
    assert table.buckets.take(0, 8, Rate.of(1, 1), now) == 0


def test_judging_is_cheap(table: Table):
    rate, name = Rate.of(1_000_000, 1_000_000), table.buckets.name(b"203.0.113.7")
    started = time.perf_counter()
    for _ in range(10_000):
        table.buckets.take(1, name, rate, time.monotonic_ns())
    assert (time.perf_counter() - started) / 10_000 < 100e-6  # measured: 3 µs


# --- whose request it is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "chain", "client"),
    [
        ("203.0.113.7", None, "203.0.113.7"),
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),  # whoever it is, we do not believe it
        ("::ffff:203.0.113.7", None, "203.0.113.7"),
        ("10.0.0.1", None, None),  # the proxy itself
        ("10.0.0.1", "", None),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "192.0.2.66, 198.51.100.1", "198.51.100.1"),  # the first one is the client's own invention
        ("10.0.0.1", "198.51.100.1,10.0.0.2 , 10.0.0.3", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.2,10.0.0.3", None),
        ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("10.0.0.1", "2001:DB8:0::1", "2001:db8::1"),
        ("10.0.0.1", "198.51.100.1, unknown", UNREADABLE),
        ("10.0.0.1", "secret-key", UNREADABLE),
        ("fd00::1", "198.51.100.1", "198.51.100.1"),
        ("", "198.51.100.1", "198.51.100.1"),  # a unix socket: only a local proxy can open it
        ("", None, None),
    ],
)
def test_the_client(peer: str, chain: str | None, client: str | None):
    clients = Clients((ip_network("10.0.0.0/8"), ip_network("fd00::/8")))
    environ = {"REMOTE_ADDR": peer, **({"HTTP_X_FORWARDED_FOR": chain} if chain is not None else {})}
    for _ in range(2):
        assert clients.of(environ) == client


def test_addresses_of_one_network_count_as_one_with_ipv6():
    assert account_of("2001:db8:1:2::1") == account_of("2001:db8:1:2:ffff::9") != account_of("2001:db8:1:3::1")
    assert account_of("198.51.100.1") != account_of("198.51.100.2")


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.fixture
def world(sqlite_database: Store) -> World:
    made = World(sqlite_database)
    made.server(channel=1)
    for key in ("secret-key", "other-key"):
        made.number(made.account(key, key=key), "1", channel=1)
    return made


class Limited:
    """An application with limits and a clock of its own; asks for one client after another."""

    def __init__(self, database: Store, buckets: Buckets, **settings: Any) -> None:
        self.clock = Clock()
        self.reader = Reader(lambda: Database(database.url, serving=True))
        whole = {"trusted_proxies": (ip_network("10.0.0.0/8"),), **settings}
        chosen = config.Settings(**whole)
        limits = Limits(chosen, buckets, self.clock)
        self.ask = Client(Application(self.reader, limits, Clients(chosen.trusted_proxies)))

    def __call__(self, query: str, client: str = "203.0.113.7", **environ: Any) -> int:
        return self.ask(query, REMOTE_ADDR=client, **environ).status

    def count(self, times: int, query: str, **environ: Any) -> dict[int, int]:
        found = [self(query, **environ) for _ in range(times)]
        return {status: found.count(status) for status in sorted(set(found))}


@pytest.fixture
def limited(world: World, table: Table, sqlite_database: Store) -> Iterator[Any]:
    made: list[Limited] = []

    def make(**settings: Any) -> Limited:
        made.append(Limited(sqlite_database, table.buckets, **settings))
        return made[-1]

    yield make
    for one in made:
        one.reader.close()


def test_the_defaults_are_those_of_the_specification(limited: Any):
    ask = limited()
    assert ask.count(70, GOOD) == {200: 60, 429: 10}
    ask.clock.now += SECOND
    assert ask.count(20, GOOD) == {200: 10, 429: 10}
    assert ask.count(30, BAD) == {401: 20, 429: 10}
    ask.clock.now += 60 * SECOND
    assert ask.count(30, BAD) == {401: 20, 429: 10}
    assert ask.count(450, "api_key=%FF", client="203.0.113.8") == {400: 400, 429: 50}


def test_the_refusal(limited: Any):
    ask = limited(api_rate_per_key=0.1, api_burst_per_key=1)
    assert ask(GOOD) == 200
    refused = ask.ask(GOOD + "&format=xml", REMOTE_ADDR="203.0.113.7")
    assert (refused.status, refused.headers["retry-after"]) == (429, "10")
    assert refused.headers["cache-control"] == "no-store"
    assert refused.body.decode().endswith(
        "<api><status>429</status><message>Too many requests; try again in 10 s</message></api>"
    )
    ask.clock.now += 9 * SECOND + SECOND // 2
    assert ask.ask(GOOD, REMOTE_ADDR="203.0.113.7").headers["retry-after"] == "1"
    ask.clock.now += SECOND // 2
    assert ask(GOOD) == 200


def test_a_key_is_one_wherever_it_comes_from_and_however(limited: Any):
    ask = limited(api_burst_per_key=3)
    assert [ask(GOOD, client=f"203.0.113.{n}") for n in range(4)] == [200, 200, 200, 429]
    assert ask("method=monitor", HTTP_X_API_KEY="secret-key") == 429
    assert ask("api_key=secret-key&method=x") == 429
    assert ask(OTHER) == 200


def test_an_address_is_one_for_all_its_keys(limited: Any):
    ask = limited(api_rate_per_address=1, api_burst_per_address=3)
    assert [ask(query) for query in (GOOD, OTHER, GOOD, OTHER, GOOD)] == [200, 200, 200, 429, 429]
    assert ask(GOOD, client="203.0.113.8") == 200
    through = {"client": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "203.0.113.7"}
    assert ask(GOOD, **through) == 429
    assert ask(GOOD, client="10.0.0.1", HTTP_X_FORWARDED_FOR="203.0.113.9") == 200


def test_a_valid_key_is_never_refused_for_bad_ones(limited: Any):
    ask = limited(api_burst_per_address=30, api_rate_per_address=0.001)
    assert ask.count(500, BAD) == {401: 20, 429: 480}
    assert ask.count(50, "method=monitor") == {429: 50}
    assert ask.count(30, GOOD) == {200: 30}
    assert ask.count(1, GOOD) == {429: 1}
    assert ask.count(1, BAD, client="203.0.113.8") == {401: 1}


def test_bad_keys_do_not_fill_the_table_of_keys(limited: Any, table: Table):
    ask = limited()
    size = buckets_room._TABLE // 8
    for n in range(200):
        ask(f"api_key=wrong-{n}&method=monitor", client=f"203.0.113.{n}")
    assert not any(table.buckets._words[:size].tolist())


def test_a_trusted_proxy_itself_has_no_limit(limited: Any):
    ask = limited(api_burst_per_address=2, api_bad_keys_per_minute=1, api_burst_per_key=0)
    assert ask.count(20, GOOD, client="10.0.0.1") == {200: 20}
    assert ask.count(20, BAD, client="10.0.0.1") == {401: 20}


def test_a_refused_key_costs_no_query(limited: Any):
    ask = limited(api_burst_per_key=1)
    assert ask(GOOD) == 200
    ask.reader.of_key = None  # would be a 500
    assert ask(GOOD) == 429
    assert ask(GOOD, client="203.0.113.8") == 429


@pytest.mark.parametrize(
    "off",
    [
        {"api_rate_per_key": 0.0, "api_rate_per_address": 0.0, "api_bad_keys_per_minute": 0},
        {"api_burst_per_key": 0, "api_burst_per_address": 0, "api_bad_keys_per_minute": 0},
    ],
)
def test_nought_turns_a_limit_off(limited: Any, off: dict[str, Any]):
    ask = limited(**off)
    assert ask.count(500, GOOD) == {200: 500}
    assert ask.count(500, BAD) == {401: 500}


def test_other_paths_have_no_limit(limited: Any):
    ask = limited(api_burst_per_address=1, api_bad_keys_per_minute=1)
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        assert {ask.ask("", path, REMOTE_ADDR="203.0.113.7").status for _ in range(5)} == {200}


def test_many_at_once_get_what_there_is(limited: Any):
    ask = limited(api_burst_per_key=50, api_rate_per_key=0.01)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: ask(GOOD), range(200)))
    assert 50 <= found.count(200) <= 55
    assert found.count(200) + found.count(429) == 200
