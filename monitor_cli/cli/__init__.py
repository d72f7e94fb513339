"""The command line: parse, call, print. `main` is the one boundary where errors become messages and exit codes."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence

import click

from monitor_cli import __version__, safetext
from monitor_cli.cli.context import App
from monitor_cli.errors import InternalError, MonitorError
from monitor_cli.logs import as_json, configure_logging

log = logging.getLogger("monitor_cli")

_SECRET_OPTIONS = {"--api-key", "--header", "--payload"}  # a command that has one is given secrets

# Each command's module is imported when it is called: cron starts us every minute.
_COMMANDS = {
    "account": "account",
    "archive": "archive",
    "callback": "callback",
    "callback-run": "callback_run",
    "check": "check",
    "config": "config",
    "db": "db",
    "delivery": "delivery",
    "demo": "demo",
    "incident-sync": "incident_sync",
    "number": "number",
    "report": "report",
    "run-helper": "run_helper",
    "serve-api": "serve_api",
    "server": "server",
    "source": "source",
    "status": "status",
}


_COMPLETE = "_MONITOR_CLI_COMPLETE"  # set where a shell asks


class Commands(click.Group):
    """The group whose commands live in modules of their own: the module X has a click command named `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"monitor_cli.cli.{_COMMANDS[cmd_name]}")
        command: click.Command = module.command
        return command


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("-v", "--verbose", count=True, help="Say more on stderr (twice: debugging, with tracebacks).")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.option(
    "--config",
    "config_path",
    metavar="FILE",
    type=click.Path(),
    help="The TOML file (else MONITOR_CONFIG, /etc/monitor-cli/config.toml).",
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", help="How log lines on stderr look.")
@click.version_option(__version__, prog_name="monitor-cli")
@click.pass_context
def cli(ctx: click.Context, verbose: int, quiet: bool, config_path: str | None, log_format: str) -> None:
    """Tell a voice platform's customers when the servers carrying their numbers are in trouble, and when they are well.

    \b
    Example:  monitor-cli incident-sync; monitor-cli callback-run
    """
    configure_logging(-1 if quiet else verbose, log_format)
    ctx.obj = App(config_path=config_path, verbose=verbose)
    ctx.call_on_close(ctx.obj.close)


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 an error, 2 usage, 75 something outside failed, 78 configuration."""
    _open_what_was_closed()
    sys.exit(run(args))


def run(args: list[str] | None = None) -> int:
    """The same, returning the exit code."""
    configure_logging(0, "text")  # until the options say otherwise
    if _COMPLETE in os.environ:
        importlib.import_module("monitor_cli.cli.shells").use()
    try:
        # Without standalone mode click gives back what Exit carries; of commands themselves it is None.
        code = cli.main(args, prog_name="monitor-cli", standalone_mode=False)
    except Exception as error:  # whatever it is: people get a line, not a traceback
        given = sys.argv[1:] if args is None else args
        _tame(error)
        return _unknown(error, given) if _is_check(given) else _answer(error)
    return code if isinstance(code, int) else 0


def _open_what_was_closed() -> None:
    """A crontab's `>&- 2>&-` closes the streams: the next file or socket that is opened would take their numbers, and
    get what is printed. They lead nowhere instead."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def _answer(failure: Exception) -> int:
    """Say on stderr what went wrong; gives the exit code."""
    try:
        raise failure
    except click.Abort:
        return _report(_Stopped("stopped"))
    except click.ClickException as error:
        if as_json():
            _say_as_json(error.format_message(), None, error.exit_code)
        else:
            error.show()
            _say_where_it_stands(error)
        return error.exit_code
    except MonitorError as error:
        return _report(error)
    except BrokenPipeError:
        _silence_stdout()
        return 1
    except OSError as error:  # a full disk below stdout, and what else a system refuses
        _silence_stdout()
        where = f"{error.filename}: " if error.filename else ""
        return _report(MonitorError(f"{where}{error.strerror or error}"), error)
    except Exception as error:
        return _report(InternalError(error), error)


def _tame(error: Exception) -> None:
    """click repeats what it was given: make it safe to show, and leave out what may be a secret (of a header that was
    not quoted, a part is an argument of its own)."""
    if not isinstance(error, click.ClickException):
        return
    words = error.message
    if isinstance(error, click.UsageError) and "unexpected extra argument" in words and _takes_secrets(error):
        words = "Got unexpected extra arguments (not shown, they may be secret; is something not quoted?)"
    vars(error)["message"] = safetext.lines(words)  # click's types call it final


def _takes_secrets(error: click.UsageError) -> bool:
    parameters = error.ctx.command.params if error.ctx else []
    return any(option in _SECRET_OPTIONS for parameter in parameters for option in parameter.opts)


def _is_check(args: Sequence[str]) -> bool:
    """Whether a command line is that of `check`, however wrong it may be otherwise: what reads its exit codes takes
    every other command's 1 and 2 for a warning and an alarm."""
    rest = iter(args)
    for word in rest:
        if word in ("--config", "--log-format"):
            next(rest, None)
        elif not word.startswith("-"):
            return word == "check"
    return False


def _unknown(failure: Exception, args: Sequence[str]) -> int:
    from monitor_cli.cli.check import unknown

    log.debug("traceback", exc_info=failure)
    if isinstance(failure, OSError):
        _silence_stdout()
    words = failure.format_message() if isinstance(failure, click.ClickException) else str(failure) or "stopped"
    return unknown(words, getattr(failure, "hint", None), args)


def _say_where_it_stands(error: click.ClickException) -> None:
    option = error.option_name if isinstance(error, click.NoSuchOption) else None
    if any(option in parameter.opts for parameter in cli.params):
        click.echo(f"  {option} stands before the command: monitor-cli {option} … COMMAND", err=True)


def _report(error: MonitorError, cause: Exception | None = None) -> int:
    log.debug("traceback", exc_info=cause or error)
    if as_json():
        _say_as_json(error.message, error.hint, error.exit_code)
        return error.exit_code
    click.echo(safetext.lines(f"monitor-cli: {error.message}"), err=True)
    if error.hint:
        click.echo(safetext.lines(f"  {error.hint}"), err=True)
    return error.exit_code


class _Stopped(MonitorError):
    """Ctrl-C."""

    exit_code = 130


def _say_as_json(message: str, hint: str | None, exit_code: int) -> None:
    log.error("error", extra={"facts": {"message": message, "hint": hint, "exit_code": exit_code}})


def _silence_stdout() -> None:
    # The reader (head, less) has gone, or the disk is full: the interpreter's last flush must not complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
