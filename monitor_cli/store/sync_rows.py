"""incident-sync's statements on infi_voice_monitor: reading every row, locking and writing those that change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import starmap
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select, text, update

from monitor_cli.db import AnyRow
from monitor_cli.dialect import ROW_END, VALUE_END, among, is_mysql, packed_in_three
from monitor_cli.schema import monitor
from monitor_cli.store.channels import chunks
from monitor_cli.types import Type

BEFORE_ALL = -(2**63)  # an id
BLOCK = 20_000  # rows read at once
# Rows locked and written at once: no more than channels.IN_LIST, for its reason.
BATCH = 500


_TAG, _WORDS = "server_tag", ("incident_status", "final_status")


class ServerRow(NamedTuple):
    """What a sync needs of a row that it may write."""

    id: int
    server_id: int | None
    server_tag: str
    name: str | None
    channel_id: int | None
    capacity: int | None
    used: int | None
    region: str | None
    region_code: str | None
    incident_status: str | None
    final_status: str | None
    status_report: int | None


_WHOLE = tuple(monitor.c[name] for name in ServerRow._fields)


class Values(NamedTuple):
    """What a row gets: the source's word (None: it keeps its own), and a type where it changed."""

    word: str | None
    type: Type | None


# --- every row --------------------------------------------------------------------------------------------------------


class Glimpse(NamedTuple):
    """What a look at a row tells; NULL is '' here. The capacity is 0 where the load is low."""

    id: int
    tag: str
    word: str
    final: str
    capacity: int
    used: int


class Block(NamedTuple):
    """Some rows by id as one text with three values for each: its tag; its word, type, capacity and used (or nothing)
    with VALUE_ENDs between; its id. A ROW_END stands between all of them."""

    rows: int
    last: int
    text: str

    def columns(self) -> Columns:
        values = self.text.split(ROW_END) if self.rows else []
        return Columns(values[::3], values[1::3], values[2::3])

    def glimpses(self) -> Iterator[Glimpse]:
        """All of its rows."""
        return starmap(glimpse, zip(*self.columns(), strict=True))

    @property
    def is_whole(self) -> bool:
        """Whether it can be taken apart: nothing is missing, and no value has a mark in it."""
        return (self.text.count(ROW_END), self.text.count(VALUE_END)) == (self.rows * 3 - 1, self.rows * 3)


class Columns(NamedTuple):
    """The tags of a block's rows, what else each of them says, and their ids."""

    tags: list[str]
    states: list[str]
    ids: list[str]


def glimpse(tag: str, state: str, id_: str) -> Glimpse:
    """What a row of a block says."""
    word, final, capacity, used = state.split(VALUE_END)
    return Glimpse(int(id_), tag, word, final, _whole(capacity), _whole(used))


def state_of(word: str, final: str) -> str:
    """What a row of low load says beside its tag and its id."""
    return VALUE_END.join((word, final, "", ""))


def blocks(conn: Connection, lowest: float | None) -> Iterator[Block]:
    """Every row, by id, in blocks, without a lock. The load is low that is under `lowest` (None: any).

    A block comes as one text: PyMySQL takes longer for each value than for all of it. docs/sync.md has it measured."""
    load, last = _load(lowest), BEFORE_ALL
    some = f"FROM {monitor.name} WHERE id > :last AND id <= :end"
    whole = text(f"SELECT COUNT(*), {packed_in_three(conn, _TAG, _WORDS, load, 'id')} {some}")
    single = text(f"SELECT {', '.join([_TAG, *_WORDS, *load, 'id'])} {some} ORDER BY id")
    ids = select(monitor.c.id).order_by(monitor.c.id).limit(BLOCK)
    end: int | None = None
    while True:
        if end is None:
            end = conn.execute(select(func.max(ids.where(monitor.c.id > last).subquery().c.id))).scalar()
        if end is None:
            return
        bounds = {"last": last, "end": end}
        rows, content = conn.execute(whole, bounds).one()
        block = Block(rows, end, content.decode() if isinstance(content, bytes) else content or "")
        if rows and not block.is_whole:
            plain = [_plain(row) for row in conn.execute(single, bounds)]
            block = Block(len(plain), end, ROW_END.join(plain))
        yield block
        last, end = end, end + BLOCK if rows == BLOCK else None  # ids mostly have no gaps: no need to ask then


def _load(lowest: float | None) -> list[str]:
    """The SQL of capacity and used where the load is not low, '' elsewhere."""
    if lowest is None:
        return ["''", "''"]
    high = f"capacity > 0 AND used > capacity * {max(0.0, lowest - 1e-6):.9f}"  # lower, for stores do not count alike
    return [f"CASE WHEN {high} THEN {name} ELSE '' END" for name in ("capacity", "used")]


def _plain(row: AnyRow) -> str:
    """The text of a row whose values have the marks between values in them: they can be nothing that we look for."""
    texts = (str("" if value is None else value) for value in row)
    odd = str.maketrans(dict.fromkeys(VALUE_END + ROW_END, "\N{REPLACEMENT CHARACTER}"))
    tag, *state, id_ = (value.translate(odd) for value in texts)
    return ROW_END.join((tag, VALUE_END.join(state), id_))


def _whole(number: str) -> int:
    return int(float(number)) if number else 0


def storable(conn: Connection, words: Iterable[str]) -> dict[str, str]:
    """How incident_status holds those words that it cannot hold as they are: an adopted table may be latin1, and one
    odd word must not stop every sync with an error."""
    odd = [word for word in words if not word.isascii()]
    if not odd or not is_mysql(conn):
        return {}
    charset = str(conn.execute(text(f"SELECT CHARSET(incident_status) FROM {monitor.name} LIMIT 1")).scalar())
    if not charset.isalnum():
        return {}
    query = text(f"SELECT CONVERT(CONVERT(:word USING {charset}) USING utf8mb4)")
    held = {word: str(conn.execute(query, {"word": word}).scalar_one()) for word in odd}
    return {word: kept for word, kept in held.items() if kept != word}


def at(conn: Connection, ids: Sequence[int], *, lock: bool) -> list[ServerRow]:
    """These rows as they are now, by id; locked, if they are to be written: another program may have written or removed
    one since it was seen."""
    query = select(*_WHOLE).where(among(monitor.c.id, ids)).order_by(monitor.c.id)
    return list(starmap(ServerRow, conn.execute(query.with_for_update() if lock else query)))


def write(conn: Connection, rows: Mapping[Values, Sequence[int]], modified: int) -> int:
    """Write locked rows, by their ids, at `modified` (seconds); a type that changed sets the flag. Gives how many.

    Grouped by what they get: pages have few words, so that is few statements on every store, and it needs no
    temporary table (a privilege that a platform's user may not have). docs/sync.md has it measured."""
    written = 0
    for values, ids in rows.items():
        new: dict[str, Any] = {"modified": modified}
        if values.word is not None:
            new["incident_status"] = values.word
        if values.type is not None:
            new.update(final_status=values.type.word, status_report=1)
        for some in chunks(ids, BATCH):
            written += conn.execute(update(monitor).where(among(monitor.c.id, some)).values(new)).rowcount
    return written
