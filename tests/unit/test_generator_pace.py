from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from engagement.generator.pace import DayLimit, Pace

MONDAY = date(2026, 11, 23)


@given(
    rate=st.floats(0.1, 50_000),
    steps=st.lists(st.floats(0, 1.5), min_size=1, max_size=50),
)
def test_after_every_commit_exactly_what_was_due_has_been_sent(rate: float, steps: list[float]) -> None:
    now, pace, sent = 100.0, Pace(rate, 100.0), 0
    for step in steps:
        now += step
        due = pace.due(now)
        sent += due
        pace = pace.after(due, now)
        assert sent == int((now - 100.0) * rate)


def test_a_slow_commit_is_made_up_for() -> None:
    pace = Pace(rate=1_000, start=0).after(50, 0.05)
    assert pace.due(0.55) == 500


def test_a_long_standstill_is_let_go() -> None:
    pace = Pace(rate=1_000, start=0).after(50, 30.0)
    assert pace.due(30.0) == 0
    assert pace.due(30.1) == 100


def test_a_table_that_is_too_slow_is_written_to_without_a_pause_and_without_an_endless_debt() -> None:
    pace = Pace(rate=10_000, start=0)
    for commit in range(1, 101):
        pace = pace.after(2_500, commit * 0.5)
    assert pace.due(50.0) == 20_000


def test_without_a_limit_a_day_takes_anything() -> None:
    assert DayLimit(0, MONDAY).after(10**9, MONDAY).left(MONDAY) is None


def test_a_day_takes_what_its_limit_leaves_and_the_next_day_begins_anew() -> None:
    limit = DayLimit(1_000, MONDAY, used=300).after(600, MONDAY)
    tuesday = MONDAY + timedelta(days=1)
    assert limit.left(MONDAY) == 100
    assert limit.left(tuesday) == 1_000
    assert limit.after(250, tuesday).left(tuesday) == 750


def test_more_rows_than_the_limit_leave_nothing() -> None:
    assert DayLimit(1_000, MONDAY, used=5_000).left(MONDAY) == 0
