"""Customers' servers that attack whoever calls them: each request ends in time, nothing private is reached, and the
process that calls hardly grows."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from monitor_cli import schema
from monitor_cli.delivery import courier
from monitor_cli.outbound import resolver
from monitor_cli.outbound.resolver import Resolver
from tests.support import network_guard
from tests.support.cli import SCRIPT, Cli
from tests.support.http import Answer, Receiver, wire
from tests.support.stores import Store
from tests.support.world import World

DEADLINE = 3.0
METADATA = "http://169.254.169.254/latest/meta-data/iam/security-credentials/"
BOMB = gzip.compress(bytes(50_000_000))
SCRIPTED = {
    "drips-headers": Answer(200, b"ok", drip=1.0),
    "drips-body": Answer(200, b"x" * 100, drip=1.0, drip_body_only=True),
    "gzip-bomb": Answer(200, BOMB, headers=[("Content-Encoding", "gzip")]),
    "redirects": Answer(302, b"moved", headers=[("Location", METADATA)]),
    "redirects-for-good": Answer(308, b"", headers=[("Location", METADATA)]),
}
ENDLESS = {
    "endless-body": (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
    "endless-chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"fff0\r\n" + b"x" * 0xFFF0 + b"\r\n"),
    "endless-headers": (b"HTTP/1.1 200 OK\r\n", b"X-Filler: " + b"y" * 8000 + b"\r\n"),
    "endless-hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n" * 100),
    "endless-line": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"y" * 65536),
}
# What each comes to: an HTTP status, or None for no answer.
EXPECTED = {
    "drips-headers": None,
    "drips-body": 200,
    "gzip-bomb": 200,
    "redirects": 302,
    "redirects-for-good": 308,
    "endless-body": 200,
    "endless-chunks": 200,
    "endless-headers": None,
    "endless-hints": None,
    "endless-line": None,
}


@contextmanager
def endless(start: bytes, more: bytes) -> Iterator[str]:
    """A server whose answer never ends. Gives its URL."""

    def pour(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(more)

    with wire(pour) as url:
        yield url


@pytest.fixture
def lite(sqlite_database: Store, make_cli: Callable[[str | None], Cli]) -> tuple[World, Cli]:
    """On SQLite alone: this has nothing to do with the store."""
    return World(sqlite_database), make_cli(sqlite_database.url)


def peak_kib(cli: Cli) -> int:
    """Run callback-run as a process of its own, which says nothing and ends with 0: the most memory it had."""
    settings = {
        "MONITOR_ALLOW_NETWORKS": "127.0.0.0/8",
        "MONITOR_TOTAL_TIMEOUT": str(DEADLINE),
        "MONITOR_RETRY_SCHEDULE": "3600",
        "MONITOR_PROCESSES": "1",
    }
    guard = network_guard.child_environment(str(cli.home / "network-violations"))
    process = subprocess.Popen(
        [str(SCRIPT), "callback-run"], env={**guard, **cli.environment(settings)}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    peak = (
        0  # as the kernel keeps it for this program; wait4's ru_maxrss begins with that of the process that forked it
    )
    while process.poll() is None:
        with suppress(OSError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max(peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)
        time.sleep(0.02)
    assert process.stdout is not None
    with process.stdout:
        assert (process.returncode, process.stdout.read()) == (0, b"")
    assert peak
    return peak


def customer(world: World, name: str, url: str) -> None:
    account = world.account(name)
    world.number(account, f"+{account}", channel=1)
    world.callback(account, url, raw_json=True, name=name)


def test_each_ends_in_time_reaches_nothing_private_and_memory_does_not_grow(
    lite: tuple[World, Cli], receiver: Receiver
) -> None:
    world, cli = lite
    server = world.server(channel=1)
    for number in range(20):
        customer(world, f"calm {number}", receiver.url(f"/calm/{number}"))
    world.flag(server, "critical")
    calm = peak_kib(cli)
    with world.database.write() as conn:
        conn.execute(delete(schema.attempt))
    for name, answer in SCRIPTED.items():
        receiver.answer(f"/{name}", answer)
    for number in range(2):
        for name in SCRIPTED:
            customer(world, f"{name} {number}", receiver.url(f"/{name}"))
    with (
        endless(*ENDLESS["endless-body"]) as body,
        endless(*ENDLESS["endless-chunks"]) as chunks,
        endless(*ENDLESS["endless-headers"]) as headers,
        endless(*ENDLESS["endless-hints"]) as hints,
        endless(*ENDLESS["endless-line"]) as line,
    ):
        for number in range(2):
            for name, url in zip(ENDLESS, (body, chunks, headers, hints, line), strict=True):
                customer(world, f"{name} {number}", url)
        world.flag(server, "warning")
        hostile = peak_kib(cli)

    names = {row.id: row.name.rsplit(" ", 1)[0] for row in world.rows(schema.callback)}
    of_delivery = {row.id: names[row.callback_id] for row in world.deliveries()}
    found: dict[str, set[int | None]] = {}
    for attempt in world.attempts():
        found.setdefault(of_delivery[attempt.delivery_id], set()).add(attempt.http_status)
        assert attempt.duration_ms <= (DEADLINE + 1) * 1000, attempt
        assert len((attempt.response or "").encode()) <= 1024
        assert attempt.http_status or attempt.error
    assert found == {"calm": {200}, **{name: {status} for name, status in EXPECTED.items()}}
    assert len(world.attempts()) == 20 + 2 * len(EXPECTED)  # nothing was tried twice
    # That no redirect was followed: that process's network guard fails the test where a connection leaves this machine.
    assert hostile - calm < 10 * 1024, f"{calm} KiB without them, {hostile} KiB with them"


@pytest.mark.parametrize("then", [["127.0.0.1"], ["127.0.0.2", "127.0.0.1"], ["::ffff:127.0.0.1"], ["169.254.169.254"]])
def test_a_name_whose_answer_changes_to_a_private_address_reaches_it_never(
    lite: tuple[World, Cli], monkeypatch: pytest.MonkeyPatch, then: list[str]
) -> None:
    """127.0.0.2 stands for the public address: the operator has permitted it, and no other. The connection to it is
    kept alive, the name is looked up once for each request, and what was judged is what is dialled."""
    world, cli = lite
    asked: list[str] = []

    def lookup(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        addresses = ["127.0.0.2"] if len(asked) == 1 else then
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(resolver, "_REUSE_SECONDS", 0.0)
    monkeypatch.setattr(courier, "Resolver", partial(Resolver, lookup=lookup))
    with Receiver(host="127.0.0.2") as public, Receiver(port=public.port) as private:
        public.answer(None, 500)
        customer(world, "rebinds", f"http://rebinds.test:{public.port}/hook")
        world.flag(world.server(channel=1), "critical")
        settings = {"MONITOR_RETRY_SCHEDULE": "0.05,0.05", "MONITOR_MAX_SECONDS": "8"}
        cli("callback-run", env={"MONITOR_ALLOW_NETWORKS": "127.0.0.2/32", **settings}).quiet()
        assert [request.header("host") for request in public.requests] == [f"rebinds.test:{public.port}"]
        assert private._accepted == 0
    first, *others = world.attempts()
    assert (first.http_status, len(others)) == (500, 2)
    for attempt in others:
        assert "rebinds.test resolves to an address that is: " in json.dumps(attempt.error)
        assert attempt.http_status is None
    assert asked == ["rebinds.test"] * 3
