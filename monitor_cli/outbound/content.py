"""What one request tells: the document, and the values of the placeholders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Content:
    """The values of the placeholders: `document` is {response} (JSON, UTF-8), `timestamp` in unix seconds; several
    regions, codes or numbers are separated by commas, sorted, each once."""

    document: bytes
    event_id: str
    timestamp: int
    type: str
    region: str
    region_code: str
    numbers: str
    message: str


VALUES: dict[str, Callable[[Content], str]] = {
    "response": lambda content: content.document.decode("utf-8", "replace"),
    "event_id": lambda content: content.event_id,
    "timestamp": lambda content: str(content.timestamp),
    "type": lambda content: content.type,
    "region": lambda content: content.region,
    "region_code": lambda content: content.region_code,
    "numbers": lambda content: content.numbers,
    "message": lambda content: content.message,
}
"""The placeholders, {response} and the others, each with how its text is read from a Content."""


def content_of(entries: Sequence[Entry], event_id: str, timestamp: int) -> Content:
    """The content that these entries (document.entries) make; `timestamp` in unix seconds."""
    if len(entries) == 1:  # by far the most frequent: nothing to join or to compare
        ((region, code), kind, numbers) = entries[0]
        facts = (kind, region, code, ",".join(numbers))
    else:
        facts = (
            worst(entry.type for entry in entries) or Type.OPERATIONAL,
            _joined(entry.region.region for entry in entries),
            _joined(entry.region.region_code for entry in entries),
            _joined(number for entry in entries for number in entry.numbers),
        )
    return Content(document.to_json(entries), event_id, timestamp, facts[0].word, *facts[1:], _message(entries))


def _joined(values: Iterable[str]) -> str:
    return ",".join(sorted({value for value in values if value}))


def _message(entries: Sequence[Entry]) -> str:
    """One sentence, worst first; beyond a handful of entries it counts the rest."""
    if not entries:
        return "No numbers are concerned."
    ordered = sorted(entries, key=lambda entry: (-entry.type, entry.region))
    facts = [_fact(entry) for entry in ordered[:_NAMED_ENTRIES]]
    if rest := len(ordered) - len(facts):
        facts.append(f"{rest} more {'status follows' if rest == 1 else 'statuses follow'}")
    return (", ".join(facts[:-1]) + " and " if len(facts) > 1 else "") + facts[-1] + "."


def _fact(entry: Entry) -> str:
    count = len(entry.numbers)
    verb = _VERBS[entry.type][count != 1]
    return f"{many(count, 'number')} in {entry.region.shown} {verb}"
