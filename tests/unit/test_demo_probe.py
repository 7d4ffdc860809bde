"""The demo's probe: when it commits which content, on a clock and stores of the test's own."""

import argparse
import math
import threading
from pathlib import Path
from typing import Any

import pytest
from jobs.demo import run
from redis.exceptions import ConnectionError as RedisAwayError
from tests.unit.demo_clock import Alarm, Clock

from engagement.command import Context
from engagement.demo.probe import FreshnessProbe, check_ranking_size, probe_interval
from engagement.errors import ConfigError
from engagement.settings import RedisSettings, SettingsFiles, resolve

CONTENTS = ["a", "b", "c", "d"]


class Ranking:
    """What the probe asks of Redis."""

    def __init__(self, *ranked: str) -> None:
        self.ranked = set(ranked)

    def zmscore(self, _key: str, contents: list[str]) -> list[float | None]:
        return [1.0 if content in self.ranked else None for content in contents]


class Database:
    """What it asks of PostgreSQL: rows, and the ids that they get."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    def cursor(self) -> "Database":
        return self

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def connection(self) -> "Database":
        return self

    encoding = "UTF8"

    def mogrify(self, _template: str, _row: tuple[str, ...]) -> bytes:
        return b""

    def execute(self, _sql: str | bytes, parameters: tuple[str, ...] = ()) -> None:
        self.rows += parameters

    def fetchone(self) -> tuple[int]:
        return (len(self.rows),)

    def commit(self) -> None:
        pass

    def close(self) -> None:
        pass


class StuckRanking(Ranking):
    """Shows what was committed from a time on, and what it holds is away from another on."""

    def __init__(self, clock: Clock, database: Database, shows: float, away: float = math.inf) -> None:
        super().__init__()
        self.clock, self.database, self.shows, self.away = clock, database, shows, away

    def zmscore(self, key: str, contents: list[str]) -> list[float | None]:
        if self.clock.now >= self.away:
            raise RedisAwayError
        self.ranked = set(self.database.rows) if self.clock.now >= self.shows else set()
        return super().zmscore(key, contents)


def probe_of(ranking: Ranking) -> FreshnessProbe:
    client: Any = ranking
    return FreshnessProbe(lambda: None, client, "top", 0.2, lambda: 0.0)  # type: ignore[arg-type, return-value]


def run_for_a_second(
    shows: float, leave: float = math.inf, away: float = math.inf
) -> tuple[FreshnessProbe, Database, float]:
    """Probe from 0 s to 1 s, every 0.2 s; also the time at which it ended."""
    clock, database = Clock(), Database()
    stores: tuple[Any, Any] = database, StuckRanking(clock, database, shows, away)
    probe = FreshnessProbe(lambda: stores[0], stores[1], "top", 0.2, clock)
    probe.run(Alarm(clock, 1.0), Alarm(clock, leave))
    return probe, database, clock.now


def test_contents_that_an_earlier_demo_left_on_the_ranking_are_passed_over_at_once() -> None:
    database: Any = Database()
    turn = probe_of(Ranking("a", "b"))._commit_next(database, CONTENTS, 0)
    assert (database.rows, turn) == (["c"], 3)


def test_each_turn_takes_another_content_and_none_that_is_on_its_way() -> None:
    database, ranking = Database(), Ranking()
    probe, turn = probe_of(ranking), 0
    for _ in range(6):
        turn = probe._commit_next(database, CONTENTS, turn)  # type: ignore[arg-type]
    assert database.rows == CONTENTS


def test_where_every_content_is_ranked_nothing_is_committed_until_one_has_left() -> None:
    database, ranking = Database(), Ranking(*CONTENTS)
    probe = probe_of(ranking)
    turn = probe._commit_next(database, CONTENTS, 1)  # type: ignore[arg-type]
    assert (database.rows, turn) == ([], 1)
    ranking.ranked.discard("a")
    assert probe._commit_next(database, CONTENTS, turn) == 5  # type: ignore[arg-type]
    assert database.rows == ["a"]
    assert probe.missed == 1, "the turn that found none"


def test_probes_that_are_on_their_way_at_the_end_are_waited_for_and_no_more_begin() -> None:
    probe, database, ended = run_for_a_second(shows=30.0)
    seen = probe.freshness()
    assert seen is not None
    assert (seen.samples, probe.missed, len(database.rows)) == (5, 0, 5)
    assert seen.max_ms == pytest.approx(30_000, abs=50)
    assert ended == pytest.approx(30.0, abs=0.05)


def test_probes_that_a_stuck_ranking_never_shows_are_missed_a_minute_after_their_commit() -> None:
    probe, _, ended = run_for_a_second(shows=math.inf)
    assert (probe.freshness(), probe.missed) == (None, 5)
    assert probe.samples() == [60.0] * 5, "what a benchmark compares"
    assert ended == pytest.approx(60.8, abs=0.05)


def test_who_is_told_to_leave_waits_for_no_probe() -> None:
    probe, _, ended = run_for_a_second(shows=math.inf, leave=2.0)
    assert (probe.missed, ended) == (0, 2.0)


def test_probes_on_their_way_when_redis_goes_away_at_the_end_are_missed() -> None:
    probe, _, ended = run_for_a_second(shows=math.inf, away=3.0)
    assert (probe.freshness(), probe.missed) == (None, 5)
    assert ended == pytest.approx(3.0, abs=1.05)


@pytest.mark.parametrize("shows", [True, False])
def test_what_was_on_its_way_counts_after_a_phase_and_not_after_the_warm_up(shows: bool) -> None:
    for begin, samples in ((FreshnessProbe.forget, 1), (FreshnessProbe.take, 2)):
        clock, ranking, database = Clock(), Ranking(), Database()
        stores: tuple[Any, Any] = database, ranking
        probe = FreshnessProbe(lambda stores=stores: stores[0], stores[1], "top", 0.2, clock)  # type: ignore[misc]
        turn = probe._commit_next(stores[0], CONTENTS, 0)
        clock.now = 10.0
        begin(probe)
        probe._commit_next(stores[0], CONTENTS, turn)
        clock.now = 11.0 if shows else 71.0
        ranking.ranked |= set(database.rows) if shows else set()
        probe._look()
        assert sorted(probe.samples()) == ([1.0, 11.0] if shows else [60.0, 60.0])[:samples]
        assert probe.missed == (0 if shows else samples)


def test_the_last_probes_are_waited_for_until_a_minute_is_over_or_somebody_says_stop() -> None:
    clock = Clock()
    probe = FreshnessProbe(lambda: None, Ranking(), "top", 0.2, clock)  # type: ignore[arg-type, return-value]
    probe.await_last(Alarm(clock, 5.0))
    assert clock.now == 5.0
    probe.await_last(Alarm(clock))
    assert clock.now == pytest.approx(75.0, abs=0.2)
    probe, _, _ = run_for_a_second(shows=30.0)
    probe.await_last(Alarm(clock))
    assert clock.now == pytest.approx(75.0, abs=0.2), "it had ended"


@pytest.mark.parametrize("minutes", [1, 10, 60, 1440])
def test_the_contents_last_for_longer_than_any_window_and_the_probes_for_no_more_than_five_a_second(
    minutes: int,
) -> None:
    probes_of_a_window = minutes * 60 / probe_interval(minutes * 60)
    assert probes_of_a_window < 4_000
    assert probe_interval(minutes * 60) >= 0.2


def test_the_usual_ranking_holds_the_test_data_and_all_probes() -> None:
    check_ranking_size(RedisSettings().top_size)


def test_a_ranking_that_would_cut_off_contents_is_refused_before_anything_starts(tmp_path: Path) -> None:
    files, environment = SettingsFiles(tmp_path), {"REDIS_TOP_CONTENT_SIZE": "8999"}
    found = resolve(environment, files)
    asked = argparse.Namespace(report=None, duration=1.0, rate=1)
    context = Context(asked, found.settings, threading.Event(), (), files, environment, found.origins)
    with pytest.raises(ConfigError, match="is 8999: demo needs at least 9000"):
        run(context)
    assert list(tmp_path.iterdir()) == []
