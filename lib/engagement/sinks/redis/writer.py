"""What runs inside a Spark task: the rows of one Kafka partition into its shard.

Guarantee: effectively once. Each chunk's numbers and the fence move in one script call, which refuses a range that
does not begin at the fence. A crash before the call leaves only entries of recent_events, which the replay skips; after
it, the replay's rows lie below the fence and are skipped. Problems travel in the summary row, since an exception would
lose its type between task and driver.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import pyarrow as pa
import redis

from engagement.errors import TransientSinkError
from engagement.identity import BatchIdentity
from engagement.sinks.outcomes import check_range
from engagement.sinks.redis.aggregate import ShardAggregator
from engagement.sinks.redis.client import RedisOptions, client_for
from engagement.sinks.redis.delta import Delta, Header, Outcomes
from engagement.sinks.redis.faults import FenceBehindError, OvertakenError, ShardLostError
from engagement.sinks.redis.recent import write_recent
from engagement.sinks.redis.rows import chunks, read_rows, unknown_content
from engagement.sinks.redis.shard import Applied, Shard, ShardState
from engagement.sinks.redis.summary import TaskSummary, describe_problem, partition_summary, to_batch
from engagement.transform.changes import Task
from engagement.transform.partitions import by_partition

CHUNK_ROWS = 5000
OVERTAKEN_LIMIT = 100
"""Times a partition is begun anew because another writer moved its fence; each time the fence is further on."""


@dataclass(frozen=True)
class WritePlan:
    """Which ranges a task writes, and how."""

    ranges: Mapping[int, tuple[int, int]]
    """partition -> (first offset, one past the last)."""
    identity: BatchIdentity
    topic_id: str = ""
    """Kafka's id of the topic; a shard that holds another topic's offsets is lost. "" = not compared."""
    final: bool = False
    """Whether rows of unknown contents are written (on the board by their id) instead of reported."""
    rebuild: bool = False
    """Whether the rows begin before the window, into an empty generation."""
    generations: Mapping[int, str] = field(default_factory=dict)
    """partition -> the generation being built; a partition that is absent writes to its current one."""
    recent_from: Mapping[int, int] = field(default_factory=dict)
    """partition -> first offset whose events go to recent_events; 0 where it is absent."""
    chunk_rows: int = CHUNK_ROWS
    now: float | None = None
    """Epoch seconds instead of Redis's clock, for tests."""


def make_task(plan: WritePlan, options: RedisOptions) -> Task:
    """Give the work of one Spark task: changes in, rows of SUMMARY_SCHEMA out."""
    return partial(write_partitions, plan=plan, options=options)


def write_partitions(
    batches: Iterable[pa.RecordBatch], *, plan: WritePlan, options: RedisOptions
) -> Iterator[pa.RecordBatch]:
    """Write every partition that comes, one summary row each; a range without rows gives none (`write_empty`)."""
    client = client_for(options)
    for number, rows in by_partition(batches):
        yield to_batch(PartitionWriter(client, options, plan, number).write(rows))


def write_empty(client: redis.Redis, options: RedisOptions, plan: WritePlan, partition: int) -> TaskSummary:
    """Move the fence over a range whose offsets hold no rows (transaction markers): from the driver."""
    return PartitionWriter(client, options, plan, partition).write(())


@dataclass(frozen=True)
class PartitionWriter:
    """Writes one partition's range."""

    client: redis.Redis
    options: RedisOptions
    plan: WritePlan
    partition: int

    def write(self, batches: Iterable[pa.RecordBatch]) -> TaskSummary:
        """Write the rows and move the fence to the range's end; says in the summary what stood in the way."""
        try:
            return self._write(batches)
        except TransientSinkError as error:
            problem, detail = describe_problem(error)
            summary = partition_summary(self.partition, *self._range, Outcomes())
            return TaskSummary(summary, problem=problem, problem_detail=detail)

    def _write(self, batches: Iterable[pa.RecordBatch]) -> TaskSummary:
        if self.plan.rebuild:  # too much to hold; nothing of a generation is visible before it is whole
            return self._attempt(batches)
        held = list(batches)
        if not self.plan.final and (unknown := frozenset(c for batch in held for c in unknown_content(batch))):
            return self._unknown(unknown)
        for _ in range(OVERTAKEN_LIMIT):
            try:
                return self._attempt(held)
            except OvertakenError:
                continue  # another driver or a second attempt of this task: drop what it wrote and go on
        raise OvertakenError(self.partition)

    def _attempt(self, batches: Iterable[pa.RecordBatch]) -> TaskSummary:
        state = self._open()
        (first, end), event_ttl = self._range, self.options.event_ttl_seconds
        aggregator = ShardAggregator(state, rebuild=self.plan.rebuild, since=first)
        applied, done, recent_from = list[Applied](), state.next_offset, self.plan.recent_from.get(self.partition, 0)
        for chunk in chunks(batches, self.plan.chunk_rows):
            check_range(chunk, self.partition, self.plan.ranges)
            if self.plan.rebuild and not self.plan.final and (unknown := unknown_content(chunk)):
                return self._unknown(unknown)
            following = chunk.column("kafka_offset")[-1].as_py() + 1
            rows = read_rows(chunk)
            delta = aggregator.add(rows)
            if following <= done:
                continue
            fresh = [i for i in delta.fresh if rows.offsets[i] >= recent_from and (event_ttl or rows.content_ids[i])]
            if fresh:
                write_recent(self.client, self.partition, chunk.take(fresh), event_ttl)
            applied.append(self._apply(state, aggregator, delta, (done, following)))
            done = following
        if done < end:
            applied.append(self._apply(state, aggregator, Delta(), (done, end)))
        late, snapshots = sum(each.late for each in applied), sum(each.snapshots for each in applied)
        summary = partition_summary(self.partition, first, end, aggregator.outcomes, late)
        return TaskSummary(summary, snapshots, aggregator.outcomes.other_database)

    def _open(self) -> ShardState:
        state = self._shard.state(self._generation)
        if self.plan.topic_id and state.topic_id and state.topic_id != self.plan.topic_id:
            raise ShardLostError(self.partition, "topic")
        if state.window_seconds != self.options.window_seconds:
            raise ShardLostError(self.partition, "window_length")
        if state.next_offset < self._range[0]:
            raise FenceBehindError(self.partition, state.next_offset)
        return state

    def _apply(
        self,
        state: ShardState,
        aggregator: ShardAggregator,
        delta: Delta,
        span: tuple[int, int],
    ) -> Applied:
        header = Header(
            generation=state.generation,
            start=span[0],
            end=span[1],
            topic_id=self.plan.topic_id or state.topic_id,
            identity=self.plan.identity,
            position=aggregator.position,
            live=not self._generation,
            now=self.plan.now,
        )
        return self._shard.apply(delta.pack(header))

    def _unknown(self, unknown: frozenset[str]) -> TaskSummary:
        outcomes = Outcomes()
        summary = partition_summary(self.partition, *self._range, outcomes)
        return TaskSummary(replace(summary, unknown_content=unknown))

    @property
    def _shard(self) -> Shard:
        return Shard(self.client, self.partition)

    @property
    def _generation(self) -> str:
        return self.plan.generations.get(self.partition, "")

    @property
    def _range(self) -> tuple[int, int]:
        return self.plan.ranges[self.partition]
