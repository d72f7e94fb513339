"""Dialling MySQL and MariaDB: TLS where the server offers it, verified where that is asked for, and nothing read that
nobody needs."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from monitor_cli.db import Database
from monitor_cli.errors import MonitorError
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
