"""Dead letters that are sent again, on the board: counted once, and never over what the source has said since."""

from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest
import redis
from tests.arrow import changes
from tests.builders import LSN, created, envelope, message, row
from tests.contract.redis_support import (
    IDENTITY,
    NOT_RECENT,
    START,
    Event,
    Origin,
    Row,
    World,
    image,
    start_board,
    to_batch,
    write,
)
from tests.contract.test_redis_board import check_board

from engagement.sinks.redis.aggregate import ShardAggregator
from engagement.sinks.redis.client import RedisOptions
from engagement.sinks.redis.delta import Delta
from engagement.sinks.redis.publisher import Publisher
from engagement.sinks.redis.reader import EngagementReader
from engagement.sinks.redis.rows import read_rows
from engagement.sinks.redis.shard import Shard, ShardState
from engagement.sinks.redis.writer import WritePlan

BAD = Event(1, duration_ms=-1, valid=False)
FIXED, LATER = Event(1, event_type="finish"), Event(1, event_type="click")


def refused(lsn: int = 1, code: str = "E_RANGE_DURATION") -> list[Row]:
    return [image(BAD, Origin(lsn=lsn, kind="dead_letter", code=code), 0)]


def replayed(offset: int, event: Event = FIXED, op: str = "c", version: int | None = None) -> list[Row]:
    """Without a version, that of a letter which is the so-manieth message of the source."""
    row = image(event, Origin(op, lsn=None, commit_lsn=None, replay_of=offset), -1 if op == "d" else 1)
    return [{**row, "version": offset + 1 if version is None else version}]


def update(lsn: int, before: Event | None, after: Event | None = LATER) -> list[Row]:
    own = image(after, Origin("u", lsn=lsn)) if after else refused(lsn)[0]
    return [own, *([image(before, Origin("u", lsn=lsn), -1, is_version=False)] if before else [])]


def counted(*messages: list[Row], since: int = 0, rebuild: bool = True) -> dict[str, int]:
    """Events by type after these messages, as a rebuild that begins at `since` counts them."""
    aggregator = ShardAggregator(ShardState("1", since), rebuild=rebuild, since=since)
    return by_type(aggregator.add(read_rows(to_batch(list(enumerate(messages))[since:]))))


def by_type(delta: Delta) -> dict[str, int]:
    totals = [total for contents in delta.sums.values() for total in contents.values()]
    kinds = ("play", "pause", "finish", "click")
    return {kind: n for place, kind in enumerate(kinds, 2) if (n := sum(total[place] for total in totals))}


def test_a_replay_counts_once() -> None:
    assert counted(refused(), replayed(0)) == {"finish": 1}


def test_a_replay_of_what_has_been_updated_since_stays_off_the_board() -> None:
    assert counted(refused(), update(2, None), replayed(0)) == {"click": 1}


def test_a_letter_that_the_source_repeats_is_as_old_as_before() -> None:
    assert counted(refused(1), update(2, None), refused(1), replayed(2, version=1)) == {"click": 1}


def test_a_replay_of_what_has_been_refused_again_since_stays_off_the_board() -> None:
    assert counted(refused(1), refused(2), replayed(0)) == {}
    assert counted(refused(1), refused(2), replayed(1), replayed(0, LATER)) == {"finish": 1}
    assert counted(refused(1), refused(2), replayed(0, LATER), replayed(1)) == {"finish": 1}


def test_the_sources_next_word_takes_the_place_of_a_replay_whatever_its_before_says() -> None:
    assert counted(refused(), replayed(0), update(2, None)) == {"click": 1}
    assert counted(refused(), replayed(0), update(2, Event(1, event_type="pause"))) == {"click": 1}
    assert counted(refused(), replayed(0), update(2, FIXED)) == {"click": 1}
    assert counted(refused(), replayed(0), update(2, FIXED), update(3, LATER, FIXED)) == {"finish": 1}
    assert counted(refused(), replayed(0), update(2, None, None)) == {}
    assert counted(refused(), replayed(0), [image(BAD, Origin("d", lsn=2), 0)]) == {}


def test_a_replayed_update_replaces_what_counted_before_it() -> None:
    known = [image(Event(1), Origin(lsn=1))]
    unreadable = [{**refused(2, "E_JSON")[0], "event_id": None, "lsn": None}]
    assert counted(known, unreadable, replayed(1, op="u")) == {"finish": 1}
    assert counted(known, update(2, Event(1), None), replayed(1, op="u")) == {"finish": 1}


def test_a_replayed_deletion_takes_what_counts() -> None:
    known = [image(Event(1), Origin(lsn=1))]
    assert counted(known, [{**refused(2, "E_ID")[0], "event_id": None}], replayed(1, Event(1), "d")) == {}


def test_a_replay_of_a_message_that_was_not_read_counts_nothing() -> None:
    assert counted(refused(), replayed(0), since=1) == {}


def test_a_replay_of_a_letter_from_before_its_topic_was_made_again_counts_as_one() -> None:
    """Its LSN lies before what the new topic begins with, and what its `before` names never counted there."""
    corrected = envelope("u", row(event_type="finish", duration_ms=5), row(event_type="pause"), LSN - 800)
    batch = changes(created(id=2), message(corrected, offset=1, replay_of=1_000_000))
    asking = ShardAggregator(ShardState("1", 0), rebuild=False).add(read_rows(batch))
    assert (by_type(asking), sum(asking.snapshots.values()), list(asking.replayed)) == ({"play": 1}, 1, ["1"])
    counting = ShardAggregator(ShardState("1", 0), rebuild=True).add(read_rows(batch))
    assert by_type(counting) == {"play": 1, "finish": 1}


def test_outside_a_rebuild_a_replay_counts_nothing_and_asks_for_one(
    redis_client: redis.Redis, redis_options: RedisOptions
) -> None:
    start_board(redis_client, 1, START)
    log = [refused(), replayed(0), update(2, None), [image(Event(2), Origin(lsn=3))]]
    plan = WritePlan({}, IDENTITY, now=START)
    asked = [
        write(redis_client, redis_options, 0, log, span=(at, at + 1), plan=plan).snapshots for at in range(len(log))
    ]
    assert asked == [0, 1, 1, 0]
    old = replayed(0, replace(FIXED, event_us=(START - 5000) * 1_000_000))
    summary = write(redis_client, redis_options, 0, [*log, old], span=(4, 5), plan=plan)
    assert (summary.snapshots, summary.summary.late, summary.summary.delivered) == (0, 1, 1)


def test_a_replay_that_names_another_partitions_content_leaves_its_recent_events(
    redis_client: redis.Redis, redis_options: RedisOptions
) -> None:
    start_board(redis_client, 2, START)
    log = [[image(Event(i), Origin(lsn=100 + i))] for i in (11, 12, 13)]
    plan, reader = WritePlan({}, IDENTITY, now=START), EngagementReader(redis_client)
    write(redis_client, redis_options, 1, log, span=(0, 2), plan=plan).raise_problem()
    write(redis_client, redis_options, 0, [refused(), replayed(0)], plan=plan).raise_problem()
    write(redis_client, redis_options, 1, log, span=(2, 3), plan=plan).raise_problem()
    assert [event["event_id"] for event in reader.get_recent_events("a")] == ["13", "12", "11"]
    write(redis_client, redis_options, 1, [*log, replayed(2)], span=(3, 4), plan=plan).raise_problem()
    assert [event["event_id"] for event in reader.get_recent_events("a", 2)] == ["1", "13"], "in its own it is shown"


@dataclass
class ReplayingWorld(World):
    """The random source, beside somebody who corrects what was refused and sends it again."""

    corrected: dict[int, Event] = field(default_factory=dict)
    newest: dict[int, int] = field(default_factory=dict)
    """Event -> LSN of the source's last word about it."""
    sent: set[tuple[int, int]] = field(default_factory=set)
    """Event and LSN of what was sent again: the source may repeat a message that is refused, a person does not."""

    def replay(self) -> None:
        partition = self.random.randrange(self.partitions)
        log = self.logs[partition]
        letters = [at for at, rows in enumerate(log) if rows[0]["kind"] == "dead_letter"]
        if not letters:
            return
        offset = self.random.choice(letters)
        event_id, lsn = log[offset][0]["event_id"], log[offset][0]["lsn"]
        if (event_id, lsn) in self.sent:
            return
        self.sent.add((event_id, lsn))
        event = replace(self._event(event_id), content_id="content-1", valid=True)
        event = replace(event, event_us=min(event.event_us, int((self.now + 200) * 1e6)))
        log.append([{**image(event, Origin(lsn=None, commit_lsn=None, replay_of=offset)), "version": lsn}])
        if self.newest[event_id] == lsn:
            self.corrected[event_id] = event

    def _change_id(self, event_id: int) -> None:
        """Left out: replays of an event that has another id by now are a matter of their own."""

    def _log(self, partition: int, rows: list[Row]) -> None:
        if rows[0]["event_id"] is not None:
            self.corrected.pop(rows[0]["event_id"], None)
            self.newest[rows[0]["event_id"]] = rows[0]["lsn"]
        super()._log(partition, rows)

    def board(self, now: float, window: int = 600) -> dict[str, dict[str, Any]]:
        stands = World(self.random, now=now, rows={**self.rows, **self.corrected})
        stands.refused = self.refused - self.corrected.keys()
        return stands.board(now, window)


def recount(client: redis.Redis, options: RedisOptions, world: World) -> None:
    for partition in range(world.partitions):
        shard, log = Shard(client, partition), world.logs[partition]
        generation, current = shard.new_generation(0, "topic", 600, world.now)
        plan = WritePlan({}, IDENTITY, generations={partition: generation}, now=world.now, chunk_rows=50, rebuild=True)
        write(client, options, partition, log, plan=replace(plan, recent_from=NOT_RECENT)).raise_problem()
        shard.swap(generation, current)


@pytest.mark.redis
@pytest.mark.parametrize("seed", range(8))
def test_board_equals_the_oracle_whenever_what_was_asked_for_has_been_recounted(
    redis_client: redis.Redis, redis_options: RedisOptions, seed: int
) -> None:
    world = ReplayingWorld(Random(seed))
    publisher = Publisher(redis_client, redis_options)
    start_board(redis_client, world.partitions, world.now)
    for _ in range(30):
        for _ in range(world.random.randint(0, 12)):
            world.replay() if world.random.random() < 0.2 else world.step()
        asked = 0
        for partition, log in world.logs.items():
            fence = Shard(redis_client, partition).state().next_offset
            plan = WritePlan({}, IDENTITY, chunk_rows=world.random.randint(1, 40), now=world.now)
            summary = write(redis_client, redis_options, partition, log, span=(fence, len(log)), plan=plan)
            summary.raise_problem()
            asked += summary.snapshots
        if asked:
            recount(redis_client, redis_options, world)
            publisher.forget()
        check_board(redis_client, publisher, world, redis_options.top_size)
