"""Writing a file whole or not at all: whoever opens it sees the old content or the new one, also after a power cut.

What is no file (a pipe, a terminal, /dev/null) is written to as it is: put in its place, a file would be the end of it.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path


def write_whole(path: str, content: bytes, mode: int | None = None) -> None:
    """Write a file beside it, synced, then put it in its place. `mode` None: that of the file which is replaced, or of
    any new file. Raises OSError, and then what was there is as it was."""
    target = Path(path)
    linked = target.is_symlink()
    if linked and target.lstat().st_uid not in (
        os.geteuid(),
        0,
    ):  # in a directory of everybody's it could lead anywhere
        raise OSError(errno.ELOOP, "it is another user's symbolic link", path)
    if _is_device(path):
        with open(path, "wb") as device:
            device.write(content)
        return
    if linked:  # the file that it leads to is meant, not the link
        target = target.resolve()
    # In the same directory, for the rename; its end is nobody's pattern (*.prom), so that nobody reads it half-written.
    handle, beside = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), _mode(target) if mode is None else mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise
    sync_directory(target.parent)


def sync_directory(directory: Path) -> None:
    """Have a directory's names on the disk. Raises OSError."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_device(path: str) -> bool:
    """Whether it is there, and neither file nor directory. What /dev/stdout leads to may have no path of its own."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _mode(target: Path) -> int:
    """The mode of the file that is replaced, or of any new file."""
    with suppress(OSError):
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
