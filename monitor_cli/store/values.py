"""Judging what people give for a column, before it is written: SQLite holds no value against its column's type.

A reader takes text and gives the value, or raises ValueError with words that go after the column's name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

from sqlalchemy import Column, Integer, SmallInteger, String

from monitor_cli.types import Type

Reader = Callable[[str], Any]

INT_MAX = 2**31 - 1
TEXT_BYTES = 65535  # MySQL's TEXT
_WHOLE = re.compile(r"-?[0-9]{1,19}")
_BROKEN = {"Cc", "Cs", "Zl", "Zp"}  # control characters, halves of a character, line and paragraph separators


def whole(low: int, high: int) -> Reader:
    """A reader of whole numbers from `low` to `high`."""

    def read(text: str) -> int:
        value = int(text) if _WHOLE.fullmatch(text) else None
        if value is None or not low <= value <= high:
            raise ValueError(f"{_shown(text)} is not a whole number from {low} to {high}")
        return value

    return read


def line(limit: int, *, empty: bool = False) -> Reader:
    """A reader of one line of text of at most `limit` characters, without blanks around it or control characters."""

    def read(text: str) -> str:
        if not text:
            if empty:
                return text
            raise ValueError("is empty")
        if len(text) > limit:
            raise ValueError(f"has {len(text)} characters, more than {limit}")
        if not text.isprintable() and any(unicodedata.category(c) in _BROKEN for c in text):
            raise ValueError(f"{_shown(text)} has a control character or a line end")
        if text[0].isspace() or text[-1].isspace():
            raise ValueError(f"{_shown(text)} has blanks around it")
        return text

    return read


def token(limit: int) -> Reader:
    """A reader of text without any blank."""
    read_line = line(limit)

    def read(text: str) -> str:
        if any(map(str.isspace, read_line(text))):
            raise ValueError(f"{_shown(text)} has a blank in it")
        return text

    return read


def secret(limit: int) -> Reader:
    """A reader of a secret of at most `limit` characters, without any blank: its words never repeat it."""

    def read(text: str) -> str:
        if not text:
            raise ValueError("is empty")
        if len(text) > limit:
            raise ValueError(f"has {len(text)} characters, more than {limit}")
        if any(c.isspace() or unicodedata.category(c) in _BROKEN for c in text):
            raise ValueError("has a blank or a control character in it")
        return text

    return read


def free_text(text: str) -> str | None:
    """Any text that a TEXT column holds; None for none."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode text") from None
    if size > TEXT_BYTES:
        raise ValueError(f"has {size} bytes, more than {TEXT_BYTES}")
    return text or None


def type_word(text: str) -> str:
    """operational, warning or critical, without regard to case."""
    kind = Type.read(text)
    if kind is None:
        raise ValueError(f"{_shown(text)} is none of {', '.join(kind.word for kind in Type)}")
    return kind.word


def reader_of(column: Column[Any], *, empty: bool = False) -> Reader:
    """The reader that a column's type asks for."""
    kind = column.type
    if isinstance(kind, SmallInteger):
        return whole(-(2**15), 2**15 - 1)
    if isinstance(kind, Integer):
        return whole(1 if column.primary_key else -(2**31), INT_MAX)
    limit = getattr(kind, "length", None)
    if limit is None:
        assert isinstance(kind, String)
        return free_text
    return line(limit, empty=empty)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")
