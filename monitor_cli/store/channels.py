"""What type a channel has in a region now: the worst of its servers there. Matched in Python, never by SQL on the
region: a platform's table has a collation of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import NamedTuple, TypeVar

from sqlalchemy import Connection, select

from monitor_cli.dialect import decoded_rows
from monitor_cli.schema import monitor, number
from monitor_cli.types import Region, Type, Unit

T = TypeVar("T")

IN_LIST = 900  # values in one IN list: from 1000 on MariaDB makes a subquery of it, and locks rows in its order


def chunks(values: Iterable[T], size: int = IN_LIST) -> Iterator[list[T]]:
    """The values in lists of at most `size`."""
    rest = iter(values)
    while chunk := list(islice(rest, size)):
        yield chunk


def count_of(counted: str | None) -> int:
    """How many numbers a text (dialect.counted_lines) or its beginning tells of."""
    return int(counted.split("\n", 1)[0]) if counted else 0


def whole_numbers(
    conn: Connection, account_id: int, channel_id: int, counted: str | None, cut_at: int | None = None
) -> tuple[str, ...]:
    """An account's numbers on a channel, from their text (dialect.counted_lines) or its first `cut_at` characters; one
    by one where that is not all, or a view has a number with a line end in it."""
    if counted is None:
        return ()
    lines = counted.split("\n")
    if len(lines) == int(lines[0]) + 1 and len(counted) != cut_at:
        return tuple(lines[1:])
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
    for some in chunks(channel_ids):
        rows = decoded_rows(conn, _Server, ("channel_id", "status_report"), _SERVER_TEXTS, _ON_THESE, {"ids": some})
        for channel_id, flag, region, region_code, final in rows:
            unit, kind = Unit(channel_id, Region.of(region, region_code)), Type.read(final)
            known = types.get(unit)
            types[unit] = kind if known is None or (kind is not None and kind > known) else known
            if flag == 1:
                flagged.add(unit)
    return types, frozenset(flagged)


class _Server(NamedTuple):
    channel_id: int
    status_report: int | None
    region: str | None
    region_code: str | None
    final_status: str | None


_SERVER_TEXTS = ("region", "region_code", "final_status")
_ON_THESE = f"FROM {monitor.name} WHERE channel_id IN (:ids)"
