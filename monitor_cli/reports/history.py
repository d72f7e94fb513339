"""From the stored history to the sweep's events: what each server was when the window began, and what became of it.

The history has every change that was recorded; what it does not say did not happen. So before its oldest change that is
kept a server was what that change changed *from*, and one without any change is what its row says. Where the row says
otherwise than the newest change (another program wrote it, or the server was moved), that counts from the row's
`modified` on. A server is there from `created` on, or from its first change; one that was removed, between the first
and the last change that is kept of it.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from itertools import islice
from typing import NamedTuple

from monitor_cli.db import Connection
from monitor_cli.reports.sweep import CHANGE, FIRST, LAST, Event, Sweep
from monitor_cli.reports.totals import GONE, UNKNOWN, Period
from monitor_cli.reports.window import Window
from monitor_cli.store import past
from monitor_cli.store.past import Said, Server, State
from monitor_cli.types import Region, Type


class Subject(NamedTuple):
    """A server that a report is about: its row's id, server_id and name, its channel, and whether it was removed."""

    id: int
    server_id: int
    name: str
    channel_id: int
    removed: bool


class Past:
    """The history of a window, of all servers or of those on some channels: `run` goes through it, or `periods`."""

    def __init__(
        self,
        conn: Connection,
        window: Window,
        channels: Collection[int] | None = None,
        *,
        cells: int = 0,
        noting: str = "",
    ) -> None:
        self.noting = noting
        self._conn, self._window, self._said = conn, window, bool(noting)
        self.sweep = Sweep(window, cells=cells, noting=noting)
        self.subjects: list[Subject] = []
        self.odd = 0  # servers whose row says otherwise than their history
        self.undated = 0  # of the others, those whose row says otherwise too, but not since when
        self._slots: dict[int, int] = {}
        self._first: list[Event] = []  # what there is when the window begins
        self._extra: list[Event] = []  # what happens beside the changes
        for server in past.servers(conn, window.since, said=self._said):
            if channels is None or server.channel_id in channels:
                self._begin(server)

    def run(self) -> None:
        """Go through all of it."""
        for _ in self.periods():
            pass

    def periods(self) -> Iterator[Period]:
        """Go through it; gives the periods in which what is noted was not operational, in the order of their ends."""
        sweep = self.sweep
        sweep.feed(self._first)
        blocks = self._blocks()
        if self._extra:  # merged only where there is something to merge
            merged = heapq.merge((event for block in blocks for event in block), sorted(self._extra, key=_order))
            blocks = iter(lambda: list(islice(merged, past.BLOCK)), [])
        for block in blocks:
            sweep.feed(block)
            yield from self._taken()
        sweep.close()
        yield from self._taken()

    def _taken(self) -> Iterator[Period]:
        yield from self.sweep.regions.take_periods()
        yield from self.sweep.servers.take_periods()

    def _blocks(self) -> Iterator[list[Event]]:
        slots, region, window = self._slots, self.sweep.region, self._window

        def made(kind: Type | None, place: Region, said: Said | None) -> tuple[int, int, Said | None]:
            return UNKNOWN if kind is None else int(kind), region(place), said

        for rows in past.changes(self._conn, window.since, window.until, made, said=self._said):
            yield [(at, CHANGE, id_, slots[of], *what) for at, id_, of, what in rows if of in slots]

    def _begin(self, server: Server) -> None:
        """Its place in the sweep, and what is to be known of it beside its changes within the window."""
        slot = self._slots[server.id] = self.sweep.server()
        removed = server.now is None
        self.subjects.append(Subject(server.id, server.server_id, server.name, server.channel_id, removed))
        since, until = self._window.since, self._window.until
        late = written_by_others(server)
        state = beginning(server, since)
        if late is not None:
            self.odd += 1
            if late.at <= since:
                state = late
            elif late.at < until:
                self._extra.append(self._event(late, LAST, slot))
        elif differs(server):
            self.undated += 1
        if state is not None and state.at < until:
            place = self._first if state.at <= since else self._extra
            place.append(self._event(state._replace(at=max(state.at, since)), FIRST, slot))
        if removed and server.last is not None and since <= server.last.at < until:
            self._extra.append((server.last.at, LAST, slot, slot, GONE, 0, None))

    def _event(self, state: State, order: int, slot: int) -> Event:
        kind = UNKNOWN if state.type is None else int(state.type)
        return (state.at, order, slot, slot, kind, self.sweep.region(state.region), state.said)


def beginning(server: Server, since: int) -> State | None:
    """What a server was when the window began, or when it came to be within it. None: it begins with a change of its
    own, or it was gone before."""
    if server.now is None:  # removed: known between its changes alone
        still = server.last is not None and server.last.at >= since
        return server.before if still else None
    if server.before is not None:
        return server.before
    created = since if server.created is None else server.created
    if server.first is not None:
        return server.first._replace(at=min(created, server.first.at))
    return server.now._replace(at=created)


def written_by_others(server: Server) -> State | None:
    """What its row says and its history does not; None where they agree, or `modified` says nothing of since when."""
    now, last = server.now, server.last
    return now if differs(server) and now is not None and last is not None and now.at > last.at else None


def differs(server: Server) -> bool:
    """Whether its row says otherwise than its history."""
    now, last = server.now, server.last
    return now is not None and last is not None and (now.type, now.region) != (last.type, last.region)


def _order(event: Event) -> tuple[int, int, int]:
    return event[:3]
