from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from jobs.generate import COMMAND

from engagement.command import main
from engagement.generator import ContentRow, EventRow, Generator, Mode, Progress, Request
from engagement.generator.plan import HISTORICAL_DAYS_AT_MOST
from engagement.generator.schedule import Clock
from engagement.generator.store import Batch, Stop, Written
from engagement.settings import Settings, SettingsFiles, load_settings

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()
DAY = 86_400


class World:
    """A clock that only waiting and writing move; asks to stop after `length` seconds."""

    def __init__(self, length: float = 1e9, start: float = NOON) -> None:
        self.now = start
        self.end = start + length

    def is_set(self) -> bool:
        return self.now >= self.end

    def wait(self, timeout: float) -> bool:
        self.now += max(timeout, 1e-6)
        return self.is_set()

    def clock(self) -> Clock:
        return Clock(wall=lambda: self.now, monotonic=lambda: self.now)


class MemoryStore:
    """A table in memory; a write takes `write_seconds` of the world's time."""

    def __init__(self, world: World, write_seconds: float = 0.001, before_today: int = 0) -> None:
        self.world = world
        self.write_seconds = write_seconds
        self.before_today = before_today
        self.interruptions = 0
        self.content: set[str] = set()
        self.rows: dict[int, EventRow] = {}
        self.commits: list[tuple[float, int]] = []
        self.touched: list[int] = []
        self.closed = False
        self._next_id = 1_000

    def open(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def add_content(self, catalogue: Sequence[ContentRow]) -> None:
        self.content |= {row.id for row in catalogue}

    def count_day(self, day: date) -> int:
        return self.before_today if day == datetime.fromtimestamp(self.world.now, UTC).date() else 0

    def write(self, batch: Batch, stop: Stop) -> Written | None:
        if stop.is_set():
            return None
        self.world.now += self.write_seconds
        ids = list(range(self._next_id, self._next_id + len(batch.rows)))
        self._next_id += len(ids) + 7  # another writer takes ids in between
        self.rows |= dict(zip(ids, batch.rows, strict=True))
        self.rows |= dict(batch.updates)
        for key in batch.deletes:
            del self.rows[key]
        self.touched += [key for key, _ in batch.updates] + list(batch.deletes)
        self.commits.append((self.world.now, len(ids)))
        return Written(ids, len(batch.updates), len(batch.deletes))


def settings(env: dict[str, str] | None = None) -> Settings:
    return load_settings(env or {}, SettingsFiles(Path("/nonexistent/project")))


def run(request: Request, world: World, store: MemoryStore, env: dict[str, str] | None = None) -> Progress:
    return Generator(settings(env), request, lambda _: None, store, world.clock()).run(world)


def test_live_traffic_is_even_and_keeps_its_rate() -> None:
    world = World(length=10)
    store = MemoryStore(world)
    progress = run(Request(rate=1_000, seed=1), world, store)
    per_tenth = Counter(int((at - NOON) * 10) for at, rows in store.commits for _ in range(rows))
    assert progress.inserted == len(store.rows)
    assert 9_900 <= progress.inserted <= 10_000
    assert max(rows for _, rows in store.commits) <= 100
    assert set(per_tenth.values()) <= set(range(40, 161))


def test_commits_that_take_longer_than_the_interval_carry_more_rows() -> None:
    world = World(length=10)
    store = MemoryStore(world, write_seconds=0.3)
    progress = run(Request(rate=1_000, seed=1), world, store)
    assert 9_300 <= progress.inserted <= 10_000


def test_without_a_rate_the_settings_decide() -> None:
    world = World(length=10)
    progress = run(Request(seed=1), world, MemoryStore(world), {"EVENTS_PER_BATCH": "30", "GENERATION_INTERVAL": "0.5"})
    assert 540 <= progress.inserted <= 600


@pytest.mark.parametrize(
    ("request_", "env", "length", "rows"),
    [
        (Request(seed=1), {"EVENTS_PER_BATCH": "10000", "GENERATION_INTERVAL": "1"}, 3.5, 30_000),
        (Request(rate=200, seed=1), {"GENERATION_INTERVAL": "60"}, 150, 24_000),
    ],
    ids=["large ticks", "rare ticks"],
)
def test_a_tick_that_brings_more_than_one_commit_takes_is_written_in_full(
    request_: Request, env: dict[str, str], length: float, rows: int
) -> None:
    world = World(length)
    store = MemoryStore(world)
    assert run(request_, world, store, env).inserted == pytest.approx(rows, rel=0.01)
    assert max(rows for _, rows in store.commits) <= 5_000


def test_a_duration_ends_the_run() -> None:
    world = World()
    run(Request(rate=100, seed=1, duration_seconds=4), world, MemoryStore(world))
    assert world.now == pytest.approx(NOON + 4, abs=0.1)


def test_a_run_that_is_stopped_disconnects_and_says_what_was_committed() -> None:
    world = World(length=1)
    store = MemoryStore(world)
    progress = run(Request(rate=500, seed=1), world, store)
    assert store.closed
    assert progress.inserted == len(store.rows)


def test_batch_mode_writes_so_many_rows_and_ends() -> None:
    world = World()
    store = MemoryStore(world)
    assert run(Request(mode="batch", batch_size=12_345, seed=1), world, store).inserted == 12_345
    assert all(row.event_ts.timestamp() <= world.now for row in store.rows.values())


def test_history_is_spread_evenly_over_its_days() -> None:
    world = World()
    store = MemoryStore(world)
    run(Request(mode="historical", historical_days=4, batch_size=8_000, seed=1), world, store)
    # Late events happened up to an hour before their row, so a few fall into the day before.
    per_day = Counter(int((row.event_ts.timestamp() - NOON) // DAY) for row in store.rows.values())
    assert all(1_900 < per_day[day] < 2_100 for day in range(-4, 0))


def test_history_has_rows_enough_for_reports_when_nobody_says_how_many() -> None:
    world = World()
    assert run(Request(mode="historical", historical_days=2, seed=1), world, MemoryStore(world)).inserted == 20_000


def test_the_longest_history_has_no_event_before_2000() -> None:
    world = World(start=datetime(2025, 1, 1, tzinfo=UTC).timestamp())
    store = MemoryStore(world)
    run(Request(mode="historical", historical_days=HISTORICAL_DAYS_AT_MOST, batch_size=5_000, seed=1), world, store)
    assert min(row.event_ts for row in store.rows.values()) >= datetime(2000, 1, 1, tzinfo=UTC)


def test_a_longer_history_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(COMMAND, ["--mode", "historical", "--historical-days", "9001"], env={}) == 2
    assert "must be at most 9000" in capsys.readouterr().err


def test_updates_and_deletes_come_in_the_shares_asked_for() -> None:
    world = World(length=20)
    store = MemoryStore(world)
    progress = run(Request(rate=1_000, seed=1, updates_pct=5, deletes_pct=0.5), world, store)
    assert progress.updated == pytest.approx(progress.inserted * 0.05, rel=0.02)
    assert progress.deleted == pytest.approx(progress.inserted * 0.005, rel=0.05)
    assert len(store.rows) == progress.inserted - progress.deleted


@pytest.mark.parametrize(("mode", "rows"), [("batch", 5_000), ("batch", 12_000), ("historical", 5_000)])
def test_a_run_with_an_end_makes_its_share_of_updates_and_deletes_too(mode: Mode, rows: int) -> None:
    world = World()
    store = MemoryStore(world)
    progress = run(Request(mode=mode, batch_size=rows, seed=1, updates_pct=5, deletes_pct=2), world, store)
    assert progress.inserted == rows
    assert progress.updated == pytest.approx(rows * 0.05, rel=0.02)
    assert progress.deleted == pytest.approx(rows * 0.02, rel=0.02)
    assert len(store.rows) == rows - progress.deleted


def test_a_run_that_deletes_all_its_rows_comes_to_an_end() -> None:
    world = World()
    store = MemoryStore(world)
    progress = run(Request(mode="batch", batch_size=3_000, seed=1, updates_pct=100, deletes_pct=100), world, store)
    assert (progress.updated, progress.deleted, len(store.rows)) == (3_000, 3_000, 0)


def test_the_same_seed_writes_the_same_rows() -> None:
    tables = []
    for _ in range(2):
        world = World()
        store = MemoryStore(world)
        run(Request(mode="batch", batch_size=11_000, seed=8, updates_pct=3, deletes_pct=1), world, store)
        tables.append(store.rows)
    assert tables[0] == tables[1]


def test_a_slower_machine_writes_the_same_batch_but_for_its_times() -> None:
    tables = []
    for write_seconds in (0.001, 10.0):
        world = World()
        store = MemoryStore(world, write_seconds)
        run(Request(mode="batch", batch_size=22_000, seed=8, updates_pct=3, deletes_pct=1), world, store)
        tables.append({key: [*row[:3], *row[4:]] for key, row in store.rows.items()})
    assert tables[0] == tables[1]


def test_every_event_names_a_content_of_the_catalogue_or_none() -> None:
    world = World()
    store = MemoryStore(world)
    run(Request(mode="batch", batch_size=2_000, seed=1), world, store)
    assert {row.content_id for row in store.rows.values()} - {None} <= store.content


def test_a_batch_writes_no_more_than_the_day_still_takes() -> None:
    world = World()
    store = MemoryStore(world, before_today=700)
    progress = run(Request(mode="batch", batch_size=5_000, seed=1), world, store, {"MAX_EVENTS_PER_DAY": "1000"})
    assert progress.inserted == 300


def test_live_traffic_waits_for_the_next_day_when_the_day_is_full() -> None:
    world = World(length=DAY)
    store = MemoryStore(world)
    run(Request(rate=100, seed=1), world, store, {"MAX_EVENTS_PER_DAY": "1000"})
    per_day = Counter(int((at - NOON + DAY / 2) // DAY) for at, rows in store.commits for _ in range(rows))
    assert per_day == {0: 1_000, 1: 1_000}


def test_the_day_after_a_full_one_begins_at_the_usual_pace() -> None:
    world = World(length=DAY)
    store = MemoryStore(world)
    run(Request(rate=100, seed=1), world, store, {"MAX_EVENTS_PER_DAY": "1000"})
    assert max(rows for _, rows in store.commits) <= 10


def test_history_keeps_to_the_limit_of_its_days() -> None:
    world = World()
    request = Request(mode="historical", historical_days=3, batch_size=9_000, seed=1)
    assert run(request, world, MemoryStore(world), {"MAX_EVENTS_PER_DAY": "1000"}).inserted == 3_000


def test_progress_is_reported_every_few_seconds() -> None:
    world = World(length=21)
    reports: list[Progress] = []
    Generator(settings(), Request(rate=100, seed=1), reports.append, MemoryStore(world), world.clock()).run(world)
    assert [round(one.seconds) for one in reports] == [5, 10, 15, 20]
    assert str(reports[0]).startswith("500 inserted, 0 updated, 0 deleted in 5.")
