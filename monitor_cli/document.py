"""The response document: what the incident API answers and what callbacks carry, built here and nowhere else.

    {"status": "200", "message": "OK", "data": {"incidents": [
      {"region": …, "region_code": …, "type": …, "service": "all", "numbers": [...]}]}}

In XML each list is a run of <monitor> elements; bytes are UTF-8, unescaped, without white space between elements.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from html import escape
from typing import NamedTuple

from monitor_cli.types import Region, Type

JSON_TYPE = "application/json; charset=utf-8"
XML_TYPE = "application/xml; charset=utf-8"

_quoted = json.encoder.encode_basestring  # a JSON string with its quotes, UTF-8 unescaped

# What XML 1.0 cannot carry at all, not even as a character reference (section 2.2, Char).
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


_WORST_FIRST = sorted(Type, reverse=True)


class Entry(NamedTuple):
    """The numbers of one region that share a type; sorted by code point, each once."""

    region: Region
    type: Type
    numbers: tuple[str, ...]


Groups = dict[Region, dict[Type, list[str]]]
"""The numbers of each region that a server has with each type; a number may be in several, and twice in one."""


def entries(facts: Iterable[tuple[Region, Type, str]]) -> list[Entry]:
    """Group (region, type, number) facts: each number once per region at its worst type, entries sorted by region,
    region_code, then worst type first."""
    groups: Groups = {}
    for region, kind, number in facts:
        groups.setdefault(region, {}).setdefault(kind, []).append(number)
    return grouped(groups)


def grouped(groups: Groups) -> list[Entry]:
    """The same of facts that are grouped already."""
    found = []
    for region in sorted(groups):
        of_region = groups[region]
        told: set[str] = set()
        for kind in _WORST_FIRST:
            if kind in of_region:
                left = set(of_region[kind])
                left -= told
                told |= left
                if left:
                    found.append(Entry(region, kind, tuple(sorted(left))))
    return found


def to_json(listed: Sequence[Entry]) -> bytes:
    """The document with these entries as JSON."""
    return json_text(listed).encode("utf-8", "replace")


def json_text(listed: Sequence[Entry]) -> str:
    """The same as text: keys in SPEC order, compact. Written out here, not by json.dumps: the same bytes (a test holds
    them together) in a quarter of the time, for each of many callbacks."""
    incidents = ",".join(map(_incident, listed))
    return f'{{"status":"200","message":"OK","data":{{"incidents":[{incidents}]}}}}'


def _incident(entry: Entry) -> str:
    region, kind, numbers = entry
    return f"{_opened(region, kind)}{','.join(map(_quoted, numbers))}]}}"


@lru_cache(4096)  # an installation has few regions
def _opened(region: Region, kind: Type) -> str:
    """An entry up to its first number."""
    return (
        f'{{"region":{_quoted(region.region)},"region_code":{_quoted(region.region_code)},"type":"{kind.word}",'
        '"service":"all","numbers":['
    )


def to_xml(listed: Sequence[Entry]) -> bytes:
    """The same as XML. Written out here, not by xmltodict: the same bytes (a test holds them together) in a
    twentieth of the time, which counts with 100 000 numbers."""
    incidents = "".join(
        f"<monitor>{_tag('region', e.region.region)}{_tag('region_code', e.region.region_code)}"
        f"<type>{e.type.word}</type><service>all</service><numbers>{_numbers(e.numbers)}</numbers></monitor>"
        for e in listed
    )
    return _xml(f"<status>200</status><message>OK</message><data><incidents>{incidents}</incidents></data>")


def error_json(status: str, message: str) -> bytes:
    """An error document: status and message, no data."""
    return _json({"status": status, "message": message})


def error_xml(status: str, message: str) -> bytes:
    return _xml(_tag("status", status) + _tag("message", message))


def _json(data: dict[str, str]) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _xml(inside: str) -> bytes:
    return f'<?xml version="1.0" encoding="utf-8"?><api>{inside}</api>'.encode()


def _numbers(numbers: Sequence[str]) -> str:
    between = "</monitor><monitor>"
    return f"<monitor>{between.join(map(_text, numbers))}</monitor>"


def _tag(name: str, text: str) -> str:
    return f"<{name}>{_text(text)}</{name}>"


def _text(text: str) -> str:
    """Text as XML has it: a bare carriage return would be read back as a line feed (XML 1.0, 2.11)."""
    return escape(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text), quote=False).replace("\r", "&#13;")
