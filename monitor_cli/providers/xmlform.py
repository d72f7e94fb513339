"""Reading a document in XML as the data that JSON would give (xmltodict): this system's own API has both.

What XML can do beyond that is refused before anything is built from it: document types (entities that grow, or that
read files and other hosts) and depth.
"""

from __future__ import annotations

import re
from typing import Any
from xml.parsers import expat

import xmltodict

from monitor_cli.providers.shape import ShapeError

_DEPTH = 20  # the API's own documents have 6
_START = re.compile(rb"\s*(?:<\?xml\b[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:api[\s/>]|!DOCTYPE(?!\s+html))", re.DOTALL | re.I)


def is_data(start: bytes) -> bool:
    """Whether a document that begins like this is to be read here: <api>, or what hides behind a document type. Other
    XML and HTML are for people and for feed readers."""
    return _START.match(start) is not None


def to_data(body: bytes) -> Any:
    """The data in an XML document. Raises ShapeError."""
    try:
        document = body.decode("utf-8-sig")
        _Judge().read(document)
        return xmltodict.parse(document, disable_entities=True)
    except UnicodeDecodeError:
        raise ShapeError("it is XML, but not in UTF-8") from None
    except (expat.ExpatError, ValueError) as error:
        raise ShapeError(f"it is not XML, or not all of it ({error})") from None


class _Judge:
    """Looks through a document without keeping anything of it."""

    def __init__(self) -> None:
        self._depth = 0
        self._parser = expat.ParserCreate("utf-8")
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end

    def read(self, document: str) -> None:
        self._parser.Parse(document.encode(), True)

    def _doctype(self, *_: object) -> None:
        raise ShapeError("it is XML with a document type, which is refused (it could define entities)")

    def _start(self, *_: object) -> None:
        self._depth += 1
        if self._depth > _DEPTH:
            raise ShapeError(f"it is XML nested more than {_DEPTH} deep")

    def _end(self, *_: object) -> None:
        self._depth -= 1
