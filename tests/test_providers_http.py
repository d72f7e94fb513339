"""Every status page product over real HTTP, from its page's address and from its documents', through incident-sync."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor_cli.config import Source
from monitor_cli.document import Entry, to_xml
from monitor_cli.errors import SourceError
from monitor_cli.providers import PROVIDERS
from monitor_cli.providers.shape import NotThere
from monitor_cli.sources import File, read
from monitor_cli.types import Region, Type
from tests.support import pages
from tests.support.cli import Cli
from tests.support.http import StatusPage
from tests.support.pages import PAGES, Page
from tests.support.stores import Store
from tests.support.world import World

BEFORE = "as it was"


@pytest.fixture
def world(sqlite_database: Store) -> World:
    return World(sqlite_database)


@pytest.fixture
def cli(sqlite_database: Store, make_cli: Callable[[str | None], Cli]) -> Cli:
    return make_cli(sqlite_database.url)


def serve(server: StatusPage, page: Page) -> None:
    """A page as its product serves it: for people at its root, documents at their places."""
    server.serve("/", b"<!DOCTYPE html><p>for people", content_type="text/html")
    for path, document in page.serves.items():
        server.serve(path, document)


CASES = [(name, url) for name, page in PAGES.items() for url in page.urls]


@pytest.mark.parametrize(("name", "url"), CASES)
@pytest.mark.parametrize("auto", [True, False])
def test_each_address_of_a_page_gives_its_components(status_page: StatusPage, name: str, url: str, auto: bool) -> None:
    page = PAGES[name]
    serve(status_page, page)
    found = read(Source(name="s", url=status_page.url(url), provider="auto" if auto else page.provider))
    assert {c.id: (c.word, c.type, c.incident.title if c.incident else None) for c in found} == page.expected


@pytest.mark.parametrize("name", PAGES)
def test_a_page_reaches_the_rows(cli: Cli, world: World, status_page: StatusPage, name: str) -> None:
    page = PAGES[name]
    serve(status_page, page)
    servers = {key: world.server(tag=key, channel=n, incident_status=BEFORE) for n, key in enumerate(page.expected)}
    result = cli("incident-sync", "--url", status_page.url(page.urls[0]), "--provider", page.provider)
    assert (result.code, result.out) == (0, "")
    assert ("word.unknown" in result.err) is bool(page.unknown)
    history = {change.monitor_id: change for change in world.changes()}
    for key, (word, kind, title) in page.expected.items():
        row = world.server_row(servers[key])
        if kind is None:
            assert (row.incident_status, row.final_status, row.status_report) == (BEFORE, "operational", 0)
            continue
        changed = kind is not Type.OPERATIONAL
        assert (row.incident_status, row.final_status, row.status_report) == (word, kind.word, int(changed))
        assert (row.id in history) is changed
        if changed:
            assert (history[row.id].to_type, history[row.id].incident_title) == (kind.word, title)
    cli("incident-sync", "--url", status_page.url(page.urls[0]), "--provider", page.provider).quiet()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_where_nothing_is_the_error_says_so(status_page: StatusPage, provider: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(Source(name="s", url=status_page.url("/"), provider=provider))
    assert caught.value.message.startswith(f"http://127.0.0.1:{status_page.port}/")
    assert "answered HTTP 404" in caught.value.message


def test_auto_on_a_page_of_no_known_product(status_page: StatusPage) -> None:
    status_page.serve("/", b"<!DOCTYPE html>", content_type="text/html")
    with pytest.raises(SourceError, match=r"/api/v2/summary\.json: answered HTTP 404"):
        read(Source(name="s", url=status_page.url("/")))
    assert len(status_page.requests) < 25
    assert len({request.target for request in status_page.requests}) == len(status_page.requests)
    document = status_page.serve("/other.json", {"some": "thing"})
    with pytest.raises(SourceError, match=r"/other\.json: it is JSON, but no document of a status page"):
        read(Source(name="s", url=document))


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if page.urls[0] == "/"])
def test_a_redirected_page(status_page: StatusPage, name: str) -> None:
    page = PAGES[name]
    serve(status_page, page)
    with StatusPage() as old:
        for target in page.serves:
            old.serve(target, status=301, headers=[("Location", status_page.url(target))])
        found = read(Source(name="s", url=old.url("/"), provider=page.provider))
    assert {c.id: (c.word, c.type) for c in found} == {
        key: (word, kind) for key, (word, kind, _) in page.expected.items()
    }


# --- paging -----------------------------------------------------------------------------------------------------------


def test_cachet_in_pages_behind_a_proxy(status_page: StatusPage) -> None:
    """The next page's address is that which Cachet believes to have; only its number counts."""
    count = 45
    entries = [pages._component_v2(n, 1) for n in range(1, count + 1)]
    for n in range(3):
        data = pages.cachet_v2(entries[n * 20 : n * 20 + 20], n + 1, 3)
        status_page.serve("/api/v1/components" + (f"?per_page=100&sort=id&page={n + 1}" if n else ""), data)
    found = read(Source(name="s", url=status_page.url("/"), provider="cachet"))
    assert [c.id for c in found] == [str(n) for n in range(1, count + 1)]
    asked = [request.target for request in status_page.requests]
    assert asked[:4] == [
        "/api/v1/components",
        "/api/v1/components?per_page=100&sort=id",
        "/api/v1/components?per_page=100&sort=id&page=2",
        "/api/v1/components?per_page=100&sort=id&page=3",
    ]


def test_cachet_of_one_page_is_asked_once(status_page: StatusPage) -> None:
    status_page.serve("/api/v1/components", pages.cachet_v2([pages._component_v2(1, 1)]))
    assert len(read(Source(name="s", url=status_page.url("/"), provider="cachet"))) == 1
    assert [r.path for r in status_page.requests] == ["/api/v1/components", "/api/v1/incidents"]


def test_cachet_whose_pages_have_no_end(status_page: StatusPage) -> None:
    status_page.serve("/api/v1/components", pages.cachet_v2([pages._component_v2(1, 1)], 1, 2))
    with pytest.raises(SourceError, match="its pages have no end: 2 were read"):
        read(Source(name="s", url=status_page.url("/"), provider="cachet"))


def test_cachet_whose_second_page_is_missing_changes_nothing(status_page: StatusPage) -> None:
    status_page.serve("/api/components", pages.CACHET_V3_FIRST)
    status_page.serve("/api/components?per_page=100&sort=id&page=2", status=500)
    with pytest.raises(SourceError, match="answered HTTP 500"):
        read(Source(name="s", url=status_page.url("/"), provider="cachet"))


@pytest.mark.parametrize("status", [401, 404, 429, 500])
def test_cachet_without_incidents_is_read_all_the_same(status_page: StatusPage, status: int) -> None:
    serve(status_page, pages.CACHET_V2)
    status_page.serve("/api/v1/incidents", status=status)
    found = read(Source(name="s", url=status_page.url("/"), provider="cachet"))
    assert {c.id for c in found} == set(pages.CACHET_V2.expected)
    assert not any(c.incident for c in found)


# --- one product's ways -----------------------------------------------------------------------------------------------


def test_incident_io_without_components_json_gives_what_the_summary_has(status_page: StatusPage) -> None:
    status_page.serve("/api/v2/summary.json", pages.INCIDENTIO_SUMMARY)
    assert len(read(Source(name="s", url=status_page.url("/")))) == 25


@pytest.mark.parametrize("provider", ["auto", "incidentio"])
@pytest.mark.parametrize("given", ["/", "/api/v2/summary.json"])
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"status": 500}, "answered HTTP 500"),
        ({"status": 429}, "answered HTTP 429"),
        ({"document": b'{"components": [', "status": 200}, "the answer is not JSON, or not all of it"),
        ({"document": {"error": "try again"}}, "it has no list of components"),
    ],
)
def test_an_incident_io_list_that_cannot_be_read_now_is_not_the_cut_one(
    status_page: StatusPage, provider: str, given: str, how: dict[str, Any], words: str
) -> None:
    """Else an outage of a component that the summary leaves out would pass unseen, and the page for well read."""
    status_page.serve("/api/v2/summary.json", pages.INCIDENTIO_SUMMARY)
    status_page.serve("/api/v2/components.json", **how)
    with pytest.raises(SourceError, match=r"/api/v2/components\.json: ") as caught:
        read(Source(name="s", url=status_page.url(given), provider=provider))
    assert words in caught.value.message


def test_an_incident_io_list_that_hangs_is_not_the_cut_one(status_page: StatusPage) -> None:
    status_page.serve("/api/v2/summary.json", pages.INCIDENTIO_SUMMARY)
    status_page.serve("/api/v2/components.json", delay=20.0)
    with pytest.raises(SourceError, match=r"/api/v2/components\.json: not read within 2 s"):
        read(Source(name="s", url=status_page.url("/"), provider="incidentio", timeout=2.0))


def test_instatus_components_that_cannot_be_read_are_the_cause(status_page: StatusPage) -> None:
    status_page.serve("/summary.json", pages.INSTATUS_SUMMARY)
    status_page.serve("/v3/components.json", status=503)
    with pytest.raises(SourceError, match=r"/v3/components\.json: answered HTTP 503"):
        read(Source(name="s", url=status_page.url("/summary.json")))


@pytest.mark.parametrize("provider", ["auto", "uptime-kuma"])
def test_a_kuma_page_that_does_not_exist(status_page: StatusPage, provider: str) -> None:
    """Its beats are an empty list, with 200, whatever the slug; the page is 404, or hangs in early versions of 2."""
    status_page.serve("/api/status-page/heartbeat/typo", {"heartbeatList": {}, "uptimeList": {}})
    with pytest.raises(SourceError, match=r"/api/status-page/typo: there is no status page 'typo'"):
        read(Source(name="s", url=status_page.url("/status/typo"), provider=provider))
    status_page.serve("/api/status-page/typo", status=503)
    asks = r" \(and there are no beats: is there a status page 'typo'\?\)"
    with pytest.raises(SourceError, match=r"/api/status-page/typo: answered HTTP 503[^(]*" + asks):
        read(Source(name="s", url=status_page.url("/status/typo"), provider=provider))
    status_page.serve("/api/status-page/typo", b"", delay=5)
    with pytest.raises(SourceError, match=r"/api/status-page/typo: not read within 1 s" + asks):
        read(Source(name="s", url=status_page.url("/status/typo"), provider=provider, timeout=1))
    status_page.serve("/api/status-page/typo", {**pages.KUMA_PAGE, "publicGroupList": []})
    assert read(Source(name="s", url=status_page.url("/status/typo"), provider=provider)) == []


def test_a_cachet_2_without_components_yet(status_page: StatusPage) -> None:
    status_page.serve("/api/v1/components", pages.cachet_v2([]))
    status_page.serve("/api/v1/incidents", pages.CACHET_V2_INCIDENTS)
    assert read(Source(name="s", url=status_page.url("/"))) == []


def test_a_number_too_long_is_told_in_our_words(status_page: StatusPage) -> None:
    url = status_page.serve("/a.json", b'{"components": ' + b"1" * 5000 + b"}")
    with pytest.raises(SourceError) as caught:
        read(Source(name="s", url=url))
    assert caught.value.message == f"{url}: the answer is not JSON that can be read (a number is too long)"


@pytest.mark.parametrize("provider", ["auto", "uptime-kuma"])
@pytest.mark.parametrize("entry", ["dashboard", None])
def test_a_kuma_that_shows_no_page(status_page: StatusPage, provider: str, entry: str | None) -> None:
    status_page.serve("/api/entry-page", {"type": "entryPage", "entryPage": entry})
    with pytest.raises(SourceError, match="shows no status page of Uptime Kuma: give the address of one"):
        read(Source(name="s", url=status_page.url("/"), provider=provider))


def test_an_entry_that_is_no_kuma(status_page: StatusPage) -> None:
    status_page.serve("/api/entry-page", {"message": "hello"})
    with pytest.raises(NotThere, match="shows no status page of Uptime Kuma"):
        read(Source(name="s", url=status_page.url("/"), provider="uptime-kuma"))


def test_a_kuma_whose_entry_is_a_page(status_page: StatusPage) -> None:
    serve(status_page, pages.KUMA)
    status_page.serve("/api/entry-page", {"type": "entryPage", "entryPage": "statusPage-voice"})
    assert len(read(Source(name="s", url=status_page.url("/"), provider="uptime-kuma"))) == 7


def test_gatus_is_asked_for_the_newest_result(status_page: StatusPage) -> None:
    serve(status_page, pages.GATUS)
    read(Source(name="s", url=status_page.url("/"), provider="gatus"))
    (request,) = status_page.requests
    assert request.target == "/api/v1/endpoints/statuses?page=1&pageSize=1"


def test_gatus_behind_a_login(status_page: StatusPage) -> None:
    status_page.serve("/api/v1/endpoints/statuses", status=401)
    with pytest.raises(SourceError, match=r"/api/v1/endpoints/statuses\?…: answered HTTP 401 Unauthorized"):
        read(Source(name="s", url=status_page.url("/"), provider="gatus"))


def test_google_links_are_whole(status_page: StatusPage) -> None:
    serve(status_page, pages.WORKSPACE)
    found = read(Source(name="s", url=status_page.url("/appsstatus/dashboard/"), provider="google-cloud"))
    links = {c.incident.link for c in found if c.incident}
    assert links == {status_page.url("/appsstatus/dashboard/incidents/inc")}


class Site:
    """A `get` that notes what it was asked for, and knows one address."""

    def __init__(self, there: str, document: Any) -> None:
        self.there, self.document = there, document
        self.asked: list[str] = []

    def get(self, url: str) -> Any:
        self.asked.append(url)
        if url != self.there:
            raise NotThere(f"{url}: answered HTTP 404")
        return self.document


_RAW = "https://raw.githubusercontent.com/voice/status/"
_STATUSPAL = "/api/v2/status_pages/voice/summary"


@pytest.mark.parametrize(
    ("page", "url", "asked"),
    [
        ("upptime", "https://github.com/voice/status", f"{_RAW}HEAD/history/summary.json"),
        ("upptime", "https://www.github.com/voice/status.git/", f"{_RAW}HEAD/history/summary.json"),
        ("upptime", "https://github.com/voice/status/tree/main/history", f"{_RAW}main/history/summary.json"),
        (
            "upptime",
            "https://github.com/voice/status/blob/master/history/summary.json",
            f"{_RAW}master/history/summary.json",
        ),
        ("upptime", "https://voice.github.io/status/", f"{_RAW}HEAD/history/summary.json"),
        ("upptime", "https://raw.githubusercontent.com/voice/status", f"{_RAW}HEAD/history/summary.json"),
        ("upptime", f"{_RAW}main/", f"{_RAW}main/history/summary.json"),
        ("upptime", f"{_RAW}main/history/summary.json", f"{_RAW}main/history/summary.json"),
        ("statuspal", "https://voice.statuspal.io/", f"https://statuspal.io{_STATUSPAL}"),
        ("statuspal", "https://voice.statuspal.eu", f"https://statuspal.eu{_STATUSPAL}"),
        (
            "statusio",
            f"https://status.io/pages/{pages.PAGE_ID}",
            f"https://api.status.io/1.0/status/{pages.PAGE_ID}",
        ),
    ],
)
def test_a_hosted_pages_address_leads_to_its_document(page: str, url: str, asked: str) -> None:
    site = Site(asked, PAGES[page].documents[0])
    provider = PROVIDERS[PAGES[page].provider]
    assert provider.parse(provider.fetch(url, site.get))
    assert site.asked == [asked]


# --- our own API ------------------------------------------------------------------------------------------------------

XML = to_xml(
    [
        Entry(Region("karnataka", "KA-IN"), Type.CRITICAL, ("+1",)),
        Entry(Region("karnataka", "KA-IN"), Type.OPERATIONAL, ("+2", "+3")),
        Entry(Region("tamil nadu", "TN-IN"), Type.WARNING, ("+4",)),
    ]
)


@pytest.mark.parametrize("provider", ["auto", "monitor"])
@pytest.mark.parametrize(
    "body", [XML, b"\xef\xbb\xbf" + XML, XML.partition(b"?>")[2], b"<!-- by hand -->\n" + XML[38:]]
)
def test_our_own_api_as_xml(status_page: StatusPage, provider: str, body: bytes) -> None:
    url = status_page.serve("/v1/?method=monitor&format=xml", body, content_type="application/xml; charset=utf-8")
    found = read(Source(name="s", url=url, provider=provider))
    assert [(c.id, c.name, c.word) for c in found] == [
        ("KA-IN", "karnataka", "critical"),
        ("TN-IN", "tamil nadu", "warning"),
    ]
    assert read(Source(name="f", provider=provider), [File("f.xml", body)]) == found


def test_one_entry_and_none_as_xml(status_page: StatusPage) -> None:
    url = status_page.serve("/one.xml", to_xml([Entry(Region("a", "A"), Type.WARNING, ("+1",))]))
    assert [(c.id, c.type) for c in read(Source(name="s", url=url))] == [("A", Type.WARNING)]
    url = status_page.serve("/none.xml", to_xml([]))
    assert read(Source(name="s", url=url, provider="monitor")) == []


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE api [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (c, b"&%c;" % (c - 1) * 10) for c in range(98, 110))
    + b"]><api><status>&m;</status></api>"
)
REFUSED = [
    (BOMB, "it is XML with a document type, which is refused"),
    (BOMB.replace(b"<!DOCTYPE api", b"<!DOCTYPE lolz"), "it is XML with a document type, which is refused"),
    (
        b'<!DOCTYPE api [<!ENTITY x SYSTEM "file:///etc/hostname">]><api><status>&x;</status></api>',
        "it is XML with a document type, which is refused",
    ),
    (b'<!DOCTYPE api SYSTEM "http://127.0.0.1:1/x.dtd"><api/>', "it is XML with a document type, which is refused"),
    (b"<api><status>&x;</status></api>", "it is not XML, or not all of it (undefined entity"),
    (b"<api>" + b"<a>" * 1_000_000, "it is XML nested more than 20 deep"),
    (XML[:-10], "it is not XML, or not all of it"),
    (b"<api><status>\xff</status></api>", "it is XML, but not in UTF-8"),
    (b"<?xml version='1.0' encoding='utf-16'?><api><status>\xff</status></api>", "it is XML, but not in UTF-8"),
    (b"<api/>", "the incident API answers nothing"),
    (b"<api>text</api>", "the incident API answers nothing"),
    (b"<api><status>200</status><message>OK</message></api>", "it has no list of incidents"),
    (
        b"<api><status>E542</status><message>User Plugin not found</message></api>",
        "answers E542: User Plugin not found",
    ),
    (XML.replace(b"<type>critical</type>", b""), "entry 1 of its incidents has no type that is text"),
    (XML.replace(b"KA-IN", b"<b>KA</b>"), "entry 1 of its incidents has no region_code that is text"),
]


@pytest.mark.parametrize(("body", "words"), REFUSED, ids=range(len(REFUSED)))
def test_xml_that_is_refused(status_page: StatusPage, body: bytes, words: str) -> None:
    url = status_page.serve("/v1/", body, content_type="application/xml")
    for provider in ("auto", "monitor"):
        with pytest.raises(SourceError) as caught:
            read(Source(name="s", url=url, provider=provider))
        assert caught.value.message.startswith(url)
        assert words in caught.value.message
        assert "\n" not in caught.value.message


@pytest.mark.parametrize("status", [400, 404, 405])
def test_auto_goes_on_where_a_server_does_not_know_an_address(status_page: StatusPage, status: int) -> None:
    """The API itself says 400 to a request without a method."""
    status_page.serve("/v1/", status=status)
    status_page.serve("/v1/?api_key=k&method=monitor", pages.MONITOR_JSON)
    assert len(read(Source(name="s", url=status_page.url("/v1/?api_key=k")))) == 3


@given(st.binary(max_size=60), st.integers(0, len(XML)), st.integers(0, 40))
@settings(deadline=None)
def test_any_bytes_give_components_or_one_source_error(piece: bytes, at: int, gone: int) -> None:
    for body in (b"<api>" + piece, b"<?xml" + piece, XML[:at] + piece + XML[at + gone :]):
        for provider in ("auto", "monitor"):
            message = "fine"
            try:
                read(Source(name="f", provider=provider), [File("f.xml", body)])
            except SourceError as error:
                message = error.message
            assert message
            assert "\n" not in message


@pytest.mark.parametrize(
    ("status", "document", "words"),
    [
        (200, {"status": "E701", "message": "No incidents found"}, "the incident API answers E701: No incidents found"),
        (401, {"status": "401", "message": "unknown key"}, "answered HTTP 401 Unauthorized"),
        (429, {"status": "429", "message": "too many requests"}, "answered HTTP 429 Too Many Requests"),
        (503, {"status": "503", "message": "database away"}, "answered HTTP 503 Service Unavailable"),
    ],
)
def test_an_error_of_the_api_is_told_without_the_key(
    cli: Cli, world: World, status_page: StatusPage, status: int, document: dict[str, str], words: str
) -> None:
    status_page.serve("/v1/", document, status=status)
    server = world.server(tag="KA-IN")
    url = status_page.url("/v1/?api_key=SECRET&format=json")
    result = cli("-v", "incident-sync", "--url", url, "--provider", "monitor")
    assert (result.code, result.out) == (75, "")
    assert words in result.err
    assert "SECRET" not in result.err
    assert status_page.requests[-1].query == [("api_key", "SECRET"), ("format", "json"), ("method", "monitor")]
    assert world.server_row(server).final_status == "operational"
