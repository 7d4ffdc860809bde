"""What a demo reads from Redis to show it, and what it makes of a Redis or a job that was away meanwhile."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisAwayError

from engagement.demo.redis_view import RedisView, delivered_per_second
from engagement.demo.report import Report
from engagement.monitoring.board import StatusBoard
from engagement.monitoring.status import QueryState, QueryStatus, RowTotals

STARTED = datetime(2026, 11, 25, 12, tzinfo=UTC)


class AwayRedis:
    """Answers nothing that it is asked."""

    def __getattr__(self, name: str) -> object:
        def call(*_: object, **__: object) -> object:
            raise RedisAwayError(name)

        return call


class StatusRedis:
    """Holds the status of queries."""

    def __init__(self, *boards: StatusBoard) -> None:
        self.fields = {board.sink: board.snapshot().model_dump_json() for board in boards}

    def hgetall(self, _key: str) -> dict[str, str]:
        return self.fields


def test_a_redis_that_is_away_shows_nothing_and_ends_nothing() -> None:
    client: Any = AwayRedis()
    view = RedisView(client, "top")
    assert (view.top(), view.status(), view.status("external"), view.all_run()) == (None, None, None, False)


def test_each_query_says_its_own_and_one_that_has_not_begun_says_nothing() -> None:
    client: Any = StatusRedis(StatusBoard("redis"), StatusBoard("external"))
    view = RedisView(client, "top")
    assert [status.sink for status in (view.status(), view.status("external")) if status] == ["redis", "external"]
    assert view.status("lake") is None


def test_all_run_once_the_last_query_does() -> None:
    boards = [StatusBoard("redis"), StatusBoard("lake")]
    seen = []
    for state, count in ((QueryState.STARTING, 0), (QueryState.RUNNING, 1), (QueryState.RUNNING, 2)):
        for board in boards[:count]:
            board.set_state(state)
        client: Any = StatusRedis(*boards)
        seen.append(RedisView(client, "top").all_run())
    nobody: Any = StatusRedis()
    assert (seen, RedisView(nobody, "top").all_run()) == ([False, False, True], False)


def status(delivered: int, started: datetime = STARTED) -> QueryStatus:
    return QueryStatus.model_construct(rows=RowTotals(delivered=delivered), started_at=started)


def test_what_was_delivered_in_the_measured_time_is_counted_by_the_second() -> None:
    assert delivered_per_second(status(1_000), status(3_500), 10.0) == 250.0


@pytest.mark.parametrize(
    ("before", "after"),
    [(status(9_000), status(500, STARTED + timedelta(minutes=1))), (None, status(500)), (status(500), None)],
    ids=["started again", "silent at first", "silent at the end"],
)
def test_a_job_that_was_not_there_all_the_time_has_no_rate(
    before: QueryStatus | None, after: QueryStatus | None
) -> None:
    assert delivered_per_second(before, after, 10.0) is None


@pytest.mark.parametrize(
    ("rate", "said"),
    [(249.7, "900 rows in 10 s, 250 messages/s delivered"), (None, "900 rows in 10 s, messages/s unknown: ")],
)
def test_the_summary_says_how_many_messages_were_delivered_or_that_it_is_unknown(rate: float | None, said: str) -> None:
    report = Report(
        setup_seconds=0.0, ready_seconds=20.0, duration_seconds=10.0, rate=100, inserted=900, events_per_second=rate,
        redis=None, missed_probes=3, board_equals_reference=True, lost=0, doubled=0, lake=None, warehouse=None,
        external=None, dead_letters={}, rss_mib={}, restarts={}, versions={},
    )  # fmt: skip
    assert said in report.summary()
    assert "no sample, 3 probes missed" in report.summary()
