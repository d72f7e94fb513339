"""confirm and the load rule as a pure function: held against what SPEC 4 says, written down the long way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from monitor_cli.store.standings import Standing
from monitor_cli.sync.judging import Columns, Rules, judge
from monitor_cli.types import Incident, Type
from monitor_cli.wrapping import Observation

OP, WARN, CRIT = Type
WORDS = {OP: "operational", WARN: "degraded_performance", CRIT: "major_outage"}
types = st.sampled_from(list(Type))
loads = st.integers(0, 130)


class Row:
    """A row of the table through several syncs."""

    def __init__(self, rules: Rules, final: str | None = "operational") -> None:
        self.rules = rules
        self.word: str | None = "operational"
        self.final = final
        self.standing: Standing | None = None

    def sync(self, said: Type | None, used: int = 0, capacity: int = 100) -> Type | None:
        seen = None if said is None else Observation(WORDS[said], said, "page", Incident("x"))
        verdict = judge(self.rules, Columns(self.word, self.final, capacity, used), seen, self.standing)
        self.word = verdict.word or self.word
        self.final = self.final if verdict.type is None else verdict.type.word
        self.standing = verdict.standing
        return Type.read(self.final)


@given(st.integers(1, 4), st.lists(types, max_size=30))
def test_a_new_type_counts_after_n_syncs_in_a_row(confirm: int, said: list[Type]) -> None:
    row, final = Row(Rules(confirm)), OP
    for n, kind in enumerate(said, 1):
        last = said[max(0, n - confirm) : n]
        if len(last) == confirm and len(set(last)) == 1:
            final = kind
        assert row.sync(kind) is final
        assert row.word == WORDS[kind]  # at once
        assert (row.standing is None) == (kind is final)


@given(
    st.lists(st.tuples(types, loads), max_size=30), st.sampled_from([(0.9, 1.0), (0.9, 0.0), (0.0, 1.0), (0.5, 0.52)])
)
def test_the_worst_of_component_and_load(syncs: list[tuple[Type, int]], limits: tuple[float, float]) -> None:
    row = Row(Rules(1, *limits))
    on = {WARN: False, CRIT: False}
    for said, used in syncs:
        for kind, limit in zip(on, limits, strict=True):
            percent = round(limit * 100)
            if limit and (used >= percent or used <= percent - 5):
                on[kind] = used >= percent
        if on[CRIT] and limits[0]:
            on[WARN] = True  # who is over the higher one is over the lower one
        assert row.sync(said, used) is max(said, CRIT if on[CRIT] else WARN if on[WARN] else OP)


@given(st.lists(loads, min_size=1, max_size=30), types)
def test_while_the_source_is_down_the_load_goes_on(used: list[int], before: Type) -> None:
    row, other = Row(Rules(1, 0.9, 1.0)), Row(Rules(1, 0.9, 1.0))
    row.sync(before)
    other.sync(before)
    for n in used:
        assert row.sync(None, n) is other.sync(before, n)
        assert row.word == WORDS[before]


@given(st.integers(2, 4), types, st.integers(0, 5))
def test_what_waits_goes_on_waiting_while_nothing_is_heard(confirm: int, kind: Type, silent: int) -> None:
    row = Row(Rules(confirm, 0.9))
    for n in range(1, confirm + 1):
        for _ in range(silent):
            assert row.sync(None) is OP
        assert row.sync(kind) is (kind if n == confirm else OP)


def test_edges_of_the_load() -> None:
    rules = Rules(1, 0.9, 1.0)
    assert [rules.load(10, n, OP) for n in (8, 9, 10, 11)] == [OP, WARN, CRIT, CRIT]
    assert [rules.load(100, n, WARN) for n in (85, 86, 89)] == [OP, WARN, WARN]
    assert [rules.load(100, n, CRIT) for n in (84, 85, 86, 95, 96)] == [OP, OP, WARN, WARN, CRIT]
    for capacity, used in ((0, 5), (-1, 5), (None, 5), (5, None), (5, -5), (5, 0)):
        assert rules.load(capacity, used, CRIT) is OP
    assert Rules(1, 0.03).load(100, 3, OP) is WARN
    assert [Rules(1, 0.03).load(100, n, WARN) for n in (0, 1)] == [OP, WARN]
    assert Rules().load(100, 100, CRIT) is OP


def test_a_load_that_came_and_went_does_not_count_on() -> None:
    row = Row(Rules(2, 0.9))
    assert [row.sync(None, used) for used in (95, 10, 95, 10, 95, 95)] == [OP, OP, OP, OP, OP, WARN]


def test_another_programs_type_counts_until_the_source_is_heard() -> None:
    row = Row(Rules(1, 0.9))
    assert row.sync(OP, 95) is WARN
    row.final = "Critical"
    assert row.sync(None, 95) is CRIT
    assert row.final == "Critical"
    assert row.sync(None, 10) is CRIT
    assert row.sync(OP, 10) is OP
    assert row.standing is None


def test_the_load_alone_makes_no_server_well_that_was_never_told() -> None:
    row = Row(Rules(1, 0.9), final=None)
    assert [row.sync(None, used) for used in (10, 95, 10)] == [None, WARN, OP]


def test_a_rule_that_is_turned_off_is_left() -> None:
    row = Row(Rules(1, 0.9))
    row.sync(OP, 95)
    row.rules = Rules()
    assert row.sync(None, 95) is OP
    assert row.standing is None


def test_a_word_that_says_nothing_leaves_word_and_component() -> None:
    row = Row(Rules(1, 0.9))
    row.sync(WARN, 10)
    seen = Observation("not_monitored", None, "page", None)
    verdict = judge(row.rules, Columns(row.word, row.final, 100, 10), seen, row.standing)
    assert (verdict.word, verdict.type, verdict.standing) == (None, None, None)


@given(st.integers(1, 3), st.lists(st.tuples(st.none() | types, loads), max_size=40))
def test_what_is_well_is_forgotten(confirm: int, syncs: list[tuple[Type | None, int]]) -> None:
    row = Row(Rules(confirm, 0.9, 1.0))
    for said, used in syncs:
        row.sync(said, used)
    for _ in range(confirm):
        row.sync(OP, 0)
    assert (row.final, row.standing) == ("operational", None)
