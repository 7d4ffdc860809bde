"""A table of dead letters as the lake's sink makes it, without Spark."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake
from pyspark.sql.pandas.types import to_arrow_schema

from engagement.dead_letters.table import LetterTable
from engagement.sinks.delta.tables import DEAD_LETTERS, KAFKA_DATE

PROJECT = Path(__file__).resolve().parents[1]
TOPIC = "engagement-events"
FIRST = datetime(2026, 11, 23, 23, 59, tzinfo=UTC)


@dataclass(frozen=True)
class Stored:
    """A stored letter; `offset` minutes after FIRST, and `later` by so much."""

    value: bytes
    offset: int = 0
    code: str = "E_JSON"
    sink: str | None = None
    partition: int = 0
    header_names: tuple[str, ...] | None = None
    topic: str = TOPIC
    stage: str = "decode"
    later: timedelta = timedelta()
    replay_of: int | None = None

    @property
    def kafka_ts(self) -> datetime:
        return FIRST + timedelta(minutes=self.offset) + self.later


def store(lake: Path, letters: Sequence[Stored]) -> LetterTable:
    """Add letters; the table is made with the first."""
    rows = [
        {
            "topic": each.topic, "kafka_partition": each.partition, "kafka_offset": each.offset,
            "kafka_ts": each.kafka_ts, "raw_value": each.value,
            "header_names": each.header_names, "stage": each.stage, "code": each.code, "detail": "a reason",
            "sink": each.sink, "attempts": 1, "batch_id": "app/generation/3", "status": "new", "history": None,
            "replay_of": each.replay_of,
            KAFKA_DATE: each.kafka_ts.date(),
        }
        for each in letters
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=to_arrow_schema(DEAD_LETTERS, timezone="UTC"))
    write_deltalake(str(lake / "dead_letters"), table, mode="append", partition_by=[KAFKA_DATE])
    return LetterTable(str(lake), PROJECT / "sql")
