"""What serve-api listens on: an address and port, or a unix socket. Each is taken so that nobody shares it unseen."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor_cli.errors import MonitorError

SOCKET_MODE = 0o660  # its owner and group: the proxy in front is in one of them


@dataclass(frozen=True)
class Place:
    """Where to listen, as granian is told it (`options`), as people are (`shown`), and as a socket is (`address`)."""

    options: dict[str, Any]
    shown: str
    family: socket.AddressFamily
    address: Any

    def takes_connections(self) -> bool:
        """Whether a worker listens by now."""
        with suppress(OSError), socket.socket(self.family, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            probe.connect(self.address)
            return True
        return False


def take_port(host: str, port: int, held: ExitStack) -> Place:
    """Resolve the address and hold it while the workers bind it too, each with a socket of its own (SO_REUSEPORT).
    Raises MonitorError."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, socket.SOCK_STREAM) as alone:
            # Without SO_REUSEPORT: another server of this user on the same port would share it without a word.
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(address)
            bound = alone.getsockname()
        shared = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind(bound)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that IDNA cannot have, as a..b
        reason = getattr(error, "strerror", None) or "it is no name of a host"
        raise MonitorError(
            f"cannot listen on {host} port {port}: {reason}", "choose another --host or --port"
        ) from None
    name, number = bound[0], bound[1]
    shown = f"http://{f'[{name}]' if ':' in name else name}:{number}/v1/"
    return Place({"address": name, "port": number}, shown, family, bound)


def take_socket(path: str, held: ExitStack) -> Place:
    """Make room for a unix socket: one that a dead server left is removed, a living server's, or anything that is no
    socket, is not. Raises MonitorError."""
    file = Path(path).absolute()
    try:
        _check(file)
        _lock(file, held)
        _remove_stale(file)
        _try(file)
    except OSError as error:
        raise MonitorError(
            f"cannot listen on the unix socket {file}: {error.strerror or error}", "choose another --unix-socket"
        ) from None
    held.callback(_remove, file)
    return Place({"uds": file, "uds_permissions": SOCKET_MODE}, f"unix:{file}", socket.AF_UNIX, str(file))


def _check(file: Path) -> None:
    if len(os.fsencode(file)) > 107:  # sun_path, unix(7)
        raise OSError(0, "its path has more than 107 bytes")
    if file.is_symlink() or (file.exists() and not stat.S_ISSOCK(file.stat().st_mode)):
        raise OSError(0, "there is something else, which is no socket")


def _lock(file: Path, held: ExitStack) -> None:
    """One server a socket, also while both start."""
    lock = os.open(f"{file}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    held.callback(os.close, lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OSError(0, "another server listens on it") from None
    held.callback(_remove, Path(f"{file}.lock"))


def _remove_stale(file: Path) -> None:
    if not file.exists():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(file))
        except ConnectionRefusedError:
            file.unlink()
            return
    raise OSError(0, "another server listens on it")


def _try(file: Path) -> None:
    """Bind it once, so that a directory that is missing or not ours is told in words."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.bind(str(file))
    file.unlink()


def _remove(file: Path) -> None:
    with suppress(FileNotFoundError):
        file.unlink()
