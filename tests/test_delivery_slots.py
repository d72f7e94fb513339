"""Who may have how many requests at once: shares by account and destination, fast slots and the slow lane."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor_cli.config import Settings
from monitor_cli.delivery import fleet
from monitor_cli.delivery.slots import PER_ACCOUNT, PER_DESTINATION, Lanes, Shares
from monitor_cli.store.due import Candidate

PLACES = ("a.test:443", "b.test:443", "c.test:80")
candidates = st.lists(
    st.builds(Candidate, st.integers(1, 10**6), st.integers(1, 6), st.sampled_from(PLACES)),
    max_size=300,
    unique_by=lambda c: c.id,
)


def at(account: int, place: str = "a.test:443", first: int = 1, count: int = 1) -> list[Candidate]:
    return [Candidate(account * 1000 + first + n, account, place) for n in range(count)]


@given(
    st.integers(1, 60), st.integers(1, 20), st.lists(st.tuples(candidates, st.integers(0, 300), st.data()), max_size=4)
)
def test_no_limit_is_ever_passed_and_nobody_is_refused_without_need(
    fast: int, slow: int, rounds: list[tuple[list[Candidate], int, st.DataObject]]
) -> None:
    shares, flying, slowed = Shares(fast=fast, slow=slow), [], []
    for drawn, most, data in rounds:
        offered = [c for c in drawn if c not in flying]
        chosen = shares.choose(offered, most)
        flying += chosen
        pairs = Counter((c.account_id, c.destination) for c in flying)
        places = Counter(c.destination for c in flying)
        quick = Counter(c.account_id for c in flying if c not in slowed)
        lane = Counter(c.account_id for c in slowed)
        assert len(chosen) <= most
        assert len({c.id for c in chosen}) == len(chosen)
        assert max(pairs.values(), default=0) <= PER_ACCOUNT
        assert max(places.values(), default=0) <= PER_DESTINATION
        refused = set(offered) - set(chosen)
        if len(chosen) < most:
            for left in refused:
                full = pairs[left.account_id, left.destination] == PER_ACCOUNT
                held, of_slow = quick[left.account_id], lane[left.account_id]
                no_room = (held and held > fast - quick.total()) or (of_slow and of_slow > slow - lane.total())
                assert full or no_room or places[left.destination] == PER_DESTINATION
                assert shares.lacking()
        full_pairs, full_places, _ = shares.full()
        assert set(full_pairs) == {pair for pair, count in pairs.items() if count == PER_ACCOUNT}
        assert set(full_places) == {place for place, count in places.items() if count == PER_DESTINATION}
        for one in data.draw(st.lists(st.sampled_from(flying), unique=True)) if flying else []:
            if one in slowed:
                shares.slowed(one.account_id, -1)
                slowed.remove(one)
                shares.release(one.account_id, one.destination)
                flying.remove(one)
            elif len(slowed) < slow and data.draw(st.booleans()):
                shares.slowed(one.account_id, 1)
                slowed.append(one)
            else:
                shares.release(one.account_id, one.destination)
                flying.remove(one)


def test_4_per_account_and_place_and_64_per_place() -> None:
    shares = Shares()
    assert len(shares.choose(at(1, count=50), 500)) == 4
    assert len(shares.choose(at(1, "b.test:443", count=50), 500)) == 4
    crowd = [one for account in range(2, 102) for one in at(account)]
    assert len(shares.choose(crowd, 500)) == 60
    assert shares.full().destinations == ["a.test:443"]


def test_turns_go_round_the_accounts() -> None:
    big = [one for place in range(50) for one in at(1, f"{place}.test:443", first=place * 10, count=4)]
    small = [at(account)[0] for account in range(2, 7)]
    chosen = Shares().choose([*big, *small], 12)
    assert Counter(c.account_id for c in chosen)[1] == 7
    assert {c.account_id for c in chosen} == set(range(1, 7))


def test_within_an_account_the_order_is_random() -> None:
    offered = at(1, count=40)
    assert len({tuple(Shares().choose(offered, 4)) for _ in range(20)}) > 10


def test_processes_share_the_limits() -> None:
    crowd = [one for account in range(300) for one in at(account)]
    for count in (1, 2, 3, 4, 5, 8, 64):
        for account, place in ((1, "a.test:443"), (2, "a.test:443"), (3, "b.test:443")):
            offered = at(account, place, count=50)
            assert sum(len(Shares(count, n).choose(offered, 500)) for n in range(count)) == PER_ACCOUNT
        # Each account has one process that takes its 64th part, or none: together no more than the limit.
        assert sum(len(Shares(count, n).choose(crowd, 500)) for n in range(count)) <= PER_DESTINATION


def test_what_only_other_processes_may_send_is_looked_past() -> None:
    for number in range(8):
        shares = Shares(8, number)
        offered = [one for account in range(20) for one in hosts(account, 1)]
        chosen = shares.choose(offered, 500)
        left = {(c.account_id, c.destination) for c in set(offered) - set(chosen)}
        assert left
        assert left <= set(shares.full().pairs)
        assert shares.lacking()


# --- an account with many hosts ---------------------------------------------------------------------------------------


def hosts(account: int, count: int) -> list[Candidate]:
    return [one for place in range(count) for one in at(account, f"{account}-{place}.test:443", first=place * 10)]


def test_an_account_with_thousands_of_hosts_leaves_room_for_who_comes_next() -> None:
    shares = Shares(fast=256)
    assert len(shares.choose(hosts(1, 3000), 500)) == 129  # as many as it leaves, and one
    assert shares.full().accounts == [1]
    assert shares.lacking()
    later = [one for account in range(2, 120) for one in hosts(account, 1)]
    assert len(shares.choose(later, 500)) == len(later)
    assert shares.choose(hosts(1, 3000), 500) == []
    assert len(shares.choose(at(500), 500)) == 1  # one is always granted
    assert not Shares().lacking()


def test_what_is_slow_leaves_the_fast_slots_and_has_a_bound_of_its_own() -> None:
    shares = Shares(fast=256, slow=300)
    flying = 0
    for _ in range(9):
        chosen = shares.choose(hosts(1, 3000), 500)
        for one in chosen:
            shares.slowed(one.account_id, 1)
        flying += len(chosen)
    assert 150 <= flying <= 300  # it stops once it holds as much of the lane as it leaves
    assert shares.full().accounts == [1]
    assert len(shares.choose([one for account in range(2, 300) for one in hosts(account, 1)], 500)) == 298


def test_an_account_by_itself_uses_a_small_concurrency_up() -> None:
    assert len(Shares(fast=1).choose(hosts(1, 9), 500)) == 1
    assert len(Shares(fast=2).choose(hosts(1, 9), 500)) == 2
    assert len(Shares(fast=4).choose(hosts(1, 9), 500)) == 3


# --- lanes ----------------------------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_waits_over_a_second_leaves_its_fast_slot() -> None:
    clock = Clock()
    lanes = Lanes(2, 10, clock)
    lanes.enter("a")
    clock.now = 0.6
    lanes.enter("b")
    clock.now = 1.1
    assert (lanes.free, len(lanes)) == (0, 2)
    lanes.move_slow()
    assert (lanes.free, len(lanes)) == (1, 2)
    clock.now = 1.7
    lanes.move_slow()
    lanes.enter("c")
    assert (lanes.free, len(lanes)) == (1, 3)
    for key in "abc":
        lanes.leave(key)
    assert (lanes.free, len(lanes)) == (2, 0)


def served(lanes: Lanes, clock: Clock, count: int, seconds: float) -> None:
    for number in range(count):
        lanes.enter(("served", number))
        clock.now += seconds
        lanes.leave(("served", number))


@pytest.mark.parametrize(
    ("slots", "answers", "usual", "held", "patience"),
    [
        (64, 100, 0.01, 60, 0.25),  # slots are short, and others are answered at once
        (64, 100, 0.1, 60, 0.5),
        (64, 100, 0.5, 60, 1.0),  # others take as long
        (64, 100, 0.01, 30, 1.0),  # there are enough slots
        (64, 20, 0.01, 60, 1.0),  # nothing is known of the others yet
        (8, 100, 0.01, 8, 1.0),  # who has few slots means them
    ],
)
def test_who_waits_for_nothing_leaves_sooner_where_slots_are_short(
    slots: int, answers: int, usual: float, held: int, patience: float
) -> None:
    clock = Clock()
    lanes = Lanes(slots, 100, clock)
    served(lanes, clock, answers, usual)
    began = clock.now
    for key in range(held):
        lanes.enter(key)
    clock.now = began + patience - 0.01
    lanes.move_slow()
    assert lanes.free == slots - held
    clock.now = began + patience + 0.01
    lanes.move_slow()
    assert lanes.free == slots


def test_who_enters_and_leaves_the_slow_lane_is_told() -> None:
    clock, told = Clock(), []
    lanes = Lanes(3, 1, clock, slowed=lambda key, more: told.append((key, more)))
    for key in "abc":
        lanes.enter(key)
    lanes.leave("c")
    clock.now = 2.0
    lanes.move_slow()
    lanes.leave("b")
    lanes.leave("a")
    lanes.leave("a")
    assert told == [("a", 1), ("a", -1)]


def test_a_full_slow_lane_takes_no_more() -> None:
    clock = Clock()
    lanes = Lanes(3, 1, clock)
    for key in "abc":
        lanes.enter(key)
    clock.now = 2.0
    lanes.move_slow()
    assert lanes.free == 1
    lanes.leave("a")
    lanes.move_slow()
    assert (lanes.free, len(lanes)) == (2, 2)


@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "wait", "move"]), st.integers(0, 20)), max_size=80))
def test_lanes_against_a_plain_model(steps: list[tuple[str, int]]) -> None:
    clock, lanes_clock = 0.0, Clock()
    lanes = Lanes(4, 3, lanes_clock)
    fast: dict[int, float] = {}
    slow: set[int] = set()
    for step, number in steps:
        if step == "enter" and len(fast) < 4 and number not in fast and number not in slow:
            lanes.enter(number)
            fast[number] = clock
        elif step == "leave" and (number in fast or number in slow):
            lanes.leave(number)
            fast.pop(number, None)
            slow.discard(number)
        elif step == "wait":
            lanes_clock.now = clock = clock + number / 4
        elif step == "move":
            lanes.move_slow()
            waited = [key for key, entered in fast.items() if clock - entered >= 1]
            for key in waited[: 3 - len(slow)]:
                slow.add(key)
                del fast[key]
        assert (lanes.free, len(lanes)) == (4 - len(fast), len(fast) + len(slow))


# --- processes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("processes", "concurrency"), [(0, 256), (0, 1), (8, 3), (4, 4), (1, 256)])
def test_all_processes_together_keep_to_the_concurrency(processes: int, concurrency: int) -> None:
    settings = Settings(processes=processes, concurrency=concurrency)
    count = fleet.size(settings)
    assert count >= 1
    assert count * fleet.share(settings, count).concurrency <= concurrency
    assert fleet.size(Settings()) == min(4, len(os.sched_getaffinity(0)))
