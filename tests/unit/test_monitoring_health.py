import asyncio
import threading
from collections.abc import Callable, Sequence

import pytest

from engagement.errors import TransientSinkError
from engagement.monitoring.answers import Health, TopContent
from engagement.monitoring.board import BatchRecord, StatusBoard
from engagement.monitoring.health import Clocks, ComponentHealth, HealthStatus, ProbeError, ProbeRunner, Reading, judge
from engagement.monitoring.live import LiveFeed
from engagement.monitoring.probes import explain, judge_slots
from engagement.monitoring.queries import SilenceWatch, judge_book, judge_query, remembered
from engagement.monitoring.rules import CRITICAL, PROMISE_SECONDS, RULES, verdict
from engagement.monitoring.source_probes import Pulse, judge_connector, judge_source, judge_topic
from engagement.monitoring.status import QueryState, QueryStatus, StatusBook, to_utc

HEALTHY, DEGRADED = HealthStatus.HEALTHY, HealthStatus.DEGRADED
UNHEALTHY, UNKNOWN = HealthStatus.UNHEALTHY, HealthStatus.UNKNOWN


class ManualTime:
    def __init__(self) -> None:
        self.now = 1000.0

    def clocks(self) -> Clocks:
        return Clocks(lambda: self.now, lambda: self.now)


class ScriptedProbe:
    """A service that answers as each step of the script says."""

    interval_seconds = 0.0
    expects: Sequence[Reading] = (Reading("postgres", UNKNOWN, "?"), Reading("replication_slot", UNKNOWN, "?"))

    def __init__(self, *script: Callable[[], Sequence[Reading]]) -> None:
        self._script = iter(script)

    def check(self) -> Sequence[Reading]:
        return next(self._script)()

    def close(self) -> None: ...


def fine() -> Sequence[Reading]:
    return [Reading("postgres", HEALTHY), Reading("replication_slot", HEALTHY, details={"lag_bytes": 5})]


def fails(error: Exception) -> Callable[[], Sequence[Reading]]:
    def check() -> Sequence[Reading]:
        raise error

    return check


def status(runner: ProbeRunner) -> list[HealthStatus]:
    return [component.reading.status for component in runner.components()]


def query(state: QueryState = QueryState.RUNNING, sink: str = "redis") -> QueryStatus:
    board = StatusBoard(sink, lambda: 5000.0)
    board.record_batch(BatchRecord(1, 1, delivered=1))
    board.set_state(state)
    return board.snapshot()


def test_components_are_unknown_before_the_first_answer() -> None:
    assert status(ProbeRunner(ScriptedProbe(), ManualTime().clocks())) == [UNKNOWN, UNKNOWN]


def test_a_failing_service_is_unhealthy_what_only_it_could_tell_is_unknown_and_both_recover() -> None:
    time = ManualTime()
    runner = ProbeRunner(ScriptedProbe(fine, fails(ProbeError("connection refused")), fine), time.clocks())
    runner.run_once()
    time.now += 10
    runner.run_once()
    first, second = runner.components()
    assert (first.reading.status, first.reading.reason, first.since) == (UNHEALTHY, "connection refused", 1010.0)
    assert (second.reading.status, dict(second.reading.details)) == (UNKNOWN, {})
    time.now += 10
    runner.run_once()
    assert status(runner) == [HEALTHY, HEALTHY]


@pytest.mark.parametrize("error", [KeyError("state"), ValueError("no JSON"), TypeError(), AttributeError(), OSError()])
def test_an_answer_of_an_unforeseen_shape_is_a_failure_and_the_probe_lives_on(error: Exception) -> None:
    runner = ProbeRunner(ScriptedProbe(fails(error), fine), ManualTime().clocks())
    runner.run_once()
    assert status(runner) == [UNHEALTHY, UNKNOWN]
    runner.run_once()
    assert status(runner) == [HEALTHY, HEALTHY]


def test_pages_that_wait_for_a_redis_that_hangs_share_what_came_of_it() -> None:
    time = ManualTime()
    asked: list[int] = []

    def hangs(limit: int) -> TopContent:
        asked.append(limit)
        time.now += 2
        raise TransientSinkError("redis", "no answer in time")

    def health() -> Health:
        return Health(status=UNHEALTHY, checked_at=to_utc(time.now), components={})

    feed = LiveFeed(hangs, health, list, lambda: time.now, threading.Event())

    async def first_messages(pages: int) -> list[str]:
        opened = [feed.messages(10) for _ in range(pages)]
        return [[await anext(page), await anext(page)][1] for page in opened]

    told = asyncio.run(first_messages(3))
    assert len(asked) == 1
    assert set(told) == {told[0]}
    time.now += 1
    asyncio.run(first_messages(1))
    assert len(asked) == 2


def test_since_stays_while_the_status_stays() -> None:
    time = ManualTime()
    runner = ProbeRunner(ScriptedProbe(fine, fine), time.clocks())
    runner.run_once()
    time.now += 10
    runner.run_once()
    assert [component.since for component in runner.components()] == [1000.0, 1000.0]
    assert [component.checked_at for component in runner.components()] == [1010.0, 1010.0]


def test_a_hanging_service_is_reported_while_it_hangs() -> None:
    time = ManualTime()
    entered, release = threading.Event(), threading.Event()

    def hangs() -> Sequence[Reading]:
        entered.set()
        release.wait(30)
        return fine()

    runner = ProbeRunner(ScriptedProbe(fine, hangs), time.clocks(), limit_seconds=3)
    runner.run_once()
    thread = threading.Thread(target=runner.run_once)
    thread.start()
    assert entered.wait(30)
    time.now += 3
    assert status(runner) == [HEALTHY, HEALTHY]
    time.now += 1
    assert status(runner) == [UNHEALTHY, UNKNOWN]
    assert runner.components()[0].reading.reason == "no answer within 3 s"
    assert runner.components()[0].since == 1000.0
    release.set()
    thread.join()
    assert status(runner) == [HEALTHY, HEALTHY]


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ([], HEALTHY),
        ([Reading("redis", HEALTHY)], HEALTHY),
        ([Reading("redis", DEGRADED)], DEGRADED),
        ([Reading("redis", UNHEALTHY)], UNHEALTHY),
        ([Reading("redis", UNKNOWN)], UNHEALTHY),
        ([Reading("redis", HEALTHY), Reading("external", UNHEALTHY, critical=False)], DEGRADED),
        ([Reading("redis", HEALTHY), Reading("external", UNKNOWN, critical=False)], DEGRADED),
    ],
)
def test_the_whole_is_judged_by_its_parts(readings: list[Reading], expected: HealthStatus) -> None:
    assert judge([ComponentHealth(reading, 0.0) for reading in readings]) is expected


@pytest.mark.parametrize(
    ("state", "silent", "expected"),
    [
        (QueryState.RUNNING, 8, HEALTHY),
        (QueryState.RUNNING, 9, UNHEALTHY),
        (QueryState.STARTING, 0, DEGRADED),
        (QueryState.WAITING, 0, DEGRADED),
        (QueryState.WAITING, 16, UNHEALTHY),
        (QueryState.STOPPING, 0, DEGRADED),
        (QueryState.STOPPED, 0, UNHEALTHY),
        (QueryState.STOPPED, 999, UNHEALTHY),
        (QueryState.FAILED, 0, UNHEALTHY),
        (QueryState.FAILED, 999, UNHEALTHY),
    ],
)
def test_a_query_is_judged_by_silence_then_state(state: QueryState, silent: float, expected: HealthStatus) -> None:
    reading = judge_query(query(state), silent)
    assert reading.status is expected
    assert bool(reading.reason) is (expected is not HEALTHY)


@pytest.mark.parametrize("silent", [0, 999])
def test_a_query_that_failed_says_why_for_as_long_as_it_is_remembered(silent: float) -> None:
    board = StatusBoard("redis", lambda: 5000.0)
    board.set_state(QueryState.FAILED, "the table has a column of another type")
    assert judge_query(board.snapshot(), silent).reason == "the table has a column of another type"


def test_a_query_that_loses_rows_or_stands_still_is_degraded() -> None:
    fine_query = query()
    lossy = fine_query.model_copy(update={"rows": fine_query.rows.model_copy(update={"read": 3})})
    assert judge_query(lossy, 0).reason == "2 rows read without an outcome"
    board = StatusBoard("redis", iter([0.0, 1.0, 200.0, 200.0, 200.0]).__next__)
    board.record_batch(BatchRecord(1, 1, delivered=1))
    assert judge_query(board.snapshot(), 0).status is HEALTHY  # nothing waits: a quiet night is no fault
    board.record_lag({0: 7})
    assert judge_query(board.snapshot(), 0).reason == "rows wait, but no progress for 199 s"


def test_a_query_that_was_sent_mostly_rubbish_says_so_for_a_minute_and_then_is_well_again() -> None:
    now = [5000.0]
    board = StatusBoard("lake", clock=lambda: 5000.0, monotonic=lambda: now[0])
    board.record_batch(BatchRecord(1, 300, delivered=90, dead_letters={"E_TS": 10, "E_JSON": 200}))
    board.record_batch(BatchRecord(2, 1000, delivered=990, dead_letters={"E_JSON": 10}))
    for waited, expected in ((0.0, DEGRADED), (60.0, DEGRADED), (60.1, HEALTHY)):
        now[0] = 5000.0 + waited
        reading = judge_query(board.snapshot(), 0)
        assert reading.status is expected
        assert ("210 of 300 messages were refused (E_JSON, E_TS)" in reading.reason) is (expected is DEGRADED)


def test_only_the_query_of_the_ranking_is_critical() -> None:
    assert judge_query(query(), 0).critical
    assert not judge_query(query(sink="lake"), 0).critical


def test_queries_expected_unreadable_and_forgotten() -> None:
    assert [(r.component, r.status) for r in judge_book(StatusBook({}, {}), {})] == [("query:redis", UNKNOWN)]
    unreadable = judge_book(StatusBook({}, {"redis": "status version 2"}), {})
    assert [(r.component, r.reason) for r in unreadable] == [("query:redis", "status version 2")]
    old = StatusBook({"redis": query(), "lake": query(sink="lake")}, {})
    silences = {"redis": 90_000.0, "lake": 90_000.0}
    shown = judge_book(remembered(old, silences), silences)
    assert [(r.component, r.status) for r in shown] == [("query:redis", UNHEALTHY)]


def test_silence_does_not_depend_on_the_writers_clock_once_it_was_seen_to_write() -> None:
    watch = SilenceWatch()
    first = query()
    written = first.updated_at.timestamp()
    # An hour behind the reader: taken for silent at first, alive as soon as its timestamp moves.
    assert watch.silence(first, wall=written + 3600, monotonic=0.0) == 3600
    moved = first.model_copy(update={"updated_at": first.updated_at.replace(second=first.updated_at.second + 1)})
    assert watch.silence(moved, wall=written + 3601, monotonic=1.0) == 0
    assert watch.silence(moved, wall=written + 3621, monotonic=21.0) == 20


def test_a_query_whose_rows_show_later_than_promised_is_degraded() -> None:
    board = StatusBoard("redis", lambda: 5000.0)
    board.set_state(QueryState.RUNNING)
    board.record_freshness(9.0, 19)
    assert judge_query(board.snapshot(), 0).status is HEALTHY  # too few to say anything about 99 % of them
    board.record_freshness(9.0)
    reading = judge_query(board.snapshot(), 0)
    assert (reading.status, "promised are 5 s" in reading.reason) == (DEGRADED, True)


@pytest.mark.parametrize("sink", PROMISE_SECONDS)
@pytest.mark.parametrize(("times", "expected"), [(0.9, HEALTHY), (1.5, DEGRADED)])
def test_every_promise_can_be_seen_to_be_broken(sink: str, times: float, expected: HealthStatus) -> None:
    board = StatusBoard(sink, lambda: 5000.0)
    board.set_state(QueryState.RUNNING)
    board.record_freshness(PROMISE_SECONDS[sink] * times, 1000)
    assert judge_query(board.snapshot(), 0).status is expected


def test_a_connector_that_writes_nothing_is_noticed_whatever_connect_says() -> None:
    now = [100.0]
    pulse = Pulse(lambda: now[0])
    assert judge_source(pulse.silence(7)).status is HEALTHY
    now[0] += 11
    assert judge_source(pulse.silence(7)).status is DEGRADED
    now[0] += 20
    silent = judge_source(pulse.silence(7))
    assert (silent.status, silent.critical, silent.measured[0].value) == (UNHEALTHY, True, 31.0)
    assert judge_source(pulse.silence(8)).status is HEALTHY


def test_every_rule_can_be_said_and_is_worse_than_healthy() -> None:
    figures = {"seconds": 1.0, "count": 2, "rows": 3, "promise": 5.0, "states": "PAUSED"}
    for component, rules in RULES.items():
        for finding, rule in rules.items():
            assert rule.status in (DEGRADED, UNHEALTHY)
            name = "query:redis" if component == "query" else component
            reading = verdict(name, finding, None, **figures)
            assert "{" not in reading.reason
            assert reading.critical is (name in CRITICAL)


def slot(**changes: object) -> dict[str, object]:
    return {
        "slot_name": "engagement", "active": True, "wal_status": "reserved", "lag_bytes": 10, "retained_bytes": 20,
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    ("slots", "expected"),
    [
        ([slot()], HEALTHY),
        ([], UNHEALTHY),
        ([slot(active=False)], DEGRADED),
        ([slot(wal_status="lost", lag_bytes=None, active=False)], UNHEALTHY),
        ([slot(lag_bytes=2 << 30)], DEGRADED),
        ([slot(slot_name="another")], UNHEALTHY),
        ([slot(wal_status="lost", lag_bytes=None), slot(slot_name="another", lag_bytes=3 << 30)], UNHEALTHY),
        ([slot(), slot(slot_name="another", wal_status="lost", lag_bytes=2 << 30)], HEALTHY),
    ],
)
def test_a_slot_is_judged(slots: list[dict[str, object]], expected: HealthStatus) -> None:
    assert judge_slots(slots, "engagement").status is expected


@pytest.mark.parametrize("slots", [[], [slot(wal_status="lost", lag_bytes=None, active=False)]])
def test_a_slot_that_is_gone_is_told_with_where_the_way_back_is_written(slots: list[dict[str, object]]) -> None:
    assert "README, Troubleshooting" in judge_slots(slots, "engagement").reason


@pytest.mark.parametrize(
    ("connector", "tasks", "expected"),
    [
        ("RUNNING", ["RUNNING"], HEALTHY),
        ("RUNNING", ["FAILED"], UNHEALTHY),
        ("FAILED", [], UNHEALTHY),
        ("PAUSED", ["PAUSED"], DEGRADED),
        ("RUNNING", ["RESTARTING"], DEGRADED),
        ("RUNNING", [], DEGRADED),
    ],
)
def test_connectors_are_judged_by_their_worst_part(connector: str, tasks: list[str], expected: HealthStatus) -> None:
    parts = [{"state": state, "trace": "java.lang.Secret: hunter2"} for state in tasks]
    reading = judge_connector(
        {"engagement": {"status": {"connector": {"state": connector}, "tasks": parts}}}, "engagement"
    )
    assert reading.status is expected
    assert "hunter2" not in repr(reading)


@pytest.mark.parametrize(
    ("ours", "anothers", "expected"), [(None, "RUNNING", UNHEALTHY), ("RUNNING", "FAILED", HEALTHY)]
)
def test_only_our_own_connector_is_judged(ours: str | None, anothers: str, expected: HealthStatus) -> None:
    states = {"another": anothers} if ours is None else {"another": anothers, "engagement": ours}
    answer = {
        name: {"status": {"connector": {"state": state}, "tasks": [{"state": state}]}} for name, state in states.items()
    }
    assert judge_connector(answer, "engagement").status is expected


def test_connect_without_a_connector_and_kafka_without_topic_or_leader_are_unhealthy() -> None:
    assert judge_connector({}, "engagement").status is UNHEALTHY
    assert judge_topic([], 1).status is UNHEALTHY
    assert judge_topic([1, -1], 1).status is UNHEALTHY
    assert judge_topic([1, 1], 1).status is HEALTHY


def test_reasons_never_quote_the_error() -> None:
    error = OSError('connection to server at "10.1.2.3" failed: FATAL: password authentication failed for user "ann"')
    assert explain(error) == "login refused"
    assert explain(OSError("secret token 123")) == "failed (OSError)"
