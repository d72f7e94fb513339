"""Whose request it is: the address that rate limits and log lines hold to account."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from monitor_cli.config import Network

_PEERS_KEPT = 4096
UNREADABLE = "unreadable"
"""Stands for what a trusted proxy named and is no address: all such clients count as one."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Clients:
    """Finds the client of a request. Only `trusted` proxies are believed about whom they speak for, and whoever may
    open a unix socket."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)
        self._peer = lru_cache(_PEERS_KEPT)(self._judge)

    def of(self, environ: dict[str, Any]) -> str | None:
        """The client's address; None where there is nobody to hold to account: a trusted proxy by itself, or a local
        socket."""
        peer = environ.get("REMOTE_ADDR") or ""
        address, trusted = self._peer(peer) if peer else (None, True)
        if not trusted:
            return address
        return self._spoken_for(environ.get("HTTP_X_FORWARDED_FOR"))

    def _spoken_for(self, chain: str | None) -> str | None:
        """The last address that no trusted proxy has: what stands before it, its sender may have made up."""
        for hop in reversed((chain or "").split(",")):
            if hop := hop.strip():
                address, trusted = self._peer(hop)
                if not trusted:
                    return address
        return None

    def _judge(self, text: str) -> tuple[str, bool]:
        address = _read(text)
        if address is None:
            return UNREADABLE, False
        return str(address), any(address in network for network in self._trusted)


def account_of(address: str) -> str:
    """What an address is counted as: itself, or its IPv6 /64, of which a single customer has 2^64 addresses."""
    read = _read(address)
    if isinstance(read, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Address(int(read) >> 64 << 64))
    return address


def _read(text: str) -> Address | None:
    """An address as servers and proxies write them: also [::1]:80, 192.0.2.1:80 and ::ffff:192.0.2.1."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
