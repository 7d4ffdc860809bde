"""Sums over ranges, halving, and what a difference means."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from engagement.reconcile.board import BoardComparison, BoardDrift, Numbers
from engagement.reconcile.build import UNCOUNTED
from engagement.reconcile.command import counts_of
from engagement.reconcile.compare import (
    LEAF_IDS,
    Digest,
    Findings,
    Held,
    Kind,
    Slices,
    Sums,
    differing,
    judge,
    narrow,
    settled,
    slices_of,
)
from engagement.reconcile.run import MOST_RANGES, Comparison, Part


@dataclass
class Rows:
    """A side in memory: id -> digest; counts what it is asked."""

    rows: dict[int, int]
    asked: list[Slices] = field(default_factory=list)

    def sums(self, slices: Slices) -> Mapping[int, Sums]:
        self.asked.append(slices)
        found: dict[int, Sums] = {}
        for event_id, digest in self.rows.items():
            if slices.first <= event_id <= slices.last:
                bucket = (event_id - slices.first) // slices.width
                had = found.get(bucket, Sums())
                found[bucket] = Sums(had.events + 1, had.high + digest, had.low + digest)
        return found


@pytest.mark.parametrize("seed", range(20))
def test_halving_finds_every_difference_and_little_else(seed: int) -> None:
    chance = random.Random(seed)
    last = chance.choice((50, 10_000, 10**9, 2**62))
    ids = chance.sample(range(1, last), min(last - 1, 3_000))
    left, right = Rows(dict.fromkeys(ids, 7)), Rows(dict.fromkeys(ids, 7))
    changed = chance.sample(ids, 3)
    right.rows[changed[0]] = 8
    del right.rows[changed[1]]
    right.rows[last + 5] = 7
    del left.rows[changed[2]]
    found = narrow(left, right, slices_of(1, last + 5))
    for wanted in (*changed, last + 5):
        assert any(first <= wanted <= end for first, end in found), wanted
    assert len(found) <= 4
    assert all(end - first < LEAF_IDS for first, end in found)


def test_equal_sides_are_asked_once() -> None:
    left, right = Rows({5: 1, 10**12: 2}), Rows({5: 1, 10**12: 2})
    assert narrow(left, right, slices_of(5, 10**12)) == []
    assert (len(left.asked), len(right.asked)) == (1, 1)


def test_values_that_change_places_are_found() -> None:
    assert differing({0: Sums(2, 5, 5), 1: Sums(1, 1, 1)}, {0: Sums(1, 5, 5), 1: Sums(2, 1, 1)}) == [0, 1]


ALIVE, GONE = Held(1, 1, 9, alive=True), Held(1, 1, 9, alive=False)


@pytest.mark.parametrize(
    ("row", "held", "kind"),
    [
        (Digest(1, 1), None, Kind.MISSING),
        (Digest(1, 1), ALIVE, None),
        (Digest(1, 2), ALIVE, Kind.STALE),
        (Digest(1, 1), GONE, Kind.STALE),
        (None, ALIVE, Kind.PHANTOM),
        (None, GONE, None),
        (None, None, None),
        (Digest(1, 2, refused=True), ALIVE, None),
        (Digest(1, 2, refused=True), None, None),
        (Digest(1, 1), Held(1, 1, 9, alive=True, extra=1), Kind.DOUBLED),
        (None, Held(1, 1, 9, alive=False, extra=2), Kind.DOUBLED),
    ],
)
def test_each_difference_has_its_name(row: Digest | None, held: Held | None, kind: Kind | None) -> None:
    found = judge("lake", [7], {7: row} if row else {}, {7: held} if held else {})
    assert found.ids == ({kind: [7]} if kind else {})


def test_what_changed_between_the_looks_is_not_judged() -> None:
    before = {1: Digest(1, 1), 2: Digest(2, 2), 3: Digest(3, 3)}
    after = {1: Digest(1, 1), 2: Digest(2, 9), 4: Digest(4, 4)}
    assert settled([1, 2, 3, 4, 5], before, after) == [1, 5]


def _within(ids: Iterable[int], spans: Sequence[tuple[int, int]]) -> list[int]:
    return [one for one in ids if any(first <= one <= last for first, last in spans)]


@dataclass
class Sink:
    """A sink that lags: it takes over what PostgreSQL had when `catch_up` is called."""

    rows: dict[int, Held]
    name: str = "lake"

    def bounds(self) -> tuple[int, int] | None:
        return (min(self.rows), max(self.rows)) if self.rows else None

    def sums(self, slices: Slices) -> Mapping[int, Sums]:
        return Rows({i: held.high for i, held in self.rows.items() if held.alive}).sums(slices)

    def ids_in(self, spans: Sequence[tuple[int, int]]) -> list[int]:
        return _within(self.rows, spans)

    def held(self, ids: Sequence[int]) -> Mapping[int, Held]:
        return {i: self.rows[i] for i in ids if i in self.rows}


@dataclass
class Source:
    rows: dict[int, Digest]

    def sums(self, slices: Slices) -> Mapping[int, Sums]:
        return Rows({i: row.high for i, row in self.rows.items()}).sums(slices)

    def ids_in(self, spans: Sequence[tuple[int, int]]) -> list[int]:
        return _within(self.rows, spans)

    def digests(self, ids: list[int]) -> Mapping[int, Digest]:
        return {i: self.rows[i] for i in ids if i in self.rows}


def test_of_what_a_sink_need_not_have_nothing_is_missing_beside_what_it_lacks() -> None:
    """A range of ids may hold both: rows from before it was sent any, or of which nobody remembers whether it was."""
    everything = {i: Digest(i, i) for i in range(1, 21)}
    due = Source({i: row for i, row in everything.items() if i > 10})
    sink = Sink({i: Held(i, i, 1, alive=True) for i in range(11, 21) if i != 15}, "external")
    parts = {sink.name: Part(due, from_its_first=False)}
    comparison = Comparison(Source(everything), [sink], (1, 20), lambda _: {}, lambda: None, lambda _: None, parts)
    assert comparison.run()[0].ids == {Kind.MISSING: [15]}


def test_a_sink_that_lags_is_no_drift_and_what_stays_different_is() -> None:
    source = Source({i: Digest(i, i) for i in range(1, 20)})
    sink = Sink({i: Held(i, i, 1, alive=True) for i in range(1, 15)})
    del sink.rows[3]  # lost for good

    def catch_up() -> None:
        for i in range(15, 20):
            sink.rows[i] = Held(i, i, 1, alive=True)
        source.rows[5] = Digest(99, 99)  # changed meanwhile: too young

    looks: list[str] = []
    comparison = Comparison(source, [sink], (1, 19), lambda _: {}, catch_up, looks.append)
    rows, letters = comparison.run()
    assert (rows.ids, letters.ids) == ({Kind.MISSING: [3]}, {})
    assert any("looking again" in line for line in looks)


def test_nothing_is_awaited_when_nothing_differs() -> None:
    source, sink = Source({1: Digest(1, 1)}), Sink({1: Held(1, 1, 1, alive=True)})

    def never() -> None:
        raise AssertionError("there is nothing to wait for")

    assert [each.rows for each in Comparison(source, [sink], (1, 1), lambda _: {}, never, lambda _: None).run()] == [
        0,
        0,
    ]


def test_refused_rows_without_a_dead_letter_are_told() -> None:
    source, sink = Source({1: Digest(1, 1, refused=True), 2: Digest(2, 2, refused=True)}), Sink({})
    comparison = Comparison(source, [sink], (1, 2), lambda _: {2: {"E_RANGE_DURATION"}}, lambda: None, lambda _: None)
    rows, letters = comparison.run()
    assert (rows.ids, letters.ids) == ({}, {Kind.MISSING: [1]})


RANGES = 2 * MOST_RANGES + 1


def compared(rows: dict[int, Digest], held: dict[int, Held]) -> list[Findings]:
    """What is found of rows of which those that are refused have their letters."""
    letters = {i: {"E_RANGE_DURATION"} for i, row in rows.items() if row.refused}
    bounds = (min(rows), max(rows))
    return Comparison(Source(rows), [Sink(held)], bounds, lambda _: letters, lambda: None, lambda _: None).run()


@pytest.mark.parametrize("lost", [[], [(RANGES - 1) * LEAF_IDS + 5]], ids=["nothing", "a row of the last range"])
def test_refused_rows_all_over_hide_nothing(lost: list[int]) -> None:
    first = [number * LEAF_IDS + 1 for number in range(RANGES)]
    rows = {i: Digest(i, i, refused=True) for i in first} | {i + 4: Digest(i, i) for i in first}
    held = {i: Held(row.high, row.low, 1, alive=True) for i, row in rows.items() if not row.refused and i not in lost}
    found, letters = compared(rows, held)
    assert (found.ids, found.uncounted, letters.ids) == ({Kind.MISSING: lost} if lost else {}, 0, {})


def test_ranges_beyond_those_of_one_run_are_counted_and_published() -> None:
    rows = {number * LEAF_IDS + 1: Digest(7, 7) for number in range(RANGES)}
    found, _ = compared(rows, {RANGES * LEAF_IDS: Held(1, 1, 1, alive=False)})
    assert (found.rows, found.uncounted) == (MOST_RANGES, RANGES - MOST_RANGES)
    counts = counts_of(["lake"], [found], (), ())
    assert counts["lake"] == {Kind.MISSING: MOST_RANGES, UNCOUNTED: found.uncounted}


@pytest.mark.parametrize(
    ("name", "missing"), [("lake", [2, 3, 4, 5]), ("warehouse", [2, 3, 4]), ("external", [2, 4, 5])]
)
def test_a_letter_excuses_a_missing_row_unless_it_was_changed_since_or_another_sink_refused_it(
    name: str, missing: list[int]
) -> None:
    """Refused for what it held and accepted now: the change that mended it was lost on its way."""
    source, sink = Source({number: Digest(number, number) for number in range(1, 6)}), Sink({}, name)
    codes = {1: {"E_TS_FUTURE"}, 2: {"E_RANGE_DURATION"}, 3: {"E_HTTP_REJECT", "E_ID"}, 5: {"E_WAREHOUSE_REJECT"}}
    comparison = Comparison(source, [sink], (1, 5), lambda _: codes, lambda: None, lambda _: None)
    rows, letters = comparison.run()
    assert (rows.ids, letters.ids) == ({Kind.MISSING: missing}, {})


def test_a_letter_of_a_sink_is_none_of_what_the_transform_refuses() -> None:
    source = Source({number: Digest(number, number, refused=True) for number in (1, 2)})
    codes = {1: {"E_HTTP_REJECT"}, 2: {"E_HTTP_REJECT", "E_RANGE_DURATION"}}
    comparison = Comparison(source, [Sink({})], (1, 2), lambda _: codes, lambda: None, lambda _: None)
    rows, letters = comparison.run()
    assert (rows.ids, letters.ids) == ({}, {Kind.MISSING: [1]})


def test_the_board_is_compared_where_it_is_old_enough_and_twice() -> None:
    board: dict[str, dict[str, int]] = {"a": {"events": 1}, "b": {"events": 2}, "c": {"events": 3}, "d": {"events": 4}}
    table: dict[str, dict[str, int]] = {"a": {"events": 1}, "b": {"events": 9}, "c": {"events": 4}, "d": {"events": 5}}
    asked: list[int] = []

    def counted(first: int, end: int) -> Numbers:
        assert end == first + 10
        asked.append(first)
        return board if first == 300 else {}

    def later() -> None:
        board["c"] = {"events": 4}  # it caught up
        table["d"] = {"events": 6}  # a late event: too young to be judged

    comparison = BoardComparison(
        counted, lambda first, _: dict(table) if first == 300 else {}, lambda: (0, 600), lambda *_: (), 120, later
    )
    found = comparison.run() or []
    assert [(one.content_id, one.second) for one in found] == [("b", 300)]
    assert asked[:24] == list(range(240, 480, 10))
    assert "at 00:05:00: events 2 instead of 9" in str(found[0])


def test_a_content_is_not_judged_in_a_step_with_a_row_that_came_too_early() -> None:
    """PostgreSQL has the row when its time has come; on the board it is a dead letter."""
    table = {"early": {"events": 2}, "lost": {"events": 2}}
    asked: list[tuple[int, int]] = []

    def refused(first: int, end: int) -> set[tuple[str, int]]:
        asked.append((first, end))
        return {("early", 300), ("lost", 310)}

    comparison = BoardComparison(
        lambda *_: {}, lambda first, _: table if first == 300 else {}, lambda: (0, 600), refused, 120, lambda: None
    )
    found = comparison.run() or []
    assert [(one.content_id, one.second) for one in found] == [("lost", 300)]
    assert asked == [(240, 480)]


def test_a_window_that_is_too_short_is_not_compared() -> None:
    def never(*_: object) -> Numbers:
        raise AssertionError("there is nothing to look at")

    def run(window: int) -> list[BoardDrift] | None:
        return BoardComparison(never, never, lambda: (0, window), lambda *_: (), 120, lambda: None).run()

    assert run(360) is None
    with pytest.raises(AssertionError):
        run(370)
