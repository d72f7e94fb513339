"""Resolving in bounded threads: shared, reused, never in the way."""

from __future__ import annotations

import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from monitor_cli.outbound.addresses import Policy
from monitor_cli.outbound.resolver import (
    PER_ACCOUNT,
    NameServersFail,
    NoSuchName,
    Resolver,
    ResolverFailed,
    judged_addresses,
)
from monitor_cli.outbound.url import RefusedURL, check_url


def answer(*addresses: str) -> list[tuple[Any, ...]]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]


class Lookup:
    """Stands in for getaddrinfo: counts the calls, and waits for `gate` before it answers."""

    def __init__(self, result: Any = None) -> None:
        self.result = answer("8.8.8.8") if result is None else result
        self.gate = threading.Event()
        self.gate.set()
        self.calls: list[str] = []
        self.running = 0
        self.most_running = 0
        self._lock = threading.Lock()

    def __call__(self, host: str, port: int, *, type: int) -> Any:
        with self._lock:
            self.calls.append(host)
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        self.gate.wait(10)
        with self._lock:
            self.running -= 1
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture
def lookup() -> Iterator[Lookup]:
    lookup = Lookup()
    yield lookup
    lookup.gate.set()


def test_the_real_resolver_knows_this_machine() -> None:
    addresses = Resolver().resolve("localhost", 80).result(10)
    assert "127.0.0.1" in addresses or "::1" in addresses


def test_addresses_come_once_each_in_the_resolvers_order() -> None:
    resolver = Resolver(lookup=Lookup(answer("2.2.2.2", "1.1.1.1", "2.2.2.2", "2606::1")))
    assert resolver.resolve("a.example", 80).result(5) == ["2.2.2.2", "1.1.1.1", "2606::1"]


@pytest.mark.parametrize("code", [socket.EAI_NONAME, socket.EAI_NODATA])
def test_a_name_that_does_not_exist_is_the_customers_fault(code: int) -> None:
    resolver = Resolver(lookup=Lookup(socket.gaierror(code, "no")))
    with pytest.raises(NoSuchName, match=r"a\.example"):
        resolver.resolve("a.example", 80).result(5)


def test_a_name_without_an_address_is_too() -> None:
    with pytest.raises(NoSuchName):
        Resolver(lookup=Lookup([])).resolve("a.example", 80).result(5)


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(socket.EAI_AGAIN, "try again"),
        socket.gaierror(socket.EAI_FAIL, "failure"),
        socket.gaierror(socket.EAI_SYSTEM, "system"),
        OSError(24, "Too many open files"),
        RuntimeError("anything"),
    ],
)
def test_a_failing_resolver_is_a_fault_on_our_side_and_stops_no_thread(error: Exception) -> None:
    lookup = Lookup(error)
    resolver = Resolver(threads=1, lookup=lookup)
    with pytest.raises(ResolverFailed) as failed:
        resolver.resolve("a.example", 80).result(5)
    assert failed.value.exit_code == 75
    lookup.result = answer("8.8.8.8")
    assert resolver.resolve("a.example", 80).result(5) == ["8.8.8.8"]  # our own failures are not remembered


def test_lookups_under_way_are_shared_and_answers_reused_for_a_while(lookup: Lookup) -> None:
    now = [100.0]
    resolver = Resolver(lookup=lookup, clock=lambda: now[0])
    lookup.gate.clear()
    first, second = resolver.resolve("a.example", 80), resolver.resolve("a.example", 443)
    assert not first.done()
    lookup.gate.set()
    assert first.result(5) == second.result(5) == ["8.8.8.8"]
    now[0] += 29
    assert resolver.resolve("a.example", 80).done()
    assert lookup.calls == ["a.example"]
    now[0] += 2
    resolver.resolve("a.example", 80).result(5)
    assert lookup.calls == ["a.example"] * 2


def test_threads_are_bounded_and_all_lookups_end(lookup: Lookup) -> None:
    resolver = Resolver(threads=3, lookup=lookup)
    lookup.gate.clear()
    futures = [resolver.resolve(f"{n}.example", 80) for n in range(20)]
    deadline = time.monotonic() + 5
    while lookup.running < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    lookup.gate.set()
    assert [future.result(5) for future in futures] == [["8.8.8.8"]] * 20
    assert lookup.most_running == 3


# --- one customer's names are no other's trouble ----------------------------------------------------------------------

AGAIN = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
GONE = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class Zones:
    """A resolver of several zones: each name's `answers` by its ending, an Event where it is silent until that is set.
    Names are looked up one after the other where `turns` counts them."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[str] = []
        self.began = threading.Semaphore(0)

    def __call__(self, host: str, port: int, *, type: int) -> Any:
        self.calls.append(host)
        self.began.release()
        found = self.answers[host.removesuffix(".").rpartition(".")[2] if host.endswith(".") else host.split(".")[-2]]
        if isinstance(found, threading.Event):
            found.wait(20)
            raise AGAIN
        if isinstance(found, Exception):
            raise found
        return answer(found)


def test_one_accounts_silent_names_leave_threads_and_turns_to_the_others() -> None:
    silent = threading.Event()
    zones = Zones(silent=silent, fine="8.8.8.8")
    resolver = Resolver(threads=PER_ACCOUNT + 1, lookup=zones)
    hanging = [resolver.resolve(f"{n}.silent.example", 80, account=1) for n in range(500)]
    for _ in range(PER_ACCOUNT):
        assert zones.began.acquire(timeout=5)
    answered = [resolver.resolve(f"{n}.fine.example", 80, account=2).result(5) for n in range(20)]
    assert answered == [["8.8.8.8"]] * 20
    assert not any(future.done() for future in hanging)
    assert sum("silent" in host for host in zones.calls) == PER_ACCOUNT
    resolver.close()
    silent.set()


def test_turns_go_round_the_accounts() -> None:
    lookup = Lookup()
    lookup.gate.clear()
    resolver = Resolver(threads=1, lookup=lookup)
    first = resolver.resolve("first.example", 80, account=1)
    futures = [resolver.resolve(f"{n}.one.example", 80, account=1) for n in range(50)]
    futures += [resolver.resolve(f"{account}.other.example", 80, account) for account in (2, 3)]
    lookup.gate.set()
    assert first.result(5)
    assert all(future.result(5) for future in futures)
    assert {lookup.calls.index(f"{account}.other.example") for account in (2, 3)} <= {1, 2, 3}


def test_a_burst_is_looked_up_side_by_side_by_threads_that_were_idle(lookup: Lookup) -> None:
    resolver = Resolver(threads=3, lookup=lookup)
    for _ in range(3):
        lookup.gate.clear()
        futures = [resolver.resolve(f"{n}-{time.monotonic()}.example", 80, account=n) for n in range(3)]
        ends = time.monotonic() + 5
        while lookup.running < 3 and time.monotonic() < ends:
            time.sleep(0.001)
        assert lookup.running == 3
        lookup.gate.set()
        assert all(future.result(5) for future in futures)


def test_what_nobody_waits_for_is_not_looked_up() -> None:
    silent = threading.Event()
    zones = Zones(silent=silent, fine="8.8.8.8")
    resolver = Resolver(threads=1, lookup=zones)
    resolver.resolve("a.silent.example", 80, account=1)
    assert zones.began.acquire(timeout=5)
    lonely = resolver.resolve("lonely.fine.example", 80, account=1)
    shared = [resolver.resolve("shared.fine.example", 80, account=n) for n in (1, 2)]
    for host, future in (("lonely.fine.example", lonely), ("shared.fine.example", shared[0])):
        resolver.give_up(host, future)
        with pytest.raises(ResolverFailed, match=host):  # its turn did not come: no fault of that name
            future.result(0)
    silent.set()
    assert shared[1].result(5) == ["8.8.8.8"]
    assert "lonely.fine.example" not in zones.calls
    assert zones.calls.count("shared.fine.example") == 1
    assert resolver.resolve("lonely.fine.example", 80).result(5) == ["8.8.8.8"]


@pytest.mark.parametrize("code", [socket.EAI_AGAIN, socket.EAI_FAIL])
@pytest.mark.parametrize("domain", ["8.8.8.8", GONE])
def test_a_name_that_fails_alone_is_its_customers_fault(code: int, domain: Any) -> None:
    zones = Zones(broken=socket.gaierror(code, "failure"), example=domain)
    with pytest.raises(NameServersFail, match=r"a\.broken\.example could not be looked up") as failed:
        Resolver(lookup=zones).resolve("a.broken.example", 80).result(5)
    assert failed.value.exit_code == 1
    assert zones.calls == ["a.broken.example", "example."]


def test_it_is_while_another_is_answered_without_a_further_question() -> None:
    silent = threading.Event()
    zones = Zones(silent=silent, fine="8.8.8.8")
    resolver = Resolver(lookup=zones)
    future = resolver.resolve("a.silent.example", 80, account=1)
    assert zones.began.acquire(timeout=5)
    resolver.resolve("b.fine.example", 80, account=2).result(5)
    silent.set()
    with pytest.raises(NameServersFail):
        future.result(5)
    assert "example." not in zones.calls


@pytest.mark.parametrize("name", ["a.broken.example", "intranet"])
def test_a_name_that_fails_with_all_others_is_our_fault(name: str) -> None:
    zones = Zones(broken=AGAIN, example=AGAIN)
    lookup = zones if "." in name else Lookup(AGAIN)
    with pytest.raises(ResolverFailed):
        Resolver(lookup=lookup).resolve(name, 80).result(5)


@pytest.mark.parametrize("others_are_answered", [True, False])
def test_silence_until_the_deadline_is_judged_alike(others_are_answered: bool) -> None:
    silent = threading.Event()
    zones = Zones(silent=silent, fine="8.8.8.8")
    resolver = Resolver(lookup=zones)
    future = resolver.resolve("a.silent.example", 80, account=1)
    assert zones.began.acquire(timeout=5)
    if others_are_answered:
        resolver.resolve("b.fine.example", 80, account=2).result(5)
    resolver.give_up("a.silent.example", future)
    with pytest.raises(NameServersFail if others_are_answered else ResolverFailed):
        future.result(0)
    silent.set()


def test_giving_up_what_has_been_answered_changes_nothing() -> None:
    resolver = Resolver(lookup=Lookup())
    future = resolver.resolve("a.example", 80)
    assert future.result(5)
    resolver.give_up("a.example", future)
    resolver.give_up("b.example", future)
    assert future.result(0) == ["8.8.8.8"]


@pytest.mark.parametrize(("took", "remembered"), [(0.1, 3.0), (5.0, 30.0)])
@pytest.mark.parametrize("failure", [GONE, AGAIN])
def test_a_failing_name_is_not_asked_for_at_once_again_and_a_slow_one_not_for_a_while(
    took: float, remembered: float, failure: Exception
) -> None:
    now = [100.0]
    calls: list[str] = []

    def lookup(host: str, port: int, *, type: int) -> Any:
        calls.append(host)
        if host == "example.":
            return answer("8.8.8.8")
        now[0] += took
        raise failure

    resolver = Resolver(lookup=lookup, clock=lambda: now[0])
    kind = NoSuchName if failure is GONE else NameServersFail
    asked = []
    for wait in (0, remembered - 1, 2):
        now[0] += wait
        with pytest.raises(kind):
            resolver.resolve("a.example", 80).result(5)
        asked.append(calls.count("a.example"))
    assert asked == [1, 1, 2]


def test_what_is_remembered_is_bounded(lookup: Lookup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor_cli.outbound.resolver._REMEMBERED", 2)
    resolver = Resolver(threads=1, lookup=lookup)
    for name in ("a.example", "b.example", "c.example", "a.example", "c.example"):
        resolver.resolve(name, 80).result(5)
    assert lookup.calls == ["a.example", "b.example", "c.example", "a.example"]


@pytest.mark.parametrize("result", [answer("8.8.8.8"), socket.gaierror(socket.EAI_NONAME, "no")])
def test_the_loop_is_woken_once_for_each_lookup_that_has_ended(result: Any) -> None:
    done_when_woken: queue.SimpleQueue[bool] = queue.SimpleQueue()
    lookup = Lookup(result)
    lookup.gate.clear()
    resolver = Resolver(threads=1, lookup=lookup, wake=lambda: done_when_woken.put(futures.pop(0).done()))
    futures = [resolver.resolve("a.example", 80), resolver.resolve("b.example", 80)]
    lookup.gate.set()
    assert [done_when_woken.get(timeout=5) for _ in range(2)] == [True, True]
    assert done_when_woken.empty()


def test_a_wake_that_fails_stops_no_thread() -> None:
    def wake() -> None:
        raise OSError("the loop is gone")

    resolver = Resolver(threads=1, lookup=Lookup(), wake=wake)
    assert resolver.resolve("a.example", 80).result(5)
    assert resolver.resolve("b.example", 80).result(5)


def test_a_callback_of_a_result_may_ask_again() -> None:
    resolver = Resolver(threads=1, lookup=Lookup())
    again: list[Future[list[str]]] = []
    asked = threading.Event()

    def ask(_: Future[list[str]]) -> None:
        again.append(resolver.resolve("b.example", 80))
        asked.set()

    resolver.resolve("a.example", 80).add_done_callback(ask)
    assert asked.wait(5)
    assert again[0].result(5) == ["8.8.8.8"]


def test_close_ends_the_threads() -> None:
    before = threading.active_count()
    resolver = Resolver(threads=2, lookup=Lookup())
    for name in ("a.example", "b.example"):
        resolver.resolve(name, 80).result(5)
    resolver.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.001)
    assert threading.active_count() <= before


def test_a_hanging_lookup_does_not_keep_the_process() -> None:
    program = (
        "import time; from monitor_cli.outbound.resolver import Resolver\n"
        "Resolver(lookup=lambda *a, **k: time.sleep(600)).resolve('a.example', 80)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_one_refused_address_refuses_the_request() -> None:
    target = check_url("http://a.example/", Policy())
    assert judged_addresses(target, ["8.8.8.8", "2606:4700::1", "8.8.8.8"], Policy()) == ["8.8.8.8", "2606:4700::1"]
    for refused in ("127.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "169.254.169.254"):
        with pytest.raises(RefusedURL, match=r"a\.example"):
            judged_addresses(target, ["8.8.8.8", refused], Policy())
