"""Reading a source: its documents over HTTP (or from files), then its provider's components.

What comes from a source is bounded: `timeout` seconds in total over everything that reading it needs (names, TLS,
headers, bodies, redirects, several documents), also where it drips byte by byte; 32 MiB a document after decoding;
three redirects, never from https to http. Whatever goes wrong is one SourceError that says where and why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from monitor_cli.config import Source
from monitor_cli.errors import SourceError
from monitor_cli.providers import read_documents, read_page
from monitor_cli.providers.shape import ShapeError
from monitor_cli.sources.addresses import is_url, shown
from monitor_cli.sources.decoding import decode
from monitor_cli.sources.fetcher import LIMIT, Fetcher
from monitor_cli.sources.memory import NoShelf, Remembered, Shelf
from monitor_cli.types import Component

__all__ = ["LIMIT", "Fetcher", "File", "Reading", "examine", "is_url", "read", "shown"]


class File(NamedTuple):
    """A document that somebody has already: its name for people, and its bytes."""

    name: str
    body: bytes


class Reading(NamedTuple):
    """What reading a source gave: whose product it is, the addresses (or files) of the documents, the components, and
    what is to be remembered of the documents."""

    provider: str
    documents: list[str]
    components: Sequence[Component]
    remembered: Remembered


def read(source: Source, files: Sequence[File] = ()) -> Sequence[Component]:
    """The components of a source: read over HTTP, or from `files` where they are given. Raises SourceError."""
    return examine(source, files).components


def examine(source: Source, files: Sequence[File] = (), shelf: Shelf = NoShelf()) -> Reading:  # noqa: B008
    """The same, with how it was read; documents on the `shelf` are not asked for again while they are the same. Raises
    SourceError."""
    if files:
        documents = [_data(file) for file in files]
        with _placed(lambda: files[0].name):
            provider, components = read_documents(source.provider, documents)
        return Reading(provider, [file.name for file in files], components, Remembered())
    if not is_url(source.url):
        raise SourceError(f"{shown(source.url)} is not a URL that can be fetched")
    with Fetcher(source, shelf) as fetcher, _placed(lambda: fetcher.address):
        provider, components = read_page(source.provider, source.url, fetcher.get)
        return Reading(provider, fetcher.read, components, fetcher.remembered)


def _data(file: File) -> Any:
    if len(file.body) > LIMIT:
        raise SourceError(f"{file.name}: the document is larger than {LIMIT // 2**20} MiB")
    return decode(file.body, file.name)


class _placed:
    """Adds to a ShapeError where its document came from."""

    def __init__(self, where: Callable[[], str]) -> None:
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ShapeError):
            where = shown(error.address) if error.address else self._where()
            raise SourceError(f"{where}: {error.message}") from None
