"""Reading a request: the key and the parameters of the query string, a form body and the x-api-key header.

Nothing of what a client sent is repeated in a message: it may be a key. Names, limits and the order in which a request
is judged: SPEC 6 and 9, docs/serving.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from monitor_cli.api.body import BadBody, read_form
from monitor_cli.errors import MonitorError

Environ = dict[str, Any]

FIELD_LIMIT = 100  # parameters in a query string or form
_KNOWN = ("api_key", "method", "format")


class BadParameter(MonitorError):
    """Something in a request that makes it a 400; the message says which part."""


class Question(NamedTuple):
    """A request as understood, with what makes it a 400: `unclear` where it cannot be told which key it brings,
    `fault` for anything else, which is judged after the key."""

    key: bytes | None
    format: str
    unclear: str | None = None
    fault: str | None = None


def read(environ: Environ) -> Question:
    """Understand a request to the incident API. Raises Busy."""
    values, fault = _values(environ)
    form, format_fault = _format(values)
    try:
        key = _key(values, environ.get("HTTP_X_API_KEY", ""))
    except BadParameter as error:
        return Question(None, form, unclear=error.message)
    if key is None and fault is not None:
        return Question(None, form, unclear=fault)  # the key may be in what could not be read
    return Question(key, form, fault=fault or _method_fault(values) or format_fault)


def host_fault(environ: Environ) -> str | None:
    """Why the request must be refused by RFC 9112, 3.2: HTTP/1.1 has one Host header."""
    host = environ.get("HTTP_HOST")
    if host:
        return "The Host header is given more than once" if "," in host else None
    return "The Host header is missing" if environ.get("SERVER_PROTOCOL") == "HTTP/1.1" else None


def _values(environ: Environ) -> tuple[dict[str, list[bytes | None]], str | None]:
    """The known parameters of query string and form, and why one of the two could not be read."""
    values: dict[str, list[bytes | None]] = {}
    fault: str | None = None
    try:
        values = _collect(environ.get("QUERY_STRING", ""), "query string")
        if environ["REQUEST_METHOD"] == "POST":
            for name, more in _collect(read_form(environ), "form").items():
                values.setdefault(name, []).extend(more)
    except (BadParameter, BadBody) as error:
        fault = error.message
    return values, fault


def wanted_format(environ: Environ) -> str:
    """The format in which a request without an answer of its own (404, 405, 500) is told so."""
    try:
        return _format(_collect(environ.get("QUERY_STRING", ""), "query string"))[0]
    except BadParameter:
        return "json"


def _collect(text: str, where: str) -> dict[str, list[bytes | None]]:
    """The values of the known parameters; None for one that is not UTF-8. Others are ignored, whatever is in them."""
    found: dict[str, list[bytes | None]] = {}
    for name, value in _fields(text, where):
        if name in _KNOWN:
            found.setdefault(name, []).append(_utf8(value))
    return found


def _fields(text: str, where: str) -> Iterator[tuple[str, str]]:
    if text.count("&") >= FIELD_LIMIT:
        raise BadParameter(f"The {where} has more than {FIELD_LIMIT} parameters")
    for field in text.split("&"):
        name, _, value = field.partition("=")
        if "%" in name or "+" in name:
            name = unquote_to_bytes(name.replace("+", " ")).decode("utf-8", "replace")
        yield name, value


def _utf8(value: str) -> bytes | None:
    """A percent-encoded value as bytes of UTF-8, or None."""
    if not value.isascii():
        return None  # servers disagree on how they hand over what was not percent-encoded
    if "%" not in value and "+" not in value:
        return value.encode()
    decoded = unquote_to_bytes(value.replace("+", " "))
    try:
        decoded.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return decoded


def _single(values: dict[str, list[bytes | None]], name: str) -> bytes | None:
    """The one value of a parameter, or None where it is absent."""
    given = values.get(name)
    if given is None:
        return None
    if len(given) > 1:
        raise BadParameter(f"The parameter {name} is given more than once")
    if given[0] is None:
        raise BadParameter(f"The parameter {name} is not percent-encoded UTF-8")
    return given[0]


def _key(values: dict[str, list[bytes | None]], header: str) -> bytes | None:
    """The key, or None where there is none (an empty one is none)."""
    key = _single(values, "api_key") or None
    if not header:
        return key
    if "," in header:  # this is how servers hand over a header that came twice
        raise BadParameter("The header x-api-key is given more than once, or its key has a comma; use api_key")
    try:
        from_header = header.encode("latin-1")  # WSGI hands over bytes as latin-1 (PEP 3333)
        from_header.decode("utf-8")
    except UnicodeError:
        raise BadParameter("The header x-api-key is not UTF-8") from None
    if key is not None and key != from_header:
        raise BadParameter("The header x-api-key and the parameter api_key differ")
    return from_header


def _method_fault(values: dict[str, list[bytes | None]]) -> str | None:
    try:
        method = _single(values, "method")
    except BadParameter as error:
        return error.message
    if method is None:
        return "The parameter method is missing; the only method is monitor"
    return None if method == b"monitor" else "Unknown method; the only method is monitor"


def _format(values: dict[str, list[bytes | None]]) -> tuple[str, str | None]:
    """The format to answer in, and what is wrong with the one asked for."""
    try:
        asked = _single(values, "format")
    except BadParameter as error:
        return "json", error.message
    if asked is None or asked == b"json":
        return "json", None
    return ("xml", None) if asked == b"xml" else ("json", "Unknown format; the formats are xml and json")
