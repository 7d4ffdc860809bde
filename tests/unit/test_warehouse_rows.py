"""Changes as the warehouse's rows: names, types and values exactly as BigQuery takes them."""

import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.arrow import changes
from tests.builders import CONTENT_ID, EVENT_TS, MIXED, Message, created, envelope, in_order, message, row

from engagement.identity import OffsetRange
from engagement.sinks.bigquery.client import WarehouseOptions
from engagement.sinks.bigquery.json_value import MAX_DEPTH, to_json_value
from engagement.sinks.bigquery.rows import ROWS, time_bounds, to_rows
from engagement.sinks.bigquery.summary import SUMMARY_SCHEMA, PartitionCounts, from_rows, to_batch
from engagement.sinks.outcomes import row_versions, sum_up

NOW_US = 1_795_446_001_000_000
COMMIT_MS = 1_795_446_000_000


def stored(*messages: Message, following: int = 0) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = to_rows(row_versions(changes(*messages), following), NOW_US).to_pylist()
    return rows


SENT = in_order([*MIXED, message(envelope("r", after=row()))])


def test_a_row_holds_what_the_transform_computed_under_the_public_names() -> None:
    (found,) = stored(created(duration_ms=45_000))
    assert found == {
        "event_id": 1,
        "content_id": CONTENT_ID,
        "user_id": row()["user_id"],
        "event_type": "play",
        "event_timestamp": datetime.fromisoformat(EVENT_TS),
        "duration_ms": 45_000,
        "device": "ios",
        "engagement_seconds": Decimal("45"),
        "engagement_pct": Decimal("75"),
        "content_slug": "a",
        "content_title": "A",
        "content_type": "podcast",
        "content_length_seconds": 60,
        "raw_payload": '{"a": 1}',
        "processed_timestamp": datetime.fromtimestamp(NOW_US / 1e6, UTC),
        "op": "c",
        "version": 33_749_928,
        "flags": [],
        "kafka_partition": 0,
        "kafka_offset": 0,
    }


def test_only_row_versions_above_the_fence_become_rows() -> None:
    assert [(r["kafka_offset"], r["op"]) for r in stored(*SENT)] == [(0, "c"), (5, "u"), (6, "d"), (7, "r")]
    assert [r["kafka_offset"] for r in stored(*SENT, following=6)] == [6, 7]


def test_what_is_null_stays_null_and_flags_never_are() -> None:
    nothing = dict.fromkeys(("content_id", "user_id", "duration_ms", "device", "raw_payload"))
    (found,) = stored(created(**nothing))
    assert {name for name, value in found.items() if value is None} == {
        *nothing, "engagement_seconds", "engagement_pct",
        "content_slug", "content_title", "content_type", "content_length_seconds",
    }  # fmt: skip
    assert found["flags"] == []


def test_a_deletion_that_knows_only_its_id_is_a_row() -> None:
    (found,) = stored(message(envelope("d", before=row(event_ts="?", event_type="?", content_id="?"))))
    assert (found["event_id"], found["op"], found["event_timestamp"], found["event_type"]) == (1, "d", None, None)


@pytest.mark.parametrize("duration_ms", [0, 1, 12_345, 2**31 - 1])
def test_decimals_are_exact(duration_ms: int) -> None:
    (found,) = stored(created(duration_ms=duration_ms))
    assert found["engagement_seconds"] == Decimal(duration_ms) / 1000


def test_times_beyond_what_bigquery_holds_become_null() -> None:
    batch = changes(created())
    places = {name: n for n, name in enumerate(batch.schema.names)}
    for us, kept in ((253_402_300_799_999_999, True), (253_402_300_800_000_000, False), (-(2**63), False)):
        times = pa.array([us], pa.int64()).view(pa.timestamp("us", "UTC"))
        other = batch.set_column(places["event_ts"], "event_ts", times)
        assert to_rows(other, NOW_US).column("event_timestamp").is_valid().to_pylist() == [kept]


def test_an_empty_batch_has_the_schema_too() -> None:
    rows = to_rows(row_versions(changes(Message(None)), 0), NOW_US)
    assert (rows.num_rows, rows.schema) == (0, ROWS)
    assert time_bounds(rows) == (None, None)


@pytest.mark.parametrize(
    "text",
    ['{"a": 1}', "[1,2]", '"text"', "null", "1.5", "-0", '{"a": "\\ud83d\\ude00"}', '{"a": 0.30000000000000004}',
     "9223372036854775807", "18446744073709551615", " 1 ", "0e-999", "-0.00", "5e-324", "1.5e-323", "1e-300",
     "[" * MAX_DEPTH + "]" * MAX_DEPTH, '"\\u0000"'],
)  # fmt: skip
def test_json_stays_as_it_came(text: str) -> None:
    assert to_json_value(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "hello", "{'a': 1}", '{"a": 1} x', "NaN", "-Infinity", "1e999", '{"a": "\\ud800"}', "\ufeff{}", "01",
     "1e-400", "4e-324", "-1.23456789e-320", "[0.1e-400]",
     "18446744073709551616", "1" * 5000, "3.14159265358979323846", "[" * 501 + "]" * 501, "[" * 100_000, "a\nb\x00"],
)  # fmt: skip
def test_what_bigquery_does_not_take_as_json_becomes_a_json_string(text: str) -> None:
    value = to_json_value(text)
    assert value is not None
    assert json.loads(value) == text


@given(st.text())
def test_any_text_becomes_json_that_reads_back(text: str) -> None:
    value = to_json_value(text)
    assert value is not None
    read = json.loads(value)
    assert text in (read, value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_s_own_spelling_is_taken(number: float) -> None:
    assert to_json_value(repr(number)) == repr(number)
    assert math.isfinite(number)


@given(st.integers(0, 10**18), st.integers(-360, 320))
@example(4, -324)
@example(123, -325)
@example(22250738585072014, -324)  # the smallest normal number
def test_a_number_that_is_taken_is_the_same_as_a_double(mantissa: int, exponent: int) -> None:
    """BigQuery refuses a JSON number that it cannot give back, and the whole commit with it."""
    text = f"{mantissa}e{exponent}"
    if to_json_value(text) == text:
        assert Decimal(repr(float(text))) == Decimal(text)
    else:
        assert to_json_value(text) == f'"{text}"'


def test_each_message_has_one_outcome() -> None:
    shares = [PartitionCounts(0), PartitionCounts(0)]
    for counts, messages in zip(shares, (SENT[:4], SENT[4:]), strict=True):
        counts.add(changes(*messages), 1)
    tasks = from_rows(row for counts in shares for row in to_batch(counts, "stream", None).to_pylist())
    summary = sum_up([task.summary for task in tasks], OffsetRange("e", 0, 0, len(SENT)))
    assert summary.conservation_difference == 0
    assert (summary.read, summary.already_delivered, summary.delivered) == (8, 1, 3)
    assert (summary.tombstones, summary.moves) == (1, 1)
    assert summary.dead_letters == {"E_RANGE_DURATION": 1, "E_UTF8": 1}
    # A snapshot's rows were not committed just now: they tell nothing about freshness.
    assert summary.commit_times_ms == {COMMIT_MS: 2}


def test_a_table_that_was_emptied_is_counted_beside_its_dead_letter() -> None:
    emptied = message(envelope("t"))
    counts = PartitionCounts(0)
    counts.add(changes(*in_order([emptied, created(), Message(b"\xff"), emptied])), 1)
    (task,) = from_rows(to_batch(counts, "stream", None).to_pylist())
    summary = sum_up([task.summary], OffsetRange("e", 0, 0, 4))
    assert (summary.truncations, summary.dead_letters) == (1, {"E_ENVELOPE": 1, "E_UTF8": 1})
    assert (summary.conservation_difference, summary.already_delivered) == (0, 1)


def test_commit_times_are_rounded_down_to_tenths_of_a_second() -> None:
    batch = changes(created())
    place = batch.schema.get_field_index("source_ts_ms")
    counts = PartitionCounts(0)
    counts.add(batch.set_column(place, "source_ts_ms", pa.array([1_795_446_000_199], pa.int64())), 0)
    assert counts.commit_times_ms == {1_795_446_000_100: 1}


def test_a_summary_row_has_the_schema_that_spark_is_told() -> None:
    assert to_batch(PartitionCounts(3), "", None).schema == SUMMARY_SCHEMA


def test_options_do_not_tell_where_the_key_file_is() -> None:
    assert "secret" not in repr(WarehouseOptions("p", "d", credentials_file="/secret/key.json"))


def test_rows_that_bigquery_refuses_are_dead_letters_and_not_delivered() -> None:
    batch = changes(*in_order([created(id=n) for n in (1, 2, 3)]))
    counts = PartitionCounts(0)
    counts.add(batch, 0)
    counts.refuse(row_versions(batch, 0).take(pa.array([1])), ["FIELDS_ERROR: odd"])
    (task,) = from_rows(to_batch(counts, "s", None).to_pylist())
    assert (task.summary.read, task.summary.delivered, dict(task.summary.dead_letters)) == (
        3, 2, {"E_WAREHOUSE_REJECT": 1},
    )  # fmt: skip
    assert task.summary.conservation_difference == 0
    assert sum(task.summary.commit_times_ms.values()) == 2
    assert list(task.refused) == [{"kafka_partition": 0, "kafka_offset": 1, "detail": "FIELDS_ERROR: odd"}]


def test_a_stream_whose_rows_were_all_refused_is_not_committed() -> None:
    batch = changes(*in_order([created(id=1)]))
    counts = PartitionCounts(0)
    counts.add(batch, 0)
    counts.refuse(row_versions(batch, 0), ["odd"])
    (task,) = from_rows(to_batch(counts, "s", None).to_pylist())
    assert task.stream == ""
