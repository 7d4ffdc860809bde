"""From changes to written ranges: one task per Kafka partition, one summary row each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import redis

from engagement.identity import OffsetRange, spans
from engagement.sinks.redis.client import RedisOptions
from engagement.sinks.redis.summary import SUMMARY_SCHEMA, TaskSummary, from_rows
from engagement.sinks.redis.writer import WritePlan, make_task, write_empty
from engagement.transform.changes import Changes


@dataclass(frozen=True)
class RangeWriter:
    """Writes ranges of the topic into their shards."""

    client: redis.Redis
    options: RedisOptions

    def write(self, changes: Changes, ranges: Sequence[OffsetRange], plan: WritePlan) -> list[TaskSummary]:
        """Write ranges on the executors, then move the fence over those that turned out to hold no rows.

        Raises: FenceBehindError, ShardLostError, TransientSinkError: what the first task says that was held up.
        """
        planned = replace(plan, ranges=spans(ranges))
        rows = changes.each_partition(make_task(planned, self.options), SUMMARY_SCHEMA).collect()
        tasks = from_rows(row.asDict() for row in rows)
        written = {task.summary.partition for task in tasks}
        left = [part.partition for part in ranges if part.partition not in written]
        tasks += [write_empty(self.client, self.options, planned, partition) for partition in left]
        for task in tasks:
            task.raise_problem()
        return tasks
