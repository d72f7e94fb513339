"""callback test: one request now, shown with its answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import click

from monitor_cli.cli.completing import complete_callback
from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.inputs import ID
from monitor_cli.cli.output import cell, json_option, print_json
from monitor_cli.delivery.outcome import Verdict
from monitor_cli.delivery.trial import Trial, try_callback
from monitor_cli.errors import MonitorError, OutsideError

_SHOWN_CHARACTERS = 4000  # of a body, to people


@click.command("test")
@click.argument("callback_id", type=ID, metavar="ID", shell_complete=complete_callback)
@json_option
@pass_app
def command(app: App, callback_id: int, as_json: bool) -> None:
    """Send a callback one request now, and show it with its answer.

    It tells the present status of all the account's numbers (where it has none: an example), signed as any other.
    It is no delivery: nothing counts as told by it, and no attempt is kept. A GET that has to be split shows its first
    part. An inactive callback is tested too; an account that is not subscribed is told nothing.

    Exit codes: 0 the answer was 2xx, 1 it was not, 75 the fault is on our side.

    \b
    Example:  monitor-cli callback test 3
    """
    trial = try_callback(app.database, app.settings, callback_id)
    if as_json:
        print_json(_object(callback_id, trial))
    else:
        click.echo("\n".join(_lines(trial)))
    _judge(callback_id, trial)


def _judge(callback_id: int, trial: Trial) -> None:
    """Raise what the exit code says, with the reason."""
    answer = trial.answer
    if trial.meaning is Verdict.LOCAL:
        raise OutsideError(
            f"callback {callback_id} could not be called: {answer.error}", "the fault is on our side: network, resolver"
        )
    if answer.http_status is None:
        arrived = "; the request may have arrived" if answer.arrived else ""
        raise MonitorError(f"callback {callback_id} was not taken: {answer.error}{arrived}")
    if trial.meaning is not Verdict.TAKEN:
        hint = "redirects are not followed: give the callback the new URL" if answer.http_status // 100 == 3 else None
        raise MonitorError(f"callback {callback_id} was not taken: HTTP {answer.http_status}", hint)


def _object(callback_id: int, trial: Trial) -> dict[str, Any]:
    request, answer = trial.request, trial.answer
    return {
        "callback_id": callback_id,
        "account": trial.account,
        "active": trial.active,
        "example": trial.example,
        "parts": trial.parts,
        "taken": trial.meaning is Verdict.TAKEN,
        "request": {
            "method": request.method,
            "url": request.url,
            "headers": _joined(trial.headers),
            "body": None if request.body is None else request.body.decode("utf-8", "replace"),
        },
        "answer": {
            "duration_ms": answer.duration_ms,
            "http_status": answer.http_status,
            "error": answer.error,
            "headers": _joined(trial.answer_headers),
            "response": trial.response,
        },
    }


def _joined(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """As an object; what comes twice is joined, as RFC 9110 section 5.3 has it."""
    joined: dict[str, str] = {}
    for name, value in headers:
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


def _lines(trial: Trial) -> Iterator[str]:
    request, answer = trial.request, trial.answer
    if trial.example:
        yield f"No number of {cell(trial.account)} is on a server: it is sent an example."
    if not trial.active:
        yield "The callback is not active: a run sends it nothing."
    if trial.parts > 1:
        yield f"The first of {trial.parts} requests that a run would send."
    yield f"{request.method} {request.url}"
    yield from _block(trial.headers, None if request.body is None else request.body.decode("utf-8", "replace"))
    yield ""
    came = cell(answer.error) if answer.http_status is None else f"HTTP {answer.http_status}"
    yield f"{came} after {answer.duration_ms} ms"
    yield from _block(trial.answer_headers, trial.response)


def _block(headers: Iterable[tuple[str, str]], body: str | None) -> Iterator[str]:
    for name, value in headers:
        yield f"  {cell(name)}: {cell(value)}"
    if body:
        yield ""
        yield from (f"  {cell(line)}" for line in body[:_SHOWN_CHARACTERS].splitlines())
        if len(body) > _SHOWN_CHARACTERS:
            yield f"  … ({len(body)} characters)"
