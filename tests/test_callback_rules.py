"""callback-run's rules through the real command line: when it is tried again, what is kept of it, what is not the
customer's fault, how a run ends, and what the customer receives. On each store where the store has a part in it."""

from __future__ import annotations

import base64
import hmac
import json
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from typing import Any

import pytest
import standardwebhooks
from sqlalchemy import event, insert, update

from monitor_cli import schema
from monitor_cli.delivery import courier
from monitor_cli.dialect import now_ms
from monitor_cli.outbound.resolver import Resolver
from monitor_cli.outbound.signing import new_secret
from monitor_cli.store import claims, due, planning, settling
from monitor_cli.types import Type
from tests.support.cli import SCRIPT, Cli, Result
from tests.support.http import Answer, Receiver, Request
from tests.support.stores import Store
from tests.support.world import SECRET, World

LOCAL = {"MONITOR_ALLOW_NETWORKS": "127.0.0.0/8"}
ONCE = {**LOCAL, "MONITOR_MAX_SECONDS": "3"}  # what is due now: the first retry comes after 4 s at least
FAST = {**LOCAL, "MONITOR_RETRY_SCHEDULE": ",".join(["0.05"] * 7), "MONITOR_MAX_SECONDS": "8"}
NUMBER = "+878788197367616"
DAY_MS = 24 * 3600 * 1000
HOUR_MS = 3600 * 1000

c, d = schema.callback, schema.delivery


@dataclass
class Scene:
    """An account with one number on channel 1, a server there, and where its callbacks lead."""

    world: World
    cli: Cli
    receiver: Receiver
    account: int
    server: int

    def callback(self, path: str = "/hook", **how: Any) -> int:
        how = {"raw_json": True, **how} if "payload" not in how else how
        return self.world.callback(self.account, self.receiver.url(path), **how)

    def flag(self, kind: str) -> None:
        self.world.flag(self.server, kind)

    def run(self, *args: str, env: dict[str, str] = ONCE) -> Result:
        return self.cli(*args, "callback-run", env=env)

    def types(self) -> list[str]:
        """The types that came, in order."""
        return [incident["type"] for r in self.receiver.requests for incident in r.json["data"]["incidents"]]

    def due_now(self, **columns: Any) -> None:
        """As if time had passed."""
        with self.world.database.write() as conn:
            conn.execute(update(d).where(d.c.state == "open").values(due_at=1, not_before=0, **columns))

    def set_callback(self, **columns: Any) -> None:
        with self.world.database.write() as conn:
            conn.execute(update(c).values(**columns))

    @property
    def now(self) -> int:
        with self.world.database.read() as conn:
            return now_ms(conn)


def _scene(world: World, cli: Cli, receiver: Receiver) -> Scene:
    account = world.account("acme")
    world.number(account, NUMBER, channel=1)
    return Scene(world, cli, receiver, account, world.server(channel=1))


@pytest.fixture
def scene(world: World, cli: Cli, receiver: Receiver) -> Scene:
    """On each store."""
    return _scene(world, cli, receiver)


@pytest.fixture
def lite(sqlite_database: Store, make_cli: Callable[[str | None], Cli], receiver: Receiver) -> Scene:
    """On SQLite alone, for what has nothing to do with the store."""
    return _scene(World(sqlite_database), make_cli(sqlite_database.url), receiver)


def many(count: int, start: str = "+91") -> list[str]:
    return [f"{start}{n:09d}" for n in range(count)]


# --- rule 5: when it is tried again ---------------------------------------------------------------------------------


def test_the_default_schedule_with_its_jitter(lite: Scene) -> None:
    lite.callback()
    lite.receiver.answer("/hook", 500)
    lite.flag("critical")
    for tried, seconds in enumerate([5, 300, 1800, 7200, 18000, 36000, 36000]):
        lite.due_now(attempts=tried)
        lite.run().quiet()
        (delivery,) = lite.world.deliveries()
        pause = delivery.due_at - lite.now
        assert 0.8 * seconds * 1000 - 5000 <= pause <= 1.2 * seconds * 1000
        assert delivery.attempts == tried + 1
    lite.due_now()
    lite.run().quiet()
    (delivery,) = lite.world.deliveries()
    assert (delivery.state, delivery.open_callback_id, delivery.due_at, delivery.attempts) == ("failed", None, None, 7)
    assert len(lite.world.owed()) == 1


@pytest.mark.parametrize(
    ("value", "hours"),
    [("3600", 1), (lambda: formatdate(time.time() + 7200, usegmt=True), 2), ("999999", 24), ("9" * 30, 24)],
)
def test_never_before_retry_after(scene: Scene, value: Any, hours: int) -> None:
    scene.callback()
    scene.receiver.answer("/hook", Answer(503, headers=[("Retry-After", value() if callable(value) else value)]))
    scene.flag("warning")
    scene.run().quiet()
    (delivery,) = scene.world.deliveries()
    assert hours * HOUR_MS - 60_000 < delivery.not_before - scene.now <= hours * HOUR_MS
    assert delivery.due_at == delivery.not_before
    scene.flag("critical")  # a new change starts the schedule anew, and waits all the same
    scene.run(env=FAST).quiet()
    (delivery,) = scene.world.deliveries()
    assert (delivery.due_at, delivery.attempts) == (delivery.not_before, 0)
    assert len(scene.receiver.requests) == 1
    scene.due_now()
    scene.receiver.answer("/hook", 200)
    scene.run().quiet()
    assert scene.types() == ["warning", "critical"]


def test_a_schedule_that_is_longer_than_retry_after_counts(lite: Scene) -> None:
    lite.callback()
    lite.receiver.answer("/hook", Answer(429, headers=[("Retry-After", "1")]))
    lite.flag("warning")
    lite.run(env={**ONCE, "MONITOR_RETRY_SCHEDULE": "100"}).quiet()
    (delivery,) = lite.world.deliveries()
    assert delivery.due_at - lite.now > 70_000
    assert delivery.not_before - lite.now <= 1000


def test_retry_after_outlives_a_schedule_that_is_used_up_and_binds_no_other(scene: Scene) -> None:
    bound = scene.callback("/hook")
    scene.receiver.answer("/hook", Answer(503, headers=[("Retry-After", "3600")]))
    scene.flag("warning")
    scene.run(env={**ONCE, "MONITOR_RETRY_SCHEDULE": ""}).quiet()
    assert [row.state for row in scene.world.deliveries()] == ["failed"]
    until = scene.world.callback_row(bound).not_before
    assert HOUR_MS - 60_000 < until - scene.now <= HOUR_MS
    scene.callback("/other")
    scene.flag("critical")
    scene.run(env=FAST).quiet()
    assert [r.path for r in scene.receiver.requests] == ["/hook", "/other"]
    waiting = scene.world.deliveries(bound)[-1]
    assert (waiting.state, waiting.due_at, waiting.lease_until) == ("open", until, 0)
    scene.set_callback(not_before=1)
    scene.due_now()
    scene.receiver.answer("/hook", 200)
    scene.run().quiet()
    assert [r.path for r in scene.receiver.requests] == ["/hook", "/other", "/hook"]
    assert not scene.world.owed()


@pytest.mark.parametrize("what", [["edit", "--title", "x"], ["enable"]])
@pytest.mark.parametrize("schedule", ["", "5"])
def test_a_person_who_edits_or_enables_a_callback_ends_its_retry_after(
    lite: Scene, what: list[str], schedule: str
) -> None:
    callback = lite.callback()
    lite.receiver.answer("/hook", Answer(503, headers=[("Retry-After", "3600")]), 200)
    lite.flag("warning")
    lite.run(env={**ONCE, "MONITOR_RETRY_SCHEDULE": schedule}).quiet()
    lite.cli.ok("callback", what[0], str(callback), *what[1:], env=LOCAL)
    lite.run().quiet()
    assert lite.types() == ["warning", "warning"]


def test_redirects_are_failures_and_not_followed(lite: Scene) -> None:
    lite.callback()
    lite.receiver.answer("/hook", Answer(302, headers=[("Location", lite.receiver.url("/new"))]), Answer(308), 200)
    lite.flag("warning")
    lite.run(env=FAST).quiet()
    assert [a.http_status for a in lite.world.attempts()] == [302, 308, 200]
    assert lite.receiver.to("/new") == []


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"x" * 400, drip=0.01, drip_body_only=True),  # until the deadline
        Answer(200, b"x" * 5000, truncate=100),
        Answer(201, b"x" * 300_000),
        Answer(200, b"not chunked", also={"Transfer-Encoding": "chunked"}),
        Answer(299),
        Answer(204),
    ],
)
def test_2xx_is_success_whatever_the_body_does(lite: Scene, answer: Answer) -> None:
    lite.callback()
    lite.receiver.answer("/hook", answer)
    lite.flag("critical")
    lite.run(env={**FAST, "MONITOR_TOTAL_TIMEOUT": "1"}).quiet()
    assert len(lite.receiver.requests) == 1
    assert [row.state for row in lite.world.deliveries()] == ["done"]
    assert [(a.http_status, a.error) for a in lite.world.attempts()] == [(answer.status, None)]


@pytest.mark.parametrize(
    "raw",
    [b"HTTP/1.1 99999 x\r\n\r\n", b"HTTP/1.1 20000 OK\r\n\r\n", b"\xff\xfe", b"HTTP/1.1 200 \0\r\nA\0: b\r\n\r\n"],
)
def test_one_customers_odd_answer_holds_up_nobody(scene: Scene, raw: bytes) -> None:
    scene.callback("/odd")
    scene.callback("/fine")
    scene.receiver.answer("/odd", Answer(raw=raw))
    scene.flag("critical")
    scene.run().quiet()
    assert len(scene.receiver.to("/fine")) == 1
    assert len(scene.world.attempts()) == 2
    assert {row.lease_until for row in scene.world.deliveries()} == {0}


def test_410_keeps_what_it_owes_and_enable_sends_it(scene: Scene) -> None:
    callback = scene.callback()
    scene.receiver.answer("/hook", 410)
    scene.flag("warning")
    result = scene.run()
    assert (result.code, result.out, len(result.err.splitlines())) == (0, "", 1)
    assert result.err.startswith("callback.off ")
    assert scene.world.callback_row(callback).active == 0
    assert [row.due_at for row in scene.world.deliveries()] == [None]
    scene.flag("critical")
    scene.run(env=FAST).quiet()
    assert len(scene.receiver.requests) == 1
    shown = scene.cli.ok("callback", "show", str(callback), "--json").json
    assert (shown["status"], shown["owed"], shown["reason"]) == ("off", 1, "its server answered 410 Gone")
    scene.receiver.answer("/hook", 200)
    scene.cli.ok("callback", "enable", str(callback))
    scene.run().quiet()
    assert scene.types() == ["warning", "critical"]
    assert not scene.world.owed()


def test_off_after_5_days_and_20_attempts(scene: Scene) -> None:
    callback = scene.callback()
    scene.receiver.answer("/hook", 500)
    scene.flag("warning")
    scene.run().quiet()
    row = scene.world.callback_row(callback)
    assert (row.failures, row.active) == (1, 1)
    assert abs(row.failing_since - scene.now) < 60_000
    for failures, days in ((18, 6), (19, 4)):  # the 19th attempt; the 20th, too soon
        scene.set_callback(failures=failures, failing_since=scene.now - days * DAY_MS)
        scene.due_now()
        scene.run().quiet()
        assert scene.world.callback_row(callback).failures == failures + 1
    scene.set_callback(failures=19, failing_since=scene.now - 5 * DAY_MS - 60_000)
    scene.due_now()
    result = scene.run()
    assert (result.code, len(result.err.splitlines())) == (0, 1)
    row = scene.world.callback_row(callback)
    assert (row.active, row.reason) == (0, "it failed for 5 days, 20 attempts in a row; the last: HTTP 500")
    assert len(scene.world.owed()) == 1
    scene.receiver.clear()
    scene.receiver.answer("/hook", 200)
    scene.cli.ok("callback", "enable", str(callback))
    scene.run().quiet()
    assert scene.types() == ["warning"]


def test_a_success_ends_the_count_of_failures(lite: Scene) -> None:
    callback = lite.callback()
    lite.receiver.answer("/hook", 500, 200)
    lite.flag("warning")
    lite.set_callback(failures=300, failing_since=lite.now - DAY_MS)
    lite.run(env=FAST).quiet()
    row = lite.world.callback_row(callback)
    assert (row.failures, row.failing_since, row.active) == (0, None, 1)


# --- rule 5: a fault on our side ------------------------------------------------------------------------------------


def untouched(scene: Scene, callback: int) -> None:
    (delivery,) = scene.world.deliveries()
    assert (delivery.state, delivery.attempts, delivery.lease_until) == ("open", 0, 0)
    assert scene.world.attempts() == []
    row = scene.world.callback_row(callback)
    assert (row.active, row.failures, row.failing_since) == (1, 0, None)
    assert [row.unsure for row in scene.world.owed()] == [0]


def one_message(result: Result, words: str) -> None:
    """Exit code 75, and one line of what failed with one of how to mend it."""
    assert (result.code, result.out) == (75, "")
    message, *hints = result.err.splitlines()
    assert words in message
    assert len(hints) == 1
    assert hints[0].startswith("  ")


def test_a_failing_resolver_uses_up_no_attempt(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    callback = scene.world.callback(scene.account, f"http://customer.test:{scene.receiver.port}/hook", raw_json=True)
    scene.flag("critical")
    with monkeypatch.context() as patched:
        patched.setattr(courier, "Resolver", partial(Resolver, lookup=fails))
        one_message(scene.run(), "customer.test could not be looked up: Temporary failure in name resolution")
    untouched(scene, callback)
    (delivery,) = scene.world.deliveries()
    assert delivery.due_at - scene.now <= 5000


def test_a_resolver_that_never_answers_uses_up_no_attempt(lite: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(courier, "Resolver", partial(Resolver, lookup=lambda *_, **__: released.wait(60) or []))
    callback = lite.world.callback(lite.account, "http://customer.test/hook", raw_json=True)
    lite.flag("critical")
    one_message(lite.run(env={**ONCE, "MONITOR_TOTAL_TIMEOUT": "0.5"}), "the resolver does not answer")
    released.set()
    untouched(lite, callback)


def test_no_network_at_all_uses_up_no_attempt(lite: Scene) -> None:
    """A process in a network namespace of its own, where not even loopback is up."""
    alone = ["unshare", "--user", "--map-root-user", "--net"]
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets no test make a network namespace")
    callback = lite.callback()
    lite.flag("critical")
    command = [*alone, str(SCRIPT), "callback-run"]
    done = subprocess.run(command, env=lite.cli.environment(ONCE), capture_output=True, text=True, timeout=60)
    one_message(Result(done.returncode, done.stdout, done.stderr), "no customer can be reached")
    untouched(lite, callback)
    lite.due_now()
    lite.run().quiet()
    assert lite.types() == ["critical"]


def test_a_name_that_does_not_exist_is_the_customers(scene: Scene) -> None:
    callback = scene.world.callback(scene.account, "http://gone.customer.test/hook", raw_json=True)
    scene.flag("critical")
    scene.run().quiet()
    assert [(a.http_status, a.error) for a in scene.world.attempts()] == [
        (None, "the name gone.customer.test does not exist")
    ]
    (delivery,) = scene.world.deliveries()
    assert delivery.attempts == 1
    assert scene.world.callback_row(callback).failures == 1
    assert [row.unsure for row in scene.world.owed()] == [0]  # nothing can have arrived


def test_one_customers_failing_name_server_is_no_fault_while_others_are_reached(
    lite: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        time.sleep(0.1)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(courier, "Resolver", partial(Resolver, lookup=fails))
    broken = lite.world.callback(lite.account, "http://customer.test/hook", raw_json=True)
    lite.callback("/fine")
    lite.flag("critical")
    lite.run().quiet()
    assert len(lite.receiver.to("/fine")) == 1
    (delivery,) = lite.world.deliveries(broken)
    assert (delivery.state, delivery.attempts) == ("open", 0)


def test_a_name_that_alone_is_not_answered_is_its_customers_by_the_schedule(
    lite: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else is looked up in this run: that the top-level domain is answered tells whose fault it is."""

    def lookup(host: str, *_: Any, **__: Any) -> Any:
        code = socket.EAI_AGAIN if host == "customer.test" else socket.EAI_NODATA
        raise socket.gaierror(code, "no")

    monkeypatch.setattr(courier, "Resolver", partial(Resolver, lookup=lookup))
    broken = lite.world.callback(lite.account, "http://customer.test/hook", raw_json=True)
    lite.flag("critical")
    lite.run().quiet()
    (attempt,) = lite.world.attempts()
    assert attempt.error == "the name customer.test could not be looked up: its name servers fail or do not answer"
    (delivery,) = lite.world.deliveries()
    assert (delivery.state, delivery.attempts) == ("open", 1)
    assert lite.world.callback_row(broken).failures == 1


def test_a_refused_address_is_the_customers(lite: Scene) -> None:
    lite.callback()
    lite.flag("critical")
    lite.run(env={"MONITOR_MAX_SECONDS": "3"}).quiet()
    (attempt,) = lite.world.attempts()
    assert "127.0.0.1 is loopback" in attempt.error
    assert lite.receiver.requests == []


# --- rule 6: deadlines ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [Answer(200, drip=0.05), Answer(200, delay=60)])
def test_a_customer_that_drips_or_sleeps_is_cut_off(lite: Scene, answer: Answer) -> None:
    lite.callback()
    lite.receiver.answer("/hook", answer)
    lite.flag("critical")
    started = time.monotonic()
    lite.run(env={**ONCE, "MONITOR_TOTAL_TIMEOUT": "0.5"}).quiet()
    assert time.monotonic() - started < 15
    (attempt,) = lite.world.attempts()
    assert attempt.http_status is None
    assert "timed out" in attempt.error
    assert 400 <= attempt.duration_ms < 10_000
    assert [row.unsure for row in lite.world.owed()] == [1]


# --- rule 7: what is kept of an attempt -----------------------------------------------------------------------------


def echo(request: Request) -> Answer:
    """A server that shows all that it got, as debugging pages do."""
    seen = {"headers": dict(request.headers), "body": request.body.decode()}
    return Answer(500, json.dumps(seen).encode() + b"~" * 3000)


def test_every_attempt_is_recorded_without_secrets(scene: Scene) -> None:
    hidden = 'Bearer s3cr3t/"quoted"'
    callback = scene.callback(headers=[("Authorization", hidden), ("X-Key", "k3y-value")])
    scene.receiver.decide(echo)
    scene.flag("critical")
    before = scene.now
    scene.run().quiet()
    (attempt,) = scene.world.attempts()
    assert before <= attempt.started_at <= scene.now
    assert 0 <= attempt.duration_ms < 20_000
    assert (attempt.http_status, attempt.error, attempt.part, attempt.late) == (500, None, 0, 0)
    assert attempt.webhook_id == scene.receiver.requests[0].header("webhook-id")
    assert len(attempt.response) == 1024
    assert "Authorization" in attempt.response
    assert "***" in attempt.response
    (delivery,) = scene.cli.ok("delivery", "list", "--json").json
    for text in (attempt.response, json.dumps(scene.cli.ok("delivery", "show", str(delivery["id"]), "--json").json)):
        for secret in ("s3cr3t", "quoted", "k3y-value", SECRET, SECRET.removeprefix("whsec_")):
            assert secret not in text
    assert delivery["callback_id"] == callback


def test_the_log_holds_no_secret_either(lite: Scene) -> None:
    lite.callback(headers=[("Authorization", "Bearer s3cr3t")])
    lite.receiver.decide(echo)
    lite.flag("critical")
    for words in (["-v"], ["-vv"], ["-vv", "--log-format", "json"]):
        lite.due_now()
        result = lite.run(*words)
        assert "delivery.retry" in result.err
        assert "s3cr3t" not in result.err
        assert SECRET not in result.err


# --- who hears ------------------------------------------------------------------------------------------------------


def test_the_unsubscribed_hear_nothing_and_the_newest_truth_once_they_are_back(scene: Scene) -> None:
    scene.callback()
    scene.receiver.answer("/hook", 500)
    scene.flag("warning")
    scene.run().quiet()
    scene.cli.ok("account", "unsubscribe", "acme")
    scene.receiver.clear()
    scene.receiver.answer("/hook", 200)
    scene.due_now()
    scene.flag("critical")  # nothing becomes owed by it
    scene.run(env=FAST).quiet()
    assert scene.receiver.requests == []
    (delivery,) = scene.world.deliveries()
    assert (delivery.state, delivery.attempts, delivery.lease_until) == ("open", 1, 0)
    assert delivery.due_at > scene.now
    scene.cli.ok("account", "subscribe", "acme")
    scene.run().quiet()
    assert scene.types() == ["critical"]
    assert not scene.world.owed()


def test_the_disabled_hear_nothing_and_the_newest_truth_once_they_are_enabled(scene: Scene) -> None:
    callback = scene.callback()
    scene.cli.ok("callback", "disable", str(callback))
    for kind in ("warning", "critical"):
        scene.flag(kind)
        scene.run(env=FAST).quiet()
    assert scene.receiver.requests == []
    assert len(scene.world.owed(callback)) == 1
    scene.cli.ok("callback", "enable", str(callback))
    scene.run().quiet()
    assert scene.types() == ["critical"]


def test_a_flap_while_disabled_is_not_told(lite: Scene) -> None:
    callback = lite.callback()
    lite.cli.ok("callback", "disable", str(callback))
    lite.flag("critical")
    lite.run().quiet()
    lite.flag("operational")
    lite.cli.ok("callback", "enable", str(callback))
    lite.run().quiet()
    assert lite.receiver.requests == []
    assert not lite.world.owed()


def test_another_worse_server_on_the_channel_makes_it_no_news(scene: Scene) -> None:
    scene.callback()
    other = scene.world.server(channel=1)
    scene.flag("critical")
    scene.run().quiet()
    scene.world.flag(other, "warning")
    result = scene.run("-v")
    assert "change.dropped" in result.err
    scene.flag("operational")
    scene.run().quiet()
    assert scene.types() == ["critical", "warning"]
    assert not scene.world.owed()


def test_several_channels_and_regions_go_in_one_request(scene: Scene) -> None:
    scene.callback()
    scene.world.number(scene.account, "+2", channel=2)
    scene.world.number(scene.account, "+3", "+4", channel=3)
    scene.world.number(scene.account, "+5", channel=4)
    scene.world.server(channel=3)  # the worst of a channel's servers counts
    places = {2: "KA-IN", 3: "DL-IN", 4: "KA-IN"}
    servers = {ch: scene.world.server(channel=ch, region_code=code) for ch, code in places.items()}
    scene.flag("critical")
    scene.world.flag(servers[2], "warning")
    scene.world.flag(servers[3], "warning")
    scene.run().quiet()
    (request,) = scene.receiver.requests
    assert [(i["region_code"], i["type"], i["numbers"]) for i in request.json["data"]["incidents"]] == [
        ("DL-IN", "warning", ["+3", "+4"]),
        ("KA-IN", "critical", [NUMBER]),
        ("KA-IN", "warning", ["+2"]),
    ]


def test_a_number_that_moves_is_told_with_the_next_change_of_its_new_channel(scene: Scene) -> None:
    scene.callback()
    there = scene.world.server(channel=2, final_status="critical")
    scene.cli.ok("number", "add", "acme", "--channel", "2", "+2")
    number = schema.number
    with scene.world.database.write() as conn:  # as a platform moves it
        conn.execute(update(number).where(number.c.number == NUMBER).values(channel_id=2))
    scene.flag("critical")  # nobody is left on the old channel
    scene.run().quiet()
    assert scene.receiver.requests == []
    scene.world.flag(there, "warning")
    scene.run().quiet()
    assert [(i["type"], i["numbers"]) for r in scene.receiver.requests for i in r.json["data"]["incidents"]] == [
        ("warning", ["+2", NUMBER])
    ]


def test_a_flag_set_by_hand_on_a_type_that_was_told_sends_nothing_and_replay_does(scene: Scene) -> None:
    callback = scene.callback()
    scene.flag("critical")
    scene.run().quiet()
    scene.world.flag_by_hand(scene.server)
    scene.run().quiet()
    assert scene.types() == ["critical"]
    scene.cli.ok("callback", "replay", "--callback", str(callback))
    scene.run().quiet()
    assert scene.types() == ["critical", "critical"]


# --- ids and times --------------------------------------------------------------------------------------------------


def test_event_id_and_timestamp_stay_for_a_content_over_retries_and_processes(scene: Scene) -> None:
    scene.callback(payload='{"id": "{event_id}", "at": {timestamp}, "type": "{type}"}', raw_json=True)
    scene.receiver.answer("/hook", 500, 500, 503, 200)
    scene.flag("warning")
    for _ in range(2):
        scene.due_now()
        scene.cli.process("callback-run", env={**ONCE, "MONITOR_PROCESSES": "1"}).quiet()
        time.sleep(1.1)  # another second
    scene.flag("critical")
    for _ in range(2):
        scene.due_now()
        scene.cli.process("callback-run", env={**ONCE, "MONITOR_PROCESSES": "1"}).quiet()
        time.sleep(1.1)
    bodies = [r.json for r in scene.receiver.requests]
    assert [body["type"] for body in bodies] == ["warning", "warning", "critical", "critical"]
    assert bodies[0] == bodies[1]
    assert bodies[2] == bodies[3]
    assert bodies[0]["id"] != bodies[2]["id"]
    assert bodies[0]["at"] < bodies[2]["at"]
    assert [r.header("webhook-id") for r in scene.receiver.requests] == [body["id"] for body in bodies]
    stamps = [int(r.header("webhook-timestamp") or 0) for r in scene.receiver.requests]
    assert stamps == sorted(set(stamps))  # of each attempt its own
    assert all(abs(r.time - stamp) < 30 for r, stamp in zip(scene.receiver.requests, stamps, strict=True))


def test_an_equal_content_of_a_later_change_has_another_id(lite: Scene) -> None:
    lite.callback()
    for kind in ("critical", "operational", "critical"):
        lite.flag(kind)
        lite.run().quiet()
    first, _, third = lite.receiver.requests
    assert first.body == third.body
    assert first.header("webhook-id") != third.header("webhook-id")


# --- signatures -----------------------------------------------------------------------------------------------------


def verify(secret: str, request: Request) -> None:
    """As a customer does, with the library of the specification; raises where it does not hold."""
    signed = request.body if request.method == "POST" else request.target.encode()
    headers = {name.lower(): value for name, value in request.headers}
    webhook = standardwebhooks.Webhook(secret)
    try:
        webhook.verify(signed, headers)
    except json.JSONDecodeError:  # the library parses the body as JSON once the signature was found right
        assert request.method == "GET" or "form" in (request.header("content-type") or "")


def test_every_form_is_signed_over_the_bytes_that_are_sent(lite: Scene) -> None:
    lite.callback("/form", payload="a=1&data={response}&m={message}", raw_json=False)
    lite.callback("/json")
    lite.callback("/get?x=%c3%a4&n={numbers}&m={message}", raw_json=False)
    lite.world.number(lite.account, "+49 ä", channel=1)
    lite.flag("critical")
    lite.run().quiet()
    assert sorted(r.path for r in lite.receiver.requests) == ["/form", "/get", "/json"]
    for request in lite.receiver.requests:
        verify(SECRET, request)
        changed = Request(**{**request.__dict__, "body": request.body + b"x", "target": request.target + "x"})
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            verify(SECRET, changed)
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            verify(new_secret(), request)


def test_a_get_is_signed_as_documented(lite: Scene) -> None:
    lite.callback("/get?d={response}", raw_json=False)
    lite.flag("critical")
    lite.run().quiet()
    (request,) = lite.receiver.requests
    text = f"{request.header('webhook-id')}.{request.header('webhook-timestamp')}.{request.target}"
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.digest(key, text.encode(), "sha256")).decode()
    assert request.header("webhook-signature") == f"v1,{expected}"


@pytest.mark.parametrize(("hours", "signatures"), [(1, 2), (-1, 1)])
def test_a_rotated_secret_signs_beside_the_new_one_for_a_while(lite: Scene, hours: int, signatures: int) -> None:
    old = new_secret()
    lite.callback(old_secret=old, old_secret_until=lite.now + hours * HOUR_MS)
    lite.flag("critical")
    lite.run().quiet()
    (request,) = lite.receiver.requests
    assert len((request.header("webhook-signature") or "").split()) == signatures
    verify(SECRET, request)
    if signatures == 2:
        verify(old, request)


# --- split GETs -----------------------------------------------------------------------------------------------------


def numbers_of(request: Request) -> list[str]:
    return dict(request.query)["n"].split(",")


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_one_channel_in_parts_that_fails_at_one_of_them(scene: Scene, fails_at: int) -> None:
    scene.world.number(scene.account, *many(1300), channel=1)
    scene.callback("/get?n={numbers}&id={event_id}&at={timestamp}", raw_json=False)
    scene.receiver.answer("/get", *[200] * (fails_at - 1), 500, 200)
    scene.flag("critical")
    scene.run().quiet()
    assert len(scene.receiver.requests) == fails_at
    half = fails_at > 1  # some of it was taken: the customer may believe anything
    assert [(row.told < row.wanted, row.unsure) for row in scene.world.owed()] == [(True, int(half))]
    scene.due_now()
    scene.run().quiet()
    requests = scene.receiver.requests
    assert len(requests) == 4
    assert all(len(scene.receiver.url(r.target)) <= 8000 for r in requests)
    assert requests[fails_at - 1].target == requests[fails_at].target  # the retry: the same content, id and time
    taken = [n for i, r in enumerate(requests) if i != fails_at - 1 for n in numbers_of(r)]
    assert sorted(taken) == sorted([NUMBER, *many(1300)])
    assert len({r.header("webhook-id") for r in requests}) == 3
    assert [a.part for a in scene.world.attempts()] == sorted([*range(1, 4), fails_at])
    assert not scene.world.owed()
    assert {row.told_type for row in scene.world.owed(all_rows=True)} == {"critical"}


def test_of_several_channels_those_answered_are_told_and_only_the_rest_is_sent_again(scene: Scene) -> None:
    numbers = {channel: many(400, f"+{channel}") for channel in (2, 3, 4)}
    for channel, some in numbers.items():
        scene.world.number(scene.account, *some, channel=channel)
    scene.callback("/get?n={numbers}&id={event_id}&at={timestamp}", raw_json=False)
    scene.receiver.answer("/get", 200, 500)
    for channel in numbers:
        scene.world.flag(scene.world.server(channel=channel), "critical")
    scene.run().quiet()
    assert [row.channel_id for row in scene.world.owed()] == [3, 4]
    assert {row.unsure for row in scene.world.owed()} == {0}
    time.sleep(1.1)
    scene.receiver.answer("/get", 200)
    scene.due_now()
    scene.run().quiet()
    first, failed, again, last = scene.receiver.requests
    assert failed.target == again.target
    assert [numbers_of(r) for r in (first, again, last)] == list(numbers.values())
    assert not scene.world.owed()


def test_a_flap_after_half_of_a_channel_was_told_is_told(lite: Scene) -> None:
    lite.world.number(lite.account, *many(600), channel=1)
    lite.callback("/get?n={numbers}&t={type}", raw_json=False)
    lite.receiver.answer("/get", 200, 500)
    lite.flag("critical")
    lite.run().quiet()
    lite.receiver.clear()
    lite.receiver.answer("/get", 200)
    lite.flag("operational")
    lite.run().quiet()
    assert {dict(r.query)["t"] for r in lite.receiver.requests} == {"operational"}
    assert sorted(n for r in lite.receiver.requests for n in numbers_of(r)) == sorted([NUMBER, *many(600)])


def test_over_20_parts_fail_with_the_advice_to_use_post(scene: Scene) -> None:
    scene.world.number(scene.account, *many(12_000), channel=1)
    callback = scene.callback("/get?n={numbers}", raw_json=False)
    scene.flag("critical")
    scene.run().quiet()
    assert scene.receiver.requests == []
    (delivery,) = scene.cli.ok("delivery", "list", "--json").json
    assert delivery["state"] == "failed"
    assert "use POST" in delivery["error"]
    assert len(scene.world.owed()) == 1
    scene.cli.ok("callback", "edit", str(callback), "--payload", "data={response}", env=LOCAL)
    scene.run().quiet()
    assert [r.method for r in scene.receiver.requests] == ["POST"]
    assert not scene.world.owed()


# --- how a run ends -------------------------------------------------------------------------------------------------


def crowd(scene: Scene, count: int) -> None:
    """So many accounts with a callback each, all owed."""
    for index in range(count):
        account = scene.world.account(f"customer {index}")
        scene.world.number(account, f"+{index}", channel=1)
        scene.world.callback(account, scene.receiver.url(f"/{index}"), raw_json=True)
    scene.flag("critical")


def test_max_seconds_ends_it_in_time_and_gives_back_what_was_not_sent(scene: Scene) -> None:
    crowd(scene, 12)
    scene.receiver.answer(None, Answer(200, delay=2.5))
    started = time.monotonic()
    scene.cli("callback-run", "--max-seconds", "0.9", "--concurrency", "4", env=LOCAL).quiet()
    assert time.monotonic() - started < 20  # not the three rounds and more that it would take
    states = [(row.state, row.lease_until, row.lease_token, row.attempts) for row in scene.world.deliveries()]
    started = len(scene.receiver.requests)
    assert 1 <= started <= 4  # none is slow yet: those would leave their slots to others
    assert states.count(("done", 0, "", 0)) == started
    assert states.count(("open", 0, "", 0)) == 12 - started
    assert {row.unsure for row in scene.world.owed()} == {0}
    scene.receiver.answer(None, 200)
    scene.run(env=LOCAL).quiet()
    assert len({r.path for r in scene.receiver.requests}) == len(scene.receiver.requests) == 12


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_what_is_in_flight(scene: Scene, processes: int, number: signal.Signals) -> None:
    crowd(scene, 12)
    answered = threading.Event()
    scene.receiver.answer(None, Answer(200, wait=answered))
    env = {**LOCAL, "MONITOR_PROCESSES": str(processes)}
    running = scene.cli.start("callback-run", "--watch", "--concurrency", "4", env=env)
    scene.receiver.wait(4)
    running.signal(number)
    time.sleep(0.5)
    started = len(scene.receiver.requests)
    time.sleep(1.5)
    assert not running.ended  # it waits for the answers
    assert len(scene.receiver.requests) == started < 12  # and starts no other
    answered.set()
    running.wait(30).quiet()
    states = [(row.state, row.lease_until, row.lease_token, row.attempts) for row in scene.world.deliveries()]
    assert states.count(("done", 0, "", 0)) == started
    assert states.count(("open", 0, "", 0)) == 12 - started
    assert {row.unsure for row in scene.world.owed()} == {0}  # given back, not lost: nobody takes it over


def test_a_signal_while_only_a_helper_has_something_in_flight(lite: Scene) -> None:
    """The first process is done, and would have woken a loop that it had closed."""
    answered = threading.Event()
    lite.receiver.answer(None, Answer(200, wait=answered))
    lite.callback()
    lite.flag("critical")
    running = lite.cli.start("callback-run", env={**LOCAL, "MONITOR_PROCESSES": "4"})
    lite.receiver.wait(1)
    for _ in range(2):
        time.sleep(1)
        running.signal(signal.SIGTERM)
    time.sleep(0.5)
    assert not running.ended
    answered.set()
    running.wait(30).quiet()
    assert [row.state for row in lite.world.deliveries()] == ["done"]


def test_it_ends_when_nothing_more_comes_due_in_its_time(lite: Scene) -> None:
    lite.callback()
    lite.receiver.answer("/hook", 500)
    lite.flag("critical")
    started = time.monotonic()
    lite.run(env={**LOCAL, "MONITOR_RETRY_SCHEDULE": "0.1,3600", "MONITOR_MAX_SECONDS": "50"}).quiet()
    assert len(lite.receiver.requests) == 2
    assert time.monotonic() - started < 25


@pytest.mark.parametrize("processes", ["0", "3"])
def test_concurrency_1_is_one_request_at_a_time(lite: Scene, processes: str) -> None:
    crowd(lite, 8)
    running, most, lock = [0], [0], threading.Lock()

    def slowly(_request: Request) -> Answer:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.05)
        with lock:
            running[0] -= 1
        return Answer(200)

    lite.receiver.decide(slowly)
    env = {**LOCAL, "MONITOR_PROCESSES": processes}
    lite.cli.process("callback-run", "--concurrency", "1", env=env).quiet()
    assert len(lite.receiver.requests) == 8
    assert most == [1]


def test_4_at_once_for_an_account_on_one_host(lite: Scene) -> None:
    for _ in range(12):
        lite.callback()
    lite.receiver.answer("/hook", Answer(200, delay=0.1))
    lite.flag("critical")
    lite.cli.process("callback-run", env=LOCAL).quiet()
    assert len(lite.receiver.requests) == 12
    assert lite.receiver.peak["/hook"] <= 4


def test_a_host_that_takes_no_more_is_not_looked_for_all_the_time(lite: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look reads past all that is due there: it costs the database, and finds nothing before one comes back."""
    crowd(lite, 80)
    lite.receiver.answer(None, Answer(200, delay=60))
    looks = [0]
    real = due.candidates

    def counted(*args: Any) -> Any:
        looks[0] += 1
        return real(*args)

    monkeypatch.setattr(due, "candidates", counted)
    lite.run(env={**LOCAL, "MONITOR_TOTAL_TIMEOUT": "2", "MONITOR_MAX_SECONDS": "1.8"}).quiet()
    assert len(lite.receiver.requests) == 64
    assert looks[0] < 40


# --- what is said ---------------------------------------------------------------------------------------------------


def test_nothing_is_said_while_customers_fail(lite: Scene) -> None:
    for path, answer in (("/500", 500), ("/drop", Answer(drop="after")), ("/fine", 200)):
        lite.callback(path)
        lite.receiver.answer(path, answer)
    lite.flag("critical")
    lite.cli.process("callback-run", env=ONCE).quiet()


def test_v_says_what_was_done(lite: Scene) -> None:
    callback = lite.callback()
    lite.receiver.answer("/hook", 500, 200)
    lite.flag("critical")
    result = lite.run("-v", env=FAST)
    assert (result.code, result.out) == (0, "")
    lines = [line.split() for line in result.err.splitlines()]
    assert [line[0] for line in lines if line[0].startswith("delivery.")] == ["delivery.retry", "delivery.done"]
    facts = dict(fact.split("=", 1) for fact in lines[-1][1:])
    assert (facts["callback"], facts["answer"]) == (str(callback), "200")
    assert facts["webhook_id"] == lite.receiver.requests[-1].header("webhook-id")


def test_log_lines_as_json(lite: Scene) -> None:
    callback = lite.callback()
    lite.receiver.answer("/hook", 410)
    lite.flag("critical")
    result = lite.run("-v", "--log-format", "json")
    events = {line["event"]: line for line in map(json.loads, result.err.splitlines())}
    off = events["callback.off"]
    assert (off["level"], off["callback"], off["reason"]) == ("warning", callback, "its server answered 410 Gone")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", off["at"])
    assert events["delivery.retry"]["answer"] == 410


def test_dry_run_shows_whom_it_would_tell_what_and_writes_nothing(scene: Scene) -> None:
    scene.world.number(scene.account, *many(600), channel=1)
    scene.world.number(scene.account, "+2", channel=2)
    post = scene.callback("/post", headers=[("Authorization", "Bearer s3cr3t")])
    get = scene.callback("/get?n={numbers}", raw_json=False)
    bad = scene.world.callback(scene.account, "ftp://customer.test/", raw_json=True)
    inactive = scene.callback("/inactive", active=False)
    other = scene.world.server(channel=2)
    scene.flag("critical")
    scene.world.flag(other, "warning")
    scene.world.flag(other, "operational")
    before = [scene.world.rows(table) for table in schema.metadata.sorted_tables]
    result = scene.cli("callback-run", "--dry-run", env=LOCAL)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    place = f"127.0.0.1:{scene.receiver.port}"

    def about(callback: int) -> list[str]:
        return [line for line in lines if line.startswith(f"callback {callback} ")]

    shown = scene.cli.ok("callback", "show", str(post), "--json").json
    who = f"callback {post} ({shown['name']}, of {shown['account']})"
    assert about(post) == [
        f"{who}: POST {place}: karnataka (KA-IN) critical: 601 numbers",
        f"{who}: dropped: channel 2 in karnataka (KA-IN) is as it was told",
    ]
    assert [": GET " in line for line in about(get)] == [True, True, False]
    assert "cannot be told" in about(bad)[0]
    assert about(inactive) == []
    assert len(lines) == 2 + 3 + len(about(bad))
    assert "s3cr3t" not in result.out
    assert scene.receiver.requests == []
    assert [scene.world.rows(table) for table in schema.metadata.sorted_tables] == before
    scene.run().quiet()  # the locks are gone, too
    assert len(scene.receiver.requests) == 3


def test_dry_run_counts_what_the_document_shows(scene: Scene) -> None:
    """The channels of a region that share a type are one entry of it."""
    hook = scene.callback("/hook")
    scene.flag("critical")
    for channel, kind, numbers in ((2, "critical", ["+1", "+2"]), (3, "warning", ["+3"])):
        scene.world.number(scene.account, *numbers, channel=channel)
        scene.world.flag(scene.world.server(channel=channel), kind)
    expected = [("critical", 3), ("warning", 1)]
    (line,) = scene.cli.ok("callback-run", "--dry-run", env=LOCAL).out.splitlines()
    assert line.startswith(f"callback {hook} ")
    words = ", ".join(f"karnataka (KA-IN) {kind}: {'1 number' if n == 1 else f'{n} numbers'}" for kind, n in expected)
    assert line.endswith(f"127.0.0.1:{scene.receiver.port}: {words}")
    scene.run().quiet()
    (request,) = scene.receiver.requests
    assert [(one["type"], len(one["numbers"])) for one in request.json["data"]["incidents"]] == expected


# --- size -----------------------------------------------------------------------------------------------------------


def test_an_account_with_100_000_numbers(scene: Scene) -> None:
    numbers = many(100_000)
    scene.world.number(scene.account, *numbers, channel=1)
    scene.callback()
    beside = scene.world.account("beside")
    scene.world.number(beside, "+1", channel=1)
    scene.world.callback(beside, scene.receiver.url("/beside"), raw_json=True)
    scene.flag("critical")
    scene.cli.process("callback-run", env=LOCAL).quiet()
    (request,) = scene.receiver.to("/hook")
    (incident,) = request.json["data"]["incidents"]
    assert incident["numbers"] == sorted([NUMBER, *numbers])
    assert len(scene.receiver.to("/beside")) == 1
    verify(SECRET, request)
    assert not scene.world.owed()


# --- indexes --------------------------------------------------------------------------------------------------------


@pytest.fixture
def burst(world: World, database: Store) -> World:
    """20 000 deliveries, written into an empty table a moment ago: nobody has told the optimizer."""
    if database.name == "sqlite":
        pytest.skip("SQLite has no such statistics")
    account = world.account("acme")
    world.number(account, NUMBER, channel=1)
    server = world.server(channel=1)
    row = {"account_id": account, "title": "t", "url": "http://127.0.0.1/", "destination": "127.0.0.1:80"}
    row |= {"headers": "[]", "raw_json": 1, "active": 1, "hears_from": 0, "secret": SECRET}
    with world.database.write() as conn:
        now = now_ms(conn)
        rows = [{**row, "name": f"n{i}", "created_at": now, "modified_at": now} for i in range(20_000)]
        conn.execute(insert(c), rows)
    world.flag(server, "critical")
    world.database.transact(planning.plan_flagged)
    return world


class Explained:
    """Every statement on one table that runs through a connection, with how the server would find its rows."""

    def __init__(self, conn: Any, table: str) -> None:
        self.conn, self.table = conn, table
        self.seen: list[tuple[str, str | None, str]] = []  # statement, key, type
        event.listen(conn, "before_cursor_execute", self._explain)

    def _explain(self, _conn: Any, cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if not re.match(r"\s*(SELECT|UPDATE)\b", statement) or self.table not in statement:
            return
        cursor.execute("EXPLAIN " + statement, parameters[0] if many else parameters)
        names = [column[0] for column in cursor.description]
        for line in cursor.fetchall():
            row = dict(zip(names, line, strict=True))
            if row["table"] in (self.table, "d"):  # as which claims know it
                self.seen.append((statement, row["key"], row["type"]))

    def stop(self) -> None:
        event.remove(self.conn, "before_cursor_execute", self._explain)


def test_candidates_come_by_due_at_and_the_rest_by_primary_key_after_a_burst(burst: World) -> None:
    with burst.database.write() as conn:
        looking = Explained(conn, d.name)
        candidates = due.candidates(conn, 300, [(10**6, "x:1")], ["y:1"])
        looking.stop()
        assert {key for _, key, _ in looking.seen} == {"ix_infi_voice_monitor_delivery_due_at"}
        assert len(candidates) == 300
        working = Explained(conn, d.name)
        one_too_many = lambda *_: True  # noqa: E731
        found = claims.claim(conn, [one.id for one in candidates], "me", 60_000, 10**6, one_too_many)
        assert len(found) == 300
        settling.store_content(conn, [{"id": one.id, "hash": "h", "at": 1} for one in found])
        thens = list(settling.Then)
        settlements = [
            settling.Settlement(
                one,
                thens[index % len(thens)],
                told=[settling.Told(u.unit, u.wanted, Type.CRITICAL) for u in one.owed],
            )
            for index, one in enumerate(found)
        ]
        settling.settle(conn, settlements, 60_000)
        working.stop()
    assert len(working.seen) >= 8
    bad = [(statement[:300], key, how) for statement, key, how in working.seen if key != "PRIMARY" or how == "ALL"]
    assert bad == []
