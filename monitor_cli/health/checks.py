"""The checks of `check`: each looks at one thing and gives a Finding. docs/operations.md says what to do about each."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from monitor_cli.db import Connection, Database
from monitor_cli.dialect import now_ms
from monitor_cli.errors import MonitorError
from monitor_cli.health import clocks
from monitor_cli.health.findings import Finding, Limits, Measure, State, worst_of
from monitor_cli.store import backlog, overview, reports
from monitor_cli.words import elapsed, iso, listed, many

NAMES = ("database", "sync", "components", "owed", "callbacks", "clocks")

_CONDITIONS = {"word": "unknown words", "missing": "missing components"}


def examine(
    open_database: Callable[[], Database],
    sources: Sequence[str],
    limits: Limits,
    *,
    chosen: Collection[str] = NAMES,
    nodes: Iterable[str] = (),
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
) -> list[Finding]:
    """Make the `chosen` checks. Where the database cannot be used, that is the one finding, chosen or not. `sources`:
    the names of the configured ones; `nodes`: further servers of the database whose clocks are compared."""
    started = clock()
    try:
        database = open_database()
        found = [_database(clock() - started, database.where)]
        with database.read() as conn:
            if "sync" in chosen:
                found.append(_sync(conn, sources, limits))
            if "components" in chosen:
                found.append(_components(conn, sources))
            if "owed" in chosen:
                found.append(_owed(conn, limits))
            if "callbacks" in chosen:
                found.append(_callbacks(conn, limits))
        if "clocks" in chosen:
            found.append(_clocks(clocks.compare(database, nodes, wall), limits))
    except MonitorError as error:
        words = f"{error.message}{f' ({error.hint})' if error.hint else ''}"
        return [Finding("database", State.CRITICAL, words)]
    return [one for one in found if one.name in chosen]


def _database(took: float, where: str) -> Finding:
    words = f"database at this version's revision, answers in {took * 1000:.0f} ms"
    return Finding("database", State.OK, words, [Measure("database_time", took, "s")], {"database": where})


# --- sources ----------------------------------------------------------------------------------------------------------


def _sync(conn: Connection, configured: Sequence[str], limits: Limits) -> Finding:
    """Of the configured sources; where none is, of those that were ever read: they stand in a crontab."""
    states, now = reports.source_states(conn), now_ms(conn)
    names = list(configured) or sorted(states)
    if not names:
        return Finding("sync", State.CRITICAL, "no source is configured, and none was ever read", (), {"sources": []})
    words, measures, details, found = [], [], [], []
    for name in names:
        state = states.get(name, reports.State(None, None, None))
        begun = state.last_good_at if state.last_good_at is not None else state.failing_since
        age = None if begun is None else max(0.0, (now - begun) / 1000)
        verdict = State.CRITICAL if age is None else limits.sync.judge(age)
        found.append(verdict)
        details.append({"source": name, "state": verdict.name, "age_seconds": age, **_state(state)})
        if age is not None:
            measures.append(Measure(f"sync_{name}", age, "s", limits.sync))
        if verdict is not State.OK:
            words.append(f"source {name} {_unread(state, age)}")
    if not words:
        read = [one["age_seconds"] for one in details if one["last_good_at"]]
        words = [f"{many(len(read), 'source')} read, {elapsed(max(read))} ago at most"] if read else []
        words += [f"source {one['source']} not read well yet" for one in details if not one["last_good_at"]]
    return Finding("sync", worst_of(found), listed(words, between="; "), measures, {"sources": details})


def _unread(state: reports.State, age: float | None) -> str:
    if age is None:
        return "was never read: does incident-sync run?"
    how = "was never read well" if state.last_good_at is None else "was not read well"
    why = f": {state.error}" if state.error else ": does incident-sync run?"
    return f"{how} for {elapsed(age)}{why}"


def _state(state: reports.State) -> dict[str, Any]:
    return {
        "last_good_at": iso(state.last_good_at),
        "failing_since": iso(state.failing_since),
        "error": state.error,
    }


def _components(conn: Connection, configured: Sequence[str]) -> Finding:
    """Unknown words and missing components; of sources that are no longer configured they do not count."""
    lasting = [one for one in backlog.conditions(conn) if one.kind in _CONDITIONS and _counts(one, configured)]
    words = []
    for kind, what in _CONDITIONS.items():
        if subjects := [one.subject for one in lasting if one.kind == kind]:
            since = min(one.since_at for one in lasting if one.kind == kind)
            words.append(f"{what} since {iso(since, 'seconds')}: {listed(subjects)}")
    measures = [
        Measure("unknown_words", sum(one.kind == "word" for one in lasting)),
        Measure("missing_components", sum(one.kind == "missing" for one in lasting)),
    ]
    details = [
        {"kind": one.kind, "source": one.owner or None, "subject": one.subject, "since": iso(one.since_at)}
        for one in lasting
    ]
    state = State.WARNING if lasting else State.OK
    words = words or ["every word and component is known"]
    return Finding("components", state, "; ".join(words), measures, {"conditions": details})


def _counts(one: backlog.Condition, configured: Sequence[str]) -> bool:
    """A word is its source's; what is missing is the only source's, or '' where there are several (sync.reports)."""
    if not configured:
        return True
    owners = configured if one.kind == "word" else [configured[0] if len(configured) == 1 else ""]
    return one.owner in owners


# --- what is owed -----------------------------------------------------------------------------------------------------


def _owed(conn: Connection, limits: Limits) -> Finding:
    """What waits for callback-run. What waits for a customer, or is kept for one that may not be told, does not."""
    waiting = backlog.waiting_for_us(conn)
    owed, kept = overview.owed_now(conn)
    state = limits.owed.judge(waiting.age_seconds)
    parts = []
    if waiting.changed_servers:
        parts.append(f"changes of {many(waiting.changed_servers, 'server')} not planned")
    if waiting.deliveries:
        parts.append(f"{many(waiting.deliveries, 'delivery', 'deliveries')} due and not made")
    words = " and ".join(parts) or "nothing waits to be told"
    if state is not State.OK:
        words = f"{words}, the oldest for {elapsed(waiting.age_seconds)}: does callback-run run, and reach the network?"
    measures = [
        Measure("owed_age", waiting.age_seconds, "s", limits.owed),
        Measure("changes_waiting", waiting.changed_servers),
        Measure("deliveries_due", waiting.deliveries),
        Measure("callbacks_owed", owed.callbacks),
    ]
    details = {
        "age_seconds": waiting.age_seconds,
        "changes_waiting": waiting.changed_servers,
        "deliveries_due": waiting.deliveries,
        "owed": {"callbacks": owed.callbacks, "channels": owed.units, "since": iso(owed.since_at)},
        "kept": {"callbacks": kept.callbacks, "channels": kept.units, "since": iso(kept.since_at)},
    }
    return Finding("owed", state, words, measures, details)


def _callbacks(conn: Connection, limits: Limits) -> Finding:
    before = now_ms(conn) - int(limits.failing_for * 1000)
    found = overview.callbacks(conn, before)
    off = overview.off_and_subscribed(conn)
    words = []
    if limits.failing.judge(found.failing) is not State.OK:
        words.append(f"{many(found.failing, 'callback')} failing for over {elapsed(limits.failing_for)}")
    if limits.off.judge(off) is not State.OK:
        words.append(f"{many(off, 'callback')} switched off")
    state = worst_of([limits.failing.judge(found.failing), limits.off.judge(off)])
    measures = [
        Measure("callbacks_active", found.active),
        Measure("callbacks_failing", found.failing, "", limits.failing),
        Measure("callbacks_off", off, "", limits.off),
    ]
    details = {"active": found.active, "inactive": found.inactive, "failing": found.failing, "off": off}
    text = " and ".join(words) or f"{many(found.active, 'callback')} active"
    return Finding("callbacks", state, text, measures, details)


# --- clocks -----------------------------------------------------------------------------------------------------------


def _clocks(found: clocks.Clocks, limits: Limits) -> Finding:
    words, measures = list(_differences(found, limits)), []
    unasked = sum(node.error is not None and not node.named for node in found.nodes)
    well = "clocks agree" + (f" ({many(unasked, 'node')} of the cluster not compared)" if unasked else "")
    states = [limits.clock.judge(abs(node.ahead)) for node in found.nodes if node.ahead is not None]
    states += [State.WARNING for node in found.nodes if node.named and node.ahead is None]
    if found.ahead is not None:
        states.append(limits.clock.judge(abs(found.ahead)))
        measures.append(Measure("clock", abs(found.ahead), "s", limits.clock))
    measures += [
        Measure(f"clock_{node.address}", abs(node.ahead), "s", limits.clock)
        for node in found.nodes
        if node.ahead is not None
    ]
    nodes = [{"address": node.address, "ahead_seconds": node.ahead, "error": node.error} for node in found.nodes]
    details = {"ahead_seconds": found.ahead, "nodes": nodes}
    return Finding("clocks", worst_of(states), "; ".join(words) or well, measures, details)


def _differences(found: clocks.Clocks, limits: Limits) -> Iterator[str]:
    if found.ahead is not None and limits.clock.judge(abs(found.ahead)) is not State.OK:
        yield f"the database's clock is {_apart(found.ahead)} this host's"
    for node in found.nodes:
        if node.ahead is not None and limits.clock.judge(abs(node.ahead)) is not State.OK:
            yield f"the clock of the database's node {node.address} is {_apart(node.ahead)} the others'"
        elif node.named and node.error is not None:
            yield f"the node {node.address} cannot be compared: {node.error}"


def _apart(ahead: float) -> str:
    return f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'}"
