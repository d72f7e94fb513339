"""What the incident API asks: the account of a key, whether its plugin is active, and the types of its numbers.

One statement, so that an answer is of one moment without a transaction, and one round trip. Rows come in blocks: an
account may have 100 000 numbers. Reads infi_voice_monitor and the three account tables (or views) alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, bindparam, literal_column, select

from monitor_cli.document import Entry, entries
from monitor_cli.schema import account, monitor, number, subscription
from monitor_cli.types import Region, Type

_BLOCK = 1000

_OF_KEY = account.c.api_key_sha256 == bindparam("digest")
_subscribed = subscription.c.account_id == account.c.id
_owned = and_(number.c.account_id == account.c.id, subscription.c.active != literal_column("0"))

_LISTING = (
    select(
        account.c.id,
        subscription.c.active,
        number.c.number,
        monitor.c.region,
        monitor.c.region_code,
        monitor.c.final_status,
    )
    .select_from(
        account.outerjoin(subscription, _subscribed)
        .outerjoin(number, _owned)
        .outerjoin(monitor, monitor.c.channel_id == number.c.channel_id)
    )
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
    rows = _Rows(conn.execute(_LISTING, {"digest": digest}).partitions())
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
