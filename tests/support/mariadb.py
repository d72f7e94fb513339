"""A private MariaDB server: its own data directory, socket and port, nothing read from or left on the machine.

    with MariaDB() as server:
        url = server.create_database()      # mysql+pymysql://monitor:…@127.0.0.1:port/name

For tests, benchmarks and fault tests alike: start, stop, kill (-9), start again on the same port. Any number of
them may run at once. Durability is the default (every commit is flushed); only the buffers are small.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pymysql

from tests.support.ports import free_port

_PLACES = ("/usr/sbin", "/usr/libexec", "/usr/local/sbin", "/usr/local/libexec", "/usr/bin", "/usr/local/bin")
_SHARES = ("share/mysql", "share/mariadb")
_PR_SET_PDEATHSIG = 1


class MariaDBMissing(Exception):
    """There is no mariadbd on this machine; says what was looked for."""


def find(name: str = "mariadbd") -> str | None:
    """The path of a program of the server: PATH first, then where distributions hide it."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(_PLACES))


def _system_sql(mariadbd: str) -> list[Path]:
    """The scripts that make the system tables (what mariadb-install-db feeds to --bootstrap; that script itself needs
    my_print_defaults, which is in the client's package)."""
    roots = [Path(os.path.realpath(mariadbd)).parent.parent, Path("/usr"), Path("/usr/local")]
    for share in (root / share for root in roots for share in _SHARES):
        for prefix in ("mariadb", "mysql"):
            names = ("system_tables", "performance_tables", "system_tables_data")
            files = [share / f"{prefix}_{name}.sql" for name in names]
            if all(file.is_file() for file in files):
                return files
    return []


class MariaDB:
    """One server process with its data directory, made in `directory` (default: a new temporary one, removed by
    `close`). `options` are further options of mariadbd, the last one wins."""

    def __init__(
        self,
        directory: Path | None = None,
        *,
        buffer_pool: str = "64M",
        log_file: str = "32M",
        options: Sequence[str] = (),
    ) -> None:
        found = find("mariadbd") or find("mysqld")
        if found is None:
            raise MariaDBMissing("mariadbd is neither on PATH nor in " + ", ".join(_PLACES))
        self._program = found
        self._owned = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="monitor-mariadb-"))
        self._short = Path(tempfile.mkdtemp(prefix="mdb-", dir="/tmp"))  # a socket's path holds at most 107 bytes
        self.socket = self._short / "s"
        self.port = 0
        self.user, self.password = "monitor", secrets.token_hex(12)
        self._sizes = [f"--innodb-buffer-pool-size={buffer_pool}", f"--innodb-log-file-size={log_file}"]
        self._options = list(options)
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = 0

    # --- life -----------------------------------------------------------------------------------------------------

    def __enter__(self) -> MariaDB:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The server's process id, 0 when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "mariadbd.log"

    def start(self, timeout: float = 120) -> MariaDB:
        """Start (the first time: initialise) and wait until it answers; the port stays the same over restarts."""
        first = not (self.data / "mysql").is_dir()
        if first:
            self._initialise()
        for _ in range(20):
            port = self.port or free_port()
            self._spawn(port)
            if self._answers(timeout, first):
                self.port = port
                return self
            self.stop()
            if b"in use" not in self.log.read_bytes()[-4000:] or self.port:
                break
        raise RuntimeError(f"mariadbd did not start:\n{self.log.read_text(errors='replace')[-3000:]}")

    def stop(self, timeout: float = 60) -> None:
        """Shut down in order; killed where that takes longer than `timeout` seconds."""
        self._end(signal.SIGTERM, timeout)

    def kill(self) -> None:
        """SIGKILL, as if the host had died; `start` recovers."""
        self._end(signal.SIGKILL, 30)

    def restart(self) -> MariaDB:
        self.stop()
        return self.start()

    def close(self) -> None:
        """Stop and remove everything that this object made."""
        self._end(signal.SIGKILL if self._owned else signal.SIGTERM, 60)
        shutil.rmtree(self._short, ignore_errors=True)
        if self._owned:
            shutil.rmtree(self.directory, ignore_errors=True)

    # --- databases ------------------------------------------------------------------------------------------------

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database on this server."""
        return f"mysql+pymysql://{self.user}:{self.password}@127.0.0.1:{self.port}/{database}?charset=utf8mb4"

    def create_database(self, name: str | None = None) -> str:
        """Make an empty database (unique name by default) and give its URL."""
        self._numbers += 1
        name = name or f"t{self._numbers}_{secrets.token_hex(4)}"
        self.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        name = url.rpartition("/")[2].partition("?")[0]
        self.execute(f"DROP DATABASE IF EXISTS `{name}`")

    def execute(self, *statements: str, database: str | None = None) -> list[tuple[object, ...]]:
        """Run statements as an administrator; the rows of the last one."""
        connection = self._connect("root", self.password, database)
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()

    # --- how ------------------------------------------------------------------------------------------------------

    def _initialise(self) -> None:
        self.data.mkdir(mode=0o700, parents=True)
        if files := _system_sql(self._program):
            script = b"CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\n"
            script += b"SET @skip_auth_anonymous=1;\n" + b"\n".join(file.read_bytes() for file in files)
            args = [*self._command(), "--bootstrap", "--log-warnings=0", "--enforce-storage-engine="]
            done = subprocess.run(args, input=script, capture_output=True, timeout=300, check=False)
        else:
            install = find("mariadb-install-db") or find("mysql_install_db")
            if install is None:
                raise MariaDBMissing("mariadbd is here, but neither its system tables' scripts nor mariadb-install-db")
            args = [install, *self._command()[1:], "--auth-root-authentication-method=normal", "--skip-test-db"]
            done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, timeout=300, check=False)
        if done.returncode or not (self.data / "mysql").is_dir():
            words = (done.stdout + done.stderr).decode(errors="replace")[-3000:]
            raise RuntimeError(f"the system tables could not be made ({done.returncode}):\n{words}")

    def _command(self) -> list[str]:
        as_root = ["--user=root"] if os.geteuid() == 0 else []
        return [
            self._program,
            "--no-defaults",
            *as_root,
            f"--datadir={self.data}",
            *self._sizes,
            f"--tmpdir={self._short}",
        ]

    def _spawn(self, port: int) -> None:
        args = [
            *self._command(),
            f"--socket={self.socket}",
            f"--pid-file={self._short / 'pid'}",
            f"--port={port}",
            "--bind-address=127.0.0.1",
            "--skip-log-bin",
            "--skip-name-resolve",
            "--innodb-buffer-pool-dump-at-shutdown=0",
            "--key-buffer-size=1M",
            "--aria-pagecache-buffer-size=8M",
            "--max-connections=400",
            "--back-log=400",
            *self._options,
        ]
        # The server ends with us, however we end; the kernel ties that to the thread that started it, so only in the
        # main one.
        tied = threading.current_thread() is threading.main_thread()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                args,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent if tied else None,
                start_new_session=True,  # Ctrl-C is for pytest, which then stops us in order
            )

    def _answers(self, timeout: float, first: bool) -> bool:
        end = time.monotonic() + timeout
        while time.monotonic() < end and self.pid:
            try:
                self._connect("root", "" if first else self.password, None).close()
            except pymysql.err.OperationalError as error:
                if error.args[0] == 1045 and first:  # an earlier start got as far as the password
                    first = False
                time.sleep(0.05)
                continue
            if first:
                self._secure()
            return True
        return False

    def _secure(self) -> None:
        connection = self._connect("root", "", None)
        with connection.cursor() as cursor:
            cursor.execute("SELECT user, host FROM mysql.user WHERE user='root' AND host<>'localhost'")
            for user, host in cursor.fetchall():
                cursor.execute("DROP USER %s@%s", (user, host))
            cursor.execute("CREATE OR REPLACE USER %s@'%%' IDENTIFIED BY %s", (self.user, self.password))
            cursor.execute("GRANT ALL ON *.* TO %s@'%%' WITH GRANT OPTION", (self.user,))
            cursor.execute("ALTER USER root@localhost IDENTIFIED BY %s", (self.password,))
        connection.close()

    def _connect(self, user: str, password: str, database: str | None) -> pymysql.connections.Connection:  # type: ignore[type-arg]
        return pymysql.connect(
            unix_socket=str(self.socket),
            user=user,
            password=password,
            database=database,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=10,
        )

    def _end(self, how: signal.Signals, timeout: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.send_signal(how)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
