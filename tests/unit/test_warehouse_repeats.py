"""Which rows are versions that the source sends again."""

import pyarrow as pa

from engagement.sinks.bigquery.repeats import RepeatFilter, Version


def rows(*versions: Version) -> pa.RecordBatch:
    event_ids, numbers = zip(*versions, strict=True)
    return pa.RecordBatch.from_pydict(
        {"event_id": pa.array(event_ids, pa.int64()), "version": pa.array(numbers, pa.int64())}
    )


def places(*lsn: int | None) -> pa.Array:
    return pa.array(lsn, pa.int64())


def test_what_the_table_holds_and_what_came_before_is_a_repeat() -> None:
    repeats = RepeatFilter(lambda _: {(1, 10)})
    assert repeats.split(rows((1, 10), (1, 11), (2, 10), (1, 11)), places(10, 11, 10, 11)) == ([1, 2], [0, 3])
    assert repeats.split(rows((2, 10), (3, 10)), places(10, 10)) == ([1], [0])


def test_a_flat_row_repeats_nothing() -> None:
    """Two partitions have an event at the same offset, which is a flat row's version: these are two messages."""
    repeats = RepeatFilter(lambda _: {(1, 10)})
    assert repeats.split(rows((1, 10), (1, 11), (1, 11)), places(None, None, None)) == ([0, 1, 2], [])
    assert repeats.split(rows((1, 11)), places(11)) == ([0], [])
