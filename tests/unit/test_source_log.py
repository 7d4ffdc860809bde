"""Where a partition's changes lie in the source's log, and when that may mean that some come again."""

from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement.sinks.outcomes import row_versions
from engagement.sinks.source_log import LogSpan, may_repeat

Row = tuple[int, int, int]
"""Commit time in ms, commit LSN, LSN."""
COLUMNS = pa.schema(
    [
        *(("kind", pa.string()), ("op", pa.string()), ("is_version", pa.bool_()), ("kafka_offset", pa.int64())),
        *(("source_ts_ms", pa.int64()), ("commit_lsn", pa.int64()), ("lsn", pa.int64())),
        ("replay_of", pa.int64()),
    ]
)
ROWS = st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=12)


def batch(rows: Sequence[Row], first_offset: int = 0, op: str = "c") -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [
            {"kind": "change", "op": op, "is_version": True, "kafka_offset": first_offset + n, "source_ts_ms": at,
             "commit_lsn": commit, "lsn": own}
            for n, (at, commit, own) in enumerate(rows)
        ],
        schema=COLUMNS,
    )  # fmt: skip


def span_of(*batches: Sequence[Row], following: int = 0) -> LogSpan:
    span, offset = LogSpan(), 0
    for rows in batches:
        span.add(row_versions(batch(rows, offset), following))
        offset += len(rows)
    return span


@given(ROWS, st.data())
def test_a_span_reaches_from_the_first_place_to_the_last_however_the_rows_come(
    rows: list[Row], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(rows)))
    span = span_of(rows[:cut], rows[cut:])
    places = [(commit, own) for _, commit, own in rows]
    assert (span.first_place, span.last_place) == (min(places), max(places))
    steps = [at // 100 for at, _, _ in rows]
    assert span.in_order == (steps == sorted(steps))


def test_what_the_table_has_already_is_not_looked_at() -> None:
    span = span_of([(900, 9, 9), (100, 1, 1), (200, 2, 2)], following=1)
    assert (span.first_place, span.last_place, span.in_order) == ((1, 1), (2, 2), True)


def test_rows_of_a_snapshot_have_no_place_of_their_own() -> None:
    span = LogSpan()
    span.add(batch([(100, 7, 7)], op="r"))
    assert span == LogSpan()


def test_a_dead_letter_that_was_sent_again_is_noticed() -> None:
    span, rows = LogSpan(), batch([(100, 7, 7), (100, 7, 8)]).to_pylist()
    rows[1]["replay_of"] = 3
    span.add(pa.RecordBatch.from_pylist(rows, schema=COLUMNS))
    assert span.replays


@pytest.mark.parametrize(
    ("spans", "places", "expected"),
    [
        ([(0, LogSpan((5, 5), (9, 9)))], {}, False),
        ([(0, LogSpan((5, 5), (9, 9)))], {0: (5, 4)}, False),
        ([(0, LogSpan((5, 5), (9, 9)))], {0: (5, 5)}, True),
        ([(0, LogSpan((5, 5), (9, 9), in_order=False))], {}, True),
        ([(0, LogSpan((5, 5), (9, 9)))], {1: (7, 7)}, False),
        ([(0, LogSpan((5, 5), (6, 6))), (0, LogSpan((6, 7), (9, 9)))], {}, False),
        ([(0, LogSpan((6, 6), (9, 9))), (0, LogSpan((5, 5), (6, 6)))], {}, True),
        ([(0, LogSpan())], {0: (5, 5)}, False),
        ([(0, LogSpan(replays=True))], {}, True),
    ],
)
def test_repeats_are_possible_only_where_places_meet(
    spans: list[tuple[int, LogSpan]], places: dict[int, tuple[int, int]], expected: bool
) -> None:
    assert may_repeat(spans, places) is expected
