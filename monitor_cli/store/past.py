"""The history as reports read it: what each server was at a moment, and every change after it in the order of time.

Blocks come as one text each: PyMySQL takes longer for single values than for all of it (docs/reports.md, Figures).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, func, select, text

from monitor_cli.db import AnyRow
from monitor_cli.dialect import ROW_END, VALUE_END, forced, ids_parameter, packed
from monitor_cli.schema import attempt, change, condition, delivery, monitor, number
from monitor_cli.store.archivable import ARCHIVED, TableName
from monitor_cli.store.channels import chunks
from monitor_cli.types import Region, Type

BLOCK, TOLD_BLOCK = 5000, 1000  # rows of the history read at once; with what sources said they are longer
_SERVERS = 2000


class Said(NamedTuple):
    """What a change's source said: NULL is '' here."""

    source: str
    word: str
    title: str
    link: str


class State(NamedTuple):
    """A server's type (None: unknown) and region from a moment on (milliseconds); `said` where it was asked for."""

    at: int
    type: Type | None
    region: Region
    said: Said | None = None


class Server(NamedTuple):
    """A server as its row and its history tell it. `now` is what its row says, with `modified` as its time (None: the
    row was removed); `before` is its last change before the window, `first` its first one since then, with the type
    that it changed *from*, `last` its last one of all. `created` in milliseconds; None: not known."""

    id: int
    server_id: int
    name: str
    channel_id: int
    created: int | None
    now: State | None
    before: State | None
    first: State | None
    last: State | None


H = TypeVar("H")
Made = Callable[[Type | None, Region, Said | None], H]
"""What a reader makes, once, of each different type, region and word that changes have."""


def changes_kept_from(conn: Connection) -> int | None:
    """Since when every change is kept: since the oldest one, or since what archive took; None: there is none."""
    return _kept_from(conn, [change.c.created_at], ["change"])


def tellings_kept_from(conn: Connection) -> int | None:
    """The same of deliveries and attempts."""
    return _kept_from(conn, [delivery.c.created_at, attempt.c.started_at], ["delivery", "attempt"])


def _kept_from(conn: Connection, columns: Sequence[Any], tables: Sequence[TableName]) -> int | None:
    found = [conn.execute(select(func.min(column))).scalar() for column in columns]
    oldest = min((at for at in found if at is not None), default=None)
    # Archive leaves single old rows where somebody needs them: the oldest row alone does not tell.
    archived = select(func.max(condition.c.since_at)).where(
        condition.c.source == "", condition.c.kind == ARCHIVED, condition.c.subject.in_(tables)
    )
    before = conn.execute(archived).scalar()
    return max((at for at in (oldest, before) if at is not None), default=None)


def channels_of(conn: Connection, account_id: int) -> set[int]:
    """The channels that an account has numbers on now."""
    return set(conn.execute(select(number.c.channel_id).where(number.c.account_id == account_id).distinct()).scalars())


# --- the servers ------------------------------------------------------------------------------------------------------

_SAID = ("source", "incident_status", "incident_title", "incident_link")
_NEAR = "SELECT c.id FROM {0} c WHERE c.monitor_id = m.id {1} ORDER BY c.created_at {2}, c.id {2} LIMIT 1"
_JOINS = " ".join(
    f"LEFT JOIN {change.name} {alias} ON {alias}.id = ({_NEAR.format(change.name, condition, order)})"
    for alias, condition, order in (
        ("b", "AND c.created_at < :since", "DESC"),
        ("f", "AND c.created_at >= :since", "ASC"),
        ("l", "", "DESC"),
    )
)
_CHANGED = ", ".join(
    f"{alias}.created_at, {alias}.{kind}, {alias}.region, {alias}.region_code"
    for alias, kind in (("b", "to_type"), ("f", "from_type"), ("l", "to_type"))
)
_BEFORE_SAID = ", ".join(f"b.{name}" for name in _SAID)


def servers(conn: Connection, since: int, *, said: bool = False) -> Iterator[Server]:
    """Every server, by id; then those that were removed and have changes yet. `said`: with what was said before."""
    columns = f"{_CHANGED}, {_BEFORE_SAID}" if said else _CHANGED
    present = text(
        "SELECT m.id, m.server_id, m.name, m.channel_id, m.created, m.modified, m.final_status, m.region, "
        f"m.region_code, {columns} FROM {monitor.name} m {_JOINS} WHERE m.id > :last ORDER BY m.id LIMIT {_SERVERS}"
    )
    last, known = -(2**63), set()
    while rows := conn.execute(present, {"since": since, "last": last}).all():
        for row in rows:
            known.add(row[0])
            yield _present(row)
        last = rows[-1][0]
    ids = set(conn.execute(select(change.c.monitor_id).distinct()).scalars()) - known
    yield from _removed(conn, since, sorted(ids), columns)


def _removed(conn: Connection, since: int, ids: Iterable[int], columns: str) -> Iterator[Server]:
    gone = text(
        f"SELECT m.id, l.server_id, l.name, l.channel_id, {columns} FROM "
        f"(SELECT DISTINCT monitor_id AS id FROM {change.name} WHERE monitor_id IN (:ids)) m {_JOINS} ORDER BY m.id"
    ).bindparams(ids_parameter("ids"))
    for some in chunks(ids):
        for row in conn.execute(gone, {"since": since, "ids": some}):
            yield Server(row[0], row[1], row[2], row[3], None, None, *_changes(row, 4))


def _present(row: AnyRow) -> Server:
    id_, server_id, name, channel_id, created, modified, final, region, code = row[:9]
    now = State((modified or 0) * 1000, Type.read(final), Region.of(region, code))
    there_since = created * 1000 if created else None
    return Server(id_, server_id or 0, name or "", channel_id or 0, there_since, now, *_changes(row, 9))


def _changes(row: AnyRow, at: int) -> tuple[State | None, State | None, State | None]:
    said = Said(*(value or "" for value in row[at + 12 :])) if len(row) > at + 12 else None
    before, first, last = (
        None if row[i] is None else State(row[i], Type.read(row[i + 1]), Region.of(row[i + 2], row[i + 3]))
        for i in (at, at + 4, at + 8)
    )
    return before and before._replace(said=said), first, last


# --- the changes ------------------------------------------------------------------------------------------------------


def changes(
    conn: Connection, since: int, until: int, make: Made[H], *, said: bool = False
) -> Iterator[list[tuple[int, int, int, H]]]:
    """Every change from `since` until before `until`, in the order of time, in blocks: at, id, monitor_id, and what
    `make` gave for the type it went to, its region and what was said (if asked for)."""
    texts, numbers = ["region", "region_code", "to_type"], ["created_at", "id", "monitor_id"]
    if said:
        texts += _SAID
    hint = forced(conn, _TIME_INDEX)
    inner = (
        f"SELECT {', '.join([*texts, *numbers])} FROM {change.name} {hint} WHERE created_at >= :at AND "
        "created_at < :until AND (created_at > :at OR id > :id) ORDER BY created_at, id LIMIT :block"
    )
    whole = text(f"SELECT COUNT(*), {packed(conn, texts, numbers)} FROM ({inner}) some")
    place = {"at": since, "id": -1, "until": until, "block": TOLD_BLOCK if said else BLOCK}
    heads: dict[str, H] = {}
    while True:
        count, content = conn.execute(whole, place).one()
        if not count:
            return
        lines = _lines(content, count, len(texts) + len(numbers))
        singly = () if lines else conn.execute(text(inner), place)
        rows = _parsed(lines, heads, make) or [(at, id_, of, make(*_head(head))) for *head, at, id_, of in singly]
        rows.sort(key=_ORDER)
        yield rows
        place["at"], place["id"] = rows[-1][:2]
        if len(heads) > _HEADS:  # sources may say something else each time
            heads.clear()


_TIME_INDEX = "ix_infi_voice_monitor_change_created"
_HEADS = 20_000
_ORDER = itemgetter(0, 1)


def _lines(content: str | bytes | None, count: int, values: int) -> list[str]:
    """The rows of a block's text; none where a value has a mark in it, or the server cut the text."""
    whole = content.decode(errors="replace") if isinstance(content, bytes) else content or ""
    if (whole.count(ROW_END), whole.count(VALUE_END)) != (count - 1, count * (values - 1)):
        return []
    return whole.split(ROW_END)


def _parsed(lines: Sequence[str], heads: dict[str, H], make: Made[H]) -> list[tuple[int, int, int, H]]:
    rows = []
    for line in lines:
        head, at, id_, monitor_id = line.rsplit(VALUE_END, 3)
        if head not in heads:
            heads[head] = make(*_head(head.split(VALUE_END)))
        rows.append((int(at), int(id_), int(monitor_id), heads[head]))
    return rows


def _head(values: Sequence[Any]) -> tuple[Type | None, Region, Said | None]:
    region, code, kind, *said = (value or "" for value in values)
    return Type.read(kind), Region(region, code), Said(*said) if said else None
