"""The keeper's steps, one by one, with a clock of its own and real Redis."""

from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import pytest
import redis
from tests.contract.redis_support import IDENTITY, START, Event, Origin, Row, image, write
from tests.contract.redis_topic import Observer

from engagement.errors import TransientError
from engagement.sinks.redis import keys
from engagement.sinks.redis.board import Rebuild, RedisBoard
from engagement.sinks.redis.client import RedisOptions, connect
from engagement.sinks.redis.faults import WENT_BACK, ShardLostError
from engagement.sinks.redis.keeper import QUIET_SECONDS, RECOUNT_DUE, TICK_SECONDS, RedisKeeper
from engagement.sinks.redis.places import Places
from engagement.sinks.redis.publisher import Publisher
from engagement.sinks.redis.reader import EngagementReader
from engagement.sinks.redis.reporting import Unpublished
from engagement.sinks.redis.writer import WritePlan

pytestmark = pytest.mark.redis
LOG: list[list[Row]] = [[image(Event(i), Origin(lsn=100 + i))] for i in range(1, 6)]


@dataclass
class Rig:
    """A keeper over one shard whose rebuild counts LOG again."""

    board: RedisBoard
    reasons: list[str] = field(default_factory=list)
    failing: int = 0
    places: Places = field(default_factory=Places)
    observer: Observer = field(default_factory=Observer)

    def __post_init__(self) -> None:
        self.unpublished = Unpublished(self.observer)
        publisher, places = Publisher(self.board.client, self.board.options), self.places
        self.keeper = RedisKeeper(self.board, publisher, self.begin, places, self.unpublished, lambda: float(START))

    def begin(self, reason: str) -> "Future[None]":
        """At once, and to its end."""
        future = Future[None]()
        try:
            self.rebuild(reason)
        except TransientError as error:
            future.set_exception(error)
        else:
            future.set_result(None)
        return future

    def rebuild(self, reason: str) -> None:
        self.reasons.append(reason)
        if self.failing:
            self.failing -= 1
            raise TransientError("Kafka is away")
        begun = self.board.begin_rebuild({0: 0}, "topic", START)
        plan = WritePlan({}, IDENTITY, now=START, rebuild=True, generations=begun.generations)
        write(self.board.client, self.board.options, 0, LOG, plan=plan).raise_problem()
        self.board.finish_rebuild(begun)

    def fence(self) -> dict[int, int]:
        return {partition: state.next_offset for partition, state in self.board.states([0], "topic").items()}

    def unpublish(self) -> None:
        self.board.client.delete(self.board.options.top_key)

    @property
    def shown(self) -> list[float]:
        return [line.score for line in EngagementReader(self.board.client).get_top_content()]


@dataclass
class SlowRig(Rig):
    """One of several drivers, whose rebuild takes its time."""

    seconds: float = 8.0
    now: float = 0.0
    since: float = 0.0
    begun: Rebuild | None = None
    finished: int = 0

    def begin(self, reason: str) -> "Future[None]":
        self.reasons.append(reason)
        self.begun, self.since, self.ended = self.board.begin_rebuild({0: 0}, "topic", START), self.now, Future[None]()
        return self.ended

    def step(self, now: float) -> None:
        self.now = now
        if self.begun is not None:
            self._go_on(self.begun)
        self.keeper.step(now)

    def _go_on(self, begun: Rebuild) -> None:
        if not self.board.client.exists(keys.generation_key(0, begun.generations[0], "fence")):
            self.ended.set_exception(ShardLostError(0, "missing"))
        elif self.now - self.since < self.seconds:
            return
        else:
            self.board.finish_rebuild(begun)
            self.ended.set_result(None)
            self.finished += 1
        self.begun = None


def test_two_drivers_do_not_drop_each_others_rebuilds_for_ever(rig: Rig) -> None:
    drivers = [SlowRig(rig.board), SlowRig(rig.board)]
    for driver in drivers:
        driver.keeper.request_rebuild("length of 1 content(s) changed")
    for second in range(200):
        drivers[second % 2].step(100.0 + second)
    assert [driver.finished for driver in drivers] == [1, 1]
    assert all(len(driver.reasons) > 1 for driver in drivers)


@pytest.fixture
def rig(redis_client: redis.Redis, redis_options: RedisOptions) -> Rig:
    made = Rig(RedisBoard(redis_client, redis_options))
    made.board.open()
    made.rebuild("first")
    return made


def test_ranking_is_published_after_a_wake_and_else_once_a_second(rig: Rig) -> None:
    soon, after = 100.0 + QUIET_SECONDS / 2, 100.01 + QUIET_SECONDS
    rig.keeper.step(100.0)
    assert rig.shown == [5.0]
    rig.unpublish()
    rig.keeper.wake()
    assert 0 < rig.keeper.step(soon) <= QUIET_SECONDS
    assert rig.shown == []
    rig.keeper.step(after)
    assert rig.shown == [5.0]
    rig.unpublish()
    rig.keeper.step(100.9)
    assert rig.shown == []
    rig.keeper.step(after + TICK_SECONDS)
    assert rig.shown == [5.0]


def test_what_was_written_is_told_when_the_ranking_shows_it(rig: Rig) -> None:
    rig.unpublished.add({1000: 2})
    rig.unpublished.add({})
    rig.keeper.step(100.0)
    assert rig.observer.visible_times == [{1000: 2}]
    rig.unpublished.add({2000: 1})
    rig.keeper.step(100.0 + QUIET_SECONDS / 2)
    assert rig.observer.visible_times == [{1000: 2}]
    rig.keeper.step(100.0 + TICK_SECONDS)
    assert rig.observer.visible_times == [{1000: 2}, {2000: 1}]


def test_emptied_redis_is_rebuilt_once_and_shown_again(rig: Rig, redis_client: redis.Redis) -> None:
    rig.keeper.step(100.0)
    redis_client.flushall()
    now = 101.1
    for _ in range(8):
        now += max(0.05, rig.keeper.step(now))
    assert rig.reasons == ["first", "shard 0: missing"]
    assert rig.shown == [5.0]
    assert rig.fence() == {0: len(LOG)}


def test_first_start_on_an_empty_redis_rebuilds(redis_client: redis.Redis, redis_options: RedisOptions) -> None:
    rig = Rig(RedisBoard(redis_client, redis_options))
    rig.keeper.step(100.0)
    rig.keeper.request_rebuild(ShardLostError(0, "missing"))
    for now in (100.3, 100.6, 100.9, 102.0):
        rig.keeper.step(now)
    assert rig.reasons == ["shard 0: missing"]
    assert rig.shown == [5.0]


def test_failed_rebuild_is_told_and_tried_again_after_a_pause(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.keeper.step(100.0)
    rig.failing = 1
    rig.keeper.request_rebuild("snapshot rows")
    rig.keeper.step(100.1)
    rig.keeper.step(100.2)
    assert rig.reasons == ["first", "snapshot rows"]
    assert "Kafka is away" in caplog.text
    for now in (106.0, 106.1, 120.0, 140.0):
        rig.keeper.step(now)
    assert rig.reasons == ["first", "snapshot rows", "snapshot rows"]


def test_a_recount_that_is_due_is_remembered_beside_the_fence(rig: Rig) -> None:
    more = [*LOG, [image(Event(9), Origin("r"))]]
    write(rig.board.client, rig.board.options, 0, more, span=(5, 6)).raise_problem()  # and the driver dies
    assert rig.board.shard(0).state().recount_due
    later = Rig(rig.board)
    now = 100.0
    for _ in range(6):
        now += max(0.05, later.keeper.step(now))
    assert later.reasons == [RECOUNT_DUE]
    assert not rig.board.shard(0).state().recount_due


def test_redis_that_went_back_in_time_is_counted_again_once(rig: Rig, redis_client: redis.Redis) -> None:
    rig.keeper.step(100.0)
    old = {key: redis_client.dump(key) or b"" for key in redis_client.scan_iter("engagement:{p0}:*", count=1000)}
    more = [*LOG, *LOG]
    write(redis_client, rig.board.options, 0, more, span=(5, 10)).raise_problem()
    rig.keeper.step(101.1)
    for key, value in old.items():
        redis_client.restore(key, 0, value, replace=True)
    now = 102.2
    for _ in range(8):
        now += max(0.5, rig.keeper.step(now))
    assert rig.reasons == ["first", f"shard 0: {WENT_BACK}"]


def test_totals_that_do_not_match_their_buckets_are_rebuilt(rig: Rig, redis_client: redis.Redis) -> None:
    generation = rig.board.shard(0).state().generation
    redis_client.hdel(keys.generation_key(0, generation, "totals"), "a")
    now = 100.0
    for _ in range(6):
        now += max(0.05, rig.keeper.step(now))
    assert rig.reasons == ["first", "recount of shard 0 differs"]
    assert rig.shown == [5.0]


def test_redis_away_is_tried_again_ever_more_slowly_and_nothing_is_counted_meanwhile(
    redis_options: RedisOptions, tmp_path_factory: pytest.TempPathFactory
) -> None:
    nowhere = replace(redis_options, url=f"unix://{tmp_path_factory.mktemp('no')}/redis.sock")
    with connect(nowhere) as client:
        rig = Rig(RedisBoard(client, nowhere))
        pauses = [rig.keeper.step(now) for now in (100.0, 101.0, 102.0, 104.0, 110.0)]
        assert pauses == sorted(set(pauses))
        rig.keeper.request_rebuild("snapshot rows")
        rig.keeper.step(120.0)
        assert (rig.reasons, rig.keeper.failure) == ([], None)


def test_lost_shards_are_named_with_the_reason(rig: Rig, redis_client: redis.Redis) -> None:
    assert rig.fence() == {0: len(LOG)}
    with pytest.raises(ShardLostError, match="topic"):
        rig.board.states([0], "another")
    redis_client.delete(keys.current(0))
    redis_client.set(keys.shards(), "not ours")
    with pytest.raises(ShardLostError, match="missing"):
        rig.fence()


def test_rebuild_that_another_one_overtook_is_told(rig: Rig) -> None:
    first = rig.board.begin_rebuild({0: 0}, "topic", START)
    second = rig.board.begin_rebuild({0: 0}, "topic", START)
    with pytest.raises(TransientError):
        rig.board.finish_rebuild(first)
    rig.board.shard(0).drop(second.generations[0])
    with pytest.raises(TransientError):
        rig.board.finish_rebuild(second)
    assert rig.fence() == {0: len(LOG)}
