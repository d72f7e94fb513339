"""callback: the URLs that customers configured."""

from __future__ import annotations

import logging
import sys
from typing import Any

import click
from click.core import ParameterSource

from monitor_cli.cli import callback_encrypt, callback_replay, callback_test
from monitor_cli.cli.completing import complete_account, complete_callback
from monitor_cli.cli.context import App, pass_app
from monitor_cli.cli.inputs import ID, reads
from monitor_cli.cli.output import confirm, json_option, print_record, print_rows, say_on_terminal, yes_option
from monitor_cli.config import Settings
from monitor_cli.outbound.addresses import Policy
from monitor_cli.outbound.request import (
    Template,
    check_header_line,
    check_template,
    method_of,
    near_misses,
    tells_anything,
)
from monitor_cli.outbound.resolver import NoSuchName, Resolver, ResolverFailed, judged_addresses
from monitor_cli.outbound.signing import new_secret
from monitor_cli.outbound.url import Target
from monitor_cli.store import accounts, callbacks, planning
from monitor_cli.store.callbacks import Callback, Form
from monitor_cli.words import iso

log = logging.getLogger(__name__)

_LOOKUP_SECONDS = 5
_TABLE = ("id", "account", "name", "method", "url", "status", "owed", "owed_since")

_payload_help = "What to POST; without it, and without --raw-json, the request is a GET."
_header_help = "A header to send, as 'Name: value'; any number of them."
ids_argument = click.argument(
    "ids", type=ID, metavar="ID...", nargs=-1, required=True, shell_complete=complete_callback
)
id_argument = click.argument("callback_id", type=ID, metavar="ID", shell_complete=complete_callback)


@click.group()
def command() -> None:
    """The callbacks: what is called when an account's numbers change their status.

    \b
    Example:  monitor-cli callback add --account acme --title Status --name hook --url https://hooks.acme.example/v
    """


command.add_command(callback_encrypt.command)
command.add_command(callback_replay.command)
command.add_command(callback_test.command)


@command.command("add")
@click.option("--account", required=True, metavar="NAME", shell_complete=complete_account, help="Whose it is.")
@click.option("--title", required=True, metavar="TEXT", callback=reads(callbacks.read_title), help="Its title.")
@click.option("--name", required=True, metavar="TEXT", callback=reads(callbacks.read_name), help="Its name.")
@click.option("--url", required=True, metavar="URL", help="The URL; placeholders as {response} in its path and query.")
@click.option("--payload", metavar="TEXT", help=_payload_help)
@click.option("--header", "headers", multiple=True, metavar="'K: V'", help=_header_help)
@click.option("--raw-json", is_flag=True, help="POST the payload as JSON.")
@click.option("--inactive", is_flag=True, help="Add it switched off.")
@json_option
@pass_app
def add(app: App, /, account: str, inactive: bool, as_json: bool, headers: tuple[str, ...], **fields: Any) -> None:
    """Add a callback and print its id and the secret of its signatures, this once.

    \b
    Example:  monitor-cli callback add --account acme --title Status --name hook \\
                --url https://hooks.acme.example/voice --payload 'data={response}' --header 'X-Token: s3cret'
    """
    form = Form(**fields, headers=tuple(map(check_header_line, headers)))
    target = _judge(form, app.settings)
    with app.database.read() as conn:
        accounts.find(conn, account)
    _look_up(target, app.settings)
    _doubt(form)
    secret = new_secret()
    callback_id = app.database.transact(
        lambda conn: callbacks.add(
            conn, account, form, destination=target.destination, secret=secret, active=not inactive, keys=app.keys
        )
    )
    print_record({"id": callback_id, "secret": secret}, as_json)


@command.command("list")
@click.option("--account", metavar="NAME", shell_complete=complete_account, help="Of this account.")
@json_option
@pass_app
def list_(app: App, account: str | None, as_json: bool) -> None:
    """List the callbacks, with what each is owed.

    \b
    Example:  monitor-cli callback list --account acme
    """
    with app.database.read() as conn:
        print_rows(map(_shown, callbacks.listed(conn, account)), as_json, _TABLE, of="callbacks")
        if sys.stdout.isatty() or log.isEnabledFor(logging.INFO):
            _say_what_waits(planning.flagged_count(conn))


def _say_what_waits(servers: int) -> None:
    """What no callback is owed yet, since no run has planned it."""
    if servers:
        say_on_terminal(f"{servers} {'change waits' if servers == 1 else 'changes wait'} for callback-run")
        log.info("changes.waiting", extra={"facts": {"servers": servers}})


@command.command("show")
@id_argument
@json_option
@pass_app
def show(app: App, callback_id: int, as_json: bool) -> None:
    """Show a callback. The values of its headers are secrets and are not shown.

    \b
    Example:  monitor-cli callback show 3
    """
    with app.database.read() as conn:
        print_record(_shown(callbacks.find(conn, callback_id)), as_json)


@command.command("edit")
@id_argument
@click.option("--title", metavar="TEXT", callback=reads(callbacks.read_title), help="Its title.")
@click.option("--name", metavar="TEXT", callback=reads(callbacks.read_name), help="Its name.")
@click.option("--url", metavar="URL", help="The URL.")
@click.option("--payload", metavar="TEXT", help=_payload_help + " '' removes it.")
@click.option("--header", "headers", multiple=True, metavar="'K: V'", help=_header_help + " They replace all it has.")
@click.option("--no-headers", is_flag=True, help="Send no headers of its own any more.")
@click.option("--raw-json/--no-raw-json", help="Whether to POST the payload as JSON.")
@pass_app
def edit(app: App, /, callback_id: int, headers: tuple[str, ...], no_headers: bool, **fields: Any) -> None:
    """Change what the options name, and send what it is owed at once.

    \b
    Example:  monitor-cli callback edit 3 --url https://new.acme.example/voice
    """
    source = click.get_current_context().get_parameter_source
    given = {name: value for name, value in fields.items() if source(name) is ParameterSource.COMMANDLINE}
    if headers and no_headers:
        raise click.UsageError("--header and --no-headers exclude each other")
    if headers or no_headers:
        given["headers"] = tuple(map(check_header_line, headers))
    if not given:
        raise click.UsageError("there is nothing to change: name at least one field")
    with app.database.read() as conn:
        before = callbacks.form_of(conn, callback_id, app.keys, headers="headers" not in given)
    target = _judge(before._replace(**given), app.settings)
    if "url" in given:
        _look_up(target, app.settings)
    if given.keys() & {"url", "payload", "raw_json"}:
        _doubt(before._replace(**given))

    def work(conn: Any) -> None:
        before = callbacks.form_of(conn, callback_id, app.keys, lock=True, headers="headers" not in given)
        form = before._replace(**given)
        callbacks.edit(conn, callback_id, form, _judge(form, app.settings).destination, app.keys)

    app.database.transact(work)


@command.command("enable")
@ids_argument
@pass_app
def enable(app: App, ids: tuple[int, ...]) -> None:
    """Switch callbacks on, and send each the newest truth of what it is owed.

    \b
    Example:  monitor-cli callback enable 3
    """
    app.database.transact(lambda conn: callbacks.enable(conn, ids))


@command.command("disable")
@ids_argument
@pass_app
def disable(app: App, ids: tuple[int, ...]) -> None:
    """Switch callbacks off. What they miss is kept, and `enable` sends it.

    \b
    Example:  monitor-cli callback disable 3
    """
    app.database.transact(lambda conn: callbacks.disable(conn, ids))


@command.command("rotate-secret")
@id_argument
@click.option("--drop-old", is_flag=True, help="The old one stops at once: it leaked, or cannot be read any more.")
@json_option
@pass_app
def rotate_secret(app: App, callback_id: int, drop_old: bool, as_json: bool) -> None:
    """Give a callback a new secret and print it, this once. The old one signs beside it for 24 hours.

    At most two secrets sign: rotated again within that time, the one before the last stops at once.

    \b
    Example:  monitor-cli callback rotate-secret 3
    """
    secret = new_secret()
    keys = app.keys
    if app.database.transact(lambda conn: callbacks.rotate_secret(conn, callback_id, secret, keys, drop_old=drop_old)):
        log.warning("callback.secret_dropped", extra={"facts": {"callback": callback_id, "reason": "at most two sign"}})
    print_record({"id": callback_id, "secret": secret}, as_json)


@command.command("remove")
@ids_argument
@yes_option
@pass_app
def remove(app: App, ids: tuple[int, ...], yes: bool) -> None:
    """Remove callbacks, and what they are owed.

    \b
    Example:  monitor-cli callback remove 3 --yes
    """
    with app.database.read() as conn:
        found = [callbacks.find(conn, callback_id) for callback_id in dict.fromkeys(ids)]
    confirm(f"Remove {', '.join(f'callback {c.id} ({c.form.name}, of {c.account})' for c in found)}?", yes)
    app.database.transact(lambda conn: callbacks.remove(conn, ids))


def _policy(settings: Settings) -> Policy:
    return Policy(settings.allow_networks, settings.deny_networks)


def _template(form: Form) -> Template:
    return Template(form.url, form.payload, form.headers, form.raw_json)


def _judge(form: Form, settings: Settings) -> Target:
    """What sending judges too, in the same words."""
    return check_template(_template(form), _policy(settings))


def _look_up(target: Target, settings: Settings) -> None:
    """Judge the addresses of a name; where it has none yet, say so: it may get them before it is called."""
    if target.address is not None:
        return
    try:
        addresses = Resolver(threads=1).resolve(target.host, target.port).result(_LOOKUP_SECONDS)
    except (NoSuchName, ResolverFailed) as error:
        _warn(target, error.message)
    except TimeoutError:
        _warn(target, f"the name {target.host} was not answered for within {_LOOKUP_SECONDS} s")
    else:
        judged_addresses(target, addresses, _policy(settings))


def _warn(target: Target, reason: str) -> None:
    log.warning("callback.unresolved", extra={"facts": {"host": target.host, "reason": reason, "accepted": "yes"}})


def _doubt(form: Form) -> None:
    """Say what a customer hardly means, and what is accepted all the same."""
    for word, near in near_misses(_template(form)).items():
        facts = {"word": f"{{{word}}}", "sent": "as it stands", "did_you_mean": f"{{{near}}}"}
        log.warning("callback.placeholder_unknown", extra={"facts": facts})
    if not tells_anything(_template(form)):
        facts = {"reason": "neither the URL nor the payload has a placeholder, as {response}", "accepted": "yes"}
        log.warning("callback.tells_nothing", extra={"facts": facts})


def _shown(callback: Callback) -> dict[str, Any]:
    form = callback.form
    return {
        "id": callback.id,
        "account": callback.account,
        "title": form.title,
        "name": form.name,
        "url": form.url,
        "method": method_of(_template(form)),
        "payload": form.payload,
        "headers": {name: "***" for name, _ in form.headers},
        "raw_json": form.raw_json,
        "status": callback.status,
        "reason": callback.reason,
        "owed": callback.owed,
        "owed_since": iso(callback.owed_since_at),
    }
