"""Uptime Kuma: /api/status-page/heartbeat/<slug> has the beats of each monitor, /api/status-page/<slug> their names.

The newest beat comes last; a period without one stands there as 0. A monitor without beats keeps its row's status.
Incidents and maintenances are notices, tied to no monitor. After Uptime Kuma's own source.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from monitor_cli.errors import SourceError
from monitor_cli.providers.shape import (
    Found,
    Get,
    NotThere,
    ShapeError,
    an_object,
    find,
    first_of,
    inner,
    inner_key,
    inner_objects,
    number,
    optional,
    text,
    where_there,
)
from monitor_cli.types import Component, Type

NAME = "uptime-kuma"

_API, _BEATS = "/api/status-page/", "/api/status-page/heartbeat/"
_STATUS = {
    0: ("down", Type.CRITICAL),
    1: ("up", Type.OPERATIONAL),
    2: ("pending", Type.WARNING),
    3: ("maintenance", Type.WARNING),
}
_NOTHING = "no beats"
_ADDRESS = re.compile(r"(?P<base>.*?)/(?:api/status-page/heartbeat|api/status-page|status)/(?P<slug>[^/]+)/?")
_ENTRIES = ("entryPage", "statusPageMatchedDomain", "setup-database")
_DEFAULT = re.compile(r"(?P<base>.*?)/(?:status|status-page)/?")


# --- which documents --------------------------------------------------------------------------------------------------


def fetch(url: str, get: Get) -> list[Any]:
    """The beats, and the page for its names where it can be read."""
    parts = urlsplit(url)
    known = _ADDRESS.fullmatch(parts.path)
    if known:
        base, slug = known["base"], known["slug"]
    elif default := _DEFAULT.fullmatch(parts.path):
        base, slug = default["base"], "default"
    elif parts.path in ("", "/"):
        base, slug = "", _of_host(url.partition("#")[0].partition("?")[0].rstrip("/"), get)
    else:
        return [find(url, get).document]
    site = urlunsplit((parts.scheme, parts.netloc, base, "", ""))
    beats = first_of([f"{site}{_BEATS}{slug.lower()}"], get).document
    if not recognises(beats):
        return [beats]
    address = f"{site}{_API}{slug.lower()}"
    page = optional([address], get) if beats.get("heartbeatList") else _without_beats(slug, address, get)
    return [beats, page.document] if page and recognises(page.document) else [beats]


def _without_beats(slug: str, address: str, get: Get) -> Found:
    """The page whose list of beats is empty, which that of a slug without a page is too: only the page itself tells.
    Raises SourceError; to the wrong slug version 1 and the first of version 2 give no answer at all."""
    try:
        page = where_there([address], get)
    except SourceError as error:
        raise SourceError(f"{error.message} (and there are no beats: is there a status page {text(slug)!r}?)") from None
    if page is None:
        raise ShapeError(f"there is no status page {text(slug)!r}", address)
    return page


def _of_host(host: str, get: Get) -> str:
    """The slug of the page that a host shows. Raises NotThere where it is no Uptime Kuma's, ShapeError where that one
    shows something else."""
    address = f"{host}/api/entry-page"
    entry = inner({"entry": get(address)}, "entry")
    slug, page = text(entry.get("statusPageSlug")), text(entry.get("entryPage"))
    if not slug and page.startswith("statusPage-"):
        slug = page.removeprefix("statusPage-")
    if not re.fullmatch(r"[\w-]+", slug):
        if entry.get("type") in _ENTRIES:
            raise ShapeError("it shows no status page of Uptime Kuma: give the address of one", address)
        raise NotThere(f"{urlsplit(host).netloc}: shows no status page of Uptime Kuma: give the address of one")
    return slug


# --- what stands in them ----------------------------------------------------------------------------------------------


def recognises(document: Any) -> bool:
    """The beats, or the page with its groups."""
    if not isinstance(document, dict):
        return False
    return isinstance(document.get("heartbeatList"), dict) or isinstance(document.get("publicGroupList"), list)


def parse(documents: Sequence[Any]) -> list[Component]:
    """Every monitor that has beats or stands on the page."""
    names: dict[str, str] = {}
    beats: dict[str, Any] = {}
    listed = False
    for document in documents:
        whole = an_object(document, "Uptime Kuma")
        names.update(_names(whole))
        if "heartbeatList" in whole:
            if not isinstance(whole["heartbeatList"], dict):
                raise ShapeError("its 'heartbeatList' is no object with a list for each monitor")
            beats.update(whole["heartbeatList"])
            listed = True
    if not listed:
        raise ShapeError(f"it has no beats: give the page's {_BEATS}<slug>")
    return [_component(key, names.get(key, ""), beats.get(key)) for key in {**beats, **names} if key]


def _names(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for group in inner_objects(document, "publicGroupList"):
        for monitor in inner_objects(group, "monitorList"):
            yield inner_key(monitor, "id"), text(monitor.get("name"))


def _component(key: str, name: str, beats: Any) -> Component:
    if beats is not None and not isinstance(beats, list):
        raise ShapeError(f"the beats of monitor {text(key)} are no list")
    newest_first: list[Any] = list(reversed(beats or []))
    newest = next((beat for beat in newest_first if beat not in (0, None)), None)
    if newest is None:
        return Component(key, name, _NOTHING, None)
    code = number(newest.get("status")) if isinstance(newest, dict) else None
    if code is None:
        raise ShapeError(f"the newest beat of monitor {text(key)} has no status that is a number")
    word, kind = _STATUS.get(code, (f"status {code}", Type.WARNING))
    return Component(key, name, word, kind, code in _STATUS)
