"""Dead letters of a sink of its own: row versions that the transform accepted and a destination did not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from engagement.identity import BatchIdentity
from engagement.schemas import DEAD_LETTER, DeadLetterCode
from engagement.sinks.delta.letters import add_letters
from engagement.sinks.delta.tables import dead_letters_table, stored_dead_letters
from engagement.sinks.spark_faults import spark_translated
from engagement.small_frames import small_frame
from engagement.transform.instant import to_micros

_REFUSED = pa.schema(
    [("kafka_partition", pa.int32()), ("kafka_offset", pa.int64()), ("detail", pa.string()), ("attempts", pa.int32())]
)


Refused = tuple[int, int, str, int]
"""A row version that a destination did not take: Kafka partition, offset, why (in its words), and tries."""


def refused_letters(
    messages: DataFrame, refused: Sequence[Refused], sink: str, code: DeadLetterCode, batch_id: str
) -> DataFrame:
    """Dead letters of refused rows, with their messages' bytes as they came from Kafka.

    In: NARROW_MESSAGES. Out: DEAD_LETTERS; their stage is the sink's name, since another may take what this refuses.
    Shuffle: a broadcast.
    """
    # In the messages' own session: frames of two sessions cannot meet in one plan.
    places = small_frame(messages.sparkSession, _REFUSED, refused)
    here = (messages["partition"] == places["kafka_partition"]) & (messages["offset"] == places["kafka_offset"])
    letters = messages.join(F.broadcast(places), on=here, how="inner").select(
        "topic",
        "kafka_partition",
        "kafka_offset",
        F.col("timestamp").alias("kafka_ts"),
        F.col("value").alias("raw_value"),
        F.from_json("header_names_json", "array<string>").alias("header_names"),
        F.lit(sink).alias("stage"),
        F.lit(code.value).alias("code"),
        "detail",
        # What the replay stands for, as the transform sees it: the header may hold any number.
        F.when(F.col("replay_of") >= 0, F.least("replay_of", "kafka_offset")).alias("replay_of"),
        "attempts",
    )
    tried = letters.select(*DEAD_LETTER.names, "attempts")
    return stored_dead_letters(tried, batch_id, sink, F.col("attempts"))


@dataclass(frozen=True)
class RefusedRows:
    """Adds what one sink refuses to the lake's table of dead letters; touches nothing before `add`."""

    lake: str
    sink: str
    code: DeadLetterCode
    clock: Callable[[], datetime]

    def add(self, messages: DataFrame, refused: Sequence[Mapping[str, Any]], identity: BatchIdentity) -> None:
        """Add letters of rows that were tried once; a replay adds none twice.

        In: NARROW_MESSAGES; rows with kafka_partition, kafka_offset and detail. Raises: TransientSinkError.
        """
        rows = [(row["kafka_partition"], row["kafka_offset"], row["detail"], 1) for row in refused]
        table = dead_letters_table(self.sink, self.lake)
        with spark_translated(self.sink):
            table.prepare()
            letters = refused_letters(messages, rows, self.sink, self.code, str(identity))
            add_letters(messages.sparkSession, table, letters, to_micros(self.clock()) // 1000)
