"""What providers share: where a page has a document, and looking into JSON that may have any shape."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from monitor_cli.errors import SourceError
from monitor_cli.types import Component, Components, Incident, Said, Type

Get = Callable[[str], Any]
"""Reads the document at an address. Raises NotThere, SourceError."""


class NotThere(SourceError):
    """There is no document at this address: not found, or a page for people."""


class ShapeError(SourceError):
    """A document is not what it should be; the message says how. Where it came from its reader adds, or `address`."""

    def __init__(self, message: str, address: str | None = None) -> None:
        super().__init__(message)
        self.address = address


# --- where a document is ----------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """A document and the address that it was asked for at."""

    address: str
    document: Any


def find(url: str, get: Get, *places: str) -> Found:
    """The document that `url` means: its own, or of a page's address the first one at the `places` below it. Raises
    NotThere for the first address that was tried."""
    parts = urlsplit(url)
    page = url.partition("#")[0].rstrip("/")
    below = [page + place for place in places]
    if parts.query or parts.path.endswith((".json", ".xml")):
        return first_of([url], get)
    # The address of a whole host is a page's; below it, only a look tells.
    return first_of([*below, url] if parts.path in ("", "/") else [url, *below], get)


def first_of(addresses: Iterable[str], get: Get) -> Found:
    """The document at the first of these addresses that has one. Raises NotThere for the very first."""
    missing: NotThere | None = None
    for address in addresses:
        try:
            return Found(address, get(address))
        except NotThere as error:
            missing = missing or error
    raise missing or NotThere("no address to look at")


def where_there(addresses: Iterable[str], get: Get) -> Found | None:
    """The same for a document that is needed where a page has it: None where there is none. Raises SourceError where
    there is one that cannot be read."""
    try:
        return first_of(addresses, get)
    except NotThere:
        return None


def optional(addresses: Iterable[str], get: Get) -> Found | None:
    """The same for a document that a page may do without: None where there is none, or it cannot be read."""
    try:
        return first_of(addresses, get)
    except SourceError:
        return None


def with_query(url: str, **changes: str) -> str:
    """The same address with these parameters in its query, whatever it has there otherwise."""
    parts = urlsplit(url)
    query = {**dict(parse_qsl(parts.query, keep_blank_values=True)), **changes}
    return urlunsplit(parts._replace(query=urlencode(query), fragment=""))


def sibling(url: str, name: str) -> str:
    """The address of a document in the same folder."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.rpartition("/")[0] + "/" + name, query="", fragment=""))


# --- what stands in it ------------------------------------------------------------------------------------------------


def text(value: Any) -> str:
    """A value as one clean line of text that every store takes; '' where it is no text."""
    if not isinstance(value, str):
        return ""
    line: str = value
    if not line.isprintable():
        line = "".join(c if c.isprintable() else " " for c in line.encode("utf-8", "replace").decode())
    return line.strip()


def link(value: Any) -> str | None:
    """A web address; None where it is none."""
    found = text(value)
    return found if found.startswith(("http://", "https://")) else None


def number(value: Any) -> int | None:
    """A whole number, also where a document has it as text; None where it is none."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def required(entry: dict[str, Any], key: str, what: str) -> str:
    """The text at a key, as it stands there. Raises ShapeError where it is missing, empty or something else."""
    value: object = entry.get(key)
    if isinstance(value, str) and value:
        return value
    raise ShapeError(f"{what} has no {key} that is text")


def identity(entry: dict[str, Any], key: str, what: str) -> str:
    """The id at a key as text, whether the document has text or a number. Raises ShapeError."""
    value: object = entry.get(key)
    if (isinstance(value, str) and value) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    raise ShapeError(f"{what} has no {key} that is text or a number")


def an_object(document: Any, product: str) -> dict[str, Any]:
    """The document, which must be an object. Raises ShapeError."""
    if isinstance(document, dict):
        return document
    raise ShapeError(f"it is JSON, but not an object as {product} has it")


def an_array(value: Any, what: str) -> list[dict[str, Any]]:
    """The value, which must be a list of objects. Raises ShapeError."""
    if isinstance(value, list) and set(map(type, value)) <= {dict}:
        return value
    raise ShapeError(f"{what} is no list of objects")


def objects(document: dict[str, Any], key: str) -> list[dict[str, Any]] | None:
    """The list of objects at a key; None where there is none (absent or null). Raises ShapeError where it is
    something else."""
    value = document.get(key)
    return None if value is None else an_array(value, f"its {key!r}")


def inner(entry: Any, key: str) -> dict[str, Any]:
    """The object at a key further inside; an empty one where there is none."""
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if isinstance(value, dict) else {}


def inner_objects(entry: Any, key: str) -> Iterator[dict[str, Any]]:
    """The objects in a list further inside, where a flaw is no reason to refuse the whole document."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, dict))


def inner_key(entry: dict[str, Any], key: str) -> str:
    """The id at a key further inside, as text; '' where there is none."""
    value = entry.get(key)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


class Entry(TypedDict, total=False):
    """All that providers look at in an entry of a document's own list `components`: what else a large document has
    there is not even made (sources/lean). A provider that reads another key adds it here."""

    id: Any
    name: Any
    status: Any
    children: Any


# --- components -------------------------------------------------------------------------------------------------------


def judged(
    key: str, name: Any, word: str, types: Mapping[str, Type | None], incident: Incident | None = None
) -> Component:
    """A component with the type that its word has; one that is not known is a warning."""
    return Component(key, text(name), *_said(word, types)._replace(incident=incident))


def components_of(
    entries: Sequence[dict[str, Any]], types: Mapping[str, Type | None], incidents: Mapping[str, Incident]
) -> Components:
    """The components in a list of entries with id, name and status, by the rules of `judged`: large lists are gone
    through by column, each step for all of them at a time. Raises ShapeError."""
    ids: list[Any] = [entry.get("id") for entry in entries]
    words: list[Any] = [entry.get("status") for entry in entries]
    if not (_all_text(ids) and _all_text(words)):
        for number, entry in enumerate(entries, 1):
            for key in ("id", "status"):
                required(entry, key, f"component {number} of its list")
    meant = {word: _said(word if word in types else text(word), types) for word in set(words)}
    said = list(map(meant.__getitem__, words))
    if incidents:
        for place, key in enumerate(ids):
            if (incident := incidents.get(key)) is not None:
                said[place] = said[place]._replace(incident=incident)
    return Components(ids, said, [entry.get("name") for entry in entries], text)


def _said(word: str, types: Mapping[str, Type | None]) -> Said:
    known = word in types
    return Said(word, types[word] if known else Type.WARNING, known, None)


def _all_text(values: list[Any]) -> bool:
    return set(map(type, values)) <= {str} and all(values)


def incident_of(title: Any, address: Any = None) -> Incident | None:
    """An incident, where it has a title."""
    found = text(title)
    return Incident(found, link(address)) if found else None


def worst_of_each(components: Iterable[Component]) -> list[Component]:
    """Each id once, where it came first, with the worst that is said of it."""
    found: dict[str, Component] = {}
    for component in components:
        old = found.get(component.id)
        if old is None or rank(component.type) > rank(old.type):
            found[component.id] = component
    return list(found.values())


def rank(kind: Type | None) -> int:
    """Where a type stands on the scale; one that says nothing comes before all."""
    return -1 if kind is None else kind.value
