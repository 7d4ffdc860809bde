"""From a frame of changes to written ranges: one task per Kafka partition, one summary row each."""

from collections.abc import Sequence
from dataclasses import replace

import redis
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from engagement.identity import OffsetRange
from engagement.sinks.redis.client import RedisOptions
from engagement.sinks.redis.rows import CHANGE_COLUMNS
from engagement.sinks.redis.summary import SUMMARY_DDL, TaskSummary, from_rows
from engagement.sinks.redis.writer import WritePlan, make_task, write_empty


class RangeWriter:
    """Writes ranges of the topic into their shards; keeps what does not change from one micro-batch to the next.

    The rows go to the tasks as one struct, since each column by itself costs several calls into the JVM every time.
    """

    def __init__(self, client: redis.Redis, options: RedisOptions) -> None:
        self._client = client
        self._options = options
        self._change: Column | None = None

    def write(self, changes: DataFrame, ranges: Sequence[OffsetRange], plan: WritePlan) -> list[TaskSummary]:
        """Write ranges on the executors, then move the fence over those that turned out to hold no rows.

        Raises: FenceBehindError, ShardLostError, TransientSinkError: what the first task says that was held up.
        """
        if self._change is None:
            self._change = F.struct(*CHANGE_COLUMNS).alias("change")
        planned = replace(plan, ranges={part.partition: (part.start, part.end) for part in ranges})
        rows = changes.select(self._change).mapInArrow(make_task(planned, self._options), SUMMARY_DDL).collect()
        tasks = from_rows(row.asDict() for row in rows)
        written = {task.summary.partition for task in tasks}
        left = [part.partition for part in ranges if part.partition not in written]
        tasks += [write_empty(self._client, self._options, planned, partition) for partition in left]
        for task in tasks:
            task.raise_problem()
        return tasks
