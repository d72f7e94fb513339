"""How much comes in on a socket, as the kernel counts it: libcurl swallows a part of an answer (the extensions of
chunks, RFC 9112 section 7.1.1) without a word, and a server could send that without end."""

from __future__ import annotations

import os
import socket
import struct

EVERY = 8  # reads between two looks: nobody who answers in short pays for them
_RECEIVED = struct.Struct("@Q")
_OFFSET = 128  # of tcpi_bytes_received in Linux's struct tcp_info


class Meter:
    """Tells which sockets have brought more than `limit` bytes since `begin`, give or take a few reads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._read: dict[int, tuple[int, int | None]] = {}  # reads, and the kernel's count at the first look

    def begin(self, fd: int) -> None:
        """Another request goes over this socket."""
        self._read[fd] = (0, None)

    def end(self, fd: int) -> None:
        self._read.pop(fd, None)

    def over(self, fd: int) -> bool:
        """Note a read; whether that is more than the limit."""
        reads, base = self._read.get(fd, (0, None))
        reads += 1
        if reads % EVERY:
            self._read[fd] = (reads, base)
            return False
        received = _received(fd)
        self._read[fd] = (reads, received if base is None else base)
        return base is not None and received - base > self._limit


def _received(fd: int) -> int:
    try:
        with socket.socket(fileno=os.dup(fd)) as connection:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _OFFSET + _RECEIVED.size)
        return int(_RECEIVED.unpack_from(info, _OFFSET)[0])
    except (OSError, struct.error):  # closed meanwhile, or a kernel that does not count it
        return 0
