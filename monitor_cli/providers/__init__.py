"""Status page products. A provider is one small module: where a page has its documents, and a pure function from the
documents to components.

A new one: a module with what Provider asks for, and its place in _MODULES. docs/providers.md tells it in full.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from monitor_cli.errors import SourceError
from monitor_cli.providers import (
    betterstack,
    cachet,
    gatus,
    googlecloud,
    incidentio,
    instatus,
    monitor,
    statusio,
    statuspage,
    statuspal,
    upptime,
    uptimekuma,
)
from monitor_cli.providers.shape import Get, NotThere, ShapeError
from monitor_cli.types import Component

T = TypeVar("T")


class Provider(Protocol):
    """What a provider's module has."""

    NAME: str

    def fetch(self, url: str, get: Get) -> list[Any]:
        """The documents of the page or document at `url`. `get` reads one; raises NotThere where there is none."""

    def recognises(self, document: Any) -> bool:
        """Whether a document is one of this product's."""

    def parse(self, documents: Sequence[Any]) -> Sequence[Component]:
        """The components in the documents (OnlyAffected where what is absent is operational; of a large
        list Components). Raises ShapeError where
        they are something else."""


AUTO = "auto"
# No provider recognises another's documents. The order is that in which `auto` looks for them at a page's address: the
# usual ones first.
_MODULES: tuple[Provider, ...] = (
    statuspage,
    incidentio,
    instatus,
    betterstack,
    cachet,
    uptimekuma,
    gatus,
    upptime,
    statuspal,
    statusio,
    googlecloud,
    monitor,
)
PROVIDERS: dict[str, Provider] = {module.NAME: module for module in _MODULES}


class Parsed(NamedTuple):
    """The components of a page, and the name of the provider whose they are."""

    provider: str
    components: Sequence[Component]


def read_page(name: str, url: str, get: Get) -> Parsed:
    """The components of a page, or of the document at a document's own address. `name` is a key of PROVIDERS or AUTO.
    Raises SourceError, also what `get` raises."""
    asked = _Asked(get)
    first: SourceError | None = None
    for provider in PROVIDERS.values() if name == AUTO else [PROVIDERS[name]]:
        asked.begin()
        try:
            documents = provider.fetch(url, asked.get)
        except NotThere as error:
            first = first or error
            continue
        if name != AUTO or (documents and all(map(provider.recognises, documents))):
            return Parsed(provider.NAME, asked.placed(provider.parse, documents))
    if name == AUTO and (first is None or asked.found):
        raise _unknown(asked.found[0] if asked.found else None)
    raise first or _unknown()


def read_documents(name: str, documents: Sequence[Any]) -> Parsed:
    """The same of documents that are there already. Raises ShapeError."""
    if name != AUTO:
        return Parsed(name, PROVIDERS[name].parse(documents))
    for provider in PROVIDERS.values():
        if all(map(provider.recognises, documents)):
            return Parsed(provider.NAME, provider.parse(documents))
    products = [{name for name, provider in PROVIDERS.items() if provider.recognises(one)} for one in documents]
    if len(documents) > 1 and all(products):
        raise ShapeError(f"the documents are of several products: {', '.join(sorted(set().union(*products)))}")
    raise _unknown()


def _unknown(address: str | None = None) -> ShapeError:
    return ShapeError("it is JSON, but no document of a status page that is known (docs/providers.md)", address)


class _Asked:
    """A `get` that asks each address once, since several providers may look at the same, and notes which had one."""

    def __init__(self, get: Get) -> None:
        self._get = get
        self._known: dict[str, Any] = {}
        self.found: list[str] = []
        self._since = 0

    def begin(self) -> None:
        """The next provider begins."""
        self._since = len(self.found)

    def get(self, url: str) -> Any:
        if url not in self._known:
            try:
                self._known[url] = self._get(url)
            except NotThere as error:
                self._known[url] = error
        if isinstance(self._known[url], NotThere):
            raise self._known[url]
        self.found.append(url)
        return self._known[url]

    def placed(self, parse: Callable[[Sequence[Any]], T], documents: Sequence[Any]) -> T:
        """What `parse` gives; a ShapeError of it is about the first document that this provider read."""
        try:
            return parse(documents)
        except ShapeError as error:
            raise ShapeError(
                error.message, self.found[self._since] if self._since < len(self.found) else None
            ) from None
