"""Reading a source over real HTTP: what bounds it, and the one line that says what went wrong."""

from __future__ import annotations

import gzip
import json
import ssl
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor_cli import sources
from monitor_cli.config import Source
from monitor_cli.errors import SourceError
from monitor_cli.providers.shape import NotThere
from monitor_cli.sources import Fetcher, File, read, shown
from tests.support.certificates import self_signed
from tests.support.http import Answer, Receiver, StatusPage

DOCUMENT = {"page": {"id": "p"}, "components": [{"id": "abc", "name": "A", "status": "major_outage"}]}
BODY = json.dumps(DOCUMENT).encode()
PATH = "/api/v2/summary.json"


def source(url: str, **more: Any) -> Source:
    return Source(**{"name": "main", "url": url, "timeout": 20.0, **more})


def failure(url: str, **more: Any) -> str:
    """The words of the SourceError that reading gives."""
    with pytest.raises(SourceError) as caught:
        read(source(url, **more))
    assert "\n" not in caught.value.message
    return caught.value.message


# --- what works -------------------------------------------------------------------------------------------------------


def test_reads_a_page_by_its_address_and_by_its_documents(status_page: StatusPage) -> None:
    status_page.serve(PATH, DOCUMENT)
    status_page.serve("/", b"<!DOCTYPE html><p>for people", content_type="text/html")
    for url in (status_page.url("/"), status_page.url(""), status_page.url(PATH)):
        (component,) = read(source(url))
        assert (component.id, component.word) == ("abc", "major_outage")
    (request, *_) = status_page.requests
    assert request.header("User-Agent").startswith("monitor-cli/")
    assert request.header("Accept-Encoding") == "gzip"


def test_sends_the_headers_of_the_source(status_page: StatusPage) -> None:
    status_page.serve(PATH, DOCUMENT)
    read(source(status_page.url("/"), headers={"X-Key": "k"}))
    assert status_page.requests[0].header("X-Key") == "k"


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(BODY),
        gzip.compress(BODY[:20]) + gzip.compress(BODY[20:]),  # RFC 1952: members one after another
    ],
    ids=["a member", "two members"],  # the bytes have the time in them
)
@pytest.mark.parametrize("chunked", [True, False])
def test_gzip(status_page: StatusPage, body: bytes, chunked: bool) -> None:
    status_page.serve(PATH, body, headers=[("Content-Encoding", "gzip")], chunked=chunked)
    assert len(read(source(status_page.url("/")))) == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings_of_json(status_page: StatusPage, encoding: str) -> None:
    status_page.serve(PATH, json.dumps(DOCUMENT).encode(encoding))
    assert len(read(source(status_page.url("/")))) == 1


def test_files() -> None:
    (component,) = read(Source(name="f"), [File("f.json", BODY)])
    assert component.id == "abc"
    with pytest.raises(SourceError, match=r"^f\.json: it is JSON, but no document"):
        read(Source(name="f"), [File("f.json", b"[]")])


# --- what is broken ---------------------------------------------------------------------------------------------------

HTML = b"<!DOCTYPE html><html><body>Just a moment"


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        ({"status": 500}, "answered HTTP 500 Internal Server Error"),
        ({"status": 503}, "answered HTTP 503 Service Unavailable"),
        ({"status": 429}, "answered HTTP 429 Too Many Requests"),
        ({"status": 401}, "answered HTTP 401 Unauthorized"),
        (
            {"status": 429, "headers": [("Retry-After", "120")]},
            "answered HTTP 429 Too Many Requests, asks to wait 120 s",
        ),
        ({"status": 204}, "answered HTTP 204 No Content"),
        ({"status": 206}, "answered HTTP 206 Partial Content"),
        ({"status": 304}, "answered HTTP 304 Not Modified"),
        ({"document": HTML}, "the answer is HTML, not JSON"),
        ({"document": b"<?xml version='1.0'?><rss/>"}, "the answer is XML, not JSON"),
        ({"document": b""}, "the document is empty"),
        ({"document": b" \n"}, "the document is empty"),
        ({"document": BODY[:-2]}, "the answer is not JSON, or not all of it"),
        ({"document": b"\xff\xfe\xfd"}, "the answer is not JSON"),
        ({"document": b"9" * 5000}, "the answer is not JSON that can be read"),
        ({"document": b"[" * 200_000}, "nested too deeply"),
        ({"document": b'{"a":' * 200_000}, "nested too deeply"),
        ({"document": []}, "it is JSON, but no document of a status page that is known"),
        ({"document": {"page": {}, "components": {}}}, "it is JSON, but no document of a status page"),
        ({"document": {"page": {}, "components": [{"id": 1}]}}, "component 1 of its list has no id that is text"),
        ({"document": {"incidents": []}}, "it has no list of components: give the page's /api/v2/summary.json"),
        ({"document": BODY, "truncate": 30}, "the answer ended early"),
        ({"document": BODY, "truncate": 30, "chunked": True}, "the answer ended early"),
        ({"document": BODY, "drop": "after"}, "cannot be reached: Connection reset by peer"),
        ({"raw": b""}, "the connection was closed without an answer"),
        ({"raw": b"220 smtp.example ESMTP\r\n"}, "gave no proper HTTP answer"),
        ({"raw": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"}, "gave no proper HTTP answer"),
        ({"document": BODY, "headers": [("Content-Encoding", "gzip")]}, "is not the gzip that it says"),
        ({"document": gzip.compress(BODY)[:-9], "headers": [("Content-Encoding", "gzip")]}, "ended early"),
        ({"document": b"", "headers": [("Content-Encoding", "gzip")]}, "ended early"),
        ({"document": BODY, "headers": [("Content-Encoding", "br")]}, "Content-Encoding 'br', which was not asked"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_broken_source_is_one_line_with_where_and_why(
    status_page: StatusPage, serve: dict[str, Any], words: str
) -> None:
    url = status_page.serve(PATH, **serve)
    message = failure(url)
    assert message.startswith(f"{url}: ")
    assert words in message


def test_nobody_there(status_page: StatusPage) -> None:
    status_page.stop()
    assert failure(status_page.url(PATH)) == f"{status_page.url(PATH)}: cannot be reached: Connection refused"
    assert failure("http://nowhere.example/") == (
        "http://nowhere.example/api/v2/summary.json: its name does not resolve"
    )


@pytest.mark.parametrize("url", ["http://[::1", "http://a b/", "http://127.0.0.1:99999/x.json", "http://*.a/"])
def test_what_is_no_url(url: str) -> None:
    message = failure(url)
    assert "URL" in message or "resolve" in message


def test_no_password_and_no_query_in_messages(status_page: StatusPage) -> None:
    url = f"http://user:secret@127.0.0.1:{status_page.port}/x.json?key=secret"
    assert failure(url) == f"http://127.0.0.1:{status_page.port}/x.json?…: answered HTTP 404 Not Found"
    assert status_page.requests[0].header("Authorization").startswith("Basic ")
    assert shown("http://[") == "the URL"


def test_absent_is_told_apart(status_page: StatusPage) -> None:
    with Fetcher(source(status_page.url("/"))) as fetcher, pytest.raises(NotThere):
        fetcher.get(status_page.url("/nothing"))


# --- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [True, False])
def test_a_document_over_the_limit(status_page: StatusPage, monkeypatch: pytest.MonkeyPatch, chunked: bool) -> None:
    url = status_page.serve(PATH, b"[" + b" " * sources.LIMIT + b"]", chunked=chunked)
    assert failure(url) == f"{url}: the document is larger than 32 MiB"


def test_a_gzip_bomb_is_stopped_at_the_limit(status_page: StatusPage) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(b" " * 2**20) for _ in range(256)) + packer.flush()  # 256 MiB in 256 KB
    url = status_page.serve(PATH, bomb, headers=[("Content-Encoding", "gzip")])
    started = time.monotonic()
    assert failure(url) == f"{url}: the document is larger than 32 MiB"
    assert time.monotonic() - started < 10


def test_the_limit_itself_is_allowed(status_page: StatusPage) -> None:
    url = status_page.serve(PATH, BODY)
    with Fetcher(source(url), limit=len(BODY)) as fetcher:
        assert fetcher.fetch(url) == BODY
    with Fetcher(source(url), limit=len(BODY) - 1) as fetcher, pytest.raises(SourceError, match="larger"):
        fetcher.fetch(url)


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "serve",
    [
        {"delay": 60},
        {"drip": 0.05},
        {"drip": 0.05, "drip_body_only": True},
        {"drip": 0.05, "drip_body_only": True, "chunked": True},
    ],
    ids=["silent", "headers", "body", "chunks"],
)
def test_the_deadline_is_total(status_page: StatusPage, serve: dict[str, Any]) -> None:
    url = status_page.serve(PATH, b" " * 10_000 + BODY, **serve)
    started = time.monotonic()
    assert failure(url, timeout=0.5) == f"{url}: not read within 0.5 s"
    assert time.monotonic() - started < 5


def test_the_deadline_is_one_over_several_requests(status_page: StatusPage) -> None:
    status_page.serve("/a", status=302, headers=[("Location", "/b")], delay=0.4)
    status_page.serve("/b", status=302, headers=[("Location", "/c")], delay=0.4)
    status_page.serve("/c", BODY, delay=0.4)
    assert "not read within 0.6 s" in failure(status_page.url("/a"), timeout=0.6)


def test_a_name_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr("urllib3.util.connection.socket.getaddrinfo", lambda *_, **__: release.wait(30) and [])
    assert "not read within 0.3 s" in failure("http://slow.example/x.json", timeout=0.3)
    release.set()


def test_what_was_cut_off_leaves_no_connection(status_page: StatusPage) -> None:
    url = status_page.serve(PATH, BODY, drip=0.05)
    failure(url, timeout=0.3)
    end = time.monotonic() + 10
    while status_page._connections and time.monotonic() < end:
        time.sleep(0.05)
    assert not status_page._connections


# --- redirects --------------------------------------------------------------------------------------------------------


def chain(status_page: StatusPage, length: int) -> str:
    for n in range(length):
        status_page.serve(f"/{n}", status=(301, 302, 303, 307, 308)[n % 5], headers=[("Location", f"/{n + 1}")])
    status_page.serve(f"/{length}", BODY)
    return status_page.url("/0")


def test_three_redirects_are_followed_and_a_fourth_is_not(status_page: StatusPage) -> None:
    assert len(read(source(chain(status_page, 3)))) == 1
    assert "more than 3 redirects" in failure(chain(status_page, 4))


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://127.0.0.1:99999/", "http://["])
def test_redirects_that_are_refused(status_page: StatusPage, target: str) -> None:
    url = status_page.serve("/x.json", status=302, headers=[("Location", target)])
    assert failure(url) == f"{url}: redirects to something that is no http or https URL"


def test_a_key_is_not_sent_to_another_origin(status_page: StatusPage) -> None:
    with StatusPage() as other:
        other.serve("/y.json", BODY)
        status_page.serve("/x.json", status=302, headers=[("Location", "/z.json")])
        status_page.serve("/z.json", status=302, headers=[("Location", other.url("/y.json"))])
        url = f"http://user:pw@127.0.0.1:{status_page.port}/x.json"
        read(source(url, headers={"X-Key": "k"}))
        assert [r.header("X-Key") for r in status_page.requests] == ["k", "k"]
        (elsewhere,) = other.requests
        assert elsewhere.header("X-Key") is None
        assert elsewhere.header("Authorization") is None


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 with its key, in one file."""
    return self_signed("127.0.0.1", tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls_page(certificate: Path) -> Iterator[StatusPage]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with StatusPage(tls=context) as server:
        yield server


def test_tls_is_verified(tls_page: StatusPage, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = tls_page.serve(PATH, BODY)
    assert failure(url).startswith(f"{url}: its certificate is refused: ")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert len(read(source(url))) == 1
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")
    assert failure(url).startswith(f"{url}: ")


def test_https_never_goes_down_to_http(
    tls_page: StatusPage, status_page: StatusPage, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    below = status_page.serve(PATH, BODY)
    url = tls_page.serve("/x.json", status=302, headers=[("Location", below)])
    assert failure(url) == f"{url}: redirects from https down to {below}"
    assert status_page.requests == []
    up = status_page.serve("/up.json", status=302, headers=[("Location", tls_page.serve(PATH, BODY))])
    assert len(read(source(up))) == 1


def test_the_deadline_holds_over_tls(tls_page: StatusPage, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    url = tls_page.serve(PATH, BODY, drip=0.05)
    assert failure(url, timeout=0.7) == f"{url}: not read within 0.7 s"
    with Receiver() as plain:  # takes the TLS greeting for a line that does not end
        plain.answer(None, Answer(delay=30))
        assert "127.0.0.1" in failure(plain.url("/x.json").replace("http:", "https:"), timeout=0.5)


# --- the environment --------------------------------------------------------------------------------------------------


def test_a_proxy_of_the_environment_is_used_and_netrc_is_not(
    status_page: StatusPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine pages.example login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", status_page.url("/"))
    monkeypatch.setenv("http_proxy", status_page.url("/"))
    status_page.serve("http://pages.example/x.json", BODY)
    assert len(read(source("http://pages.example/x.json"))) == 1
    assert status_page.requests[0].target == "http://pages.example/x.json"
    assert status_page.requests[0].header("Authorization") is None
