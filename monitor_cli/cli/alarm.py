"""A time that a block of a command may take at most, whatever it waits for."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class TimedOut(BaseException):
    """It took too long; no Exception, so that nothing on the way takes it for its own."""


@contextmanager
def at_most(seconds: float, again: float = 0.0) -> Iterator[None]:
    """Raise TimedOut in the block once it has taken so long; with `again`, every so many seconds from then on, where a
    library may take the first one for an error of its own. In the main thread alone."""

    def stop(*_: object) -> None:
        raise TimedOut

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, again)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
