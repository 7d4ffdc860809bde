"""The fence's protocol, with lost answers, lost streams, drivers that die anywhere, and others beside them."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement.errors import ContractError, GapError, TransientSinkError
from engagement.identity import OffsetRange
from engagement.sinks.bigquery.fence import (
    SETTLING_SECONDS,
    Answer,
    FenceRow,
    Verdict,
    Written,
    from_text,
    judge,
    to_text,
)
from engagement.sinks.bigquery.protocol import FenceKeeper

TOPIC = "t"
PARTITIONS = 2
SEEDS = 600
OFFSETS = st.dictionaries(st.integers(0, 99), st.integers(0, 2**62), max_size=4)
Result = TypeVar("Result")


class Crash(BaseException):
    """kill -9 of one driver: nothing may catch it."""


@dataclass
class FakeWarehouse:
    """What BigQuery holds; a call may be lost, its answer may be lost, its driver may die, others may come between."""

    chance: random.Random
    trouble: float = 0.0
    loss_of_streams: float = 0.0
    between: Callable[[], None] = lambda: None
    rows: list[tuple[int, int, int]] = field(default_factory=list)
    """(partition, offset, processed)."""
    pending: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)
    committed: set[str] = field(default_factory=set)
    fence: FenceRow | None = None
    now: float = 0.0
    claimed_at: float = 0.0
    names: Iterator[int] = field(default_factory=count)

    def write(self, rows: list[tuple[int, int, int]]) -> str:
        name = f"s{next(self.names)}"
        self.pending[name] = rows
        return name

    def read(self, topic_id: str) -> FenceRow | None:
        assert topic_id == TOPIC
        return self._call(self._read)

    def _read(self) -> FenceRow | None:
        if self.fence is None or self.fence.claim is None:
            return self.fence
        return replace(self.fence, claim=replace(self.fence.claim, age_seconds=self.now - self.claimed_at))

    def seed(self, topic_id: str, token: str) -> None:
        def make() -> None:
            self.fence = self.fence or FenceRow(topic_id, {}, token)

        self._call(make)

    def claim(self, read_token: str, row: FenceRow) -> bool:
        def update() -> bool:
            if self.fence is None or self.fence.claim or self.fence.token != read_token:
                return False
            self.fence, self.claimed_at = row, self.now
            return True

        return self._call(update)

    def commit(self, streams: tuple[str, ...]) -> Answer:
        try:
            return self._call(lambda: self._commit(streams))
        except TransientSinkError:
            return Answer.UNCLEAR

    def _commit(self, streams: tuple[str, ...]) -> Answer:
        if any(name not in self.pending and name not in self.committed for name in streams):
            return Answer.GONE
        if any(name in self.committed for name in streams):
            return Answer.REFUSED
        for name in streams:
            self.rows += self.pending.pop(name)
            self.committed.add(name)
        return Answer.DONE

    def landed(self, row: FenceRow) -> bool:
        def ask() -> bool:
            assert row.claim is not None
            return any(
                first <= offset < end and processed == row.claim.written.processed_us
                for partition, first, end in row.step
                for place, offset, processed in self.rows
                if place == partition
            )

        return self._call(ask)

    def finish(self, row: FenceRow) -> bool:
        return self._call(lambda: self._end(row, row.next_offsets))

    def undo(self, row: FenceRow) -> bool:
        assert row.claim is not None
        former = row.claim.former
        return self._call(lambda: self._end(row, former))

    def _end(self, row: FenceRow, offsets: object) -> bool:
        if self.fence is None or self.fence.claim is None or self.fence.token != row.token:
            return False
        self.fence = FenceRow(TOPIC, dict(offsets), row.token)  # type: ignore[call-overload]
        return True

    def _call(self, act: Callable[[], Result]) -> Result:
        self.now += self.chance.choice((0.1, 1.0, 40.0))
        self.between()
        self._maybe_fail()
        result = act()
        self._maybe_fail()
        if self.chance.random() < self.loss_of_streams:  # an emulator that was killed keeps what was committed
            self.pending.clear()
            self.committed.clear()
        return result

    def _maybe_fail(self) -> None:
        draw = self.chance.random()
        if draw < self.trouble / 2:
            raise Crash
        if draw < self.trouble:
            raise TransientSinkError("warehouse", "busy")


@dataclass
class Driver:
    """One streaming job: from the fence to the topic's end, in one micro-batch."""

    warehouse: FakeWarehouse
    ends: dict[int, int]
    tokens: Iterator[int]

    def run_batch(self) -> None:
        keeper = FenceKeeper(self.warehouse, TOPIC, lambda: f"token {next(self.tokens)}")
        before = keeper.settled()
        ranges = [OffsetRange("e", p, before.next_offsets.get(p, 0), end) for p, end in self.ends.items()]
        processed = next(self.tokens)
        rows = [(part.partition, offset, processed) for part in ranges for offset in range(part.start, part.end)]
        streams = {self.warehouse.write([row for row in rows if row[0] == p]) for p in {row[0] for row in rows}}
        after = before.after(ranges)
        if after != before.next_offsets:
            keeper.move(before, after, Written(tuple(sorted(streams)), processed))


def attempt(driver: Driver) -> None:
    try:
        driver.run_batch()
    except (Crash, TransientSinkError):
        pass


@pytest.mark.timeout(60)
@pytest.mark.parametrize("block", range(4))
def test_every_row_is_there_once_whatever_is_lost_and_whoever_else_writes(block: int) -> None:
    for seed in range(block * SEEDS // 4, (block + 1) * SEEDS // 4):
        run_seed(seed)


def run_seed(seed: int) -> None:
    chance = random.Random(seed)
    warehouse = FakeWarehouse(chance, trouble=chance.choice((0.0, 0.1, 0.3)))
    warehouse.loss_of_streams = chance.choice((0.0, 0.0, 0.1))
    ends, tokens, depth = dict.fromkeys(range(PARTITIONS), 0), count(), 0
    crowd = chance.choice((0.0, 0.1, 0.3))

    def others() -> None:
        """Another driver, a whole micro-batch long, between two calls of this one."""
        nonlocal depth
        if depth < 3 and chance.random() < crowd:
            depth += 1
            attempt(Driver(warehouse, dict(ends), tokens))
            depth -= 1

    warehouse.between = others
    for _ in range(chance.randint(2, 10)):
        ends = {p: end + chance.randint(0, 3) for p, end in ends.items()}
        attempt(Driver(warehouse, dict(ends), tokens))
    warehouse.trouble = warehouse.loss_of_streams = crowd = 0.0
    for _ in range(5):
        warehouse.now += SETTLING_SECONDS
        attempt(Driver(warehouse, dict(ends), tokens))
    found = sorted((partition, offset) for partition, offset, _ in warehouse.rows)
    assert found == [(p, offset) for p, end in ends.items() for offset in range(end)], f"seed {seed}"
    assert warehouse.fence is not None
    assert warehouse.fence.claim is None
    assert {p: warehouse.fence.next_offsets.get(p, 0) for p in ends} == ends


@pytest.mark.parametrize("answer", [Answer.REFUSED, Answer.GONE, Answer.UNCLEAR])
def test_a_claim_whose_rows_are_there_is_finished_whatever_the_commit_was_answered(answer: Answer) -> None:
    assert judge(answer, landed=True, age_seconds=0) is Verdict.FINISH


def test_a_claim_is_undone_only_when_nobody_can_bring_its_rows_any_more() -> None:
    assert judge(Answer.GONE, landed=False, age_seconds=0) is Verdict.UNDO
    assert judge(Answer.REFUSED, landed=False, age_seconds=SETTLING_SECONDS) is Verdict.UNDO
    assert judge(Answer.REFUSED, landed=False, age_seconds=SETTLING_SECONDS - 1) is Verdict.WAIT
    assert judge(Answer.UNCLEAR, landed=False, age_seconds=1e9) is Verdict.WAIT


def test_a_fence_that_vanishes_under_a_driver_is_not_begun_anew_behind_its_back() -> None:
    warehouse = FakeWarehouse(random.Random(0))
    keeper = FenceKeeper(warehouse, TOPIC, lambda: "token")
    assert keeper.settled().next_offsets == {}
    warehouse.fence = None
    for _ in range(2):
        with pytest.raises(GapError, match="vanished"):
            keeper.settled()
    assert FenceKeeper(warehouse, TOPIC, lambda: "token").settled().next_offsets == {}


@given(OFFSETS)
def test_what_the_table_holds_is_read_back(offsets: dict[int, int]) -> None:
    assert from_text(to_text(offsets)) == offsets


@pytest.mark.parametrize("damaged", ["", "7", "null", '{"x": 1}', '{"0": null}'])
def test_a_damaged_fence_is_an_error_and_not_an_empty_one(damaged: str) -> None:
    with pytest.raises(ContractError, match="cannot be read"):
        from_text(damaged)


@given(
    OFFSETS,
    st.lists(st.builds(OffsetRange, st.just("e"), st.integers(0, 9), st.integers(0, 99), st.integers(0, 99))),
)
def test_a_fence_never_goes_back(offsets: dict[int, int], ranges: list[OffsetRange]) -> None:
    after = FenceRow(TOPIC, offsets, "a").after(ranges)
    assert all(after[partition] >= offset for partition, offset in offsets.items())
    assert all(after[part.partition] >= part.end for part in ranges)


def test_a_range_beyond_the_fence_would_leave_a_gap() -> None:
    row = FenceRow(TOPIC, {0: 5}, "a")
    beyond, next_to_it, unknown = (OffsetRange("e", p, start, 9) for p, start in ((0, 6), (0, 5), (1, 7)))
    assert row.missing([beyond, next_to_it, unknown]) == [beyond]
