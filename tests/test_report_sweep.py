"""The sweep through the history against a model that asks, for each second, what every server was."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from monitor_cli import schema
from monitor_cli.dialect import insert_rows
from monitor_cli.reports.history import Past
from monitor_cli.reports.totals import GONE, UNKNOWN, Figures, Totals
from monitor_cli.reports.window import Window
from monitor_cli.store.history import record
from monitor_cli.types import Region, Type
from tests.support.stores import Store

END = 40  # seconds that the model knows
REGIONS = (Region("karnataka", "KA-IN"), Region("kerala", "KL-IN"))


class Change(NamedTuple):
    at: int
    from_type: Type | None
    to: Type
    region: Region


class Row(NamedTuple):
    """A row of infi_voice_monitor; times in seconds, created 0: not known."""

    created: int
    modified: int
    type: Type | None
    region: Region


class Server(NamedTuple):
    """`row` None: it was removed."""

    row: Row | None
    changes: tuple[Change, ...]


# --- the model --------------------------------------------------------------------------------------------------------


def kind_at(server: Server, second: int) -> tuple[int, Region] | None:
    """What a server is throughout a second, by the rules of docs/reports.md; None: it is not there."""
    changes, row = server.changes, server.row
    past = [change for change in changes if change.at <= second]
    if row is None:
        if not past or second >= changes[-1].at:
            return None
        return int(past[-1].to), past[-1].region
    if changes and changes[-1].at < row.modified <= second and (row.type, row.region) != changes[-1][2:]:
        return _number(row.type), row.region
    if past:
        return int(past[-1].to), past[-1].region
    if row.created and second < row.created:
        return None
    return (_number(changes[0].from_type), changes[0].region) if changes else (_number(row.type), row.region)


def _number(kind: Type | None) -> int:
    return UNKNOWN if kind is None else int(kind)


def figures(kinds: list[int | None]) -> Figures | None:
    """What a subject's figures are that was these, second by second; None: it was never there."""
    if all(kind is None for kind in kinds):
        return None
    lasted, mended = [], []
    run = 0
    for kind in [*kinds, None]:
        if kind is not None and kind > 0:
            run += 1
        elif run:
            lasted.append(run)
            if kind == 0:
                mended.append(run)
            run = 0
    times = {kind: 1000 * kinds.count(kind) for kind in (0, 1, 2, UNKNOWN)}
    last = kinds[-1]
    return Figures(
        *times.values(),
        incidents=len(lasted),
        mttr=1000 * sum(mended) / len(mended) if mended else None,
        longest=1000 * max(lasted, default=0),
        open=last is not None and last > 0,
    )


def region_at(servers: list[Server], region: Region, second: int) -> int | None:
    there = [found[0] for server in servers if (found := kind_at(server, second)) and found[1] == region]
    return max(there, default=None)  # UNKNOWN is below every type


# --- what is drawn ----------------------------------------------------------------------------------------------------

types = st.sampled_from(Type)
maybe = st.sampled_from([*Type, None])
regions = st.sampled_from(REGIONS)
seconds = st.integers(1, END)


@st.composite
def servers(draw: st.DrawFn) -> Server:
    times = sorted(draw(st.lists(seconds, max_size=6)))
    changes = tuple(Change(at, draw(maybe), draw(types), draw(regions)) for at in times)
    if changes and draw(st.integers(0, 3)) == 0:
        return Server(None, changes)
    quiet = draw(st.booleans())  # its row says what its last change says
    kind, region = (changes[-1].to, changes[-1].region) if changes and quiet else (draw(maybe), draw(regions))
    return Server(Row(draw(st.integers(0, END)), draw(st.integers(0, END)), kind, region), changes)


def write(store: Store, drawn: list[Server]) -> None:
    """The tables say this and nothing else."""
    columns = ("id", "server_id", "name", "server_tag", "channel_id", "region", "region_code", "final_status")
    with store.write() as conn:
        conn.execute(delete(schema.monitor))
        conn.execute(delete(schema.change))
        rows: list[list[Any]] = []
        for id_, (row, _) in enumerate(drawn, 1):
            if row is not None:
                word = None if row.type is None else row.type.word.upper()
                rows.append([id_, id_, f"s{id_}", "tag", 1, *row.region, word, row.created, row.modified])
        insert_rows(conn, schema.monitor, (*columns, "created", "modified"), rows)
        all_changes = sorted(((c.at, id_, n, c) for id_, s in enumerate(drawn, 1) for n, c in enumerate(s.changes)))
        record(conn, [_history(id_, change) for _, id_, _, change in all_changes])


def _history(monitor_id: int, change: Change) -> dict[str, Any]:
    return {
        "monitor_id": monitor_id,
        "server_id": monitor_id,
        "name": f"s{monitor_id}",
        "channel_id": 1,
        "region": change.region.region,
        "region_code": change.region.region_code,
        "from_type": None if change.from_type is None else change.from_type.word,
        "to_type": change.to.word,
        "source": "test",
        "incident_status": "word",
        "incident_title": None,
        "incident_link": None,
        "flag_stood": 0,
        "created_at": change.at * 1000,
    }


# --- the comparison ---------------------------------------------------------------------------------------------------


def compare(store: Store, drawn: list[Server], since: int, until: int, noting: str) -> None:
    write(store, drawn)
    window = Window(since * 1000, until * 1000)
    with store.read() as conn:
        past = Past(conn, window, cells=until - since, noting=noting)
        periods = list(past.periods())
    ids = {subject.id: slot for slot, subject in enumerate(past.subjects)}
    for id_, server in enumerate(drawn, 1):
        found = [kind_at(server, second) for second in range(since, until)]
        expected = figures([None if one is None else one[0] for one in found])
        assert _there(past.sweep.servers.figures(ids[id_])) == expected, (id_, server)
    numbers = dict(past.sweep.region_numbers())
    for region in REGIONS:
        kinds = [region_at(drawn, region, second) for second in range(since, until)]
        got = _there(past.sweep.regions.figures(numbers[region])) if region in numbers else None
        assert got == figures(kinds), region
        if got is not None:
            assert past.sweep.regions.picture(numbers[region]) == bytes(
                0 if kind is None or kind == UNKNOWN else 1 + kind for kind in kinds
            )
    if noting:
        totals = past.sweep.regions if noting == "region" else past.sweep.servers
        counted = sum(totals.figures(n).incidents for n in range(len(totals.kind)))
        assert len(periods) == counted
        assert all(period.slots for period in periods)


def _there(found: Figures) -> Figures | None:
    return found if found.known + found.unknown else None


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    drawn=st.lists(servers(), min_size=1, max_size=4),
    window=st.tuples(st.integers(1, END), st.integers(1, END)).filter(lambda w: w[0] != w[1]),
    noting=st.sampled_from(["", "region", "server"]),
)
def test_it_is_what_asking_each_second_gives(
    database: Store, drawn: list[Server], window: tuple[int, int], noting: str
) -> None:
    compare(database, drawn, min(window), max(window), noting)


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_what_happens_in_one_millisecond_happens_at_once() -> None:
    totals = Totals(0, 1000)
    subject = totals.add()
    totals.move(subject, 0, 0)
    totals.move(subject, 200, 2)
    totals.move(subject, 300, 1)
    totals.move(subject, 300, 2)  # nothing lies between
    totals.move(subject, 500, 0)
    totals.close()
    assert totals.figures(subject) == Figures(700, 0, 300, 0, incidents=1, mttr=300, longest=300, open=False)


@pytest.mark.parametrize(("end", "mttr"), [(0, 300.0), (UNKNOWN, None), (GONE, None)])
def test_only_what_became_operational_was_mended(end: int, mttr: float | None) -> None:
    totals = Totals(0, 1000)
    subject = totals.add()
    totals.move(subject, 100, 1)
    totals.move(subject, 400, end)
    totals.close()
    found = totals.figures(subject)
    assert (found.incidents, found.longest, found.mttr, found.open) == (1, 300, mttr, False)


def test_a_block_with_odd_characters_is_read_row_by_row(database: Store) -> None:
    odd = Region("two\x1eparts\x1f", "X")
    server = Server(Row(1, 1, Type.CRITICAL, odd), (Change(5, Type.OPERATIONAL, Type.CRITICAL, odd),))
    write(database, [server])
    with database.read() as conn:
        past = Past(conn, Window(1000, 11_000))
        past.run()
    assert dict(past.sweep.region_numbers()).keys() == {odd}
    assert past.sweep.regions.figures(0).critical == 6000


def test_a_history_of_more_than_one_block_within_one_millisecond(
    database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor_cli.store.past.BLOCK", 7)
    drawn = [
        Server(Row(1, 1, Type.CRITICAL, REGIONS[n % 2]), (Change(5, Type.OPERATIONAL, Type.CRITICAL, REGIONS[n % 2]),))
        for n in range(40)
    ]
    compare(database, drawn, 1, 11, "")
