"""What the incident API asks: the account of a key, whether its plugin is active, and the types of its numbers.

One statement, so that an answer is of one moment without a transaction, and one round trip. Reads infi_voice_monitor
and the three account tables (or views) alone. The database puts all of an account's facts into one text: the driver,
which reads rows in Python, would take three quarters of a request's time for 20 of them (docs/serving.md). Where such a
text cannot be told apart again, or the server cut it off, the rows are read as such, in blocks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, String, and_, bindparam, case, cast, func, literal_column, select

from monitor_cli.document import Entry, Groups, entries, grouped
from monitor_cli.prepared import value
from monitor_cli.schema import account, monitor, number, subscription
from monitor_cli.types import Region, Type

_BLOCK = 1000

_OF_KEY = account.c.api_key_sha256 == bindparam("digest")
_subscribed = subscription.c.account_id == account.c.id
_owned = and_(number.c.account_id == account.c.id, subscription.c.active != literal_column("0"))

_JOINED = (
    account.outerjoin(subscription, _subscribed)
    .outerjoin(number, _owned)
    .outerjoin(monitor, monitor.c.channel_id == number.c.channel_id)
)

# What stands between fields and after each fact: control characters that no number and no name has. Should one have
# them (a view over a platform's own tables may bring anything), the number of facts or fields gives it away.
_FIELD, _FACT = "\x1f", "\x1e"


def _text(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """A column as text of the connection's own character set and collation: a platform's may not mix."""
    return cast(column, String)


def _or_nothing(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(_text(column), literal_column("''"))


_between = literal_column(f"'{_FIELD}'", String)
_ended = literal_column(f"'{_FACT}'", String)
_FACTS = (
    _text(number.c.number)  # NULL, and with it the fact, where there is none
    + _between
    + _or_nothing(monitor.c.region)
    + _between
    + _or_nothing(monitor.c.region_code)
    + _between
    + _or_nothing(monitor.c.final_status)
    + _ended
)

_active = case((subscription.c.active != literal_column("0"), literal_column("1")), else_=literal_column("0"))
_HEAD = (
    _text(func.max(account.c.id))  # NULL, and with it all, where there is no such account
    + _between
    + _text(func.max(_active))
    + _between
    + _text(func.count(number.c.number))
    + _ended
)
# One column: the driver takes as long for the description of each as for a row.
_LISTING = (
    select(
        _HEAD
        + func.coalesce(
            func.aggregate_strings(_FACTS, literal_column("''")),  # type: ignore[arg-type]  # renders it as it is
            literal_column("''"),
        )
    )
    .select_from(_JOINED)
    .where(_OF_KEY)
)
_ROWS = (
    select(
        account.c.id,
        subscription.c.active,
        number.c.number,
        monitor.c.region,
        monitor.c.region_code,
        monitor.c.final_status,
    )
    .select_from(_JOINED)
    .where(_OF_KEY)
    .execution_options(yield_per=_BLOCK)
)
_ACCOUNT = select(account.c.id).where(_OF_KEY)


class Listing(NamedTuple):
    """What the API may say to an account: whether its plugin is active, and the entries of its document."""

    account_id: int
    subscribed: bool
    entries: list[Entry]


def of_key(conn: Connection, digest: str) -> Listing | None:
    """The listing of the account with this key (`digest`: SHA-256 in hex of its UTF-8); None where there is none."""
    text: str | None = value(conn, _LISTING, digest)
    if text is None:
        return None
    head, *facts = text.split(_FACT)
    try:
        account_id, subscribed, count = map(int, head.split(_FIELD))
        return Listing(account_id, bool(subscribed), grouped(_groups(facts, count)))
    except (_Unclear, ValueError):
        return _of_rows(conn, digest)


class _Unclear(Exception):
    """The text of all facts cannot be told apart again."""


def _groups(facts: list[str], count: int) -> Groups:
    """What `count` facts say, by what follows the number in them: that is the same for many."""
    if facts.pop() or len(facts) != count:  # each fact was ended, the last one too
        raise _Unclear
    numbers: defaultdict[str, list[str]] = defaultdict(list)
    for fact in facts:
        number_, _, place = fact.partition(_FIELD)
        numbers[place].append(number_)
    groups: Groups = {}
    for place, some in numbers.items():
        region, kind = _placed(place)
        if kind is not None:
            others = groups.setdefault(region, {}).setdefault(kind, some)
            if others is not some:  # two words may be one type (Warning, warning)
                others += some
    return groups


@lru_cache(4096)  # an installation has few places and words
def _placed(place: str) -> tuple[Region, Type | None]:
    fields = place.split(_FIELD)
    if len(fields) != 3:
        raise _Unclear
    return Region(fields[0], fields[1]), Type.read(fields[2])


def _of_rows(conn: Connection, digest: str) -> Listing | None:
    """The same from rows as they are."""
    rows = _Rows(conn.execute(_ROWS, {"digest": digest}).partitions())
    listed = entries(rows)
    return None if rows.account_id is None else Listing(rows.account_id, rows.subscribed, listed)


def account_of_key(conn: Connection, digest: str) -> int | None:
    """The id of the account with this key, or None; for a request that is refused anyway."""
    found = conn.execute(_ACCOUNT, {"digest": digest}).first()
    return None if found is None else found[0]


class _Rows:
    """The facts in a result, read once; what else its rows say is noted on the way."""

    def __init__(self, blocks: Iterator[Sequence[Any]]) -> None:
        self._blocks = blocks
        self.account_id: int | None = None
        self.subscribed = False

    def __iter__(self) -> Iterator[tuple[Region, Type, str]]:
        regions: dict[tuple[str | None, str | None], Region] = {}
        types: dict[str | None, Type | None] = {}
        for block in self._blocks:
            for self.account_id, active, number_, region, code, status in block:
                self.subscribed = self.subscribed or bool(active)
                if status not in types:
                    types[status] = Type.read(status)
                kind = types[status]
                if kind is None or number_ is None:
                    continue
                place = regions.get((region, code))
                if place is None:
                    place = regions[region, code] = Region.of(region, code)
                yield place, kind, number_
