"""For the worker processes of a fault run (Python imports this by itself from PYTHONPATH): the network guard, and a
source address of its own for what each process dials (its pid, see workers.address_of), by which the customers know who
sent a request."""

import os
import runpy
import socket
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parent.parent.parent / "support" / "site" / "sitecustomize.py"))

_IP_BIND_ADDRESS_NO_PORT = 24  # the port is chosen at connect, so that any number of sockets fits


class _Socket(socket.socket):
    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        super().__init__(family, type, proto, fileno)
        if fileno is None and self.family == socket.AF_INET and self.type == socket.SOCK_STREAM:
            pid = os.getpid()  # asked each time: a worker forks
            self.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            self.bind((f"127.{64 + (pid >> 16)}.{pid >> 8 & 255}.{pid & 255}", 0))


socket.socket = _Socket  # type: ignore[misc]
