"""The demo's probe: when it commits which content, on a clock and stores of the test's own."""

import argparse
import threading
from pathlib import Path
from typing import Any

import pytest
from jobs.demo import run

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

    def execute(self, _sql: str, parameters: tuple[str]) -> None:
        self.rows += parameters

    def fetchone(self) -> tuple[int]:
        return (len(self.rows),)

    def commit(self) -> None:
        pass


def probe_of(ranking: Ranking) -> FreshnessProbe:
    client: Any = ranking
    return FreshnessProbe(lambda: None, client, "top", 0.2, lambda: 0.0)  # type: ignore[arg-type, return-value]


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
