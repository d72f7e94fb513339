"""What can go wrong in a way that people should read about: a message, a hint how to mend it, an exit code.

Everything that the outside world can cause ends as a MonitorError; the command line's one boundary (cli) prints it.
Exit codes follow sysexits.h where it has one: 75 EX_TEMPFAIL, 78 EX_CONFIG.
"""


class MonitorError(Exception):
    """The base: says what is wrong and where (`message`), and how to mend it (`hint`). Exit code 1."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InternalError(MonitorError):
    """What nobody foresaw: a defect of ours, said in a line. Exit code 1."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(
            f"internal error: {type(error).__name__}: {str(error)[:200]}",
            "this is a defect: -vv shows where; please report it",
        )


class UsageError(MonitorError):
    """A command was called with something that cannot be meant. Exit code 2."""

    exit_code = 2


class OutsideError(MonitorError):
    """Something outside failed, and the next run may do better. Exit code 75."""

    exit_code = 75


class DatabaseAway(OutsideError):
    """The database does not answer, or has given up for now (deadlock, lock time-out, disk full)."""


class SourceError(OutsideError):
    """A source (an upstream incident API) could not be read, or answered something that is not its format."""


class ConfigError(MonitorError):
    """The configuration, or the database's revision, does not fit. Exit code 78."""

    exit_code = 78
