"""One micro-batch against a sink that went back, or that cannot say what became of a message."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import pytest

from engagement.delivery.microbatch import MicroBatchRunner, Patience
from engagement.errors import ContractError, GapError
from engagement.identity import BatchIdentity, OffsetRange
from engagement.sinks.base import PartitionSummary

PLANNED = OffsetRange("events", 0, 1_000_000, 1_000_005)


class Parts:
    """Checkpoint, reader, sink and observer of a runner in one; the sink loses a message if told to."""

    name, content_first, backfill_mends = "fake", True, True

    def __init__(self, fence: dict[int, int], lost: int = 0) -> None:
        self.held, self._lost = fence, lost
        self.offered: list[OffsetRange] = []
        self.told: list[PartitionSummary] = []

    def generation(self) -> str:
        return "generation-1"

    def planned_ranges(self, _batch_id: int) -> list[OffsetRange]:
        return [PLANNED]

    def fence(self) -> dict[int, int]:
        return self.held

    def messages(self, ranges: Sequence[OffsetRange]) -> Sequence[OffsetRange]:
        return ranges

    def changes(self, messages: object, _ranges: Sequence[OffsetRange]) -> object:
        return messages

    def refresh_content(self) -> None: ...

    def steady(self) -> AbstractContextManager[object]:
        return nullcontext()

    def deliver(
        self, _changes: object, ranges: Sequence[OffsetRange], _identity: BatchIdentity, *, final: bool
    ) -> list[PartitionSummary]:
        assert final
        self.offered += ranges
        return [
            PartitionSummary(
                part.partition, part.start, part.end, part.end - part.start, part.end - part.start - self._lost
            )
            for part in ranges
        ]

    def delivered(self, _identity: BatchIdentity, summaries: Sequence[PartitionSummary], _seconds: float) -> None:
        self.told += summaries


def runner_of(parts: Parts) -> MicroBatchRunner:
    patience = Patience((), lambda _: None, lambda: False, lambda: 0.0)
    any_parts = cast("Any", parts)
    return MicroBatchRunner(any_parts, any_parts, any_parts, any_parts, patience, "app")


def test_a_small_gap_is_written_before_the_plan() -> None:
    parts = Parts({0: 999_990})
    runner_of(parts)(cast("Any", None), 0)
    assert parts.offered == [OffsetRange("events", 0, 999_990, 1_000_000), PLANNED]


@pytest.mark.parametrize("fence", [{0: 5}, {}])
def test_a_gap_that_no_micro_batch_is_made_for_goes_back_to_the_query(fence: dict[int, int]) -> None:
    """At once: nothing that is tried again with the same plan would help."""
    parts = Parts(fence)
    runner = runner_of(parts)
    runner.taken = {0: 1_000_000}
    with pytest.raises(GapError, match="gone back from"):
        runner(cast("Any", None), 0)
    assert parts.offered == []


def test_messages_without_an_outcome_are_counted_before_they_stop_the_query() -> None:
    """The replay finds them delivered, and would hide them."""
    parts = Parts({0: 1_000_000}, lost=2)
    with pytest.raises(ContractError, match="without an outcome"):
        runner_of(parts)(cast("Any", None), 0)
    assert [summary.conservation_difference for summary in parts.told] == [2]


def test_what_kafka_lost_is_passed_over_without_a_row() -> None:
    parts = Parts({0: 4})
    lost = OffsetRange("events", 0, 4, 9)
    runner_of(parts).skip([lost])
    assert parts.offered == [lost]
