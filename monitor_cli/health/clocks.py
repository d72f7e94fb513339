"""How far clocks are apart: this host's from the database's, and the database's nodes' from each other."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

from monitor_cli.db import Connection, Database
from monitor_cli.dialect import now_ms
from monitor_cli.errors import MonitorError
from monitor_cli.store import backlog

_LOOKS = 3  # the quickest answer tells best

Wall = Callable[[], float]


class Node(NamedTuple):
    """A further server of the database: by how many seconds its clock is ahead of the one that we use (None: it could
    not be asked, and `error` says why). `named`: a person asked for it."""

    address: str
    ahead: float | None
    error: str | None
    named: bool


class Clocks(NamedTuple):
    """By how many seconds the database's clock is ahead of this host's (None: it is this host's), and its nodes."""

    ahead: float | None
    nodes: list[Node]


def read_address(text: str) -> str:
    """A server's address as a person gives it: HOST or HOST:PORT, an IPv6 address in brackets. Raises ValueError."""
    host, port = _split(text)
    if not host or port == 0 or not re.fullmatch(r"[^\s/?#@\\]+", text):
        raise ValueError(f"{text!r} is no server's address, as db2.example.com, 10.0.0.2:3307 or [2001:db8::2]:3306")
    return text


def compare(database: Database, addresses: Iterable[str] = (), wall: Wall = time.time) -> Clocks:
    """Ask the database and its nodes: those at `addresses` (host or host:port), and of a Galera cluster those that it
    names, with the user and password of our own. Raises DatabaseAway where the database itself does not answer."""
    if not database.is_mysql:
        return Clocks(None, [Node(one, None, "an SQLite database has no servers", True) for one in addresses])
    with database.read() as conn:
        ahead = _ahead(conn, wall)
        own = backlog.server_identity(conn)
        listed = backlog.cluster_addresses(conn)
    asked = dict.fromkeys(addresses, True)
    for address in listed:
        asked.setdefault(address, False)
    nodes = [_node(database, address, named, own, ahead, wall) for address, named in asked.items()]
    return Clocks(ahead, [node for node in nodes if node is not None])


def _ahead(conn: Connection, wall: Wall) -> float:
    looks = []
    for _ in range(_LOOKS):
        before = wall()
        theirs = now_ms(conn) / 1000
        after = wall()
        looks.append((after - before, theirs - (before + after) / 2))
    return min(looks)[1]


def _node(database: Database, address: str, named: bool, own: str, ahead: float, wall: Wall) -> Node | None:
    """None: it is the server that we have asked already."""
    host, port = _split(address)
    if not host or host == "auto":  # what Galera says of a node that does not know its own address
        return Node(address, None, "it names no host", named)
    url = database.url.set(host=host, port=port or 3306).difference_update_query(["unix_socket"])
    node = Database(url, serving=True)  # whose time-outs are short
    try:
        found = node.query(lambda conn: (backlog.server_identity(conn), _ahead(conn, wall)))
    except MonitorError as error:
        return Node(address, None, error.message, named)
    finally:
        node.close()
    return None if found[0] == own else Node(address, found[1] - ahead, None, named)


def _split(address: str) -> tuple[str | None, int | None]:
    """Host and port; no host where it is no address."""
    try:
        parts = urlsplit(f"//{address}")
        return parts.hostname, parts.port
    except ValueError:
        return None, None
