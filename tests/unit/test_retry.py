from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement.errors import PermanentError, TransientError, TransientSinkError
from engagement.retry import RetryPolicy, Surroundings, call_with_retry


class World:
    """A clock that only sleeping moves, and the longest wait as "chance"."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def surroundings(self) -> Surroundings:
        return Surroundings(lambda: self.now, self.sleep, lambda _low, high: high)


def failing(times: int, error: Exception) -> Callable[[], str]:
    left = iter(range(times))

    def call() -> str:
        if next(left, None) is not None:
            raise error
        return "done"

    return call


def test_a_transient_failure_is_tried_again_with_growing_waits() -> None:
    world = World()
    policy = RetryPolicy(attempts=5, base_seconds=1, cap_seconds=3)
    assert call_with_retry(failing(4, TransientError("away")), policy, world.surroundings()) == "done"
    assert world.slept == [1, 2, 3, 3]


def test_the_last_failure_is_raised_when_the_attempts_are_used_up() -> None:
    world = World()
    with pytest.raises(TransientError):
        call_with_retry(failing(9, TransientError("away")), RetryPolicy(attempts=3), world.surroundings())
    assert len(world.slept) == 2


def test_a_permanent_failure_is_raised_at_once() -> None:
    world = World()
    with pytest.raises(PermanentError):
        call_with_retry(failing(1, PermanentError("refused")), RetryPolicy(), world.surroundings())
    assert world.slept == []


def test_no_wait_reaches_past_the_deadline() -> None:
    world = World()
    policy = RetryPolicy(attempts=100, base_seconds=1, cap_seconds=8, deadline_seconds=10)
    with pytest.raises(TransientError):
        call_with_retry(failing(100, TransientError("away")), policy, world.surroundings())
    assert world.slept == [1, 2, 4]


def test_what_the_destination_asks_for_is_the_least_wait() -> None:
    world = World()
    error = TransientSinkError("external", retry_after=30)
    assert call_with_retry(failing(1, error), RetryPolicy(base_seconds=1), world.surroundings()) == "done"
    assert world.slept == [30]


@given(
    attempts=st.integers(1, 2_000),
    base=st.floats(0.001, 100),
    cap=st.floats(0.001, 1_000),
)
def test_there_is_one_wait_fewer_than_attempts_and_none_above_the_cap(attempts: int, base: float, cap: float) -> None:
    waits = list(RetryPolicy(attempts, base, cap).ceilings())
    assert len(waits) == attempts - 1
    assert all(0 < wait <= cap for wait in waits)
    assert waits == sorted(waits)
