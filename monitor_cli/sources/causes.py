"""Why reading a source failed: the root of an exception of requests, in a few words for people."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator

import requests


class EndedEarly(ValueError):
    """The answer ended before it was whole."""


class BrokenGzip(ValueError):
    """The answer is not the gzip that it says."""


def cause_of(error: BaseException) -> str:
    """The root of an exception of requests in a few words, without the URL that its own words repeat."""
    chain = list(_chain(error))
    for found in chain:
        if isinstance(found, ssl.SSLCertVerificationError):
            return f"its certificate is refused: {found.verify_message}"
        if isinstance(found, ssl.SSLError):
            return f"TLS failed: {found.reason or 'the connection broke'}"
        if isinstance(found, socket.gaierror):
            return "its name does not resolve"
        if isinstance(found, BrokenGzip):
            return "the answer is not the gzip that it says"
        if isinstance(found, EndedEarly | http.client.IncompleteRead):
            return "the answer ended early"
        if isinstance(found, http.client.RemoteDisconnected):
            return "the connection was closed without an answer"
    for found in chain:
        if isinstance(found, OSError) and found.strerror and found.errno:
            return f"cannot be reached: {found.strerror}"
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return "is not a URL that can be fetched"
    return f"gave no proper HTTP answer ({type(chain[-1]).__name__})"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it was made of, outermost first."""
    todo, seen = [error], set()
    while todo:
        found = todo.pop(0)
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        inner = [found.__cause__, found.__context__, getattr(found, "reason", None), *found.args]
        todo += [one for one in inner if isinstance(one, BaseException)]
