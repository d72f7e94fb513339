"""Status page products. A provider is one small module: where a page has its documents, and a pure function from the
documents to components.

A new one: a module with what Provider asks for, and its line in PROVIDERS (the order counts for `auto`: the one whose
documents another's look like comes first).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from monitor_cli.errors import SourceError
from monitor_cli.providers import statuspage
from monitor_cli.providers.shape import Get, NotThere, ShapeError
from monitor_cli.types import Component


class Provider(Protocol):
    """What a provider's module has."""

    NAME: str

    def fetch(self, url: str, get: Get) -> list[Any]:
        """The documents of the page or document at `url`. `get` reads one; raises NotThere where there is none."""

    def recognises(self, document: Any) -> bool:
        """Whether a document is one of this product's."""

    def parse(self, documents: Sequence[Any]) -> list[Component]:
        """The components in the documents. Raises ShapeError where they are something else."""


AUTO = "auto"
PROVIDERS: dict[str, Provider] = {statuspage.NAME: statuspage}


def read_page(name: str, url: str, get: Get) -> list[Component]:
    """The components of a page, or of the document at a document's own address. `name` is a key of PROVIDERS or AUTO.
    Raises SourceError, also what `get` raises."""
    if name != AUTO:
        return PROVIDERS[name].parse(PROVIDERS[name].fetch(url, get))
    get = _remembering(get)
    first: SourceError | None = None
    for provider in PROVIDERS.values():
        try:
            documents = provider.fetch(url, get)
        except NotThere as error:
            first = first or error
            continue
        if documents and all(map(provider.recognises, documents)):
            return provider.parse(documents)
    raise first or _unknown()


def read_documents(name: str, documents: Sequence[Any]) -> list[Component]:
    """The components in documents that are there already. Raises ShapeError."""
    if name != AUTO:
        return PROVIDERS[name].parse(documents)
    for provider in PROVIDERS.values():
        if all(map(provider.recognises, documents)):
            return provider.parse(documents)
    raise _unknown()


def _unknown() -> ShapeError:
    return ShapeError(f"it is JSON, but no document of a status page that is known ({', '.join(PROVIDERS)})")


def _remembering(get: Get) -> Get:
    """The same, asking each address once: several providers may look at the one that was given."""
    known: dict[str, Callable[[], Any]] = {}

    def remembered(url: str) -> Any:
        if url not in known:
            try:
                document = get(url)
            except NotThere as error:
                known[url] = _raiser(error)
            else:
                known[url] = lambda: document
        return known[url]()

    return remembered


def _raiser(error: NotThere) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail
