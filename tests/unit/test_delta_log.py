"""A table's log through delta-rs: who makes the table, what its files tell, and which of two commits passes."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import types as T

from engagement.errors import PermanentSinkError, TransientSinkError
from engagement.sinks.delta import files
from engagement.sinks.delta.files import FileWriter, Folder
from engagement.sinks.delta.log import DeltaLog
from engagement.sinks.delta.tables import LakeTable

APP = "an application"
SCHEMA = T.StructType(
    [
        T.StructField("event_id", T.LongType()),
        T.StructField("event_ts", T.TimestampType()),
        T.StructField("event_date", T.DateType()),
    ]
)
_APPEND_ONLY = (("delta.appendOnly", "true"),)


@pytest.fixture
def table(tmp_path: Path) -> LakeTable:
    made = LakeTable("lake", str(tmp_path / "a lake" / "events"), SCHEMA, "event_date", _APPEND_ONLY)
    made.prepare()
    return made


def written(table: LakeTable, *ids: int) -> list[dict[str, object]]:
    """A file that no commit names yet."""
    writer = FileWriter(Folder(table.path), "event_date", "event_ts", 0, ["event_id"])
    times = pa.array([0] * len(ids), pa.timestamp("us", "UTC"))
    writer.add(pa.RecordBatch.from_pydict({"event_id": pa.array(ids, pa.int64()), "event_ts": times}))
    writer.finish()
    return writer.files


def ids_in(table: LakeTable) -> list[int]:
    return sorted(DeltaTable(table.path).to_pyarrow_table()["event_id"].to_pylist())


def test_a_table_is_made_once_and_gets_the_columns_that_it_lacks(table: LakeTable) -> None:
    table.prepare()
    assert DeltaTable(table.path).version() == 0
    wider = T.StructType([*SCHEMA, T.StructField("device", T.StringType())])
    LakeTable("lake", table.path, wider, "event_date", _APPEND_ONLY).prepare()
    table.prepare()  # an older release, which does not know the column
    found = DeltaTable(table.path)
    assert [field.name for field in found.schema().fields] == wider.names
    assert found.metadata().configuration["delta.appendOnly"] == "true"
    assert found.metadata().partition_columns == ["event_date"]


def test_a_table_of_an_earlier_release_gets_the_properties_of_this_one(table: LakeTable) -> None:
    newer = LakeTable("lake", table.path, SCHEMA, "event_date", (*_APPEND_ONLY, ("delta.checkpointInterval", "50")))
    newer.prepare()
    newer.prepare()
    found = DeltaTable(table.path)
    assert (found.version(), found.metadata().configuration["delta.checkpointInterval"]) == (1, "50")


def test_a_column_of_another_type_is_refused(table: LakeTable) -> None:
    other = T.StructType([T.StructField("event_id", T.StringType()), SCHEMA["event_date"]])
    with pytest.raises(PermanentSinkError, match="event_id is bigint, not string"):
        LakeTable("lake", table.path, other, "event_date").prepare()


def test_files_tell_which_values_they_may_hold(table: LakeTable) -> None:
    assert not DeltaLog(table).may_hold("event_id", 1, 10**9)
    log = DeltaLog(table)
    log.append_next([*written(table, 5, 9), *written(table, 100)], APP, "{}")
    log = DeltaLog(table)
    held = {span: log.may_hold("event_id", *span) for span in ((1, 4), (9, 9), (10, 99), (6, 7), (50, 200), (101, 200))}
    assert held == {(1, 4): False, (9, 9): True, (10, 99): False, (6, 7): True, (50, 200): True, (101, 200): False}
    files = log.files("event_id").sort_by("first").select(["rows", "first", "last"]).to_pylist()
    assert files == [{"rows": 2, "first": 5, "last": 9}, {"rows": 1, "first": 100, "last": 100}]
    assert log.is_plain
    assert DeltaLog(table).may_hold("no column", 1, 2)  # it tells nothing, so it may


def test_of_two_that_go_on_from_one_state_the_second_is_told_to_look_again(table: LakeTable) -> None:
    first, second, stranger = DeltaLog(table), DeltaLog(table), DeltaLog(table)
    assert first.append_next(written(table, 1), APP, "{}") == 1
    with pytest.raises(TransientSinkError, match="another writer"):
        second.append_next(written(table, 1), APP, "{}")
    stranger.append_next(written(table, 2), "another application", "{}")
    assert DeltaLog(table).append_next(written(table, 3), APP, "{}") == 2
    assert ids_in(table) == [1, 2, 3]


def test_large_rows_are_written_before_they_fill_the_memory(table: LakeTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BYTES_PER_FILE", 1000)
    writer = FileWriter(Folder(table.path), "event_date", "event_ts", 0, ["event_id"])
    for number in range(6):
        row = {"event_id": number, "event_ts": 0, "raw_value": b"x" * 400}
        schema = pa.schema(
            [("event_id", pa.int64()), ("event_ts", pa.timestamp("us", "UTC")), ("raw_value", pa.binary())]
        )
        writer.add(pa.RecordBatch.from_pylist([row], schema=schema))
    assert [json.loads(str(file["stats"]))["numRecords"] for file in writer.files] == [3, 3]
