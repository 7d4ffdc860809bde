"""A small source that makes rows of `changes`, and an oracle of the board that shares no code with the sink."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from random import Random
from typing import Any

import pyarrow as pa
import redis

from engagement.identity import BatchIdentity
from engagement.sinks.redis.client import RedisOptions
from engagement.sinks.redis.shard import Shard
from engagement.sinks.redis.summary import TaskSummary
from engagement.sinks.redis.writer import PartitionWriter, WritePlan

START = 1_800_000_000
WINDOW = 600
PIECES = 3
NOT_RECENT = dict.fromkeys(range(9), 1_000_000_000)
"""WritePlan.recent_from that writes none."""
IDENTITY = BatchIdentity("app", "generation", 1)
CHANGED_ID = "E_ENVELOPE"
"""The code of an update that changed the id; nothing else here has it."""
TENTHS = {"play": 10, "pause": 5, "finish": 30, "click": 3}
SCHEMA = pa.schema(
    [
        ("kafka_partition", pa.int32()),
        ("kafka_offset", pa.int64()),
        *((name, pa.string()) for name in ("kind", "code")),
        ("is_version", pa.bool_()),
        ("effect", pa.int32()),
        ("op", pa.string()),
        *((name, pa.int64()) for name in ("version", "commit_lsn", "lsn", "source_ts_ms")),
        ("half", pa.int32()),
        ("replay_of", pa.int64()),
        ("event_id", pa.int64()),
        *((name, pa.string()) for name in ("content_id", "user_id", "event_type")),
        ("event_ts", pa.timestamp("us", "UTC")),
        ("duration_ms", pa.int32()),
        ("device", pa.string()),
        ("engagement_seconds", pa.decimal128(12, 3)),
        ("engagement_pct", pa.decimal128(14, 2)),
        ("flags", pa.list_(pa.string())),
        ("units", pa.int64()),
    ]
)
Row = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """One version of a row of engagement_events; `event_us` is its time in microseconds."""

    event_id: int = 1
    content_id: str | None = "a"
    event_type: str = "play"
    event_us: int = START * 1_000_000
    duration_ms: int | None = None
    user_id: str | None = "u"
    length: int | None = 60
    valid: bool = True

    @property
    def pct_hundredths(self) -> int | None:
        if self.duration_ms is None or not self.length:
            return None
        return (2 * 10 * self.duration_ms + self.length) // (2 * self.length)

    @property
    def units(self) -> int:
        return TENTHS[self.event_type] * (10_000 + min(self.pct_hundredths or 0, 10_000))


@dataclass(frozen=True)
class Origin:
    """Where a message comes from in the source."""

    op: str = "c"
    lsn: int | None = 100
    commit_lsn: int | None = 99
    ts_ms: int = START * 1000
    half: int = 1
    kind: str = "change"
    code: str | None = None
    replay_of: int | None = None


def image(event: Event, origin: Origin, effect: int = 1, *, is_version: bool = True) -> Row:
    """One row of `changes`, without its place in Kafka."""
    refused = origin.kind == "dead_letter" and is_version
    pct = event.pct_hundredths
    shown: Row = {
        "content_id": event.content_id,
        "user_id": event.user_id,
        "event_type": event.event_type,
        "event_ts": event.event_us,
        "duration_ms": event.duration_ms,
        "device": "tv",
        "engagement_seconds": None if event.duration_ms is None else Decimal(event.duration_ms).scaleb(-3),
        "engagement_pct": None if pct is None else Decimal(pct).scaleb(-2),
        "units": event.units,
    }
    if refused:
        may_return = origin.code == "E_TS_FUTURE" or (origin.code == CHANGED_ID and event.valid)
        shown = {**dict.fromkeys(shown), "event_ts": event.event_us if may_return else None}
    return {
        "kind": origin.kind if is_version else "change",
        "code": origin.code if is_version else None,
        "is_version": is_version,
        "effect": effect,
        "op": origin.op,
        "version": origin.lsn or 0,
        "commit_lsn": origin.commit_lsn,
        "lsn": origin.lsn,
        "source_ts_ms": origin.ts_ms,
        "half": origin.half,
        "replay_of": origin.replay_of,
        "event_id": event.event_id,
        "flags": [],
        **shown,
    }


def id_changes(event_us: int) -> list[list[Row]]:
    """An event comes, its id is changed from 5 to 6, it is updated and deleted, and another comes: 1, 0, 1, 0, 1 count.

    The last one shows whether more was taken back than had counted: no ranking has less than nothing.
    """
    former, latter = Event(5, event_us=event_us), Event(6, event_us=event_us)
    return [
        [image(former, Origin(lsn=100))],
        [
            image(latter, Origin("u", lsn=101, kind="dead_letter", code=CHANGED_ID), 0),
            image(former, Origin("u", lsn=101), -1, is_version=False),
        ],
        [image(latter, Origin("u", lsn=102)), image(latter, Origin("u", lsn=102), -1, is_version=False)],
        [image(latter, Origin("d", lsn=103), -1)],
        [image(Event(7, event_us=event_us), Origin(lsn=104))],
    ]


def to_batch(messages: Iterable[tuple[int, Sequence[Row]]], partition: int = 0) -> pa.RecordBatch:
    """Rows of (offset, rows) messages as Spark hands them to a task."""
    rows = [{**row, "kafka_partition": partition, "kafka_offset": at} for at, group in messages for row in group]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def start_board(client: redis.Redis, partitions: int, now: float, window: int = WINDOW) -> None:
    for partition in range(partitions):
        shard = Shard(client, partition)
        shard.swap(*shard.new_generation(0, "topic", window, now))


def write(
    client: redis.Redis,
    options: RedisOptions,
    partition: int,
    messages: Sequence[Sequence[Row]],
    *,
    span: tuple[int, int] | None = None,
    plan: WritePlan | None = None,
) -> TaskSummary:
    """Deliver a partition's messages [start, end) as a task would; offsets are the places in the list."""
    start, end = span or (0, len(messages))
    numbered = list(enumerate(messages))[start:end]
    whole = to_batch(numbered, partition)
    borders = [whole.num_rows * i // PIECES for i in range(PIECES + 1)]  # as Spark cuts: anywhere
    batches = [whole.slice(a, b - a) for a, b in pairwise(borders) if b > a]
    planned = replace(plan or WritePlan({}, IDENTITY, now=START), ranges={partition: (start, end)})
    return PartitionWriter(client, options, planned, partition).write(batches)


@dataclass
class World:
    """A random source: rows that are inserted, changed, moved, refused and deleted, and the topic they end up in."""

    random: Random
    partitions: int = 2
    contents: int = 6
    now: float = START
    logs: dict[int, list[list[Row]]] = field(default_factory=lambda: defaultdict(list))
    rows: dict[int, Event] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    recent: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    lsn: int = 1000
    commit_lsn: int = 1000
    ids: int = 0

    def step(self) -> None:
        """One transaction, or one trick of the source."""
        self.now += self.random.choice([0, 0.01, 0.5, 3, 7])
        self.lsn += 1
        choice = self.random.random()
        if choice < 0.5 or not self.rows:
            for _ in range(self.random.choice([1, 1, 3])):  # several rows at one place, as COPY makes them
                self.ids += 1
                self._insert(self._event(self.ids))
        elif choice < 0.75:
            self._update(self.rows[self.random.choice(list(self.rows))])
        elif choice < 0.87:
            self._delete(self.random.choice(list(self.rows)))
        elif choice < 0.9:
            self._repeat()
        elif choice < 0.92:
            self._change_id(self.random.choice(list(self.rows)))
        else:
            self.commit_lsn = self.lsn
            self.lsn += 5
            self._log(0, [{**image(Event(), self._origin(), 0), "kind": "tombstone", "lsn": None, "event_id": None}])

    def partition_of(self, content: str | None) -> int:
        return 0 if content is None else ord(content[-1]) % self.partitions

    def _event(self, event_id: int) -> Event:
        pick = self.random
        offset = pick.choice([0, -1, -5, -100, -599, -610, -3000, 20, 250, 299, 400, 900])
        content = pick.choice([None, *[f"content-{i}" for i in range(self.contents)]])
        at = int((self.now + offset) * 1e6) + pick.randrange(1_000_000) - 500_000
        at = min(at, int((self.now + 299) * 1e6)) if offset < 300 else at
        duration = pick.choice([None, 0, 17_333, 30_000, 100_000])
        return Event(
            event_id, content, pick.choice(list(TENTHS)), at, duration, f"u{pick.randrange(50)}",
            length=None if content == "content-0" else 60, valid=pick.random() > 0.05,
        )  # fmt: skip

    def _origin(self, op: str = "c", half: int = 1, kind: str = "change", code: str | None = None) -> Origin:
        return Origin(op, self.lsn, self.commit_lsn, int(self.now * 1000), half, kind, code)

    def _is_future(self, event: Event) -> bool:
        return event.event_us > (self.now + 300) * 1e6

    def _after(self, event: Event, op: str) -> Row:
        if self._is_future(event):
            self.refused.add(event.event_id)
            return image(event, self._origin(op, kind="dead_letter", code="E_TS_FUTURE"), 0)
        if not event.valid:
            return image(event, self._origin(op, kind="dead_letter", code="E_RANGE_DURATION"), 0)
        self.refused.discard(event.event_id)
        if event.content_id:
            self.recent[event.content_id].append(event.event_id)
        return image(event, self._origin(op), 1)

    def _before_effect(self, event: Event) -> int:
        return -1 if event.valid else 0

    def _insert(self, event: Event) -> None:
        self.rows[event.event_id] = event
        self._log(self.partition_of(event.content_id), [self._after(event, "c")])

    def _update(self, old: Event) -> None:
        new = self._event(old.event_id)
        if self.random.random() < 0.7:
            new = replace(new, content_id=old.content_id, length=old.length)
        effect = self._before_effect(old)
        if new.content_id == old.content_id:
            rows = [self._after(new, "u")]
            if effect:
                rows.append(image(old, self._origin("u"), effect, is_version=False))
            self._log(self.partition_of(new.content_id), rows)
        else:
            self._log(self.partition_of(old.content_id), [image(old, self._origin("d", half=0, kind="move"), effect)])
            self._log(self.partition_of(new.content_id), [self._after(new, "u")])
        self.rows[new.event_id] = new

    def _delete(self, event_id: int) -> None:
        old = self.rows.pop(event_id)
        if old.content_id:
            self.recent[old.content_id].append(event_id)
        self._log(self.partition_of(old.content_id), [image(old, self._origin("d"), self._before_effect(old))])
        self.refused.discard(event_id)

    def _change_id(self, event_id: int) -> None:
        """What our trigger refuses, from a database without it."""
        old = self.rows.pop(event_id)
        self.ids += 1
        new = self.rows[self.ids] = replace(old, event_id=self.ids)
        rows = [image(new, self._origin("u", kind="dead_letter", code=CHANGED_ID), 0)]
        if effect := self._before_effect(old):
            rows.append(image(old, self._origin("u"), effect, is_version=False))
        self._log(self.partition_of(old.content_id), rows)
        self.refused.discard(event_id)
        self.refused.add(self.ids)

    def _repeat(self) -> None:
        """The connector was killed before it noted its place: the newest messages come again, with new offsets."""
        log = self.logs[self.random.randrange(self.partitions)]
        again = [rows for rows in log[-self.random.randint(1, 8) :] if rows[0]["lsn"] is not None]
        log.extend(again)

    def _log(self, partition: int, rows: list[Row]) -> None:
        self.logs[partition].append(rows)

    def board(self, now: float, window: int = WINDOW) -> dict[str, dict[str, Any]]:
        """What the statistics must say at `now`: sums over the newest versions of live rows in the window."""
        last = (int(now // 10) + 1) * 10
        contents: dict[str, list[Event]] = defaultdict(list)
        for event in self.rows.values():
            inside = (last - window) * 1_000_000 <= event.event_us < last * 1_000_000
            if inside and event.valid and event.content_id and event.event_id not in self.refused:
                contents[event.content_id].append(event)
        return {content: describe(events, last, window) for content, events in contents.items()}


def describe(events: Sequence[Event], last: int, window: int) -> dict[str, Any]:
    pcts = [event.pct_hundredths for event in events if event.pct_hundredths is not None]
    newest = max(event.event_us for event in events)
    return {
        "units": sum(event.units for event in events),
        "events": len(events),
        **{name: sum(event.event_type == name for event in events) for name in TENTHS},
        "engagement_seconds": Decimal(sum(event.duration_ms or 0 for event in events)) / 1000,
        "avg_engagement_pct": Decimal((2 * sum(pcts) + len(pcts)) // (2 * len(pcts))) / 100 if pcts else None,
        "last_event_ts": datetime.fromtimestamp(newest // 1_000_000, UTC).replace(microsecond=newest % 1_000_000),
        "window_start": datetime.fromtimestamp(last - window, UTC),
        "window_end": datetime.fromtimestamp(last, UTC),
    }


def ranking(board: dict[str, dict[str, Any]], size: int) -> list[tuple[str, float]]:
    order = sorted(board, key=lambda content: (-board[content]["units"], content))
    return [(content, board[content]["units"] / 100_000) for content in order[:size]]
