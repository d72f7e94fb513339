"""From granian's RSGI to the WSGI application.

Under its own WSGI interface granian keeps a thread for each form that a client drips, joins header names that differ in
`_` and `-`, and cannot tell a body that broke off from one that ended. RSGI hands over what was sent, so here bodies
are awaited without a thread, for a bounded time, and headers are taken as nginx, gunicorn and waitress take them.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from monitor_cli.api import AT_ONCE, BUSY, NotNow
from monitor_cli.api.body import LIMIT, BadBody
from monitor_cli.serve.crew import Crew

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

BODY_SECONDS = 5.0  # for a form to arrive, in total

# What may wait for the database; all else is answered at once, however busy that is.
_WAITS = frozenset(("/v1/", "/v1", "/readyz"))
_BASE: Environ = {
    "SCRIPT_NAME": "",
    "SERVER_SOFTWARE": "granian",
    "wsgi.version": (1, 0),
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
    "wsgi.input_terminated": True,
}
_UNPREFIXED = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}


class Unread:
    """The input of a request whose body did not come whole."""

    def __init__(self, why: str) -> None:
        self._why = why

    def read(self, _size: int = -1) -> bytes:
        raise BadBody(self._why)


class Gateway:
    """What granian calls for each request, in the event loop's thread."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._crew: Crew

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._crew = Crew(loop)

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """When all is answered: nothing is left waiting, which granian would call a failure."""
        self._crew.settle()
        loop.run_until_complete(asyncio.sleep(0))

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        environ = environ_of(scope)
        has_body = "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ
        environ["wsgi.input"] = await _body(environ, proto) if has_body and scope.method == "POST" else io.BytesIO()
        if scope.path not in _WAITS:
            self._answer(environ, proto)
        elif self._crew.full:
            self._answer({**environ, BUSY: True}, proto)
        elif not self._answer_at_once(environ, proto):
            await self._crew.submit(lambda: self._answer(environ, proto))

    def _answer_at_once(self, environ: Environ, proto: Any) -> bool:
        """Whether it could be: handing it to the crew and back costs more than answering it."""
        if environ["REQUEST_METHOD"] != "GET" or environ["PATH_INFO"] == "/readyz":
            return False
        try:
            self._answer({**environ, AT_ONCE: True}, proto)
        except NotNow:
            return False
        return True

    def _answer(self, environ: Environ, proto: Any) -> None:
        started: list[tuple[int, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            started.append((int(status[:3]), headers))

        body = b"".join(self._application(environ, start_response))
        with suppress(RuntimeError):  # the client has gone
            proto.response_bytes(*started[0], body)


def environ_of(scope: Any) -> Environ:
    """What WSGI calls the request's environment, but for its body. Headers with an underscore in their name are left
    out: the same name as WSGI has it could be of another header, which a proxy in front answers for."""
    environ = _BASE.copy()
    environ["REQUEST_METHOD"] = scope.method
    path = scope.path
    environ["PATH_INFO"] = path if path.isascii() else path.encode().decode("latin-1")
    environ["QUERY_STRING"] = scope.query_string
    environ["SERVER_PROTOCOL"] = "HTTP/1.0" if scope.http_version == "1" else f"HTTP/{scope.http_version}"
    environ["SERVER_NAME"], _, environ["SERVER_PORT"] = scope.server.rpartition(":")
    environ["REMOTE_ADDR"] = scope.client.rpartition(":")[0].strip("[]")
    environ["wsgi.url_scheme"] = scope.scheme
    for name, value in scope.headers.items():
        if "_" in name:
            continue
        key = _UNPREFIXED.get(name) or "HTTP_" + name.upper().replace("-", "_")
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ


async def _body(environ: Environ, proto: Any) -> Any:
    """The body as an input: what came of it up to the limit, or an Unread that says why there is none."""
    length = environ.get("CONTENT_LENGTH")
    expected = int(length) if length and length.isascii() and length.isdigit() and len(length) < 19 else None
    if expected is not None and expected > LIMIT:
        return io.BytesIO()  # refused for its length, unread
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read(proto)
    except TimeoutError:
        return Unread(f"The body did not arrive within {BODY_SECONDS:g} s")
    except RuntimeError:  # granian's for a connection that broke
        return Unread("The body could not be read")


async def _read(proto: Any) -> Any:
    body = b""
    empty = False
    async for piece in proto:
        if empty:  # granian 2.8 has one empty piece at the end, and two where the coding broke off
            return Unread("The body could not be read")
        empty = not piece
        body += piece
        if len(body) > LIMIT:
            break
    return io.BytesIO(body)
