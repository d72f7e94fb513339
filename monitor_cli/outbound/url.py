"""Judging URLs that customers chose: what is refused, and the parts that a request is rebuilt from.

Our own parser, stricter than any other: where two parsers could read a URL differently, it is refused. The transport
never sees the customer's text; it gets a URL rebuilt from Target (request.py). "Ends in a number" is the WHATWG URL
standard's rule for hosts; names are IDNA 2008 (RFC 5891), without the mapping that makes full-width digits into digits.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property, lru_cache
from ipaddress import IPv4Address, IPv6Address

from monitor_cli.errors import UsageError
from monitor_cli.outbound.addresses import WHOSE, Policy, refusal

URL_LIMIT = 8000
"""The longest URL, in characters: of a template as configured, and of a request as sent (SPEC 7)."""

_PORTS = {"http": 80, "https": 443}
_START = re.compile(r"(https?)://([^/?]*)", re.ASCII | re.IGNORECASE)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_HOST_PORT = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::(.*))?", re.DOTALL)
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_BLANK = re.compile(r"[\x00-\x20\x7f]")
_BAD_ASCII = re.compile(r"[\x00-\x20\x7f\\#]")
# Controls, formats (zero width), surrogates, blanks, line ends.
_BAD_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"})


class RefusedURL(UsageError):
    """A callback's URL, or an address that its host resolves to, is not one that we call. Exit code 2."""


@dataclass(frozen=True)
class Target:
    """Whom a request goes to: what is never taken from substituted content.

    `host` is ASCII and lower case (an A-label for an international name, IPv6 without brackets); `address` is the host
    where it is an IP address, None for a name."""

    scheme: str
    host: str
    port: int
    address: str | None

    @cached_property
    def bracketed(self) -> str:
        """The host as it stands in a URL."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @cached_property
    def destination(self) -> str:
        """host:port, which tells who shares a server; IPv6 in brackets."""
        return f"{self.bracketed}:{self.port}"

    @cached_property
    def origin(self) -> str:
        """scheme://host, with the port where it is not the scheme's own: the start of the rebuilt URL."""
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.bracketed}{port}"


def check_url(url: str, policy: Policy) -> Target:
    """Judge a URL with its placeholders. Raises RefusedURL. A name's addresses are judged when it is resolved
    (resolver.judged_addresses)."""
    target, _ = split_url(url)
    judge_target(target, policy)
    return target


def judge_target(target: Target, policy: Policy) -> None:
    """Raise RefusedURL where the target is an IP address that is refused."""
    if target.address and (reason := refusal(target.address, policy)):
        raise RefusedURL(f"the URL is refused: {reason}", WHOSE)


def split_url(url: str) -> tuple[Target, str]:
    """The target of a URL, and its path and query as written ('' where it has none). Raises RefusedURL for
    everything but the address."""
    _check_characters(url)
    start = _START.match(url)
    if not start:
        raise _refused(_no_start(url))
    rest = url[start.end() :]
    try:
        return _target_of(start[1], start[2]), rest
    except RefusedURL:
        if "@" in rest:  # a password with a slash: its start would be repeated as host and port
            raise _refused("its host and port cannot be read", "user names and passwords belong in a header") from None
        raise


def _refused(why: str, hint: str | None = None) -> RefusedURL:
    return RefusedURL(f"the URL is refused: {why}", hint)


def _no_start(url: str) -> str:
    scheme = _SCHEME.match(url)
    if not scheme:
        return "it does not begin with http:// or https://"
    name = scheme[1].lower()
    return f"there is no // after {name}:" if name in _PORTS else f"its scheme is {name}, not http or https"


def _check_characters(url: str) -> None:
    if not url:
        raise _refused("it is empty")
    if len(url) > URL_LIMIT:
        raise _refused(f"it has {len(url)} characters, more than {URL_LIMIT}")
    if _BAD_ASCII.search(url) or not url.isascii():
        _tell_bad_characters(url)


def _tell_bad_characters(url: str) -> None:
    if _BLANK.search(url) or any(unicodedata.category(c) in _BAD_CATEGORIES for c in url):
        raise _refused("it has a blank or a control character", "write a blank as %20")
    if "\\" in url:
        raise _refused("it has a backslash", "write / between parts, %5C for a backslash that is meant")
    if "#" in url:
        raise _refused("it has a fragment, which is never sent", "drop what follows the #, or write %23")


def _split_authority(authority: str) -> tuple[str, str | None]:
    if "@" in authority:
        raise _refused("it has a user name or password", "send them in a header: Authorization")
    if "{" in authority or "}" in authority:
        raise _refused("a placeholder can stand in its path and query only, not in the host or port")
    if "%" in authority:
        raise _refused("its host has a zone id" if authority.startswith("[") else "its host is percent-encoded")
    match = _HOST_PORT.fullmatch(authority)
    if not match:
        raise _refused("its host and port cannot be read", "write host, host:port or [IPv6]:port")
    return match[1], match[2]


@lru_cache(maxsize=4096)
def _target_of(scheme: str, authority: str) -> Target:
    return _target(scheme.lower(), *_split_authority(authority))


def _target(scheme: str, host: str, port_text: str | None) -> Target:
    port = _PORTS[scheme]
    if port_text is not None:
        port = int(port_text) if _PORT.fullmatch(port_text) else 0
        if not 1 <= port <= 65535:
            raise _refused("its port is not a number from 1 to 65535")
    if host.startswith("["):
        host = _ipv6(host[1:-1])
        return Target(scheme, host, port, host)
    host = _ascii_name(host)
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        return Target(scheme, _ipv4(host), port, host)
    if host == "localhost" or host.endswith(".localhost"):
        raise _refused(f"its host is {host}")
    return Target(scheme, host, port, None)


def _ipv6(text: str) -> str:
    try:
        return IPv6Address(text).compressed
    except ValueError:
        raise _refused(f"[{text}] is no IPv6 address") from None


def _ipv4(host: str) -> str:
    try:
        return str(IPv4Address(host))
    except ValueError:
        raise _refused(
            f"its host {host} ends in a number and is no plain IPv4 address",
            "write four decimal numbers without leading zeros",
        ) from None


def _ascii_name(text: str) -> str:
    """The name in ASCII and lower case, without a final dot."""
    host = text.lower() if text.isascii() else "".join(c.lower() if c.isascii() else c for c in text)
    host = host.removesuffix(".")
    if not host:
        raise _refused("it has no host")
    labels = host.split(".")
    if not host.isascii() or any(label.startswith("xn--") for label in labels):
        host = ".".join(labels := [_a_label(label) for label in labels])
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise _refused(f"its host {host!r} has the part {label!r}, which no name can have")
    if len(host) > 253:
        raise _refused("its host has more than 253 characters")
    return host


def _a_label(label: str) -> str:
    if label.isascii() and not label.startswith("xn--"):
        return label
    import idna  # its tables take a while to load, and few names need them

    try:
        return idna.alabel(label).decode("ascii")
    except UnicodeError as error:  # IDNAError is one
        raise _refused(
            f"its host has the part {label!r}, which is no international name (IDNA 2008): {error}",
            "write it in lower case and in plain characters, or as xn--",
        ) from None
