"""The change topic: as a stream, as a bounded range, and its positions."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from pyspark.sql import DataFrame, SparkSession

from engagement.errors import PermanentError, TransientError
from engagement.identity import OffsetRange

_TIMEOUT_SECONDS = 10.0
_QUIET = {"log_level": 2}
"""What is away is told by whoever asked; the clients would write lines of their own beside it."""


@dataclass(frozen=True)
class BatchSize:
    """How many messages a micro-batch takes."""

    most: int
    least: int = 1
    """With fewer waiting, a trigger passes without a micro-batch, for `longest_wait_seconds` at most."""
    longest_wait_seconds: float = 0.0

    def spark_options(self) -> dict[str, str]:
        """The same in the words of Spark's Kafka source.

        >>> BatchSize(9, least=2, longest_wait_seconds=1.5).spark_options()
        {'maxOffsetsPerTrigger': '9', 'minOffsetsPerTrigger': '2', 'maxTriggerDelay': '1500ms'}
        """
        options = {"maxOffsetsPerTrigger": str(self.most)}
        if self.least > 1 and self.longest_wait_seconds > 0:
            wait = f"{int(self.longest_wait_seconds * 1000)}ms"
            options |= {"minOffsetsPerTrigger": str(min(self.least, self.most)), "maxTriggerDelay": wait}
        return options


@dataclass(frozen=True)
class KafkaTopic:
    """Address of the topic and how its two client libraries are set up; opens nothing."""

    topic: str
    bootstrap_servers: str
    group_id: str
    java_properties: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Options of Spark's reader, prefix included, e.g. `kafka.security.protocol`."""
    client_properties: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Properties of confluent-kafka, whose names differ from Java's; brokers included."""

    def spark_options(self) -> dict[str, str]:
        """Options that stream and batch reads share.

        read_committed, since Connect writes in transactions and an aborted one must not count. failOnDataLoss, since
        offsets that have aged out must stop the query and be repaired, not be skipped. fetch.min.bytes 1: answer at
        once, whatever is there. fetch.max.wait.ms: what ends a planned range may be a transaction's marker, no row; a
        reader waits so long for the next row before it looks, and half a second by default.
        """
        return {
            "kafka.isolation.level": "read_committed",
            "kafka.fetch.min.bytes": "1",
            "kafka.fetch.max.wait.ms": "10",
            "failOnDataLoss": "true",
            "includeHeaders": "true",
            **self.java_properties,
        }

    def stream(self, spark: SparkSession, starting_offsets: str, size: BatchSize) -> DataFrame:
        """The topic as a stream of Kafka messages; starting offsets matter to a new checkpoint only."""
        return (
            spark.readStream.format("kafka")
            .options(**self.spark_options())
            .option("subscribe", self.topic)
            .option("startingOffsets", starting_offsets)
            .options(**size.spark_options())
            .load()
        )

    def read(self, spark: SparkSession, ranges: Sequence[OffsetRange]) -> DataFrame:
        """The messages of some ranges as a batch: one task per partition, in offset order.

        Raises, when run: Spark's data loss error if a range has aged out of the topic.
        """
        return (
            spark.read.format("kafka")
            .options(**self.spark_options())
            .option("assign", _assign(self.topic, ranges))
            .option("startingOffsets", to_starting_offsets(self.topic, {r.partition: r.start for r in ranges}))
            .option("endingOffsets", to_starting_offsets(self.topic, {r.partition: r.end for r in ranges}))
            .load()
        )


def to_starting_offsets(topic: str, offsets: Mapping[int, int]) -> str:
    """The JSON Spark's Kafka source takes as `startingOffsets` or `endingOffsets`.

    >>> to_starting_offsets("events", {1: 7, 0: 5})
    '{"events": {"0": 5, "1": 7}}'
    """
    return json.dumps({topic: {str(partition): offset for partition, offset in sorted(offsets.items())}})


def _assign(topic: str, ranges: Sequence[OffsetRange]) -> str:
    partitions = ",".join(str(part.partition) for part in ranges)
    return f'{{"{topic}":[{partitions}]}}'


@contextmanager
def _usable() -> Iterator[None]:
    """A client that cannot be made has settings that no other try can change: a file that is missing, for one."""
    try:
        yield
    except KafkaException as error:
        raise PermanentError(f"no client for Kafka can be made from KAFKA_SECURITY_*: {error}") from error


class TopicPositions:
    """Where the topic begins, ends and stood at a time, as a read_committed reader sees it.

    Opens its clients with the first questions; `close` lets go of it. Every method raises TransientError when the
    brokers do not answer in time, and PermanentError when no client can be made.
    """

    def __init__(self, topic: KafkaTopic) -> None:
        self._topic = topic
        self._consumer: Consumer | None = None
        self._admin: AdminClient | None = None

    def _client(self) -> Consumer:
        if self._consumer is None:
            with _usable():
                self._consumer = Consumer(
                    {
                        "group.id": f"{self._topic.group_id}-positions",
                        "enable.auto.commit": False,
                        "isolation.level": "read_committed",
                        **_QUIET,
                        **self._topic.client_properties,
                    }
                )
        return self._consumer

    def _admin_client(self) -> AdminClient:
        if self._admin is None:
            with _usable():
                self._admin = AdminClient({**_QUIET, **self._topic.client_properties})
        return self._admin

    def partitions(self) -> list[int]:
        """The topic's partition numbers."""
        try:
            metadata = self._client().list_topics(self._topic.topic, timeout=_TIMEOUT_SECONDS)
        except KafkaException as error:
            raise TransientError(f"Kafka at {self._topic.bootstrap_servers} does not answer: {error}") from error
        found = metadata.topics[self._topic.topic]
        if found.error is not None:
            raise TransientError(f"Kafka topic {self._topic.topic}: {found.error}")
        return sorted(found.partitions)

    def bounds(self) -> dict[int, tuple[int, int]]:
        """Partition -> (earliest offset, end offset); the end is that of the last finished transaction."""
        client = self._client()
        partitions = self.partitions()
        try:
            return {
                number: client.get_watermark_offsets(
                    TopicPartition(self._topic.topic, number), timeout=_TIMEOUT_SECONDS, cached=False
                )
                for number in partitions
            }
        except KafkaException as error:
            raise TransientError(f"Kafka at {self._topic.bootstrap_servers} does not answer: {error}") from error

    def at_time(self, epoch_ms: int) -> dict[int, int]:
        """Partition -> first offset whose broker time is at or after `epoch_ms`; the end where there is none."""
        ends = self.bounds()
        asked = [TopicPartition(self._topic.topic, number, epoch_ms) for number in ends]
        try:
            found = self._client().offsets_for_times(asked, timeout=_TIMEOUT_SECONDS)
        except KafkaException as error:
            raise TransientError(f"Kafka at {self._topic.bootstrap_servers} does not answer: {error}") from error
        return {part.partition: part.offset if part.offset >= 0 else ends[part.partition][1] for part in found}

    def topic_id(self) -> str:
        """The id Kafka gave the topic when it was made; another one means it was deleted and made again."""
        admin = self._admin_client()
        collection = TopicCollection([self._topic.topic])
        try:
            described = admin.describe_topics(collection, request_timeout=_TIMEOUT_SECONDS)
            return str(described[self._topic.topic].result().topic_id)
        except KafkaException as error:
            raise TransientError(f"Kafka at {self._topic.bootstrap_servers} does not answer: {error}") from error

    def close(self) -> None:
        """Let go of the clients."""
        if self._consumer is not None:
            self._consumer.close()
        self._consumer = self._admin = None
