"""The incident API as a WSGI callable: routes, the order of judging, the table of SPEC 6."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, NamedTuple

from monitor_cli import document
from monitor_cli.api import metrics, openapi, request
from monitor_cli.api.body import Busy
from monitor_cli.api.client import Clients
from monitor_cli.api.limits import Limits, Refusal
from monitor_cli.api.metrics import Metrics
from monitor_cli.api.prompt import NotNow
from monitor_cli.api.reader import Reader
from monitor_cli.api.request import Environ
from monitor_cli.api.visit import Visit
from monitor_cli.errors import MonitorError

StartResponse = Callable[..., Any]

RETRY_SECONDS = 5
NOT_KNOWN = "The API key is missing or unknown"  # one answer for both: it must not tell which keys exist
BUSY = "monitor.busy"
"""In a request's environ: the server in front has too many waiting, and asks for a 503."""
AT_ONCE = "monitor.at_once"
"""In a request's environ: the thread must not wait. NotNow is raised, with nothing sent, where it would have to."""

_REASONS = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
_TYPES = {"json": document.JSON_TYPE, "xml": document.XML_TYPE, "metrics": metrics.CONTENT_TYPE}
_ERRORS = {"json": document.error_json, "xml": document.error_xml}
_DATA = {"json": document.to_json, "xml": document.to_xml}
_REVALIDATED = ("Cache-Control", "private, no-cache")
_OTHER = "other"  # the route of everything that is none: a path may hold a key, and must reach neither log nor metric

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What is sent: HTTP status, body, its format, headers beyond those that every answer has, and the document's own
    status."""

    http: int
    body: bytes
    format: str = "json"
    headers: tuple[tuple[str, str], ...] = ()
    status: str = "200"


def refusal(http: int, message: str, form: str = "json", *headers: tuple[str, str]) -> Answer:
    """An error document whose status is the HTTP status."""
    return Answer(http, _ERRORS[form](str(http), message), form, headers, str(http))


class Application:
    """Routes a request and judges it. Reads the database through `reader`, and only once a key was given; `limits`:
    None for no rate limits."""

    def __init__(
        self,
        reader: Reader,
        limits: Limits | None = None,
        clients: Clients | None = None,
        counted: Metrics | None = None,
    ) -> None:
        self._reader = reader
        self._limits = limits
        self._clients = clients or Clients()
        self._metrics = counted or Metrics()
        self._routes: dict[str, tuple[str, tuple[str, ...], Callable[[Visit], Answer]]] = {
            "/v1/": ("/v1/", ("GET", "HEAD", "POST"), self._incidents),
            "/v1": ("/v1/", ("GET", "HEAD", "POST"), self._incidents),
            "/healthz": ("/healthz", ("GET", "HEAD"), self._alive),
            "/readyz": ("/readyz", ("GET", "HEAD"), self._ready),
            "/metrics": ("/metrics", ("GET", "HEAD"), self._count),
            "/openapi.json": ("/openapi.json", ("GET", "HEAD"), self._describe),
        }

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if AT_ONCE in environ and not self._reader.at_once():
            raise NotNow  # before anything is judged that has to be judged again
        name, methods, handle = self._routes.get(environ.get("PATH_INFO", ""), (_OTHER, None, None))
        visit = Visit(environ, name, self._clients.of(environ))
        try:
            answer = self._answer(visit, methods, handle)
        except NotNow:
            raise
        except Exception:
            log.exception("api.failed")
            answer = refusal(500, "Internal error", request.wanted_format(environ))
        return self._send(answer, visit, start_response)

    def _answer(
        self, visit: Visit, methods: tuple[str, ...] | None, handle: Callable[[Visit], Answer] | None
    ) -> Answer:
        fault = request.host_fault(visit.environ)
        if fault is not None:
            return refusal(400, fault, request.wanted_format(visit.environ))
        if methods is None or handle is None:
            return refusal(404, "Not found", request.wanted_format(visit.environ))
        if visit.method not in methods:
            allow = ", ".join(methods)
            return refusal(405, f"Allowed: {allow}", request.wanted_format(visit.environ), ("Allow", allow))
        if BUSY in visit.environ:
            return _busy("Too many requests are waiting; try again", visit)
        return handle(visit)

    def _alive(self, _visit: Visit) -> Answer:
        return refusal(200, "OK")

    def _ready(self, _visit: Visit) -> Answer:
        try:
            self._reader.check()
        except MonitorError:
            return _away("json")
        return refusal(200, "OK")

    def _count(self, _visit: Visit) -> Answer:
        return Answer(200, self._metrics.text(), "metrics")

    def _describe(self, _visit: Visit) -> Answer:
        return Answer(200, openapi.DOCUMENT)

    def _incidents(self, visit: Visit) -> Answer:
        try:
            asked = request.read(visit.environ)
        except Busy as error:
            return _busy(error.message, visit)
        visit.key = asked.key
        if asked.unclear is not None:
            refused = self._limits and self._limits.stranger(visit.client)
            return self._limited(refused, asked.format, visit) if refused else refusal(400, asked.unclear, asked.format)
        if asked.key is None:
            return self._unknown(asked.format, visit)
        try:
            return self._judge(asked, hashlib.sha256(asked.key).hexdigest(), visit)
        except MonitorError:  # the reader has logged it
            return _away(asked.format)

    def _judge(self, asked: request.Question, digest: str, visit: Visit) -> Answer:
        form = asked.format
        if self._limits and (refused := self._limits.before(visit.client, digest)):
            return self._limited(refused, form, visit)
        found = None
        if asked.fault is None:
            found = self._reader.of_key(digest, at_once=AT_ONCE in visit.environ)
            visit.account_id = found and found.account_id
        elif AT_ONCE in visit.environ:
            raise NotNow
        else:
            visit.account_id = self._reader.account_of_key(digest)
        if visit.account_id is None:
            return self._unknown(form, visit)
        if self._limits and (refused := self._limits.known(visit.client, digest)):
            return self._limited(refused, form, visit)
        if asked.fault is not None or found is None:
            return refusal(400, asked.fault or "", form)
        if not found.subscribed:
            return _nothing("E542", "User Plugin not found or inactive", form)
        if not found.entries:
            return _nothing("E701", "No incidents found", form)
        return Answer(200, _DATA[form](found.entries), form, (_REVALIDATED,))

    def _unknown(self, form: str, visit: Visit) -> Answer:
        if self._limits and (refused := self._limits.unknown(visit.client)):
            return self._limited(refused, form, visit)
        return refusal(401, NOT_KNOWN, form, ("WWW-Authenticate", 'ApiKey realm="incident API"'))

    def _limited(self, refused: Refusal, form: str, visit: Visit) -> Answer:
        visit.limit = refused.limit
        self._metrics.limited(refused.limit)
        wait = str(refused.seconds)
        return refusal(429, f"Too many requests; try again in {wait} s", form, ("Retry-After", wait))

    def _send(self, answer: Answer, visit: Visit, start_response: StartResponse) -> Iterable[bytes]:
        request_id = visit.request_id()
        http, headers, body = _rendered(answer, visit)
        start_response(_REASONS[http], [*headers, ("X-Request-Id", request_id)])
        seconds = visit.seconds
        self._metrics.answered(visit.route, visit.method, http, answer.status, seconds)
        visit.log(request_id, http, answer.status, seconds)
        return [body]


def _nothing(status: str, message: str, form: str) -> Answer:
    return Answer(200, _ERRORS[form](status, message), form, (_REVALIDATED,), status)


def _busy(message: str, visit: Visit) -> Answer:
    return refusal(503, message, request.wanted_format(visit.environ), ("Retry-After", "1"))


def _away(form: str) -> Answer:
    return refusal(503, "The database does not answer; try again", form, ("Retry-After", str(RETRY_SECONDS)))


def _rendered(answer: Answer, visit: Visit) -> tuple[int, list[tuple[str, str]], bytes]:
    """HTTP status, headers and body: without a body for HEAD, and for a client that has it already (304)."""
    headers = [
        ("Content-Type", _TYPES[answer.format]),
        ("Content-Length", str(len(answer.body))),
        ("X-Content-Type-Options", "nosniff"),
        *answer.headers,
    ]
    if _REVALIDATED not in answer.headers:
        headers.append(("Cache-Control", "no-store"))
    elif visit.method != "POST":
        etag = f'"{hashlib.blake2b(answer.body, digest_size=16).hexdigest()}"'
        if _matches(visit.environ.get("HTTP_IF_NONE_MATCH"), etag):
            return 304, [("ETag", etag), _REVALIDATED], b""
        headers.append(("ETag", etag))
    return answer.http, headers, b"" if visit.method == "HEAD" else answer.body


def _matches(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has this body already: weak comparison, RFC 9110, 13.1.2."""
    if not if_none_match:
        return False
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in if_none_match.split(","))
