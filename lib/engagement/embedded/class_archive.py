"""An archive of the classes that Spark's JVM needs: mapped into memory instead of parsed and verified at each start.

Java makes it when a JVM ends, of all that it had loaded (class data sharing). So a short Spark program runs once, at
set-up, and touches what the jobs touch. The archive holds for this Java and these jars; with others Java ignores it,
and starts as it would have without. Run as a program, it makes the archive.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from engagement.embedded.jars import class_archive, jars_root, spark_jars
from engagement.session import start_session, submit_arguments

EXIT_SECONDS = 120.0
_ROWS = 3
_NOBODY = "127.0.0.1:9"
"""Kafka's clients are made, and closed before they would ask somebody."""


def make(archive: Path) -> None:
    """Run the program and write the archive; whoever reads an older one meanwhile keeps it."""
    draft = archive.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    arguments = submit_arguments(spark_jars(), (), "local[2]")
    spark = start_session(
        "class-archive", arguments, jvm_options=(f"-XX:ArchiveClassesAtExit={draft}", "-Xlog:cds*=off")
    )
    with tempfile.TemporaryDirectory() as folder:
        touch(spark, Path(folder))
        context: Any = spark.sparkContext
        gateway = context._gateway
        spark.stop()
        gateway.shutdown()
        gateway.proc.stdin.close()  # the JVM ends, and writes
        gateway.proc.wait(EXIT_SECONDS)
    draft.replace(archive)


def touch(spark: SparkSession, folder: Path) -> None:
    """Load the classes of a streaming query with Python in it, of Delta's reads and appends, and of Kafka."""
    table, copy = str(folder / "table"), str(folder / "copy")
    rows = spark.range(_ROWS).select("id", F.current_timestamp().alias("at"), F.col("id").cast("string").alias("text"))
    for _ in range(2):
        rows.write.format("delta").mode("append").partitionBy("text").save(table)
    spark.read.format("delta").load(table).createOrReplaceTempView("held")
    spark.sql("select text, count(*), max(at) from held join range(10) using (id) group by text").collect()

    def write(batch: DataFrame, _number: int) -> None:
        passed = batch.mapInArrow(_pass, batch.schema)
        passed.write.format("delta").mode("append").save(copy)
        passed.toArrow()

    changes = spark.readStream.format("delta").option("ignoreChanges", "true").load(table)
    query = changes.writeStream.foreachBatch(write).option("checkpointLocation", str(folder / "checkpoint"))
    query.trigger(availableNow=True).start().awaitTermination()
    _touch_kafka(spark)


def _pass(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield from batches


def _touch_kafka(spark: SparkSession) -> None:
    spark.readStream.format("kafka").option("kafka.bootstrap.servers", _NOBODY).option("subscribe", "none").load()
    context: Any = spark.sparkContext
    java = context._jvm
    options = java.java.util.Properties()
    options.put("bootstrap.servers", _NOBODY)
    for side in ("key", "value"):
        options.put(f"{side}.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer")
    clients = java.org.apache.kafka.clients
    clients.admin.AdminClient.create(options).close()
    clients.consumer.KafkaConsumer(options).close()


def main() -> int:
    """Make the archive of this environment."""
    jars_root().mkdir(parents=True, exist_ok=True)
    make(class_archive())
    return 0


if __name__ == "__main__":
    sys.exit(main())
