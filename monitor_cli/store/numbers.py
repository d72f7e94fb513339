"""The numbers that accounts rent, each on one channel."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select

from monitor_cli.csvfile import BadLines, Line
from monitor_cli.dialect import among, upsert
from monitor_cli.errors import MonitorError
from monitor_cli.schema import account, monitor, number
from monitor_cli.store import accounts
from monitor_cli.store.channels import IN_LIST, chunks
from monitor_cli.store.values import reader_of, token

COLUMNS = ("account", "channel_id", "number")
_BATCH = 1000

read_number = token(32)
"""Reads a number (values.py)."""
read_channel = reader_of(number.c.channel_id)
"""Reads a channel's id."""


class Number(NamedTuple):
    """A number of an account (its name) and the channel that it is on."""

    account: str
    number: str
    channel_id: int


class Counts(NamedTuple):
    """What an import did; `moved` ones were on another channel."""

    added: int
    moved: int
    unchanged: int


class _Entry(NamedTuple):
    account_id: int
    number: str
    channel_id: int


def listed(conn: Connection, account_name: str | None = None, channel_id: int | None = None) -> Iterator[Number]:
    """The numbers of an account, or on a channel, or all; read in blocks."""
    query = (
        select(account.c.name, number.c.number, number.c.channel_id)
        .select_from(number.join(account, account.c.id == number.c.account_id))
        .order_by(number.c.account_id, number.c.number)
    )
    if account_name is not None:
        query = query.where(number.c.account_id == accounts.find(conn, account_name).id)
    if channel_id is not None:
        query = query.where(number.c.channel_id == channel_id)
    for row in conn.execute(query.execution_options(yield_per=_BATCH)):
        yield Number(*row)


def add(conn: Connection, account_name: str, channel_id: int, numbers: Collection[str]) -> None:
    """Put numbers of an account on a channel; those that it has already are moved there."""
    accounts.refuse_views(conn, number)
    account_id = accounts.find(conn, account_name).id
    _write(conn, [_Entry(account_id, value, channel_id) for value in dict.fromkeys(numbers)])


def remove(conn: Connection, account_name: str, numbers: Collection[str]) -> None:
    """Remove numbers of an account. Raises MonitorError, and removes none, where one is not there."""
    accounts.refuse_views(conn, number)
    account_id = accounts.find(conn, account_name).id
    known = _channels(conn, [account_id], numbers)
    if missing := [value for value in numbers if (account_id, value) not in known]:
        raise MonitorError(
            f"{account_name} has no number {', '.join(missing[:10])}",
            f"see: monitor-cli number list --account {account_name}",
        )
    for some in chunks(numbers):
        conn.execute(delete(number).where(number.c.account_id == account_id, number.c.number.in_(some)))


def import_numbers(
    conn: Connection, lines: Sequence[Line], bad: BadLines, advance: Callable[[int], None] = lambda _: None
) -> Counts:
    """Add numbers and move those that are on another channel. Raises MonitorError with every bad line, those in `bad`
    included. `advance` is told how many lines were dealt with."""
    accounts.refuse_views(conn, number)
    bad = bad.copy()
    entries = _entries(conn, lines, bad)
    bad.check()
    return _write(conn, entries, advance)


def unserved(conn: Connection, channel_ids: Collection[int]) -> list[int]:
    """Those of the channels that no server is on: their numbers are never told anything."""
    served: set[int] = set()
    for some in chunks(sorted(channel_ids)):
        query = select(monitor.c.channel_id).where(among(monitor.c.channel_id, some)).distinct()
        served |= set(conn.execute(query).scalars())
    return sorted(set(channel_ids) - served)


def _entries(conn: Connection, lines: Sequence[Line], bad: BadLines) -> list[_Entry]:
    known = accounts.find_all(conn, {line.cells["account"] for line in lines})
    first: dict[tuple[int, str], int] = {}
    entries = []
    for line in lines:
        words = []
        owner = known.get(line.cells["account"])
        if owner is None:
            words.append(f"no account named {line.cells['account'][:60]!r}")
        values = {}
        for name, read in (("channel_id", read_channel), ("number", read_number)):
            try:
                values[name] = read(line.cells[name])
            except ValueError as error:
                words.append(f"{name} {error}")
        if owner is not None and not words:
            entry = _Entry(owner.id, **values)
            if (earlier := first.setdefault(entry[:2], line.number)) == line.number:
                entries.append(entry)
                continue
            words.append(f"it has the account and number of line {earlier}")
        bad.add(line.number, "; ".join(words))
    return entries


def _write(conn: Connection, entries: Sequence[_Entry], advance: Callable[[int], None] = lambda _: None) -> Counts:
    known = _channels(conn, {entry.account_id for entry in entries}, {entry.number for entry in entries})
    new = [entry for entry in entries if entry[:2] not in known]
    moved = [entry for entry in entries if known.get(entry[:2], entry.channel_id) != entry.channel_id]
    unchanged = len(entries) - len(new) - len(moved)
    advance(unchanged)
    move = upsert(conn, number, ["account_id", "number"], lambda new, _old: {"channel_id": new.channel_id})
    for statement, rows in ((insert(number), new), (move, moved)):
        for some in chunks(rows, _BATCH):
            conn.execute(statement, [entry._asdict() for entry in some])
            advance(len(some))
    return Counts(len(new), len(moved), unchanged)


def _channels(conn: Connection, account_ids: Collection[int], numbers: Collection[str]) -> dict[tuple[int, str], int]:
    """The channels of these accounts' numbers: of these alone while they are few, else of all."""
    query = select(number.c.account_id, number.c.number, number.c.channel_id)
    if len(numbers) <= IN_LIST:
        query = query.where(number.c.number.in_(numbers))
    return {
        (account_id, value): channel_id
        for some in chunks(sorted(account_ids))
        for account_id, value, channel_id in conn.execute(query.where(number.c.account_id.in_(some)))
    }
