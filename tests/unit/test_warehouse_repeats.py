"""Which rows are versions that the source sends again."""

import pyarrow as pa

from engagement.sinks.bigquery.repeats import RepeatFilter, Version


def rows(*versions: Version, offset: int = 500) -> pa.RecordBatch:
    event_ids, numbers = zip(*versions, strict=True)
    columns = {"event_id": event_ids, "version": numbers, "kafka_offset": [offset] * len(versions)}
    return pa.RecordBatch.from_pydict({name: pa.array(values, pa.int64()) for name, values in columns.items()})


def test_what_the_table_holds_and_what_came_before_is_a_repeat() -> None:
    repeats = RepeatFilter(lambda _: {(1, 10)})
    assert repeats.split(rows((1, 10), (1, 11), (2, 10), (1, 11))) == ([1, 2], [0, 3])
    assert repeats.split(rows((2, 10), (3, 10))) == ([1], [0])


def test_a_flat_row_repeats_nothing() -> None:
    """Two partitions have an event at the same offset, which is a flat row's version: these are two messages."""
    repeats = RepeatFilter(lambda _: {(1, 10)})
    assert repeats.split(rows((1, 10), (2, 10), (2, 10), offset=9)) == ([0, 1, 2], [])
    assert repeats.split(rows((2, 10))) == ([0], [])


def test_a_flat_letter_that_is_sent_again_keeps_its_version_and_so_can_repeat() -> None:
    """It comes at another offset than its version, the first offset, says."""
    repeats = RepeatFilter(lambda _: set())
    assert repeats.split(rows((1, 10), offset=20)) == ([0], [])
    assert repeats.split(rows((1, 10), offset=21)) == ([], [0])
