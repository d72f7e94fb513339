"""The verdict on a fault run: nothing lost, nothing stale, and each repetition explained."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.fault.evidence import Evidence, overlaps, undisturbed
from tests.fault.receiver import Record
from tests.fault.scene import Unit, told_in

SETTLED_WITHIN = 1.5  # seconds from an answer to its record, on a machine that does ten other things
CLOCK = 0.15  # what two processes' views of one moment may differ by
RECONNECTED_WITHIN = 3.0  # seconds from the database's return until a worker has recorded what waited
# What a worker says on stderr while the database, and processes of its own, come and go.
SAYINGS = (
    *("monitor-cli: the database ", "monitor-cli: a helper process ended with exit code ", "  "),
    *("database.away ", "database.back", "delivery.unrecorded "),
)


@dataclass
class Verdict:
    """`violations` is empty where all holds; `figures` count what happened."""

    violations: list[str] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)
    longest_unrecorded: float = 0.0


def judge(evidence: Evidence) -> Verdict:
    verdict = Verdict()
    heard = _by_callback(evidence.records)
    for check in (_nothing_left, _workers_well_behaved, _no_lost_record):
        verdict.violations += check(evidence)
    for key, records in heard.items():
        verdict.violations += _newest_heard(evidence, key, records)
        verdict.violations += _never_stale(evidence, key, records, verdict)
        verdict.violations += _one_in_flight(evidence, key, records, verdict)
    verdict.violations += _repetitions(evidence, verdict)
    return verdict


def _by_callback(records: Sequence[Record]) -> dict[int, list[Record]]:
    heard: dict[int, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.arrived):
        heard[record.key].append(record)
    return heard


# --- 1: nothing lost --------------------------------------------------------------------------------------------------


def _nothing_left(evidence: Evidence) -> Iterator[str]:
    present = {unit: versions[-1].type for unit, versions in evidence.truth.items()}
    tables = evidence.tables
    for row in tables.servers:
        if row.status_report:
            yield f"server {row.id}: the flag is still set"
    for row in tables.deliveries:
        if row.state != "done" or row.open_callback_id is not None or row.lease_token or row.lease_until:
            yield f"delivery {row.id} of callback {row.callback_id} is not closed: {row}"
    for row in tables.owed:
        kind = present[row.channel_id, row.region_code]
        if (row.wanted > row.told) or row.told_type != kind or row.unsure:
            yield f"callback {row.callback_id} is told {row.told_type}, {kind} is true: {row}"
    if tables.plans:
        yield f"{tables.plans} rows are left in the plan's work table"


def _newest_heard(evidence: Evidence, key: int, records: Sequence[Record]) -> Iterator[str]:
    """The last that a callback took, or may have taken, of a unit is what is true now."""
    last: dict[Unit, tuple[str, Record]] = {}
    for record in records:
        if record.status != 500:
            last.update({unit: (kind, record) for unit, kind in told_in(record.payload)})
    for unit, (kind, record) in last.items():
        true = evidence.truth[unit][-1].type
        if kind != true and not evidence.woke_up_with_it(record):
            yield f"callback {key} believes {kind} of {unit}, {true} is true; {_story(evidence, unit, records)}"


def _story(evidence: Evidence, unit: Unit, records: Sequence[Record]) -> str:
    """What happened between a callback and a unit, for who has to find the fault."""
    heard = [
        f"{record.arrived:.3f}-{record.ended:.3f} {dict(told_in(record.payload)).get(unit)} {record.status}"
        f" {record.webhook_id} from {evidence.sender(record).pid}"
        for record in records
    ]
    ids = {record.webhook_id for record in records}
    rows = [
        f"{row.started_at / 1000:.3f}+{row.duration_ms} {row.http_status} {row.error} {row.webhook_id} late={row.late}"
        for row in evidence.tables.attempts
        if row.webhook_id in ids
    ]
    truth = [f"{version.type} {version.earliest:.3f}-{version.latest:.3f}" for version in evidence.truth[unit]]
    return "\n  ".join(["received:", *heard, "recorded:", *rows, "true:", *truth])


def _no_lost_record(evidence: Evidence) -> Iterator[str]:
    """What the tables call told was received and answered so."""
    answered = {record.webhook_id for record in evidence.records if record.status == 200}
    told = Counter(row.webhook_id for row in evidence.tables.attempts if row.http_status == 200 and not row.late)
    for webhook_id, count in told.items():
        if webhook_id not in answered:
            yield f"{webhook_id} is recorded as told and was never answered 200"
        if count > 1:
            yield f"{webhook_id} is recorded as told {count} times"


# --- 2: nothing stale -------------------------------------------------------------------------------------------------


def _never_stale(evidence: Evidence, key: int, records: Sequence[Record], verdict: Verdict) -> Iterator[str]:
    """Each request tells what was true within the lease before it came, and none tells an older truth than one before
    it. Types repeat: of the moments that a request can speak of, the earliest that is no step back is taken."""
    at: dict[Unit, int] = {}
    for record in records:
        for unit, kind in told_in(record.payload):
            since = record.arrived - evidence.lease - CLOCK
            possible = list(_versions(evidence, unit, kind, since, record.arrived + CLOCK))
            later = [number for number in possible if number >= at.get(unit, 0)]
            if later:
                at[unit] = later[0]
            elif evidence.woke_up_with_it(record):
                verdict.figures["stale from a worker stopped past its lease"] += 1
            else:
                yield (
                    f"callback {key} was told {kind} of {unit} at {record.arrived:.3f}: "
                    + ("an older truth after a newer one" if possible else "not true within the lease before it")
                )


def _versions(evidence: Evidence, unit: Unit, kind: str, since: float, until: float) -> Iterator[int]:
    """The versions of a unit that had this type and may have been true at some moment of a span."""
    versions = evidence.truth[unit]
    for number, version in enumerate(versions):
        ended = versions[number + 1].latest if number + 1 < len(versions) else float("inf")
        if version.type == kind and version.earliest <= until and ended >= since:
            yield number


# --- 3: each repetition explained -------------------------------------------------------------------------------------


def _repetitions(evidence: Evidence, verdict: Verdict) -> Iterator[str]:
    requests: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(evidence.records, key=lambda record: record.arrived):
        requests[record.webhook_id].append(record)
    attempts: dict[str, list[Any]] = defaultdict(list)
    for row in evidence.tables.attempts:
        attempts[row.webhook_id].append(row)
    for webhook_id, sent in requests.items():
        if len({(record.key, record.payload) for record in sent}) > 1:
            yield f"{webhook_id} stands for two contents: {sorted({record.payload for record in sent})}"
        for record, following in pairwise(sent):
            if record.status == 200:
                verdict.figures["duplicates"] += 1
                yield from _explain(evidence, record, following, attempts[webhook_id], verdict)


def _explain(
    evidence: Evidence, record: Record, following: Record, attempts: Sequence[Any], verdict: Verdict
) -> Iterator[str]:
    what = f"callback {record.key}: {record.webhook_id}, answered 200 at {record.ended:.3f}, came again"
    rows = [row for row in attempts if _is_of(row, record)]
    if given_up := [row for row in rows if row.http_status is None and not row.late]:
        verdict.figures["duplicates: the sender had given up at its deadline"] += 1
        if max(row.duration_ms for row in given_up) < 1000 * (evidence.deadline - CLOCK):
            yield f"{what}; its sender gave it up before its deadline: {given_up[0].error}"
        return
    if any(row.http_status == 200 and not row.late and not _is_of(row, following) for row in rows):
        if not evidence.woke_up_with_it(following):
            yield f"{what}, though it was recorded"
        return
    if following.arrived - record.arrived < evidence.lease - evidence.longest_pause - evidence.deadline - CLOCK:
        yield f"{what} {following.arrived - record.arrived:.3f} s later, before its lease can have run out"
    if any(row.late for row in rows):
        verdict.figures["duplicates: recorded too late by a worker that was held up"] += 1
        held_up = [*evidence.stops, *evidence.outages[evidence.sender(record).place]]
        if not overlaps((record.arrived - evidence.longest_pause, following.arrived), held_up):
            yield f"{what}; it was recorded late, and nothing held its worker up"
        return
    yield from _explain_death(evidence, record, what, verdict)


def _explain_death(evidence: Evidence, record: Record, what: str, verdict: Verdict) -> Iterator[str]:
    """No record: its sender died before it could write one, or could not write for as long as its lease lasted."""
    life = evidence.sender(record)
    outages = [(begin, end + RECONNECTED_WITHIN) for begin, end in evidence.outages[life.place]]
    # A process that is stopped inside a transaction holds its locks, for others to wait for.
    others = [(begin, end + RECONNECTED_WITHIN) for begin, end in evidence.stops]
    if life.killed is None:
        verdict.figures["duplicates: the database was away for longer than the lease"] += 1
        if not overlaps((record.arrived, record.arrived + evidence.lease), [*outages, *others]):
            yield f"{what}; its worker lived, and nothing kept it from recording it"
        return
    verdict.figures["duplicates: the worker was killed before it recorded it"] += 1
    span = (record.ended, life.killed)
    waited = undisturbed(span, [*outages, *((begin, end + CLOCK) for begin, end in life.stops)])
    verdict.longest_unrecorded = max(verdict.longest_unrecorded, waited)
    if waited > SETTLED_WITHIN:
        verdict.figures["of them while another was stopped, perhaps with locks"] += 1
        if undisturbed(span, [*outages, *others]) > SETTLED_WITHIN:
            yield f"{what}; its worker died {waited:.3f} s later, and nothing had kept it from recording it"


def _is_of(row: Any, record: Record) -> bool:
    """Whether an attempt's row is about this request."""
    started, ended = row.started_at / 1000, (row.started_at + row.duration_ms) / 1000
    return started - CLOCK <= record.arrived and record.arrived <= ended + CLOCK


# --- 4: one in flight -------------------------------------------------------------------------------------------------


def _one_in_flight(evidence: Evidence, key: int, records: Sequence[Record], verdict: Verdict) -> Iterator[str]:
    for record, following in pairwise(records):
        if following.arrived < record.ended:
            verdict.figures["two in flight"] += 1
            if not (evidence.woke_up_with_it(record) or evidence.woke_up_with_it(following)):
                yield f"callback {key} had two requests in flight at {following.arrived:.3f}"


# --- 5: manners -------------------------------------------------------------------------------------------------------


def _workers_well_behaved(evidence: Evidence) -> Iterator[str]:
    for life in evidence.lives:
        if life.code not in ((None,) if life.helper else (0, 75, -9, -15)):
            yield f"a worker ended with {life.code}"
        if life.killed is None and life.code == -9:
            yield "a worker did not end by itself"
    for worker in evidence.workers:
        for line in worker.said.read_text(errors="replace").splitlines():
            if not line.startswith(SAYINGS) or "Traceback" in line:
                yield f"a worker said: {line}"
