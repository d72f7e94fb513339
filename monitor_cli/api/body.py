"""Reading the form of a POST: bounded in size, in time and in how many threads may wait for one.

A WSGI server reads the body when it is asked to, so a client that drips it would hold one of few threads for as long as
it likes. Here a helper thread waits for it, the request's own only PATIENCE_SECONDS; a helper that is left alone ends
when its client goes away.
"""

from __future__ import annotations

import threading
from typing import Any

from monitor_cli.errors import MonitorError

LIMIT = 16 * 1024  # bytes of a form
FORM = "application/x-www-form-urlencoded"
PATIENCE_SECONDS = 1.0
_WAITING = 2  # requests that wait for a form at once; serve.THREADS is more, so that others are answered meanwhile
_HELPERS = 64  # threads that may hang on dripping clients

_waiting = threading.BoundedSemaphore(_WAITING)
_helpers = threading.BoundedSemaphore(_HELPERS)


class BadBody(MonitorError):
    """A body that is not a form of fair size, sent in fair time."""


def read_form(environ: dict[str, Any]) -> str:
    """The form as text, not yet decoded; '' where there is no body. Raises BadBody."""
    length = environ.get("CONTENT_LENGTH") or ""
    # Without a length the body can be read only where the server says that it ends it (chunked transfer coding).
    ended = bool(environ.get("wsgi.input_terminated")) and "HTTP_TRANSFER_ENCODING" in environ
    if not ended and length in ("", "0"):
        return ""
    if environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != FORM:
        raise BadBody(f"The body must be {FORM}")
    expected = _length(length) if length else None
    body = _read_in_time(environ["wsgi.input"], LIMIT + 1 if expected is None else expected)
    if len(body) > LIMIT:
        raise BadBody(f"The body is longer than {LIMIT} bytes")
    if expected is not None and len(body) < expected:
        raise BadBody("The body is shorter than its Content-Length")
    return body.decode("latin-1")


def _length(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise BadBody("The Content-Length is not a number")
    if int(text) > LIMIT:
        raise BadBody(f"The body is longer than {LIMIT} bytes")
    return int(text)


def _read_in_time(stream: Any, size: int) -> bytes:
    if not _waiting.acquire(timeout=PATIENCE_SECONDS / 2):
        raise BadBody("Too many bodies are on their way; try again, or use GET")
    try:
        helpers = _helpers
        if not helpers.acquire(blocking=False):
            raise BadBody("Too many bodies are on their way; try again, or use GET")
        read: list[bytes] = []
        helper = threading.Thread(target=_read, args=(stream, size, read, helpers), name="body", daemon=True)
        helper.start()
        helper.join(PATIENCE_SECONDS)
        if helper.is_alive():
            raise BadBody(f"The body did not arrive within {PATIENCE_SECONDS:g} s")
    finally:
        _waiting.release()
    if not read:
        raise BadBody("The body could not be read")
    return read[0]


def _read(stream: Any, size: int, read: list[bytes], helpers: threading.BoundedSemaphore) -> None:
    try:
        read.append(stream.read(size))
    except (OSError, ValueError, EOFError):
        pass  # the client has gone, or sends what its server cannot understand
    finally:
        helpers.release()
