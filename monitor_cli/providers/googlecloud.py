"""Google Cloud, and Google Workspace in the same form: incidents.json, an array of incidents open and over, and
products.json beside it, which lists the products.

An incident is open as long as it has no end, whatever its last update says. A product that no open incident names is
operational. Products are matched by their id: titles change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urljoin

from monitor_cli.providers.shape import (
    Get,
    ShapeError,
    an_array,
    find,
    identity,
    incident_of,
    inner,
    inner_objects,
    judged,
    link,
    objects,
    optional,
    sibling,
    text,
    worst_of_each,
)
from monitor_cli.types import Component, OnlyAffected, Type

NAME = "google-cloud"

_INCIDENTS, _PRODUCTS = "incidents.json", "products.json"
_TYPES: dict[str, Type | None] = {
    "AVAILABLE": Type.OPERATIONAL,
    "SERVICE_INFORMATION": Type.OPERATIONAL,
    "SERVICE_DISRUPTION": Type.WARNING,
    "SERVICE_OUTAGE": Type.CRITICAL,
}
_EVERYTHING = "zall"  # the service_key of "Multiple Products"


def fetch(url: str, get: Get) -> list[Any]:
    """The incidents, with whole links, and the list of products where it can be read."""
    found = find(url, get, "/" + _INCIDENTS)
    if not recognises(found.document) or isinstance(found.document, dict):
        return [found.document]
    incidents = [{**entry, "uri": _whole(found.address, entry)} for entry in found.document]
    products = optional([sibling(found.address, _PRODUCTS)], get)
    return [incidents, products.document] if products and _is_products(products.document) else [incidents]


def recognises(document: Any) -> bool:
    """An array of incidents with their impact, or the products."""
    if _is_products(document):
        return True
    return isinstance(document, list) and bool(document) and all(
        isinstance(entry, dict) and "status_impact" in entry and ("affected_products" in entry or "begin" in entry)
        for entry in document
    )  # fmt: skip


def parse(documents: Sequence[Any]) -> list[Component]:
    """The products that open incidents name, each with the worst one; and of products.json the others."""
    affected: list[Component] = []
    products: list[Component] = []
    named = False
    for document in documents:
        if _is_products(document):
            products += [_product(entry) for entry in objects(document, "products") or ()]
        else:
            affected += _affected(an_array(document, "the document"))
            named = True
    if not named:
        raise ShapeError(f"it says nothing about incidents: give the page's {_INCIDENTS}")
    return OnlyAffected(worst_of_each([*affected, *products]))


def _is_products(document: Any) -> bool:
    if not isinstance(document, dict) or not isinstance(document.get("products"), list):
        return False
    return all(isinstance(entry, dict) and "id" in entry and "title" in entry for entry in document["products"])


def _product(entry: dict[str, Any]) -> Component:
    word = OnlyAffected.ABSENT.word
    return Component(identity(entry, "id", "a product"), text(entry.get("title")), word, Type.OPERATIONAL)


def _affected(incidents: list[dict[str, Any]]) -> Iterator[Component]:
    """Of incidents without an end each product that they name; of several the newest comes first."""
    open_ones = [entry for entry in incidents if not entry.get("end")]
    for entry in sorted(open_ones, key=lambda entry: text(entry.get("begin")), reverse=True):
        what = f"the open incident {text(entry.get('id')) or text(entry.get('number'))}".rstrip()
        word = text(entry.get("status_impact")) or text(inner(entry, "most_recent_update").get("status"))
        if not word:
            raise ShapeError(f"{what} has no status_impact that is text")
        incident = incident_of(entry.get("external_desc"), entry.get("uri"))
        for product in _products_of(entry):
            yield judged(identity(product, "id", f"a product of {what}"), product.get("title"), word, _TYPES, incident)


def _products_of(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if entry.get("affected_products") is not None:
        yield from inner_objects(entry, "affected_products")
    elif (key := text(entry.get("service_key"))) and key != _EVERYTHING:  # as older incidents have it
        yield {"id": key, "title": entry.get("service_name")}


def _whole(address: str, entry: dict[str, Any]) -> str | None:
    """The link of an incident, which the document has without its host."""
    try:
        return link(urljoin(address, text(entry.get("uri")))) if text(entry.get("uri")) else None
    except ValueError:
        return None
