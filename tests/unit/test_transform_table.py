"""Rows read from the table, taken by columns, against the same rows as the stream's messages, whatever they hold."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from tests import builders

from engagement.schemas import IMAGES, ROW_COLUMNS, TABLE_TOPIC
from engagement.transform.changes import transform_batches, transform_rows
from engagement.transform.content import Contents
from engagement.transform.decode import decode_batch
from engagement.transform.instant import parse_instant, to_text
from engagement.transform.json_text import JsonReader
from engagement.transform.table import decode_rows, to_messages
from engagement.transform.validate import UNAVAILABLE

READ = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)
READ_US = int(READ.timestamp()) * 1_000_000
SKEW_US = 300_000_000
YEAR_2000_US = 946_684_800_000_000
ROWS = pa.schema(
    [
        ("id", pa.int64()),
        *((name, pa.string()) for name in ("content_id", "user_id", "event_type")),
        ("event_us", pa.int64()),
        ("duration_ms", pa.int32()),
        *((name, pa.string()) for name in ("device", "raw_payload")),
        ("read_ts", pa.timestamp("us", "UTC")),
    ]
)
FILLED = {"topic", "kafka_partition", "kafka_offset", "kafka_ts", "raw_value"}
"""Where a message came from, and its bytes: what a row of the table has otherwise."""
PLACE = {*FILLED, "op", "version", "commit_lsn", "lsn", "source_ts_ms"}

Row = Mapping[str, object]


def row(**columns: object) -> dict[str, object]:
    defaults: dict[str, object] = {
        **builders.row(),
        "event_us": READ_US - 5,
        "read_ts": READ,
    }
    return {name: {**defaults, **columns}[name] for name in ROWS.names}


def batch(rows: Sequence[Row]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([dict(one) for one in rows], schema=ROWS)


def odd_rows(seed: int) -> Iterator[dict[str, object]]:
    """Endless rows as only a table without its constraints would hold them; about half are valid."""
    chance = random.Random(seed)
    texts = ("", "x", 'a"b\\c', "\u2028\n\t", "é😀", UNAVAILABLE, "x" * 70_000, "{", "null", '{"a": [1, {"b": null}]}')
    times = (0, -1, 1, READ_US, READ_US + SKEW_US, READ_US + SKEW_US + 1, YEAR_2000_US, YEAR_2000_US - 1)
    choices: dict[str, Sequence[object]] = {
        "id": (1, 0, -1, 2**63 - 1, 77),
        "content_id": (builders.CONTENT_ID, builders.NEWSLETTER_ID, builders.BAD_LENGTH_ID, builders.USER_ID, None),
        "user_id": (None, builders.USER_ID),
        "event_type": ("play", "pause", "finish", "click", "PLAY", "", None, UNAVAILABLE),
        "event_us": (*times, None, -62_167_219_200_000_001, 9_224_318_015_999_999_999 // 10, READ_US - 86_400_000_000),
        "duration_ms": (None, 0, 1, 29_999, 90_000_000, 2**31 - 1, -1, -(2**31)),
        "device": (None, *texts),
        "raw_payload": (None, *texts),
    }
    while True:
        odd = [name for name in choices if chance.random() < 0.2]
        if chance.random() < 0.001:
            yield row(raw_payload="x" * 1_100_000)
        yield row(id=chance.randrange(1, 10**9), **{name: chance.choice(choices[name]) for name in odd if name != "id"})
        if "id" in odd:
            yield row(id=chance.choice(choices["id"]))


def fuzzed(count: int, seed: int) -> list[dict[str, object]]:
    source = odd_rows(seed)
    return [next(source) for _ in range(count)]


@pytest.mark.parametrize("seed", range(4))
def test_rows_by_columns_are_what_the_same_rows_are_as_messages(seed: int) -> None:
    given = batch(fuzzed(3_000, seed))
    found = decode_rows(JsonReader(), given)
    expected = decode_batch(JsonReader(), to_messages(given))
    for name in IMAGES.names:
        assert found.column(name).equals(expected.column(name)), name
    kinds = found.column("kind").to_pylist()
    assert 300 < kinds.count("dead_letter") < 2_700  # both kinds are there, or the comparison says little


def envelopes(rows: Sequence[Row]) -> pa.RecordBatch:
    """The same rows as Debezium sends them; written here, so that nothing is shared with `to_messages`."""
    values = []
    for one in rows:
        micros = one["event_us"]
        text = "infinity" if micros is None else to_text(int(str(micros)))
        after = {name: text if name == "event_ts" else one[name] for name in ROW_COLUMNS}
        values.append(json.dumps(builders.envelope("r", after=after)).encode())
    return pa.RecordBatch.from_pydict(
        {
            "topic": pa.array(["engagement-events"] * len(rows)),
            "partition": pa.array([0] * len(rows), pa.int32()),
            "offset": pa.array(range(len(rows)), pa.int64()),
            "timestamp": pa.array([READ] * len(rows), pa.timestamp("us", "UTC")),
            "value": pa.array(values, pa.binary()),
            "header_names_json": pa.nulls(len(rows), pa.string()),
            "replay_of": pa.nulls(len(rows), pa.int64()),
        }
    )


@pytest.mark.parametrize("seed", range(4))
def test_backfill_and_stream_make_the_same_of_the_same_rows(seed: int) -> None:
    rows = fuzzed(2_000, seed)
    catalogue = [{**content, "publish_ts": READ} for content in builders.CONTENT_ROWS]
    contents = Contents(pa.Table.from_pylist(catalogue))
    (found,) = transform_rows([batch(rows)], contents)
    (streamed,) = transform_batches([envelopes(rows)], contents)
    assert set(found.schema.names) == set(streamed.schema.names)
    for name in set(found.schema.names) - PLACE:
        assert found.column(name).equals(streamed.column(name)), name


def test_a_row_stands_at_no_place_and_is_older_than_any_change() -> None:
    contents = Contents(pa.Table.from_pylist([{**c, "publish_ts": READ} for c in builders.CONTENT_ROWS]))
    (found,) = transform_rows([batch([row(id=7)])], contents)
    (one,) = found.to_pylist()
    assert (one["event_id"], one["op"], one["version"], one["kind"]) == (7, "r", 0, "change")
    assert [one[name] for name in ("topic", "kafka_partition", "kafka_offset", "kafka_ts")] == [None] * 4


def test_a_refused_row_is_named_by_the_table_and_its_id_and_holds_itself_as_a_message() -> None:
    contents = Contents(pa.Table.from_pylist([{**c, "publish_ts": READ} for c in builders.CONTENT_ROWS]))
    (found,) = transform_rows([batch([row(), row(id=7, duration_ms=-1), row(id=8)])], contents)
    one = found.to_pylist()[1]
    assert (one["topic"], one["kafka_partition"], one["kafka_offset"]) == (TABLE_TOPIC, 0, 7)
    assert (one["kind"], one["code"], one["kafka_ts"]) == ("dead_letter", "E_RANGE_DURATION", READ)
    assert json.loads(one["raw_value"]) == {**builders.row(id=7, duration_ms=-1), "event_ts": to_text(READ_US - 5)}


@pytest.mark.parametrize("year", [-4000, -400, -1, 0, 1, 399, 1900, 2000, 9999, 10_000, 40_000])
def test_times_are_written_as_they_are_read(year: int) -> None:
    chance = random.Random(year)
    for _ in range(200):
        days = (year - 1970) * 365 + chance.randrange(366)
        micros = (days * 86_400 + chance.randrange(86_400)) * 1_000_000 + chance.randrange(10**6)
        assert parse_instant(to_text(micros)) == micros
        if -60_000_000_000 < micros // 10**6 < 250_000_000_000:
            moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
            assert to_text(micros) == f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z".rjust(27, "0")
