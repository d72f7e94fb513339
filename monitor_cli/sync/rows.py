"""The rows of infi_voice_monitor in a sync: looking at all, judging those that may differ, writing what does."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress, starmap
from operator import ne, or_
from typing import Any, NamedTuple

from monitor_cli.db import Connection
from monitor_cli.dialect import ROW_END, now_ms
from monitor_cli.store import history, reports, standings, sync_rows
from monitor_cli.store.standings import Standing
from monitor_cli.store.sync_rows import Block, Glimpse, Values
from monitor_cli.sync.absent import said_by_silence
from monitor_cli.sync.judging import Change, Columns, Rules, change_of, judge
from monitor_cli.sync.reports import Whole
from monitor_cli.types import Type
from monitor_cli.wrapping import Observation, Observed

_TITLE_LENGTH, _LINK_LENGTH = 1000, 2000


@dataclass
class Found:
    """What a look at every row gave: how many there are, the ids of those to write or to remember something of, the
    tags that no source has, those that several have, and the ids that are remembered but gone."""

    rows: int = 0
    ids: list[int] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)
    gone: list[int] = field(default_factory=list)

    def whole(self, observed: Observed) -> Whole:
        return Whole(self.missing, {tag: observed.shared[tag] for tag in self.shared})


class Judged(NamedTuple):
    """Whole rows, judged: what to write, and what to remember by row (None: nothing any more)."""

    changes: list[Change]
    standings: dict[int, Standing | None]


# --- looking ----------------------------------------------------------------------------------------------------------


def scan(conn: Connection, blocks: Iterable[Block], observed: Observed, rules: Rules, *, all_read: bool) -> Found:
    """Look at every row, in its `blocks`, without a lock. `all_read`: there are no sources but those that were read."""
    said = observed.said
    if odd := sync_rows.storable(conn, {seen.word for seen in said.values()}):
        observed.restate(odd)
        said = observed.said
    if not all_read:
        observed.held = reports.subjects(conn, "", "shared")
    return _Look(conn, observed, rules, said).at_all(blocks, all_read)


class _Look:
    """One look at every row. Most are as they should be: a step at a time for a whole block tells these."""

    def __init__(self, conn: Connection, observed: Observed, rules: Rules, said: Mapping[int, Observation]) -> None:
        self._conn = conn
        self._observed = observed
        self._rules = rules
        self._unnamed: dict[str, list[int]] = {}
        self._states = {id(None): ROW_END, **{key: _state(seen) for key, seen in said.items()}}
        self._found = Found()

    def at_all(self, blocks: Iterable[Block], all_read: bool) -> Found:
        found, last = self._found, sync_rows.BEFORE_ALL
        remembering = standings.there_are(self._conn)
        for block in blocks:
            found.rows += block.rows
            kept = standings.between(self._conn, last, block.last) if remembering else {}
            gone = set(kept)
            for row in self._odd(block, kept):
                gone.discard(row.id)
                self._row(row, kept.get(row.id))
            found.gone += gone
            last = block.last
        if remembering:
            found.gone += standings.between(self._conn, last, None)
        said = said_by_silence(self._conn, self._observed, self._unnamed, all_read=all_read)
        self._observed.tags.update(said)
        found.ids += (id_ for tag in said for id_ in self._unnamed[tag])
        found.ids = sorted(set(found.ids))  # rows are locked in this order
        found.missing.update(self._unnamed.keys() - said.keys())
        return found

    def _odd(self, block: Block, kept: Collection[int]) -> Iterator[Glimpse]:
        """The rows that are not simply as their component is, and those that something is remembered of."""
        columns, shared = block.columns(), self._observed.shared
        seen = map(self._observed.tags.get, columns.tags)
        odd = map(ne, columns.states, map(self._states.__getitem__, map(id, seen)))
        if shared:
            odd = map(or_, odd, map(shared.__contains__, columns.tags))
        if kept:
            odd = map(or_, odd, map(set(map(str, kept)).__contains__, columns.ids))
        return starmap(sync_rows.glimpse, compress(zip(*columns, strict=True), odd))

    def _row(self, row: Glimpse, standing: Standing | None) -> None:
        observed, tag = self._observed, row.tag
        seen = observed.tags.get(tag)
        columns = Columns(row.word, row.final, row.capacity, row.used)
        if seen is not None:
            if tag in observed.shared:
                self._found.shared.add(tag)
        elif tag and (silence := observed.silence(tag)) is None:
            self._found.missing.add(tag)
        elif tag and self._moves(columns, silence, standing):
            self._unnamed.setdefault(tag, []).append(row.id)
        if self._moves(columns, _heard(observed, tag, row.final), standing):
            self._found.ids.append(row.id)

    def _moves(self, columns: Columns, seen: Observation | None, standing: Standing | None) -> bool:
        verdict = judge(self._rules, columns, seen, standing)
        return verdict.writes or verdict.standing != standing


def _state(seen: Observation) -> str:
    """What a row says that is as was said."""
    if seen.type is None:
        return ROW_END  # no row's: each has to be looked at
    return sync_rows.state_of(seen.word, seen.type.word)


def _heard(observed: Observed, tag: str, final: str | None) -> Observation | None:
    """What was said of a tag that counts: where another source that has it was not read, only what is worse."""
    seen = observed.tags.get(tag)
    if seen is None or tag not in observed.held or seen.type is None:
        return seen
    return seen if seen.type > (Type.read(final) or Type.OPERATIONAL) else None


# --- judging and writing ----------------------------------------------------------------------------------------------


def judged(conn: Connection, ids: Sequence[int], observed: Observed, rules: Rules, *, lock: bool) -> Judged:
    """Judge these rows as they are now; locked, if they are to be written."""
    rows, kept = sync_rows.at(conn, ids, lock=lock), standings.at(conn, ids)
    result = Judged([], {})
    for row in rows:
        seen = _heard(observed, row.server_tag, row.final_status)
        columns = Columns(row.incident_status, row.final_status, row.capacity, row.used)
        verdict = judge(rules, columns, seen, kept.get(row.id))
        if change := change_of(row, verdict, seen):
            result.changes.append(change)
        if verdict.standing != kept.get(row.id):
            result.standings[row.id] = verdict.standing
    return result


def write(conn: Connection, found: Judged) -> int:
    """Write locked rows, the history of their types, and what is remembered of them; gives how many rows."""
    written = 0
    if found.changes:
        groups: dict[Values, list[int]] = {}
        for change in found.changes:
            groups.setdefault(Values(change.new_word, change.to), []).append(change.row.id)
        now = now_ms(conn)
        history.record(conn, (_history(change, change.to, now) for change in found.changes if change.to is not None))
        written = sync_rows.write(conn, groups, now // 1000)
    standings.write(conn, found.standings)
    return written


def _history(change: Change, to: Type, now: int) -> dict[str, Any]:
    row, incident = change.row, change.incident
    return {
        "monitor_id": row.id,
        "server_id": row.server_id,
        "name": row.name,
        "channel_id": row.channel_id,
        "region": row.region,
        "region_code": row.region_code,
        "from_type": None if change.before is None else change.before.word,
        "to_type": to.word,
        "source": change.source,
        "incident_status": change.word,
        "incident_title": incident.title[:_TITLE_LENGTH] if incident else None,
        "incident_link": incident.link if incident and len(incident.link or "") <= _LINK_LENGTH else None,
        "flag_stood": int(row.status_report == 1),
        "created_at": now,
    }
