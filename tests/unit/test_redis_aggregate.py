"""What rows change in a shard, without Redis."""

from collections import Counter
from itertools import pairwise

import msgpack
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contract.redis_support import START, Event, Origin, Row, image, to_batch

from engagement.sinks.redis.aggregate import ShardAggregator
from engagement.sinks.redis.delta import Delta
from engagement.sinks.redis.recent import stream_calls
from engagement.sinks.redis.rows import chunks, read_rows, unknown_content
from engagement.sinks.redis.shard import Position, ShardState
from engagement.sinks.redis.summary import SUMMARY_SCHEMA, TaskSummary, from_rows, partition_summary
from engagement.sinks.redis.summary import to_batch as summary_batch
from engagement.sinks.redis.totals import Totals
from engagement.transform.partitions import by_partition

EMPTY = ShardState("1", 0)
EVENTS = st.builds(
    Event,
    event_id=st.integers(1, 30),
    content_id=st.sampled_from(["a", "b", None]),
    event_type=st.sampled_from(["play", "pause", "finish", "click"]),
    event_us=st.integers(START * 10**6, (START + 100) * 10**6),
    duration_ms=st.one_of(st.none(), st.integers(0, 2**31 - 1)),
    length=st.sampled_from([None, 1, 60, 3600]),
)


def aggregate(messages: list[list[Row]], state: ShardState = EMPTY, *, rebuild: bool = False) -> ShardAggregator:
    aggregator = ShardAggregator(state, rebuild=rebuild)
    aggregator.add(read_rows(to_batch(enumerate(messages))))
    return aggregator


def events_in(delta: Delta) -> int:
    return sum(total[1] for contents in delta.sums.values() for total in contents.values())


def delta_of(messages: list[list[Row]], state: ShardState = EMPTY, *, rebuild: bool = False) -> Delta:
    return ShardAggregator(state, rebuild=rebuild).add(read_rows(to_batch(enumerate(messages))))


@given(st.lists(EVENTS, max_size=30))
def test_what_is_added_and_taken_back_leaves_nothing(events: list[Event]) -> None:
    given_then_taken = [
        *([image(event, Origin(lsn=i + 1))] for i, event in enumerate(events)),
        *([image(event, Origin("d", lsn=1000 + i), -1)] for i, event in enumerate(events)),
    ]
    delta = delta_of(given_then_taken)
    for contents in delta.sums.values():
        for *numbers, stamps in contents.values():
            assert numbers == [0] * 9
            left: Counter[int] = Counter()
            for at, count in zip(stamps[::2], stamps[1::2], strict=True):
                left[at] += count
            assert not any(left.values())


def test_rows_of_one_copy_share_a_place_and_all_count() -> None:
    rows = [[image(Event(i), Origin(lsn=7))] for i in (1, 2, 3)]
    aggregator = aggregate([*rows, *rows])
    assert (aggregator.outcomes.delivered, aggregator.outcomes.repeats) == (3, 3)
    assert aggregator.position == Position(99, 7, START * 1000, frozenset({(1, 1), (2, 1), (3, 1)}))


def test_place_that_was_kept_in_the_fence_recognises_repeats_of_the_next_batch() -> None:
    first = aggregate([[image(Event(1), Origin(lsn=7))]])
    again = aggregate([[image(Event(1), Origin(lsn=7))]], ShardState("1", 0, position=first.position))
    assert again.outcomes.repeats == 1


def test_a_table_that_was_emptied_is_counted_beside_its_dead_letter() -> None:
    emptied = image(Event(), Origin("t", kind="dead_letter", code="E_ENVELOPE"), 0) | {"event_id": None}
    refused = image(Event(), Origin("c", lsn=101, kind="dead_letter", code="E_ENVELOPE"), 0) | {"event_id": None}
    outcomes = aggregate([[emptied], [refused], [image(Event(2), Origin(lsn=102))]]).outcomes
    assert (outcomes.truncations, outcomes.dead_letters) == (1, {"E_ENVELOPE": 2})
    assert (outcomes.read, outcomes.delivered) == (3, 1)


def test_flat_rows_are_never_repeats() -> None:
    rows = [[image(Event(1), Origin(lsn=None, commit_lsn=None))]] * 3
    assert aggregate(rows).outcomes.delivered == 3


def test_both_halves_of_a_move_count_at_one_place() -> None:
    taken = image(Event(1, "a"), Origin("d", half=0, kind="move"), -1)
    given_anew = image(Event(1, "b"), Origin("u"))
    aggregator = aggregate([[taken], [given_anew]])
    assert (aggregator.outcomes.moves, aggregator.outcomes.delivered, aggregator.outcomes.repeats) == (1, 1, 0)


def test_before_of_a_refused_row_is_not_taken_back() -> None:
    event = Event(1)
    refused = image(event, Origin(lsn=1, kind="dead_letter", code="E_TS_FUTURE"), 0)
    update = [image(event, Origin("u", lsn=2)), image(event, Origin("u", lsn=2), -1, is_version=False)]
    delta = delta_of([[refused], update])
    assert events_in(delta) == 1
    assert delta.refused == {"1": None}


def test_before_of_a_row_that_may_have_been_refused_earlier_is_left_to_the_script() -> None:
    update = [image(Event(1), Origin("u", lsn=2)), image(Event(1), Origin("u", lsn=2), -1, is_version=False)]
    delta = delta_of([update], ShardState("1", 0, refused=1))
    assert events_in(delta) == 1
    assert [take[0] for take in delta.takes] == ["1"]


def test_snapshot_row_replaces_what_a_rebuild_counted_before() -> None:
    rows = [[image(Event(1), Origin(lsn=1))], [image(Event(1, event_type="finish"), Origin("r", lsn=5))]]
    delta = delta_of(rows, rebuild=True)
    (total,) = (total for contents in delta.sums.values() for total in contents.values())
    assert total[:6] == [300_000, 1, 0, 0, 1, 0]


def test_retried_rebuild_learns_from_rows_below_the_fence_without_counting_them() -> None:
    rows = [[image(Event(1), Origin(lsn=1))], [image(Event(1), Origin("r", lsn=5))]]
    delta = delta_of(rows, ShardState("1", next_offset=1), rebuild=True)
    assert events_in(delta) == 0


@pytest.mark.parametrize("pieces", [1, 2, 3, 7])
def test_chunks_keep_messages_whole_and_in_order(pieces: int) -> None:
    messages = [
        (i, [image(Event(i), Origin(lsn=i)), image(Event(i), Origin(lsn=i), -1, is_version=False)])
        for i in range(1, 12)
    ]
    whole = to_batch(messages)
    borders = [whole.num_rows * i // pieces for i in range(pieces + 1)]
    cut = [whole.slice(a, b - a) for a, b in pairwise(borders)]
    found = [chunk.column("kafka_offset").to_pylist() for chunk in chunks(cut, 3)]
    assert [offset for chunk in found for offset in chunk] == whole.column("kafka_offset").to_pylist()
    assert all(chunk.count(chunk[-1]) == 2 and chunk.count(chunk[0]) == 2 for chunk in found)


def test_partitions_of_one_task_are_told_apart() -> None:
    parts = [to_batch([(1, [image(Event(1), Origin())])], partition) for partition in (3, 3, 5)]
    found = [(n, sum(piece.num_rows for piece in pieces)) for n, pieces in by_partition([to_batch([]), *parts])]
    assert found == [(3, 2), (5, 1)]


def test_contents_with_the_flag_are_unknown() -> None:
    row = {**image(Event(1, "new"), Origin()), "flags": ["length_bad", "content_missing"]}
    assert unknown_content(to_batch([(0, [row]), (1, [image(Event(2), Origin())])])) == {"new"}


def test_stream_of_one_content_gets_only_its_newest_thousand() -> None:
    batch = to_batch([(i, [image(Event(i + 1), Origin())]) for i in range(1200)])
    (call,) = stream_calls(0, batch)
    _, entries = msgpack.unpackb(call.args[3])
    assert (len(entries), entries[-1][0]) == (1000, 1200)


def test_sums_stay_exact_far_above_a_day_of_events() -> None:
    assert (Totals(2**53 - 2, 1) + Totals(1, 1)).units == 2**53 - 1


def test_summary_survives_the_way_to_the_driver() -> None:
    outcomes = aggregate([[image(Event(1), Origin())], [image(Event(1), Origin(kind="dead_letter", code="E_ID"), 0)]])
    summary = TaskSummary(partition_summary(2, 0, 2, outcomes.outcomes, late=1), 1, 2, "lost", "missing")
    batch = summary_batch(summary)
    assert batch.schema == SUMMARY_SCHEMA
    assert from_rows(pa.Table.from_batches([batch]).to_pylist()) == [summary]
