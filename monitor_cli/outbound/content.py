"""What one request tells: the document, and the values of the placeholders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

from monitor_cli import document
from monitor_cli.document import Entry
from monitor_cli.types import Type, worst
from monitor_cli.words import many

_NAMED_ENTRIES = 5
_VERBS = {
    Type.OPERATIONAL: ("is operational", "are operational"),
    Type.WARNING: ("has a warning", "have a warning"),
    Type.CRITICAL: ("is critical", "are critical"),
}


class Content(NamedTuple):
    """What a request tells: the entries (document.entries), and the values of {event_id} and of {timestamp} (unix
    seconds)."""

    entries: Sequence[Entry]
    event_id: str
    timestamp: int


def _response(content: Content) -> str:
    return document.json_text(content.entries)


def _worst(content: Content) -> str:
    return (worst(entry.type for entry in content.entries) or Type.OPERATIONAL).word


def _numbers(content: Content) -> str:
    if len(content.entries) == 1:  # by far the most frequent: each once and sorted as they are
        return ",".join(content.entries[0].numbers)
    return _joined(number for entry in content.entries for number in entry.numbers)


def _joined(values: Iterable[str]) -> str:
    return ",".join(sorted({value for value in values if value}))


def _message(content: Content) -> str:
    """One sentence, worst first; beyond a handful of entries it counts the rest."""
    if not content.entries:
        return "No numbers are concerned."
    ordered = sorted(content.entries, key=lambda entry: (-entry.type, entry.region))
    facts = [_fact(entry) for entry in ordered[:_NAMED_ENTRIES]]
    if rest := len(ordered) - len(facts):
        facts.append(f"{rest} more {'status follows' if rest == 1 else 'statuses follow'}")
    return (", ".join(facts[:-1]) + " and " if len(facts) > 1 else "") + facts[-1] + "."


def _fact(entry: Entry) -> str:
    count = len(entry.numbers)
    verb = _VERBS[entry.type][count != 1]
    return f"{many(count, 'number')} in {entry.region.shown} {verb}"


VALUES: dict[str, Callable[[Content], str]] = {
    "response": _response,
    "event_id": attrgetter("event_id"),
    "timestamp": lambda content: str(content.timestamp),
    "type": _worst,
    "region": lambda content: _joined(entry.region.region for entry in content.entries),
    "region_code": lambda content: _joined(entry.region.region_code for entry in content.entries),
    "numbers": _numbers,
    "message": _message,
}
"""The placeholders, each with how its text is made of a Content. Several regions, codes or numbers are separated by
commas, sorted, each once."""
