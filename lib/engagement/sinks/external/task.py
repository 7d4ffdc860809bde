"""What runs inside a Spark task: the row versions of whole Kafka partitions to the receiver, in lanes.

Guarantee: what the task says was acknowledged was. What it does not say so of is sent again later, with the same key.
A worker process keeps its connections from task to task: a Spark function's globals do not survive, this module's do.
"""

import os
import random
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pyarrow as pa

from engagement.identity import Fence
from engagement.retry import RetryPolicy
from engagement.sinks.external.answers import Answer
from engagement.sinks.external.caller import Caller
from engagement.sinks.external.deliveries import new_files, to_rows
from engagement.sinks.external.events import to_events
from engagement.sinks.external.held_back import HeldBack
from engagement.sinks.external.lane import Sending
from engagement.sinks.external.lanes import LanePlan, LaneResult, Lanes, LaneWorld
from engagement.sinks.external.options import ExternalOptions
from engagement.sinks.external.outcomes import to_batch
from engagement.sinks.outcomes import NONE, OutcomeCounts, check_range, row_versions
from engagement.transform.changes import Task
from engagement.transform.partitions import by_partition

_MICROSECONDS = 1_000_000

_callers: dict[tuple[int, ExternalOptions, int], Caller] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class SendPlan:
    """What a task sends, how, and where it writes what came of it."""

    deliveries: str
    """The table's folder or object store address."""
    topic: str
    topic_id: str
    batch_id: str
    ranges: Mapping[int, tuple[int, int]]
    """partition -> (first offset, one past the last)."""
    fence: Fence
    """partition -> the next offset to send."""
    budget_seconds: float
    cautious: bool = False
    done: Mapping[int, pa.Array] = field(default_factory=dict)
    """partition -> offsets above the fence that are acknowledged."""


def make_task(plan: SendPlan, options: ExternalOptions) -> Task:
    """Give the work of one Spark task: changes in, rows of outcomes.SCHEMA out."""
    return partial(send_partitions, plan=plan, options=options)


def send_partitions(
    batches: Iterable[pa.RecordBatch], *, plan: SendPlan, options: ExternalOptions
) -> Iterator[pa.RecordBatch]:
    """Send what comes, and answer with a row per partition; nothing when nothing comes. Raises: OSError."""
    counted: dict[int, OutcomeCounts] = {}
    held = HeldBack()
    with closing(Lanes(lane_plan(plan, options), lane_world(options))) as lanes:
        for partition, changes in by_partition(batches):
            counts = counted.setdefault(partition, OutcomeCounts(partition))
            for batch in changes:
                _send(batch, counts, lanes, held, plan, options)
        result = lanes.finish()
    if counted:
        found = replace(result, left=[*result.left, *held.versions])
        yield to_batch(counted, found, write_outcomes(result, plan), held=held.rows())


def backoff_seconds(failures: int, uniform: random.Random) -> float:
    """Full jitter before the next try, after so many failures in a row: 0..0.5 s, 0..1 s, … 0..60 s."""
    *_, ceiling = RetryPolicy(attempts=failures + 1).ceilings()
    return uniform.uniform(0.0, ceiling)


def _send(
    changes: pa.RecordBatch,
    counts: OutcomeCounts,
    lanes: Lanes,
    held: HeldBack,
    plan: SendPlan,
    options: ExternalOptions,
) -> None:
    partition = counts.partition
    check_range(changes, partition, plan.ranges)
    following, done = plan.fence.get(partition, 0), plan.done.get(partition, NONE)
    counts.add(changes, following, done)
    held.look_at(changes)
    for event in to_events(row_versions(changes, following, done), options.installation):
        if not held.takes(event.version):
            lanes.put(event)


def write_outcomes(result: LaneResult, plan: SendPlan) -> list[dict[str, Any]]:
    """Write the outcomes; nobody sees them before the driver's commit names the files."""
    writer = new_files(plan.deliveries, int(time.time() * 1000))
    writer.add(to_rows(result.outcomes, plan.topic, plan.topic_id, plan.batch_id))
    writer.finish()
    return writer.files


def lane_plan(plan: SendPlan, options: ExternalOptions) -> LanePlan:
    """How a task sends."""
    return LanePlan(
        lanes=options.lanes,
        batch_size=options.batch_size if options.mode == "batch" else 1,
        retry_attempts=options.retry_attempts,
        budget_seconds=plan.budget_seconds,
        timeout_seconds=options.timeout_seconds,
        cautious=plan.cautious,
    )


def lane_world(options: ExternalOptions) -> LaneWorld:
    """The real one: the receiver, time and chance."""
    chance = random.Random()  # noqa: S311 spreads clients over time; nothing secret depends on it

    def post(lane: int, sending: Sending) -> Answer:
        return _caller(options, lane).post(sending.key, sending.body)

    return LaneWorld(
        post=post,
        monotonic=time.monotonic,
        epoch_us=lambda: int(time.time() * _MICROSECONDS),
        sleep=time.sleep,
        jitter=lambda failures: backoff_seconds(failures, chance),
    )


def _caller(options: ExternalOptions, lane: int) -> Caller:
    key = (os.getpid(), options, lane)
    with _lock:
        if key not in _callers:
            _callers[key] = Caller(options)
        return _callers[key]
