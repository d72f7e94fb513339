"""The incident API: a WSGI application that reads the database and writes nothing.

`monitor_cli.api:application` is for any WSGI server; it reads the settings (MONITOR_CONFIG, MONITOR_*) at its first
request. `build` is for those who have the settings already.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable

from monitor_cli import config
from monitor_cli.api.app import Application, StartResponse
from monitor_cli.api.reader import Reader
from monitor_cli.api.request import Environ
from monitor_cli.db import Database
from monitor_cli.logs import configure_logging

__all__ = ["Application", "application", "build"]

_lock = threading.Lock()
_application: Application | None = None


def build(settings: config.Settings) -> Application:
    """The application over the database that the settings name. Nothing is dialled before the first request."""
    return Application(Reader(lambda: Database(settings.database_url, serving=True)))


def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The WSGI callable for any server. Settings that cannot be read are answered 503 and logged, like a database that
    is away, until they are mended."""
    return (_application or _from_environment())(environ, start_response)


def _from_environment() -> Application:
    global _application
    with _lock:
        if _application is None:
            if not logging.getLogger("monitor_cli").hasHandlers():
                configure_logging(0, "text")
            _application = Application(Reader(_open_configured))
        return _application


def _open_configured() -> Database:
    return Database(config.load(None, os.environ).database_url, serving=True)
