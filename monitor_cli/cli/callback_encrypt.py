"""callback encrypt-secrets: what stands plain, or under an old key, is written anew under the first key."""

from __future__ import annotations

import click

from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.inputs import progress
from monitor_cli.cli.output import json_option, print_record
from monitor_cli.errors import ConfigError
from monitor_cli.store import sealed

_BATCH = 200  # callbacks in one transaction: their rows are locked for some milliseconds
_MOST_NAMED = 10


@click.command("encrypt-secrets")
@click.option("--dry-run", is_flag=True, help="Count only; change nothing.")
@json_option
@pass_app
def command(app: App, dry_run: bool, as_json: bool) -> None:
    """Encrypt the callbacks' secrets under the first key of secret_key: those that stand plain, and those under an
    older key, which is needed no more afterwards.

    In small transactions beside a running callback-run; stopped half-way it can be started again. Silent where all went
    well, unless -v, --dry-run or --json asks.

    Exit code 78: no key is set, or some secrets cannot be read with these keys (the others are done).

    \b
    Example:  monitor-cli callback encrypt-secrets --dry-run
    """
    if not app.keys:
        raise ConfigError(
            "neither secret_key nor secret_key_file is set", "make a key: openssl rand -base64 32 (docs/callbacks.md)"
        )
    seen = changed = plain = 0
    unreadable: list[str] = []
    with app.database.read() as conn:
        total = sealed.count(conn)
    with progress(total, "encrypting") as move:
        last: int | None = 0
        while last is not None:
            batch = _batch(app, last, dry_run)
            last = batch.last
            seen, changed, plain = seen + batch.seen, changed + batch.changed, plain + batch.plain
            unreadable += batch.unreadable
            move(batch.seen)
    if dry_run or as_json or app.verbose:
        found = {"callbacks": seen, "plain": plain, "old_key": changed - plain, "unreadable": len(unreadable)}
        print_record(found, as_json)
    if unreadable:
        raise _unreadable(unreadable)


def _batch(app: App, last: int, dry_run: bool) -> sealed.Batch:
    if dry_run:
        with app.database.read() as conn:
            return sealed.reseal(conn, app.keys, last, _BATCH, dry_run=True)
    return app.database.transact(lambda conn: sealed.reseal(conn, app.keys, last, _BATCH))


def _unreadable(words: list[str]) -> ConfigError:
    rest = len(words) - _MOST_NAMED
    lines = [f"  - {line}" for line in words[:_MOST_NAMED]] + ([f"  - and {rest} more"] if rest > 0 else [])
    return ConfigError(
        "\n".join(["some secrets stay as they are:", *lines]),
        "add the key that encrypted them to secret_key, after the new one",
    )
