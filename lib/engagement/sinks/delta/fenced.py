"""Appends to a Delta table whose commits carry the fence; see fence.py for why two drivers cannot both write."""

from collections.abc import Callable

from pyspark.sql import DataFrame, SparkSession

from engagement.errors import TransientSinkError
from engagement.identity import BatchIdentity, Fence
from engagement.sinks.delta.fence import DeltaFence, fence_of
from engagement.sinks.delta.tables import LakeTable

_NEWEST_COMMITS = 10
"""Where the fence is looked for first: behind it lies at most some upkeep."""


class FencedTable:
    """A table whose rows and fence move in one commit; every method runs small Spark jobs."""

    def __init__(self, spark: SparkSession, table: LakeTable, held_offsets: Callable[[], Fence]) -> None:
        """`held_offsets` is what the rows themselves say, where no commit tells any more (after 30 days)."""
        self._spark = spark
        self._table = table
        self._held_offsets = held_offsets

    def fence(self, topic_id: str) -> DeltaFence:
        """The newest fence; that of a topic that was deleted since and made again says nothing about this one."""
        table = self._table.open(self._spark)
        told: list[DeltaFence | None] = []
        for commits in (table.history(_NEWEST_COMMITS), table.history()):
            told = [fence_of(metadata) for (metadata,) in commits.select("userMetadata").collect()]  # newest first
            of_topic = [fence for fence in told if fence is not None and fence.topic_id == topic_id]
            if of_topic:
                return of_topic[0]
        return DeltaFence(topic_id, {} if any(told) else self._held_offsets())

    def append(self, rows: DataFrame, before: DeltaFence, after: DeltaFence, identity: BatchIdentity) -> None:
        """Add rows and move the fence from `before` to `after`. Raises: TransientSinkError if another driver did."""
        writer = rows.write.format("delta").mode("append").partitionBy(self._table.partition_by)
        writer = writer.option("txnAppId", before.successor).option("txnVersion", 1)
        writer.option("userMetadata", after.to_metadata(identity)).save(self._table.path)
        if self.fence(before.topic_id) != after:
            raise TransientSinkError(self._table.sink, "another driver wrote to it meanwhile; going on from its fence")
