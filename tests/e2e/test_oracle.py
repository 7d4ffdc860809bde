"""The oracle itself: it must find what it is there to find. No stack is needed for these."""

from datetime import UTC, datetime, timedelta

import pytest
from tests.e2e.support.ledger import Ledger
from tests.e2e.support.oracle import Totals, difference
from tests.e2e.support.scores import percentage, units

START = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)
CONTENT = "00000e2e-0000-0000-0000-000000000001"


def two_events() -> Totals:
    totals = Totals()
    totals.add("finish", START, 30_000, 60)
    totals.add("click", START + timedelta(seconds=3), None, 60)
    return totals


def shown(**changes: str) -> dict[str, str]:
    """What Redis holds for `two_events`."""
    right = {
        "events": "2", "play": "0", "pause": "0", "finish": "1", "click": "1", "engagement_seconds": "30.000",
        "avg_engagement_pct": "50.00", "score": "4.8", "last_event_ts": "2026-11-23T15:00:03.000000Z",
    }  # fmt: skip
    return {**right, **changes}


def test_equal_totals_do_not_differ() -> None:
    assert difference(CONTENT, two_events(), 4.8, shown()) is None


@pytest.mark.parametrize(
    ("kind", "score", "stats"),
    [
        ("lost", 4.5, shown(events="1", click="0")),
        ("lost", None, {}),
        ("doubled", 9.3, shown(events="3", finish="2")),
        ("stale", 4.81, shown()),
        ("stale", 4.8, shown(engagement_seconds="30.001")),
        ("stale", 4.8, shown(avg_engagement_pct="49.99")),
        ("stale", 4.8, shown(last_event_ts="2026-11-23T15:00:02.000000Z")),
        ("stale", 4.8, shown(finish="0", play="1")),
    ],
)
def test_a_difference_is_named_by_what_happened(kind: str, score: float | None, stats: dict[str, str]) -> None:
    found = difference(CONTENT, two_events(), score, stats)
    assert found is not None
    assert found.kind == kind


@pytest.mark.parametrize(("score", "stats"), [(4.8, {}), (None, shown())])
def test_a_content_without_rows_must_be_gone_everywhere(score: float | None, stats: dict[str, str]) -> None:
    found = difference(CONTENT, None, score, stats)
    assert found is not None
    assert found.kind == "phantom"
    assert difference(CONTENT, None, None, {}) is None


@pytest.mark.parametrize(
    ("kind", "duration_ms", "length_seconds", "expected"),
    [("play", 30_000, 60, 150_000), ("finish", 90_000, 60, 600_000), ("click", None, 60, 30_000),
     ("pause", 1, 0, 50_000), ("play", 1_005, 7, 114_360), ("play", 5, 100, 100_010)],
)  # fmt: skip
def test_scores_round_half_up_and_end_at_100_per_cent(
    kind: str, duration_ms: int | None, length_seconds: int | None, expected: int
) -> None:
    assert units(kind, percentage(duration_ms, length_seconds)) == expected


def test_the_bound_counts_every_version_of_a_row_once_at_its_most() -> None:
    ledger = Ledger()
    ledger.note_length(CONTENT, 60)
    ledger.note(1, CONTENT, "play", START, 30_000)
    ledger.note(1, CONTENT, "finish", START, 0)
    ledger.note(2, CONTENT, "click", START + timedelta(seconds=10), None)
    ledger.note(3, CONTENT, "click", START + timedelta(seconds=20), None)
    ledger.note(4, CONTENT, "play", START, -1)
    assert ledger.bound(CONTENT, START, START + timedelta(seconds=20)) == (2, 330_000)
    ledger.note(1, CONTENT, "finish", START, 30_000)
    assert ledger.bound(CONTENT, START, START + timedelta(seconds=20)) == (2, 480_000)
