"""A private Galera cluster: MariaDB nodes on loopback, each with its own directory, socket and ports.

    with Galera(nodes=3) as cluster:
        url = cluster.create_database()             # on the first node
        cluster.nodes[1].url(name)                  # the same database through another
        cluster.nodes[2].kill()
        for _ in cluster.nodes[2].rejoining(): …    # yields while it waits

Needs Debian's galera-4 beside mariadb-server-core; a whole state comes by sst/wsrep_sst_copy. Durability
and the group's time-outs are the defaults; nothing is read from, or left on, the machine.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pymysql

from tests.support.mariadb import MariaDB
from tests.support.ports import free_port

PROVIDERS = tuple(f"/usr/{place}/libgalera_smm.so" for place in ("lib/galera", "lib64/galera-4", "lib64/galera"))
_SST = Path(__file__).resolve().parent / "sst"
_POSITION = re.compile(rb"Recovered position:\s*(\S+:-?\d+)")


class GaleraMissing(Exception):
    """There is no Galera library on this machine; says what was looked for."""


def provider() -> str:
    """The path of Galera's library. Raises GaleraMissing."""
    for path in PROVIDERS:
        if Path(path).is_file():
            return path
    raise GaleraMissing("libgalera_smm.so is in none of " + ", ".join(PROVIDERS))


class Node(MariaDB):
    """One node. `start` is not for it: `found` begins a cluster, `rejoining` joins one."""

    def __init__(self, number: int, directory: Path, options: Sequence[str]) -> None:
        super().__init__(directory, buffer_pool="96M", log_file="64M")
        self.number = number
        self._port_of_group, self._port_of_ist = free_port(), free_port()
        self.port = free_port()
        self._extra = list(options)

    @property
    def group(self) -> str:
        return f"127.0.0.1:{self._port_of_group}"

    def join_group(self, members: Sequence[str], credentials: tuple[str, str]) -> None:
        """Say who the members of the cluster are, by their group addresses, and what the users' password is."""
        self.user, self.password = credentials
        self._wsrep = [
            "--wsrep-on=ON",
            f"--wsrep-provider={provider()}",
            "--wsrep-cluster-name=monitor-cli-tests",
            f"--wsrep-cluster-address=gcomm://{','.join(members)}",
            f"--wsrep-node-name=node{self.number}",
            "--wsrep-node-address=127.0.0.1",
            "--wsrep-sst-method=copy",
            "--wsrep-sst-receive-address=127.0.0.1:1",
            "--wsrep-slave-threads=4",
            f"--wsrep-provider-options=gmcast.listen_addr=tcp://{self.group};"
            f"ist.recv_addr=127.0.0.1:{self._port_of_ist};gcache.size=64M",
            "--binlog-format=ROW",
            "--innodb-autoinc-lock-mode=2",
            *self._extra,
        ]

    def found(self, timeout: float = 120) -> None:
        """Begin the cluster."""
        self._initialise()
        self._options = [*self._wsrep, "--wsrep-new-cluster"]
        self._spawn(self.port)
        if not self._answers(timeout, True):
            raise RuntimeError(f"the first node did not start:\n{self._said()}")

    def rejoining(self, timeout: float = 120) -> Iterator[None]:
        """Join, or join again after `kill`; yields while it waits. It gets what it missed (IST), or everything (SST)
        where it is too old, or was emptied."""
        end = time.monotonic() + timeout
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        position: list[str] = []
        if (self.data / "grastate.dat").is_file():  # galera_recovery of the distributions' units
            log = self.directory / "recovery.log"
            with log.open("wb") as file:
                command = [*self._command(), *self._wsrep, "--wsrep-recover", f"--socket={self.socket}-recover"]
                recovery = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
            try:
                while recovery.poll() is None and time.monotonic() < end:
                    time.sleep(0.02)
                    yield
            finally:
                recovery.kill()
                recovery.wait(30)
            if found := _POSITION.findall(log.read_bytes()):
                position = [f"--wsrep-start-position={found[-1].decode()}"]
        self._options = [*self._wsrep, *position]
        self._spawn(self.port)
        while not self.ready():
            if time.monotonic() >= end or not self.pid:
                raise RuntimeError(f"node {self.number} did not join:\n{self._said()}")
            time.sleep(0.02)
            yield

    def ready(self) -> bool:
        """Whether it takes part: in the primary component, with everything that came before."""
        with suppress(pymysql.err.Error):
            return self.status("wsrep_local_state_comment") == "Synced" and self.status("wsrep_ready") == "ON"
        return False

    def status(self, name: str) -> str:
        """A status variable."""
        return str(self.execute(f"SHOW GLOBAL STATUS LIKE '{name}'")[0][1])

    def empty(self) -> None:
        """Lose the disk of a node that is down: it will need everything."""
        shutil.rmtree(self.data)

    def snapshots(self) -> int:
        """How many times it received everything (SST) so far."""
        file = self.directory / "snapshots"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def _spawn(self, port: int) -> None:
        before = os.environ["PATH"]
        os.environ["PATH"] = f"{_SST}{os.pathsep}{before}"  # where the server looks for wsrep_sst_copy
        try:
            super()._spawn(port)
        finally:
            os.environ["PATH"] = before

    def _said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


class Galera:
    """Several nodes on loopback; `options` are further options of each mariadbd."""

    def __init__(self, nodes: int = 3, *, options: Sequence[str] = ()) -> None:
        provider()
        self.directory = Path(tempfile.mkdtemp(prefix="monitor-galera-"))
        self.nodes = [Node(n, self.directory / f"node{n}", options) for n in range(nodes)]
        members = [node.group for node in self.nodes]
        credentials = "monitor", secrets.token_hex(12)
        for node in self.nodes:
            node.directory.mkdir()
            node.join_group(members, credentials)

    def __enter__(self) -> Galera:
        try:
            self.nodes[0].found()
            for node in self.nodes[1:]:
                for _ in node.rejoining():
                    pass
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def create_database(self) -> str:
        """Make an empty database; gives its name."""
        return self.nodes[0].create_database().rpartition("/")[2].partition("?")[0]

    def close(self) -> None:
        for node in self.nodes:
            node.kill()
        for node in self.nodes:
            node.close()
        shutil.rmtree(self.directory, ignore_errors=True)
