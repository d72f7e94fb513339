"""What providers share: where a page has a document, and looking into JSON that may have any shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from monitor_cli.errors import SourceError

Get = Callable[[str], Any]
"""Reads the document at an address. Raises NotThere, SourceError."""


class NotThere(SourceError):
    """There is no document at this address: not found, or a page for people."""


class ShapeError(SourceError):
    """A document is not what it should be; the message says how, and its reader adds where it came from."""


def document_at(url: str, place: str, get: Get) -> Any:
    """The document that `url` means: its own, or of a page's address the one at `place` below it."""
    parts = urlsplit(url)
    page = url.partition("#")[0].rstrip("/")
    if parts.query or parts.path.endswith((".json", ".xml")):
        return get(url)
    # The address of a whole host is a page's; below it, only a look tells.
    tries = [page + place, url] if parts.path in ("", "/") else [url, page + place]
    first: NotThere | None = None
    for address in tries:
        try:
            return get(address)
        except NotThere as error:
            first = first or error
    assert first is not None
    raise first


def text(value: Any) -> str:
    """A value as one clean line of text that every store takes; '' where it is no text."""
    if not isinstance(value, str):
        return ""
    line: str = value
    if not line.isprintable():
        line = "".join(c if c.isprintable() else " " for c in line.encode("utf-8", "replace").decode())
    return line.strip()


def required(entry: dict[str, Any], key: str, what: str) -> str:
    """The text at a key, as it stands there. Raises ShapeError where it is missing, empty or something else."""
    value: object = entry.get(key)
    if isinstance(value, str) and value:
        return value
    raise ShapeError(f"{what} has no {key} that is text")


def objects(document: dict[str, Any], key: str) -> list[dict[str, Any]] | None:
    """The list of objects at a key; None where there is none (absent or null). Raises ShapeError where it is
    something else."""
    value = document.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ShapeError(f"its {key!r} is no list of objects")
    return value


def inner_objects(entry: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    """The objects in a list further inside, where a flaw is no reason to refuse the whole document."""
    value = entry.get(key)
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, dict))
