"""docs/commands.md and man/: what every command does, from the help texts that people read. `make docs` runs it.

The pages are files of the project, so that they can be read where nothing is installed, and go into the wheel as they
are: pip puts man pages where `man` looks beside a bin on the PATH, and pipx links them. A test holds them current.
click-man was tried (0.6): it sees no commands that are imported when they are called, gives each its own page, joins an
example's lines to a paragraph, and leaves a backslash or a line's leading dot to troff.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from monitor_cli import __version__
from tools.commandtree import PROGRAM, Described, described

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = Path("docs/commands.md")
MAN = Path("man")

EXIT_CODES = (
    ("0", "done; also: nothing to do, or another run has it"),
    ("1", "an error"),
    ("2", "wrong usage"),
    ("75", "something outside failed, and the next run may do better"),
    ("78", "the configuration, or the database's tables, do not fit"),
)
_CHECK = "`check` follows Nagios instead: 0, 1, 2, 3."


def pages() -> dict[Path, str]:
    """Every generated file, by its path in the project, with what it has to say."""
    commands = described()
    found = {COMMANDS: _markdown(commands)}
    for name, group in groupby(commands, key=lambda command: command.page):
        found[MAN / f"{name}.1"] = _man(list(group), commands)
    return found


def stale() -> list[Path]:
    """The generated files that are not as the help texts have it, and those that nothing generates any more."""
    wanted = pages()
    different = [path for path, text in wanted.items() if _read(ROOT / path) != text]
    return different + [path for path in _present() if path not in wanted]


def write() -> list[Path]:
    """Write what is stale, remove what is left over; gives what it changed."""
    changed, wanted = stale(), pages()
    for path in changed:
        file = ROOT / path
        if path in wanted:
            file.parent.mkdir(exist_ok=True)
            file.write_text(wanted[path], "utf-8")
        else:
            file.unlink()
    return changed


def _present() -> Iterator[Path]:
    yield from (file.relative_to(ROOT) for file in sorted((ROOT / MAN).glob("*.1")))


def _read(file: Path) -> str | None:
    return file.read_text("utf-8") if file.is_file() else None


# --- Markdown ---------------------------------------------------------------------------------------------------------


def _markdown(commands: list[Described]) -> str:
    return "\n".join(_markdown_lines(commands))


def _markdown_lines(commands: list[Described]) -> Iterator[str]:
    yield "# Commands"
    yield ""
    yield "<!-- Written by `make docs` from the help texts: change those. -->"
    yield ""
    yield "What `--help` says, of every command. The options of `monitor-cli` itself stand before the command, as in"
    yield "`monitor-cli -v db check`."
    yield "What each prints with `--json` is in [json.md](json.md), the settings and environment variables in"
    yield "[configuration.md](configuration.md)."
    yield ""
    for command in commands:
        yield from _markdown_command(command)
    yield "## Exit codes"
    yield ""
    yield "| code | meaning |"
    yield "|---|---|"
    yield from (f"| {code} | {meaning} |" for code, meaning in EXIT_CODES)
    yield ""
    yield _CHECK
    yield ""


def _markdown_command(command: Described) -> Iterator[str]:
    yield f"{'##' if ' ' not in command.path else '###'} {command.path or PROGRAM}"
    yield ""
    yield f"    {command.usage}"
    yield ""
    for paragraph in command.text:
        yield _marked(paragraph)
        yield ""
    if command.options:
        yield "| option | |"
        yield "|---|---|"
        yield from (f"| `{option.replace('|', chr(92) + '|')}` | {_marked(text)} |" for option, text in command.options)
        yield ""
    yield "```sh"
    yield from command.example
    yield "```"
    yield ""


def _marked(text: str) -> str:
    """Plain text as Markdown shows it."""
    for sign in ("\\", "`", "*", "_", "<", "|", "["):
        text = text.replace(sign, "\\" + sign)
    return text


# --- man pages --------------------------------------------------------------------------------------------------------


def _man(page: list[Described], all_of_them: list[Described]) -> str:
    return "\n".join(_man_lines(page, all_of_them)) + "\n"


def _man_lines(page: list[Described], all_of_them: list[Described]) -> Iterator[str]:
    """A page in man(7)'s language: no date, so that it depends on the help texts and the version alone."""
    head = page[0]
    yield '.\\" Written by `make docs` from the help texts: change those.'
    yield f'.TH {head.page.upper()} 1 "" "{PROGRAM} {__version__}" "{PROGRAM}"'
    yield ".SH NAME"
    yield f"{_troff(head.page)} \\- {_troff(head.summary)}"
    yield ".SH SYNOPSIS"
    yield from _literal([command.usage for command in page])
    yield ".SH DESCRIPTION"
    yield from _paragraphs(head)
    yield from _options(head, ".SH OPTIONS")
    if not head.path:
        yield from _overview(all_of_them)
    for command in page[1:]:
        yield f'.SH "{command.path.upper()}"'
        yield from _paragraphs(command)
        yield from _options(command, None)
        yield from _literal(command.example, ".PP", "Example:")
    yield ".SH EXAMPLE"
    yield from _literal(head.example)
    if not head.path:
        yield from _environment()
    yield from _see_also(head, all_of_them)


def _overview(commands: list[Described]) -> Iterator[str]:
    yield ".SH COMMANDS"
    for command in commands:
        if command.path and " " not in command.path:
            yield ".TP"
            yield f"\\fB{_troff(command.page)}\\fR(1)"
            yield _troff(command.summary)


def _environment() -> Iterator[str]:
    yield ".SH EXIT STATUS"
    for code, meaning in EXIT_CODES:
        yield from (".TP", f".B {code}", _troff(meaning))
    yield ".PP"
    yield _troff(_CHECK.replace("`", ""))
    yield ".SH ENVIRONMENT"
    for name, meaning in (
        ("MONITOR_CONFIG", "the configuration file, where --config names none"),
        ("MONITOR_DATABASE_URL", "where the tables are, as an SQLAlchemy URL"),
        ("MONITOR_*", "every other setting: config show lists them"),
        ("CREDENTIALS_DIRECTORY", "where the service manager puts secrets; a secret setting is read from there"),
    ):
        yield from (".TP", f".B {_troff(name)}", _troff(meaning))
    yield from (".SH FILES", ".TP", ".I /etc/monitor-cli/config.toml", "the configuration file, where none is named")


def _see_also(head: Described, commands: list[Described]) -> Iterator[str]:
    others = sorted({command.page for command in commands} - {head.page}) if not head.path else [PROGRAM]
    yield ".SH SEE ALSO"
    yield ", ".join(f"\\fB{_troff(name)}\\fR(1)" for name in others)


def _paragraphs(command: Described) -> Iterator[str]:
    for paragraph in command.text:
        yield ".PP"
        yield _troff(paragraph)


def _options(command: Described, heading: str | None) -> Iterator[str]:
    if heading and command.options:
        yield heading
    for option, text in command.options:
        yield from (".TP", f"\\fB{_troff(option)}\\fR", _troff(text))


def _literal(lines: list[str] | tuple[str, ...], *before: str) -> Iterator[str]:
    """Lines as they stand."""
    yield from before
    yield ".PP"
    yield ".nf"
    yield from (f"{_troff(line)}" for line in lines)
    yield ".fi"


def _troff(text: str) -> str:
    """Plain text as troff prints it: hyphens that can be copied, quotes and carets that stay ASCII, no request at a
    line's begin."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    text = text.replace("^", "\\(ha").replace("~", "\\(ti")
    return "\\&" + text if text.startswith((".", "'")) else text


if __name__ == "__main__":
    for path in write():
        print(path, file=sys.stderr)
