"""A server row for each component of a source that has none yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from monitor_cli.csvfile import BadLines, Line
from monitor_cli.sync.survey import Surveyed
from monitor_cli.types import Component

_NAME_LENGTH = 100


class Numbers(NamedTuple):
    """A number for each of several servers: the same, or counting up from it."""

    first: int
    count_up: bool = False

    def of(self, place: int) -> int:
        return self.first + place if self.count_up else self.first


class Columns(NamedTuple):
    """What a page does not say of a server (None: left empty)."""

    server_id: Numbers | None = None
    channel_id: Numbers | None = None
    region: str | None = None
    region_code: str | None = None

    def missing(self) -> list[str]:
        return [name for name, value in self._asdict().items() if value is None]


def new_servers(surveyed: Iterable[Surveyed], columns: Columns, bad: BadLines) -> list[Line]:
    """The new servers as lines of an import, numbered by their component's place on the page; what no server can have
    as its server_tag goes into `bad`. Components that share a server_tag share a server."""
    lines: dict[str, Line] = {}
    for number, one in enumerate(surveyed, 1):
        if one.servers or one.server_tag in lines:
            continue
        if one.unfit:
            bad.add(number, f"its id {one.component.id[:60]!r} {one.unfit}: give it a server_tag with `tags`")
            continue
        lines[one.server_tag] = Line(number, _cells(one, columns, len(lines)))
    return list(lines.values())


def _cells(one: Surveyed, columns: Columns, place: int) -> dict[str, str]:
    return {
        "server_id": _number(columns.server_id, place),
        "name": _name(one.component),
        "server_tag": one.server_tag,
        "channel_id": _number(columns.channel_id, place),
        "region": columns.region or "",
        "region_code": columns.region_code or "",
    }


def _number(numbers: Numbers | None, place: int) -> str:
    return "" if numbers is None else str(numbers.of(place))


def _name(component: Component) -> str:
    return (component.name or component.id)[:_NAME_LENGTH].strip() or component.id[:_NAME_LENGTH]
