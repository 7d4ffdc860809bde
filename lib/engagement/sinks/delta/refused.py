"""Dead letters of a sink of its own: row versions that the transform accepted and a destination did not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from engagement.identity import BatchIdentity
from engagement.schemas import DEAD_LETTER, DeadLetterCode
from engagement.sinks.delta.tables import dead_letters_table, merge_dead_letters, stored_dead_letters, translated

_REFUSED = "kafka_partition INT, kafka_offset BIGINT, detail STRING"


@dataclass(frozen=True)
class RefusedRows:
    """Adds what one sink refuses to the lake's table of dead letters; touches nothing before `add`."""

    spark: SparkSession
    lake: str
    sink: str
    """Also the letters' stage: what one sink refuses another may take."""
    code: DeadLetterCode

    def add(self, messages: DataFrame, refused: Sequence[Mapping[str, Any]], identity: BatchIdentity) -> None:
        """Merge letters with their messages' bytes as they came from Kafka; a replay adds none twice.

        In: NARROW_MESSAGES; rows with kafka_partition, kafka_offset and detail. Raises: TransientSinkError.
        """
        table = dead_letters_table(self.sink, self.lake)
        with translated(self.sink):
            table.prepare(self.spark)
            # In the messages' own session: a frame and a table of two sessions cannot meet in one plan.
            spark = messages.sparkSession
            rows = [tuple(row[name] for name in ("kafka_partition", "kafka_offset", "detail")) for row in refused]
            places = spark.createDataFrame(rows, _REFUSED)
            here = (messages["partition"] == places["kafka_partition"]) & (messages["offset"] == places["kafka_offset"])
            letters = messages.join(F.broadcast(places), on=here, how="inner").select(
                "topic",
                "kafka_partition",
                "kafka_offset",
                F.col("timestamp").alias("kafka_ts"),
                F.col("value").alias("raw_value"),
                "header_names",
                F.lit(self.sink).alias("stage"),
                F.lit(self.code.value).alias("code"),
                "detail",
            )
            letters = letters.select(*DEAD_LETTER.names)
            merge_dead_letters(spark, table, stored_dead_letters(letters, str(identity), self.sink, F.lit(1)))
