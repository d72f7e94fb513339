"""incident-sync's statements on infi_voice_monitor: reading every row, locking and writing those that change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select, text, update

from monitor_cli.db import AnyRow
from monitor_cli.dialect import ROW_END, VALUE_END, among, is_mysql, packed
from monitor_cli.schema import monitor
from monitor_cli.store.channels import chunks
from monitor_cli.types import Type

BEFORE_ALL = -(2**63)  # an id
BLOCK = 20_000  # rows read at once
# Rows locked and written at once: no more than channels.IN_LIST, for its reason.
BATCH = 500


_WHOLE = (
    monitor.c.id,
    monitor.c.server_id,
    monitor.c.server_tag,
    monitor.c.name,
    monitor.c.channel_id,
    monitor.c.capacity,
    monitor.c.used,
    monitor.c.region,
    monitor.c.region_code,
    monitor.c.incident_status,
    monitor.c.final_status,
    monitor.c.status_report,
)
_TEXTS = ("server_tag", "incident_status", "final_status")


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
    """Some rows by id as one text, each as a line: tag, word, type, capacity and used (or nothing), id, between
    VALUE_ENDs."""

    rows: int
    last: int
    text: str

    def lines(self) -> list[str]:
        return self.text.split(ROW_END) if self.rows else []

    def is_whole(self, values: int) -> bool:
        """Whether it can be taken apart: nothing is missing, and no value has a mark in it."""
        marks = self.text.count(ROW_END), self.text.count(VALUE_END)
        return marks == (self.rows - 1, self.rows * (values - 1))


def glimpse(line: str) -> Glimpse:
    """What a line of a block says."""
    tag, word, final, capacity, used, id_ = line.split(VALUE_END)
    return Glimpse(int(id_), tag, word, final, _whole(capacity), _whole(used))


def line_after_tag(word: str, final: str) -> str:
    """How the line of a row of low load goes on after its tag, up to its id."""
    return VALUE_END.join((word, final, "", "", ""))


def blocks(conn: Connection, lowest: float | None) -> Iterator[Block]:
    """Every row, by id, in blocks, without a lock. The load is low that is under `lowest` (None: any).

    A block comes as one text: PyMySQL takes longer for each value than for all of it. docs/sync.md has it measured."""
    numbers, last = [*_load(lowest), "id"], BEFORE_ALL
    some = f"FROM {monitor.name} WHERE id > :last AND id <= :end"
    whole = text(f"SELECT COUNT(*), {packed(conn, _TEXTS, numbers)} {some}")
    single = text(f"SELECT {', '.join([*_TEXTS, *numbers])} {some} ORDER BY id")
    ids = select(monitor.c.id).order_by(monitor.c.id).limit(BLOCK)
    while True:
        end = conn.execute(select(func.max(ids.where(monitor.c.id > last).subquery().c.id))).scalar()
        if end is None:
            return
        bounds = {"last": last, "end": end}
        rows, content = conn.execute(whole, bounds).one()
        block = Block(rows, end, content.decode() if isinstance(content, bytes) else content or "")
        if rows and not block.is_whole(len(_TEXTS) + len(numbers)):
            lines = [_line(row) for row in conn.execute(single, bounds)]
            block = Block(len(lines), end, ROW_END.join(lines))
        yield block
        last = end


def _load(lowest: float | None) -> list[str]:
    """The SQL of capacity and used where the load is not low, '' elsewhere."""
    if lowest is None:
        return ["''", "''"]
    high = f"capacity > 0 AND used > capacity * {max(0.0, lowest - 1e-6):.9f}"  # lower, for stores do not count alike
    return [f"CASE WHEN {high} THEN {name} ELSE '' END" for name in ("capacity", "used")]


def _line(row: AnyRow) -> str:
    """The text of a row whose values have the marks between values in them: they can be nothing that we look for."""
    texts = (str("" if value is None else value) for value in row)
    odd = str.maketrans(dict.fromkeys(VALUE_END + ROW_END, "\N{REPLACEMENT CHARACTER}"))
    return VALUE_END.join(value.translate(odd) for value in texts)


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


def at(conn: Connection, ids: Sequence[int], *, lock: bool) -> Sequence[AnyRow]:
    """These rows as they are now, by id; locked, if they are to be written: another program may have written or removed
    one since it was seen."""
    query = select(*_WHOLE).where(among(monitor.c.id, ids)).order_by(monitor.c.id)
    return conn.execute(query.with_for_update() if lock else query).all()


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
