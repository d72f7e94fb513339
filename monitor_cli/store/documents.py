"""The documents of sources as they were read last, so that a server need not send again what has not changed. Packed,
and in parts that every server's max_allowed_packet lets through. Written by the holder of the sync lease alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from sqlalchemy import Connection, and_, delete, insert, or_, select

from monitor_cli.dialect import now_ms
from monitor_cli.schema import document, source
from monitor_cli.store.channels import chunks

PART = 256 * 1024  # bytes
TRUSTED_MS = 3_600_000  # so long a server is believed that nothing has changed
_FORGOTTEN_MS = 7 * 86_400_000  # a source that was not read for so long is one no more


class Head(NamedTuple):
    """What is known of a kept document beside its bytes. `old`: read too long ago to ask whether it is the same."""

    found_at: str
    etag: str | None
    last_modified: str | None
    old: bool = False


class Key(NamedTuple):
    """A document: of which source, and its hashed address."""

    source: str
    address: str


def heads(conn: Connection, sources: Collection[str]) -> dict[Key, Head]:
    """The documents of these sources."""
    c, limit = document.c, now_ms(conn) - TRUSTED_MS
    query = select(c.source, c.address, c.found_at, c.etag, c.last_modified, c.read_at)
    rows = conn.execute(query.where(c.part == 0, c.source.in_(sources)))
    return {
        Key(name, address): Head(found_at, etag, last_modified, read_at <= limit)
        for name, address, found_at, etag, last_modified, read_at in rows
    }


def packed(conn: Connection, key: Key) -> bytes | None:
    """A document's packed bytes; None where it is not kept."""
    of_it = (document.c.source == key.source, document.c.address == key.address)
    parts = conn.execute(select(document.c.body).where(*of_it).order_by(document.c.part)).scalars().all()
    return b"".join(parts) if parts else None


def keep(conn: Connection, key: Key, head: Head, body: bytes) -> None:
    """Keep a document, instead of what is kept there."""
    forget(conn, [key])
    common = {**key._asdict(), **head._asdict(), "read_at": now_ms(conn)}
    del common["old"]
    for part, start in enumerate(range(0, len(body), PART)):
        conn.execute(insert(document), [{**common, "part": part, "body": body[start : start + PART]}])


def forget(conn: Connection, keys: Iterable[Key]) -> None:
    for some in chunks(keys, 100):
        these = or_(*(and_(document.c.source == key.source, document.c.address == key.address) for key in some))
        conn.execute(delete(document).where(these))


def abandoned(conn: Connection, besides: Collection[str]) -> list[str]:
    """The sources with documents that have not been read for a week, `besides` those just read."""
    names = conn.execute(select(document.c.source).where(document.c.source.not_in(besides)).distinct()).scalars().all()
    if not names:
        return []
    recent = select(source.c.name).where(source.c.name.in_(names), source.c.last_good_at > now_ms(conn) - _FORGOTTEN_MS)
    return sorted(set(names) - set(conn.execute(recent).scalars()))


def forget_sources(conn: Connection, names: Collection[str]) -> None:
    """Forget all documents of these sources."""
    for some in chunks(names):
        conn.execute(delete(document).where(document.c.source.in_(some)))
