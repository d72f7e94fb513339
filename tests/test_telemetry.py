"""What others' tools are told of a run: the textfile for Prometheus, and the pings; neither fails or delays a run."""

from __future__ import annotations

import os
import re
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from monitor_cli.delivery.tally import RESULTS, Tally
from monitor_cli.telemetry import ping, textfile
from monitor_cli.telemetry.observer import Job, Observer
from tests.support.cli import Cli
from tests.support.http import Answer, Receiver, StatusPage
from tests.support.stores import Store
from tests.support.world import World
from tests.test_sync import page

DOCS = (Path(__file__).resolve().parent.parent / "docs" / "operations.md").read_text("utf-8")
LITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)  # of what has nothing to do with the store
LOCAL = {
    "MONITOR_ALLOW_NETWORKS": "127.0.0.0/8",
    "MONITOR_MAX_SECONDS": "3",
}  # under the first retry, over what a busy machine needs
Metrics = dict[tuple[str, tuple[str, ...]], float]


def read(path: Path) -> Metrics:
    """A textfile's values by name and the values of the labels; fails unless it is as node_exporter reads it."""
    text = path.read_text("utf-8")
    assert text.endswith("\n")
    found: Metrics = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type == "gauge"
        for sample in family.samples:
            key = sample.name, tuple(sample.labels.values())
            assert key not in found
            found[key] = sample.value
    return found


def names(metrics: Metrics) -> set[str]:
    return {name for name, _ in metrics}


def documented(command: str) -> set[str]:
    """The metrics that docs/operations.md lists for a command."""
    section = DOCS.partition(f"### Metrics of {command}")[2].partition("\n#")[0]
    return set(re.findall(r"^\| `(monitor_cli_\w+)", section, re.MULTILINE))


# --- the textfile of incident-sync ------------------------------------------------------------------------------------


def test_incident_sync_writes_a_textfile(cli: Cli, world: World, status_page: StatusPage, tmp_path: Path) -> None:
    path = tmp_path / "sync.prom"
    world.server(tag="a")
    world.server(tag="b")
    url = status_page.serve("/s.json", page({"a": "wobbly"}))
    before = time.time()
    cli.ok("incident-sync", "--url", url, "--textfile", str(path))
    found = read(path)
    assert names(found) == documented("incident-sync")
    source = f"127.0.0.1:{status_page.port}/s.json"
    assert found["monitor_cli_sync_exit_code", ()] == 0
    assert found["monitor_cli_sync_servers", ()] == 2
    assert found["monitor_cli_sync_servers_written", ()] == 1
    assert before - 60 < found["monitor_cli_sync_last_run_timestamp_seconds", ()] < time.time() + 60
    assert found["monitor_cli_source_up", (source,)] == 1
    assert found["monitor_cli_servers", ("warning",)] == found["monitor_cli_servers", ("operational",)] == 1
    assert found["monitor_cli_unknown_words", ()] == found["monitor_cli_missing_components", ()] == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [found.name for found in tmp_path.iterdir() if "prom" in found.name] == ["sync.prom"]


def test_a_failed_run_keeps_when_one_ended_well(
    cli: Cli, world: World, status_page: StatusPage, tmp_path: Path
) -> None:
    path = tmp_path / "sync.prom"
    env = {"MONITOR_INCIDENT_SYNC_TEXTFILE": str(path)}
    url = status_page.serve("/s.json", page({}))
    cli.ok("incident-sync", "--url", url, env=env)
    well = read(path)["monitor_cli_sync_last_success_timestamp_seconds", ()]
    status_page.serve("/s.json", status=500)
    assert cli("incident-sync", "--url", url, env=env).code == 75
    found = read(path)
    assert found["monitor_cli_sync_last_success_timestamp_seconds", ()] == well
    assert found["monitor_cli_sync_last_run_timestamp_seconds", ()] > well
    assert found["monitor_cli_sync_exit_code", ()] == 75
    assert found["monitor_cli_source_up", (f"127.0.0.1:{status_page.port}/s.json",)] == 0


def test_without_a_database_it_says_that_it_failed(make_cli: Callable[[str], Cli], tmp_path: Path) -> None:
    path = tmp_path / "sync.prom"
    cli = make_cli("mysql+pymysql://u:p@127.0.0.1:1/x")
    env = {"MONITOR_INCIDENT_URL": "http://127.0.0.1:1/"}
    assert cli("incident-sync", "--textfile", str(path), env=env).code == 75
    assert read(path)["monitor_cli_sync_exit_code", ()] == 75
    assert "monitor_cli_sync_last_success_timestamp_seconds" not in names(read(path))
    assert cli("callback-run", "--textfile", str(path)).code == 75
    assert read(path)["monitor_cli_callback_run_exit_code", ()] == 75


# --- the textfile of callback-run -------------------------------------------------------------------------------------


@pytest.fixture
def site(world: World, receiver: Receiver) -> World:
    """A server that is critical, and three callbacks: one that takes it, one that fails, one that is inactive."""
    world.server(channel=1)
    world.number(world.account("acme"), "+1", channel=1)
    world.callback(1, receiver.url("/well"), raw_json=True)
    world.callback(1, receiver.url("/ill"), raw_json=True)
    world.callback(1, receiver.url("/asleep"), raw_json=True, active=False)
    receiver.answer("/ill", Answer(500))
    world.flag(1, "critical")
    return world


@pytest.mark.parametrize("processes", ["1", "3"])
def test_callback_run_writes_a_textfile(cli: Cli, site: World, tmp_path: Path, processes: str) -> None:
    path = tmp_path / "run.prom"
    env = {**LOCAL, "MONITOR_PROCESSES": processes, "MONITOR_CALLBACK_RUN_TEXTFILE": str(path)}
    cli.process("callback-run", env=env).quiet()
    found = read(path)
    assert names(found) == documented("callback-run")
    assert found["monitor_cli_callback_run_exit_code", ()] == 0
    requests = {of: value for (name, of), value in found.items() if name == "monitor_cli_callback_run_requests"}
    assert requests == {**{(result,): 0 for result in RESULTS}, ("done",): 1, ("retry",): 1}
    assert found["monitor_cli_callbacks", ("active",)] == 2
    assert found["monitor_cli_callbacks_failing", ()] == found["monitor_cli_callbacks_owed", ()] == 1
    assert found["monitor_cli_callbacks_kept", ()] == 1
    assert found["monitor_cli_waiting_age_seconds", ()] == 0


@LITE
def test_run_helper_writes_it_too(cli: Cli, site: World, tmp_path: Path) -> None:
    env = {**LOCAL, "MONITOR_CALLBACK_RUN_TEXTFILE": str(tmp_path / "run.prom")}
    cli.ok("run-helper", "helper=Callback", env=env)
    assert read(tmp_path / "run.prom")["monitor_cli_callback_run_requests", ("done",)] == 1


def test_a_run_that_stays_writes_from_time_to_time(cli: Cli, site: World, receiver: Receiver, tmp_path: Path) -> None:
    path = tmp_path / "run.prom"
    env = {**LOCAL, "MONITOR_CALLBACK_RUN_PING_URL": receiver.url("/ping")}
    running = cli.start("callback-run", "--watch", "--textfile", str(path), env=env)
    receiver.wait(1, "/ping/start")
    receiver.wait(1, "/ping")  # a second after it began
    assert read(path)["monitor_cli_callback_run_exit_code", ()] == 0
    receiver.wait(1, "/well")
    receiver.wait(1, "/ill")
    running.terminate().quiet()
    assert read(path)["monitor_cli_callback_run_requests", ("done",)] == 1
    assert len(receiver.to("/ping")) == 2
    assert not receiver.to("/ping/fail")


# --- a textfile that cannot be written --------------------------------------------------------------------------------


@LITE
def test_a_textfile_that_cannot_be_written_is_one_line(cli: Cli, site: World, tmp_path: Path) -> None:
    place = tmp_path / "absent" / "x.prom"
    result = cli.ok("callback-run", "--textfile", str(place), env=LOCAL)
    assert (result.out, result.err) == ("", f'textfile.failed path={place} reason="No such file or directory"\n')
    assert not site.owed(1)
    (tmp_path / "folder").mkdir()
    result = cli.ok("callback-run", "--textfile", str(tmp_path / "folder"), env=LOCAL)
    assert result.err.startswith("textfile.failed ")
    assert result.err.count("\n") == 1
    assert not list(tmp_path.glob("*.tmp"))  # nothing half-written is left


def test_readers_see_a_whole_file_at_any_time(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    label = "s" * 200
    metrics = [textfile.gauges("a_b", "Text.", "of", ((f"{label}{n}", 1.0) for n in range(200)))]
    textfile.write(str(path), metrics)
    whole = path.read_bytes()
    seen: set[bytes] = set()
    others: set[str] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.add(path.read_bytes())
            others.update(found.name for found in tmp_path.glob("*.prom"))  # what node_exporter reads

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(50):
        textfile.write(str(path), metrics)
    stop.set()
    reader.join()
    assert seen == {whole}
    assert others == {"x.prom"}


def test_the_last_value_of_what_is_no_textfile(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    assert textfile.last_value(str(path), "a") is None
    for content in (b"", b"\xff\xfe", b"a {{{\n", b"b 1\n"):
        path.write_bytes(content)
        assert textfile.last_value(str(path), "a") is None
    path.write_text("a 2.5\n")
    assert textfile.last_value(str(path), "a") == 2.5


def test_labels_are_escaped(tmp_path: Path) -> None:
    name = 'a "quoted"\\ name\nof two lines'
    textfile.write(str(tmp_path / "x.prom"), [textfile.gauges("a_b", "Text.", "of", [(name, 1.0)])])
    assert read(tmp_path / "x.prom") == {("a_b", (name,)): 1}


@LITE
def test_a_dry_run_tells_nobody(cli: Cli, world: World, receiver: Receiver, tmp_path: Path) -> None:
    place = tmp_path / "metrics"
    place.mkdir()
    env = {
        "MONITOR_CALLBACK_RUN_PING_URL": receiver.url("/p"),
        "MONITOR_INCIDENT_SYNC_PING_URL": receiver.url("/p"),
        "MONITOR_CALLBACK_RUN_TEXTFILE": str(place / "a.prom"),
        "MONITOR_INCIDENT_SYNC_TEXTFILE": str(place / "b.prom"),
    }
    cli.ok("callback-run", "--dry-run", env=env)
    cli("incident-sync", "--url", "http://127.0.0.1:1/", "--dry-run", env=env)
    for command in (["callback-run"], ["incident-sync", "--url", "http://127.0.0.1:1/"]):
        assert cli(*command, "--dry-run", "--textfile", "x").code == 2
    cli("incident-sync", "--url", "no url", env=env)  # a typing error is no run
    assert receiver.requests == []
    assert os.listdir(place) == []


# --- pings ------------------------------------------------------------------------------------------------------------


@LITE
def test_pings_of_a_run(cli: Cli, world: World, receiver: Receiver, status_page: StatusPage) -> None:
    env = {"MONITOR_INCIDENT_SYNC_PING_URL": receiver.url("/uuid?rid=1")}
    url = status_page.serve("/s.json", page({}))
    cli("incident-sync", "--url", url, env=env).quiet()
    assert [r.target for r in receiver.requests] == ["/uuid/start?rid=1", "/uuid?rid=1"]
    assert {r.method for r in receiver.requests} == {"GET"}
    receiver.clear()
    status_page.serve("/s.json", status=500)
    assert cli("incident-sync", "--url", url, env=env).code == 75
    assert [r.target for r in receiver.requests] == ["/uuid/start?rid=1", "/uuid/fail?rid=1"]


@LITE
@pytest.mark.parametrize("processes", ["1", "2"])
def test_pings_of_callback_run(cli: Cli, site: World, receiver: Receiver, tmp_path: Path, processes: str) -> None:
    (tmp_path / "url").write_text(receiver.url("/uuid") + "\n")
    env = {**LOCAL, "MONITOR_PROCESSES": processes, "MONITOR_CALLBACK_RUN_PING_URL_FILE": str(tmp_path / "url")}
    cli.process("callback-run", env=env).quiet()
    assert [r.path for r in receiver.requests if "uuid" in r.path] == ["/uuid/start", "/uuid"]


def test_a_run_that_cannot_begin_pings_fail(make_cli: Callable[[str], Cli], receiver: Receiver) -> None:
    cli = make_cli("mysql+pymysql://u:p@127.0.0.1:1/x")
    assert cli("callback-run", env={"MONITOR_CALLBACK_RUN_PING_URL": receiver.url("/uuid")}).code == 75
    assert [r.path for r in receiver.requests] == ["/uuid/fail"]


@LITE
@pytest.mark.parametrize(
    "answer", [Answer(500), Answer(drop="before"), Answer(301, headers=[("Location", "/uuid/start")])]
)
def test_a_failing_ping_is_silent_and_fails_nothing(cli: Cli, site: World, receiver: Receiver, answer: Answer) -> None:
    receiver.answer("/uuid", answer)
    receiver.answer("/uuid/start", answer)
    env = {**LOCAL, "MONITOR_CALLBACK_RUN_PING_URL": receiver.url("/uuid")}
    cli("callback-run", env=env).quiet()
    result = cli.ok("-v", "callback-run", env=env)
    assert "ping.failed what=start " in result.err
    assert "uuid" not in result.err  # whoever knows the URL can ping it


@LITE
def test_nobody_listens(cli: Cli, site: World) -> None:
    result = cli.ok("-v", "callback-run", env={**LOCAL, "MONITOR_CALLBACK_RUN_PING_URL": "http://127.0.0.1:1/uuid"})
    assert 'ping.failed what=success reason="cannot be reached: Connection refused"' in result.err


def test_a_ping_that_drips_is_cut_off(receiver: Receiver) -> None:
    receiver.answer(None, Answer(200, b"x" * 100, drip=0.1))
    started = time.monotonic()
    pinger = ping.Pinger(receiver.url("/uuid"), total_seconds=0.5)
    pinger.start()
    pinger.close()
    assert time.monotonic() - started < 5
    with pytest.raises(requests.RequestException):
        ping.send(receiver.url("/uuid"), 0.3)
    assert time.monotonic() - started < 10


@LITE
def test_a_ping_without_an_answer_holds_up_no_run(cli: Cli, site: World, receiver: Receiver) -> None:
    never = threading.Event()
    receiver.answer("/uuid/start", Answer(wait=never))
    receiver.answer("/uuid", Answer(wait=never))
    started = time.monotonic()
    cli("callback-run", env={**LOCAL, "MONITOR_CALLBACK_RUN_PING_URL": receiver.url("/uuid")}).quiet()
    never.set()
    assert time.monotonic() - started < 30
    assert receiver.to("/well")


@LITE
@pytest.mark.parametrize("value", ["nonsense", "ftp://x/", "https:///uuid", "https://a b/"])
def test_a_url_that_is_none_is_refused_without_its_text(cli: Cli, value: str) -> None:
    result = cli("config", "check", env={"MONITOR_CALLBACK_RUN_PING_URL": value})
    assert result.code == 78
    assert "callback_run_ping_url is no http or https URL" in result.err
    assert value not in result.err


@LITE
def test_one_textfile_for_both_is_refused(cli: Cli) -> None:
    names = ("MONITOR_INCIDENT_SYNC_TEXTFILE", "MONITOR_CALLBACK_RUN_TEXTFILE")
    result = cli("config", "check", env=dict.fromkeys(names, "/x/a.prom"))
    assert result.code == 78
    assert "name one file" in result.err


@LITE
def test_a_file_that_is_absent_holds_up_no_run(cli: Cli, site: World, receiver: Receiver) -> None:
    env = {"MONITOR_CALLBACK_RUN_PING_URL_FILE": "/nonexistent/url"}
    result = cli.ok("callback-run", env={**LOCAL, **env})
    assert result.err.startswith("ping.unusable ")
    assert receiver.to("/well")
    assert cli("config", "check", env=env).code == 78


@LITE
def test_the_url_is_shown_nowhere(cli: Cli) -> None:
    env = {"MONITOR_CALLBACK_RUN_PING_URL": "https://hc.test/5a1d"}
    for option in ([], ["--json"]):
        out = cli.ok("config", "show", *option, env=env).out
        assert "5a1d" not in out
        assert "***" in out


# --- a run that stays -------------------------------------------------------------------------------------------------


def observed(url: str, database: Any, still: Callable[[], float]) -> Observer:
    observer = Observer(Job("callback-run", "monitor_cli_callback_run", lambda _conn: ()), url, "")
    observer.stay(database, still, every_seconds=0.1)
    return observer


def test_a_run_that_stays_and_hangs_pings_fail(sqlite_database: Store, receiver: Receiver) -> None:
    still = [0.0]
    observer = observed(receiver.url("/p"), sqlite_database.database, lambda: still[0])
    receiver.wait(2, "/p")
    still[0] = 100.0
    receiver.wait(2, "/p/fail")
    observer.end(0, None)


def test_a_run_that_stays_without_its_database_pings_fail(own_mariadb: Any, receiver: Receiver) -> None:
    from monitor_cli import migrate
    from monitor_cli.db import Database

    url = own_mariadb.create_database()
    migrate.upgrade(url)
    database = Database(url)
    observer = observed(receiver.url("/p"), database, lambda: 0.0)
    receiver.wait(1, "/p")
    own_mariadb.kill()
    receiver.wait(1, "/p/fail")
    observer.end(0, None)
    database.close()


def test_the_tally_counts_over_processes() -> None:
    tally = Tally(2)
    assert tally.still_for(lambda: 50.0) == 0
    tally.row(0).turned(40.0)
    assert tally.still_for(lambda: 50.0) == 0  # the other has not begun
    tally.row(1).turned(49.0)
    assert tally.still_for(lambda: 50.0) == pytest.approx(10)
    if not (pid := os.fork()):
        tally.row(1).count("done")
        os._exit(0)
    os.waitpid(pid, 0)
    tally.row(0).count("done")
    assert tally.sums() == {**dict.fromkeys(RESULTS, 0), "done": 2}
