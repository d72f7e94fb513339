"""From a document's bytes to its data."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

import requests

from monitor_cli.errors import SourceError
from monitor_cli.providers import xmlform
from monitor_cli.providers.shape import NotThere, ShapeError
from monitor_cli.sources.causes import BrokenGzip, EndedEarly
from monitor_cli.sources.lean import LARGE, lean

_CHUNK = 64 * 1024


def decode(body: bytes, where: str) -> Any:
    """The data in a document: JSON, or our own API's XML. Raises SourceError (NotThere for a page of HTML)."""
    start = body[:200].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start:
        raise SourceError(f"{where}: the document is empty")
    if start.startswith(b"<"):
        if xmlform.is_data(start):
            try:
                return xmlform.to_data(body)
            except ShapeError as error:
                raise SourceError(f"{where}: {error.message}") from None
        raise NotThere(f"{where}: the answer is {'XML' if start.startswith(b'<?xml') else 'HTML'}, not JSON")
    if len(body) >= LARGE and (document := lean(body)) is not None:
        return document
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")
        del body  # a large document need not be in memory twice while it is parsed
        return json.loads(text)
    except RecursionError:
        raise SourceError(f"{where}: the JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise SourceError(f"{where}: the answer is not JSON, or not all of it ({error})") from None
    except UnicodeDecodeError as error:  # not the encoding that its first bytes promise
        raise SourceError(f"{where}: the answer is not JSON that can be read ({_first_line(error)})") from None
    except ValueError:  # Python's own words tell how to change its limit
        raise SourceError(f"{where}: the answer is not JSON that can be read (a number is too long)") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def pieces_of(response: requests.Response) -> Iterator[bytes]:
    """The body as it comes over the wire. Raises ValueError where the promised length does not come."""
    promised = response.headers.get("content-length", "")
    chunked = "chunked" in response.headers.get("transfer-encoding", "").lower()
    came = 0
    for piece in response.raw.stream(_CHUNK, decode_content=False):
        came += len(piece)
        yield piece
    if promised.isdecimal() and not chunked and came < int(promised):
        raise EndedEarly


def inflated(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The gzip stream's content in pieces of bounded size, however small what they are made of."""
    inflater = zlib.decompressobj(31)
    for piece in pieces:
        rest = piece
        while rest:
            try:
                out = inflater.decompress(rest, _CHUNK)
            except zlib.error:
                raise BrokenGzip from None
            if out:
                yield out
            rest = inflater.unconsumed_tail
            if inflater.eof:
                rest = inflater.unused_data
                if rest:  # RFC 1952, 2.2: a file is a series of members
                    inflater = zlib.decompressobj(31)
    if not inflater.eof:
        raise EndedEarly
