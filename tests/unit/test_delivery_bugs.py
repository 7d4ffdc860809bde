"""The simulator itself: each bug that is put into one of its parts must show, and be called by what it does.

The sound parts show nothing in as many seeds and more (test_delivery_simulation.py).
"""

import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from pyspark.sql import DataFrame
from tests.unit.delivery_simulator import (
    FakeReader,
    FakeSink,
    Frame,
    KeyedSink,
    Parts,
    Record,
    run,
)

from engagement.delivery.checkpoint import Checkpoint
from engagement.delivery.microbatch import MicroBatchRunner
from engagement.delivery.offsets import Bounds
from engagement.errors import TransientError
from engagement.identity import BatchIdentity, Fence, OffsetRange
from engagement.sinks.base import PartitionSummary

SEEDS = 400


class FencesByBatchId(FakeSink):
    """What has the number of a micro-batch that was taken counts as taken."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(chance)
        self._newest: dict[int, int] = {}

    def take(self, part: OffsetRange, offered: Frame, identity: BatchIdentity) -> Frame:
        if identity.batch_id <= self._newest.get(part.partition, -1):
            return []
        self._newest[part.partition] = identity.batch_id
        self.apply(offered)
        self.move_fence(part)
        return offered


class MovesFenceFirst(FakeSink):
    """The fence, then the rows: two acts."""

    def take(self, part: OffsetRange, offered: Frame, _identity: BatchIdentity) -> Frame:
        new = self.above_fence(part, offered)
        self.move_fence(part)
        self.maybe_fail()
        self.apply(new)
        return new


class MovesFenceLast(FakeSink):
    """The rows, then the fence: two acts."""

    def take(self, part: OffsetRange, offered: Frame, _identity: BatchIdentity) -> Frame:
        new = self.above_fence(part, offered)
        self.apply(new)
        self.maybe_fail()
        self.move_fence(part)
        return new


class CommitsBeforeWriting(FakeSink):
    """Says that it holds what the next micro-batch writes; a driver that dies takes it along."""

    def open(self, topic_id: str) -> None:
        super().open(topic_id)
        self._waiting = Frame()

    def take(self, part: OffsetRange, offered: Frame, _identity: BatchIdentity) -> Frame:
        self.apply(self._waiting)
        self._waiting = self.above_fence(part, offered)
        self.move_fence(part)
        return self._waiting


class TakesOverlapsWhole(FakeSink):
    """A range that ends above the fence is written whole, also what of it lies below."""

    def take(self, part: OffsetRange, offered: Frame, _identity: BatchIdentity) -> Frame:
        new = offered if self.above_fence(part, offered) else []
        self.apply(new)
        self.move_fence(part)
        return new


class RemembersItsFence(FakeSink):
    """Tells how far it had got, without asking what it holds now."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(chance)
        self._told: dict[str, dict[int, int]] = {}

    def fence(self) -> dict[int, int]:
        told = self._told.setdefault(self._topic_id, {})
        told |= {number: max(at, told.get(number, 0)) for number, at in super().fence().items()}
        return dict(told)

    def above_fence(self, part: OffsetRange, offered: Frame) -> Frame:
        return [one for one in offered if one.offset >= self.held.next.get(part.partition, 0)]


class BelievesAnyTopicsFence(FakeSink):
    """Takes the fence that it finds for that of the topic it reads."""

    def open(self, topic_id: str) -> None:
        found = self.held.next if self._topics else {}
        super().open(topic_id)
        self.held.next = self.held.next or dict(found)


class WritesWhatWasNewBefore(FakeSink):
    """Asks how far it has got, and writes later what was new then: another driver may have written it meanwhile."""

    def deliver(
        self, changes: Frame, ranges: Sequence[OffsetRange], identity: BatchIdentity, *, final: bool
    ) -> list[PartitionSummary]:
        self._seen = self.fence()
        return super().deliver(changes, ranges, identity, final=final)

    def take(self, part: OffsetRange, offered: Frame, _identity: BatchIdentity) -> Frame:
        self.above_fence(part, offered)
        new = [one for one in offered if one.offset >= self._seen.get(part.partition, 0)]
        self.apply(new)
        self.move_fence(part)
        return new


class RepeatsWhatWasNotAnswered(FakeSink):
    """Writes once more what it got no answer to, without asking whether it was written."""

    def take(self, part: OffsetRange, offered: Frame, identity: BatchIdentity) -> Frame:
        new = super().take(part, offered, identity)
        if self.chance.random() < self.trouble:
            self.apply(new)
        return new


class InsertsUpdates(FakeSink):
    """What an update replaces is not taken back."""

    def apply(self, records: Frame) -> None:
        super().apply([one._replace(before=0) if one.kind == "u" else one for one in records])


class IgnoresDeletions(FakeSink):
    """What is deleted goes on to count."""

    def apply(self, records: Frame) -> None:
        super().apply([one._replace(before=0) if one.kind == "d" else one for one in records])


class AppendsLettersAgain(FakeSink):
    """The fence keeps rows, and not letters, from being written twice."""

    def take(self, part: OffsetRange, offered: Frame, identity: BatchIdentity) -> Frame:
        new = super().take(part, offered, identity)
        self.held.letters += [one for one in offered if one.kind == "bad" and one not in new]
        return new


class DropsRefusedRows(FakeSink):
    """Counts letters, and keeps none."""

    def apply(self, records: Frame) -> None:
        super().apply([one for one in records if one.kind != "bad"])


class MakesRandomKeys(KeyedSink):
    """Each request has a key of its own."""

    def key(self, _record: Record, _identity: BatchIdentity) -> str:
        return str(self.chance.random())


class KeysByMicroBatch(KeyedSink):
    """A key names the micro-batch that it was made in."""

    def key(self, record: Record, identity: BatchIdentity) -> str:
        return f"{identity}/{record.event_id}/{record.offset}"


class SeesNoGap(MicroBatchRunner):
    """Writes what Spark planned, whatever the sink holds."""

    def _deliver(self, messages: DataFrame, planned: Sequence[OffsetRange], identity: BatchIdentity) -> None:
        self._write(messages, planned, identity)


class CommitsWhatFailed(MicroBatchRunner):
    """Lets Spark note as done what the sink did not take."""

    def _deliver(self, messages: DataFrame, planned: Sequence[OffsetRange], identity: BatchIdentity) -> None:
        with suppress(TransientError):
            super()._deliver(messages, planned, identity)


class OverlooksAnEmptySink(Checkpoint):
    """Compares itself only with a sink that holds something."""

    def damage(self, topic: str, bounds: Bounds, fence: Fence) -> str | None:
        return super().damage(topic, bounds, fence) if fence else None


class TrustsItself(Checkpoint):
    """Is true, whatever sink and topic say."""

    def damage(self, _topic: str, _bounds: Bounds, _fence: Fence) -> str | None:
        return None


class LetsAnyDriverIn(Checkpoint):
    """Is locked against nobody."""

    def lock(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)


class ReadsUncommitted(FakeReader):
    """Reads aborted transactions, too."""

    def messages(self, ranges: Sequence[OffsetRange]) -> Frame:
        return self.all_messages(ranges)


BUGS = [
    (Parts(FencesByBatchId), "lost"),
    (Parts(MovesFenceFirst), "lost"),
    (Parts(MovesFenceLast), "doubled"),
    (Parts(CommitsBeforeWriting), "lost"),
    (Parts(TakesOverlapsWhole), "doubled"),
    (Parts(RemembersItsFence), "lost"),
    (Parts(BelievesAnyTopicsFence), "lost"),
    (Parts(WritesWhatWasNewBefore), "doubled"),
    (Parts(RepeatsWhatWasNotAnswered), "doubled"),
    (Parts(InsertsUpdates), "counts"),
    (Parts(IgnoresDeletions), "counts"),
    (Parts(AppendsLettersAgain), "letters are doubled"),
    (Parts(DropsRefusedRows), "letter"),
    (Parts(MakesRandomKeys), "doubled"),
    (Parts(KeysByMicroBatch), "doubled"),
    (Parts(runner=SeesNoGap), "lost"),
    (Parts(runner=CommitsWhatFailed), "lost"),
    (Parts(checkpoint=OverlooksAnEmptySink), "lost"),
    (Parts(checkpoint=TrustsItself), "lost"),
    (Parts(checkpoint=LetsAnyDriverIn), "a second driver was let in"),
    (Parts(reader=ReadsUncommitted), "should not be there"),
]


@pytest.mark.parametrize(("parts", "effect"), BUGS, ids=str)
def test_a_bug_is_found_by_what_it_does(tmp_path: Path, parts: Parts, effect: str) -> None:
    found = (run(tmp_path / str(seed), seed, parts) for seed in range(SEEDS))
    assert any(effect in one for differences in found for one in differences)
