"""Upptime: history/summary.json in the repository of a page, on GitHub. A component is matched by its slug.

Incidents are issues of the repository and not in the file. https://upptime.js.org documents the repository.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from monitor_cli.providers.shape import Get, an_array, find, judged, required, text
from monitor_cli.types import Component, Type

NAME = "upptime"

_FILE = "/history/summary.json"
_RAW = "https://raw.githubusercontent.com/"
_TYPES: dict[str, Type | None] = {"up": Type.OPERATIONAL, "degraded": Type.WARNING, "down": Type.CRITICAL}
_REPOSITORY = re.compile(r"/(?P<owner>[^/]+)/(?P<repo>[^/]+?)(?:\.git)?(?:/(?:tree|blob|raw)/(?P<branch>[^/]+).*)?/?")
_BRANCH = re.compile(r"/[^/]+/[^/]+(?P<branch>/[^/]+)?/?")


def fetch(url: str, get: Get) -> list[Any]:
    """The one file, also of a repository's page on GitHub, a page at <owner>.github.io, or a raw address."""
    return [find(_file_of(url), get, _FILE).document]


def _file_of(url: str) -> str:
    """Where the file of a repository is; an address that names none as it is. HEAD is the default branch."""
    parts = urlsplit(url)
    host = (parts.hostname or "").removeprefix("www.")
    if host == "github.com" and (found := _REPOSITORY.fullmatch(parts.path)):
        return f"{_RAW}{found['owner']}/{found['repo']}/{found['branch'] or 'HEAD'}{_FILE}"
    if host.endswith(".github.io"):
        owner = host.removesuffix(".github.io")
        repo = parts.path.strip("/").partition("/")[0] or host
        return f"{_RAW}{owner}/{repo}/HEAD{_FILE}"
    if host == "raw.githubusercontent.com" and (found := _BRANCH.fullmatch(parts.path)):
        return f"{_RAW.rstrip('/')}{parts.path.rstrip('/')}{'' if found['branch'] else '/HEAD'}{_FILE}"
    return url


def recognises(document: Any) -> bool:
    """An array of sites with slug and uptime."""
    return isinstance(document, list) and bool(document) and all(
        isinstance(entry, dict) and "slug" in entry and "status" in entry and "uptime" in entry for entry in document
    )  # fmt: skip


def parse(documents: Sequence[Any]) -> list[Component]:
    """Every site of the page."""
    found: list[Component] = []
    for document in documents:
        for place, entry in enumerate(an_array(document, "the document"), 1):
            what = f"site {place} of its list"
            key, word = required(entry, "slug", what), text(required(entry, "status", what))
            found.append(judged(key, entry.get("name"), word, _TYPES))
    return found
