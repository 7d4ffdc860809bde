"""What a destination refuses becomes a dead letter of its own, with the message as it came, once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from tests.builders import Message, created
from tests.spark import frames
from tests.spark.tables import rows_of

from engagement.identity import BatchIdentity
from engagement.schemas import DeadLetterCode
from engagement.sinks.delta.refused import RefusedRows
from engagement.sinks.delta.tables import dead_letters_table

pytestmark = [pytest.mark.spark, pytest.mark.timeout(120)]

IDENTITY = BatchIdentity("app", "generation", 3)


def test_refused_rows_are_kept_with_their_bytes_and_only_once(spark: SparkSession, tmp_path: Path) -> None:
    headers = ("__debezium.oldkey", 'a,"b')
    sent = [Message(created(id=n).value, offset=n, headers=headers) for n in (1, 2, 3)]
    messages = frames.changes(spark, sent).messages
    refused = RefusedRows(spark, str(tmp_path), "warehouse", DeadLetterCode.E_WAREHOUSE_REJECT)
    rows = [{"kafka_partition": 0, "kafka_offset": 2, "detail": "FIELDS_ERROR: odd"}]
    for _ in range(2):
        refused.add(messages, rows, IDENTITY)
    (letter,) = rows_of(dead_letters_table("warehouse", str(tmp_path)))
    assert (letter.kafka_partition, letter.kafka_offset, bytes(letter.raw_value)) == (0, 2, sent[1].value)
    assert tuple(letter.header_names) == headers
    assert (letter.sink, letter.stage, letter.code) == ("warehouse", "warehouse", "E_WAREHOUSE_REJECT")
    assert (letter.detail, letter.status, letter.attempts, letter.batch_id) == (
        "FIELDS_ERROR: odd", "new", 1, str(IDENTITY),
    )  # fmt: skip


def test_several_that_add_letters_at_once_all_get_theirs_in(spark: SparkSession, tmp_path: Path) -> None:
    sinks = [f"sink{number}" for number in range(4)]
    dead_letters_table(sinks[0], str(tmp_path)).prepare()

    def add(sink: str) -> None:
        messages = frames.changes(spark, [Message(created(id=1).value, offset=0)]).messages
        refused = RefusedRows(spark, str(tmp_path), sink, DeadLetterCode.E_WAREHOUSE_REJECT)
        refused.add(messages, [{"kafka_partition": 0, "kafka_offset": 0, "detail": "odd"}], IDENTITY)

    with ThreadPoolExecutor(len(sinks)) as pool:
        for done in [pool.submit(add, sink) for sink in sinks]:
            done.result()
    stored = rows_of(dead_letters_table(sinks[0], str(tmp_path)))
    assert sorted(row.stage for row in stored) == sinks
