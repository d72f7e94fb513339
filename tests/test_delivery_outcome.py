"""What an answer means: the schedule, Retry-After, the verdict, what is kept of an answer, when a callback goes off."""

from __future__ import annotations

import base64
import html
import json
import re
import time
from collections.abc import Callable
from email.utils import formatdate
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor_cli.config import Settings
from monitor_cli.delivery import outcome
from monitor_cli.delivery.jobs import Job, build_job
from monitor_cli.delivery.outcome import Schedule, Verdict, kept_response, verdict
from monitor_cli.delivery.redaction import SHORTEST_SECRET, redact
from monitor_cli.outbound import signing
from monitor_cli.outbound.transfer import KEPT, Answer
from monitor_cli.store.settling import Attempt, Then
from monitor_cli.types import Type
from tests.support.claimed import NOW, callback_row, claimed, owes

DAY_MS = 24 * 3600 * 1000
WALL = 1_700_000_000.0


def answer(
    status: int | None = 500, *, arrived: bool = True, local: str | None = None, after: str | None = None
) -> Answer:
    return Answer(status, None if status else "broken", b"", after, 3, arrived, local)


def attempt(status: int | None = 500, *, at: int = NOW) -> Attempt:
    return Attempt(at, 3, status, None if status else "broken", None, "msg_1")


def plain(low: float, high: float) -> float:
    return (low + high) / 2


SCHEDULE = Schedule((5, 300), jitter=plain, wall=lambda: WALL)


# --- the schedule ---------------------------------------------------------------------------------------------------


def test_the_default_schedule_is_the_contract() -> None:
    assert Settings().retry_schedule == (5, 300, 1800, 7200, 18000, 36000, 36000)


@given(st.lists(st.floats(0, 30 * 86400), max_size=9), st.integers(1, 10))
def test_a_retry_comes_after_its_pause_within_a_fifth_then_never(delays: list[float], tried: int) -> None:
    pause = Schedule(delays).delay_ms(tried)
    if tried > len(delays):
        assert pause is None
    else:
        assert pause is not None
        assert 0.8 * delays[tried - 1] * 1000 - 1 <= pause <= 1.2 * delays[tried - 1] * 1000


def test_the_jitter_spreads() -> None:
    pauses = {Schedule((36000,)).delay_ms(1) for _ in range(50)}
    assert len(pauses) > 40
    assert [Schedule((10,), jitter=pick).delay_ms(1) for pick in (min, max)] == [8000, 12000]


# --- Retry-After: RFC 9110, section 10.2.3 --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "milliseconds"),
    [
        (None, 0),
        ("", 0),
        ("0", 0),
        ("120", 120_000),
        ("86400", DAY_MS),
        ("86401", DAY_MS),
        ("9" * 400, DAY_MS),
        ("-5", 0),
        ("1.5", 0),
        ("soon", 0),
        ("²", 0),
        (formatdate(WALL + 90, usegmt=True), 90_000),
        (formatdate(WALL - 90, usegmt=True), 0),
        (formatdate(WALL + 3 * 86400, usegmt=True), DAY_MS),
        (time.strftime("%A, %d-%b-%y %H:%M:%S GMT", time.gmtime(WALL + 90)), 90_000),  # RFC 850
        (time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(WALL + 90)), 90_000),  # asctime: without a zone, and UTC
        ("Tue, 14 Nov 2023 22:14:50 -0000", 90_000),
        ("Tue, 99 Nov 2023 22:14:50 GMT", 0),
        ("Tue, 14 Nov 999999999999 22:14:50 GMT", 0),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/Los_Angeles"])
def test_retry_after(monkeypatch: pytest.MonkeyPatch, header: str | None, milliseconds: int, zone: str) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert SCHEDULE.retry_after_ms(header) == milliseconds
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.text(st.characters(max_codepoint=255), max_size=60) | st.from_regex(r"\w{3}, \d+ \w{3} \d+ \d+:\d+:\d+ \S+"))
def test_any_retry_after_is_a_bound_of_at_most_a_day(header: str) -> None:
    assert 0 <= SCHEDULE.retry_after_ms(header) <= DAY_MS


# --- the verdict ----------------------------------------------------------------------------------------------------


@given(st.integers(200, 999))
def test_success_is_2xx_only_and_gateways_leave_a_doubt(status: int) -> None:
    expected = (
        Verdict.TAKEN
        if status <= 299
        else Verdict.UNSURE
        if status in (502, 504, *range(520, 530))
        else Verdict.REFUSED
    )
    assert verdict(answer(status), network_works=True) is expected
    assert verdict(answer(status), network_works=False) is expected


@pytest.mark.parametrize(
    ("arrived", "local", "works", "expected"),
    [
        (True, None, True, Verdict.UNSURE),  # broken after a byte was sent: it may have been taken
        (False, None, True, Verdict.REFUSED),  # refused, TLS, too slow to connect: nothing arrived
        (False, None, False, Verdict.REFUSED),
        (False, "network", False, Verdict.LOCAL),  # no way out, and nobody else was reached
        (False, "network", True, Verdict.REFUSED),  # no way to this one customer
        (False, "resources", True, Verdict.LOCAL),
        (False, "resources", False, Verdict.LOCAL),
    ],
)
def test_no_answer(arrived: bool, local: str | None, works: bool, expected: Verdict) -> None:
    assert verdict(answer(None, arrived=arrived, local=local), works) is expected


# --- what is kept of an answer --------------------------------------------------------------------------------------


def test_the_first_kib_of_an_answer_is_kept() -> None:
    assert kept_response(b"", callback_row()) is None
    assert kept_response(b"ok", callback_row()) == "ok"
    assert kept_response(b"100 %4Fk &amp; \\u0041", callback_row()) == "100 %4Fk &amp; \\u0041"
    assert kept_response(b"x" * 3000, callback_row()) == "x" * 1024
    assert kept_response("é".encode() * 600, callback_row()) == "é" * 512  # never half a character
    assert kept_response(b"a\0b\xff", callback_row()) == "a\ufffdb\ufffd"


@given(st.binary(max_size=KEPT))
def test_whatever_answers_is_kept_as_text(body: bytes) -> None:
    text = kept_response(body, callback_row(headers=(("X-Key", "s3cret value"),)))
    assert (text is None) == (not body)
    assert text is None or (len(text.encode()) <= 1024 and "\0" not in text)


SECRET_VALUE = 'Bearer abc/def"<é>=='


@pytest.mark.parametrize(
    "echoed",
    [
        SECRET_VALUE.encode(),
        SECRET_VALUE.encode("latin-1"),  # as it went out
        json.dumps({"auth": SECRET_VALUE}).encode(),
        json.dumps({"auth": SECRET_VALUE}, ensure_ascii=False).encode(),
        json.dumps({"auth": SECRET_VALUE}).replace("/", "\\/").encode(),  # as PHP writes it
        html.escape(SECRET_VALUE).encode(),
    ],
)
def test_echoed_header_values_are_redacted(echoed: bytes) -> None:
    of = callback_row(headers=(("Authorization", SECRET_VALUE),))
    text = kept_response(b"you sent: " + echoed + b" thanks", of)
    assert text is not None
    assert "***" in text
    assert "abc" not in text
    assert text.endswith(("thanks", '"} thanks'))


def test_a_short_secret_inside_a_longer_one_uncovers_nothing_of_it() -> None:
    of = callback_row(headers=(("X-Short", "abcd"), ("X-Long", "0123abcd4567"), ("X-Over", "4567zz")))
    assert kept_response(b"got 0123abcd4567zz, abcd", of) == "got ***, ***"


@pytest.mark.parametrize(
    ("value", "echoed"),
    [
        ("Bearer t0ken/1", "your token t0ken/1."),
        ("bearer  x1", "your token x1."),
        ("Token token=abc123def", "your token abc123def."),
        ("Basic " + base64.b64encode(b"user:pa:ss").decode(), "your token user and pa:ss."),
        ("Basic " + base64.b64encode(b"sk_live_1:").decode(), "your token sk_live_1."),  # the key is the user
        ("Basic " + base64.b64encode(b"user:pass").decode(), f"your token {base64.b64encode(b'user:pass').decode()}."),
        ("a=1; session=s3ss10n; b=2", "your token s3ss10n."),
        ('Digest username="u", response="6629fae4"', "your token 6629fae4."),
    ],
)
def test_parts_of_a_header_value_that_would_do_by_themselves_are_redacted(value: str, echoed: str) -> None:
    text = kept_response(echoed.encode(), callback_row(headers=(("Authorization", value),)))
    assert str(text).startswith("your token ***")
    assert not [part for part in echoed[11:].replace(" and ", " ").split() if part.strip(".") in str(text)]


def _slashes(text: str) -> str:
    return json.dumps(text)[1:-1].replace("/", "\\/")


ENCODERS: list[Callable[[str], str]] = [
    str,
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    _slashes,
    html.escape,
    quote,
    quote_plus,
    lambda text: quote(text, safe="~()*!'"),
    lambda text: re.sub("%..", lambda match: match[0].lower(), quote_plus(text)),
    lambda text: "".join(f"&#{ord(c)};" if c in "<>&\"'/é" else c for c in text),
    lambda text: text.replace("'", "&#039;").replace('"', "&#x22;"),
    lambda text: text.replace("\\", "\\\\").replace("'", "\\'").replace("é", "\\xe9"),
]
VALUES = st.text("abcXYZ019 +/=%&;<>\"'\\é-._~", min_size=6, max_size=30).filter(
    lambda text: text == text.strip() and sum(c.isalnum() for c in text) > 3 and not re.search(r"%..|\\|&", text)
)


@given(VALUES, st.lists(st.sampled_from(ENCODERS), min_size=1, max_size=3))
def test_however_a_value_is_echoed_nothing_of_it_is_kept(value: str, encoders: list[Callable[[str], str]]) -> None:
    text = value
    for encode in encoders:
        text = encode(text)
    of = callback_row(headers=(("X-Key", value),))
    assert kept_response(f"<< {text} >>".encode(), of) == "<< *** >>"


@given(VALUES, st.sampled_from(ENCODERS), st.integers(1, 200))
def test_nor_where_it_is_cut_at_the_end_of_what_is_read(value: str, encode: Callable[[str], str], shown: int) -> None:
    secret = encode(value).encode()
    shown = min(shown, len(secret))
    body = b"x" * (KEPT - shown) + secret[:shown]
    kept = redact(body, (), [value], cut=True)
    expected = b"x" * (KEPT - shown) + b"***"
    assert kept == expected or (kept == body and shown < 9)  # within the escape of its first character


@given(st.binary(max_size=200), st.lists(VALUES, max_size=3))
def test_what_holds_nothing_of_it_stays(body: bytes, values: list[str]) -> None:
    kept = redact(body, (), values, cut=False)
    assert kept == body or b"***" in kept


def test_a_header_value_cut_at_the_end_of_what_is_read_is_redacted() -> None:
    value = "k" + "0123456789abcdef" * 400  # longer than what is kept of an answer
    text = kept_response((b"echo " + value.encode())[:KEPT], callback_row(headers=(("X-Key", value),)))
    assert text == "echo ***"


def test_our_secret_is_redacted() -> None:
    of = callback_row()
    text = kept_response(f"secret={of.secrets[0]}".encode(), of)
    assert text == "secret=***"


def test_no_secret_of_ours_fits_into_an_answer_that_is_not_looked_through() -> None:
    secret = signing.new_secret()
    key = secret.removeprefix("whsec_").encode()
    assert len(key) > SHORTEST_SECRET
    assert (redact(key, (secret,), (), cut=False), redact(b"x" + key[:9], (secret,), (), cut=True)) == (b"***", b"x***")


# --- what a settlement says -----------------------------------------------------------------------------------------


def settled(
    job: Job, of: Answer, meaning: Verdict, *, at: int = NOW, schedule: Schedule = SCHEDULE
) -> outcome.Settlement:
    part = job.next_part()
    assert part is not None
    return outcome.settle_answer(job, part, of, meaning, attempt(of.http_status, at=at), schedule)


def test_taken_tells_what_was_sent_and_what_was_dropped() -> None:
    job = build_job(claimed([owes(1, wanted=4), owes(2, Type.WARNING, wanted=3)], {2: Type.WARNING}))
    result = settled(job, answer(200), Verdict.TAKEN)
    assert result.then is Then.DONE
    assert [(t.unit.channel_id, t.wanted, t.type) for t in result.told] == [(1, 4, Type.CRITICAL), (2, 3, None)]
    assert (result.failed, result.recovered, result.off, list(result.unsure)) == (False, False, None, [])
    assert settled(build_job(claimed(of=callback_row(failures=1))), answer(204), Verdict.TAKEN).recovered


def test_a_refusal_leaves_no_doubt_and_a_lost_answer_does() -> None:
    for status, meaning, doubts in ((500, Verdict.REFUSED, 0), (504, Verdict.UNSURE, 1), (None, Verdict.UNSURE, 1)):
        result = settled(build_job(claimed()), answer(status), meaning)
        assert result.then is Then.RETRY
        assert (list(result.told), len(result.unsure), result.failed) == ([], doubts, True)


def test_attempts_use_up_the_schedule() -> None:
    results = [settled(build_job(claimed(attempts=n)), answer(500), Verdict.REFUSED) for n in range(3)]
    assert [(r.then, r.tried, r.delay_ms) for r in results] == [
        (Then.RETRY, 1, 5000),
        (Then.RETRY, 2, 300_000),
        (Then.FAILED, 3, 0),
    ]
    assert settled(build_job(claimed()), answer(500), Verdict.REFUSED, schedule=Schedule(())).then is Then.FAILED


def test_a_fault_of_ours_uses_up_nothing() -> None:
    result = settled(build_job(claimed()), answer(None, arrived=False, local="network"), Verdict.LOCAL)
    assert result.then is Then.LOCAL
    assert (result.failed, result.tried, list(result.attempts), result.off) == (False, 0, [], None)


def test_retry_after_is_taken_from_any_failure() -> None:
    for status in (429, 500, 503):
        assert settled(build_job(claimed()), answer(status, after="60"), Verdict.REFUSED).retry_after_ms == 60_000


@pytest.mark.parametrize(
    ("failures", "since", "off"),
    [
        (19, NOW - 5 * DAY_MS, True),
        (18, NOW - 5 * DAY_MS, False),  # 19 attempts
        (19, NOW - 5 * DAY_MS + 1, False),  # not yet 5 days
        (500, NOW - DAY_MS, False),
        (19, None, False),
    ],
)
def test_off_after_5_days_and_20_attempts(failures: int, since: int | None, off: bool) -> None:
    job = build_job(claimed(of=callback_row(failures=failures, failing_since=since)))
    assert (settled(job, answer(500), Verdict.REFUSED).off is not None) == off


def test_the_reason_names_the_last_failure() -> None:
    job = build_job(claimed(of=callback_row(failures=30, failing_since=NOW - 6 * DAY_MS)))
    assert (
        settled(job, answer(503), Verdict.REFUSED).off
        == "it failed for 5 days, 31 attempts in a row; the last: HTTP 503"
    )
    assert str(settled(job, answer(None), Verdict.UNSURE).off).endswith("the last: broken")


def test_410_is_off_at_once() -> None:
    result = settled(build_job(claimed()), answer(410), Verdict.REFUSED)
    assert "410" in str(result.off)
    assert settled(build_job(claimed()), answer(404), Verdict.REFUSED).off is None


def test_what_can_be_no_request_fails_and_keeps_what_it_owes() -> None:
    job = build_job(claimed([owes(1), owes(2, Type.CRITICAL)], of=callback_row(payload="no form", raw_json=True)))
    assert job.trouble
    result = outcome.settle_trouble(job, Attempt(NOW, 0, None, job.trouble, None, ""))
    assert result.then is Then.FAILED
    assert [t.unit.channel_id for t in result.told] == [2]  # what is dropped anyway


def test_nothing_sent_tells_nothing_new() -> None:
    job = build_job(claimed([owes(1, Type.CRITICAL, wanted=6)]))
    result = outcome.settle_nothing_sent(job)
    assert (result.then, [(t.wanted, t.type) for t in result.told]) == (Then.DONE, [(6, None)])
    assert (list(result.attempts), result.recovered) == ([], False)


def test_a_release_says_nothing_but_that() -> None:
    result = outcome.settle_release(build_job(claimed()))
    assert (result.then, list(result.told), list(result.unsure), list(result.attempts)) == (Then.RELEASE, [], [], [])


def test_headers_made_to_be_found_everywhere_take_no_time() -> None:
    """A customer chooses his headers and his answer: together they must not hold up the others."""
    value = "; ".join("b=" + "a" * length for length in range(6, 118))
    began = time.process_time()
    assert redact(b"a" * 4096, (), [value, *("a" * length for length in range(1, 33))], cut=True) == b"***"
    assert time.process_time() - began < 0.3  # it took 0.02 s; looking at every place for each, 0.8 s


@given(st.binary(max_size=30), st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=3))
def test_all_that_a_value_covers_is_struck_out(noise: bytes, values: list[str]) -> None:
    body = bytes(b"abc"[byte % 3] for byte in noise)
    covered = {
        at + place
        for value in values
        for at in range(len(body) - len(value) + 1)
        if body[at : at + len(value)] == value.encode()
        for place in range(len(value))
    }
    kept = bytes(byte for at, byte in enumerate(body) if at not in covered)
    assert redact(body, (), values, cut=False).replace(b"***", b"") == kept


@pytest.mark.parametrize("before", ["", "a", "ab"])
@pytest.mark.parametrize("after", ["", "c", "cd"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_value_in_base64_is_struck_out(before: str, after: str, encode: Callable[[bytes], bytes]) -> None:
    value = "s3cr+t/Val?ue>9~zz"
    kept = redact(encode(f"{before}{value}{after}".encode()), (), [value], cut=False)
    assert b"***" in kept
    assert len(kept) <= 3 + 10  # no more of it than the ends, which are others' as well


def test_a_value_in_hexadecimal_is_struck_out() -> None:
    value = "s3cr+t/Val?ue>9~zz"
    for text in (value.encode().hex(), value.encode().hex().upper()):
        assert redact(f"<{text}>".encode(), (), [value], cut=False) == b"<***>"
