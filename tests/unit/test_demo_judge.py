"""How an unattended demo is judged: on a clock and stores of the test's own."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from redis.exceptions import ConnectionError as RedisAwayError
from tests.unit.demo_clock import Alarm, Clock

from engagement.demo.judge import Judge
from engagement.demo.patience import Patience
from engagement.demo.versions import VersionComparison
from engagement.errors import TransientError, TransientSinkError
from engagement.settings import SettingsFiles, resolve

SQL = Path(__file__).resolve().parents[2] / "sql" / "reference"
BEGAN = 1_800_000_000
EQUAL, LACKING = VersionComparison(3, 0, 0, 0, 0), VersionComparison(2, 0, 1, 0, 0)
Totals = Mapping[str, int]
"""Number of `finish` events by content."""


class Rows:
    """What the judge asks of PostgreSQL."""

    def __init__(self, totals: Callable[[], Totals]) -> None:
        self.totals = totals

    def cursor(self, **_: object) -> "Rows":
        return self

    def __enter__(self) -> "Rows":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass

    def execute(self, _sql: str, _parameters: Mapping[str, object]) -> None:
        pass

    def fetchall(self) -> list[dict[str, object]]:
        return [{"content_id": content, "units": 300_000 * n, **counts(n)} for content, n in self.totals().items()]


class Board:
    """What it asks of Redis."""

    def __init__(self, clock: Clock, totals: Callable[[], Totals]) -> None:
        self.clock, self.totals = clock, totals
        self.asked: list[dict[str, int]] = []

    def time(self) -> tuple[int, int]:
        return BEGAN + int(self.clock.now), 0

    def zrange(self, *_: object, **__: object) -> list[tuple[str, float]]:
        return [(content, 3.0 * n) for content, n in self.totals().items()]

    def pipeline(self, **_: object) -> "Board":
        return self

    def hgetall(self, key: str) -> None:
        n = self.totals().get(key.removeprefix("content_stats:"), 0)
        self.asked.append({**counts(n), "engagement_seconds": 0} if n else {})

    def execute(self) -> list[dict[str, int]]:
        answers, self.asked = self.asked, []
        return answers


class Warehouse:
    """One that is away until a time, and has everything from another on."""

    def __init__(self, clock: Clock, rest: float = math.inf, away_until: float = 0.0) -> None:
        self.clock, self.rest, self.away_until = clock, rest, away_until

    def compare(self, *_: object, **__: object) -> VersionComparison:
        if self.clock.now < self.away_until:
            raise TransientSinkError("warehouse")
        return EQUAL if self.clock.now >= self.rest else LACKING


def counts(n: int) -> dict[str, int]:
    return {"events": n, "play": 0, "pause": 0, "finish": n, "click": 0, "duration_ms": 0}


class Court:
    """A judge, and the world it looks at; `wanted` are the rows of the window, `shown` what the board has."""

    def __init__(
        self, home: Path, wanted: Callable[[float], Totals], shown: Callable[[float], Totals],
        stop: float = math.inf, minutes: int = 10,
    ) -> None:  # fmt: skip
        self.clock, self.said = Clock(), list[str]()
        environment = {"REDIS_AGGREGATION_WINDOW_MINUTES": str(minutes), "LAKE_PATH": str(home / "lake")}
        stores: tuple[Any, Any] = (
            Rows(lambda: wanted(self.clock.now)), Board(self.clock, lambda: shown(self.clock.now)),
        )  # fmt: skip
        settings = resolve(environment, SettingsFiles(home)).settings
        patience = Patience(Alarm(self.clock, stop), self.clock)
        self.judge = Judge(lambda: stores[0], stores[1], settings, SQL, self.said.append, patience)


def full(_now: float) -> Totals:
    return {"a": 3, "b": 1}


def lacking(_now: float) -> Totals:
    return {"a": 2, "b": 1}


def until(seconds: float, totals: Callable[[float], Totals]) -> Callable[[float], Totals]:
    """So, and from then on as PostgreSQL has it."""
    return lambda now: totals(now) if now < seconds else full(now)


def away(error: Exception) -> Callable[[float], Totals]:
    def totals(_now: float) -> Totals:
        raise error

    return totals


def test_a_board_is_equal_as_soon_as_nothing_is_missing(tmp_path: Path) -> None:
    court = Court(tmp_path, full, until(40, lacking))
    found = court.judge.board_at_rest()
    assert found is not None
    assert (found.is_equal, found.contents, found.events, court.clock.now) == (True, 2, 4, 40)


def test_a_board_that_never_shows_a_row_has_lost_it(tmp_path: Path) -> None:
    court = Court(tmp_path, full, lacking)
    found = court.judge.board_at_rest()
    assert found is not None
    assert (found.is_equal, found.lost, found.doubled, court.clock.now) == (False, 1, 0, 91)
    assert any(line.startswith("  differs: a: score 6.0, events 2") for line in court.said)


def test_a_lost_row_that_leaves_the_window_after_a_quarter_of_it_was_lost_all_the_same(tmp_path: Path) -> None:
    court = Court(tmp_path, lambda now: full(now) if now < 40 else lacking(now), lacking, minutes=2)
    found = court.judge.board_at_rest()
    assert found is not None
    assert (found.is_equal, found.lost, court.clock.now) == (False, 1, 31)


def test_an_empty_board_is_never_equal(tmp_path: Path) -> None:
    court = Court(tmp_path, lambda _: {}, lambda _: {})
    found = court.judge.board_at_rest()
    assert found is not None
    assert (found.is_equal, found.lost, found.doubled) == (False, 0, 0)
    assert court.said == ["  the board is not at rest yet: an empty board proves nothing"]


def test_who_is_told_to_stop_waits_for_nothing_to_come_to_rest(tmp_path: Path) -> None:
    court = Court(tmp_path, full, lacking, stop=5.5)
    warehouse: Any = Warehouse(court.clock)
    court.judge.board_at_rest()
    assert court.clock.now == 5.5
    assert court.judge.lake_at_rest(0) is None
    assert court.judge.warehouse_at_rest(warehouse, 0) is None
    assert court.clock.now == 5.5


def test_a_judge_who_was_told_to_stop_before_has_compared_nothing(tmp_path: Path) -> None:
    court = Court(tmp_path, full, full, stop=0)
    assert (court.judge.board_at_rest(), court.said) == (None, [])


def test_a_table_is_looked_at_until_it_is_equal_or_patience_is_over(tmp_path: Path) -> None:
    court = Court(tmp_path, full, full)
    early: Any = Warehouse(court.clock, rest=30)
    assert (court.judge.warehouse_at_rest(early, 0), court.clock.now) == (EQUAL, 30)
    never: Any = Warehouse(court.clock)
    assert (court.judge.warehouse_at_rest(never, 0), court.clock.now) == (LACKING, 30 + 93)
    assert court.said.count(f"  the warehouse is not at rest yet: {LACKING}") == 2
    assert court.judge.lake_at_rest(0) is None
    assert court.said[-1] == "  the lake is not at rest yet: no rows"


def test_services_that_are_away_for_a_while_are_looked_at_again(tmp_path: Path) -> None:
    postgres = Court(tmp_path, until(20, away(psycopg2.OperationalError("it starts up\nDETAIL: soon"))), full)
    redis = Court(tmp_path, full, until(20, away(RedisAwayError("refused"))))
    for court, why in ((postgres, "it starts up"), (redis, "refused")):
        found = court.judge.board_at_rest()
        assert found is not None
        assert (found.is_equal, court.clock.now) == (True, 20)
        assert court.said == [f"  the board is not at rest yet: {why}"]


def test_a_board_that_could_never_be_compared_is_no_verdict(tmp_path: Path) -> None:
    court = Court(tmp_path, full, away(RedisAwayError("refused")))
    with pytest.raises(TransientError, match="could not be compared for 90 s: refused"):
        court.judge.board_at_rest()


def test_the_last_comparison_counts_where_the_board_could_not_be_looked_at_any_more(tmp_path: Path) -> None:
    court = Court(tmp_path, full, lambda now: lacking(now) if now < 10 else away(RedisAwayError("refused"))(now))
    found = court.judge.board_at_rest()
    assert found is not None
    assert (found.is_equal, found.lost) == (False, 1)


def test_a_warehouse_that_is_away_is_looked_at_again_and_is_no_table_where_it_stays_away(tmp_path: Path) -> None:
    court = Court(tmp_path, full, full)
    back: Any = Warehouse(court.clock, rest=0, away_until=30)
    assert (court.judge.warehouse_at_rest(back, 0), court.clock.now) == (EQUAL, 30)
    assert court.said == ["  the warehouse is not at rest yet: warehouse: is not available"]
    gone: Any = Warehouse(court.clock, away_until=math.inf)
    assert court.judge.warehouse_at_rest(gone, 0) is None


@pytest.mark.parametrize(("back", "answers"), [(20.0, True), (90.0, False)])
def test_a_question_is_asked_again_until_its_service_is_back_or_patience_is_over(back: float, answers: bool) -> None:
    clock = Clock()

    def ask() -> int:
        if clock.now < back:
            raise psycopg2.OperationalError
        return 7

    def asked() -> int:
        return Patience(Alarm(clock), clock).answer(ask, psycopg2.OperationalError, 60.0)

    if answers:
        assert (asked(), clock.now) == (7, 20.0)
    else:
        with pytest.raises(psycopg2.OperationalError):
            asked()
