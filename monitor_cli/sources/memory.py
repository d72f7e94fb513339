"""What a source's documents were when they were read last, so that a server can answer that they are still the same.

Kept are whole documents, not what was made of them: each has a validator of its own (RFC 9110, 8.8), a provider's
reading may depend on several, and a new `status_map` or a new version of monitor-cli reads them afresh.
"""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import NamedTuple, Protocol

MOST_PACKED = 4 * 2**20  # bytes of a source's documents; 100 000 components are 2 MiB
_LONGEST = 500  # characters of a validator
_SETTLED_SECONDS = 2  # what is as new as its answer may change again within the second that Last-Modified tells


class Validator(NamedTuple):
    """What a server knows a document by, and the (hashed) address that it was found at, after redirects."""

    found_at: str
    etag: str | None
    last_modified: str | None

    def headers(self) -> dict[str, str]:
        """The request headers that ask whether it has changed."""
        asked = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in asked.items() if value}


class Kept(NamedTuple):
    """A document to be kept: its validator and its packed bytes."""

    validator: Validator
    packed: bytes


class Shelf(Protocol):
    """Where the documents of one source are kept, by their hashed address."""

    def validator(self, address: str) -> Validator | None:
        """That of a document, where it is kept."""

    def packed(self, address: str) -> bytes | None:
        """A kept document's packed bytes."""


class NoShelf:
    """Nothing is kept."""

    def validator(self, _address: str) -> Validator | None:
        return None

    def packed(self, _address: str) -> bytes | None:
        return None


@dataclass
class Remembered:
    """Which documents of a reading were still the same, and which others are to be kept from now on, by hashed
    address."""

    same: set[str] = field(default_factory=set)
    new: dict[str, Kept] = field(default_factory=dict)

    def take(self, url: str, found_at: str, headers: Mapping[str, str], body: bytes) -> None:
        """Note a document that came whole."""
        validator = _validator(hashed(found_at), headers)
        if validator is None:
            return
        packed = zlib.compress(body, 1)
        if len(packed) + sum(len(one.packed) for one in self.new.values()) <= MOST_PACKED:
            self.new[hashed(url)] = Kept(validator, packed)


def hashed(url: str) -> str:
    """An address as it is kept: keys may stand in it."""
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()


def unpacked(packed: bytes | None, limit: int) -> bytes | None:
    """A kept document's bytes; None where they are not all there."""
    if packed is None:
        return None
    try:
        inflater = zlib.decompressobj()
        body = inflater.decompress(packed, limit)
    except zlib.error:
        return None
    return body if inflater.eof else None


def _validator(found_at: str, headers: Mapping[str, str], now: Callable[[], float] = time.time) -> Validator | None:
    etag, modified = headers.get("etag", ""), headers.get("last-modified", "")
    if len(etag) > _LONGEST or not etag.isprintable():
        etag = ""
    if not etag and not _settled(modified, headers.get("date"), now):
        modified = ""
    return Validator(found_at, etag or None, modified or None) if etag or modified else None


def _settled(modified: str, date: str | None, now: Callable[[], float]) -> bool:
    """Whether a Last-Modified is old enough to tell the next change (RFC 9110, 8.8.2.2)."""
    try:
        answered = parsedate_to_datetime(date).timestamp() if date else now()
        return len(modified) <= _LONGEST and answered - parsedate_to_datetime(modified).timestamp() >= _SETTLED_SECONDS
    except (ValueError, OverflowError):
        return False
