"""Topic and contents through the one transform, as the engine and the Redis rebuild need them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from pyspark.sql import DataFrame, SparkSession

from engagement.delivery.content import ContentHandle
from engagement.identity import OffsetRange
from engagement.session import compile_for
from engagement.sinks.redis.rebuild import Recount
from engagement.sources.kafka import KafkaTopic, TopicPositions
from engagement.transform.changes import Changes, narrow_messages
from engagement.workers import Workers

_REBUILD_POOL = "rebuild"
_TASK_MESSAGES = {Workers.FIRST: 5_000, Workers.GIVE_WAY: 20_000}
"""With fewer, a task costs more than what is done in it, and those that give way leave a processor to the others."""


class TopicChanges:
    """Kafka ranges joined with the contents that one query counts with now (delivery.microbatch.ChangeReader)."""

    def __init__(
        self,
        spark: SparkSession,
        topic: KafkaTopic,
        content: ContentHandle,
        refreshed: Callable[[], None],
        workers: Workers,
    ) -> None:
        self._spark = spark
        self._topic = topic
        self._content = content
        self._refreshed = refreshed
        self.workers = workers

    def messages(self, ranges: Sequence[OffsetRange]) -> DataFrame:
        """Messages of some ranges, as a batch; in a session of their own, as Spark gives each query one."""
        return narrow_messages(self._topic.read(self._spark.newSession(), ranges))

    def changes(self, messages: DataFrame, ranges: Sequence[OffsetRange]) -> Changes:
        """What the transform makes of messages with the contents that count now, in as many tasks as they are worth."""
        rows = sum(part.end - part.start for part in ranges)
        compile_for(messages.sparkSession, rows)
        together = messages.coalesce(-(-rows // _TASK_MESSAGES[self.workers]) or 1)
        return Changes(together, self._content.current.contents, workers=self.workers)

    def refresh_content(self) -> None:
        """Take the catalogue as PostgreSQL holds it now."""
        self._content.refresh()
        self._refreshed()

    def steady(self) -> AbstractContextManager[object]:
        """While entered, no other thread changes the contents that count."""
        return self._content.sums.between_batches()


class TopicElsewhere:
    """The topic beyond a micro-batch (sinks.external.moved.Elsewhere)."""

    def __init__(self, topic: KafkaTopic, positions: TopicPositions) -> None:
        self._topic = topic
        self._positions = positions

    def at_time(self, epoch_ms: int) -> Mapping[int, int]:
        """Partition -> first offset at or after a broker time; its end where there is none."""
        return self._positions.at_time(epoch_ms)

    def messages(self, spark: SparkSession, ranges: Sequence[OffsetRange]) -> DataFrame:
        """Messages of some ranges."""
        return narrow_messages(self._topic.read(spark, ranges))


class TopicHistory:
    """What a rebuild of the board reads (sinks.redis.rebuild.History)."""

    def __init__(
        self, spark: SparkSession, topic: KafkaTopic, positions: TopicPositions, content: ContentHandle
    ) -> None:
        self._spark = spark
        self._topic = topic
        self._positions = positions
        self._content = content

    def topic(self) -> tuple[str, str]:
        """The topic's name and id."""
        return self._topic.topic, self._positions.topic_id()

    def offsets_at(self, epoch_ms: int) -> Mapping[int, int]:
        """Partition -> first offset at or after a broker time."""
        return self._positions.at_time(epoch_ms)

    def ends(self) -> Mapping[int, int]:
        """Partition -> end offset now."""
        return {partition: end for partition, (_, end) in self._positions.bounds().items()}

    def partitions(self) -> list[int]:
        """The topic's partitions."""
        return self._positions.partitions()

    def recounted(self) -> Recount:
        """Count with the newest contents; they are adopted once everything has been counted with them."""
        snapshot = self._content.newest

        def read(ranges: Sequence[OffsetRange]) -> Changes:
            self._spark.sparkContext.setLocalProperty("spark.scheduler.pool", _REBUILD_POOL)
            return Changes(narrow_messages(self._topic.read(self._spark, ranges)), snapshot.contents)

        return Recount(read, lambda: self._content.adopt(snapshot), snapshot.table)
