"""Running the incident API on granian, a WSGI server written in Rust; docs/serving.md says why and how it was measured.

What matters to a customer's key: granian's own access log, which would show query strings, stays off.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes
from granian.http import HTTP1Settings
from granian.log import LogLevels

from monitor_cli import api
from monitor_cli.api.metrics import DIRECTORY
from monitor_cli.config import Settings
from monitor_cli.logs import configure_logging
from monitor_cli.serve.counting import take_directory
from monitor_cli.serve.gateway import Gateway
from monitor_cli.serve.listening import Place, take_port, take_socket

HEADER_SECONDS = 10  # for a request's head to arrive, and for a connection to stay idle
HEAD_BYTES = 64 * 1024
STOP_SECONDS = 30  # for requests in flight when asked to stop; a query ends within 10
_MAX_CONNECTIONS = 8192  # for each worker: granian counts idle and dripping ones too
_STOPS = {signal.SIGTERM, signal.SIGINT}
_LOOK_SECONDS = 0.02  # between looks whether a worker listens
_START_SECONDS = 1.0  # from loading the application until granian waits for signals, amply
_PR_SET_PDEATHSIG = 1  # prctl(2)
_SPARE_FILES = 64  # for the database, logs and libraries


def default_workers() -> int:
    """One process for each CPU that this one may use, at most eight."""
    return min(len(os.sched_getaffinity(0)), 8)


def run(
    settings: Settings,
    started: Callable[[str], None],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    unix_socket: str | None = None,
    workers: int = 1,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight. `started` is told the address (port 0 takes a free
    one) when connections are taken there. Raises MonitorError where it cannot be listened on."""
    with ExitStack() as held:
        place = take_socket(unix_socket, held) if unix_socket else take_port(host, port, held)
        counted = take_directory(held)
        api.sweep_tables()
        held.callback(api.open_table(settings).close)  # the last one to let go of it, so that it is removed
        server = Granian(
            "monitor_cli.api:application",
            **place.options,
            interface=Interfaces.RSGI,
            loop=Loops.auto,
            workers=workers,
            runtime_mode=RuntimeModes.st,  # the other one can miss its own "all is finished" and hang (granian 2.8)
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=HEADER_SECONDS * 1000, max_buffer_size=HEAD_BYTES),
            websockets=False,
            backlog=4096,
            backpressure=_connections(),
            log_level=LogLevels.error,
            log_dictconfig=_logging(),
            log_access=False,
            respawn_failed_workers=True,
            workers_kill_timeout=STOP_SECONDS,
        )
        server.on_startup(lambda: _tell_once_it_listens(place, started))
        _hold_signals_over_forks()
        server.serve(target_loader=partial(_load, settings, os.getpid(), counted), wrap_loader=False)


def _tell_once_it_listens(place: Place, started: Callable[[str], None]) -> None:
    """Workers listen a moment after they are started, and who reads the address connects at once."""

    def wait() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)  # they are for the main thread, which waits for them
        while not place.takes_connections():
            time.sleep(_LOOK_SECONDS)
        started(place.shown)

    threading.Thread(target=wait, name="started", daemon=True).start()


def _connections() -> int:
    """How many connections a worker may hold: as many as it may open files for, since a client that drips its request
    holds one and must not keep others out."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_CONNECTIONS + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return _MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(16, min(_MAX_CONNECTIONS, soft - _SPARE_FILES))


def _logging() -> dict[str, Any]:
    """granian's complaints go through our handler, to stderr and in the chosen format; its own would be stdout."""
    return {
        "formatters": {},
        "handlers": {"ours": {"()": _handler}},
        "loggers": {"_granian": {"handlers": ["ours"], "propagate": False}, "granian.access": {"handlers": []}},
    }


def _handler() -> logging.Handler:
    _ensure_logging()
    return logging.getLogger("monitor_cli").handlers[0]


def _ensure_logging() -> None:
    """A worker that was spawned, not forked, has none of the command line's logging."""
    if not logging.getLogger("monitor_cli").handlers:
        configure_logging(0, "text")


def _hold_signals_over_forks() -> None:
    """Workers start with SIGTERM and SIGINT blocked, so that none is put down to the main process's handlers, which
    they inherit; `_stop_once` takes them."""
    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS),
    )


def _stop_once() -> None:
    """In a worker: let the loop hear the first SIGTERM or SIGINT, and no other. One that comes before granian waits
    for it would be forgotten, and a second one makes it hang with its requests unanswered (2.8; both tried)."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    ready = time.monotonic() + _START_SECONDS

    def wait() -> None:
        number = signal.sigwait(_STOPS)
        time.sleep(max(0.0, ready - time.monotonic()))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})  # in this thread alone, which therefore gets it
        os.kill(os.getpid(), number)
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)

    threading.Thread(target=wait, name="stop", daemon=True).start()


def _load(settings: Settings, parent: int, counted: str) -> Any:
    """In a worker: the Gateway that it serves."""
    _stop_once()
    _die_with_parent(parent)
    _ensure_logging()
    _tune()
    os.environ[DIRECTORY] = counted
    return Gateway(api.build(settings))


def _tune() -> None:
    """What a process that answers thousands of requests a second can do without: facts of log records that no line of
    ours says (docs.python.org/howto/logging.html#optimization), and looking for cycles in what never goes."""
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


def _die_with_parent(parent: int) -> None:
    """Where the main process is killed the workers end too: they would go on to hold the port, unseen."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it was killed before we asked
            os.kill(os.getpid(), signal.SIGTERM)
