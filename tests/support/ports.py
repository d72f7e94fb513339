"""A port for a server that has to be told its number, in a suite that runs in several processes."""

from __future__ import annotations

import random
import socket
from contextlib import suppress


def free_port() -> int:
    """A free port below the ephemeral range, so that no outgoing connection takes it before the server does; drawn by
    chance, so that no other process of the suite is given it either."""
    for _ in range(200):
        port = random.SystemRandom().randrange(15000, 32000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port between 15000 and 32000")
