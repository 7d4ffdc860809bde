"""The engine in a world that lies: bookkeeping and sinks lost, altered and restored, crashes, a second driver.

Real are the runner of micro-batches, the agreement at a query's start, and the checkpoint with its files and its lock.
Spark, topic and sinks are played, in one process: a frame is a list of records, a sink a few lines. Whatever happens,
each record must have one effect in the end. Each part can be replaced by one with a bug (test_delivery_bugs.py).
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.e2e.support.topic import Place, Values, compare

from engagement.delivery.agreement import Agreement, OnLoss
from engagement.delivery.checkpoint import Checkpoint
from engagement.delivery.microbatch import MicroBatchRunner, Patience
from engagement.errors import (
    ContractError,
    EngagementError,
    GapError,
    PermanentError,
    TransientError,
    TransientSinkError,
)
from engagement.identity import BatchIdentity, OffsetRange
from engagement.sinks.base import PartitionSummary
from engagement.sources.kafka import KafkaTopic

TOPIC = KafkaTopic("events", "localhost:1", "test")
PARTITIONS = 2
TROUBLE, GOES_BACK, MADE_AGAIN, MEANWHILE, INTRUDES = 0.15, 0.1, 0.05, 0.05, 0.1
"""How likely it is: that a step of a sink fails, that a sink goes back, that the topic is made again, that a second
driver works in the midst of a micro-batch, that one tries to take the first one's checkpoint."""
KINDS = ("c", "c", "c", "u", "u", "d", "bad", "aborted")


class Crash(BaseException):
    """kill -9: nothing may catch it."""


class Record(NamedTuple):
    """A message: an insert, update or delete, one to be refused, or one whose transaction never was committed."""

    partition: int
    offset: int
    kind: str
    event_id: int
    before: int
    after: int

    @property
    def place(self) -> Place:
        return self.partition, self.offset

    @property
    def values(self) -> Values:
        return self.kind, self.event_id, self.after


Frame = list[Record]
"""Stands for a DataFrame."""


class FakeTopic:
    """Records by partition and offset, and what Kafka says about them."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._ids = self._number = 0
        self.make_again()

    def make_again(self) -> None:
        """Delete it and make it anew, under its old name."""
        self._number += 1
        self.partitions: list[Frame] = [[] for _ in range(PARTITIONS)]
        self._live: list[dict[int, int]] = [{} for _ in range(PARTITIONS)]

    def topic_id(self) -> str:
        return f"topic-{self._number}"

    def bounds(self) -> dict[int, tuple[int, int]]:
        return {number: (0, len(records)) for number, records in enumerate(self.partitions)}

    def grow(self) -> None:
        for number in range(PARTITIONS):
            self.partitions[number] += [
                self._record(number, len(self.partitions[number]) + more) for more in range(self._chance.randint(0, 4))
            ]

    def _record(self, number: int, offset: int) -> Record:
        live, kind, value = self._live[number], self._chance.choice(KINDS), self._chance.randint(1, 9)
        if kind in ("u", "d") and live:
            event_id = self._chance.choice(list(live))
            record = Record(number, offset, kind, event_id, live[event_id], value if kind == "u" else 0)
        else:
            self._ids += 1
            kind = "c" if kind in ("u", "d") else kind
            record = Record(number, offset, kind, self._ids, 0, value)
        if record.kind in ("c", "u"):
            live[record.event_id] = record.after
        elif record.kind == "d":
            del live[record.event_id]
        return record

    def outcomes(self) -> tuple[dict[Place, Values], dict[Place, Values]]:
        """What a sink must hold: rows and letters."""
        committed = [one for records in self.partitions for one in records if one.kind != "aborted"]
        rows = {one.place: one.values for one in committed if one.kind != "bad"}
        return rows, {one.place: one.values for one in committed if one.kind == "bad"}

    def live(self) -> dict[int, int]:
        """The value of each event that was not deleted."""
        return {event_id: value for live in self._live for event_id, value in live.items()}


@dataclass
class Held:
    """What a sink keeps of one topic; lost and restored as a whole."""

    next: dict[int, int] = field(default_factory=dict)
    rows: Frame = field(default_factory=list)
    letters: Frame = field(default_factory=list)
    sums: Counter[int] = field(default_factory=Counter)

    def copy(self) -> "Held":
        return Held(dict(self.next), list(self.rows), list(self.letters), Counter(self.sums))


class FakeSink:
    """Rows, letters, sums and fence of a partition move in one act; a crash or refusal falls between such acts."""

    name, content_first, backfill_mends = "fake", False, True

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.trouble = chance, TROUBLE
        self.meanwhile: Callable[[], None] = lambda: None
        """What others do just before an act."""
        self._topics: dict[str, Held] = {}
        self.open("")

    def open(self, topic_id: str) -> None:
        self._topic_id = topic_id
        self.held = self._topics.setdefault(topic_id, Held())

    def go_back(self, kept: Held) -> None:
        self._topics[self._topic_id] = self.held = kept.copy()

    def fence(self) -> dict[int, int]:
        return dict(self.held.next)

    def deliver(
        self, changes: Frame, ranges: Sequence[OffsetRange], identity: BatchIdentity, *, final: bool
    ) -> list[PartitionSummary]:
        assert identity.generation
        assert not final  # no content is unknown here
        summaries = []
        for part in ranges:
            self.maybe_fail()
            self.meanwhile()
            offered = [one for one in changes if (part.partition, part.start) <= one.place < (part.partition, part.end)]
            new = self.take(part, offered, identity)
            refused = sum(one.kind == "bad" for one in new)
            summaries.append(
                PartitionSummary(part.partition, part.start, part.end, len(offered), len(new) - refused,
                                 {"E_JSON": refused}, already_delivered=len(offered) - len(new))
            )  # fmt: skip
        self.maybe_fail()
        return summaries

    def take(self, part: OffsetRange, offered: Frame, _identity: BatchIdentity) -> Frame:
        """The act; returns what was new."""
        new = self.above_fence(part, offered)
        self.apply(new)
        self.move_fence(part)
        return new

    def above_fence(self, part: OffsetRange, offered: Frame) -> Frame:
        at = self.held.next.get(part.partition, part.start)
        if at < part.start:
            raise TransientSinkError("fake", "the fence is behind")
        return [one for one in offered if one.offset >= at]

    def apply(self, records: Frame) -> None:
        self.held.letters += [one for one in records if one.kind == "bad"]
        for one in records:
            if one.kind != "bad":
                self.held.rows.append(one)
                self.held.sums[one.event_id] += one.after - one.before

    def move_fence(self, part: OffsetRange) -> None:
        self.held.next[part.partition] = max(part.end, self.held.next.get(part.partition, 0))

    def maybe_fail(self) -> None:
        draw = self.chance.random()
        if draw < self.trouble / 2:
            raise Crash
        if draw < self.trouble:
            raise TransientSinkError("fake", "busy")

    def differences(self, topic: FakeTopic) -> list[str]:
        """How it differs from what the topic says."""
        rows, letters = topic.outcomes()
        sums = topic.live()
        return [
            *compare("row", rows, [(one.place, one.values) for one in self.held.rows]),
            *compare("letter", letters, [(one.place, one.values) for one in self.held.letters]),
            *(
                f"event {event_id} counts {self.held.sums[event_id]}, not {sums.get(event_id, 0)}"
                for event_id in self.held.sums.keys() | sums.keys()
                if self.held.sums[event_id] != sums.get(event_id, 0)
            ),
        ]


class KeyedSink(FakeSink):
    """Sends under keys, and notes only afterwards how far it has got; the receiver takes each key once."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(chance)
        self._keys: set[str] = set()

    def go_back(self, kept: Held) -> None:
        self.held.next = dict(kept.next)  # nobody restores the receiver

    def take(self, part: OffsetRange, offered: Frame, identity: BatchIdentity) -> Frame:
        new = self.above_fence(part, offered)
        for one in new:
            key = self.key(one, identity)
            if key not in self._keys:
                self._keys.add(key)
                self.apply([one])
        self.maybe_fail()  # the answer is lost, or the note of it
        self.move_fence(part)
        return new

    def key(self, record: Record, _identity: BatchIdentity) -> str:
        return f"{record.event_id}/{record.offset}"


class FakeReader:
    """Reads what is committed."""

    def __init__(self, topic: FakeTopic) -> None:
        self.topic = topic

    def messages(self, ranges: Sequence[OffsetRange]) -> Frame:
        return [one for one in self.all_messages(ranges) if one.kind != "aborted"]

    def all_messages(self, ranges: Sequence[OffsetRange]) -> Frame:
        return [one for part in ranges for one in self.topic.partitions[part.partition][part.start : part.end]]

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


@dataclass(frozen=True)
class Parts:
    """What a simulation is made of."""

    sink: type[FakeSink] = FakeSink
    runner: type[MicroBatchRunner] = MicroBatchRunner
    checkpoint: type[Checkpoint] = Checkpoint
    reader: type[FakeReader] = FakeReader

    def __str__(self) -> str:
        sound = {FakeSink, MicroBatchRunner, Checkpoint, FakeReader}
        return " ".join(part.__name__ for part in vars(self).values() if part not in sound) or "sound"


class FakeSpark:
    """A driver. Spark writes offsets, calls foreachBatch, commits; what is logged without commit comes again."""

    def __init__(self, root: Path, sink: FakeSink, topic: FakeTopic, parts: Parts) -> None:
        self._sink, self._topic = sink, topic
        self._checkpoint = parts.checkpoint(root, "fake")
        self.folder = self._checkpoint.path
        self._reader = parts.reader(topic)
        patience = Patience((0.0, 0.0), lambda _: None, lambda: False, lambda: 0.0)
        self._runner = parts.runner(sink, self._checkpoint, self._reader, Silent(), patience, "app")  # type: ignore[arg-type]
        self._agreement = Agreement(
            sink, self._checkpoint, TOPIC, topic, self._runner, "earliest", OnLoss.STAND_STILL  # type: ignore[arg-type]
        )  # fmt: skip

    def start(self) -> None:
        """As a query starts."""
        self._checkpoint.lock()
        self._runner.begin()
        self._agreement.begin()
        self._sink.open(self._topic.topic_id())
        begin = self._agreement.reach(self._sink.fence)
        if not self.folder.exists():
            for name in ("offsets", "commits", "sources/0"):
                (self.folder / name).mkdir(parents=True)
            (self.folder / "metadata").write_text(json.dumps({"id": f"g-{self._sink.chance.random()}"}))
            (self.folder / "sources" / "0" / "0").write_text(f"v1\n{begin}")

    def run_batch(self) -> None:
        """The next micro-batch, up to the topic's end."""
        logged, committed = numbers(self.folder / "offsets"), numbers(self.folder / "commits")
        number = logged[-1] if logged and logged[-1] not in committed else (logged[-1] + 1 if logged else 0)
        entry = self.folder / "offsets" / str(number)
        if not entry.exists():
            ends = {str(partition): end for partition, (_, end) in self._topic.bounds().items()}
            entry.write_text(f"v1\n{{}}\n{json.dumps({TOPIC.topic: ends})}")
        ranges = self._checkpoint.planned_ranges(number)
        self._runner(self._reader.messages(ranges), number)  # type: ignore[arg-type]
        (self.folder / "commits" / str(number)).write_text("v1\n{}")

    def end(self) -> None:
        """Its process is gone, and so is its lock."""
        self._checkpoint.unlock()


def numbers(folder: Path) -> list[int]:
    return sorted(int(entry.name) for entry in folder.iterdir())


def run(root: Path, seed: int, parts: Parts | None = None) -> list[str]:
    """Live through a history of misfortunes, then through peace; what has come of it, and should not have."""
    parts = parts or Parts()
    chance = random.Random(seed)
    topic, sink, found = FakeTopic(chance), parts.sink(chance), list[str]()
    for _ in range(chance.randint(3, 8)):
        spark = FakeSpark(root, sink, topic, parts)
        sink.meanwhile = _second_driver(root / "second", sink, topic, parts)
        kept = sink.held
        try:
            spark.start()
            kept = sink.held.copy()
            found += _intrude(root, chance, parts)
            for _ in range(chance.randint(1, 5)):
                topic.grow()
                _send_back(sink, kept, chance)
                spark.run_batch()
        except (Crash, GapError, TransientError):
            pass
        except ContractError as error:
            found.append(f"no start helps: {error}")
        finally:
            spark.end()
        _damage(spark.folder, chance, topic)
        _send_back(sink, kept, chance)
        if chance.random() < MADE_AGAIN:
            topic.make_again()
    return [*found, *_at_rest(root, sink, topic, parts)]


def _at_rest(root: Path, sink: FakeSink, topic: FakeTopic, parts: Parts) -> list[str]:
    sink.trouble, sink.meanwhile = 0.0, lambda: None
    for _ in range(3):
        spark = FakeSpark(root, sink, topic, parts)
        try:
            spark.start()
            spark.run_batch()
            spark.run_batch()
        except EngagementError as error:
            return [f"it does not come to rest: {error}"]
        finally:
            spark.end()
    return sink.differences(topic)


def _second_driver(root: Path, sink: FakeSink, topic: FakeTopic, parts: Parts) -> Callable[[], None]:
    """Works, now and then, in the midst of the first one's micro-batch, with a checkpoint of its own."""
    is_working = False

    def work() -> None:
        nonlocal is_working
        if is_working or sink.chance.random() >= MEANWHILE:
            return
        is_working, spark = True, FakeSpark(root, sink, topic, parts)
        try:
            spark.start()
            spark.run_batch()
        except (Crash, GapError, TransientError):
            pass
        finally:
            spark.end()
            is_working = False

    return work


def _intrude(root: Path, chance: random.Random, parts: Parts) -> list[str]:
    """Now and then, a second driver wants the first one's checkpoint."""
    if chance.random() >= INTRUDES:
        return []
    second = parts.checkpoint(root, "fake")
    try:
        second.lock()
    except PermanentError:
        return []
    second.unlock()
    return ["a second driver was let in"]


def _damage(folder: Path, chance: random.Random, topic: FakeTopic) -> None:
    """One of the things that happen to a checkpoint while nobody looks."""
    if not folder.exists():
        return
    commits, offsets = numbers(folder / "commits"), numbers(folder / "offsets")
    kind = chance.choice(["none", "commit", "two commits", "offset", "altered", "truncated", "gone"])
    if kind == "commit" and commits:
        (folder / "commits" / str(commits[-1])).unlink()
    elif kind == "two commits":
        for number in commits[-2:]:
            (folder / "commits" / str(number)).unlink()
    elif kind == "offset" and offsets:
        (folder / "offsets" / str(offsets[-1])).unlink()
    elif kind == "altered" and offsets:
        other = {str(partition): chance.randint(0, end + 3) for partition, (_, end) in topic.bounds().items()}
        (folder / "offsets" / str(offsets[-1])).write_text(f"v1\n{{}}\n{json.dumps({TOPIC.topic: other})}")
    elif kind == "truncated" and offsets:
        (folder / "offsets" / str(offsets[-1])).write_text("v1\n")
    elif kind == "gone":
        folder.rename(folder.with_name(f"gone-{chance.random()}"))


def _send_back(sink: FakeSink, kept: Held, chance: random.Random) -> None:
    """Seldom: the sink is emptied, or restored from the copy of when the query was started."""
    if chance.random() < GOES_BACK:
        sink.go_back(chance.choice([Held(), kept]))
