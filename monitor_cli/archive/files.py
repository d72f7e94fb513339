"""The files of an archive: compressed JSON Lines, one a day and table, each with its SHA-256 beside it.

    change-2026-08-27.jsonl.gz          change-2026-08-27.jsonl.gz.sha256     (as `sha256sum -c` reads it)
    change-2026-08-27.2.jsonl.gz        a second one, where rows of that day came later

A file is written under another name, synced, and gets its own name last; its checksum is there before it. So what has
its own name is whole, whenever the machine stops. A name that is taken is never taken again, by whomever.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import logging
import os
import re
import secrets
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO, NamedTuple

from monitor_cli.errors import ConfigError, MonitorError, OutsideError
from monitor_cli.store.archivable import Day
from monitor_cli.wholefile import sync_directory

log = logging.getLogger(__name__)

_SUM = ".sha256"
_TEMPORARY = re.compile(r"\.[a-z]+-\d{4}-\d\d-\d\d(\.\d+)?\.jsonl\.gz(\.sha256)?\.[0-9a-f]{16}\.tmp")
_OWN = re.compile(r"[a-z]+-\d{4}-\d\d-\d\d(\.\d+)?\.jsonl\.gz\.sha256")
_LEFT_BEHIND_SECONDS = 3600  # what a killed run left; a running one writes all the time
_MINE = 0o600  # customers' data
_PIECE = 1 << 16
LONGEST_LINE = 16 << 20  # no row is longer; a few bytes of gzip may be gigabytes
# What to mend in the configuration; everything else (a full disk above all) may be better at the next run.
_OUR_FAULT = {errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENOENT, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG}


class Damaged(MonitorError):
    """A file is not as it was written."""


class Written(NamedTuple):
    """A file that is there for good, and how many rows it has."""

    path: Path
    rows: int


# --- writing ----------------------------------------------------------------------------------------------------------


def write(directory: Path, day: Day, lines: Iterable[bytes]) -> Written | None:
    """Write a file of these lines, synced; None where there are none. Raises OutsideError (75) where the disk is full
    or fails, ConfigError (78) where the directory cannot be used; then nothing is left of it."""
    try:
        _make(directory)
        return _write(directory, day, lines)
    except OSError as error:
        raise _told(error, directory) from error


def next_path(directory: Path, day: Day) -> Path:
    """The name that the next file of a day gets."""
    return next(path for path in _names(directory, day) if not _is_taken(path))


def tidy(directory: Path, now: float | None = None) -> None:
    """Remove what killed runs left: files that have no name of their own yet, checksums without a file."""
    limit = (time.time() if now is None else now) - _LEFT_BEHIND_SECONDS
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        for path in sorted(directory.iterdir()):
            alone = _OWN.fullmatch(path.name) and not path.with_name(path.name.removesuffix(_SUM)).exists()
            if (alone or _TEMPORARY.fullmatch(path.name)) and path.lstat().st_mtime < limit:
                path.unlink(missing_ok=True)


def _write(directory: Path, day: Day, lines: Iterable[bytes]) -> Written | None:
    rest = iter(lines)
    first = next(rest, None)
    if first is None:
        return None
    temporary = _temporary(next_path(directory, day))
    try:
        with _Hashed(temporary) as raw:
            rows = _compress(raw, first, rest)
        for path in _names(directory, day):
            if not _is_taken(path) and _publish(temporary, path, raw.digest):
                return Written(path, rows)
        raise AssertionError("unreachable")
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _compress(raw: _Hashed, first: bytes, rest: Iterable[bytes]) -> int:
    rows = 1
    # Neither a name nor a time in its head: the same rows are the same bytes.
    with gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0) as packed:
        packed.write(first + b"\n")
        for line in rest:
            packed.write(line + b"\n")
            rows += 1
    return rows


class _Hashed:
    """A new file that is ours alone, its SHA-256 reckoned as it is written, synced when it is closed."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MINE), "wb")
        self._sum = hashlib.sha256()

    @property
    def digest(self) -> str:
        return self._sum.hexdigest()

    def write(self, data: bytes) -> int:
        self._sum.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def __enter__(self) -> _Hashed:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            with suppress(OSError):  # what it could not write before, it cannot write now
                self._file.close()
            return
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())


def _publish(temporary: Path, path: Path, digest: str) -> bool:
    """Give a file its name, its checksum first; False where another had the name before."""
    summed = _temporary(_sum_of(path))
    try:
        with _Hashed(summed) as raw:
            raw.write(f"{digest}  {path.name}\n".encode())
        if not _name(summed, _sum_of(path)):
            return False
        sync_directory(path.parent)
        if not _name(temporary, path):
            return False
        sync_directory(path.parent)
        return True
    finally:
        with suppress(OSError):
            summed.unlink(missing_ok=True)


def _name(temporary: Path, path: Path) -> bool:
    """Give a file a name that nobody has; where the file system cannot do that in one step, in two."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL):
            raise
        if path.exists():
            return False
        temporary.rename(path)
    return True


def _make(directory: Path) -> None:
    missing = [path for path in (directory, *directory.absolute().parents) if not path.exists()]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in missing:
        sync_directory(path.absolute().parent)


def _names(directory: Path, day: Day) -> Iterator[Path]:
    return (directory / f"{day.table}-{day.date}{'' if n == 1 else f'.{n}'}.jsonl.gz" for n in count(1))


def _sum_of(path: Path) -> Path:
    return path.with_name(path.name + _SUM)


def _is_taken(path: Path) -> bool:
    return os.path.lexists(path) or os.path.lexists(_sum_of(path))


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def _told(error: OSError, directory: Path) -> MonitorError:
    words = f"the archive {directory}: {error.strerror or error}"
    if error.errno in _OUR_FAULT:
        return ConfigError(words, "check archive_dir or --to, and who may write there")
    return OutsideError(f"{words}; nothing that was not yet written was deleted", "make room, then run it again")


# --- reading ----------------------------------------------------------------------------------------------------------


def good(directory: Path, day: Day) -> list[Path]:
    """The files of a day that are there and whole. One that is not is warned of, and does not count."""
    name = re.compile(rf"{day.table}-{day.date}(?:\.(\d+))?\.jsonl\.gz")
    try:
        entries = sorted(directory.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _told(error, directory) from error
    found = []
    for path in entries:
        if name.fullmatch(path.name):
            try:
                check(path)
            except MonitorError as error:
                log.warning("archive.damaged", extra={"facts": {"file": str(path), "reason": error.message}})
            else:
                found.append(path)
    return found


def check(path: Path) -> None:
    """Raise Damaged unless a file is the one that its checksum was made of."""
    try:
        told = _sum_of(path).read_bytes()[:64].decode("ascii", "replace")
    except FileNotFoundError:
        raise Damaged(
            f"{path}: its checksum {_sum_of(path).name} is not beside it", "copy both: an archive is two files"
        ) from None
    except OSError as error:
        raise Damaged(f"{_sum_of(path)}: {error.strerror}") from None
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
    except OSError as error:
        raise Damaged(f"{path}: {error.strerror}") from None
    if digest.hexdigest() != told:
        raise Damaged(f"{path}: it is damaged, its SHA-256 is not the one beside it", "fetch it from a backup")


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, without their ends. Raises Damaged where it cannot be unpacked, or a line has no end."""
    try:
        with gzip.open(path, "rb") as packed:
            while line := packed.readline(LONGEST_LINE + 1):
                if len(line) > LONGEST_LINE:
                    raise Damaged(
                        f"{path}: a line has more than {LONGEST_LINE} bytes", "is it a file that archive wrote?"
                    )
                yield line.removesuffix(b"\n")
    except (EOFError, zlib.error, OSError) as error:
        raise Damaged(f"{path}: it cannot be unpacked: {error}") from None
