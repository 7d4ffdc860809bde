"""What no message may do to a whole batch, whatever its numbers: decoded on Arrow, then counted as the sinks do."""

from dataclasses import replace

import pytest
from tests import builders
from tests.arrow import changes
from tests.builders import Message, row

from engagement.sinks.outcomes import OutcomeCounts
from engagement.sinks.redis.aggregate import ShardAggregator
from engagement.sinks.redis.rows import read_rows
from engagement.sinks.redis.shard import ShardState
from engagement.sinks.redis.summary import TaskSummary, partition_summary, to_batch
from engagement.transform.instant import parse_instant


def committed_at(ts_ms: int, **columns: object) -> Message:
    """An insert that was committed so many milliseconds after 1970."""
    envelope = builders.envelope(after=row(**columns))
    source = envelope["source"]
    assert isinstance(source, dict)
    return builders.message(envelope | {"source": source | {"ts_ms": ts_ms}})


@pytest.mark.parametrize("ts_ms", [-1, -(2**53), -(2**63), 2**63 - 1])
@pytest.mark.parametrize("columns", [{}, {"duration_ms": -1}])
def test_a_commit_time_that_none_can_have_is_not_believed(ts_ms: int, columns: dict[str, object]) -> None:
    batch = changes(committed_at(ts_ms, **columns))
    assert batch.column("source_ts_ms").to_pylist() == [None]
    counts = OutcomeCounts(0)
    counts.add(batch, 0)
    assert (counts.read, dict(counts.commit_times_ms)) == (1, {})
    shard = ShardAggregator(ShardState("1", 0), rebuild=False)
    shard.add(read_rows(batch))
    summary = to_batch(TaskSummary(partition_summary(0, 0, 1, shard.outcomes)))
    assert (summary["read"].to_pylist(), summary["commit_times_ms"].to_pylist()) == ([1], [[]])


def test_a_commit_time_of_1970_is_one() -> None:
    assert changes(committed_at(0)).column("source_ts_ms").to_pylist() == [0]


def test_a_header_below_all_offsets_makes_no_replay() -> None:
    given = builders.in_order([builders.updated(id=n) for n in range(1, 8)] + [builders.message(row(id=8))])
    marked = [replace(message, replay_of=-5) for message in given]
    assert changes(*marked).equals(changes(*given))


@pytest.mark.parametrize(("replay_of", "place"), [(0, 0), (7, 7), (8, 8), (9, 8), (2**63 - 1, 8)])
def test_a_replay_stands_in_the_place_of_an_earlier_message_or_in_its_own(replay_of: int, place: int) -> None:
    flat = changes(replace(builders.message(row()), offset=8, replay_of=replay_of))
    assert (flat.column("replay_of").to_pylist(), flat.column("version").to_pylist()) == ([place], [place + 1])
    update = changes(replace(builders.updated(), offset=8, replay_of=replay_of))
    assert (update.column("replay_of").to_pylist(), update.column("is_version").to_pylist()) == ([place], [True])
    assert update.column("lsn").to_pylist() == [None]


def test_the_ranking_learns_the_time_of_a_row_that_is_refused_for_it() -> None:
    ahead = "2026-11-23T15:05:00.000001Z"
    shard = ShardAggregator(ShardState("1", 0), rebuild=False)
    delta = shard.add(read_rows(changes(builders.created(id=7, event_ts=ahead))))
    assert delta.refused == {"7": parse_instant(ahead)}
