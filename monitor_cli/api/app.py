"""The incident API as a WSGI callable: routes, the order of judging, the table of SPEC 6."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, NamedTuple

from monitor_cli import document
from monitor_cli.api import request
from monitor_cli.api.body import Busy
from monitor_cli.api.reader import Reader
from monitor_cli.api.request import Environ
from monitor_cli.errors import MonitorError

StartResponse = Callable[..., Any]

RETRY_SECONDS = 5
NOT_KNOWN = "The API key is missing or unknown"  # one answer for both: it must not tell which keys exist

_REASONS = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
_TYPES = {"json": document.JSON_TYPE, "xml": document.XML_TYPE}
_ERRORS = {"json": document.error_json, "xml": document.error_xml}
_DATA = {"json": document.to_json, "xml": document.to_xml}
_REVALIDATED = ("Cache-Control", "private, no-cache")

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What is sent: HTTP status, body, its format, and headers beyond those that every answer has."""

    http: int
    body: bytes
    format: str = "json"
    headers: tuple[tuple[str, str], ...] = ()


def refusal(http: int, message: str, form: str = "json", *headers: tuple[str, str]) -> Answer:
    """An error document whose status is the HTTP status."""
    return Answer(http, _ERRORS[form](str(http), message), form, headers)


class Application:
    """Routes a request and judges it. Reads the database through `reader`, and only once a key was given."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._routes: dict[str, tuple[tuple[str, ...], Callable[[Environ], Answer]]] = {
            "/v1/": (("GET", "HEAD", "POST"), self._incidents),
            "/v1": (("GET", "HEAD", "POST"), self._incidents),
            "/healthz": (("GET", "HEAD"), self._alive),
            "/readyz": (("GET", "HEAD"), self._ready),
        }

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        try:
            answer = self._answer(environ)
        except Exception:
            log.exception("api.failed")
            answer = refusal(500, "Internal error", request.wanted_format(environ))
        return _send(answer, environ, start_response)

    def _answer(self, environ: Environ) -> Answer:
        route = self._routes.get(environ.get("PATH_INFO", ""))
        if route is None:
            return refusal(404, "Not found", request.wanted_format(environ))
        methods, handle = route
        if environ["REQUEST_METHOD"] not in methods:
            allow = ", ".join(methods)
            return refusal(405, f"Allowed: {allow}", request.wanted_format(environ), ("Allow", allow))
        return handle(environ)

    def _alive(self, _environ: Environ) -> Answer:
        return refusal(200, "OK")

    def _ready(self, _environ: Environ) -> Answer:
        try:
            self._reader.check()
        except MonitorError:
            return _away("json")
        return refusal(200, "OK")

    def _incidents(self, environ: Environ) -> Answer:
        try:
            asked = request.read(environ)
        except Busy as error:
            return refusal(503, error.message, request.wanted_format(environ), ("Retry-After", "1"))
        if asked.unclear is not None:
            return refusal(400, asked.unclear, asked.format)
        if asked.key is None:
            return _unknown(asked.format)
        try:
            return self._judge(asked, hashlib.sha256(asked.key).hexdigest())
        except MonitorError:  # the reader has logged it
            return _away(asked.format)

    def _judge(self, asked: request.Question, digest: str) -> Answer:
        form = asked.format
        if asked.fault is not None:
            known = self._reader.account_of_key(digest) is not None
            return refusal(400, asked.fault, form) if known else _unknown(form)
        found = self._reader.of_key(digest)
        if found is None:
            return _unknown(form)
        if not found.subscribed:
            return Answer(200, _ERRORS[form]("E542", "User Plugin not found or inactive"), form, (_REVALIDATED,))
        if not found.entries:
            return Answer(200, _ERRORS[form]("E701", "No incidents found"), form, (_REVALIDATED,))
        return Answer(200, _DATA[form](found.entries), form, (_REVALIDATED,))


def _unknown(form: str) -> Answer:
    return refusal(401, NOT_KNOWN, form, ("WWW-Authenticate", 'ApiKey realm="incident API"'))


def _away(form: str) -> Answer:
    return refusal(503, "The database does not answer; try again", form, ("Retry-After", str(RETRY_SECONDS)))


def _send(answer: Answer, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    headers = [
        ("Content-Type", _TYPES[answer.format]),
        ("Content-Length", str(len(answer.body))),
        ("X-Content-Type-Options", "nosniff"),
        *answer.headers,
    ]
    method = environ["REQUEST_METHOD"]
    if _REVALIDATED not in answer.headers:
        headers.append(("Cache-Control", "no-store"))
    elif method != "POST":
        etag = f'"{hashlib.blake2b(answer.body, digest_size=16).hexdigest()}"'
        headers.append(("ETag", etag))
        if _matches(environ.get("HTTP_IF_NONE_MATCH"), etag):
            start_response(_REASONS[304], [("ETag", etag), _REVALIDATED])
            return [b""]
    start_response(_REASONS[answer.http], headers)
    return [b"" if method == "HEAD" else answer.body]


def _matches(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has this body already: weak comparison, RFC 9110, 13.1.2."""
    if not if_none_match:
        return False
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in if_none_match.split(","))
