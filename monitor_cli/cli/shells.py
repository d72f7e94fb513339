"""The shells' sides of completion: click's own, and besides what they do with a value that is joined to its option
(`--source=car`), which click leaves to them.

bash takes the `=` for a word; zsh and fish put what is offered in the place of the whole word.
"""

from __future__ import annotations

import re
from typing import Any

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
)

_OPTION = re.compile(r"--[a-z][a-z-]*")
_JOINED = re.compile(rf"{_OPTION.pattern}=")


class _Bash(BashComplete):
    def get_completion_args(self) -> tuple[list[str], str]:
        args, start = super().get_completion_args()
        before = ["", *args]
        kept = [word for last, word in zip(before, args, strict=False) if word != "=" or not _OPTION.fullmatch(last)]
        return kept, start


class _Joined(ShellComplete):
    """Offers values with the option that they are joined to."""

    _option = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, start = super().get_completion_args()
        found = _JOINED.match(start)
        self._option = found[0] if found else ""
        return args, start

    def format_completion(self, item: CompletionItem[Any]) -> str:
        if self._option and item.type == "plain":
            item = CompletionItem(self._option + item.value, help=item.help)
        return super().format_completion(item)


class _Zsh(_Joined, ZshComplete):
    pass


class _Fish(_Joined, FishComplete):
    def format_completion(self, item: CompletionItem[Any]) -> str:
        """click's script for fish splits at commas, and would lose a description's rest."""
        if item.help and "," in item.help:
            item = CompletionItem(item.value, type=item.type, help=item.help.replace(",", ";"))
        return super().format_completion(item)


def use() -> None:
    """Have click answer these shells so."""
    for kind in (_Bash, _Zsh, _Fish):
        add_completion_class(kind)
