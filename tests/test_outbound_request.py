"""Requests to the byte (SPEC 7, "The request"), against the text of SPEC and against a slow obvious reference."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from monitor_cli import document
from monitor_cli.outbound.addresses import Policy
from monitor_cli.outbound.content import VALUES
from monitor_cli.outbound.request import (
    Content,
    RefusedTemplate,
    Template,
    check_header_line,
    check_headers,
    check_template,
    method_of,
    render,
)
from monitor_cli.outbound.url import RefusedURL
from monitor_cli.types import Region, Type

URL = "https://example.com/hook"
FORM = ("Content-Type", "application/x-www-form-urlencoded")
JSON = ("Content-Type", "application/json")

ENTRIES = document.entries([(Region("karnataka", "KA-IN"), Type.CRITICAL, "+8787")])
CONTENT = Content(ENTRIES, "msg_1", 1700000000)
DOCUMENT = (
    b'{"status":"200","message":"OK","data":{"incidents":[{"region":"karnataka","region_code":"KA-IN",'
    b'"type":"critical","service":"all","numbers":["+8787"]}]}}'
)
ENCODED = quote(DOCUMENT, safe="")


def body_of(payload: str | None, raw_json: bool = False, content: Content = CONTENT) -> bytes | None:
    return render(Template(URL, payload, (), raw_json), content).body


# --- content ---------------------------------------------------------------------------------------------------------


def value_of(name: str, content: Content) -> str:
    return VALUES[name](content)


def test_the_values_of_one_entry() -> None:
    assert {name: value_of(name, CONTENT) for name in VALUES} == {
        "response": DOCUMENT.decode(),
        "event_id": "msg_1",
        "timestamp": "1700000000",
        "type": "critical",
        "region": "karnataka",
        "region_code": "KA-IN",
        "numbers": "+8787",
        "message": "1 number in karnataka (KA-IN) is critical.",
    }


def test_the_values_of_several_entries_are_listed_once_and_sorted_and_the_worst_type() -> None:
    facts = [
        (Region("karnataka", "KA-IN"), Type.OPERATIONAL, "+2"),
        (Region("goa", ""), Type.WARNING, "+2"),
        (Region("goa", ""), Type.WARNING, "+10"),
        (Region("", ""), Type.OPERATIONAL, "+3"),
    ]
    content = Content(document.entries(facts), "id", 1)
    assert value_of("type", content) == "warning"
    assert (value_of("region", content), value_of("region_code", content)) == ("goa,karnataka", "KA-IN")
    assert value_of("numbers", content) == "+10,+2,+3"
    assert value_of("message", content) == (
        "2 numbers in goa have a warning, 1 number in a region without a name is operational"
        " and 1 number in karnataka (KA-IN) is operational."
    )


def test_the_message_stays_one_short_sentence() -> None:
    facts = [(Region(f"r{n}", ""), Type.CRITICAL, "+1") for n in range(9)]
    message = value_of("message", Content(document.entries(facts), "id", 1))
    assert message.count("critical") == 5
    assert message.endswith(" and 4 more statuses follow.")


# --- the forms -------------------------------------------------------------------------------------------------------


def test_get_encodes_the_document_into_the_url() -> None:
    request = render(Template(URL + "?d={response}&t={type}"), CONTENT)
    assert request.method == "GET"
    assert request.target == f"/hook?d={ENCODED}&t=critical"
    assert request.url == f"https://example.com/hook?d={ENCODED}&t=critical"
    assert request.body is None
    assert request.headers == ()
    assert request.signed == request.target.encode()


def test_post_form_keeps_the_payloads_own_text() -> None:
    request = render(Template(URL, "data={response}&b=x y+%zz&é"), CONTENT)
    assert request.method == "POST"
    assert request.body == f"data={ENCODED}&b=x y+%zz&é".encode()
    assert request.headers == (FORM,)
    assert request.signed == request.body


def test_a_space_is_percent_20_and_unreserved_characters_stay() -> None:
    content = Content(ENTRIES, "a-b._~ c/é", 1)
    assert body_of("e={event_id}", content=content) == b"e=a-b._~%20c%2F%C3%A9"


@pytest.mark.parametrize("payload", ["", None, "{response}", "  {response}\n", "  ", " " * 70000])
def test_raw_json_of_nothing_or_the_placeholder_is_the_document(payload: str | None) -> None:
    request = render(Template(URL, payload, (), True), CONTENT)
    assert (request.method, request.body, request.headers) == ("POST", DOCUMENT, (JSON,))


@pytest.mark.parametrize(
    ("payload", "body"),
    [
        ("data={response}&b=x", b'{"data":%b,"b":"x"}' % DOCUMENT),
        ("data={response}", b'{"data":%b}' % DOCUMENT),
        ("a=x+y%20z%C3%A9&b=%7Btype%7D&c=", '{"a":"x y zé","b":"{type}","c":""}'.encode()),
        ("t={timestamp}&m=is {type}!", b'{"t":"1700000000","m":"is critical!"}'),
        ("a%22b=c=d", b'{"a\\"b":"c=d"}'),
        ("text=see {response}", b'{"text":"see %b"}' % DOCUMENT.replace(b'"', b'\\"')),
        ("n={numbers}&data[x]=1", b'{"n":"+8787","data[x]":"1"}'),
    ],
)
def test_raw_json_of_form_text_is_an_object(payload: str, body: bytes) -> None:
    assert body_of(payload, raw_json=True) == body


@pytest.mark.parametrize(
    ("payload", "body"),
    [
        ('{"a": {response}}', b'{"a": %b}' % DOCUMENT),
        ('{"text": "{response}"}', b'{"text": "%b"}' % DOCUMENT.replace(b'"', b'\\"')),
        ('[{response}, {timestamp}, "{timestamp}"]', b'[%b, 1700000000, "1700000000"]' % DOCUMENT),
        ('{"{type}": "{event_id}", "x": {"y": 1}}', b'{"critical": "msg_1", "x": {"y": 1}}'),
        ('"{type} at {region}"', b'"critical at karnataka"'),
        ('{"a": "\\"{type}\\\\"}', b'{"a": "\\"critical\\\\"}'),
        ('{"a": "{unknown} {"}', b'{"a": "{unknown} {"}'),
        ("5", b"5"),
        ('{"a":"x=1&y={type}"}', b'{"a":"x=1&y=critical"}'),
    ],
)
def test_raw_json_of_json_text(payload: str, body: bytes) -> None:
    assert body_of(payload, raw_json=True) == body
    json.loads(body)


@pytest.mark.parametrize(
    "payload",
    [
        '{"a": {response}',
        '{"a": {response}}}',
        "{'a': {response}}",
        '{"a": {type}}',
        "{type}",
        "[{numbers}]",
        '{"a": 1{timestamp}}',
        '{"a": 1.{timestamp}}',
        '{"a": {timestamp}0}',
        '{"a": "\\u004{type}"}',
        '{"a": "\\{type}"}',
        '{"a": "{response}\\"}',
        '{"a": NaN}',
        '{"a": Infinity}',
        "{response}{response}",
        "hello",
        "hello {response}",
        "a=1&b",
        "a=1&",
        "=1",
        "a=1&a=2",
        "a=1&%61=2",
        "{type}=1",
        "a=%FF",
        "<x>{response}</x>",
        "[" * 30000,
        "a=" + "x" * 70000,
        "a=\ud800",
        '"' * 60001,
        '\\"' * 30000,
    ],
)
def test_raw_json_that_cannot_be_meant_is_refused(payload: str) -> None:
    with pytest.raises(RefusedTemplate) as refused:
        check_template(Template(URL, payload, (), True), Policy())
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("payload", ["\ud800", "x" * 70000])
def test_a_form_payload_is_refused_where_it_cannot_be_sent(payload: str) -> None:
    with pytest.raises(RefusedTemplate):
        check_template(Template(URL, payload), Policy())


def test_other_braces_stay_and_values_are_not_substituted_again() -> None:
    content = Content(ENTRIES, "{type}", 1)
    assert body_of("a={x}&b={{type}}&c={event_id}&d={Type}&e={ type }", content=content) == (
        b"a={x}&b={critical}&c=%7Btype%7D&d={Type}&e={ type }"
    )
    assert body_of('{"a": "{event_id}"}', raw_json=True, content=content) == b'{"a": "{type}"}'


def test_placeholders_in_the_url_of_a_post() -> None:
    request = render(Template("http://example.com:8080/{region}?i={event_id}", "x={type}"), CONTENT)
    assert request.url == "http://example.com:8080/karnataka?i=msg_1"
    assert request.body == b"x=critical"


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://Example.COM", "http://example.com/"),
        ("http://example.com:80", "http://example.com/"),
        ("https://example.com:443/x", "https://example.com/x"),
        ("https://example.com:80/x", "https://example.com:80/x"),
        ("http://example.com?x", "http://example.com/?x"),
        ("http://example.com/?", "http://example.com/?"),
        ("http://[2606:4700:0::1]:81/a", "http://[2606:4700::1]:81/a"),
        ("http://bücher.example/ü?é=%c3%a9", "http://xn--bcher-kva.example/%C3%BC?%C3%A9=%C3%A9"),
        ("http://example.com/100%?a=%4&b=%zz", "http://example.com/100%25?a=%254&b=%25zz"),
        ("http://example.com/%{type}", "http://example.com/%25critical"),
        ("http://example.com/{x}/{{type}}", "http://example.com/{x}/{critical}"),
        ('http://example.com/"<>^`|', "http://example.com/%22%3C%3E%5E%60%7C"),
        ("http://example.com/../a//b/./c", "http://example.com/../a//b/./c"),
        ("http://example.com//evil.com/{type}", "http://example.com//evil.com/critical"),
        ("http://example.com/-._~:/?[]@!$&'()*+,;=", "http://example.com/-._~:/?[]@!$&'()*+,;="),
    ],
)
def test_the_url_is_rebuilt_and_its_unsafe_characters_are_encoded(url: str, sent: str) -> None:
    request = render(Template(url), CONTENT)
    assert request.url == sent
    assert request.url.endswith(request.target)
    assert request.url.isascii()


def test_method_of() -> None:
    assert method_of(Template(URL)) == method_of(Template(URL, " ")) == "GET"
    assert method_of(Template(URL, "x")) == method_of(Template(URL, None, (), True)) == "POST"


# --- headers and the whole template ----------------------------------------------------------------------------------


def test_headers_are_sent_as_written_after_our_content_type() -> None:
    own = (("X-Token", "{response} ü"), ("x-second", "b"))
    assert render(Template(URL, "a=1", own), CONTENT).headers == (FORM, *own)
    assert render(Template(URL, None, own), CONTENT).headers == own


def test_a_content_type_of_the_customers_replaces_ours() -> None:
    own = (("content-type", "text/xml"),)
    assert render(Template(URL, "<t>{type}</t>", own), CONTENT).headers == own
    assert render(Template(URL, None, own, True), CONTENT).headers == own


@pytest.mark.parametrize(
    ("line", "header"),
    [
        ("Authorization: Bearer a:b", ("Authorization", "Bearer a:b")),
        ("X-A:b", ("X-A", "b")),
        ("X-A: \t b  c \t", ("X-A", "b  c")),
        ("X-A: é", ("X-A", "é")),
    ],
)
def test_header_lines(line: str, header: tuple[str, str]) -> None:
    assert check_header_line(line) == header


@pytest.mark.parametrize(
    "line",
    [
        *("", "X-A", "X-A b", ": b", "X A: b", "X-A : b", " X-A: b", "X-Ü: b", "X(A): b", "X-A:", "X-A:   "),
        *("X-A: b\r\nHost: evil", "X-A: b\n", "X-A: b\x00", "X-A: b\x0b", "X-A: \x7f", "X-A: \x85", "X-A: €"),
        *(
            "X-A\r\nHost: b",
            "Host: a",
            "HOST: a",
            "content-length: 3",
            "Content_Length: 3",
            "Transfer-Encoding: chunked",
        ),
        *("Connection: close", "Keep-Alive: 5", "TE: trailers", "Trailer: X", "Upgrade: h2c", "Expect: 100-continue"),
        *("Accept-Encoding: gzip", "User-Agent: me", "Proxy-Authorization: x", "Proxy-Connection: close"),
        *("HTTP2-Settings: x", "webhook-id: 1", "Webhook-Signature: v1,x", "webhook_timestamp: 1", "WEBHOOK-OTHER: 1"),
    ],
)
def test_header_lines_that_are_refused(line: str) -> None:
    with pytest.raises(RefusedTemplate) as refused:
        check_header_line(line)
    assert "evil" not in refused.value.message


def test_headers_are_bounded_and_have_one_content_type() -> None:
    check_headers([(f"X-{n}", "v") for n in range(32)])
    for headers in (
        [(f"X-{n}", "v") for n in range(33)],
        [("X-A", "v" * 8192)],
        [("Content-Type", "a/b"), ("content-type", "a/b")],
        [("X-A", " v")],
    ):
        with pytest.raises(RefusedTemplate):
            check_headers(headers)


def test_check_template_judges_url_headers_payload_and_address() -> None:
    assert check_template(Template(URL, "a={type}", (("X-A", "b"),)), Policy()).destination == "example.com:443"
    for template in (
        Template("http://{region}/", "a"),
        Template("http://127.0.0.1/"),
        Template(URL, "a", (("Host", "b"),)),
        Template(URL, "hello", (), True),
    ):
        with pytest.raises((RefusedURL, RefusedTemplate)):
            check_template(template, Policy())
    allowed = Policy(allow=(ip_network("127.0.0.0/8"),))
    assert check_template(Template("http://127.0.0.1/"), allowed).address == "127.0.0.1"
    with pytest.raises(RefusedURL):  # what is remembered of an address holds for one policy
        check_template(Template("http://127.0.0.1/"), Policy())


# --- against a reference, with hostile content ------------------------------------------------------------------------

HOSTILE_TEXT = st.one_of(
    st.text(max_size=12),
    st.text(alphabet="{}&=?#/@:%+\"'\\\r\n .;<>é", max_size=12),
    st.sampled_from(["{type}", "{response}", "\r\nHost: evil", "&admin=1", "@evil/", "#x", '","x":"', "..", "\\u0022"]),
)
CONTENTS = st.builds(
    Content,
    entries=st.lists(
        st.tuples(st.builds(Region, HOSTILE_TEXT, HOSTILE_TEXT), st.sampled_from(Type), HOSTILE_TEXT),
        min_size=1,
        max_size=3,
    ).map(document.entries),
    event_id=HOSTILE_TEXT,
    timestamp=st.integers(0, 2**31),
)
PLACEHOLDERS = [f"{{{name}}}" for name in VALUES]


def reference(text: str, content: Content, encode: dict[bool, object], json_text: bool = False) -> str:
    """One character after the other; `encode[in_string]` encodes a value."""
    out, at, in_string = "", 0, False
    while at < len(text):
        name = next((p for p in PLACEHOLDERS if text.startswith(p, at)), None)
        if name:
            out += encode[in_string](value_of(name[1:-1], content))  # type: ignore[operator]
            at += len(name)
            continue
        if json_text and in_string and text[at] == "\\":
            out += text[at : at + 2]
            at += 2
            continue
        in_string ^= json_text and text[at] == '"'
        out += text[at]
        at += 1
    return out


def percent(value: str) -> str:
    return quote(value.encode(), safe="")


def escaped(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)[1:-1]


TEMPLATE_TEXT = st.lists(
    st.one_of(
        st.sampled_from(PLACEHOLDERS), st.sampled_from(["{", "}", "{x}", "a", "&b=", "/", "?c=", "é", "%41", "{{"])
    ),
    max_size=8,
).map("".join)


@given(TEMPLATE_TEXT, CONTENTS)
def test_get_and_form_equal_the_reference(text: str, content: Content) -> None:
    request = render(Template("http://example.com:8080/" + text, "a=" + text), content)
    expected = reference(text, content, {False: percent})
    assert request.target == "/" + expected.replace("é", "%C3%A9")
    assert request.body == ("a=" + expected).encode()


@given(
    st.lists(st.tuples(st.sampled_from(["k", 'q\\"', "é"]), st.one_of(st.sampled_from(PLACEHOLDERS), TEMPLATE_TEXT))),
    st.sampled_from(["{response}", "{timestamp}", "[1]", '{"{type}": {response}}']),
    CONTENTS,
)
def test_json_text_equals_the_reference_and_stays_json(
    strings: list[tuple[str, str]], bare: str, content: Content
) -> None:
    pairs = [f'"{key}{number}": "{text}"' for number, (key, text) in enumerate(strings)]
    payload = "{" + ", ".join([*pairs, f'"bare": {bare}']) + "}"
    body = render(Template(URL, payload, (), True), content).body
    assert body is not None
    assert body.decode() == reference(payload, content, {False: str, True: escaped}, json_text=True)
    parsed = json.loads(body)
    assert len(parsed) == len(strings) + 1
    if bare == "{response}":
        assert parsed["bare"] == json.loads(document.to_json(content.entries))


@given(CONTENTS)
@example(Content(ENTRIES, "&x=1", 1))
def test_no_content_changes_where_a_request_goes_or_adds_a_header_or_a_field(content: Content) -> None:
    fields = "&".join(f"{name}={{{name}}}" for name in VALUES)
    segments = "/".join(PLACEHOLDERS)
    own = (("X-A", "{message}"),)
    request = render(Template(f"https://Example.com:8443/{segments}/end?{fields}", fields, own), content)
    parts = urlsplit(request.url)
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "example.com:8443", "")
    assert [unquote(s, errors="strict") for s in parts.path.split("/")[1:-1]] == [value_of(n, content) for n in VALUES]
    assert request.target == request.url.removeprefix("https://example.com:8443")
    assert request.target.isascii()
    assert not any(character <= " " or character == "\x7f" for character in request.target)
    expected = [(name, value_of(name, content)) for name in VALUES]
    assert parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) == expected
    assert request.body is not None
    assert parse_qsl(request.body.decode("ascii"), keep_blank_values=True, strict_parsing=True) == expected
    assert request.headers == (FORM, *own)


@given(CONTENTS)
def test_no_content_breaks_the_object_made_of_form_text(content: Content) -> None:
    payload = "&".join(f"{name}={{{name}}}" for name in VALUES) + "&mixed=<{message}|{response}>"
    body = render(Template(URL, payload, (), True), content).body
    assert body is not None
    assert json.loads(body) == {
        **{name: value_of(name, content) for name in VALUES},
        "response": json.loads(document.to_json(content.entries)),
        "mixed": f"<{value_of('message', content)}|{value_of('response', content)}>",
    }


@given(st.text(max_size=30), st.booleans())
def test_any_payload_is_refused_or_renders_what_its_form_promises(payload: str, raw_json: bool) -> None:
    template = Template(URL, payload, (), raw_json)
    try:
        check_template(template, Policy())
    except RefusedTemplate:
        assert raw_json
        return
    body = render(template, CONTENT).body
    if raw_json:
        assert body is not None
        json.loads(body)
    else:
        assert body == (reference(payload, CONTENT, {False: percent}).encode() if payload.strip() else None)


# --- what libcurl puts on the wire -----------------------------------------------------------------------------------


@contextmanager
def one_line_receiver() -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """A server on loopback that answers 200 and notes each request's target and Host."""
    seen: list[tuple[str, str]] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    head = b""
                    while b"\r\n\r\n" not in head and (more := peer.recv(65536)):
                        head += more
                    lines = head.decode("latin-1").split("\r\n")
                    host = next((line[5:].strip() for line in lines if line.lower().startswith("host:")), "")
                    seen.append((lines[0].split(" ", 1)[1].rpartition(" ")[0], host))
                    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield server.getsockname()[1], seen
        finally:
            server.shutdown(socket.SHUT_RDWR)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["example.com", "[2606:4700::1]", "8.8.8.8:8080", "a_b.example:80", "bücher.example:443"]),
    st.text(alphabet="/?@:.{}%a1é;,&='()[]|^\"`<>!$*+~-_", max_size=20),
    CONTENTS,
)
@example("example.com", "/../%2e%2e/./a/..;/?{response}", CONTENT)
def test_libcurl_sends_the_target_to_the_byte(wire: tuple[int, list], host: str, tail: str, content: Content) -> None:
    pycurl = pytest.importorskip("pycurl")
    port, seen = wire
    request = render(Template(f"http://{host}/{tail}?x={{message}}"), content)
    curl = pycurl.Curl()
    curl.setopt(pycurl.URL, request.url)
    curl.setopt(pycurl.PATH_AS_IS, 1)
    curl.setopt(pycurl.PROXY, "")
    curl.setopt(pycurl.CONNECT_TO, [f"::127.0.0.1:{port}"])
    curl.setopt(pycurl.TIMEOUT, 10)
    curl.perform()
    curl.close()
    target, seen_host = seen.pop()
    assert target == request.target
    assert seen_host == urlsplit(request.url).netloc


@pytest.fixture(scope="module")
def wire() -> Iterator[tuple[int, list[tuple[str, str]]]]:
    with one_line_receiver() as receiver:
        yield receiver
