"""What a destination refuses becomes a dead letter of its own, with the message as it came, once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from tests.builders import Message, created
from tests.spark import frames
from tests.spark.tables import rows_of

from engagement.identity import BatchIdentity
from engagement.schemas import DeadLetterCode
from engagement.sinks.delta.files import Folder
from engagement.sinks.delta.letters import LETTER_FILE, LetterWriter, add_letter_files
from engagement.sinks.delta.refused import RefusedRows
from engagement.sinks.delta.tables import dead_letters_table
from engagement.transform.instant import to_micros

pytestmark = [pytest.mark.spark, pytest.mark.timeout(120)]

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
MS = to_micros(NOW) // 1000
_BEYOND_ALL_DAYS = 400_000_000_000_000_000
"""Microseconds since 1970 that lie in the year 14,645."""
IDENTITY = BatchIdentity("app", "generation", 3)


def test_refused_rows_are_kept_with_their_bytes_and_only_once(spark: SparkSession, tmp_path: Path) -> None:
    headers = ("__debezium.oldkey", 'a,"b')
    sent = [Message(created(id=n).value, offset=n, headers=headers) for n in (1, 2, 3)]
    messages = frames.changes(spark, sent).messages
    refused = RefusedRows(str(tmp_path), "warehouse", DeadLetterCode.E_WAREHOUSE_REJECT, lambda: NOW)
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


def test_a_refused_replay_keeps_the_place_that_it_stood_for_to_the_transform(
    spark: SparkSession, tmp_path: Path
) -> None:
    named = {95: -5, 96: 2**63 - 1, 97: 97, 98: 98 + 1, 99: 5}
    changes = frames.changes(spark, [Message(created(id=1).value, offset=at, replay_of=of) for at, of in named.items()])
    refused = RefusedRows(str(tmp_path), "warehouse", DeadLetterCode.E_WAREHOUSE_REJECT, lambda: NOW)
    rows = [{"kafka_partition": 0, "kafka_offset": at, "detail": "odd"} for at in named]
    refused.add(changes.messages, rows, IDENTITY)
    kept = {letter.kafka_offset: letter.replay_of for letter in rows_of(dead_letters_table("warehouse", str(tmp_path)))}
    assert kept == {95: None, 96: 96, 97: 97, 98: 98, 99: 5}
    assert kept == {row["kafka_offset"]: row["replay_of"] for row in changes.frame().collect()}


def test_several_that_add_letters_at_once_all_get_theirs_in(spark: SparkSession, tmp_path: Path) -> None:
    sinks = [f"sink{number}" for number in range(4)]
    dead_letters_table(sinks[0], str(tmp_path)).prepare()

    def add(sink: str) -> None:
        messages = frames.changes(spark, [Message(created(id=1).value, offset=0)]).messages
        refused = RefusedRows(str(tmp_path), sink, DeadLetterCode.E_WAREHOUSE_REJECT, lambda: NOW)
        refused.add(messages, [{"kafka_partition": 0, "kafka_offset": 0, "detail": "odd"}], IDENTITY)

    with ThreadPoolExecutor(len(sinks)) as pool:
        for done in [pool.submit(add, sink) for sink in sinks]:
            done.result()
    stored = rows_of(dead_letters_table(sinks[0], str(tmp_path)))
    assert sorted(row.stage for row in stored) == sinks


class Letters:
    """A table of letters, and what writes to it."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self._spark = spark
        self.table = dead_letters_table("lake", str(folder))
        self.table.prepare()

    def add(
        self, *places: int | tuple[int, int], at: datetime | None = NOW, stage: str = "decode", of_rows: bool = False
    ) -> list[str]:
        """Add letters at offsets of partition 1, or partitions and offsets, as a micro-batch or a chunk does.

        Returns the files that tasks had written.
        """
        at_us = _BEYOND_ALL_DAYS if at is None else to_micros(at)
        columns = {
            "topic": "events", "kafka_ts": at_us, "stage": stage, "code": "E_JSON",
            "raw_value": b"{", "attempts": 1, "batch_id": "one", "status": "new",
        }  # fmt: skip
        writer = LetterWriter(Folder(self.table.path), MS)
        pairs = [place if isinstance(place, tuple) else (1, place) for place in places]
        rows = [{**columns, "kafka_partition": partition, "kafka_offset": offset} for partition, offset in pairs]
        writer.add(pa.RecordBatch.from_pylist(rows, schema=LETTER_FILE))
        writer.finish()
        add_letter_files(self._spark, self.table, writer.files, of_rows=of_rows)
        return [str(file["path"]) for file in writer.files]

    def offsets(self) -> list[int]:
        places = DeltaTable(self.table.path).to_pyarrow_table(columns=["kafka_offset"])
        return sorted(places["kafka_offset"].to_pylist())


@pytest.fixture
def letters(spark: SparkSession, tmp_path: Path) -> Letters:
    return Letters(spark, tmp_path)


def test_of_letters_that_partly_are_there_the_others_are_added(letters: Letters) -> None:
    letters.add(1, 5)
    letters.add(1, 3, 5, 7)
    assert letters.offsets() == [1, 3, 5, 7]


@pytest.mark.parametrize(
    "more",
    [
        lambda letters: letters.add(10),
        lambda letters: letters.add(3, at=NOW + timedelta(days=1)),
        lambda letters: letters.add(1, 9, stage="warehouse"),
        # Between the offsets of both partitions, the table has others of either.
        lambda letters: letters.add((0, 10), (1, 10_000)),
    ],
    ids=["later", "another day", "another stage", "partitions that are far apart"],
)
def test_files_of_letters_that_are_all_new_are_committed_as_they_are(
    letters: Letters, more: Callable[[Letters], list[str]]
) -> None:
    written = [*letters.add((0, 9), (0, 11), (1, 1), (1, 9), (1, 9_000)), *more(letters)]
    assert {Path(uri).name for uri in DeltaTable(letters.table.path).file_uris()} == {Path(n).name for n in written}


def test_letters_that_are_all_there_make_no_commit(letters: Letters) -> None:
    letters.add(1, 2)
    before = DeltaTable(letters.table.path).version()
    letters.add(2, 1)
    assert DeltaTable(letters.table.path).version() == before


def test_a_letter_of_a_day_beyond_the_calendar_is_there_once(letters: Letters) -> None:
    for _ in range(2):
        letters.add(1, at=None)
    assert letters.offsets() == [1]


def test_a_place_on_another_day_is_another_message_but_the_same_row(letters: Letters) -> None:
    """A topic that was made again counts from 0; a row of the table has one id for ever."""
    letters.add(1)
    letters.add(1, at=NOW + timedelta(days=1))
    assert letters.offsets() == [1, 1]
    letters.add(1, 2, at=NOW + timedelta(days=2), of_rows=True)
    assert letters.offsets() == [1, 1, 2]


def test_so_is_a_place_at_another_time_of_a_day_and_both_are_there_once(letters: Letters) -> None:
    for _ in range(2):
        letters.add(1)
        letters.add(1, at=NOW + timedelta(milliseconds=1))
    assert letters.offsets() == [1, 1]
    letters.add(1, 2, at=NOW + timedelta(hours=1), of_rows=True)
    assert letters.offsets() == [1, 1, 2]


def test_other_engines_find_letters_by_any_column(letters: Letters) -> None:
    """Commits tell bounds of places only; unless the table says so, delta-rs takes the rest for NULL."""
    letters.add(1)
    found = DeltaTable(letters.table.path).to_pyarrow_table(filters=[("code", "=", "E_JSON"), ("attempts", "=", 1)])
    assert found.num_rows == 1
