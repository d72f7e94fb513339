"""Reading the form of a POST: bounded in size, and in how many threads may wait for one.

A WSGI server reads a body when it is asked to, and gives the thread back only when the client has sent it or gone
away (tried: granian keeps it even where the application has stopped waiting). So clients that drip their forms may
hold some of the threads, never all: requests without a body are always answered. A proxy in front that buffers
requests (docs/serving.md) keeps such clients out altogether.
"""

from __future__ import annotations

import threading
from typing import Any

from monitor_cli.errors import MonitorError

LIMIT = 16 * 1024  # bytes of a form
FORM = "application/x-www-form-urlencoded"
READERS = 2  # threads that may wait for forms; serve.THREADS is more
_QUEUE_SECONDS = 0.05  # forms that have arrived are read in microseconds

_reading = threading.BoundedSemaphore(READERS)


class BadBody(MonitorError):
    """A body that is not a form of fair size."""


class Busy(MonitorError):
    """All threads that may wait for a form wait for one."""


def read_form(environ: dict[str, Any]) -> str:
    """The form as text, not yet decoded; '' where there is no body. Raises BadBody, Busy."""
    length = environ.get("CONTENT_LENGTH") or ""
    # Without a length the body can be read only where the server says that it ends it (chunked transfer coding).
    ended = bool(environ.get("wsgi.input_terminated")) and "HTTP_TRANSFER_ENCODING" in environ
    if not ended and length in ("", "0"):
        return ""
    if environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != FORM:
        raise BadBody(f"The body must be {FORM}")
    expected = _length(length) if length else None
    body = _read(environ["wsgi.input"], LIMIT + 1 if expected is None else expected)
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


def _read(stream: Any, size: int) -> bytes:
    if not _reading.acquire(timeout=_QUEUE_SECONDS):
        raise Busy("Too many forms are on their way; try again, or use GET")
    try:
        body: bytes = stream.read(size)
    except (OSError, ValueError, EOFError):  # the client has gone, or sends what its server cannot understand
        raise BadBody("The body could not be read") from None
    finally:
        _reading.release()
    return body
