"""The window of a report: months and days by the clock of a zone, what is asked for, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest

from monitor_cli.cli.inputs import read_time
from monitor_cli.reports.window import Window, days, midnight, month, read_zone
from tests.support.cli import Cli
from tests.support.stores import Store

HOUR = 3_600_000


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).astimezone(UTC).timestamp() * 1000)


@pytest.fixture
def lite(make_cli: Callable[[str | None], Cli], sqlite_database: Store) -> Cli:
    return make_cli(sqlite_database.url)


@pytest.mark.parametrize(
    ("zone", "text", "since", "hours"),
    [
        ("UTC", "2026-02", "2026-02-01T00:00+00:00", 28 * 24),
        ("UTC", "2024-02", "2024-02-01T00:00+00:00", 29 * 24),
        ("UTC", "2026-12", "2026-12-01T00:00+00:00", 31 * 24),
        ("Asia/Kolkata", "2026-10", "2026-09-30T18:30+00:00", 31 * 24),
        ("Europe/Berlin", "2026-03", "2026-02-28T23:00+00:00", 31 * 24 - 1),  # the clock goes forward
        ("Europe/Berlin", "2026-10", "2026-09-30T22:00+00:00", 31 * 24 + 1),  # and back
        ("America/Asuncion", "2023-10", "2023-10-01T04:00+00:00", 31 * 24 - 1),  # 1 October has no midnight
        ("Atlantic/Azores", "2026-10", "2026-10-01T00:00+00:00", 31 * 24 + 1),
        ("Pacific/Apia", "2011-12", "2011-12-01T10:00+00:00", 30 * 24),  # without its 30th
    ],
)
def test_a_month_is_as_long_as_the_clock_there_has_it(zone: str, text: str, since: str, hours: int) -> None:
    assert month(text, read_zone(zone)) == (at(since), at(since) + hours * HOUR)


def test_months_meet() -> None:
    for zone in map(read_zone, ("UTC", "Asia/Kolkata", "America/Asuncion", "Africa/Cairo", "Australia/Lord_Howe")):
        for year in range(2020, 2027):
            names = [f"{year}-{n:02}" for n in range(1, 13)]
            spans = [month(name, zone) for name in names]
            assert [end for _, end in spans[:-1]] == [begin for begin, _ in spans[1:]]


def test_a_midnight_that_comes_twice_is_the_first_and_one_that_is_skipped_the_skip() -> None:
    # Havana: at 1:00 on 1 November 2026 the clock goes back to 0:00; Cairo: at 0:00 on 24 April 2026 it goes to 1:00.
    assert midnight(date(2026, 11, 1), read_zone("America/Havana")) == at("2026-11-01T04:00+00:00")
    assert midnight(date(2026, 4, 24), read_zone("Africa/Cairo")) == at("2026-04-23T22:00+00:00")


def test_the_days_of_a_window() -> None:
    berlin = read_zone("Europe/Berlin")
    window = Window(at("2026-10-24T12:00+02:00"), at("2026-10-27T00:00+01:00"), berlin)
    assert days(window) == [
        (at("2026-10-25T00:00+02:00"), date(2026, 10, 25)),
        (at("2026-10-26T00:00+01:00"), date(2026, 10, 26)),
    ]


@pytest.mark.parametrize("name", ["Mars/Base", "", "../etc/passwd", "Europe", "/etc/localtime", "a" * 300, "UTC\0"])
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no time zone"):
        read_zone(name)


@pytest.mark.parametrize("text", ["2026-13", "2026-00", "2026-1", "26-01", "2026-01-01", "october", "9999-12", ""])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no month"):
        month(text, UTC)


def test_a_time_without_a_zone_is_by_the_zones_clock() -> None:
    kolkata = read_zone("Asia/Kolkata")
    assert read_time("2026-10-01", kolkata) == at("2026-10-01T00:00+05:30")
    assert read_time("2026-10-01T12:00Z", kolkata) == at("2026-10-01T12:00+00:00")
    assert read_time("2026-10-01") == at("2026-10-01T00:00+00:00")


def test_what_is_asked_for_is_what_is_reported(lite: Cli) -> None:
    shown = lite.ok("report", "availability", "--month", "2026-10", "--timezone", "Asia/Kolkata", "--json").json
    assert (shown["since"], shown["until"]) == ("2026-09-30T18:30:00.000Z", "2026-10-31T18:30:00.000Z")
    assert (shown["report"], shown["timezone"], shown["account"]) == ("availability", "Asia/Kolkata", None)
    assert (shown["regions"], shown["servers"]) == ([], [])
    shown = lite.ok("report", "incidents", "--since", "2026-10-01", "--until", "2026-10-02", "--format", "json").json
    assert (shown["since"], shown["until"]) == ("2026-10-01T00:00:00.000Z", "2026-10-02T00:00:00.000Z")


def test_by_default_it_is_the_last_30_days_and_the_future_is_in_no_report(lite: Cli) -> None:
    shown = lite.ok("report", "deliveries", "--json").json
    since, until = (datetime.fromisoformat(shown[name]) for name in ("since", "until"))
    assert (until - since).days == 30
    assert abs((datetime.now(UTC) - until).total_seconds()) < 60
    shown = lite.ok("report", "deliveries", "--since", "1h", "--until", "2999-01-01", "--json").json
    assert abs((datetime.now(UTC) - datetime.fromisoformat(shown["until"])).total_seconds()) < 60


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--month", "2026-13"), "'2026-13' is no month"),
        (("--month", "2026-10", "--since", "7d"), "--month stands instead of --since and --until"),
        (("--since", "yesterday"), "'--since': 'yesterday' is neither a time"),
        (("--since", "2026-10-02", "--until", "2026-10-01"), "--since is not before --until"),
        (("--until", "0000-00-00"), "'--until'"),
        (("--month", "2999-01"), "the window begins at 2999-01-01 00:00:00+00:00, which is to come"),
        (("--timezone", "Mars/Base"), "'Mars/Base' is no time zone"),
        (("--json", "--format", "csv"), "--json and --format say different things"),
    ],
)
def test_what_cannot_be_meant_is_refused(lite: Cli, args: tuple[str, ...], words: str) -> None:
    for report in ("availability", "incidents", "deliveries"):
        result = lite("report", report, *args)
        assert (result.code, result.out) == (2, "")
        assert words in " ".join(result.err.split())


def test_an_account_that_is_not_there(lite: Cli) -> None:
    for report in ("availability", "incidents", "deliveries"):
        result = lite("report", report, "--account", "nobody")
        assert (result.code, result.out) == (1, "")
        assert "no account named 'nobody'" in result.err


@pytest.mark.parametrize("report", ["availability", "incidents", "deliveries"])
@pytest.mark.parametrize("option", ["--account", "--html"])
def test_an_empty_option_is_no_report_of_everybody(lite: Cli, report: str, option: str) -> None:
    """As a script gives it whose variable is not set."""
    result = lite("report", report, option, "")
    assert (result.code, result.out) == (2, "")
    assert "it is empty" in result.err
