"""Text from outside (customers, status pages, servers' answers) made safe to show: it moves no cursor, colours nothing,
turns no direction round, forges no second line, and does not go on for ever.

Unsafe is what str.isprintable says no to: control characters (C0, DEL and C1, which some terminals obey), bidirectional
and other format characters (Unicode's Cf), separators of lines, halves of characters.
"""

from __future__ import annotations

import json
from typing import Any

LONGEST = 200  # characters of one thing from outside, within words of ours
LONGEST_LINE = 2000


def masked(text: str) -> str:
    """For a table's cell: each unsafe character is a replacement character."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def escaped(text: str) -> str:
    """For a message: each unsafe character as \\uXXXX, so that it can be seen what was there."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def short(text: str, most: int = LONGEST) -> str:
    """The same, and what is over `most` characters is cut off."""
    return escaped(text if len(text) <= most else text[: most - 1] + "…")


def lines(text: str) -> str:
    """Words of ours, perhaps in several lines, with whatever may stand in them: each line as `short` has it."""
    return "\n".join(short(line, LONGEST_LINE) for line in text.split("\n"))


def to_json(value: Any, **how: Any) -> str:
    """JSON that is safe on a terminal: other characters than ASCII as they are, unsafe ones as \\uXXXX. What a reader
    gets of it is the same. `how`: as json.dumps."""
    text = json.dumps(value, ensure_ascii=False, **how)
    if text.replace("\n", "").isprintable():
        return text
    # Line ends stand between values only: within a text they are escaped already.
    return "".join(c if c.isprintable() or c == "\n" else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    # JSON's form: beyond 16 bits a pair of surrogates.
    return f"\\u{code:04x}" if code < 0x10000 else json.dumps(character)[1:-1]
