"""The suite's own parts do what the tests rest on: the guard guards, servers misbehave on request, stores are fresh."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pycurl
import pytest
import requests
from sqlalchemy import text

from monitor_cli import schema
from tests import conftest
from tests.support import network_guard
from tests.support.cli import Cli, Result, Running
from tests.support.http import Answer, Receiver, StatusPage
from tests.support.mariadb import MariaDB
from tests.support.stores import Store
from tests.support.world import World

OUTSIDE = "192.0.2.1"  # TEST-NET-1: nothing is there, and the guard must not let us find out


# --- the guard --------------------------------------------------------------------------------------------------------


def _connect() -> None:
    socket.create_connection((OUTSIDE, 80), timeout=1)


def _connect_ex() -> None:
    with socket.socket() as sock:
        sock.connect_ex((OUTSIDE, 80))


def _datagram() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", (OUTSIDE, 53))


def _connect_v6() -> None:
    with socket.socket(socket.AF_INET6) as sock:
        sock.connect(("2001:db8::1", 80))


def _look_up() -> None:
    socket.getaddrinfo("monitor-cli-guard-test.org", 80)


def _requests() -> None:
    requests.get(f"http://{OUTSIDE}/", timeout=1)


def _pycurl() -> None:
    handle = pycurl.Curl()
    handle.setopt(pycurl.URL, f"http://{OUTSIDE}/")
    handle.setopt(pycurl.TIMEOUT_MS, 1000)
    with pytest.raises(pycurl.error):
        handle.perform()
    raise network_guard.NetworkBlocked


@pytest.mark.parametrize(
    "attempt", [_connect, _connect_ex, _datagram, _connect_v6, _look_up, _requests, _pycurl], ids=lambda f: f.__name__
)
def test_an_attempt_to_leave_is_refused_and_recorded(attempt: object) -> None:
    with pytest.raises(network_guard.NetworkBlocked):
        attempt()  # type: ignore[operator]
    assert len(network_guard.taken()) == 1


def test_a_child_process_is_guarded_and_reports(tmp_path: Path) -> None:
    script = f"import socket; socket.create_connection(('{OUTSIDE}', 80), 1)"
    report = tmp_path / "report"
    env = network_guard.child_environment(str(report))
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert "NetworkBlocked" in done.stderr
    assert report.read_text() == f"connection to {OUTSIDE} port 80\n"


def test_a_swallowed_refusal_still_fails_the_test(tmp_path: Path) -> None:
    test = tmp_path / "test_leaks.py"
    test.write_text(
        "import socket\n"
        "def test_leaks():\n"
        "    try:\n"
        f"        socket.create_connection(('{OUTSIDE}', 80), 1)\n"
        "    except Exception:\n"
        "        pass\n"
    )
    root = Path(__file__).parent.parent
    (tmp_path / "conftest.py").write_text(
        f"import sys; sys.path.insert(0, {str(root)!r})\nfrom tests.conftest import *\n"
        "from tests.conftest import pytest_runtest_call\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    assert "the network guard refused" in done.stdout


def test_names_of_the_reserved_kind_are_answered_here(hosts: dict[str, list[str]], receiver: Receiver) -> None:
    hosts["customer.test"] = ["127.0.0.1"]
    url = receiver.url("/hook", host="customer.test")
    assert requests.post(url, data=b"x", timeout=5).status_code == 200
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("nobody.test", 80)


# --- HTTP servers -----------------------------------------------------------------------------------------------------


def test_the_receiver_records_what_came_over_the_wire(receiver: Receiver) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", receiver.port)
    connection.request("POST", "/hook?a=%7e&b=", body=b"data=%5B%5D", headers={"X-Custom": "Ü".encode()})
    assert connection.getresponse().read() == b""
    connection.request("GET", "/other")
    assert connection.getresponse().status == 200
    first, second = receiver.wait(2)
    assert (first.method, first.target, first.body) == ("POST", "/hook?a=%7e&b=", b"data=%5B%5D")
    assert first.header("x-custom") == "Ü".encode().decode("latin-1")
    assert (second.connection, second.path) == (first.connection, "/other")
    connection.close()


def test_the_receiver_answers_as_scripted(receiver: Receiver) -> None:
    receiver.answer("/hook", 500, Answer(429, headers=[("Retry-After", "7")]), 204)
    answers = [requests.post(receiver.url("/hook"), timeout=5) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [500, 429, 204, 204]
    assert answers[1].headers["Retry-After"] == "7"


@pytest.mark.parametrize("drop", ["before", "after"])
def test_the_receiver_drops_connections(receiver: Receiver, drop: str) -> None:
    receiver.answer("/hook", Answer(drop=drop))  # type: ignore[arg-type]
    with pytest.raises(requests.ConnectionError):
        requests.post(receiver.url("/hook"), data=b"x" * 10, timeout=5)
    assert receiver.wait(1)[0].body == (b"" if drop == "before" else b"x" * 10)


def test_the_receiver_drips_truncates_and_hangs_up(receiver: Receiver) -> None:
    receiver.answer("/slow", Answer(body=b"x" * 1000, drip=0.05))
    with pytest.raises(requests.Timeout):
        requests.get(receiver.url("/slow"), timeout=(5, 0.01))
    receiver.answer("/short", Answer(body=b"x" * 1000, truncate=10))
    with pytest.raises(requests.RequestException):
        requests.get(receiver.url("/short"), timeout=5)
    receiver.hang_up = True
    with pytest.raises(requests.ConnectionError):
        requests.get(receiver.url("/"), timeout=5)


def test_the_receiver_counts_requests_in_flight(receiver: Receiver) -> None:
    gate = threading.Event()
    receiver.answer("/hook", Answer(wait=gate))
    threads = [threading.Thread(target=requests.get, args=(receiver.url("/hook"),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    receiver.wait(8)
    gate.set()
    for thread in threads:
        thread.join()
    assert receiver.peak["/hook"] == 8


def test_a_stopped_server_refuses(receiver: Receiver) -> None:
    receiver.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", receiver.port), 1)


def test_the_status_page_serves_documents(status_page: StatusPage) -> None:
    url = status_page.serve("/api/v2/summary.json", {"components": []}, etag=True)
    answer = requests.get(url, timeout=5)
    assert answer.json() == {"components": []}
    again = requests.get(url, headers={"If-None-Match": answer.headers["ETag"]}, timeout=5)
    assert (again.status_code, again.content) == (304, b"")
    assert requests.get(status_page.url("/nothing"), timeout=5).status_code == 404
    chunked = status_page.serve("/chunked", b"[1,2,3]", chunked=True)
    assert requests.get(chunked, timeout=5).json() == [1, 2, 3]


# --- stores -----------------------------------------------------------------------------------------------------------


def test_an_empty_store_has_no_tables(engine: Store) -> None:
    statement = "SELECT name FROM sqlite_master" if engine.name == "sqlite" else "SHOW TABLES"
    with engine.read() as conn:
        assert conn.execute(text(statement)).all() == []


@pytest.mark.parametrize("again", [1, 2])
def test_each_test_has_a_fresh_upgraded_database(database: Store, world: World, again: int) -> None:
    database.database.check_revision()
    server = world.server()
    assert server == 1
    change = world.flag(server, "critical")
    assert change == 1
    assert world.server_row(server).status_report == 1
    assert [row.from_type for row in world.changes()] == ["operational"]
    account = world.account("acme")
    world.number(account, "+1", "+2", channel=7)
    callback = world.callback(account, "http://127.0.0.1:1/hook")
    assert world.callback_row(callback).hears_from == change
    assert [row.number for row in world.rows(schema.number)] == ["+1", "+2"]
    assert world.owed() == []


def test_a_mariadb_server_survives_its_kill(own_mariadb: MariaDB) -> None:
    url = own_mariadb.create_database("kept")
    own_mariadb.execute("CREATE TABLE t (a INT)", "INSERT INTO t VALUES (7)", database="kept")
    own_mariadb.kill()
    assert own_mariadb.pid == 0
    own_mariadb.start()
    assert own_mariadb.url("kept") == url
    assert own_mariadb.execute("SELECT a FROM t", database="kept") == [(7,)]


def test_two_servers_at_once(mariadb: MariaDB) -> None:
    started = time.monotonic()
    with MariaDB() as other:
        assert other.port != mariadb.port
        directory = other.directory
    assert not directory.exists()
    assert time.monotonic() - started < 120


# --- the command line -------------------------------------------------------------------------------------------------


def test_the_command_line_runs_in_this_process_and_as_its_own(
    make_cli: Callable[[str | None], Cli], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONITOR_CONFIG", "/nowhere")  # not the test's business
    cli = make_cli(None)
    before = dict(os.environ), Path.cwd(), sys.stdout
    inside, outside = cli("--version"), cli.process("--version")
    assert inside == outside
    assert (inside.code, inside.err) == (0, "")
    assert inside.out.startswith("monitor-cli")
    wrong = cli("no-such-command")
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong == cli.process("no-such-command")
    assert "MONITOR_CONFIG" not in cli.environment()
    assert (dict(os.environ), Path.cwd(), sys.stdout) == before


def test_a_process_that_is_stopped_and_killed(tmp_path: Path) -> None:
    script = [sys.executable, "-c", "import sys, time; print('up', flush=True); time.sleep(60)"]
    running = Running(script, {}, None, tmp_path)
    while running.output() != ("up\n", ""):
        time.sleep(0.01)
    running.stop()
    assert not running.ended
    assert running.kill() == Result(-signal.SIGKILL, "up\n", "")
    assert running.terminate().code == -signal.SIGKILL


# --- several workers --------------------------------------------------------------------------------------------------


def test_the_files_that_are_begun_first_are_there() -> None:
    assert [name for name in conftest.LONGEST if not (Path(conftest.__file__).parent / name).is_file()] == []
    assert conftest.pytest_xdist_auto_num_workers() >= 2
