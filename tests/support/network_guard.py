"""No test talks to the world: a connection, a datagram or a look-up that would leave this machine is refused before a
packet leaves, recorded, and fails the test even where the code under test swallowed the refusal.

How: an interpreter audit hook sees every connect, sendto and look-up that Python makes (of any library that uses
Python's sockets), and pycurl's handles get an opensocket callback in front of their own. `site/sitecustomize.py` does
the same in the Python processes that tests start. Limits: sockets of other C or Rust code (granian, mariadbd) and
look-ups that libcurl would make by itself are not seen; monitor-cli gives libcurl judged addresses, not names.

Names under .test, .example and .invalid (RFC 2606) are answered here: those in `hosts` with their addresses, the
others as not existing. Any other name is refused.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import ipaddress
import os
import socket
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

RESERVED = (".test", ".example", ".invalid", ".example.com", ".example.org", ".example.net")

violations: list[str] = []  # what was tried since the last `taken()`
allowed_hosts: set[str] = set()  # a database server that the environment names for tests
hosts: dict[str, list[str]] = {}  # name → addresses

_file = os.environ.get("NETWORK_GUARD_FILE")  # where a child process reports to
_installed = False
_system_getaddrinfo = socket.getaddrinfo


class NetworkBlocked(AssertionError):
    """A test tried to reach something other than this machine."""


def install() -> None:
    """Guard this process from now on; for good, an audit hook cannot be taken out."""
    global _installed
    if _installed:
        return
    _installed = True
    for pair in filter(None, os.environ.get("NETWORK_GUARD_HOSTS", "").split(";")):
        name, _, addresses = pair.partition("=")
        hosts[name] = addresses.split(",")
    allowed_hosts.update(filter(None, os.environ.get("NETWORK_GUARD_ALLOW", "").split(",")))
    sys.addaudithook(_audit)
    socket.getaddrinfo = _getaddrinfo
    sys.meta_path.insert(0, _PycurlFinder())


def child_environment(report: str) -> dict[str, str]:
    """What a child process needs in its environment to be guarded too; it reports to the file `report`."""
    return {
        "PYTHONPATH": os.path.join(os.path.dirname(os.path.abspath(__file__)), "site"),
        "NETWORK_GUARD_FILE": report,
        "NETWORK_GUARD_HOSTS": ";".join(f"{name}={','.join(found)}" for name, found in hosts.items()),
        "NETWORK_GUARD_ALLOW": ",".join(sorted(allowed_hosts)),
    }


def taken() -> list[str]:
    """The violations since the last call."""
    found = violations[:]
    violations.clear()
    return found


def blocked(what: str) -> NetworkBlocked:
    """Record a violation and give the exception for it."""
    violations.append(what)
    if _file:
        with open(_file, "a", encoding="utf-8") as report:
            report.write(what + "\n")
    return NetworkBlocked(f"a test must not leave this machine: {what}")


# --- judging ----------------------------------------------------------------------------------------------------------


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0].strip("[]"))
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))  # 127.1, 2130706433, 0x7f000001
    except (OSError, ValueError):
        return None


def is_local(host: str) -> bool:
    """Whether talking to this address or name stays on this machine."""
    if host in ("", "localhost") or host in allowed_hosts:
        return True
    address = _literal(host)
    if address is None:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return address.is_loopback or address.is_unspecified


def _name(host: Any) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes | bytearray) else str(host)


def _judge_address(sock: Any, address: Any, verb: str) -> None:
    if address is None or getattr(sock, "family", None) not in (socket.AF_INET, socket.AF_INET6):
        return
    if isinstance(address, tuple) and address and not is_local(_name(address[0])):
        raise blocked(f"{verb} {address[0]} port {address[1] if len(address) > 1 else '?'}")


def _judge_name(host: Any) -> None:
    if host is None:
        return
    name = _name(host).rstrip(".").lower()
    if is_local(name) or _literal(name) is not None or name == socket.gethostname().lower():
        return  # the last: http.server asks for its own name
    if name.endswith(RESERVED) or name in ("example.com", "example.org", "example.net"):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    raise blocked(f"look-up of {name}")


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if not event.startswith("socket."):
        return
    if event == "socket.connect":
        _judge_address(args[0], args[1], "connection to")
    elif event in ("socket.sendto", "socket.sendmsg"):
        _judge_address(args[0], args[1], "datagram to")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        _judge_name(args[0])
    elif event == "socket.gethostbyaddr":
        if _literal(_name(args[0])) is None:
            _judge_name(args[0])
        elif not is_local(_name(args[0])):
            raise blocked(f"look-up of {args[0]}")
    elif event == "socket.getnameinfo" and not is_local(_name(args[0][0])):
        raise blocked(f"look-up of {args[0][0]}")


def _getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
    known = hosts.get(_name(host).rstrip(".").lower()) if host is not None else None
    if known is None:
        return _system_getaddrinfo(host, port, *args, **kwargs)
    found: list[Any] = []
    for address in known:
        try:
            found += _system_getaddrinfo(address, port, *args, **kwargs)
        except socket.gaierror:  # the other family than the one asked for
            continue
    if not found:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return found


# --- pycurl -----------------------------------------------------------------------------------------------------------


def guard_pycurl(pycurl: Any) -> None:
    """Replace pycurl.Curl by one whose sockets are judged before they are opened."""

    class Curl(pycurl.Curl):  # type: ignore[misc]
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self._arm()

        def _arm(self) -> None:
            self._opensocket: Any = None
            super().setopt(pycurl.OPENSOCKETFUNCTION, self._open)

        def _open(self, purpose: int, address: Any) -> Any:
            where = address.addr
            if isinstance(where, tuple) and not is_local(_name(where[0])):
                blocked(f"connection of pycurl to {where[0]} port {where[1]}")
                return pycurl.SOCKET_BAD
            if self._opensocket is not None:
                return self._opensocket(purpose, address)
            return socket.socket(address.family, address.socktype, address.protocol)

        def setopt(self, option: int, value: Any = None) -> None:
            if option == pycurl.OPENSOCKETFUNCTION:
                self._opensocket = value
            else:
                super().setopt(option, value)

        def unsetopt(self, option: int) -> None:
            if option == pycurl.OPENSOCKETFUNCTION:
                self._opensocket = None
            else:
                super().unsetopt(option)

        def reset(self) -> None:
            super().reset()
            self._arm()

    pycurl.Curl = Curl


class _PycurlFinder(importlib.abc.MetaPathFinder):
    """Guards pycurl at the moment when it is first imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "pycurl":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            guard_pycurl(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
