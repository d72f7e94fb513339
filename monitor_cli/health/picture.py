"""What `status` shows: regions and servers, worst first, since when, from which incident, whom it concerns, what is
owed. Times are milliseconds since 1970 by the database's clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from monitor_cli.db import AnyRow, Connection
from monitor_cli.dialect import now_ms
from monitor_cli.store import overview, reports
from monitor_cli.store.overview import Callbacks, Count, Owed, Reach, Waiting
from monitor_cli.store.reports import State
from monitor_cli.types import Region, Type, worst

NOBODY = Reach(0, 0)


class Cause(NamedTuple):
    """The history row that tells how a server came to its type: its id, the source (None: by hand), and the incident's
    title and link where the source named one."""

    change_id: int
    source: str | None
    title: str | None
    link: str | None


class Server(NamedTuple):
    """A row of infi_voice_monitor as it stands: another program's may have NULL in any column, and one on no channel
    concerns nobody. `type` None: NULL or no word of ours. `since_at` and `cause` None: the
    newest history row does not tell this type, as where another program wrote it."""

    id: int
    server_id: int | None
    name: str
    server_tag: str
    channel_id: int | None
    region: Region
    incident_status: str | None
    final_status: str | None
    type: Type | None
    since_at: int | None
    cause: Cause | None


@dataclass(frozen=True)
class Place:
    """A region as a whole: its worst type, since when the server that has it longest has it and why, how many servers
    of each type, and whom those that are not operational concern."""

    region: Region
    type: Type | None
    since_at: int | None
    cause: Cause | None
    servers: Mapping[Type | None, int]
    reach: Reach


@dataclass(frozen=True)
class Picture:
    """All of it. `servers` are those that are not operational (or every one), worst first, then the newest change;
    `shown` of them have their `reach`, by channel."""

    at: int
    places: Sequence[Place]
    servers: Sequence[Server]
    reach: Mapping[int, Reach]
    waiting: Waiting
    owed: Owed
    kept: Owed
    callbacks: Callbacks
    sources: Mapping[str, State]

    def reach_of(self, server: Server) -> Reach:
        """Whom a shown server concerns."""
        return NOBODY if server.channel_id is None else self.reach.get(server.channel_id, NOBODY)

    def by_type(self) -> Counter[Type | None]:
        """How many servers have each type."""
        total: Counter[Type | None] = Counter()
        for place in self.places:
            total.update(place.servers)
        return total


def take(conn: Connection, *, every: bool = False, most: int | None = None) -> Picture:
    """Look at everything. `every`: the operational servers too; `most`: how many servers will be shown."""
    servers = sorted((_server(row) for row in overview.servers(conn, every=every)), key=_order)
    if not every:
        servers = [one for one in servers if one.type is not Type.OPERATIONAL]
    shown = servers if most is None else servers[:most]
    owed, kept = overview.owed_now(conn)
    counts = overview.counts(conn)
    reach = overview.reach_of_regions(conn, {one.region for one in counts})
    return Picture(
        at=now_ms(conn),
        places=_places(counts, servers, reach),
        servers=servers,
        reach=overview.reach_of_channels(conn, {one.channel_id for one in shown if one.channel_id is not None}),
        waiting=overview.waiting(conn),
        owed=owed,
        kept=kept,
        callbacks=overview.callbacks(conn),
        sources=reports.source_states(conn),
    )


def severity(kind: Type | None) -> int:
    """For sorting, worst first; what is unknown comes before what is well."""
    return {Type.CRITICAL: 0, Type.WARNING: 1, None: 2, Type.OPERATIONAL: 3}[kind]


def _order(one: Server) -> tuple[int, int, Region, int]:
    return severity(one.type), -(one.since_at or 0), one.region, one.id


def _server(row: AnyRow) -> Server:
    kind = Type.read(row.final_status)
    told = kind is not None and row.to_type is not None and Type.read(row.to_type) is kind
    return Server(
        id=row.id,
        server_id=row.server_id,
        name=row.name or "",
        server_tag=row.server_tag or "",
        channel_id=row.channel_id,
        region=Region.of(row.region, row.region_code),
        incident_status=row.incident_status,
        final_status=row.final_status,
        type=kind,
        since_at=row.created_at if told else None,
        cause=Cause(row.change_id, row.source, row.incident_title, row.incident_link) if told else None,
    )


def _places(counts: Iterable[Count], servers: Iterable[Server], reach: Mapping[Region, Reach]) -> list[Place]:
    by_region: dict[Region, Counter[Type | None]] = {}
    for one in counts:
        by_region.setdefault(one.region, Counter())[one.type] += one.servers
    longest: dict[tuple[Region, Type | None], Server] = {}
    for server in servers:
        known = longest.get((server.region, server.type))
        if server.since_at is not None and (known is None or server.since_at < (known.since_at or 0)):
            longest[server.region, server.type] = server
    places = []
    for region, types in by_region.items():
        kind = worst(types)
        first = longest.get((region, kind)) if kind is not Type.OPERATIONAL else None
        places.append(
            Place(
                region=region,
                type=kind,
                since_at=first.since_at if first else None,
                cause=first.cause if first else None,
                servers=types,
                reach=reach.get(region, NOBODY),
            )
        )
    return sorted(places, key=lambda one: (severity(one.type), -one.reach.numbers, one.region))
