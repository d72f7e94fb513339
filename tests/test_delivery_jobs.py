"""From what a callback is owed to the requests that tell it: what is sent, what is dropped, ids, and split GETs."""

from __future__ import annotations

import json
from itertools import chain
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor_cli.delivery import outcome
from monitor_cli.delivery.jobs import MOST_PARTS, Job, Part, build_job, must_send
from monitor_cli.outbound.transfer import Answer
from monitor_cli.outbound.url import URL_LIMIT
from monitor_cli.store.claims import Claimed
from monitor_cli.store.settling import Attempt, Settlement, Then
from monitor_cli.types import Region, Type
from tests.support.claimed import KARNATAKA, NOW, callback_row, claimed, owes

TYPES = st.sampled_from([None, *Type])
GET = callback_row(url="https://customer.test/hook?n={numbers}&id={event_id}", raw_json=False)


def incidents(job: Job) -> list[dict[str, object]]:
    (part,) = job.parts
    assert part.request.body is not None
    return list(json.loads(part.request.body)["data"]["incidents"])


def only(job: Job) -> Part:
    (part,) = job.parts
    return part


# --- what is sent and what is dropped -------------------------------------------------------------------------------


@given(told=TYPES, present=TYPES, unsure=st.booleans())
def test_news_is_another_type_or_a_doubt(told: Type | None, present: Type | None, unsure: bool) -> None:
    news = present is not None and (told != present or unsure)
    assert must_send(owes(1, told, unsure=unsure), present) == news
    job = build_job(claimed([owes(1, told, unsure=unsure)], {1: present} if present is not None else {}))
    if present is not None:
        assert (len(job.parts), len(job.dropped)) == ((1, 0) if news else (0, 1))


def test_the_present_type_is_sent() -> None:
    assert incidents(build_job(claimed([owes(1, Type.CRITICAL, wanted=9)], {1: Type.WARNING})))[0]["type"] == "warning"


def test_without_numbers_or_servers_it_is_dropped() -> None:
    assert build_job(claimed(numbers={1: ()})).dropped == (owes(1),)
    gone = claimed()
    gone = gone._replace(types={})
    assert build_job(gone).dropped == (owes(1),)
    unknown = gone._replace(types={owes(1).unit: None})
    assert build_job(unknown).dropped == (owes(1),)


def test_several_channels_and_regions_go_in_one_document() -> None:
    delhi = Region("delhi", "DL-IN")
    job = build_job(
        claimed(
            [owes(1), owes(2), owes(3, region=delhi), owes(4)],
            {1: Type.CRITICAL, 2: Type.CRITICAL, 3: Type.WARNING, 4: Type.OPERATIONAL},
            {1: ["+2", "+1"], 2: ["+3"], 3: ["+4"], 4: ["+5"]},
        )
    )
    assert [(i["region"], i["type"], i["numbers"]) for i in incidents(job)] == [
        ("delhi", "warning", ["+4"]),
        ("karnataka", "critical", ["+1", "+2", "+3"]),
    ]
    assert [o.unit.channel_id for o in job.dropped] == [4]


def test_a_number_on_two_channels_of_a_region_has_the_worst_and_each_channel_its_own() -> None:
    job = build_job(claimed([owes(1), owes(2)], {1: Type.WARNING, 2: Type.CRITICAL}, {1: ["+1", "+2"], 2: ["+1"]}))
    assert [(i["type"], i["numbers"]) for i in incidents(job)] == [("critical", ["+1"]), ("warning", ["+2"])]
    assert [(t.owed.unit.channel_id, t.type) for t in only(job).tellings] == [(1, Type.WARNING), (2, Type.CRITICAL)]


def test_what_cannot_be_rendered_is_trouble_and_no_error() -> None:
    for of in (
        callback_row(url="ftp://customer.test/"),
        callback_row(payload="neither JSON nor form", raw_json=True),
        callback_row(headers=(("Host", "evil.test"),)),
    ):
        job = build_job(claimed(of=of))
        assert job.trouble
        assert job.next_part() is None


# --- the same content has the same id -------------------------------------------------------------------------------


def test_the_same_content_of_the_same_delivery_has_the_same_id_and_bytes() -> None:
    one = only(build_job(claimed(numbers={1: ["+1", "+2"]})))
    again = only(build_job(claimed(numbers={1: ["+2", "+1"]}, token="u" * 32, attempts=3, now=NOW + 99_000)))
    assert (one.webhook_id, one.request) == (again.webhook_id, again.request)


def test_another_content_or_delivery_or_change_has_another_id() -> None:
    jobs = [
        claimed(),
        claimed(id=12),
        claimed([owes(wanted=2)]),
        claimed(types={1: Type.WARNING}),
        claimed(numbers={1: ["+911", "+2"]}),
        claimed(numbers={1: ["+9", "11"]}),
        claimed([owes(2)], numbers={2: ["+911"]}),
        claimed([owes(region=Region("karnataka", ""))]),
        claimed([owes(region=Region("", "KA-IN"))]),
    ]
    assert len({only(build_job(one)).webhook_id for one in jobs}) == len(jobs)


def test_timestamp_is_when_the_content_was_first_built() -> None:
    of = callback_row(payload='{"at": {timestamp}}')
    first = build_job(claimed(of=of))
    assert first.content is not None
    content_hash, at = first.content
    assert (at, only(first).request.body) == (NOW, b'{"at": %d}' % (NOW // 1000))
    kept = {"content_hash": content_hash, "content_at": at, "of": of, "now": NOW + 600_000}
    again = build_job(claimed(**kept))
    assert (again.content, only(again).request.body) == (None, only(first).request.body)
    changed = build_job(claimed(types={1: Type.WARNING}, **kept))
    assert changed.content is not None
    assert only(changed).request.body == b'{"at": %d}' % ((NOW + 600_000) // 1000)


def test_a_content_that_comes_back_after_another_has_its_own_time_and_id() -> None:
    """A type that changes and changes back before that is planned: one id never stands for two {timestamp}s."""
    of = callback_row(payload='{"at": {timestamp}}')
    first = build_job(claimed(of=of))
    between = build_job(claimed(of=of, types={1: Type.WARNING}, now=NOW + 5_000))
    assert between.content is not None
    kept = {"content_hash": between.content[0], "content_at": between.content[1]}
    back = build_job(claimed(of=of, now=NOW + 9_000, **kept))
    assert only(back).request.body != only(first).request.body
    assert only(back).webhook_id != only(first).webhook_id


def test_nothing_is_kept_for_who_does_not_show_the_timestamp() -> None:
    assert build_job(claimed()).content is None


# --- split GETs -----------------------------------------------------------------------------------------------------


def numbers_of(part: Part) -> list[str]:
    return parse_qs(urlsplit(part.request.url).query)["n"][0].split(",")


def many(channel: int, count: int, length: int = 11) -> list[str]:
    return [f"+{channel}{n:0{length - 2}d}" for n in range(count)]


def take(job: Job, status: int | None) -> Settlement:
    """What the next part's answer settles."""
    part = job.next_part()
    assert part is not None
    answer = Answer(status, None if status else "broken", b"", None, 1, True)
    attempt = Attempt(NOW, 1, status, answer.error, None, part.webhook_id, part.number)
    meaning = outcome.verdict(answer, network_works=True)
    return outcome.settle_answer(job, part, answer, meaning, attempt, outcome.Schedule((5,)))


def again(one: Claimed, settlements: list[Settlement], **facts: object) -> Claimed:
    """The same delivery as the next worker claims it."""
    told = {t.unit for s in settlements for t in s.told}
    unsure = {u for s in settlements for u in s.unsure}
    left = tuple(o._replace(unsure=o.unsure or o.unit in unsure) for o in one.owed if o.unit not in told)
    done = json.loads(settlements[-1].parts_done or "[]")
    return one._replace(owed=left, parts_done=frozenset(done), attempts=one.attempts + 1, **facts)


sizes = st.lists(st.integers(1, 900), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(sizes=sizes, lengths=st.sampled_from([5, 11, 30]))
def test_parts_fit_and_hold_every_number_once(sizes: list[int], lengths: int) -> None:
    numbers = {channel: many(channel, count, lengths) for channel, count in enumerate(sizes, 1)}
    job = build_job(claimed([owes(channel) for channel in numbers], numbers=numbers, of=GET))
    if job.trouble:
        assert sum(sizes) * (lengths + 5) > URL_LIMIT * (MOST_PARTS - len(sizes)) / 2
        return
    assert all(len(part.request.url) <= URL_LIMIT for part in job.parts)
    assert sorted(n for part in job.parts for n in numbers_of(part)) == sorted(chain(*numbers.values()))
    assert len({part.webhook_id for part in job.parts}) == len(job.parts) <= MOST_PARTS
    assert [part.number for part in job.parts] == ([0] if len(job.parts) == 1 else list(range(1, len(job.parts) + 1)))
    for channel, all_of_it in numbers.items():  # a channel that fits into one request is not cut
        holding = [part for part in job.parts if any(t.owed.unit.channel_id == channel for t in part.tellings)]
        if len(all_of_it) * (lengths + 5) < URL_LIMIT - 200:
            assert len(holding) == 1


@settings(max_examples=60, deadline=None)
@given(sizes=sizes, fails=st.lists(st.booleans(), max_size=12), lost=st.booleans())
def test_a_retry_sends_only_what_is_missing_and_a_channel_is_told_when_whole(
    sizes: list[int], fails: list[bool], lost: bool
) -> None:
    numbers = {channel: many(channel, count) for channel, count in enumerate(sizes, 1)}
    units = [owes(channel) for channel in numbers]
    one = claimed(units, numbers=numbers, of=GET)
    job, taken, told, script = build_job(one), [], [], list(fails)
    if job.trouble:
        return
    settlements: list[Settlement] = []
    while part := job.next_part():
        failing = bool(script) and script.pop(0)
        settlement = take(job, (None if lost else 500) if failing else 200)
        settlements.append(settlement)
        whole = {o.unit for o in units if set(numbers[o.unit.channel_id]) <= {*taken, *numbers_of(part)}}
        if failing:
            assert not settlement.told
            assert {t.owed.unit for t in part.tellings if lost} == set(settlement.unsure)
            # Another worker, and the store gives the numbers in another order.
            one = again(one, settlements, numbers={c: tuple(reversed(n)) for c, n in one.numbers.items()})
            job, settlements = build_job(one), []
            continue
        taken += numbers_of(part)
        told += [t.unit for t in settlement.told]
        assert set(told) == whole
        assert {t.owed.unit for t in part.tellings} - whole == set(settlement.unsure)  # half of it told: a doubt
        assert settlement.then is (Then.PART if job.next_part() else Then.DONE)
    assert sorted(taken) == sorted(chain(*numbers.values()))  # each number once
    assert len(told) == len(sizes)


def test_the_rest_of_a_split_request_keeps_its_time_only_while_its_content_stays() -> None:
    of = GET._replace(url=GET.url + "&at={timestamp}")
    one = claimed([owes(1), owes(2)], numbers={c: many(c, 400) for c in (1, 2)}, of=of)
    job = build_job(one)
    assert job.content is not None
    settlements = [take(job, 200), take(job, 500)]
    kept = {"content_hash": settlements[0].content_hash, "content_at": job.content[1], "now": NOW + 60_000}
    changed = again(one, settlements, **kept)._replace(types={owes(2).unit: Type.WARNING})
    rebuilt = build_job(changed)
    assert rebuilt.content is not None
    assert rebuilt.content[1] == NOW + 60_000


def test_a_type_that_comes_back_between_two_parts_is_sent_whole() -> None:
    one = claimed(numbers={1: many(1, 1200)}, of=GET)
    job = build_job(one)
    first = take(job, 200)
    second = take(job, 500)
    back = again(one, [first, second], types={owes(1).unit: Type.OPERATIONAL})
    job = build_job(back)
    assert sorted(n for part in job.parts for n in numbers_of(part)) == sorted(many(1, 1200))
    assert job.done == set()


@pytest.mark.parametrize("url", [GET.url, GET.url + "&at={timestamp}"])
def test_a_part_is_the_same_request_in_the_next_process(url: str) -> None:
    of = GET._replace(url=url)
    one = claimed([owes(1), owes(2), owes(3)], numbers={c: many(c, 400) for c in (1, 2, 3)}, of=of)
    job = build_job(one)
    parts = {part.webhook_id: part.request for part in job.parts}
    assert len(parts) == 3
    settlements = [take(job, 200), take(job, 500)]
    content = (settlements[0].content_hash, job.content[1]) if job.content else (None, None)
    later = again(one, settlements, now=NOW + 3_600_000, content_hash=content[0], content_at=content[1])
    retried = build_job(later)
    assert len(retried.parts) == 2
    assert all(parts[part.webhook_id] == part.request for part in retried.parts)


def test_over_20_parts_fail_with_advice() -> None:
    fits = build_job(claimed(numbers={1: many(1, 9800)}, of=GET))
    assert len(fits.parts) == MOST_PARTS
    job = build_job(claimed(numbers={1: many(1, 20_000)}, of=GET))
    assert job.parts == ()
    assert "over 20 requests" in str(job.trouble)
    assert "use POST" in str(job.trouble)


def test_a_url_that_fits_no_number_fails_with_advice() -> None:
    of = GET._replace(url="https://customer.test/?" + "x" * (URL_LIMIT - 90) + "&r={response}")
    assert "use POST" in str(build_job(claimed(of=of)).trouble)


def test_a_url_of_exactly_the_limit_is_one_request() -> None:
    stem = "https://customer.test/?n={numbers}&pad="
    numbers = {1: many(1, 2)}
    length = len(only(build_job(claimed(of=GET._replace(url=stem), numbers=numbers))).request.url)
    exact = GET._replace(url=stem + "x" * (URL_LIMIT - length))
    assert len(only(build_job(claimed(of=exact, numbers=numbers))).request.url) == URL_LIMIT
    assert len(build_job(claimed(of=exact._replace(url=exact.url + "x"), numbers=numbers)).parts) == 2


def test_a_post_is_never_split() -> None:
    job = build_job(claimed(numbers={1: many(1, 20_000)}))
    assert len(incidents(job)[0]["numbers"]) == 20_000  # type: ignore[arg-type]
    assert only(job).number == 0
    assert only(job).tellings[0].owed.unit.region == KARNATAKA
