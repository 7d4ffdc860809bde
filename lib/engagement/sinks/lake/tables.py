"""The lake's tables: their columns, how they are made, and what is done with one that is there already."""

from dataclasses import dataclass

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from engagement.errors import PermanentSinkError
from engagement.schemas import DEAD_LETTER, ENRICHED_EVENT

SINK = "lake"
EVENT_DATE, KAFKA_DATE = "event_date", "kafka_date"

_DATE = T.DateType()


def _nullable(name: str, kind: T.DataType) -> T.StructField:
    return T.StructField(name, kind, nullable=True)


EVENTS = T.StructType([*ENRICHED_EVENT, _nullable(EVENT_DATE, _DATE)])
"""`enriched_events`: the public schema, and its partition: the UTC day of event_ts, NULL for a `d` without one."""

DEAD_LETTERS = T.StructType(
    [
        *DEAD_LETTER,
        _nullable("sink", T.StringType()),  # NULL: refused by the transform, for every sink
        _nullable("attempts", T.IntegerType()),
        _nullable("batch_id", T.StringType()),  # BatchIdentity of the micro-batch that stored it
        _nullable("status", T.StringType()),  # new, replayed, discarded
        _nullable(KAFKA_DATE, _DATE),  # partition: the UTC day of kafka_ts
    ]
)
"""`dead_letters`: one row per (topic, kafka_partition, kafka_offset, stage)."""


@dataclass(frozen=True)
class LakeTable:
    """One Delta table; nothing is touched before `prepare`."""

    path: str
    schema: T.StructType
    partition_by: str
    properties: tuple[tuple[str, str], ...] = ()

    def prepare(self, spark: SparkSession) -> None:
        """Make it if it is missing, add columns that it lacks. Raises: PermanentSinkError for a column of another type.

        Columns that only the table has stay; new rows leave them NULL.
        """
        builder = DeltaTable.createIfNotExists(spark).location(self.path)
        builder = builder.addColumns(self.schema).partitionedBy(self.partition_by)
        for name, value in self.properties:
            builder = builder.property(name, value)
        builder.execute()
        there = {field.name: field.dataType for field in self.read(spark).schema}
        wrong = [
            f"{field.name} is {there[field.name].simpleString()}, not {field.dataType.simpleString()}"
            for field in self.schema
            if field.name in there and there[field.name] != field.dataType
        ]
        if wrong:
            raise PermanentSinkError(SINK, f"table {self.path} has columns of another type: {'; '.join(wrong)}")
        if any(field.name not in there for field in self.schema):
            nothing = spark.createDataFrame([], self.schema)
            nothing.write.format("delta").mode("append").option("mergeSchema", "true").save(self.path)

    def read(self, spark: SparkSession) -> DataFrame:
        """Its rows as they are now."""
        return spark.read.format("delta").load(self.path)

    def open(self, spark: SparkSession) -> DeltaTable:
        """Delta's own handle."""
        return DeltaTable.forPath(spark, self.path)


def stored_events(events: DataFrame) -> DataFrame:
    """In: ENRICHED_EVENT. Out: EVENTS. Rows: 1 -> 1. Shuffle: none."""
    return events.withColumn(EVENT_DATE, F.to_date("event_ts")).select(*EVENTS.names)


def stored_dead_letters(refused: DataFrame, batch_id: Column) -> DataFrame:
    """In: DEAD_LETTER. Out: DEAD_LETTERS, new and tried once. Rows: 1 -> 1. Shuffle: none."""
    return refused.select(
        *DEAD_LETTER.names,
        F.lit(None).cast("string").alias("sink"),
        F.lit(1).alias("attempts"),
        batch_id.alias("batch_id"),
        F.lit("new").alias("status"),
        F.to_date("kafka_ts").alias(KAFKA_DATE),
    )
