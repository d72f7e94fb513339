"""The pages of reports: nothing breaks into them, they are written whole, and a real browser shows them well."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import resource
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor_cli.reports import markup, timeline
from monitor_cli.reports.window import Window, read_zone
from monitor_cli.wholefile import write_whole
from tests.support.browser import Browser, BrowserMissing, Page
from tests.support.cli import Cli
from tests.support.stores import Store
from tests.support.world import World
from tests.test_report_deliveries import Told
from tests.test_report_window import at

DAY = 86_400_000
HOSTILE = "</title></style><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202egnp.exe"
REPORTS = ("availability", "incidents", "deliveries")


@pytest.fixture
def lite(make_cli: Callable[[str | None], Cli], sqlite_database: Store) -> Cli:
    return make_cli(sqlite_database.url)


@pytest.fixture
def story(sqlite_database: Store) -> World:
    """Regions with outages of all lengths, one of hostile names, one that was always well, one not known."""
    world = World(sqlite_database)
    now = int(time.time() * 1000)
    long = HOSTILE + "x" * 80
    regions = [("karnataka", "KA-IN"), ("kerala", "KL-IN"), (long, "<b>X</b>"), ("delhi", "DL-IN")]
    accounts = [world.account("acme"), world.account(HOSTILE)]
    callbacks = [world.callback(account, "http://127.0.0.1:9/", name=HOSTILE, created_at=1) for account in accounts]
    told = Told(world)
    for n, (region, code) in enumerate(regions):
        server = world.server(
            channel=n, name=f"gw {n} {HOSTILE}", region=region, region_code=code, created=1, modified=1
        )
        for account in accounts:
            world.number(account, f"+91{n}", channel=n)
        for k in range(0 if n == 3 else 4 + n):
            begun = now - 28 * DAY + n * DAY + k * 3 * DAY
            title, link = (
                f"Calls fail {k} {HOSTILE if n == 2 else ''}",
                ("https://status.example/1", "javascript:alert(3)")[k % 2],
            )
            said = {"incident_title": title, "incident_link": link, "planned": 1}
            world.flag(server, ("critical", "warning")[k % 2], created_at=begun, **said)
            world.flag(server, "operational", created_at=begun + (60_000, 7_200_000, DAY)[k % 3], planned=1)
            told.attempt(
                told.delivery(callbacks[k % 2], begun, begun + 900), begun + 900, 1200 * k + 40, (200, 500)[k % 2]
            )
    world.server(channel=9, region="", region_code="", final_status="odd", created=now // 1000 - 5 * 86400, modified=1)
    return world


# --- a real browser ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with Browser() as opened:
            yield opened
    except BrowserMissing as missing:
        if os.environ.get("MONITOR_TEST_BROWSER"):
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(f"{missing}; make browser installs it and runs this")


@pytest.fixture
def opened(lite: Cli, story: World, browser: Browser, tmp_path: Path) -> Callable[..., Page]:
    """opened("availability", width=400): a report's page in the browser."""

    def open_(report: str, *args: str, **view: Any) -> Page:
        file = tmp_path / f"{report}.html"
        lite("report", report, "--html", str(file), *args).quiet()
        return browser.open(file.as_uri(), **view)

    return open_


@pytest.mark.parametrize("report", REPORTS)
def test_a_browser_shows_it_well(opened: Callable[..., Page], report: str) -> None:
    for width in (400, 1400):
        for dark in (False, True):
            page = opened(report, width=width, dark=dark)
            assert page.faults() == [], (width, dark)
            ground = page.run("return getComputedStyle(document.body).backgroundColor")
            assert (int(re.findall(r"\d+", ground)[0]) < 60) == dark


def test_hostile_names_are_words_on_the_page(opened: Callable[..., Page]) -> None:
    shown = HOSTILE.replace("\u202e", "\N{REPLACEMENT CHARACTER}")
    for report in REPORTS:
        page = opened(report, width=1400)
        assert shown in page.text
        assert page.run("return document.querySelectorAll('img, script, iframe, b, object').length") == 0
        assert page.run("return document.title").startswith(report.title())


def test_the_faults_are_found(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "bad.html"
    file.write_text(
        "<!doctype html><body><p style='color:#999'>pale</p><div style='width:900px'>wide</div>"
        "<a href='javascript:1'>x</a><svg></svg><script>console.error('said')</script>"
        "<img src='absent.png' onerror='1'>"
    )
    found = "\n".join(browser.open(file.as_uri(), width=400).faults())
    for fault in (
        "contrast",
        "scrolls sideways",
        "a link to javascript:",
        "a picture says nothing",
        "there is a script",
    ):
        assert fault in found
    for fault in ("said", "leaves the page", "no language", "there is not one h1", "IMG has onerror", "absent.png"):
        assert fault in found


@pytest.mark.parametrize(
    ("since", "until", "zone"),
    [
        ("2026-10-24", "2026-10-27", "Europe/Berlin"),
        ("2026-10-01T11:40", "2026-10-01T11:50", "UTC"),
        ("2026-10-01", "2026-10-03", "Asia/Kolkata"),
        ("2026-09-01", "2026-11-01", "America/Havana"),
        ("2015-01-01", "2026-11-01", "UTC"),
        ("2025-09-01", "2026-11-25", "UTC"),
    ],
)
def test_labels_fit_into_any_window(browser: Browser, tmp_path: Path, since: str, until: str, zone: str) -> None:
    window = Window(at(f"{since}+00:00" if "T" in since else f"{since}T00:00+00:00"), _until(until), read_zone(zone))
    picture = timeline.drawn(bytes([1, 2, 3, 0] * 90), window, "t", "a title", "described")
    file = tmp_path / "timeline.html"
    page = f"<!doctype html><html lang=en><title>t</title><style>{_style()}</style><h1>t</h1>{picture}</html>"
    file.write_text(page, "utf-8")
    for width in (400, 1400):
        opened = browser.open(file.as_uri(), width=width)
        assert [fault for fault in opened.faults() if "label" in fault] == []
        assert 1 <= opened.run("return document.querySelectorAll('svg text').length") <= 6


def _until(text: str) -> int:
    return at(f"{text}+00:00" if "T" in text else f"{text}T00:00+00:00")


def _style() -> str:
    from monitor_cli.reports.style import STYLE

    return STYLE


def test_it_prints(opened: Callable[..., Page]) -> None:
    page = opened("availability", width=1000, media="print")
    assert page.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    printed = base64.b64decode(page.printed())
    assert printed.startswith(b"%PDF")
    # Cards go on over a page's end: a long one that began a new page left the one before it empty.
    inside = "return [...document.querySelectorAll('.card')].map(e => getComputedStyle(e).breakInside)"
    assert set(page.run(inside)) == {"auto"}


def test_the_regions_come_first_at_a_glance(opened: Callable[..., Page]) -> None:
    shown = "return [...document.querySelectorAll('.card')].map(e => e.querySelector('h2').textContent)"
    page = opened("availability", width=1400)
    assert page.run(shown)[0] == "Regions"
    assert page.run("return document.querySelectorAll('.card')[0].querySelectorAll('tbody tr').length") == 5
    hidden = "return [...document.querySelectorAll('td.wide')].map(e => getComputedStyle(e).display)"
    assert set(page.run(hidden)) == {"table-cell"}
    assert set(opened("availability", width=400).run(hidden)) == {"none"}


def test_a_long_title_is_cut_for_people(lite: Cli, sqlite_database: Store, tmp_path: Path) -> None:
    world, file = World(sqlite_database), tmp_path / "page.html"
    said = {"incident_title": "x" * 1000, "planned": 1}
    world.flag(world.server(created=1, modified=1), "critical", **said)
    lite("report", "incidents", "--html", str(file)).quiet()
    assert f"{'x' * 199}…</bdi>" in file.read_text("utf-8")
    assert f"{'x' * 199}…" in lite.ok("report", "incidents").out
    assert "x" * 1000 in lite.ok("report", "incidents", "--json").out


# --- without one ------------------------------------------------------------------------------------------------------


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.style = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] and self.tags[-1][0] == "style":
            self.style = data


def elements(file: Path) -> _Elements:
    parser = _Elements()
    parser.feed(file.read_text("utf-8"))
    return parser


@pytest.mark.parametrize("report", REPORTS)
def test_nothing_is_loaded_and_nothing_runs(lite: Cli, story: World, tmp_path: Path, report: str) -> None:
    file = tmp_path / "page.html"
    lite("report", report, "--html", str(file)).quiet()
    parsed = elements(file)
    names = {name for name, _ in parsed.tags}
    assert not names & {"script", "img", "iframe", "object", "form", "base", "b"}
    attributes = [(name, key, value) for name, attrs in parsed.tags for key, value in attrs.items()]
    assert not [one for one in attributes if one[1].startswith("on") or one[1] in ("src", "style", "srcset")]
    assert {value for _, key, value in attributes if key == "href"} <= {"data:,", "https://status.example/1"}
    (policy,) = (
        attrs["content"] for name, attrs in parsed.tags if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    digest = base64.b64encode(hashlib.sha256(parsed.style.encode()).digest()).decode()
    assert (
        policy == f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def test_a_page_and_a_format_together(lite: Cli, story: World, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    shown = lite.ok("report", "availability", "--html", str(file), "--json").json
    assert len(shown["regions"]) == 5
    assert file.stat().st_size > 10_000


def test_a_page_says_what_is_not_kept(lite: Cli, story: World, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    lite("report", "availability", "--since", "300d", "--html", str(file)).quiet()
    assert "The history is kept from" in file.read_text("utf-8")


def test_an_empty_database_gives_pages_too(lite: Cli, tmp_path: Path) -> None:
    for report in REPORTS:
        lite("report", report, "--html", str(tmp_path / f"{report}.html")).quiet()
    assert "There were no servers." in (tmp_path / "availability.html").read_text("utf-8")


@given(st.text())
def test_text_stays_text(value: str) -> None:
    parser = _Elements()
    parser.feed(markup.tag("p", value, title=value))
    assert [name for name, _ in parser.tags] == ["p"]
    assert len(parser.tags[0][1]) == 1
    assert all(c.isprintable() for c in markup.text(value))


@pytest.mark.parametrize(
    "address",
    [None, "", "javascript:alert(1)", " https://x", "data:text/html,x", "//x", "https://x/\u202e", "HTTPS\n://x"],
)
def test_only_the_web_is_linked_to(address: str | None) -> None:
    assert markup.link("x", address) == "<bdi>x</bdi>"
    assert 'href="https://x/?a=1&amp;b=&quot;"' in markup.link("x", 'https://x/?a=1&b="')


def test_a_picture_is_drawn_in_runs() -> None:
    assert list(timeline.runs(bytes([1, 1, 3, 0, 0]))) == [(0, 2, 1), (2, 3, 3), (3, 5, 0)]
    assert list(timeline.runs(b"")) == []


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text("old")
    file.chmod(0o640)
    link = tmp_path / "link.html"
    link.symlink_to(file)
    write_whole(str(link), b"new")
    assert (file.read_text(), file.stat().st_mode & 0o777, link.is_symlink()) == ("new", 0o640, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.html", "page.html"]


def test_a_new_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(str(tmp_path / "page.html"), b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "page.html").stat().st_mode & 0o777 == 0o640


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))  # the disk is full half-way
    try:
        with pytest.raises(OSError, match="too large"):
            write_whole(str(file), b"new" * (1 << 16))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert file.read_text() == "old"


def test_what_is_no_file_is_written_to_and_stays(tmp_path: Path) -> None:
    """A page for /dev/null, written by root, put a file in its place: for every program of the machine."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (link := tmp_path / "link").symlink_to(pipe)
    for path in (pipe, link):
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        try:
            write_whole(str(path), b"new")
            write_whole(f"/proc/self/fd/{reader}", b"er")  # as /dev/stdout leads to a pipe: no path of its own
            assert os.read(reader, 10) == b"newer"
        finally:
            os.close(reader)
    assert pipe.is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]


def test_a_page_goes_to_stdout_too(lite: Cli, story: World) -> None:
    shown = lite.ok("report", "deliveries", "--html", "-").out
    assert shown.startswith("<!doctype html>")
    assert shown.endswith("</html>\n")
    assert not Path("-").exists()
    assert lite("report", "deliveries", "--html", "-", "--json").code == 2


def test_a_place_that_is_not_there_is_said(lite: Cli, tmp_path: Path) -> None:
    result = lite("report", "availability", "--html", str(tmp_path / "absent" / "page.html"))
    assert (result.code, result.out) == (1, "")
    assert "No such file or directory" in result.err


@pytest.mark.parametrize("report", REPORTS)
def test_json_shows_nothing_that_a_terminal_obeys(report: str, story: World, lite: Cli) -> None:
    result = lite.ok("report", report, "--json")
    assert result.out.replace("\n", "").isprintable()
    assert any(HOSTILE in text for text in strings(result.json))


def strings(value: Any) -> Iterator[str]:
    """Every text in a JSON document, as it was before it was made safe."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's link")
def test_another_users_link_is_not_followed(tmp_path: Path) -> None:
    """In a directory that everybody may write to, it could lead to any file that we may write."""
    precious, link = tmp_path / "precious", tmp_path / "link.prom"
    precious.write_text("old")
    link.symlink_to(precious)
    os.lchown(link, 65534, 65534)
    with pytest.raises(OSError, match="another user's symbolic link"):
        write_whole(str(link), b"new", 0o644)
    assert (precious.read_text(), sorted(tmp_path.iterdir())) == ("old", [link, precious])
