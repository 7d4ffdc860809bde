"""A table of the lake: how it is made, and what is done with one that is there already; and dead letters' table."""

import json
import threading
from dataclasses import dataclass

from delta.tables import DeltaTable
from deltalake import DeltaTable as OtherEngine
from deltalake import Field, Schema
from deltalake.exceptions import CommitFailedError
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from engagement.errors import PermanentSinkError
from engagement.schemas import DEAD_LETTER
from engagement.sinks.delta.faults import translated
from engagement.sinks.delta.files import bounds_property

KAFKA_DATE = "kafka_date"
FENCED = (("delta.setTransactionRetentionDuration", "interval 30 days"),)
"""Properties of a table whose commits carry a fence: Delta may forget the ids of old transactions."""

ACTION = T.StructType(
    [
        T.StructField("at", T.TimestampType()),
        T.StructField("who", T.StringType()),  # user@machine
        T.StructField("action", T.StringType()),  # replayed, discarded
        T.StructField("detail", T.StringType()),
    ]
)
"""What somebody has done with a dead letter."""

DEAD_LETTERS = T.StructType(
    [
        *DEAD_LETTER,
        T.StructField("sink", T.StringType()),  # NULL: refused by the transform, for every sink
        T.StructField("attempts", T.IntegerType()),
        T.StructField("batch_id", T.StringType()),  # BatchIdentity of the micro-batch that stored it
        T.StructField("status", T.StringType()),  # new, replayed, discarded
        T.StructField("history", T.ArrayType(ACTION)),  # oldest first, only ever added to; NULL: nothing was done yet
        T.StructField(KAFKA_DATE, T.DateType()),  # partition: the UTC day of kafka_ts
    ]
)
"""`dead_letters`: one row per (topic, kafka_partition, kafka_offset, stage, kafka_ts)."""
LETTER_BOUNDS = ("kafka_partition", "kafka_offset", "stage")
"""Columns of letters whose bounds a commit tells: who looks for a place skips other files."""

_PREPARING = threading.Lock()
"""Two queries of a job share the table of dead letters, and Delta lets only one of them make it."""


@dataclass(frozen=True)
class LakeTable:
    """One Delta table of a sink; nothing is touched before `prepare`."""

    sink: str
    path: str
    schema: T.StructType
    partition_by: str
    properties: tuple[tuple[str, str], ...] = ()

    def prepare(self) -> None:
        """Make it if it is missing; give one of an earlier release the columns and properties that it lacks.

        Columns that only the table has stay; new rows leave them NULL. Raises: PermanentSinkError for a column of
        another type; TransientSinkError, also when somebody else added columns meanwhile.
        """
        with _PREPARING, translated(self.sink):
            self._prepare()

    def _prepare(self) -> None:
        table = self._made()
        there = {field.name: field.dataType for field in T.StructType.fromJson(json.loads(table.schema().to_json()))}
        wrong = [
            f"{field.name} is {there[field.name].simpleString()}, not {field.dataType.simpleString()}"
            for field in self.schema
            if field.name in there and there[field.name] != field.dataType
        ]
        if wrong:
            raise PermanentSinkError(self.sink, f"table {self.path} has columns of another type: {'; '.join(wrong)}")
        lacking = [Field.from_json(field.json()) for field in self.schema if field.name not in there]
        if lacking:
            table.alter.add_columns(lacking)
        has = table.metadata().configuration
        if differing := {name: value for name, value in self.properties if has.get(name) != value}:
            table.alter.set_table_properties(differing)

    def _made(self) -> OtherEngine:
        """The table, new if there was none. Spark takes seconds to load its Delta, so that does not make it."""
        try:
            return OtherEngine.create(
                self.path,
                Schema.from_json(self.schema.json()),
                mode="ignore",
                partition_by=[self.partition_by],
                configuration=dict(self.properties),
            )
        except CommitFailedError:  # somebody else made it at the same moment
            return OtherEngine(self.path)

    def read(self, spark: SparkSession, version: int | None = None) -> DataFrame:
        """Its rows as they are now, or as a version of its log had them."""
        reader = spark.read.format("delta")
        return (reader if version is None else reader.option("versionAsOf", version)).load(self.path)

    def open(self, spark: SparkSession) -> DeltaTable:
        """Delta's own handle."""
        return DeltaTable.forPath(spark, self.path)


def dead_letters_table(sink: str, lake: str) -> LakeTable:
    """The table of dead letters, which every sink that refuses something adds to."""
    properties = (*FENCED, bounds_property(LETTER_BOUNDS))
    return LakeTable(sink, f"{lake}/dead_letters", DEAD_LETTERS, KAFKA_DATE, properties)


def stored_dead_letters(refused: DataFrame, batch_id: str, sink: str | None, attempts: Column) -> DataFrame:
    """In: DEAD_LETTER. Out: DEAD_LETTERS, new. Rows: 1 -> 1. Shuffle: none. `sink` None: refused for every sink."""
    return refused.select(
        *DEAD_LETTER.names,
        F.lit(sink).cast("string").alias("sink"),
        attempts.cast("int").alias("attempts"),
        F.lit(batch_id).alias("batch_id"),
        F.lit("new").alias("status"),
        F.lit(None).cast(DEAD_LETTERS["history"].dataType).alias("history"),
        F.to_date("kafka_ts").alias(KAFKA_DATE),
    )
