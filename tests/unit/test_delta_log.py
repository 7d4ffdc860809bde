"""A table's log through delta-rs: who makes the table, what its files tell, and which of two commits passes."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import types as T

from engagement.errors import ContractError, PermanentSinkError, TransientSinkError
from engagement.identity import BatchIdentity
from engagement.sinks.delta import files
from engagement.sinks.delta.fence import DeltaFence
from engagement.sinks.delta.files import FileWriter, Folder
from engagement.sinks.delta.log import DeltaLog
from engagement.sinks.delta.tables import LakeTable

APP = "an application"
FIRST_COMMIT = datetime(2026, 11, 23, 15, tzinfo=UTC)
TOPIC_ID = "t"
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
    rows = {span: log.most_rows("event_id", span) for span in ((1, 4), (9, 9), (9, 100), None)}
    assert rows == {(1, 4): 0, (9, 9): 2, (9, 100): 3, None: 3}
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


def test_a_transaction_tells_when_it_was_so_that_delta_can_forget_it(table: LakeTable) -> None:
    before, after = DeltaFence(TOPIC_ID, {}), DeltaFence(TOPIC_ID, {0: 1})
    DeltaLog(table, lambda: FIRST_COMMIT).append([], before, after, BatchIdentity("app", "generation", 0))
    DeltaLog(table, lambda: FIRST_COMMIT).append_next(written(table, 1), APP, "{}")
    lines = [line for file in Path(table.path, "_delta_log").glob("*.json") for line in file.read_text().splitlines()]
    transactions = [action["txn"] for action in map(json.loads, lines) if "txn" in action]
    told = {transaction["appId"]: transaction["lastUpdated"] for transaction in transactions}
    assert told == dict.fromkeys((before.successor, APP), int(FIRST_COMMIT.timestamp() * 1000))


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


def advanced(table: LakeTable, commits: int) -> None:
    """Rows and the fence, one offset further with each commit; version n of the table is n minutes old."""
    for _ in range(commits):
        log = DeltaLog(table)
        before = log.fence(TOPIC_ID)[0] or DeltaFence(TOPIC_ID, {0: 0})
        offset = before.next_offsets[0]
        after = DeltaFence(TOPIC_ID, {0: offset + 1})
        log.append(written(table, offset), before, after, BatchIdentity("app", "generation", offset))
    for version, file in enumerate(sorted(Path(table.path, "_delta_log").glob("*.json"))):
        moment = (FIRST_COMMIT + timedelta(minutes=version)).timestamp()
        os.utime(file, (moment, moment))


def told_otherwise(table: LakeTable, **told: object) -> None:
    """The newest commit with something else in what it tells of itself."""
    newest = max(Path(table.path, "_delta_log").glob("*.json"))
    actions = [json.loads(line) for line in newest.read_text().splitlines()]
    for action in actions:
        if "commitInfo" in action:
            action["commitInfo"].update(told)
    newest.write_text("\n".join(json.dumps(action) for action in actions))


def restored_in_spark(table: LakeTable, version: int | None, timestamp: str | None) -> None:
    """To version 2, with the parameters that Spark's Delta would have told."""
    DeltaTable(table.path).restore(2)
    told_otherwise(table, operationParameters={"version": version, "timestamp": timestamp})


@pytest.mark.parametrize(
    "restore",
    [
        lambda table: DeltaTable(table.path).restore(2),
        lambda table: DeltaTable(table.path).restore(FIRST_COMMIT + timedelta(minutes=2, seconds=30)),
        lambda table: restored_in_spark(table, 2, None),
        lambda table: restored_in_spark(table, None, "2026-11-23 15:02:30.5"),
        lambda table: restored_in_spark(table, None, "2026-11-23 16:02:30.5"),
        lambda table: restored_in_spark(table, None, "2026-11-23 10:02:30.5"),
    ],
    ids=["version", "time", "version in Spark", "time in Spark", "time in Berlin", "time in New York"],
)
def test_the_fence_goes_back_with_a_table_that_is_restored(
    table: LakeTable, restore: Callable[[LakeTable], object]
) -> None:
    advanced(table, 5)
    restore(table)
    assert (DeltaLog(table).fence(TOPIC_ID), ids_in(table)) == ((DeltaFence(TOPIC_ID, {0: 2}), True), [0, 1])
    advanced(table, 1)
    assert (DeltaLog(table).fence(TOPIC_ID), ids_in(table)) == ((DeltaFence(TOPIC_ID, {0: 3}), True), [0, 1, 2])
    advanced(table, 12)
    assert ids_in(table) == list(range(15))


@pytest.mark.parametrize(("versions", "offset"), [((1,), 1), ((3, 5), 5), ((3, 1, 6), 3), ((2, 4, 1), 1)])
def test_of_several_restores_the_newest_counts(table: LakeTable, versions: tuple[int, ...], offset: int) -> None:
    advanced(table, 5)
    for version in versions:
        DeltaTable(table.path).restore(version)
    (found, _), held = DeltaLog(table).fence(TOPIC_ID), ids_in(table)
    assert (found, held) == (DeltaFence(TOPIC_ID, {0: offset}), list(range(offset)))


def test_a_restore_to_long_ago_is_followed_there(table: LakeTable) -> None:
    advanced(table, 20)
    DeltaTable(table.path).restore(3)
    assert DeltaLog(table).fence(TOPIC_ID)[0] == DeltaFence(TOPIC_ID, {0: 3})
    DeltaTable(table.path).restore(0)
    assert (DeltaLog(table).fence(TOPIC_ID), ids_in(table)) == ((None, False), [])


def test_what_is_carried_beside_a_stream_is_the_restored_fence(table: LakeTable) -> None:
    advanced(table, 5)
    DeltaTable(table.path).restore(2)
    DeltaLog(table).append_beside(written(table, 99), "a chunk")
    assert DeltaLog(table).fence(TOPIC_ID)[0] == DeltaFence(TOPIC_ID, {0: 2})


def test_a_restore_beside_a_commit_is_looked_at_again(table: LakeTable) -> None:
    advanced(table, 3)
    DeltaTable(table.path).restore(2)
    log = DeltaLog(table)
    DeltaLog(table).append_next(written(table, 99), APP, "{}")
    with pytest.raises(TransientSinkError, match="looking again"):
        log.fence(TOPIC_ID)


def test_a_restore_over_a_compaction_brings_the_fence_of_the_files_from_before_it(table: LakeTable) -> None:
    advanced(table, 3)
    DeltaTable(table.path).optimize.compact()
    advanced(table, 1)
    DeltaTable(table.path).restore(2)
    assert DeltaLog(table).fence(TOPIC_ID)[0] == DeltaFence(TOPIC_ID, {0: 2})
    DeltaTable(table.path).restore(4)
    assert (DeltaLog(table).fence(TOPIC_ID)[0], ids_in(table)) == (DeltaFence(TOPIC_ID, {0: 3}), [0, 1, 2])


def test_a_restore_to_what_no_version_had_is_an_error_and_no_fence(table: LakeTable) -> None:
    advanced(table, 2)
    told_otherwise(table, operation="RESTORE")
    with pytest.raises(ContractError, match="RESTORE"):
        DeltaLog(table).fence(TOPIC_ID)


def test_no_fence_stands_where_the_log_has_forgotten_what_was_restored(table: LakeTable) -> None:
    advanced(table, 3)
    DeltaTable(table.path).restore(1)
    DeltaTable(table.path).create_checkpoint()
    for version in range(3):
        Path(table.path, "_delta_log", f"{version:020}.json").unlink()
    assert (DeltaLog(table).fence(TOPIC_ID), ids_in(table)) == ((None, False), [0])
