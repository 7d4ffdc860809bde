"""The engine against a world that lies: bookkeeping and sinks lost, altered and restored, crashes anywhere.

No Spark here: a frame is a list of (partition, offset) pairs, the checkpoint is real files, the sink a few lines that
keep fence and rows together. Whatever happens, each offset must end up in the sink exactly once.
"""

import json
import random
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engagement.delivery.checkpoint import Checkpoint
from engagement.delivery.microbatch import MicroBatchRunner, Patience
from engagement.errors import GapError, TransientError, TransientSinkError
from engagement.identity import BatchIdentity, OffsetRange
from engagement.sinks.base import PartitionSummary

TOPIC = "events"
Frame = list[tuple[int, int]]
"""Stands for a DataFrame: (partition, offset) pairs."""
PARTITIONS = 2
SEEDS = 400
GOES_BACK = 0.1


class Crash(BaseException):
    """kill -9: nothing may catch it."""


@dataclass
class FakeSink:
    """Rows and fence move together, per partition; a crash or refusal can fall between partitions."""

    chance: random.Random
    trouble: float
    rows: list[tuple[int, int]] = field(default_factory=list)
    next: dict[int, int] = field(default_factory=dict)
    name: str = "fake"
    content_first: bool = False
    backfill_mends: bool = True

    def fence(self) -> dict[int, int]:
        return dict(self.next)

    def deliver(
        self, changes: Frame, ranges: Sequence[OffsetRange], identity: BatchIdentity, *, final: bool
    ) -> list[PartitionSummary]:
        assert identity.generation
        assert not final  # no content is unknown here
        summaries = []
        for part in ranges:
            self._maybe_fail()
            at = self.next.get(part.partition, part.start)
            if at < part.start:
                raise TransientSinkError("fake", "fence is behind")
            offered = [o for p, o in changes if p == part.partition and part.start <= o < part.end]
            new = [o for o in offered if o >= at]
            self.rows += [(part.partition, offset) for offset in new]
            self.next[part.partition] = max(at, part.end)
            summaries.append(
                PartitionSummary(part.partition, part.start, part.end, len(offered), len(new),
                                 already_delivered=len(offered) - len(new))
            )  # fmt: skip
        self._maybe_fail()
        return summaries

    def _maybe_fail(self) -> None:
        draw = self.chance.random()
        if draw < self.trouble / 2:
            raise Crash
        if draw < self.trouble:
            raise TransientSinkError("fake", "busy")


class FakeReader:
    """Every offset of the topic holds one row."""

    def messages(self, ranges: Sequence[OffsetRange]) -> Frame:
        return [(part.partition, offset) for part in ranges for offset in range(part.start, part.end)]

    def changes(self, messages: Frame, _ranges: Sequence[OffsetRange]) -> Frame:
        return messages

    def refresh_content(self) -> None:
        raise AssertionError("no content is unknown here")

    def steady(self) -> AbstractContextManager[object]:
        return nullcontext()


class Silent:
    """Observes nothing."""

    def delivered(self, identity: BatchIdentity, summaries: Sequence[PartitionSummary], seconds: float) -> None: ...

    def waiting(self, reason: str) -> None: ...


class FakeSpark:
    """Spark's order of writing: offsets, foreachBatch, commit; on start a logged batch without commit comes again."""

    def __init__(self, root: Path, sink: FakeSink) -> None:
        self.checkpoint = Checkpoint(root, "fake")
        self.sink = sink

    @property
    def folder(self) -> Path:
        return self.checkpoint.path

    def start(self, ends: dict[int, int]) -> None:
        bounds = {p: (0, ends[p]) for p in range(PARTITIONS)}
        if self.checkpoint.damage(TOPIC, bounds, self.sink.next):
            self.checkpoint.set_aside()
        if not self.folder.exists():
            (self.folder / "offsets").mkdir(parents=True)
            (self.folder / "commits").mkdir()
            (self.folder / "sources" / "0").mkdir(parents=True)
            (self.folder / "metadata").write_text(json.dumps({"id": f"g-{random.random()}"}))
            start = {str(p): self.sink.next.get(p, 0) for p in range(PARTITIONS)}
            (self.folder / "sources" / "0" / "0").write_text(f"v1\n{json.dumps({TOPIC: start})}")
        self.copy = (list(self.sink.rows), dict(self.sink.next))
        patience = Patience((0.0, 0.0), lambda _: None, lambda: False, lambda: 0.0)
        self.runner = MicroBatchRunner(self.sink, self.checkpoint, FakeReader(), Silent(), patience, "app")  # type: ignore[arg-type]
        self.runner.taken = dict(self.sink.next)

    def ids(self, kind: str) -> list[int]:
        return sorted(int(p.name) for p in (self.folder / kind).iterdir())

    def run_batch(self, ends: dict[int, int]) -> None:
        logged, committed = self.ids("offsets"), self.ids("commits")
        number = logged[-1] if logged and logged[-1] not in committed else (logged[-1] + 1 if logged else 0)
        entry = self.folder / "offsets" / str(number)
        if not entry.exists():
            entry.write_text(f"v1\n{{}}\n{json.dumps({TOPIC: {str(p): e for p, e in ends.items()}})}")
        ranges = self.checkpoint.planned_ranges(number)
        self.runner(FakeReader().messages(ranges), number)
        (self.folder / "commits" / str(number)).write_text("v1\n{}")


def damage(spark: FakeSpark, chance: random.Random, root: Path, ends: dict[int, int]) -> None:
    """One of the things that happen to a checkpoint while nobody looks."""
    folder = spark.folder
    if not folder.exists():
        return
    commits, offsets = spark.ids("commits"), spark.ids("offsets")
    kind = chance.choice(["none", "commit", "two commits", "offset", "altered", "truncated", "gone"])
    if kind == "commit" and commits:
        (folder / "commits" / str(commits[-1])).unlink()
    elif kind == "two commits":
        for number in commits[-2:]:
            (folder / "commits" / str(number)).unlink()
    elif kind == "offset" and offsets:
        (folder / "offsets" / str(offsets[-1])).unlink()
    elif kind == "altered" and offsets:
        other = {str(p): chance.randint(0, end + 3) for p, end in ends.items()}
        (folder / "offsets" / str(offsets[-1])).write_text(f"v1\n{{}}\n{json.dumps({TOPIC: other})}")
    elif kind == "truncated" and offsets:
        (folder / "offsets" / str(offsets[-1])).write_text("v1\n")
    elif kind == "gone":
        folder.rename(root / f"gone-{chance.random()}")


def send_back(spark: FakeSpark, chance: random.Random) -> None:
    """Seldom: the sink is emptied, or restored from the copy of when the query was started."""
    if chance.random() < GOES_BACK:
        rows, following = chance.choice([([], {}), spark.copy])
        spark.sink.rows, spark.sink.next = list(rows), dict(following)


@pytest.mark.parametrize("block", range(4))
def test_every_offset_has_one_effect_whatever_happens_to_the_bookkeeping(tmp_path: Path, block: int) -> None:
    for seed in range(block * SEEDS // 4, (block + 1) * SEEDS // 4):
        root = tmp_path / str(seed)
        root.mkdir()
        run_seed(root, seed)


def run_seed(root: Path, seed: int) -> None:
    chance = random.Random(seed)
    sink = FakeSink(chance, trouble=0.15)
    ends = dict.fromkeys(range(PARTITIONS), 0)
    for _ in range(chance.randint(3, 8)):
        spark = FakeSpark(root, sink)
        spark.start(ends)
        try:
            for _ in range(chance.randint(1, 5)):
                ends = {p: end + chance.randint(0, 4) for p, end in ends.items()}
                send_back(spark, chance)
                spark.run_batch(ends)
        except (Crash, GapError, TransientError):
            pass
        damage(spark, chance, root, ends)
        send_back(spark, chance)
    sink.trouble = 0.0
    for _ in range(3):
        spark = FakeSpark(root, sink)
        spark.start(ends)
        spark.run_batch(ends)
        spark.run_batch(ends)
    expected = [(p, offset) for p, end in ends.items() for offset in range(end)]
    assert sorted(sink.rows) == expected, f"seed {seed}"
