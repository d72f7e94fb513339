"""The database's shape: `db upgrade/downgrade/current/check` as plain functions."""

from monitor_cli.migrate.run import Current, Findings, check, current, downgrade, upgrade

__all__ = ["Current", "Findings", "check", "current", "downgrade", "upgrade"]
