"""What sources have and which servers match it: for people who set a source up. Reads, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from monitor_cli.config import Source
from monitor_cli.db import Connection, Database
from monitor_cli.errors import SourceError
from monitor_cli.sources import Reading, examine
from monitor_cli.store import sync_rows
from monitor_cli.store.servers import READERS
from monitor_cli.sync.reading import Wanted
from monitor_cli.types import Component, OnlyAffected, Type
from monitor_cli.wrapping import Wrapper

Servers = Mapping[str, Sequence[int]]
"""The ids of the servers that have a server_tag, by it."""


class Surveyed(NamedTuple):
    """A component, what its source's table makes of it, and the servers that have its tag. `unfit`: why no server can
    have it ('' where one can)."""

    component: Component
    type: Type | None
    known: bool
    server_tag: str
    servers: Sequence[int]
    unfit: str


@dataclass
class SourceSurvey:
    """A source as it was read; `error`: why it could not be."""

    source: Source
    reading: Reading | None = None
    error: str | None = None
    components: list[Surveyed] = field(default_factory=list)

    @property
    def only_affected(self) -> bool:
        """Whether what the source does not name is operational."""
        return self.reading is not None and isinstance(self.reading.components, OnlyAffected)


def survey(database: Database, wanted: Iterable[Wanted]) -> tuple[list[SourceSurvey], Servers]:
    """Read sources, one after another; and the servers whose server_tag none of them has. Raises DatabaseAway."""
    read = [_read(one) for one in wanted]
    with database.read() as conn:
        servers = servers_by_tag(conn)
    for one in read:
        if one.reading is not None:
            one.components = [*surveyed(one.source, one.reading.components, servers)]
    there = {component.server_tag for one in read for component in one.components}
    return read, {tag: ids for tag, ids in servers.items() if tag not in there}


def servers_by_tag(conn: Connection) -> Servers:
    """Every server that has a server_tag."""
    found: dict[str, list[int]] = {}
    for block in sync_rows.blocks(conn, None):
        for row in block.glimpses():
            if row.tag:
                found.setdefault(row.tag, []).append(row.id)
    return found


def surveyed(source: Source, components: Iterable[Component], servers: Servers) -> Iterable[Surveyed]:
    """What there is to say about the components of a source."""
    wrapper = Wrapper(source)
    for component in components:
        tag = wrapper.tag_of(component.id)
        ids = servers.get(tag, ())
        yield Surveyed(component, *wrapper.type_of(component), tag, ids, "" if ids else _unfit(tag))


def _read(one: Wanted) -> SourceSurvey:
    try:
        return SourceSurvey(one.source, examine(one.source, one.files))
    except SourceError as error:
        return SourceSurvey(one.source, error=error.message)


def _unfit(tag: str) -> str:
    try:
        READERS["server_tag"](tag)
    except ValueError as error:
        return str(error)
    return ""
