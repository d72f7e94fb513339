"""Token buckets in memory that all workers on this host share: bounded in size, without a lock, whoever dies when.

A bucket is one number, the time at which it will be full again (GCRA, the "virtual scheduling" form of ITU-T I.371), so
that no kill can leave half of one. Two workers that take from one bucket in the same microsecond may take one token
between them; a limit is no bank account. Where a table is full, a new one takes the place of the one nearest to full.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

TABLES = 4  # what is counted apart: keys, addresses, …
_WAYS = 4  # buckets that a name may be in: one cache line
_SETS = 16_384  # of each table
_ENTRY = 16
_TABLE = _SETS * _WAYS * _ENTRY
_HEAD = 4096
_SIZE = _HEAD + TABLES * _TABLE
_MAGIC = b"monitor-cli buckets 1\n"
_SECRET = slice(64, 96)
_LATE_NS = 1_000_000_000  # how much older than another worker's clock reading ours may be
_TRIES = 20


class Rate(NamedTuple):
    """How fast a bucket fills: nanoseconds for a token, and for all of them."""

    token: int
    full: int

    @classmethod
    def of(cls, per_second: float, burst: float) -> Rate | None:
        """None where one of the two is 0: no limit."""
        if not per_second or not burst:
            return None
        token = max(1, round(1e9 / per_second))
        return cls(token, round(token * max(1.0, burst)))


class Buckets:
    """The tables in `memory`. Times are time.monotonic_ns(), which all processes of a host share; waits are
    nanoseconds, 0 where there is a token."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._secret = bytes(memory[_SECRET])
        self._words = memoryview(memory)[_HEAD:].cast("Q")

    def name(self, text: bytes) -> int:
        """The name of a bucket for what an attacker may choose: nobody can tell which ones would share a place."""
        return int.from_bytes(hashlib.blake2b(text, digest_size=8, key=self._secret).digest(), "little") or 1

    def wait(self, table: int, name: int, rate: Rate, now: int) -> int:
        """How long until `take` would be granted; takes nothing."""
        at = self._find(table, name)[0]
        return 0 if at < 0 else max(0, _full_at(self._words[at + 1], rate, now) - now - rate.full + rate.token)

    def take(self, table: int, name: int, rate: Rate, now: int) -> int:
        """Take a token: 0, or how long until there is one."""
        for _ in range(_TRIES):
            at, free, occupant = self._find(table, name)
            seen = 0 if at < 0 else self._words[at + 1]
            full_at = _full_at(seen, rate, now)
            wait = full_at - now - rate.full + rate.token
            if wait > 0:
                return wait
            # Items of a cast memoryview are written in one piece, where struct.pack_into writes zeros first.
            # Where another worker was quicker, the tokens that it took must not be given back.
            if at < 0 and self._words[free] == occupant:
                self._words[free + 1] = full_at + rate.token
                self._words[free] = name
                return 0
            if at >= 0 and self._words[at + 1] == seen:
                self._words[at + 1] = full_at + rate.token
                return 0
        return 0

    def _find(self, table: int, name: int) -> tuple[int, int, int]:
        """Where the bucket is (-1: nowhere), and the place that a new one would get, with whose it is now."""
        start = (table * _SETS + name % _SETS) * _WAYS * 2
        row = self._words[start : start + _WAYS * 2].tolist()
        for way in range(0, _WAYS * 2, 2):
            if row[way] == name:
                return start + way, -1, name
        times = row[1::2]
        way = 2 * times.index(min(times))
        return -1, start + way, row[way]


def _full_at(seen: int, rate: Rate, now: int) -> int:
    """When a bucket is full by what stands in it."""
    # Later than any token taken now could make it: from before a reboot, or under another rate.
    return now if seen > now + rate.full + _LATE_NS else max(seen, now)


class Table:
    """The shared memory itself: a file of this user in memory (else in the temporary directory), found by all workers
    by its name, removed by the last one that ends in order. `shared` says whether others can see it; `reason` why not.
    """

    def __init__(self, name: str) -> None:
        self.reason: str | None = None
        self._path = _directory() / f"monitor-cli-{os.geteuid()}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        self._file = -1
        try:
            self._file = _open(self._path)
            memory = mmap.mmap(self._file, _SIZE)
        except (OSError, ValueError) as error:
            self.close()
            self.reason = f"{self._path}: {getattr(error, 'strerror', None) or error}"
            memory = mmap.mmap(-1, _SIZE)
            memory[:_HEAD] = _head()
        self.buckets = Buckets(memory)

    @property
    def shared(self) -> bool:
        return self.reason is None

    def close(self) -> None:
        """Let go of the file, and remove it where nobody else holds it. The buckets go on working."""
        if self._file < 0:
            return
        with suppress(OSError):
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(self._file, self._path):
                self._path.unlink()
        os.close(self._file)
        self._file = -1


def sweep_tables() -> None:
    """Remove this user's tables that nobody holds: killed processes left them."""
    for path in _directory().glob(f"monitor-cli-{os.geteuid()}-" + "[0-9a-f]" * 16):
        with suppress(OSError):
            file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(file).st_uid == os.geteuid() and _is_at(file, path):
                    path.unlink()
            finally:
                os.close(file)


def _directory() -> Path:
    shared = Path("/dev/shm")
    return shared if shared.is_dir() else Path(tempfile.gettempdir())


def _head() -> bytes:
    head = bytearray(_HEAD)
    head[: len(_MAGIC)] = _MAGIC
    head[_SECRET] = secrets.token_bytes(32)
    return bytes(head)


def _open(path: Path) -> int:
    """A descriptor of the file, complete and held (shared lock), made where it is not there. Raises OSError,
    ValueError where it is not ours."""
    for _ in range(_TRIES):
        try:
            file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            _make(path)
            continue
        try:
            _check_owner(file)  # before the lock, which another user could hold for ever
            fcntl.flock(file, fcntl.LOCK_SH)
            if _is_at(file, path):  # else its last holder removed it meanwhile
                _check_content(file)
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)
    raise OSError("it is made and removed all the time")


def _make(path: Path) -> None:
    """Put a new file there, complete from the first moment; somebody else's is as good."""
    file, temporary = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        os.write(file, _head())
        os.ftruncate(file, _SIZE)
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.close(file)
        os.unlink(temporary)


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _check_owner(file: int) -> None:
    """Another user may have put a file there (the directory is everybody's): it must be ours alone."""
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise ValueError("it belongs to another user, or others may open it")


def _check_content(file: int) -> None:
    if os.fstat(file).st_size != _SIZE or os.pread(file, len(_MAGIC), 0) != _MAGIC:
        raise ValueError("it is not a table of ours; remove it")
