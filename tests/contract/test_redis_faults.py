"""Loss, damage and rivals: what a shard refuses, and that nothing is half done."""

from dataclasses import replace

import pytest
import redis
from tests.contract.redis_support import (
    IDENTITY,
    NOT_RECENT,
    START,
    WINDOW,
    Event,
    Origin,
    Row,
    image,
    start_board,
    to_batch,
    write,
)
from tests.contract.redis_topic import catalogue

from engagement.errors import ContractError, TransientSinkError
from engagement.sinks.redis import keys
from engagement.sinks.redis.client import RedisOptions
from engagement.sinks.redis.delta import Delta, Header
from engagement.sinks.redis.faults import FenceBehindError, OvertakenError, ShardLostError
from engagement.sinks.redis.meta import MetaWriter
from engagement.sinks.redis.publisher import Publisher
from engagement.sinks.redis.reader import EngagementReader
from engagement.sinks.redis.shard import Shard
from engagement.sinks.redis.writer import PartitionWriter, WritePlan

pytestmark = pytest.mark.redis
PLAN = WritePlan({}, IDENTITY, now=START)


def inserts(count: int, content_id: str = "a") -> list[list[Row]]:
    return [[image(Event(i + 1, content_id), Origin(lsn=100 + i))] for i in range(count)]


def dump(client: redis.Redis) -> dict[bytes, bytes | None]:
    return {key: client.dump(key) for key in client.scan_iter(count=1000)}


def events(client: redis.Redis, options: RedisOptions, content: str = "a", now: float = START) -> int:
    publisher = Publisher(client, options)
    publisher.publish([0], now)
    publisher.publish_stats()
    stats = EngagementReader(client).get_content_stats(content)
    return stats.events if stats else 0


def test_range_below_the_fence_changes_nothing(redis_client: redis.Redis, redis_options: RedisOptions) -> None:
    start_board(redis_client, 1, START)
    log = inserts(10)
    write(redis_client, redis_options, 0, log)
    before = dump(redis_client)
    again = write(redis_client, redis_options, 0, log)
    assert (again.summary.already_delivered, again.summary.delivered) == (10, 0)
    assert dump(redis_client) == before


def test_second_writer_with_an_old_state_drops_what_the_first_wrote(
    redis_client: redis.Redis, redis_options: RedisOptions
) -> None:
    start_board(redis_client, 1, START)
    shard, log = Shard(redis_client, 0), inserts(10)
    stale = shard.state()
    write(redis_client, redis_options, 0, log, span=(0, 6))
    with pytest.raises(OvertakenError):
        shard.apply(Delta().pack(Header(stale.generation, 0, 10, "topic", IDENTITY, now=START)))
    summary = write(redis_client, redis_options, 0, log)
    assert (summary.summary.already_delivered, summary.summary.delivered) == (6, 4)
    assert events(redis_client, redis_options) == 10


def test_writer_whose_generation_was_swapped_out_is_overtaken_and_not_lost(redis_client: redis.Redis) -> None:
    start_board(redis_client, 1, START)
    shard = Shard(redis_client, 0)
    stale = shard.state()
    shard.swap(*shard.new_generation(0, "topic", WINDOW, START))
    before = dump(redis_client)
    with pytest.raises(OvertakenError):
        shard.apply(Delta().pack(Header(stale.generation, 0, 10, "topic", IDENTITY, now=START)))
    redis_client.delete(keys.current(0))
    with pytest.raises(ShardLostError, match="missing"):
        shard.apply(Delta().pack(Header(stale.generation, 0, 10, "topic", IDENTITY, now=START)))
    assert dump(redis_client).items() < before.items()


def test_fence_behind_the_range_is_told_before_anything_is_written(
    redis_client: redis.Redis, redis_options: RedisOptions
) -> None:
    start_board(redis_client, 1, START)
    log = inserts(10)
    write(redis_client, redis_options, 0, log, span=(0, 4))
    before = dump(redis_client)
    with pytest.raises(FenceBehindError) as told:
        write(redis_client, redis_options, 0, log, span=(7, 10)).raise_problem()
    assert told.value.next_offset == 4
    assert dump(redis_client) == before


def test_emptied_redis_is_a_lost_shard(redis_client: redis.Redis, redis_options: RedisOptions) -> None:
    start_board(redis_client, 1, START)
    redis_client.flushall()
    with pytest.raises(ShardLostError, match="missing"):
        write(redis_client, redis_options, 0, inserts(1)).raise_problem()
    with pytest.raises(ShardLostError, match="missing"):
        Publisher(redis_client, redis_options).publish([0], START)
    assert dump(redis_client) == {}


def test_generation_is_never_used_twice_even_after_the_data_was_lost(redis_client: redis.Redis) -> None:
    start_board(redis_client, 1, START)
    first = Shard(redis_client, 0).state().generation
    redis_client.flushall()
    start_board(redis_client, 1, START)
    assert Shard(redis_client, 0).state().generation != first


@pytest.mark.parametrize("part", ["fence", "buckets", "totals", "changed", "refused", "bucket:180000000"])
def test_key_of_a_wrong_type_is_a_lost_shard_and_a_rebuild_heals_it(
    redis_client: redis.Redis, redis_options: RedisOptions, part: str
) -> None:
    start_board(redis_client, 1, START)
    shard = Shard(redis_client, 0)
    key = keys.generation_key(0, shard.state().generation, part)
    redis_client.delete(key)
    redis_client.set(key, "not ours")
    before = dump(redis_client)
    with pytest.raises(ShardLostError, match="wrongtype"):
        write(redis_client, redis_options, 0, inserts(1), plan=replace(PLAN, recent_from=NOT_RECENT)).raise_problem()
    assert dump(redis_client) == before
    shard.swap(*shard.new_generation(0, "topic", 600, START))
    write(redis_client, redis_options, 0, inserts(3)).raise_problem()
    assert events(redis_client, redis_options) == 3


def test_damaged_value_is_a_lost_shard_and_nothing_is_half_done(
    redis_client: redis.Redis, redis_options: RedisOptions
) -> None:
    start_board(redis_client, 1, START)
    write(redis_client, redis_options, 0, inserts(3))
    totals = keys.generation_key(0, Shard(redis_client, 0).state().generation, "totals")
    redis_client.hset(totals, "a", b"\xc1 damaged")
    before = dump(redis_client)
    plan = replace(PLAN, recent_from=NOT_RECENT)
    with pytest.raises(ShardLostError, match="broken"):
        write(redis_client, redis_options, 0, inserts(6), plan=plan).raise_problem()
    assert dump(redis_client) == before


def test_pointer_of_a_wrong_type_is_replaced_by_a_rebuild(redis_client: redis.Redis) -> None:
    start_board(redis_client, 1, START)
    redis_client.delete(keys.current(0))
    redis_client.lpush(keys.current(0), "x")
    shard = Shard(redis_client, 0)
    with pytest.raises(ShardLostError, match="wrongtype"):
        shard.state()
    shard.swap(*shard.new_generation(7, "topic", 600, START))
    assert shard.state().next_offset == 7


def test_public_keys_of_a_wrong_type_are_replaced(redis_client: redis.Redis, redis_options: RedisOptions) -> None:
    start_board(redis_client, 1, START)
    write(redis_client, redis_options, 0, inserts(2))
    redis_client.delete(keys.recent_events("a"))
    for key in (*keys.ranking_keys("top_content_last_10min"), keys.content_stats("a"), keys.recent_events("a")):
        redis_client.set(key, "not ours")
    write(redis_client, redis_options, 0, inserts(3))
    redis_client.set(keys.content_meta("a"), "not ours")
    MetaWriter().write(redis_client, catalogue("a"))
    assert events(redis_client, redis_options) == 3
    reader = EngagementReader(redis_client)
    assert [(line.title, line.content_type) for line in reader.get_top_content()] == [("Title", "podcast")]
    assert [entry["event_id"] for entry in reader.get_recent_events("a")] == ["3"]


def test_statistics_of_what_left_the_window_while_nobody_published_are_deleted(
    redis_client: redis.Redis, redis_options: RedisOptions
) -> None:
    start_board(redis_client, 1, START)
    write(redis_client, redis_options, 0, [[image(Event(), Origin())]]).raise_problem()
    publish(Publisher(redis_client, redis_options), START)
    assert redis_client.exists(keys.content_stats("a"))
    publish(Publisher(redis_client, redis_options), START + WINDOW + 10)
    assert not redis_client.exists(keys.content_stats("a"))
    assert not redis_client.smembers(keys.contents_with_stats())


def publish(publisher: Publisher, now: float) -> None:
    publisher.publish([0], now)
    while publisher.publish_stats():
        pass


def test_forgotten_scripts_are_loaded_again(redis_client: redis.Redis, redis_options: RedisOptions) -> None:
    start_board(redis_client, 1, START)
    redis_client.script_flush()
    write(redis_client, redis_options, 0, inserts(3)).raise_problem()
    redis_client.script_flush()
    assert events(redis_client, redis_options) == 3


def test_full_redis_takes_all_of_a_range_or_nothing(redis_client: redis.Redis, redis_options: RedisOptions) -> None:
    start_board(redis_client, 1, START)
    write(redis_client, redis_options, 0, inserts(3))
    log = inserts(500)
    before = dump(redis_client)
    redis_client.config_set("maxmemory", 1)
    with pytest.raises(TransientSinkError, match="out of memory"):
        write(redis_client, redis_options, 0, log).raise_problem()
    assert dump(redis_client) == before
    Shard(redis_client, 0).tick(now=START + 3600)  # time goes on: it frees memory
    redis_client.config_set("maxmemory", 0)
    write(redis_client, redis_options, 0, log, plan=replace(PLAN, now=START + 3600)).raise_problem()
    assert Shard(redis_client, 0).recount(0, 1000)[2] == 0


def test_clock_that_goes_back_is_a_lost_shard(redis_client: redis.Redis, redis_options: RedisOptions) -> None:
    start_board(redis_client, 1, START)
    Shard(redis_client, 0).tick(now=START + 3600)
    before = dump(redis_client)
    with pytest.raises(ShardLostError, match="clock_back"):
        Shard(redis_client, 0).tick(now=START)
    with pytest.raises(ShardLostError, match="clock_back"):
        write(redis_client, redis_options, 0, inserts(1), plan=replace(PLAN, recent_from=NOT_RECENT)).raise_problem()
    assert dump(redis_client) == before


def test_clock_that_steps_back_a_little_waits(redis_client: redis.Redis) -> None:
    start_board(redis_client, 1, START)
    shard = Shard(redis_client, 0)
    assert shard.tick(now=START + 12).window_end == START + 20
    assert shard.tick(now=START + 9).window_end == START + 20


def test_recreated_topic_and_changed_window_are_lost_shards(
    redis_client: redis.Redis, redis_options: RedisOptions
) -> None:
    start_board(redis_client, 1, START)
    with pytest.raises(ShardLostError, match="topic"):
        write(redis_client, redis_options, 0, inserts(1), plan=replace(PLAN, topic_id="other")).raise_problem()
    with pytest.raises(ShardLostError, match="window_length"):
        write(redis_client, replace(redis_options, window_seconds=60), 0, inserts(1)).raise_problem()


def test_unknown_content_holds_back_the_whole_partition(redis_client: redis.Redis, redis_options: RedisOptions) -> None:
    start_board(redis_client, 1, START)
    log = inserts(3)
    log[1][0]["flags"] = ["over_100", "content_missing"]
    before = dump(redis_client)
    summary = write(redis_client, redis_options, 0, log)
    assert summary.summary.unknown_content == {"a"}
    assert dump(redis_client) == before
    write(redis_client, redis_options, 0, log, plan=replace(PLAN, final=True)).raise_problem()
    assert events(redis_client, redis_options) == 3


def test_range_without_rows_moves_the_fence(redis_client: redis.Redis, redis_options: RedisOptions) -> None:
    start_board(redis_client, 1, START)
    write(redis_client, redis_options, 0, [], span=(0, 5)).raise_problem()
    assert Shard(redis_client, 0).state().next_offset == 5


def test_rows_outside_the_planned_range_are_refused(redis_client: redis.Redis, redis_options: RedisOptions) -> None:
    start_board(redis_client, 1, START)
    writer = PartitionWriter(redis_client, redis_options, replace(PLAN, ranges={0: (0, 3)}), 0)
    with pytest.raises(ContractError):
        writer.write([to_batch(enumerate(inserts(4)))])


def test_snapshot_rows_of_the_window_ask_for_a_rebuild(redis_client: redis.Redis, redis_options: RedisOptions) -> None:
    start_board(redis_client, 1, START)
    log = [[image(Event(1), Origin("r"))], [image(Event(2, event_us=(START - 5000) * 1_000_000), Origin("r"))]]
    summary = write(redis_client, redis_options, 0, log)
    assert (summary.snapshots, summary.summary.late, summary.summary.delivered) == (1, 1, 2)
    assert events(redis_client, redis_options) == 0


def test_another_database_is_taken_and_told(redis_client: redis.Redis, redis_options: RedisOptions) -> None:
    start_board(redis_client, 1, START)
    rows = [(1, 500, START), (2, 20, START + 60), (3, 10, START + 61), (4, 9, START + 61)]
    log = [[image(Event(i), Origin(lsn=lsn, commit_lsn=lsn, ts_ms=ts * 1000))] for i, lsn, ts in rows]
    summary = write(redis_client, redis_options, 0, log)
    assert (summary.other_database, summary.summary.repeats) == (2, 1)
    assert events(redis_client, redis_options) == 3


def test_ranking_is_published_anew_when_somebody_touches_it(
    redis_client: redis.Redis, redis_options: RedisOptions
) -> None:
    start_board(redis_client, 1, START)
    write(redis_client, redis_options, 0, inserts(2) + inserts(1, content_id="b"))
    publisher, reader = Publisher(redis_client, redis_options), EngagementReader(redis_client)
    publisher.publish([0], START)
    ranking = [(line.content_id, line.score) for line in reader.get_top_content()]
    for spoil in (
        lambda: redis_client.delete("top_content_last_10min"),
        lambda: redis_client.delete("{top_content_last_10min}:seen"),
        lambda: redis_client.delete("{top_content_last_10min}:units"),
        lambda: redis_client.zadd("top_content_last_10min", {"stranger": 1e9}),
        lambda: Publisher(redis_client, redis_options).publish([0], START),
        redis_client.flushall,
    ):
        spoil()
        if not redis_client.exists(keys.current(0)):
            start_board(redis_client, 1, START)
            write(redis_client, redis_options, 0, inserts(2) + inserts(1, content_id="b"))
        publisher.publish([0], START)
        assert [(line.content_id, line.score) for line in reader.get_top_content()] == ranking
        assert 50 < redis_client.ttl("top_content_last_10min") <= 60


def test_ties_at_the_cut_rank_by_content_id(redis_client: redis.Redis, redis_options: RedisOptions) -> None:
    start_board(redis_client, 1, START)
    log = [group for name in "dbeac" for group in inserts(1, content_id=name)]
    log = [[{**row, "lsn": 100 + i, "event_id": i + 1} for row in group] for i, group in enumerate(log)]
    write(redis_client, redis_options, 0, log)
    Publisher(redis_client, replace(redis_options, top_size=4)).publish([0], START)
    reader = EngagementReader(redis_client)
    assert [line.content_id for line in reader.get_top_content(3)] == ["a", "b", "c"]
    assert [line.content_id for line in reader.get_top_content(10)] == ["a", "b", "c", "d"]


def test_unique_users_count_each_user_once(redis_client: redis.Redis, redis_options: RedisOptions) -> None:
    start_board(redis_client, 1, START)
    log = [[image(Event(i, user_id=f"u{i % 3}"), Origin(lsn=100 + i), 1)] for i in range(1, 10)]
    write(redis_client, redis_options, 0, log)
    publisher = Publisher(redis_client, redis_options)
    publisher.publish([0], START)
    publisher.publish_stats()
    stats = EngagementReader(redis_client).get_content_stats("a")
    assert stats is not None
    assert stats.unique_users == 3


def test_event_hash_keeps_the_newest_version(redis_client: redis.Redis, redis_options: RedisOptions) -> None:
    start_board(redis_client, 1, START)
    options = replace(redis_options, event_ttl_seconds=60)
    log = [[image(Event(1, event_type=kind), Origin(lsn=lsn), 0)] for kind, lsn in (("play", 9), ("click", 10))]
    write(redis_client, options, 0, log)
    write(redis_client, options, 0, [*log, [image(Event(2), Origin(lsn=11), 0)]])
    assert redis_client.hget(keys.event(1), "event_type") == b"click"
    assert 0 < redis_client.ttl(keys.event(1)) <= 60


def test_event_hash_is_there_without_a_content_and_says_when_an_event_lost_its_own(
    redis_client: redis.Redis, redis_options: RedisOptions
) -> None:
    start_board(redis_client, 1, START)
    log = [
        [image(Event(1, "a"), Origin(lsn=9))],
        [image(Event(1, "a"), Origin("d", lsn=10, half=0, kind="move"), -1)],
        [image(Event(1, None), Origin("u", lsn=10))],
        [image(Event(2, None), Origin(lsn=11))],
    ]
    write(redis_client, replace(redis_options, event_ttl_seconds=60), 0, log).raise_problem()
    found = [redis_client.hmget(keys.event(event), "content_id", "op", "version") for event in (1, 2)]
    assert found == [[b"", b"u", b"10"], [b"", b"c", b"11"]]
    assert [*redis_client.scan_iter("recent_events:*", count=1000)] == [keys.recent_events("a").encode()]
