"""Answers at once: on a connection that a thread which must not wait may use, and elsewhere as soon as it would."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pymysql
import pytest
from sqlalchemy.engine import make_url

from monitor_cli import schema
from monitor_cli.apart import Apart, is_near
from monitor_cli.api import AT_ONCE, Application, NotNow
from monitor_cli.api.client import Clients
from monitor_cli.api.prompt import PATIENCE_SECONDS, QUICK_SECONDS, REST_SECONDS
from monitor_cli.api.reader import Reader
from monitor_cli.db import Database
from monitor_cli.serve.gateway import Gateway
from tests.support.stores import Store
from tests.support.world import World

KEY = "secret-key"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()


class Clock:
    """Monotonic; each look takes `step` seconds."""

    now = step = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reader(database: Store, world: World, clock: Clock) -> Iterator[Reader]:
    if database.name == "sqlite":
        pytest.skip("SQLite is asked by threads that may wait for its locks")
    world.server(channel=1, final_status="warning")
    world.number(world.account("acme", key=KEY), "+1", channel=1)
    reader = Reader(lambda: Database(database.url, serving=True), clock)
    yield reader
    reader.close()


@pytest.fixture
def other(database: Store) -> Iterator[Any]:
    """A cursor on a connection of its own."""
    url = make_url(database.url)
    where = {"host": url.host, "port": url.port, "user": url.username, "password": url.password or ""}
    with closing(pymysql.connect(**where, database=url.database, autocommit=True)) as connection:  # type: ignore[arg-type]
        yield connection.cursor()


def at_once(reader: Reader) -> Any:
    return reader.of_key(DIGEST, at_once=True)


def warm(reader: Reader) -> Any:
    """Ask for it, and once as one who may wait; gives that answer."""
    with pytest.raises(NotNow):
        at_once(reader)
    return reader.of_key(DIGEST)


def test_what_it_says_is_what_is_said_elsewhere(reader: Reader, world: World):
    expected = warm(reader)
    assert expected.entries[0].numbers == ("+1",)
    assert at_once(reader) == expected
    assert reader.of_key("unknown", at_once=True) is None
    world.number(expected.account_id, "+2", channel=1)
    assert at_once(reader).entries[0].numbers == ("+1", "+2")  # of now: nothing was begun


def test_nobody_dials_for_it_before_it_was_asked_for(reader: Reader, other: Any):
    for _ in range(3):
        reader.of_key(DIGEST)
    count = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    other.execute(count)
    ((alone,),) = other.fetchall()
    warm(reader)
    other.execute(count)
    assert other.fetchall() == ((alone + 1,),)


def test_nothing_is_judged_that_has_to_be_judged_again(reader: Reader):
    class Seen(Clients):
        asked = 0

        def of(self, environ: dict[str, Any]) -> str | None:
            self.asked += 1
            return super().of(environ)

    seen = Seen()
    application = Application(reader, clients=seen)
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/v1/", "QUERY_STRING": f"api_key={KEY}&method=monitor"}
    with pytest.raises(NotNow):
        application({**environ, AT_ONCE: True}, lambda *_: None)
    assert seen.asked == 0
    assert b"".join(application(environ, lambda *_: None)).count(b'"+1"') == 1
    assert b"".join(application({**environ, AT_ONCE: True}, lambda *_: None)).count(b'"+1"') == 1
    assert seen.asked == 2


def test_a_connection_that_died_is_replaced(reader: Reader, other: Any, clock: Clock):
    expected = warm(reader)
    other.execute("SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()")
    for (connection,) in other.fetchall():
        other.execute(f"KILL {connection}")
    with pytest.raises(NotNow):
        at_once(reader)
    assert reader.of_key(DIGEST) == expected
    with pytest.raises(NotNow):  # it rests: who loses it again and again does not dial for each request
        at_once(reader)
    clock.now += REST_SECONDS
    assert warm(reader) == at_once(reader) == expected


def test_a_database_that_does_not_answer_holds_nobody_up(reader: Reader, other: Any, clock: Clock):
    expected = warm(reader)
    other.execute(f"LOCK TABLES {schema.account.name} WRITE")
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(NotNow):
            at_once(reader)
    assert PATIENCE_SECONDS <= time.monotonic() - began < 20 * PATIENCE_SECONDS * 0.9  # once, not each time
    other.execute("UNLOCK TABLES")
    clock.now += REST_SECONDS
    assert warm(reader) == at_once(reader) == expected


def test_a_database_that_is_slow_on_the_average_is_asked_elsewhere(reader: Reader, clock: Clock):
    expected = warm(reader)

    def ask(times: int) -> None:
        for _ in range(times):
            assert at_once(reader) == expected

    clock.step = QUICK_SECONDS / 2
    ask(100)
    clock.step = QUICK_SECONDS * 2
    ask(3)  # a few slow ones among quick ones are nothing
    with pytest.raises(NotNow):
        ask(100)
    clock.step = 0.0
    clock.now += REST_SECONDS
    assert warm(reader) == at_once(reader) == expected


def test_a_database_elsewhere_is_not_waited_for(reader: Reader, monkeypatch: pytest.MonkeyPatch, clock: Clock):
    monkeypatch.setattr(Apart, "near", False)
    for _ in range(3):
        warm(reader)
        clock.now += 60
    monkeypatch.undo()
    warm(reader)
    with pytest.raises(NotNow):  # where it is does not change
        at_once(reader)


@pytest.mark.parametrize(
    ("family", "peer", "near"),
    [
        (socket.AF_INET, ("127.0.0.1", 3306), True),
        (socket.AF_INET6, ("::1", 3306, 0, 0), True),
        (socket.AF_UNIX, "/run/mysqld/mysqld.sock", True),
        (socket.AF_INET, ("192.0.2.1", 3306), False),
        (socket.AF_INET6, ("2001:db8::1", 3306, 0, 0), False),
    ],
)
def test_what_is_near(family: int, peer: Any, near: bool):
    assert is_near(SimpleNamespace(family=family, getpeername=lambda: peer)) is near


class Proto:
    """What granian gives to answer with."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, list[tuple[str, str]], bytes]] = []

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.answers.append((status, headers, body))


def asked(application: Any, *targets: tuple[str, str]) -> list[bytes]:
    """Ask a Gateway for each (method, path) in turn; gives the bodies."""
    proto = Proto()

    async def ask() -> None:
        gateway = Gateway(application)
        gateway.__rsgi_init__(asyncio.get_running_loop())
        for method, path in targets:
            scope = SimpleNamespace(
                method=method, path=path, query_string="", http_version="1.1", server="a:1", client="b:2",
                scheme="http", headers={},
            )  # fmt: skip
            await asyncio.wait_for(gateway.__rsgi__(scope, proto), 30)

    asyncio.run(ask())
    return [body for _, _, body in proto.answers]


@pytest.mark.parametrize("now", [True, False])
def test_each_request_is_answered_once(now: bool):
    seen: list[tuple[str, str, bool]] = []

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        must = AT_ONCE in environ
        seen.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], must))
        if must and not now:
            raise NotNow
        start_response("200 OK", [])
        return [b"at once" if must else b"elsewhere"]

    got = asked(application, ("GET", "/v1/"), ("POST", "/v1/"), ("GET", "/readyz"), ("GET", "/healthz"))
    assert got == [b"at once" if now else b"elsewhere", b"elsewhere", b"elsewhere", b"elsewhere"]
    assert seen == [
        ("GET", "/v1/", True),
        *([] if now else [("GET", "/v1/", False)]),
        ("POST", "/v1/", False),
        ("GET", "/readyz", False),
        ("GET", "/healthz", False),
    ]
