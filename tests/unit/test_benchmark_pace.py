"""What a benchmark says of its load: what was asked for is written, and what came is counted."""

import doctest
from pathlib import Path

import pytest
from jobs.benchmark import usual_load

from engagement.benchmark import pace
from engagement.benchmark.pace import Pace
from engagement.settings import GenerationSettings, SettingsFiles, load_settings


class Table:
    """Rows that come while time passes."""

    newest, now = 0, 0.0

    def wait(self, seconds: float, rows: int) -> None:
        self.now += seconds
        self.newest += rows


def test_what_came_is_counted_over_all_turns_and_not_between_them() -> None:
    table = Table()
    measured = Pace(lambda: table.newest, lambda: table.now)
    assert measured.rows_per_second == 0.0
    for rows in (1_000, 0):
        table.wait(5, 7_000)
        with measured.measured():
            table.wait(10, rows)
    assert measured.rows_per_second == 50.0


@pytest.mark.parametrize("exported", [True, False])
def test_a_limit_that_somebody_has_set_for_the_generator_does_not_end_a_benchmarks_load(
    tmp_path: Path, exported: bool
) -> None:
    theirs = {"MAX_EVENTS_PER_DAY": "100000", "GENERATION_INTERVAL": "60", "EVENTS_PER_BATCH": "1"}
    (tmp_path / ".env").write_text("" if exported else "".join(f"{name}={value}\n" for name, value in theirs.items()))
    environment = {**(theirs if exported else {}), **usual_load()}
    assert load_settings(environment, SettingsFiles(tmp_path)).generation == GenerationSettings()


def test_a_ranking_of_another_extent_leaves_probes_their_place(tmp_path: Path) -> None:
    extent = {"REDIS_AGGREGATION_WINDOW_MINUTES": "5", "REDIS_AGGREGATION_TTL_SECONDS": "400"}
    theirs = {**extent, "REDIS_TOP_CONTENT_SIZE": "10"}
    files = SettingsFiles(tmp_path)
    assert load_settings(theirs, files).redis != load_settings({}, files).redis
    assert load_settings({**theirs, **usual_load()}, files).redis == load_settings({}, files).redis


def test_its_example() -> None:
    assert doctest.testmod(pace).failed == 0
