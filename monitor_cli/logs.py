"""Log lines on stderr: plain text or JSON. An event has a stable name and facts as key=value.

    log.info("delivery.failed", extra={"facts": {"callback": 7}})

Levels: warnings and errors always, info with -v, debug with -vv; with -q errors only.
"""

from __future__ import annotations

import logging
import sys

from monitor_cli import safetext
from monitor_cli.words import iso

_LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}
_WORDS = {"message", "hint", "reason"}  # facts that are sentences of ours; others are shorter


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts = _facts(record).items()
        line = " ".join([safetext.lines(record.getMessage()), *(f"{key}={_plain(value)}" for key, value in facts)])
        return f"{line}\n{safetext.lines(self.formatException(record.exc_info))}" if record.exc_info else line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": iso(int(record.created * 1000)),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_facts(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return safetext.to_json(line, default=str)


def _facts(record: logging.LogRecord) -> dict[str, object]:
    """An event's facts, those that are text of a bearable length."""
    facts: dict[str, object] = getattr(record, "facts", {})
    return {key: _cut(key, value) if isinstance(value, str) else value for key, value in facts.items()}


def _cut(key: str, text: str) -> str:
    most = safetext.LONGEST_LINE if key in _WORDS else safetext.LONGEST
    return text if len(text) <= most else text[: most - 1] + "…"


def _plain(value: object) -> str:
    """A fact on a text line: quoted where it has blanks, never a second line."""
    text = str(value)
    return text if text and text.isprintable() and " " not in text and '"' not in text else safetext.to_json(text)


def as_json() -> bool:
    """Whether log lines are JSON now: then the last words of a run are such a line too."""
    return any(isinstance(handler.formatter, _Json) for handler in logging.getLogger("monitor_cli").handlers)


def configure_logging(verbosity: int, log_format: str) -> None:
    """Send this package's log lines to stderr. `verbosity`: -1 quiet, 0, 1 (-v), 2 (-vv)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if log_format == "json" else _Text())
    root = logging.getLogger("monitor_cli")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(_LEVELS.get(verbosity, logging.DEBUG))
    # A connection that died in the pool is reported there with a traceback; we say what it means for us ourselves.
    pool = logging.getLogger("sqlalchemy.pool")
    pool.propagate = False
    pool.handlers[:] = [handler if verbosity > 1 else logging.NullHandler()]
