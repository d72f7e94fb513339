"""What type a channel has in a region now: the worst of its servers there. Matched in Python, never by SQL on the
region: a platform's table has a collation of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from sqlalchemy import Connection, select

from monitor_cli.dialect import among
from monitor_cli.schema import monitor, number
from monitor_cli.types import Region, Type, Unit

T = TypeVar("T")

IN_LIST = 900  # values in one IN list: from 1000 on MariaDB makes a subquery of it, and locks rows in its order


def chunks(values: Iterable[T], size: int = IN_LIST) -> Iterator[Sequence[T]]:
    """The values in lists of at most `size`."""
    rest = iter(values)
    while chunk := list(islice(rest, size)):
        yield chunk


def whole_numbers(conn: Connection, account_id: int, channel_id: int, count: int, lines: str) -> tuple[str, ...]:
    """An account's `count` numbers on a channel, from their text of a line each (db.joined_lines); one by one where a
    view has a number with a line end in it, or the server cut the text."""
    values = tuple(lines.split("\n"))
    if len(values) == count:
        return values
    one = select(number.c.number).where(
        number.c.account_id == account_id, number.c.channel_id == channel_id, number.c.number.is_not(None)
    )
    return tuple(conn.execute(one).scalars())


def types_of(conn: Connection, channel_ids: Collection[int]) -> dict[Unit, Type | None]:
    """The present type of every unit on these channels; None where no server there has a known one."""
    return types_and_flags(conn, channel_ids)[0]


def types_and_flags(conn: Connection, channel_ids: Collection[int]) -> tuple[dict[Unit, Type | None], frozenset[Unit]]:
    """The same, and the units with a flagged server: their type may be that of a change which is not planned yet. Of
    one instant, each server's type and flag come from one row."""
    types: dict[Unit, Type | None] = {}
    flagged: set[Unit] = set()
    m = monitor.c
    columns = (m.channel_id, m.region, m.region_code, m.final_status, m.status_report)
    for some in chunks(channel_ids):
        for channel_id, region, region_code, final, flag in conn.execute(
            select(*columns).where(among(m.channel_id, some))
        ):
            unit, kind = Unit(channel_id, Region.of(region, region_code)), Type.read(final)
            known = types.get(unit)
            types[unit] = kind if known is None or (kind is not None and kind > known) else known
            if flag == 1:
                flagged.add(unit)
    return types, frozenset(flagged)
