"""The sockets that libcurl waits for.

For each request libcurl asks for its socket anew, and drops it afterwards, also where the connection is kept for the
next. epoll keeps it all the same: that saves two system calls a request. What then happens on a socket that nobody
waits for (its server closed it) takes it out.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator
from typing import Any

import pycurl

from monitor_cli.outbound.meter import received

_MASKS = {
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
}


class Sockets:
    """`watch` and `opened` are for libcurl to call; `ready` waits, until `wake` at the longest.

    More than `limit` bytes for one request, give or take a read, are too much: libcurl swallows parts of an answer (the
    extensions of chunks, RFC 9112 section 7.1.1) without a word, and a server could send those without end."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._awaited: dict[int, int | None] = {}  # for each request under way, what came in before the first look
        self._kept: dict[int, int] = {}  # what epoll was told to look for on each
        self._epoll = select.epoll()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._epoll.register(self._reader.fileno(), select.EPOLLIN)

    def watch(self, event: int, fd: int, _multi: Any, _data: Any) -> None:
        """CURLMOPT_SOCKETFUNCTION: what to wait for on a socket."""
        if event == pycurl.POLL_REMOVE:
            self._awaited.pop(fd, None)
            return
        self._awaited.setdefault(fd)
        known = self._kept.get(fd)
        if known == event:
            return
        self._kept[fd] = event
        if known is None:
            self._epoll.register(fd, _MASKS[event])
        else:
            self._epoll.modify(fd, _MASKS[event])

    def opened(self, fd: int, _purpose: int) -> int:
        """CURLOPT_SOCKOPTFUNCTION: a new socket. What had its number before was closed, and epoll has forgotten it."""
        self._kept.pop(fd, None)
        return pycurl.SOCKOPT_OK

    def ready(self, seconds: float) -> Iterator[tuple[int, int]]:
        """The sockets on which something happens within `seconds`, each with what, in libcurl's words."""
        for fd, events in self._epoll.poll(seconds, len(self._kept) + 1):
            if fd in self._awaited:
                yield fd, _ACTIONS[events]
            elif fd == self._reader.fileno():
                self._drain()
            else:
                self._kept.pop(fd, None)
                with contextlib.suppress(OSError):  # libcurl has closed it meanwhile
                    self._epoll.unregister(fd)

    def flooded(self, fd: int) -> bool:
        """Whether a request has brought too much; to be asked after each read. What ends with its first one, as nearly
        all do, costs no look."""
        if fd not in self._awaited:
            return False
        before, now = self._awaited[fd], received(fd)
        if before is None:
            self._awaited[fd] = now
        return before is not None and now - before > self._limit

    def wake(self) -> None:
        """Make a `ready` under way, or the next one, return at once. May be called from threads and signal handlers."""
        with contextlib.suppress(BlockingIOError):  # full: it is awake already
            self._writer.send(b"\0")

    def close(self) -> None:
        self._epoll.close()
        self._reader.close()
        self._writer.close()

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass


def _action(events: int) -> int:
    return (
        (pycurl.CSELECT_IN if events & (select.EPOLLIN | select.EPOLLHUP) else 0)
        | (pycurl.CSELECT_OUT if events & select.EPOLLOUT else 0)
        | (pycurl.CSELECT_ERR if events & select.EPOLLERR else 0)
    )


_ALL = select.EPOLLIN | select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP
_ACTIONS = [_action(events) for events in range(_ALL + 1)]
