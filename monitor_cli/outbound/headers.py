"""Judging the headers that customers add to their requests."""

from __future__ import annotations

import re
from collections.abc import Iterable

from monitor_cli.errors import UsageError
from monitor_cli.sealing import is_sealed

_MOST_HEADERS = 32
_MOST_BYTES = 8192
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.6.2: token
_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
# What frames the message, names its receiver, or is ours: a customer's word for it would break or forge the request.
_OURS = {
    *("host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade"),
    *("http2-settings", "expect", "accept-encoding", "user-agent"),
}
_OUR_PREFIXES = ("webhook-", "proxy-")


class RefusedTemplate(UsageError):
    """A callback's payload or headers cannot be meant, or would break the request. Exit code 2."""


def check_header_line(line: str) -> tuple[str, str]:
    """The name and value of a header given as 'Name: value'. Raises RefusedTemplate."""
    name, colon, value = line.partition(":")
    if not colon:
        raise RefusedTemplate("a header has no colon", "write --header 'Name: value'")
    header = (name, value.strip(" \t"))
    _check_header(*header)
    return header


def check_headers(headers: Iterable[tuple[str, str]]) -> None:
    """Judge a callback's headers. Raises RefusedTemplate, which names the header and never its value."""
    headers = tuple(headers)
    for name, value in headers:
        _check_header(name, value)
    if len(headers) > _MOST_HEADERS:
        raise RefusedTemplate(f"there are {len(headers)} headers, more than {_MOST_HEADERS}")
    if sum(len(name) + len(value) + 4 for name, value in headers) > _MOST_BYTES:
        raise RefusedTemplate(f"the headers together have more than {_MOST_BYTES} bytes")
    names = [name.lower() for name, _ in headers]
    for name, _ in headers:
        if names.count(name.lower()) > 1:
            raise RefusedTemplate(f"the header {name} is given twice")


def _check_header(name: str, value: str) -> None:
    if not _NAME.fullmatch(name):
        # Not repeated: without its colon, or with another one before it, this is a part of the value.
        raise RefusedTemplate("a header's name has a character that no name can have", "write --header 'Name: value'")
    # A receiver behind CGI cannot tell webhook_id from webhook-id.
    plain = name.lower().replace("_", "-")
    if plain in _OURS or plain.startswith(_OUR_PREFIXES):
        raise RefusedTemplate(f"the header {name} is set by monitor-cli and cannot be replaced")
    if not _VALUE.fullmatch(value):
        raise RefusedTemplate(
            f"the value of the header {name} has a line end, a control character or one outside Latin-1"
        )
    if not value or value != value.strip(" \t"):
        raise RefusedTemplate(f"the value of the header {name} is empty, or has blanks around it")
    if is_sealed(value):  # the tables tell plain from encrypted by it: it would be taken for one that we cannot read
        raise RefusedTemplate(f"the value of the header {name} begins as an encrypted one does")
