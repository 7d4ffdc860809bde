"""How fast a backfill sends, what it holds against what was sent, and what a round holds back."""

import doctest
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.arrow import changes
from tests.builders import LSN, created, envelope, message, row

from engagement.reconcile import receiver
from engagement.sinks.external.chunk_task import Rate
from engagement.sinks.external.events import to_events
from engagement.sinks.external.held_back import HeldBack, moved_in
from engagement.sinks.outcomes import row_versions
from engagement.sources.history import Span

_ROUNDING = 1e-6


class Clock:
    """Time that passes only while somebody sleeps, or is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@given(st.floats(1.0, 50_000.0), st.integers(1, 3_000))
def test_no_second_has_more_events_than_it_may(rate: float, count: int) -> None:
    clock = Clock()
    pace = Rate(rate, clock.monotonic, clock.sleep)
    assert all(pace.wait(float("inf")) for _ in range(count))
    # It sleeps for no less than a hundredth of a second, and so may be so far ahead of its time.
    took = clock.now - 100.0
    assert (count - 1) / rate - 0.01 - _ROUNDING <= took <= count / rate + _ROUNDING


def test_what_a_slow_receiver_has_held_up_is_not_made_good_by_a_burst() -> None:
    clock = Clock()
    pace = Rate(10.0, clock.monotonic, clock.sleep)
    assert pace.wait(1_000.0)
    clock.now += 60.0
    began = clock.now
    assert all(pace.wait(1_000.0) for _ in range(11))
    assert clock.now - began == pytest.approx(1.0)


def test_an_event_whose_turn_comes_too_late_is_not_waited_for() -> None:
    clock = Clock()
    pace = Rate(0.1, clock.monotonic, clock.sleep)
    assert pace.wait(105.0)
    assert not pace.wait(105.0)
    assert clock.now == 100.0


def test_a_range_is_cut_to_what_is_remembered() -> None:
    assert doctest.testmod(receiver).failed == 0
    now, asked = (
        datetime(2025, 8, 31, tzinfo=UTC),
        Span(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 8, 20, tzinfo=UTC)),
    )
    assert receiver.remembered_span(asked, now, 0) == asked
    assert receiver.remembered_span(None, now, 0) is None
    assert receiver.remembered_span(asked, now, 30) == Span(datetime(2025, 8, 2, tzinfo=UTC), asked.end)
    forgotten = Span(asked.start, datetime(2025, 2, 1, tzinfo=UTC))
    floor = datetime(2025, 8, 2, tzinfo=UTC)
    assert receiver.remembered_span(forgotten, now, 30) == Span(floor, floor)


def test_what_moved_in_is_held_back_with_what_follows_it_of_its_event() -> None:
    def update(event_id: int, offset: int, before: bool) -> object:
        told = row(id=event_id) if before else None
        return message(envelope("u", row(id=event_id), told, lsn=LSN + offset), offset=offset)

    moved = message(envelope("c", row(id=3), lsn=LSN + 4), offset=4, headers=("__debezium.oldkey",))
    given_rows = [update(1, 0, True), update(3, 1, True), created(id=2), moved, update(3, 5, True), update(1, 6, True)]
    batch = changes(*given_rows)  # type: ignore[arg-type]
    assert moved_in(batch) == {4}
    held = HeldBack()
    held.look_at(batch)
    taken = [held.takes(event.version) for event in to_events(row_versions(batch, 0), "x")]
    assert taken == [False, False, False, True, True, False]
    assert [(each["kafka_offset"], each["event_id"], each["version"]) for each in held.rows()] == [
        (4, 3, LSN + 4),
        (5, 3, LSN + 5),
    ]


def test_changes_of_rows_without_a_content_are_held_back_since_they_may_be_in_any_partition() -> None:
    """Their messages have no key; an insert has no version before it."""
    bare = row(id=5, content_id=None)
    documents = [envelope("c", bare), envelope("u", bare, bare, LSN + 8), envelope("d", None, bare, LSN + 16)]
    batch = changes(*(message(document, offset=at) for at, document in enumerate(documents)))
    assert moved_in(batch) == {1, 2}


def test_a_replay_is_not_held_back() -> None:
    """It has no `before`, and takes the place of a message that was refused."""
    replay = message(envelope("u", row(id=3), row(id=3)), offset=9, replay_of=2)
    assert moved_in(changes(replay)) == frozenset()
