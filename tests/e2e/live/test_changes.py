"""Changes of rows and contents through the whole chain: snapshot, updates, moves, deletes, lengths, late contents."""

import time
import uuid
from collections import Counter

import pytest
from tests.arrow import narrow
from tests.e2e.support.oracle import TOP_KEY
from tests.e2e.support.processes import PATIENCE
from tests.e2e.support.streams import Stream
from tests.e2e.support.workload import Event, content_ids
from tests.e2e.support.world import World, now

from engagement.transform.inserts import read_inserts

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240 * PATIENCE), pytest.mark.usefixtures("job")]

QUIET_SECONDS = 20
RECOUNT_SECONDS = 60
REFUSED = {"E_RANGE_DURATION", "E_TS_FUTURE", "E_TS_RANGE"}
"""What is wrong with the workload's invalid rows."""


def new_content(world: World, length_seconds: int | None = 60) -> str:
    content_id = str(uuid.uuid4())
    world.ledger.note_length(content_id, length_seconds)
    world.execute(
        "insert into content (id, slug, title, content_type, length_seconds, publish_ts) "
        "values (%s, %s, 'A content', 'video', %s, now())",
        content_id,
        content_id,
        length_seconds,
    )
    return content_id


def finish(content_id: str | None, duration_ms: int | None = 30_000) -> Event:
    return Event(content_id, "finish", now(), duration_ms)


def test_rows_from_before_the_connector_are_counted_once(world: World) -> None:
    assert world.first_board is not None
    assert world.first_board.is_equal, str(world.first_board)
    assert world.first_board.events >= 50


def test_whatever_the_connector_writes_of_a_valid_insert_is_read_by_the_pattern(world: World) -> None:
    world.insert(finish(new_content(world)), finish(None, None))
    world.source.await_equality(QUIET_SECONDS)
    inserts = world.source.topic.inserts
    assert len(inserts) >= 2
    unread = set(range(len(inserts))) - set(read_inserts(narrow(*inserts)).places.tolist())
    assert not [inserts[number] for number in unread]


def test_an_update_that_moves_a_row_takes_it_from_one_content_to_another(world: World) -> None:
    old, new = new_content(world), new_content(world, length_seconds=120)
    first, second = world.insert(finish(old), finish(old))
    world.oracle.await_equality(QUIET_SECONDS)
    event = finish(new)
    world.ledger.note(first, new, event.event_type, event.event_ts, event.duration_ms)
    world.execute("update engagement_events set content_id = %s where id = %s", new, first)
    world.oracle.await_equality(QUIET_SECONDS)
    assert world.redis.hget(f"content_stats:{old}", "events") == "1"
    assert world.redis.hget(f"content_stats:{new}", "events") == "1"
    assert world.redis.zscore(TOP_KEY, new) == 3.75
    world.execute("update engagement_events set content_id = null where id = %s", second)
    world.oracle.await_equality(QUIET_SECONDS)
    assert not world.redis.exists(f"content_stats:{old}")


def test_deleted_rows_leave_the_board_and_their_content_with_the_last(world: World) -> None:
    content = new_content(world)
    ids = world.insert(finish(content), finish(content), finish(content, None))
    world.oracle.await_equality(QUIET_SECONDS)
    world.execute("delete from engagement_events where id = %s", ids[0])
    world.oracle.await_equality(QUIET_SECONDS)
    assert world.redis.hget(f"content_stats:{content}", "events") == "2"
    world.execute("delete from engagement_events where content_id = %s", content)
    world.oracle.await_equality(QUIET_SECONDS)
    assert world.redis.zscore(TOP_KEY, content) is None
    assert not world.redis.exists(f"content_stats:{content}")


def test_a_row_that_an_update_makes_invalid_leaves_until_it_is_valid_again(world: World) -> None:
    content = new_content(world)
    (event_id,) = world.insert(finish(content))
    world.oracle.await_equality(QUIET_SECONDS)
    world.execute("update engagement_events set duration_ms = -1 where id = %s", event_id)
    world.oracle.await_equality(QUIET_SECONDS)
    assert world.redis.zscore(TOP_KEY, content) is None
    world.execute("update engagement_events set duration_ms = 30000 where id = %s", event_id)
    world.oracle.await_equality(QUIET_SECONDS)
    assert world.redis.zscore(TOP_KEY, content) == 4.5


def test_a_changed_length_is_counted_again_while_the_old_ranking_stays_visible(world: World, job: Stream) -> None:
    popular = content_ids()[:6]
    with world.watch() as watcher:
        with world.load():
            job.await_batches(3)
            began = time.monotonic()
            for number, content_id in enumerate(popular):
                length = 90 + number
                world.ledger.note_length(content_id, length)
                world.execute("update content set length_seconds = %s where id = %s", length, content_id)
            job.await_batches(3)
        world.oracle.await_equality(RECOUNT_SECONDS, least_events=300)
    sizes = [size for at, size in watcher.ranking_sizes if at >= began]
    assert min(sizes) >= len(popular), f"the ranking was gone meanwhile: {sizes}"


def test_a_length_that_changes_while_the_job_is_down_is_counted_again_too(world: World, job: Stream) -> None:
    content = new_content(world)
    world.insert(finish(content))
    world.oracle.await_equality(QUIET_SECONDS)
    assert job.stop() == 0, job.tail()
    world.ledger.note_length(content, 120)
    world.execute("update content set length_seconds = 120 where id = %s", content)
    job.start_and_wait()
    world.oracle.await_equality(RECOUNT_SECONDS)
    assert world.redis.zscore(TOP_KEY, content) == 3.75


def test_an_event_before_its_content_counts_at_once_and_fully_afterwards(world: World) -> None:
    content = str(uuid.uuid4())
    world.insert(finish(content), finish(content))
    world.oracle.await_equality(QUIET_SECONDS)
    assert world.redis.zscore(TOP_KEY, content) == 6.0
    world.ledger.note_length(content, 60)
    world.execute(
        "insert into content (id, slug, title, content_type, length_seconds, publish_ts) "
        "values (%s, %s, 'Late', 'video', 60, now())",
        content,
        content,
    )
    world.oracle.await_equality(RECOUNT_SECONDS)
    assert world.redis.zscore(TOP_KEY, content) == 9.0


def test_a_column_that_comes_and_goes_under_load_costs_no_row(world: World, job: Stream) -> None:
    topic = world.source.topic
    topic.read_on()
    before = Counter(topic.outcomes)
    with world.load():
        job.await_batches(2)
        world.execute("alter table engagement_events add column note text default 'noted'")
        job.await_batches(2)
        world.execute("alter table engagement_events drop column note")
        job.await_batches(2)
    world.await_equality(least_events=300)
    outcomes = topic.outcomes - before
    assert {outcome for outcome in outcomes if outcome.startswith("E_")} <= REFUSED, outcomes
