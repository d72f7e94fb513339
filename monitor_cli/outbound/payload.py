"""The payload's forms: customers' text, cut once into literal pieces and placeholders, which are filled in one pass.

A substituted value is encoded for where it stands, and is never looked at again for placeholders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from operator import itemgetter
from typing import NoReturn
from urllib.parse import unquote_plus

from monitor_cli.outbound.content import VALUES, Content
from monitor_cli.outbound.headers import RefusedTemplate
from monitor_cli.safetext import short

PAYLOAD_LIMIT = 65536
"""The longest payload, in characters."""

Piece = str | Callable[[Content], str]
Pieces = tuple[Piece, ...]

PLACEHOLDER = re.compile("{(" + "|".join(VALUES) + ")}")
# A JSON string (an unclosed one up to the end: json.loads then says so), or a placeholder outside one.
_JSON_TOKEN = re.compile(r'(?P<string>"(?:[^"\\]|\\.)*+(?:"|\\?\Z))|' + PLACEHOLDER.pattern, re.DOTALL)
# As an unquoted value these are JSON; the others are text.
_BARE = ("response", "timestamp")
# RFC 3986, section 2.3: unreserved characters stay.
_PERCENT = [chr(b) if (b < 128 and chr(b).isalnum()) or chr(b) in "-._~" else f"%{b:02X}" for b in range(256)]


def percent(text: str) -> str:
    """Text percent-encoded as UTF-8 but for RFC 3986's unreserved characters."""
    octets = text.encode("utf-8", "replace")
    return "".join(itemgetter(*octets)(_PERCENT)) if octets else ""  # all of them by one call: 5 µs for 220, a loop 10


def json_text(text: str) -> str:
    """Text as it stands between the quotes of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _filler(name: str, encode: Callable[[str], str]) -> Callable[[Content], str]:
    value = VALUES[name]
    return lambda content: encode(value(content))


PERCENT_FILLERS = {name: _filler(name, percent) for name in VALUES}
_TEXT_FILLERS = {name: _filler(name, json_text) for name in VALUES}


def fill(pieces: Pieces, content: Content) -> str:
    if len(pieces) == 1:  # by far the most frequent: a path without placeholders, the document alone
        (piece,) = pieces
        return piece if isinstance(piece, str) else piece(content)
    return "".join([piece if isinstance(piece, str) else piece(content) for piece in pieces])


def cut(text: str, fillers: dict[str, Callable[[Content], str]], literal: Callable[[str], str] | None = None) -> Pieces:
    """Cut text at its placeholders; `literal` encodes what stands between them."""
    if "{" not in text and not literal:
        return (text,)
    parts = PLACEHOLDER.split(text)  # literal, name, literal, …
    pieces: list[Piece] = []
    for place, part in enumerate(parts):
        if place % 2:
            pieces.append(fillers[part])
        elif part:
            pieces.append(literal(part) if literal else part)
    return tuple(pieces)


def form_body(payload: str) -> Pieces:
    """A form payload: its own text as written, values percent-encoded. Raises RefusedTemplate."""
    _check_text(payload)
    return cut(payload, PERCENT_FILLERS)


def json_body(payload: str) -> Pieces:
    """The pieces of a raw JSON request's body: the document, an object made of form text, or JSON text with the
    placeholders filled. Raises RefusedTemplate where the payload is none of these."""
    _check_text(payload)
    text = payload.strip()
    if text in ("", "{response}"):
        return (VALUES["response"],)
    pieces, sample, bare = _cut_json(text)
    if (problem := _json_problem(sample)) is None:
        for name in bare:
            if name not in _BARE:
                raise RefusedTemplate(
                    f"the payload has {{{name}}} outside quotes, where it would not be JSON", f'write "{{{name}}}"'
                )
        return pieces
    if text[0] in '{["' and not PLACEHOLDER.match(text):
        raise RefusedTemplate(
            f"the payload with the raw-JSON box checked is not JSON: {problem}",
            "placeholders are filled inside quotes, {response} and {timestamp} outside them too",
        )
    return _object_of_form(text)


def _check_text(payload: str) -> None:
    if len(payload) > PAYLOAD_LIMIT:
        raise RefusedTemplate(f"the payload has {len(payload)} characters, more than {PAYLOAD_LIMIT}")
    try:
        payload.encode("utf-8")
    except UnicodeEncodeError:
        raise RefusedTemplate("the payload is not valid Unicode text") from None


def _cut_json(text: str) -> tuple[Pieces, str, list[str]]:
    """The pieces of JSON text; a sample of it with harmless values, to be judged; the placeholders outside strings.

    The sample has x inside strings, so that none can complete an escape (\\u004{type}), and null outside, so that none
    can lengthen a number (1{timestamp})."""
    pieces: list[Piece] = []
    sample: list[str] = []
    bare: list[str] = []
    end = 0
    for token in _JSON_TOKEN.finditer(text):
        pieces.append(text[end : token.start()])
        sample.append(text[end : token.start()])
        if string := token["string"]:
            pieces += cut(string, _TEXT_FILLERS)
            sample.append(PLACEHOLDER.sub("x", string))
        else:
            name = token[0][1:-1]
            pieces.append(VALUES[name])
            sample.append("null")
            bare.append(name)
        end = token.end()
    pieces.append(text[end:])
    sample.append(text[end:])
    return tuple(pieces), "".join(sample), bare


def _json_problem(text: str) -> str | None:
    try:
        json.loads(text, parse_constant=_not_json)
    except json.JSONDecodeError as error:
        return f"{error.msg}, line {error.lineno}"
    except ValueError as error:
        return str(error)
    except RecursionError:
        return "it is nested too deeply"
    return None


def _not_json(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON value")


def _object_of_form(text: str) -> Pieces:
    """An object of form text: a value that is {response} alone becomes the document, everything else text."""
    pieces: list[Piece] = []
    keys = set()
    for field in text.split("&"):
        raw_key, equals, raw_value = field.partition("=")
        if not equals or not raw_key:
            raise RefusedTemplate(
                "the payload with the raw-JSON box checked is neither JSON nor form text",
                'leave it empty, or write {response}, data={response} or {"data": {response}}',
            )
        if PLACEHOLDER.search(raw_key):
            raise RefusedTemplate("the payload has a placeholder as the name of a field", "placeholders go into values")
        key = _decoded(raw_key)
        if key in keys:
            raise RefusedTemplate(f"the payload has the field {short(key, 60)} twice", "write the object as JSON text")
        keys.add(key)
        pieces.append(f'{"," if pieces else "{"}"{json_text(key)}":')
        if raw_value == "{response}":
            pieces.append(VALUES["response"])
        else:
            pieces += ('"', *cut(raw_value, _TEXT_FILLERS, lambda literal: json_text(_decoded(literal))), '"')
    return (*pieces, "}")


def _decoded(text: str) -> str:
    try:
        return unquote_plus(text, errors="strict")
    except UnicodeDecodeError:
        raise RefusedTemplate("a value in the payload is not percent-encoded UTF-8", "write é as %C3%A9") from None
