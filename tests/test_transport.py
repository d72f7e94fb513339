"""The transport on real sockets: deadlines, bounds, what goes on the wire, where it goes, and what came of it."""

from __future__ import annotations

import datetime
import gzip
import ipaddress
import resource
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from monitor_cli import __version__
from monitor_cli.delivery.outcome import Verdict, verdict
from monitor_cli.outbound.addresses import Policy
from monitor_cli.outbound.transfer import ANSWER_LIMIT, KEPT, Answer
from monitor_cli.outbound.transport import CONNECTION_SECONDS, Outgoing, Transport
from monitor_cli.outbound.url import split_url
from tests.support.http import Answer as Reply
from tests.support.http import Receiver, wire

LOOPBACK = Policy((ipaddress.ip_network("127.0.0.0/8"),))
ENDS = 8.0  # a generous bound for what has to end after a fraction of a second


def outgoing(
    url: str,
    *,
    body: bytes | None = None,
    headers: tuple[tuple[str, str], ...] = (),
    addresses: tuple[str, ...] = (),
    seconds: float = 10.0,
) -> Outgoing:
    ends = time.monotonic() + seconds
    return Outgoing(url, headers, body, split_url(url)[0], addresses, ends)


def answers(transport: Transport, count: int = 1) -> list[tuple[Any, Answer]]:
    found: list[tuple[Any, Answer]] = []
    ends = time.monotonic() + 30
    while len(found) < count:
        assert time.monotonic() < ends, "no answer"
        found += [(key, answer) for key, answer in transport.wait(0.5) if answer]
    return found


def send(transport: Transport, url: str, **how: Any) -> Answer:
    transport.start("key", outgoing(url, **how))
    ((key, answer),) = answers(transport)
    assert key == "key"
    assert len(transport) == 0
    return answer


@contextmanager
def opened(policy: Policy = LOOPBACK, connect_timeout: float = 5.0, ca_file: str | None = None) -> Iterator[Transport]:
    transport = Transport(policy, connect_timeout, ca_file)
    yield transport
    transport.close()


@pytest.fixture
def transport() -> Iterator[Transport]:
    with opened() as transport:
        yield transport


def raw(data: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(data)


@contextmanager
def full_port() -> Iterator[int]:
    """A port that takes no connection: its queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        time.sleep(0.05)
        yield listener.getsockname()[1]
        for filler in fillers:
            filler.close()


# --- what goes on the wire ------------------------------------------------------------------------------------------


def test_a_get_says_only_what_it_must(transport: Transport, receiver: Receiver) -> None:
    answer = send(transport, receiver.url("/hook?a=%7B%22&b=../c;{x}"), headers=(("X-Key", "ü ="), ("X-Empty", "")))
    (request,) = receiver.requests
    assert (answer.http_status, request.method, request.version) == (200, "GET", "HTTP/1.1")
    assert request.target == "/hook?a=%7B%22&b=../c;{x}"
    assert sorted((name.lower(), value) for name, value in request.headers) == [
        ("accept", "*/*"),
        ("host", f"127.0.0.1:{receiver.port}"),
        ("user-agent", f"monitor-cli/{__version__}"),
        ("x-empty", ""),
        ("x-key", "ü ="),
    ]


@pytest.mark.parametrize("size", [0, 5, 1023, 1024, 3_000_000])
def test_a_post_expects_nothing_and_asks_for_no_encoding(transport: Transport, receiver: Receiver, size: int) -> None:
    body = b"\0\xff" * (size // 2) + b"x" * (size % 2)
    assert send(transport, receiver.url("/hook"), body=body, headers=(("Content-Type", "a/b"),)).http_status == 200
    (request,) = receiver.requests
    assert (request.method, request.version, request.body) == ("POST", "HTTP/1.1", body)
    names = sorted(name.lower() for name, _ in request.headers)
    assert names == ["accept", "content-length", "content-type", "host", "user-agent"]


@pytest.mark.parametrize("body", [None, b"", b"body"])
def test_added_headers_follow_the_others_each_in_its_line(
    transport: Transport, receiver: Receiver, body: bytes | None
) -> None:
    own, added = (
        (("X-Key", "1"), ("User-Agent", "theirs")),
        (("webhook-id", "msg_1"), ("webhook-signature", "v1,a= v1,b=")),
    )
    transport.start("key", outgoing(receiver.url("/"), headers=own, body=body)._replace(added=added))
    answers(transport)
    (request,) = receiver.requests
    sent = [
        header for header in request.headers if header[0] not in ("Host", "Accept", "Content-Length", "Content-Type")
    ]
    assert sent == [("X-Key", "1"), ("User-Agent", "theirs"), *added]


def test_a_path_is_sent_as_it_is(transport: Transport, receiver: Receiver) -> None:
    send(transport, receiver.url("/a/../b/./c"))
    assert receiver.requests[0].target == "/a/../b/./c"


def test_a_handle_that_is_used_again_keeps_nothing_of_the_last_request(
    transport: Transport, receiver: Receiver
) -> None:
    receiver.answer("/first", Reply(200, b"first", headers=[("Retry-After", "7")]))
    send(transport, receiver.url("/first"), body=b"body", headers=(("X-Key", "1"), ("Content-Type", "a/b")))
    answer = send(transport, receiver.url("/second"))
    assert (answer.response, answer.retry_after) == (b"", None)
    first, second = receiver.requests
    assert (second.method, second.body, second.header("x-key"), second.header("content-type")) == (
        "GET",
        b"",
        None,
        None,
    )
    assert send(transport, receiver.url("/third"), body=b"again").http_status == 200
    assert receiver.requests[2].body == b"again"
    assert first.connection == second.connection


def test_connections_are_used_again(transport: Transport, receiver: Receiver) -> None:
    for body in (None, b"1", b"2", None):
        assert send(transport, receiver.url("/hook"), body=body).http_status == 200
    assert {request.connection for request in receiver.requests} == {1}


def test_many_at_once_each_get_their_own_answer(transport: Transport, receiver: Receiver) -> None:
    receiver.decide(lambda request: Reply(200, request.path.encode(), delay=0.2))
    for number in range(60):
        transport.start(number, outgoing(receiver.url(f"/{number}")))
    started = time.monotonic()
    found = dict(answers(transport, 60))
    assert {number: answer.response for number, answer in found.items()} == {n: b"/%d" % n for n in range(60)}
    assert time.monotonic() - started < 60 * 0.2 / 2  # side by side


def test_no_proxy_netrc_or_cookie_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, receiver: Receiver
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\ndefault login me password secret\n")
    with Receiver() as proxy:
        for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url("/"))
        monkeypatch.setenv("HOME", str(tmp_path))
        receiver.answer("/hook", Reply(200, headers=[("Set-Cookie", "a=b; Path=/")]))
        with opened() as transport:
            for _ in range(2):
                assert send(transport, receiver.url("/hook")).http_status == 200
        assert proxy.requests == []
    assert all(r.header("cookie") is None and r.header("authorization") is None for r in receiver.requests)


# --- where it goes --------------------------------------------------------------------------------------------------


def test_a_name_goes_to_its_judged_address_whatever_it_resolves_to(transport: Transport, receiver: Receiver) -> None:
    url = f"http://does-not-resolve.test:{receiver.port}/hook"
    assert send(transport, url, addresses=("127.0.0.1",)).http_status == 200
    assert receiver.requests[0].header("host") == f"does-not-resolve.test:{receiver.port}"


def test_the_next_judged_address_is_tried(transport: Transport, receiver: Receiver) -> None:
    url = f"http://name.test:{receiver.port}/hook"
    assert send(transport, url, addresses=("127.0.0.7", "127.0.0.1")).http_status == 200


def test_a_name_that_moved_goes_to_the_new_address(transport: Transport, receiver: Receiver) -> None:
    receiver.answer("/hook", Reply(200, close=True))
    url = f"http://name.test:{receiver.port}/hook"
    with Receiver(host="127.0.0.2", port=receiver.port) as other:
        other.answer("/hook", Reply(201))
        assert send(transport, url, addresses=("127.0.0.1",)).http_status == 200
        assert send(transport, url, addresses=("127.0.0.2",)).http_status == 201


def test_an_old_connection_does_not_outlive_the_move_of_a_name(receiver: Receiver) -> None:
    """Kept-alive connections are found by name: one that is used all the time would stay with the old server."""
    url = f"http://name.test:{receiver.port}/hook"
    transport = Transport(LOOPBACK, 5.0, lifetime=1)
    with Receiver(host="127.0.0.2", port=receiver.port) as other:
        assert send(transport, url, addresses=("127.0.0.1",)).http_status == 200
        ends = time.monotonic() + 20
        while not other.requests and time.monotonic() < ends:
            assert send(transport, url, addresses=("127.0.0.2",)).http_status == 200
            time.sleep(0.1)
        assert len(other.requests) == 1
        assert {request.connection for request in receiver.requests} == {1}
    transport.close()


def test_connections_are_bounded_in_age_by_default() -> None:
    assert 30 <= CONNECTION_SECONDS <= 300


def test_a_refused_address_is_not_dialled(receiver: Receiver) -> None:
    with opened(Policy()) as transport:
        for url, addresses in ((receiver.url("/"), ()), (f"http://name.test:{receiver.port}/", ("127.0.0.1",))):
            answer = send(transport, url, addresses=addresses)
            assert (answer.http_status, answer.arrived, answer.local) == (None, False, None)
            assert "127.0.0.1 is loopback" in str(answer.error)
    assert receiver.requests == []
    assert receiver._accepted == 0


def test_an_ipv6_address(transport: Transport) -> None:
    try:
        server = Receiver(host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with server, opened(Policy((ipaddress.ip_network("::1/128"),))) as transport:
        assert send(transport, f"http://[::1]:{server.port}/").http_status == 200
        assert send(transport, f"http://six.test:{server.port}/", addresses=("::1",)).http_status == 200


# --- what came of it ------------------------------------------------------------------------------------------------


def test_no_redirect_is_followed(transport: Transport, receiver: Receiver) -> None:
    for status in (301, 302, 303, 307, 308):
        receiver.answer("/hook", Reply(status, headers=[("Location", receiver.url("/elsewhere"))]))
        assert send(transport, receiver.url("/hook"), body=b"x").http_status == status
    assert receiver.to("/elsewhere") == []


def test_compressed_answers_are_never_inflated(transport: Transport, receiver: Receiver) -> None:
    bomb = gzip.compress(b"\0" * 30_000_000)
    for encoding in ("gzip", "br", "deflate"):
        receiver.answer("/hook", Reply(200, bomb, headers=[("Content-Encoding", encoding)]))
        answer = send(transport, receiver.url("/hook"))
        assert (answer.http_status, answer.response) == (200, bomb[:KEPT])
    receiver.answer("/hook", Reply(200, b"plain", headers=[("Transfer-Encoding", "gzip, chunked")]))
    assert b"\0\0" not in send(transport, receiver.url("/hook")).response


def test_at_most_64_kib_of_a_body_is_read(transport: Transport) -> None:
    sent, ended = [0], threading.Event()

    def endless(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                sent[0] += connection.send(b"x" * 16384)
        finally:
            ended.set()

    with wire(endless) as url:
        answer = send(transport, url, seconds=20)
    assert (answer.http_status, answer.response) == (200, b"x" * KEPT)
    assert ended.wait(10)  # the connection was closed on it
    assert sent[0] < 16_000_000  # what fits into the kernel's buffers beside
    assert answer.duration_ms < ENDS * 1000


@pytest.mark.parametrize("line", [b"X-Flood: %s\r\n" % (b"y" * 1000), b"HTTP/1.1 102 Processing\r\n\r\n"])
def test_a_flood_of_headers_is_cut_off(transport: Transport, line: bytes) -> None:
    sent = 0

    def endless(connection: socket.socket) -> None:
        nonlocal sent
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        connection.sendall(b"HTTP/1.1 200 OK\r\n" if b"X-" in line else line)
        while True:
            connection.sendall(line * 100)
            sent += len(line) * 100

    with wire(endless) as url:
        transport.start("key", outgoing(url, seconds=20))
        (transfer,) = transport._flying.values()
        ((_, answer),) = answers(transport)
    assert (answer.http_status, answer.arrived) == (None, True)
    assert answer.error == "the answer's headers have more than 64 KiB"
    assert answer.duration_ms < ENDS * 1000
    assert sent < 16_000_000  # what fits into the kernel's buffers beside
    assert sum(map(len, transfer.lines)) <= ANSWER_LIMIT


def test_headers_of_64_kib_are_read(transport: Transport) -> None:
    some = b"X-Long: %s\r\n" % (b"y" * 10_000)
    with wire(raw(b"HTTP/1.1 204 OK\r\n" + some * 6 + b"Retry-After: 3\r\n\r\n")) as url:
        answer = send(transport, url)
    assert (answer.http_status, answer.retry_after) == (204, "3")


@pytest.mark.parametrize(
    ("data", "status", "retry_after"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, None),
        (b"HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\n\r\nHTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", 503, None),
        (b"HTTP/1.1 102 Wait\r\n\r\n" * 5 + b"HTTP/1.1 204 Done\r\n\r\n", 204, None),
        (b"HTTP/1.1 429 Slow\r\nretry-after:\t120 \r\nContent-Length: 0\r\n\r\n", 429, "120"),
        (
            b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nRetry-After: 99\r\n\r\n",
            503,
            None,
        ),  # a trailer is no header
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: %s\r\n" % (b"y" * 9990) * 9, 200, None),
        (b"HTTP/1.1 503 No\nRetry-After: 8\nRETRY-AFTER: Mon, 1\nContent-Length: 0\n\n", 503, "Mon, 1"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nHTTP/1.1 500: x\r\n\r\n",
            200,
            None,
        ),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, None),
        (b"HTTP/1.0 200 OK\r\n\r\nbody", 200, None),
        (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", 200, None),
        (b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", 999, None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf", 200, None),  # headers were whole
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", 200, None),
        (b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", 500, None),
        (b"HTTP/1.1 500 No\r\nHTTP/1.1 200: OK\r\nContent-Length: 0\r\n\r\n", 500, None),  # a header, no status
        (b"HTTP/1.1 429 No\r\nRetry-After: 7\r\nHTTP/1.1 200: OK\r\nContent-Length: 0\r\n\r\n", 429, "7"),
        (b"HTTP/1.1 103 Hints\r\nHTTP/1.1 200: OK\r\n\r\nHTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", 410, None),
    ],
)
def test_the_final_answers_status_and_headers_count(
    transport: Transport, data: bytes, status: int, retry_after: str | None
) -> None:
    with wire(raw(data)) as url:
        answer = send(transport, url)
    assert (answer.http_status, answer.error, answer.retry_after, answer.local) == (status, None, retry_after, None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",  # headers that never end are no answer
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 2",
        b"200 OK\r\n\r\n",  # HTTP/0.9
        b"<html>hello</html>",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 20000 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"HTTP/1.1 500 No\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_no_answer_after_the_request_was_sent_has_arrived(transport: Transport, data: bytes) -> None:
    with wire(raw(data)) as url:
        for body in (None, b"x" * 100_000):
            answer = send(transport, url, body=body)
            assert (answer.http_status, answer.arrived, answer.local, answer.response) == (None, True, None, b"")
            assert answer.error


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the connection was closed without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "the answer ended before its headers did"),
        (b"<html>hello</html>", "what came back is no HTTP/1.1 answer"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "what came back is no HTTP/1.1 answer"),
        (b"HTTP/1.1 200 OK\r\nnot a header\r\n\r\n", "what came back is no HTTP/1.1 answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\n", "the answer is encoded in a way that was not asked for"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y%s\r\n" % (b"z" * 99) * 2000, "the answer's headers have more than 64 KiB"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 9000, "the answer has too many headers"),
    ],
)
def test_a_fault_is_told_in_words_for_its_customer(transport: Transport, data: bytes, words: str) -> None:
    with wire(raw(data)) as url:
        assert send(transport, url).error == words


def test_other_faults_too(transport: Transport, receiver: Receiver) -> None:
    receiver.answer("/drop", Reply(drop="after"))
    receiver.answer("/slow", Reply(delay=60))
    broken = "the connection broke before the answer was whole: Connection reset by peer"
    assert send(transport, receiver.url("/drop")).error == broken
    assert (
        str(send(transport, receiver.url("/slow"), seconds=0.3)).count("no whole answer came: timed out after 0.") == 1
    )
    tls = send(transport, receiver.url("/").replace("http:", "https:")).error
    assert str(tls).startswith("no TLS connection: ")
    assert "error:" not in str(tls)
    receiver.stop()
    refused = f"no connection to 127.0.0.1 port {receiver.port}: Connection refused"
    assert send(transport, receiver.url("/")).error == refused


@pytest.mark.parametrize("drop", ["before", "after"])
def test_a_reset_connection_has_arrived(transport: Transport, receiver: Receiver, drop: str) -> None:
    receiver.answer("/hook", Reply(drop=drop))  # type: ignore[arg-type]
    answer = send(transport, receiver.url("/hook"), body=b"x" * 10)
    assert (answer.http_status, answer.arrived, answer.local) == (None, True, None)


def test_a_refused_connection_has_not_arrived_and_is_the_customers(transport: Transport, receiver: Receiver) -> None:
    receiver.stop()
    answer = send(transport, receiver.url("/hook"))
    assert (answer.http_status, answer.arrived, answer.local) == (None, False, None)
    assert "127.0.0.1" in str(answer.error)


def test_a_request_taken_on_an_old_connection_has_arrived_even_if_the_port_is_closed_then(transport: Transport) -> None:
    """libcurl tries a new connection where an old one ends without an answer; what was sent before still counts."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            connection.recv(65536)
            listener.close()

    threading.Thread(target=serve, daemon=True).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    assert send(transport, url).http_status == 200
    answer = send(transport, url, body=b"second")
    assert (answer.http_status, answer.arrived, answer.local) == (None, True, None)


def test_a_request_on_an_old_connection_that_ends_without_an_answer_is_repeated(
    transport: Transport, receiver: Receiver
) -> None:
    """libcurl's own doing, which cannot be switched off; on a connection's first request it does not."""
    receiver.answer("/hook", Reply(200), Reply(drop="after"), Reply(201, close=True), Reply(drop="after"))
    assert [send(transport, receiver.url("/hook"), body=b"x").http_status for _ in range(3)] == [200, 201, None]
    assert [request.connection for request in receiver.requests] == [1, 1, 2, 3]


def test_an_answer_to_a_repeated_request_says_so(transport: Transport, receiver: Receiver) -> None:
    """The customer may have taken the first of the two, whatever is answered to the second."""
    receiver.answer("/hook", Reply(200), Reply(drop="after"), Reply(500), Reply(500))
    answers = [send(transport, receiver.url("/hook"), body=b"x") for _ in range(3)]
    assert [(answer.http_status, answer.repeated) for answer in answers] == [(200, False), (500, True), (500, False)]
    assert verdict(answers[1], network_works=True) is Verdict.UNSURE
    assert verdict(answers[2], network_works=True) is Verdict.REFUSED


def test_a_connection_that_was_closed_meanwhile_is_replaced(transport: Transport, receiver: Receiver) -> None:
    receiver.answer("/hook", Reply(200, close=True))
    for _ in range(3):
        assert send(transport, receiver.url("/hook"), body=b"x").http_status == 200
    assert len(receiver.requests) == 3


def test_a_kept_connection_that_its_server_closes_wakes_nobody_for_good(transport: Transport) -> None:
    """Its socket is registered still, and its number goes to the next connection."""
    for _ in range(3):
        with Receiver() as server:
            assert send(transport, server.url("/hook")).http_status == 200
        transport.wait(0.2)
        started = time.monotonic()
        assert transport.wait(0.3) == []
        assert time.monotonic() - started >= 0.25


# --- deadlines ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply(200, b"x" * 500, drip=0.02), None),  # headers, byte by byte
        (Reply(200, b"x" * 500, drip=0.02, drip_body_only=True), 200),
        (Reply(500, b"x" * 500, drip=0.02, drip_body_only=True), 500),
        (Reply(200, delay=60), None),
    ],
)
def test_the_deadline_is_over_all_of_it(
    transport: Transport, receiver: Receiver, reply: Reply, status: int | None
) -> None:
    receiver.answer("/hook", reply)
    started = time.monotonic()
    answer = send(transport, receiver.url("/hook"), body=b"x", seconds=0.5)
    assert 0.45 <= time.monotonic() - started < ENDS
    assert (answer.http_status, answer.arrived, answer.local) == (status, True, None)
    assert status is not None or "timed out" in str(answer.error)


def test_what_a_stop_overtook_is_not_sent(transport: Transport, receiver: Receiver) -> None:
    """A process that was stopped (SIGSTOP) between taking a request and sending it gives it back unsent, on a
    connection it has as on a new one: its lease may be over. What it takes after that goes."""
    assert send(transport, receiver.url("/hook")).http_status == 200
    for number in range(3):
        transport.start(number, outgoing(receiver.url("/hook"), seconds=0.2))
    time.sleep(0.3)
    gone: list[tuple[Any, Answer | None]] = []
    while len(transport):
        gone += transport.wait(1)
    assert sorted(gone) == [(0, None), (1, None), (2, None)]
    assert len(receiver.requests) == 1
    assert send(transport, receiver.url("/hook")).http_status == 200


def test_an_answer_that_came_while_we_were_stopped_counts(transport: Transport, receiver: Receiver) -> None:
    """It came in time; that we looked too late is no reason to tell its customer again."""
    receiver.answer("/hook", Reply(200, b"yes", delay=0.1))
    transport.start("key", outgoing(receiver.url("/hook"), body=b"x", seconds=0.5))
    until = time.monotonic() + 10
    while not receiver.requests:
        assert time.monotonic() < until
        assert transport.wait(0.01) == []
    time.sleep(1)
    ((key, answer),) = answers(transport)
    assert (key, answer.http_status, answer.response) == ("key", 200, b"yes")


def test_the_deadline_holds_against_a_body_nobody_reads(transport: Transport) -> None:
    with wire(lambda _connection: time.sleep(30)) as url:
        answer = send(transport, url, body=b"x" * 30_000_000, seconds=0.5)
    assert (answer.http_status, answer.arrived) == (None, True)
    assert answer.duration_ms < 4500


@pytest.mark.parametrize(("connect", "total"), [(0.3, 20.0), (20.0, 0.3)])
def test_connecting_has_a_timeout_and_is_within_the_deadline(connect: float, total: float) -> None:
    with full_port() as port, opened(connect_timeout=connect) as transport:
        started = time.monotonic()
        answer = send(transport, f"http://127.0.0.1:{port}/", seconds=total)
        assert 0.25 <= time.monotonic() - started < ENDS
    assert (answer.http_status, answer.arrived, answer.local) == (None, False, None)


def test_a_tls_handshake_is_within_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, opened(connect_timeout=20) as transport:
        answer = send(transport, f"https://127.0.0.1:{silent.getsockname()[1]}/", seconds=0.4)
    assert (answer.http_status, answer.arrived) == (None, False)
    assert answer.duration_ms < ENDS * 1000


# --- TLS ------------------------------------------------------------------------------------------------------------


class Authority:
    """A certificate authority of this test's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        own = self._builder(self.name, self.name, self.key, 10).add_extension(x509.BasicConstraints(True, None), True)
        self.file = str(directory / "ca.pem")
        Path(self.file).write_bytes(_pem(own.sign(self.key, hashes.SHA256())))

    def context(self, *names: str, days: int = 10, self_signed: bool = False) -> ssl.SSLContext:
        """A server's, with a certificate for these names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        known = [x509.IPAddress(ipaddress.ip_address(n)) if n[0].isdigit() else x509.DNSName(n) for n in names]
        issuer = subject if self_signed else self.name
        builder = self._builder(subject, issuer, key, days).add_extension(x509.SubjectAlternativeName(known), False)
        file = self.directory / f"{names[0]}-{days}-{self_signed}.pem"
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(_pem(builder.sign(key if self_signed else self.key, hashes.SHA256())) + secret)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _builder(
        self, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        start = min(now, now + datetime.timedelta(days=days)) - datetime.timedelta(days=1)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(now + datetime.timedelta(days=days))
        )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def test_ca_file_is_trusted_and_the_name_stays_the_urls(authority: Authority) -> None:
    context = authority.context("good.test", "127.0.0.1")
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    with Receiver(tls=context) as server, opened(ca_file=authority.file) as transport:
        url = server.url("/hook", host="good.test")
        assert send(transport, url, body=b"x", addresses=("127.0.0.1",)).http_status == 200
        assert send(transport, url, body=b"y", addresses=("127.0.0.1",)).http_status == 200
        assert send(transport, server.url("/hook")).http_status == 200
    assert asked == ["good.test", None]  # the second request came on the first one's connection
    assert server.requests[0].header("host") == f"good.test:{server.port}"
    assert server.requests[0].version == "HTTP/1.1"


@pytest.mark.parametrize(
    ("names", "how", "host", "trusted"),
    [
        (("good.test",), {"self_signed": True}, "good.test", True),
        (("good.test",), {"self_signed": True}, "good.test", False),
        (("good.test",), {}, "good.test", False),  # the system's authorities do not know it
        (("good.test",), {}, "other.test", True),
        (("good.test",), {}, None, True),  # an address that the certificate does not name
        (("*.good.test",), {}, "a.b.good.test", True),
        (("good.test",), {"days": -1}, "good.test", True),  # expired
    ],
)
def test_a_certificate_that_does_not_hold_is_refused_before_a_byte_is_sent(
    authority: Authority, names: tuple[str, ...], how: dict[str, Any], host: str | None, trusted: bool
) -> None:
    with (
        Receiver(tls=authority.context(*names, **how)) as server,
        opened(ca_file=authority.file if trusted else None) as transport,
    ):
        addresses = ("127.0.0.1",) if host else ()
        answer = send(transport, server.url("/hook", host=host), body=b"secret", addresses=addresses)
        assert (answer.http_status, answer.arrived, answer.local) == (None, False, None)
        assert "certificate" in str(answer.error).lower()
        assert server.requests == []


def test_what_a_stop_overtook_in_its_handshake_is_not_sent(authority: Authority) -> None:
    context, asked = authority.context("good.test"), threading.Event()
    context.sni_callback = lambda *_: (asked.set(), time.sleep(0.1))[1]
    with Receiver(tls=context) as server, opened(ca_file=authority.file) as transport:
        transport.start("key", outgoing(server.url("/", host="good.test"), addresses=("127.0.0.1",), seconds=1))
        while not asked.is_set():
            assert transport.wait(0.01) == []
        time.sleep(1)
        gone: list[tuple[Any, Answer | None]] = []
        while len(transport):
            gone += transport.wait(1)
        assert gone == [("key", None)]
        assert server.requests == []


def test_plain_http_behind_https_is_refused(transport: Transport, receiver: Receiver) -> None:
    answer = send(transport, receiver.url("/").replace("http:", "https:"))
    assert (answer.http_status, answer.arrived, answer.local) == (None, False, None)


# --- the loop -------------------------------------------------------------------------------------------------------


def test_wake_ends_a_wait(transport: Transport) -> None:
    threading.Timer(0.1, transport.wake).start()
    started = time.monotonic()
    assert transport.wait(20) == []
    assert time.monotonic() - started < ENDS
    transport.wake()
    assert transport.wait(20) == []  # woken before it waited
    started = time.monotonic()
    assert transport.wait(0.2) == []
    assert time.monotonic() - started >= 0.15  # and once only


def test_closing_with_requests_in_flight(receiver: Receiver) -> None:
    receiver.answer("/hook", Reply(200, delay=60))
    with opened() as transport:
        for number in range(3):
            transport.start(number, outgoing(receiver.url("/hook")))
        assert transport.wait(0.2) == []
        assert len(transport) == 3


def test_no_file_left_for_a_socket_is_our_fault(transport: Transport) -> None:
    held = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
    try:
        with suppress(OSError):
            while True:
                held.append(socket.socket())
        answer = send(transport, "http://127.0.0.1:9/")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for one in held:
            one.close()
    assert (answer.http_status, answer.arrived, answer.local) == (None, False, "resources")


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 500 No\r\n"])
def test_an_endless_chunk_extension_is_cut_off(transport: Transport, head: bytes) -> None:
    """libcurl tells nobody of it. What was read of the answer decides, and the next request is none of its business."""
    sent, ended = 0, threading.Event()

    def flood(connection: socket.socket) -> None:
        nonlocal sent
        try:
            connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n1;")
            while sent < 200_000_000:
                connection.sendall(b"q" * 65536)
                sent += 65536
        finally:
            ended.set()

    with wire(flood) as url:
        answer = send(transport, url, body=b"x", seconds=20)
        assert ended.wait(30)
    assert answer.http_status == int(head[9:12])
    assert sent < 50_000_000
