"""callback replay: the newest truth once more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import click

from monitor_cli.cli.completing import complete_account, complete_callback
from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.inputs import ID, check_window, progress, read_time, reads
from monitor_cli.cli.output import print_rows
from monitor_cli.store import replays
from monitor_cli.store.replays import Chosen
from monitor_cli.words import many

_TABLE = ("callback_id", "account", "name", "channels", "url", "left_out")
_time = reads(read_time)


@click.command("replay")
@click.option(
    "--callback", "callback_id", type=ID, metavar="ID", shell_complete=complete_callback, help="This callback."
)
@click.option(
    "--account", "account_name", metavar="NAME", shell_complete=complete_account, help="The callbacks of this account."
)
@click.option("--since", "since_at", metavar="TIME", callback=_time, help="What changed since: a time, or 90m, 7d ago.")
@click.option("--until", "until_at", metavar="TIME", callback=_time, help="What changed before this time.")
@click.option("--failed", is_flag=True, help="Callbacks whose last delivery failed, with what they are still owed.")
@click.option("--dry-run", is_flag=True, help="Show whom it would tell of how many channels; change nothing.")
@pass_app
def command(app: App, /, dry_run: bool, **options: Any) -> None:
    """Have the newest status of what callbacks were told, or are owed, sent to them again by callback-run.

    At least one option says which; several narrow it down. It is sent even if it is what they were told last, but not
    before a Retry-After has run out. Callbacks that are not active, or whose account is not subscribed, are left out.

    \b
    Example:  monitor-cli callback replay --account acme --since 2h --dry-run
    """
    if not any(value not in (None, False) for value in options.values()):
        raise click.UsageError("say what to send again: --callback, --account, --since, --until or --failed")
    check_window(options["since_at"], options["until_at"])
    totals = _Totals()
    with app.database.read() as conn:
        wanted = replays.selection(conn, **options)
        chosen = totals.count(replays.pages(conn, wanted))
        if dry_run:
            print_rows(map(_shown, chosen), False, _TABLE)
        else:
            for _ in chosen:
                pass
    click.echo(totals.sentence(dry_run), err=True)
    if dry_run:
        return
    after: int | None = 0
    with progress(totals.callbacks + totals.left_out, "callbacks") as advance:
        while after is not None:
            found, after = app.database.transact(partial(replays.replay_page, wanted=wanted, after=after))
            advance(len(found))


class _Totals:
    """Counts what goes by."""

    def __init__(self) -> None:
        self.callbacks = self.channels = 0
        self.accounts: set[str] = set()
        self.reasons: dict[str, int] = {}

    @property
    def left_out(self) -> int:
        return sum(self.reasons.values())

    def count(self, chosen: Iterable[Chosen]) -> Iterator[Chosen]:
        for one in chosen:
            if one.left_out is not None:
                self.reasons[one.left_out] = self.reasons.get(one.left_out, 0) + 1
            else:
                self.callbacks += 1
                self.channels += len(one.units)
                self.accounts.add(one.account)
            yield one

    def sentence(self, dry_run: bool) -> str:
        sends = "would send" if dry_run else "sends"
        text = (
            f"callback-run {sends} the newest status of {many(self.channels, 'channel')} "
            f"to {many(self.callbacks, 'callback')} of {many(len(self.accounts), 'account')}"
        )
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.reasons.items()))
        return f"{text}; left out: {reasons}" if reasons else text


def _shown(one: Chosen) -> dict[str, Any]:
    return {**one._asdict(), "channels": len(one.units)}
