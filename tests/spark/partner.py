"""A receiver of a test's own, and the drivers that post to it."""

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pyspark.sql import DataFrame, Row, SparkSession
from tests.builders import Message
from tests.contract.receiving import Receiving
from tests.spark import frames
from tests.spark.tables import rows_of

from engagement.identity import BatchIdentity, OffsetRange
from engagement.sinks.base import CommitTimes, PartitionSummary
from engagement.sinks.delta.tables import dead_letters_table
from engagement.sinks.delta.upkeep import UpkeepPlan
from engagement.sinks.external.backfill import ExternalLoader
from engagement.sinks.external.deliveries import deliveries_table
from engagement.sinks.external.ledger import DeliveryLedger
from engagement.sinks.external.options import ExternalOptions
from engagement.sinks.external.receiver import Waiting
from engagement.sinks.external.sink import ExternalSink
from engagement.transform.changes import narrow_messages

IDENTITY = BatchIdentity("app", "generation", 3)
KEEP_DAYS = 30


class Told:
    """What the sink says of itself."""

    def __init__(self) -> None:
        self.times: list[Sequence[CommitTimes]] = []
        self.reasons: list[str] = []
        self.alarms: list[str] = []
        self.states: list[str] = []

    def visible(self, times: Sequence[CommitTimes]) -> None:
        self.times.append(times)

    def waiting(self, reason: str) -> None:
        self.reasons.append(reason)

    def state(self, state: str, _reason: str = "") -> None:
        self.states.append(state)

    def alarm(self, text: str) -> None:
        self.alarms.append(text)


class Beyond:
    """What the topic holds beyond the micro-batches that a test delivers; all of it came before anybody looks."""

    def __init__(self) -> None:
        self.held: list[Message] = []

    def at_time(self, _epoch_ms: int) -> dict[int, int]:
        return {partition: 1 + max(offsets) for partition, offsets in self._offsets().items()}

    def messages(self, spark: SparkSession, ranges: Sequence[OffsetRange]) -> DataFrame:
        places = {(part.partition, offset) for part in ranges for offset in range(part.start, part.end)}
        asked = [message for message in self.held if (message.partition, message.offset) in places]
        return narrow_messages(frames.messages(spark, asked))

    def _offsets(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for message in self.held:
            found.setdefault(message.partition, []).append(message.offset)
        return found


class Partner:
    """A receiver of our own, and the drivers that post to it."""

    def __init__(self, spark: SparkSession, folder: Path, receiving: Receiving) -> None:
        self.spark, self.folder, self.receiving, self.topic_id = spark, folder, receiving, "first"
        self.before = receiving.stats()
        self.told = Told()
        self.elsewhere = Beyond()
        self.stop = threading.Event()
        self.while_waiting: Callable[[], None] = lambda: None
        self.opened: list[ExternalSink] = []
        self.days_later = 0
        """Days that have passed since, as far as the upkeep of the tables knows."""

    def driver(self, ledger_class: type[DeliveryLedger] = DeliveryLedger, **changes: object) -> ExternalSink:
        options = self._options(**changes)
        upkeep = UpkeepPlan(0, keep_days=KEEP_DAYS)
        ledger = ledger_class(self.spark, str(self.folder), upkeep, self._now)
        sink = ExternalSink(options, ledger, lambda: self.topic_id, self.elsewhere, self.told, self._waiting())
        sink.open()
        self.opened.append(sink)
        return sink

    def loader(
        self,
        events_per_second: float = 10_000.0,
        loader_class: type[ExternalLoader] = ExternalLoader,
        **changes: object,
    ) -> ExternalLoader:
        options = self._options(**changes)
        loader = loader_class(self.spark, str(self.folder), options, events_per_second, self.told, self._waiting())
        loader.open()
        return loader

    def deliver(self, sink: ExternalSink, messages: Sequence[Message], *ranges: OffsetRange) -> list[PartitionSummary]:
        planned = ranges or (OffsetRange("engagement-events", 0, 0, len(messages)),)
        return sink.deliver(frames.changes(self.spark, messages), planned, IDENTITY, final=True)

    def deliveries(self) -> list[Row]:
        return sorted(rows_of(deliveries_table(str(self.folder))), key=lambda r: (r.kafka_partition, r.kafka_offset))

    def letters(self) -> list[Row]:
        return sorted(rows_of(dead_letters_table("external", str(self.folder))), key=lambda r: r.kafka_offset)

    def gained(self, name: str) -> int:
        """What the receiver counted since this test began."""
        return int(self.receiving.stats()[name] - self.before[name])

    def _options(self, **changes: object) -> ExternalOptions:
        env = self.receiving.env
        return ExternalOptions(**{
            "url": env["EXTERNAL_SYSTEM_URL"], "token": env["EXTERNAL_SYSTEM_TOKEN"], "batch_size": 4, "lanes": 2,
            "signing_secrets": (env["EXTERNAL_SYSTEM_SIGNING_SECRET"],), "timeout_seconds": 2.0,
            "installation": self.folder.name, **changes,
        })  # type: ignore[arg-type]  # fmt: skip

    def _waiting(self) -> Waiting:
        return Waiting(self._sleep, self.stop.is_set, lambda: datetime.now(UTC))

    def _now(self) -> datetime:
        return datetime.now(UTC) + timedelta(days=self.days_later)

    def _sleep(self, seconds: float) -> object:
        self.while_waiting()
        return self.stop.wait(min(seconds, 0.05))
