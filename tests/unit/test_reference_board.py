"""The reference board: newest versions of live rows in the window, nothing else."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations

from tests import builders
from tests.builders import CONTENT_ID, KAFKA_TS, NEWSLETTER_ID, envelope, message, row
from tests.reference.board import board, ranking, row_versions, window

_LENGTHS: dict[str, int | None] = {CONTENT_ID: 60, NEWSLETTER_ID: None}
_START, _END = window(KAFKA_TS)


def test_the_window_ends_with_the_next_full_ten_seconds() -> None:
    start, end = window(datetime(2026, 11, 23, 15, 0, 3, tzinfo=UTC))
    assert end == datetime(2026, 11, 23, 15, 0, 10, tzinfo=UTC)
    assert end - start == timedelta(minutes=10)


def test_an_update_a_delete_and_a_dead_letter_each_count_once_in_any_order() -> None:
    given = [
        message(envelope("c", after=row(id=1), lsn=10), offset=1),
        message(envelope("u", after=row(id=1, duration_ms=60_000), before=row(id=1), lsn=20), offset=2),
        message(envelope("c", after=row(id=2), lsn=30), offset=3),
        message(envelope("d", before=row(id=2), lsn=40), offset=4),
        message(envelope("u", after=row(id=3, duration_ms=-1), before=row(id=3), lsn=50), offset=5),
    ]
    for order in permutations(row_versions(given)):
        assert ranking(board(order, _LENGTHS, _START, _END), 10) == [(CONTENT_ID, 2.0)]


def test_a_move_counts_under_the_new_content_only() -> None:
    given = [
        message(envelope("c", after=row(), lsn=10), offset=1),
        message(envelope("d", before=row(), lsn=20), offset=2, headers=("__debezium.newkey",)),
        message(envelope("c", after=row(content_id=NEWSLETTER_ID), lsn=20), offset=3, headers=("__debezium.oldkey",)),
    ]
    assert ranking(board(reversed(row_versions(given)), _LENGTHS, _START, _END), 10) == [(NEWSLETTER_ID, 1.0)]


def test_an_id_that_an_update_changed_is_gone_under_both() -> None:
    given = [
        message(envelope("c", after=row(id=1), lsn=10), offset=1),
        message(envelope("u", after=row(id=2), before=row(id=1), lsn=20), offset=2),
    ]
    assert board(row_versions(given), _LENGTHS, _START, _END) == {}


def test_an_id_that_an_update_changed_counts_under_the_new_one_from_its_next_change_on() -> None:
    given = [
        message(envelope("c", after=row(id=1), lsn=10), offset=1),
        message(envelope("u", after=row(id=2), before=row(id=1), lsn=20), offset=2),
        message(envelope("u", after=row(id=2), before=row(id=2), lsn=30), offset=3),
        message(envelope("d", before=row(id=2), lsn=40), offset=4),
    ]
    counts = [board(row_versions(given[:n]), _LENGTHS, _START, _END) for n in range(1, 5)]
    assert [sum(total.events for total in found.values()) for found in counts] == [1, 0, 1, 0]


def test_totals_leave_out_late_events_and_events_without_content() -> None:
    given = [
        builders.created(id=1),
        builders.created(id=2, event_type="click", duration_ms=None, user_id=None),
        builders.created(id=3, duration_ms=1),
        builders.created(id=4, content_id=None),
        builders.created(id=5, event_ts="2026-11-23T14:50:09.999999Z"),
        builders.created(id=6, event_ts="2026-11-23T15:00:10Z"),
    ]
    total = board(row_versions(given), _LENGTHS, _START, _END)[CONTENT_ID]
    assert (total.events, total.play, total.click, total.units) == (3, 2, 1, 150_000 + 30_000 + 100_000)
    assert (total.duration_ms, total.avg_engagement_pct, len(total.users)) == (30_001, Decimal("25.00"), 1)
