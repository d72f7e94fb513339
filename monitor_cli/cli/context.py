"""What a command is given: the settings and the database, each read when first asked for."""

from __future__ import annotations

import os
from functools import cached_property

import click

from monitor_cli import config
from monitor_cli.db import Database
from monitor_cli.sealing import Keyring


class App:
    """One run of the command line. `verbose` counts -v."""

    def __init__(self, config_path: str | None, verbose: int) -> None:
        self._config_path = config_path
        self.verbose = verbose
        self.flags: dict[str, object] = {}
        self._database: Database | None = None

    @cached_property
    def settings(self) -> config.Settings:
        return config.load(self._config_path, os.environ, self.flags)

    @cached_property
    def keys(self) -> Keyring:
        """What customers' secrets are encrypted under. Raises ConfigError (78) where it cannot be read."""
        return Keyring.of(self.settings)

    @property
    def database(self) -> Database:
        """The database, its revision checked once. Raises ConfigError (78) or DatabaseAway (75)."""
        if self._database is None:
            database = Database(self.settings.database_url)
            database.check_revision()
            self._database = database
        return self._database

    @property
    def opened(self) -> Database | None:
        """The database, if it could be opened and is in use."""
        return self._database

    def close(self) -> None:
        if self._database is not None:
            self._database.close()


pass_app = click.make_pass_decorator(App)
