"""Large documents without what no provider reads.

Most of a page of 100 000 components is what nobody looks at, and most of the time of reading it goes into making
objects of that. The entries of a document's own list `components` come with those keys alone that providers look for
there (providers.shape.Entry); all the rest comes as it is. What is odd in any way is left to the usual reading.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from monitor_cli.providers.shape import Entry

if TYPE_CHECKING:
    import msgspec

LARGE = 256 * 1024  # bytes; below, loading the library takes longer than it saves
_LIST = "components"
_BESIDE = ("page", "status", "incidents", "scheduled_maintenances")  # it on most pages


def lean(body: bytes) -> dict[str, Any] | None:
    """The data in a JSON document that has a list of components; None where it is anything else, or cannot be read like
    this: json.loads says why, or takes what only Python takes for JSON."""
    import msgspec  # large documents are few

    try:
        if not body.isascii():
            body.decode()  # of what is passed over the library would not look at the encoding
        try:
            entries, beside = _in_one_pass(body)
        except msgspec.ValidationError:  # there is something else beside
            parts = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
            entries, beside = msgspec.json.decode(parts.pop(_LIST, b"null"), type=list[Entry]), parts
        return {**{key: json.loads(bytes(part)) for key, part in beside.items()}, _LIST: entries}
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _in_one_pass(body: bytes) -> tuple[list[Entry], dict[str, msgspec.Raw]]:
    """The list, and what stands beside it. Raises ValidationError where that is more than on most pages."""
    import msgspec

    beside = [(key, msgspec.Raw, msgspec.UNSET) for key in _BESIDE]
    page = msgspec.defstruct("Page", [(_LIST, list[Entry]), *beside], forbid_unknown_fields=True)
    found = msgspec.structs.asdict(msgspec.json.decode(body, type=page))
    entries = found.pop(_LIST)
    return entries, {key: value for key, value in found.items() if value is not msgspec.UNSET}
