"""How much has come in on a socket, as the kernel counts it."""

from __future__ import annotations

import socket
import struct

_RECEIVED = struct.Struct("@Q")
_OFFSET = 128  # of tcpi_bytes_received in Linux's struct tcp_info


def received(fd: int) -> int:
    """The bytes that its connection has brought; 0 where it is closed, or the kernel does not count them."""
    try:
        borrowed = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, fd)
    except OSError:
        return 0
    try:
        info = borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _OFFSET + _RECEIVED.size)
        return int(_RECEIVED.unpack_from(info, _OFFSET)[0])
    except (OSError, struct.error):
        return 0
    finally:
        borrowed.detach()
