"""serve-api as it runs: the real process, real sockets, signals."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import pymysql
import pytest
from sqlalchemy.engine import make_url

from monitor_cli import migrate, schema, serve
from monitor_cli.db import Database
from tests.support.cli import Cli, Running
from tests.support.mariadb import MariaDB
from tests.support.ports import free_port
from tests.support.stores import Store
from tests.support.world import World

KEY = "secret-key"
GOOD = f"/v1/?api_key={KEY}&method=monitor"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
DATA = (
    b'{"status":"200","message":"OK","data":{"incidents":[{"region":"karnataka","region_code":"KA-IN",'
    b'"type":"warning","service":"all","numbers":["+1"]}]}}'
)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Serving:
    """A serve-api process on a free port."""

    def __init__(self, running: Running) -> None:
        self.running = running
        end = time.monotonic() + 60
        while not (found := re.search(r"http://(\S+):(\d+)/v1/", running.output()[1])):
            assert time.monotonic() < end, running.output()
            assert not running.ended, running.output()
            time.sleep(0.02)
        self.host, self.port = found[1], int(found[2])
        assert self("/healthz").status == 200  # at once: it tells its address when it takes connections there

    def __call__(
        self, target: str, method: str = "GET", body: Any = None, timeout: float = 30, **headers: str
    ) -> Answer:
        with closing(http.client.HTTPConnection(self.host.strip("[]"), self.port, timeout=timeout)) as connection:
            connection.request(method, target, body, {name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=30)


@pytest.fixture
def acme(world: World) -> int:
    world.server(channel=1, final_status="warning")
    account = world.account("acme", key=KEY)
    world.number(account, "+1", channel=1)
    return account


@pytest.fixture
def start(cli: Cli) -> Callable[..., Serving]:
    return lambda *args, options=(), **env: Serving(
        cli.start(*options, "serve-api", "--port", "0", "--workers", "2", *args, env=env)
    )


@pytest.fixture
def serving(acme: int, start: Callable[..., Serving]) -> Iterator[Serving]:
    server = start()
    yield server
    server.running.terminate()


def test_every_row_of_the_table(serving: Serving, world: World):
    world.account("unsubscribed", key="unsubscribed", subscribed=None)
    world.account("empty", key="empty")
    unknown = b'{"status":"401","message":"The API key is missing or unknown"}'
    for target, status, start_of_body in (
        (GOOD, 200, DATA),
        (f"{GOOD}&format=json", 200, DATA),
        (f"/v1?api_key={KEY}&method=monitor", 200, DATA),
        (f"{GOOD}&format=xml", 200, b'<?xml version="1.0" encoding="utf-8"?><api><status>200</status>'),
        ("/v1/?api_key=unsubscribed&method=monitor", 200, b'{"status":"E542"'),
        ("/v1/?api_key=empty&method=monitor", 200, b'{"status":"E701"'),
        ("/v1/?api_key=wrong&method=monitor", 401, unknown),
        ("/v1/", 401, unknown),
        (f"/v1/?api_key={KEY}&method=x", 400, b'{"status":"400","message":"Unknown method'),
        (f"{GOOD}&format=x", 400, b'{"status":"400","message":"Unknown format'),
        (f"{GOOD}&api_key={KEY}", 400, b'{"status":"400","message":"The parameter api_key'),
        ("/v1/?api_key=%FF&method=monitor", 400, b'{"status":"400","message":"The parameter api_key'),
        ("/other", 404, b'{"status":"404"'),
        ("/healthz", 200, b'{"status":"200","message":"OK"}'),
        ("/readyz", 200, b'{"status":"200","message":"OK"}'),
    ):
        answer = serving(target)
        assert (answer.status, answer.body[: len(start_of_body)]) == (status, start_of_body), target
        assert answer.headers["content-length"] == str(len(answer.body))
    refused = serving(GOOD, "DELETE")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, POST")
    form = f"api_key={KEY}&method=monitor"
    assert serving("/v1/", "POST", form, **FORM).body == DATA
    assert serving("/v1/", "POST", iter([form[:5].encode(), form[5:].encode()]), **FORM).body == DATA  # chunked
    assert serving("/v1/?method=monitor", x_api_key=KEY).body == DATA
    assert serving(GOOD, x_api_key="other").status == 400
    head = serving(GOOD, "HEAD")
    assert (head.status, head.headers["content-length"], head.body) == (200, str(len(DATA)), b"")
    etag = head.headers["etag"]
    unchanged = serving(GOOD, if_none_match=etag)
    assert (unchanged.status, unchanged.body, unchanged.headers["etag"]) == (304, b"", etag)


def test_it_says_where_it_serves_and_one_line_a_request(serving: Serving, acme: int):
    assert serving(GOOD).status == 200
    result = serving.running.terminate()
    assert (result.code, result.out) == (0, "")
    said, line = result.err.splitlines()
    assert said == f"monitor-cli: serving http://127.0.0.1:{serving.port}/v1/ with 2 workers"
    assert re.fullmatch(
        r"api\.request request_id=[0-9a-f]{16} method=GET route=/v1/ http_status=200 status=200"
        rf" duration_ms=[0-9.]+ account_id={acme} client=127\.0\.0\.1",
        line,
    )


def test_interrupted_and_quiet(acme: int, cli: Cli):
    port = free_port()
    running = cli.start("-q", "serve-api", "--host", "localhost", "--port", str(port), "--workers", "1")
    with ExitStack() as held:
        end = time.monotonic() + 60
        while True:
            assert time.monotonic() < end, running.output()
            assert not running.ended, running.output()
            try:
                held.enter_context(socket.create_connection(("127.0.0.1", port), 5))
                break
            except OSError:
                time.sleep(0.02)
    running.signal(signal.SIGINT)
    running.wait().quiet()


def test_told_to_stop_while_it_starts(acme: int, cli: Cli):
    for seconds in (0.0, 0.02, 0.1):
        running = cli.start("serve-api", "--port", "0", "--workers", "2")
        until(lambda started=running: "/v1/" in started.output()[1])
        time.sleep(seconds)
        started = time.monotonic()
        assert running.terminate().code == 0
        assert time.monotonic() - started < serve.STOP_SECONDS - 5


def test_the_key_reaches_no_log(acme: int, start: Callable[..., Serving]):
    server = start(options=("-vv", "--log-format", "json"))
    server(GOOD)
    server("/v1/?api_key=another-key&method=monitor")
    server(f"{GOOD}&format=x")
    server("/v1/?method=monitor", x_api_key=KEY)
    server("/v1/", "POST", f"api_key={KEY}&method=monitor", **FORM)
    result = server.running.terminate()
    assert KEY not in result.out + result.err
    assert "another-key" not in result.out + result.err
    assert result.out == ""


def test_a_port_in_use_is_told(serving: Serving, cli: Cli):
    second = cli.process("serve-api", "--port", str(serving.port))
    assert (second.code, second.out) == (1, "")
    assert f"cannot listen on 127.0.0.1 port {serving.port}: Address already in use" in second.err
    assert "Traceback" not in second.err
    assert serving(GOOD).status == 200


@pytest.mark.parametrize("host", ["203.0.113.1", "no-such-host.test"])
def test_an_address_that_is_not_ours_is_told(sqlite_database: Store, make_cli: Callable[..., Cli], host: str):
    result = make_cli(sqlite_database.url)("serve-api", "--host", host, "--port", "0")
    assert result.code == 1
    assert f"cannot listen on {host} port 0" in result.err


def test_bad_options(sqlite_database: Store, make_cli: Callable[..., Cli]):
    cli = make_cli(sqlite_database.url)
    assert cli("serve-api", "--port", "70000").code == 2
    assert cli("serve-api", "--workers", "0").code == 2


def test_a_database_without_tables_is_told_at_the_start(make_cli: Callable[..., Cli], tmp_path: Any):
    result = make_cli(f"sqlite:///{tmp_path}/none.db")("serve-api", "--port", "0")
    assert result.code == 78
    assert "db upgrade" in result.err


def test_it_starts_while_the_database_is_away_and_heals(own_mariadb: MariaDB, make_cli: Callable[..., Cli]):
    url = own_mariadb.create_database()
    migrate.upgrade(url)
    database = Database(url)
    world = World(database)
    world.server(channel=1, final_status="warning")
    world.number(world.account("acme", key=KEY), "+1", channel=1)
    database.close()
    own_mariadb.kill()
    server = Serving(make_cli(url).start("serve-api", "--port", "0", "--workers", "1"))
    away = server(GOOD)
    assert (away.status, away.headers["retry-after"]) == (503, "5")
    assert server("/readyz").status == 503
    own_mariadb.start()
    until(lambda: server(GOOD).body == DATA)
    own_mariadb.kill()
    until(lambda: server(GOOD).status == 503)
    own_mariadb.start()
    until(lambda: server(GOOD).body == DATA)
    assert server.running.terminate().code == 0


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_sigterm_answers_the_request_in_flight(database: Store, serving: Serving):
    if database.name == "sqlite":
        pytest.skip("SQLite has no lock that a reader waits for")
    url = make_url(database.url)
    lock = pymysql.connect(
        host=url.host, port=url.port or 0, user=url.username, password=url.password or "", database=url.database
    )
    answers: list[Answer] = []
    with closing(lock), lock.cursor() as cursor, serving.connect() as idle, serving.connect() as half:
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        idle.recv(9999)
        half.sendall(b"GET /healthz HT")
        cursor.execute(f"LOCK TABLES {schema.account.name} WRITE")
        waiting = threading.Thread(target=lambda: answers.append(serving(GOOD)))
        waiting.start()
        cursor.execute("SELECT 1")
        waits = "SELECT COUNT(*) FROM information_schema.processlist WHERE db=DATABASE() AND state LIKE '%lock%'"
        until(lambda: cursor.execute(waits) and cursor.fetchall()[0][0] > 0)
        serving.running.signal(signal.SIGTERM)
        time.sleep(0.5)
        workers = Path(f"/proc/{serving.running.pid}/task/{serving.running.pid}/children").read_text().split()
        for pid in workers:  # told again, as by Ctrl-C in a terminal or an impatient init
            os.kill(int(pid), signal.SIGTERM)
            os.kill(int(pid), signal.SIGINT)
        time.sleep(0.5)
        assert answers == []
        assert not serving.running.ended
        cursor.execute("UNLOCK TABLES")
        waiting.join(30)
    assert [(answer.status, answer.body) for answer in answers] == [(200, DATA)]
    assert serving.running.wait(60).code == 0


def test_a_database_that_does_not_answer_stops_nothing_else(database: Store, acme: int, start: Callable[..., Serving]):
    if database.name == "sqlite":
        pytest.skip("SQLite has no lock that a reader waits for")
    serving = start("--workers", "1")
    for _ in range(5):  # from the second on by the event loop's own thread
        assert serving(GOOD).body == DATA
    url = make_url(database.url)
    lock = pymysql.connect(
        host=url.host, port=url.port or 0, user=url.username, password=url.password or "", database=url.database
    )
    answers: list[Answer] = []
    with closing(lock), lock.cursor() as cursor:
        cursor.execute(f"LOCK TABLES {schema.account.name} WRITE")
        waiting = [threading.Thread(target=lambda: answers.append(serving(GOOD))) for _ in range(3)]
        for one in waiting:
            one.start()
        for _ in range(20):
            assert serving("/healthz", timeout=5).status == 200
        assert answers == []
        cursor.execute("UNLOCK TABLES")
        for one in waiting:
            one.join(30)
    assert [(answer.status, answer.body) for answer in answers] == [(200, DATA)] * 3


def test_dripping_clients_do_not_stop_others(serving: Serving):
    with ExitStack() as held:
        for n in range(500):
            client = held.enter_context(serving.connect())
            client.sendall(b"GET /v1/?api_key= HTTP/1.1\r\nHost: x\r\nX-" if n % 2 else b"G")
        for _ in range(40):
            client = held.enter_context(serving.connect())
            client.sendall(
                b"POST /v1/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
                b"Content-Type: application/x-www-form-urlencoded\r\n\r\nap"
            )
        for _ in range(20):
            started = time.monotonic()
            assert serving(GOOD).body == DATA
            assert time.monotonic() - started < 10
    until(lambda: serving("/v1/", "POST", f"api_key={KEY}&method=monitor", **FORM).body == DATA)


RAW = [
    b"GET /v1/?api_key=\xff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /v1/?api_key=é HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode(),
    b"GET /%ff%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET /v1/ HTTP/1.1\r\nHost: x\r\nx-api-key: \xff\xfe\r\nConnection: close\r\n\r\n",
    b"GET /v1/ HTTP/1.1\r\nHost: x\r\nx-api-key: a\r\nx-api-key: b\r\nConnection: close\r\n\r\n",
    b"POST /v1/ HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
    b"POST /v1/ HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b'POST /v1/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\n{"a":',
    b"POST /v1/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\nzz\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"TRACE /v1/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET http://x/v1/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET /v1/?" + b"a" * 90_000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET /v1/ HTTP/1.0\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    b"\r\n\r\n\r\nGARBAGE\r\n\r\n",
]


def test_nothing_that_can_be_sent_is_a_failure_of_ours(serving: Serving):
    for sent in RAW:
        with serving.connect() as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            received = b""
            try:
                while more := client.recv(65536):
                    received += more
            except ConnectionResetError:
                pass
        assert not received or received.split(b" ", 2)[1][:1] in (b"2", b"4"), (sent[:80], received[:200])
    assert serving(GOOD).body == DATA
    assert "Traceback" not in serving.running.output()[1]


def test_workers_end_with_a_main_process_that_is_killed(serving: Serving):
    serving.running.signal(signal.SIGKILL)
    assert serving.running.wait().code == -signal.SIGKILL

    def gone() -> bool:
        try:
            serving.connect().close()
        except OSError as error:
            return isinstance(error, ConnectionRefusedError)
        return False

    until(gone)


def test_a_worker_that_dies_is_replaced(serving: Serving):
    main = serving.running.pid

    def children() -> list[str]:
        return Path(f"/proc/{main}/task/{main}/children").read_text().split()

    until(lambda: len(children()) == 2)
    workers = children()
    os.kill(int(workers[0]), signal.SIGKILL)

    def answered() -> bool:
        try:
            return all(serving(GOOD).body == DATA for _ in range(5))
        except (OSError, http.client.HTTPException):
            return False

    until(lambda: workers != children() and answered())
    assert serving.running.terminate().code == 0
