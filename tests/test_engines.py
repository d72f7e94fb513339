"""Dialling MySQL and MariaDB: TLS where the server offers it, verified where that is asked for, and nothing read that
nobody needs."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

from monitor_cli import engines
from monitor_cli.db import Database
from monitor_cli.errors import DatabaseAway, MonitorError
from tests.support.certificates import self_signed
from tests.support.mariadb import MariaDB


class Server:
    """A MariaDB with TLS, and the certificate that verifies it."""

    def __init__(self, url: str, certificate: Path) -> None:
        self.url, self.certificate = url, certificate


@pytest.fixture(scope="module")
def server(mariadb: MariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    certificate = self_signed("127.0.0.1", tmp_path_factory.mktemp("tls"))
    options = [f"--ssl-cert={certificate}", f"--ssl-key={certificate}"]
    with MariaDB(options=options) as own:
        yield Server(own.create_database(), certificate)


def cipher(url: str, **options: str) -> str:
    """What a connection is encrypted with, '' for nothing."""
    database = Database(make_url(url).update_query_dict(options))
    try:
        with database.read() as conn:
            return str(conn.execute(text("SHOW STATUS LIKE 'Ssl_cipher'")).one()[1])
    finally:
        database.close()


def test_tls_is_used_where_the_server_offers_it(server: Server) -> None:
    assert cipher(server.url)


def test_no_certificate_authorities_are_read_where_nothing_is_verified(
    mariadb: MariaDB, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = mariadb.create_database()  # on a server that offers none
    read: list[object] = []
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda self, *_: read.append(self))
    assert cipher(server.url)
    assert not cipher(plain)
    assert read == []


def test_a_server_is_verified_where_that_is_asked_for(server: Server, tmp_path: Path) -> None:
    assert cipher(server.url, ssl_ca=str(server.certificate))
    (tmp_path / "other").mkdir()
    other = self_signed("127.0.0.1", tmp_path / "other")
    with pytest.raises(MonitorError, match="certificate verify failed"):
        cipher(server.url, ssl_ca=str(other))


def test_a_connection_that_died_while_it_rested_is_replaced(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was used a moment ago is taken for alive: its transaction fails as one does that loses it half way."""
    database, other = Database(server.url), Database(server.url)

    def die() -> None:
        with database.read() as conn:
            connection_id = conn.execute(text("SELECT CONNECTION_ID()")).scalar_one()
        with other.read() as conn:
            conn.execute(text(f"KILL {connection_id}"))

    def asks() -> int:
        with database.read() as conn:
            return int(conn.execute(text("SELECT 1")).scalar_one())

    try:
        die()
        with pytest.raises(DatabaseAway):
            asks()
        assert asks() == 1
        monkeypatch.setattr(engines, "_RESTED_SECONDS", 0.0)
        die()
        assert asks() == 1
    finally:
        database.close()
        other.close()


def test_a_transaction_that_failed_leaves_no_lock_in_the_pool(server: Server) -> None:
    database, other = Database(server.url), Database(server.url)
    try:
        with database.write() as conn:
            conn.execute(text("CREATE TABLE IF NOT EXISTS locked (id INT PRIMARY KEY) ENGINE=InnoDB"))
            conn.execute(text("REPLACE INTO locked VALUES (1)"))

        def work(conn: Connection) -> None:
            conn.execute(text("UPDATE locked SET id = 2"))
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            database.transact(work)
        with other.write() as conn:
            assert conn.execute(text("SELECT id FROM locked FOR UPDATE NOWAIT")).scalar_one() == 1
    finally:
        database.close()
        other.close()
