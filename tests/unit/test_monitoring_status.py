import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement.monitoring.board import BatchRecord, StatusBoard
from engagement.monitoring.histogram import BUCKETS_SECONDS, Histogram, RecentHistogram, estimate_quantile
from engagement.monitoring.status import QueryState, parse_book, parse_status


class ManualClock:
    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class BrokenClient:
    """A Redis that is away: what redis-py raises, without a socket."""

    def pipeline(self, *, transaction: bool) -> object:
        raise ConnectionResetError(f"pipeline {transaction}")


def board_at(clock: ManualClock) -> StatusBoard:
    return StatusBoard("redis", clock, clock)


def test_a_status_survives_its_way_through_json() -> None:
    clock = ManualClock()
    board = board_at(clock)
    board.record_batch(
        BatchRecord(7, 10, delivered=8, dead_letters={"E_JSON": 1}, tombstones=1, duration_ms=40.5, late=2)
    )
    board.record_freshness(0.2, 8)
    board.record_lag({0: 3, 1: 0})
    board.record_content_refresh()
    board.record_batch(BatchRecord(7, 100, delivered=50, dead_letters={"E_JSON": 50}))
    clock.now += 2
    status = board.snapshot()
    assert status.refused is not None
    assert parse_status(status.model_dump_json()) == status
    assert (status.sink, status.batch_id, status.state) == ("redis", 7, QueryState.RUNNING)
    assert (status.batch_duration_ms, status.late_rows, status.lag_rows) == (None, 2, {0: 3, 1: 0})
    assert status.content_cache_age_seconds == 2.0
    assert status.rows.conservation_difference == 0


def test_totals_add_up_over_batches_by_outcome_and_code() -> None:
    board = board_at(ManualClock())
    board.record_batch(BatchRecord(0, 5, delivered=3, dead_letters={"E_JSON": 2}))
    board.record_batch(
        BatchRecord(1, 6, delivered=1, dead_letters={"E_JSON": 1, "E_TS": 1}, moves=1, already_delivered=2)
    )
    rows = board.snapshot().rows
    assert (rows.read, rows.delivered, rows.moves, rows.already_delivered) == (11, 4, 1, 2)
    assert rows.dead_letters == {"E_JSON": 3, "E_TS": 1}
    assert rows.conservation_difference == 0


def test_a_row_without_an_outcome_shows_in_the_conservation_difference() -> None:
    board = board_at(ManualClock())
    board.record_batch(BatchRecord(0, 5, delivered=4))
    assert board.snapshot().rows.conservation_difference == 1


def test_wrong_types_are_counted_and_change_nothing_else() -> None:
    board = board_at(ManualClock())
    board.record_batch(BatchRecord(0, "many"))  # type: ignore[arg-type]
    board.record_batch(BatchRecord(1, 5, delivered=5, late=None))  # type: ignore[arg-type]
    board.record_batch(BatchRecord(2, 5, delivered=5, duration_ms="slow"))  # type: ignore[arg-type]
    board.record_batch(None)  # type: ignore[arg-type]
    board.record_lag({"a": 1})  # type: ignore[dict-item]
    board.record_freshness("soon")  # type: ignore[arg-type]
    board.set_state("dancing")
    status = board.snapshot()
    assert status.dropped_records == 7
    assert (status.rows.read, status.rows.delivered, status.late_rows, status.batch_id) == (0, 0, 0, None)
    assert status.state is QueryState.STARTING


@given(st.floats(), st.integers(-3, 3))
def test_no_freshness_value_can_spoil_the_json(seconds: float, count: int) -> None:
    board = board_at(ManualClock())
    board.record_freshness(seconds, count)
    counted = parse_status(board.snapshot().model_dump_json()).freshness.cumulative[-1]
    assert counted == (count if count > 0 and math.isfinite(seconds) else 0)


def test_threads_lose_no_counts() -> None:
    board = board_at(ManualClock())

    def work() -> None:
        for number in range(200):
            board.record_batch(BatchRecord(number, 1, delivered=1))
            board.record_freshness(0.1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    status = board.snapshot()
    assert (status.rows.read, status.freshness.cumulative[-1]) == (800, 800)


def test_the_rate_looks_at_the_last_ten_seconds() -> None:
    clock = ManualClock()
    board = board_at(clock)
    clock.now += 20
    board.record_batch(BatchRecord(0, 500, delivered=500))
    clock.now += 5
    board.record_batch(BatchRecord(1, 500, delivered=500))
    assert board.snapshot().input_rows_per_second == 100.0
    clock.now += 6
    assert board.snapshot().input_rows_per_second == 50.0
    clock.now += 60
    assert board.snapshot().input_rows_per_second == 0.0


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_clock_that_is_set_changes_neither_rate_nor_newest_minute(step: float) -> None:
    clock, monotonic = ManualClock(), ManualClock(0.0)
    board = StatusBoard("redis", clock, monotonic)

    def run(seconds: int) -> None:
        for _ in range(seconds):
            clock.now += 1
            monotonic.now += 1
            board.record_batch(BatchRecord(0, 1000, delivered=1000))
            board.record_freshness(0.2, 1000)

    run(60)
    clock.now += step
    run(60)
    status = board.snapshot()
    assert status.input_rows_per_second == 1000.0
    assert status.freshness.recent.count <= 60_000


def test_a_state_keeps_the_moment_it_began() -> None:
    clock = ManualClock()
    board = board_at(clock)
    board.set_state("waiting", "Redis is away")
    since = board.snapshot().state_since
    clock.now += 30
    board.set_state("waiting", "Redis is away")
    assert board.snapshot().state_since == since
    board.record_batch(BatchRecord(0, 0))
    assert (board.snapshot().state, board.snapshot().reason) == (QueryState.RUNNING, "")


def test_a_reason_is_one_short_line_without_secrets() -> None:
    board = board_at(ManualClock())
    board.set_state("failed", "cannot reach redis://:hunter2@10.1.2.3/0\n  at Line.java\n" + "x" * 1000)
    reason = board.snapshot().reason
    assert "hunter2" not in reason
    assert "10.1.2.3" not in reason
    assert "\n" not in reason
    assert len(reason) == 600


def test_a_flush_to_a_dead_redis_is_counted_and_never_raised() -> None:
    board = board_at(ManualClock())
    assert board.flush(BrokenClient()) is False  # type: ignore[arg-type]
    assert board.failed_flushes == 1


def test_flushes_within_a_second_are_skipped_until_the_clock_moves_or_jumps_back() -> None:
    clock = ManualClock()
    board = board_at(clock)
    broken = BrokenClient()
    assert [board.flush(broken), board.flush(broken)] == [False, True]  # type: ignore[arg-type]
    clock.now -= 3600
    assert board.flush(broken) is False  # type: ignore[arg-type]
    clock.now += 0.5
    assert board.flush(broken, force=True) is False  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "{}", "[1]", "null", '{"version": 2}', b"\xff"])
def test_an_entry_that_is_no_status_never_hides_the_others(text: str | bytes) -> None:
    good = board_at(ManualClock()).snapshot()
    book = parse_book({b"redis": good.model_dump_json().encode(), "lake": text})
    assert book.queries == {"redis": good}
    assert set(book.unreadable) == {"lake"}


def test_a_newer_version_is_refused_with_its_number() -> None:
    newer = board_at(ManualClock()).snapshot().model_copy(update={"version": 2})
    with pytest.raises(ValueError, match="version 2, this API reads 1"):
        parse_status(newer.model_dump_json())


def test_quantiles_of_no_observations_are_unknown() -> None:
    assert estimate_quantile(Histogram().counts, 0.5) is None


def test_values_above_the_last_bound_are_reported_as_that_bound() -> None:
    histogram = Histogram()
    histogram.add(600.0, 5)
    assert estimate_quantile(histogram.counts, 0.99) == BUCKETS_SECONDS[-1]
    assert histogram.cumulative()[-2:] == (0, 5)


@given(st.lists(st.floats(0, 299.9), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_an_estimate_lies_in_the_bucket_of_the_true_quantile(values: list[float], quantile: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value, 1)
    estimate = estimate_quantile(histogram.counts, quantile)
    true = sorted(values)[max(0, math.ceil(quantile * len(values)) - 1)]
    upper = next(bound for bound in BUCKETS_SECONDS if true <= bound)
    lower = max((bound for bound in BUCKETS_SECONDS if bound < upper), default=0.0)
    assert estimate is not None
    assert lower <= estimate <= upper


def test_recent_freshness_forgets_after_a_minute() -> None:
    recent = RecentHistogram()
    recent.add(0.2, 3, now=1000.0)
    recent.add(0.4, 1, now=1049.0)
    assert sum(recent.merged(1059.0).counts) == 4
    assert sum(recent.merged(1060.0).counts) == 1
    assert sum(recent.merged(1110.0).counts) == 0
