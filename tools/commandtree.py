"""The command line as data, for pages about it: every command with its usage, its help text in parts, its options."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass

import click

from monitor_cli.cli import cli

PROGRAM = "monitor-cli"


@dataclass(frozen=True)
class Described:
    """A command. `path` is its name as typed after monitor-cli (empty: monitor-cli itself); `text` its paragraphs;
    `example` the lines of its example; `options` what is typed and what it does, --help left out."""

    path: str
    usage: str
    summary: str
    text: tuple[str, ...]
    example: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    is_group: bool

    @property
    def name(self) -> str:
        return f"{PROGRAM} {self.path}".strip()

    @property
    def page(self) -> str:
        """The man page that it is on: its own for a command of monitor-cli, that one for what is below it."""
        return "-".join([PROGRAM, *self.path.split()[:1]])


def described() -> list[Described]:
    """Every command, in the order of their names, a group before what is in it; the first is monitor-cli itself."""
    return list(_walk(cli, None, PROGRAM))


def _walk(command: click.Command, parent: click.Context | None, name: str) -> Iterator[Described]:
    if command.hidden:
        return
    with click.Context(command, info_name=name, parent=parent, terminal_width=10_000) as context:
        yield _read(command, context)
        if isinstance(command, click.Group):
            for child in command.list_commands(context):
                found = command.get_command(context, child)
                assert found is not None, child
                yield from _walk(found, context, child)


def _read(command: click.Command, context: click.Context) -> Described:
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    examples = [part.removeprefix("\b\n") for part in paragraphs if part.startswith("\b\nExample:")]
    text = tuple(" ".join(part.split()) for part in paragraphs if not part.startswith("\b\nExample:"))
    assert len(examples) == 1, f"{context.command_path}: its help needs one Example"
    assert not any("\b" in part for part in text), f"{context.command_path}: what is \\b but the example?"
    records = [p.get_help_record(context) for p in command.get_params(context) if "--help" not in p.opts]
    path = context.command_path.removeprefix(PROGRAM).strip()
    return Described(
        path=path,
        usage=" ".join([context.command_path, *command.collect_usage_pieces(context)]),
        summary=text[0].partition(". ")[0].rstrip("."),
        text=text,
        example=_lines(examples[0]),
        options=tuple((first, second) for first, second in filter(None, records) if second),
        is_group=isinstance(command, click.Group),
    )


def _lines(example: str) -> tuple[str, ...]:
    """The example's lines, without what the first one begins with and as much blank before the others."""
    start = "Example:  "
    return tuple(line[len(start) :] for line in example.splitlines())
