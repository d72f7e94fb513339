"""The incident API: a WSGI application that reads the database and writes nothing.

`monitor_cli.api:application` is for any WSGI server; it reads the settings (MONITOR_CONFIG, MONITOR_*) at its first
request. `build` is for those who have the settings already.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Iterable

from monitor_cli import config
from monitor_cli.api.app import AT_ONCE, BUSY, Application, StartResponse
from monitor_cli.api.buckets import Table, sweep_tables
from monitor_cli.api.client import Clients
from monitor_cli.api.limits import Limits
from monitor_cli.api.prompt import NotNow
from monitor_cli.api.reader import Reader
from monitor_cli.api.request import Environ
from monitor_cli.api.visit import log_each_request
from monitor_cli.db import Database
from monitor_cli.engines import described
from monitor_cli.errors import MonitorError
from monitor_cli.logs import configure_logging

__all__ = ["AT_ONCE", "BUSY", "Application", "NotNow", "application", "build", "open_table", "sweep_tables"]

_lock = threading.Lock()
_application: Application | None = None
_unready: Application | None = None

log = logging.getLogger(__name__)


def build(settings: config.Settings) -> Application:
    """The application over the database that the settings name. Nothing is dialled before the first request. Raises
    ConfigError (78) where the database's URL is none."""
    log_each_request()
    table = open_table(settings)
    atexit.register(table.close)
    if not table.shared:
        log.warning("api.limits_unshared", extra={"facts": {"reason": table.reason}})
    return Application(
        Reader(lambda: Database(settings.database_url, serving=True)),
        Limits(settings, table.buckets),
        Clients(settings.trusted_proxies),
    )


def open_table(settings: config.Settings) -> Table:
    """The rate limits' memory: one for all workers on this host that serve the same database as the same user."""
    return Table(described(settings.database_url))


def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The WSGI callable for any server. Settings that cannot be read are answered 503 and logged, like a database that
    is away, until they are mended."""
    return (_application or _from_environment())(environ, start_response)


def _from_environment() -> Application:
    global _application, _unready
    with _lock:
        if _application is not None:
            return _application
        if not logging.getLogger("monitor_cli").hasHandlers():
            configure_logging(0, "text")
        try:
            _application = build(config.load(None, os.environ))
        except MonitorError:
            _unready = _unready or Application(Reader(_open_configured))
            return _unready
        return _application


def _open_configured() -> Database:
    """Fails as the settings do, for the reader to log it."""
    return Database(config.load(None, os.environ).database_url, serving=True)
