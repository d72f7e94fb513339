"""The directory that the workers count their metrics in: this server's own, and those of killed servers swept away."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

from monitor_cli.api.metrics import DIRECTORY

_OWNER = "owner.lock"  # locked by the server as long as it lives


def take_directory(held: ExitStack) -> str:
    """The operator's directory where the environment names one, else a new one that is removed with `held`."""
    given = os.environ.get(DIRECTORY)
    if given:
        return given
    shared = Path("/dev/shm")
    place = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    prefix = f"monitor-cli-{os.geteuid()}-metrics-"
    for left in place.glob(f"{prefix}*"):
        _sweep(left)
    directory = held.enter_context(tempfile.TemporaryDirectory(prefix=prefix, dir=place))
    lock = os.open(Path(directory) / _OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    held.callback(os.close, lock)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return directory


def _sweep(directory: Path) -> None:
    """Remove the directory of a server that was killed."""
    with suppress(OSError):  # a living one's, another user's, or gone by now
        if directory.is_symlink() or directory.stat().st_uid != os.geteuid():
            return
        lock = os.open(directory / _OWNER, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(lock)
