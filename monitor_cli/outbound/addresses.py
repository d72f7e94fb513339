"""Judging IP addresses: which ones a customer's URL may lead to.

The list is our own, network by network: Python's `is_private` says False for shared (100.64.0.0/10), multicast, NAT64,
6to4, IPv4-compatible, site-local and SRv6 addresses. Sources: IANA's special-purpose registries (RFC 6890), its list of
IPv6 address space (only 2000::/3 is given out as global unicast), and 168.63.129.16, which is Azure's host agent seen
from every virtual machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from monitor_cli.config import Network

Address = IPv4Address | IPv6Address

_TEREDO = IPv6Network("2001::/32")
_ISATAP = (0x00005EFE, 0x02005EFE)  # RFC 5214 section 6.1: before the IPv4 address, in the last 64 bits of any prefix
_MAPPED, _NAT64 = IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96")  # judged by what they wrap
_INTERNET = IPv6Network("2000::/3")

_REFUSED_V4 = tuple(
    (IPv4Network(network), words)
    for network, words in [
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "a private network"),
        ("100.64.0.0/10", "shared address space (carrier-grade NAT)"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "a cloud's host agent"),
        ("169.254.0.0/16", "link-local (cloud metadata)"),
        ("172.16.0.0/12", "a private network"),
        ("192.0.0.0/24", "IETF protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "a private network"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("240.0.0.0/4", "reserved"),
    ]
)

_REFUSED_V6 = (
    *(
        (IPv6Network(network), words)
        for network, words in [
            ("::/128", "unspecified"),
            ("::1/128", "loopback"),
            ("::/96", "IPv4-compatible"),
            ("::ffff:0:0:0/96", "IPv4-translated"),
            ("64:ff9b:1::/48", "local NAT64"),
            ("100::/64", "discard-only"),
            ("100:0:0:1::/64", "a dummy prefix"),
            ("2001:2::/48", "benchmarking"),
            ("2001:10::/28", "ORCHID"),
            ("2001:20::/28", "ORCHID"),
            ("2001:db8::/32", "documentation"),
            ("3fff::/20", "documentation"),
            ("5f00::/16", "SRv6 segment identifiers"),
            ("fc00::/7", "unique local"),
            ("fe80::/10", "link-local"),
            ("fec0::/10", "site-local"),
            ("ff00::/8", "multicast"),
        ]
    ),
    # The rest of 2001::/23 but for Teredo, whose addresses are judged by what they wrap.
    *((network, "IETF protocol assignments") for network in IPv6Network("2001::/23").address_exclude(_TEREDO)),
)

# IPv6 addresses that end up at an IPv4 one: the network, its name, and by how many bits the IPv4 address is shifted.
_WRAPPED = tuple(
    (IPv6Network(network), name, shift)
    for network, name, shift in [
        (_MAPPED, "IPv4-mapped", 0),
        ("::ffff:0:0:0/96", "IPv4-translated", 0),
        ("::/96", "IPv4-compatible", 0),
        (_NAT64, "NAT64", 0),
        ("64:ff9b:1::/48", "local NAT64", 0),
        ("2002::/16", "6to4", 80),
    ]
)

WHOSE = "which networks may be reached is the operator's to say, with allow_networks and deny_networks"
"""The hint beside a refusal."""


@dataclass(frozen=True, eq=False)  # one for a run: hashing its networks took longer than judging an address again
class Policy:
    """What the operator adds to the built-in list: networks that may be reached all the same, and further refused
    ones. `deny` beats `allow`."""

    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()


@lru_cache(maxsize=4096)
def refusal(address: str | Address, policy: Policy) -> str | None:
    """Why a customer's request may not go to this address; None where it may.

    A wrapped form (mapped, NAT64, 6to4, Teredo, ISATAP) is judged by the IPv4 address in it. `policy.allow` reaches a
    wrapped form only where it holds both: the form itself and the address in it."""
    if isinstance(address, str):
        try:
            parsed: Address = ip_address(address)
        except ValueError:
            return f"{address!r} is no IP address"
    else:
        parsed = address
    if isinstance(parsed, IPv6Address) and parsed.scope_id is not None:
        return f"{parsed} has a zone id"
    return _judge(parsed, policy)


def _judge(address: Address, policy: Policy) -> str | None:
    inner = _unwrap(address)
    for name, form in (("", address), *inner):
        if network := _holding(form, policy.deny):
            return _words(address, name, form, f"in deny_networks ({network})")
    allowed = _holding(address, policy.allow) is not None
    if not allowed and (listed := _listed(address)):
        return _words(address, "", address, listed)
    for name, form in inner:
        listed = _listed(form)
        if listed and not (allowed and _holding(form, policy.allow)):
            return _words(address, name, form, listed)
    return None


def _unwrap(address: Address) -> list[tuple[str, IPv4Address]]:
    """The IPv4 addresses that an IPv6 one leads to, each after the name of the form; none for a plain address."""
    bits = int(address)
    if isinstance(address, IPv4Address) or bits < 2:  # :: and ::1 wrap nothing
        return []
    found = [(name, IPv4Address(bits >> shift & 0xFFFFFFFF)) for network, name, shift in _WRAPPED if address in network]
    if address in _TEREDO:
        # RFC 4380: the server's address, and the client's with every bit inverted. Packets go to both.
        found += [("Teredo", IPv4Address(bits >> 64 & 0xFFFFFFFF)), ("Teredo", IPv4Address(~bits & 0xFFFFFFFF))]
    if bits >> 32 & 0xFFFFFFFF in _ISATAP:
        found.append(("ISATAP", IPv4Address(bits & 0xFFFFFFFF)))
    return found


def _holding(address: Address, networks: tuple[Network, ...]) -> Network | None:
    return next((network for network in networks if address in network), None)


def _listed(address: Address) -> str | None:
    refused = _REFUSED_V4 if isinstance(address, IPv4Address) else _REFUSED_V6
    for network, words in refused:
        if address in network:
            return f"{words} ({network})"
    known = isinstance(address, IPv4Address) or _holding(address, (_INTERNET, _MAPPED, _NAT64))
    return None if known else f"not given out on the Internet (only {_INTERNET} is)"


def _words(address: Address, name: str, form: Address, why: str) -> str:
    if form == address:
        return f"{address} is {why}"
    return f"{address} is {name} for {form}, which is {why}"
