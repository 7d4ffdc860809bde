"""Retrying as data: how often, how long between, until when. Clock, sleep and chance are passed in."""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import TypeVar

from engagement.errors import TransientError, TransientSinkError

Result = TypeVar("Result")


@dataclass(frozen=True)
class RetryPolicy:
    """When to try again: `attempts` tries in all within `deadline_seconds`, waits growing from `base_seconds` to a cap.

    A wait is chosen evenly from 0 to min(cap, base * 2^n) ("full jitter"), so that clients that failed together
    do not come back together.
    """

    attempts: int = 5
    base_seconds: float = 0.5
    cap_seconds: float = 60.0
    deadline_seconds: float = math.inf

    def ceilings(self) -> Iterator[float]:
        """Yield the longest wait, in seconds, before the 2nd, 3rd … attempt.

        >>> list(RetryPolicy(attempts=4, base_seconds=1, cap_seconds=3).ceilings())
        [1, 2, 3]
        """
        ceiling = self.base_seconds
        for _ in range(self.attempts - 1):
            yield min(self.cap_seconds, ceiling)
            # Doubling stops at the cap, so that many attempts cannot overflow.
            ceiling = min(self.cap_seconds, ceiling * 2)


@dataclass(frozen=True)
class Surroundings:
    """What a retry takes from the world; a test passes its own.

    `sleep` may end early, as `threading.Event.wait` does when asked to stop.
    """

    monotonic: Callable[[], float] = monotonic
    sleep: Callable[[float], object] = sleep
    # Chance only spreads clients over time; nothing secret depends on it.
    uniform: Callable[[float, float], float] = field(default_factory=lambda: random.Random().uniform)  # noqa: S311


def call_with_retry(call: Callable[[], Result], policy: RetryPolicy, world: Surroundings | None = None) -> Result:
    """Return what `call` returns; TransientError is retried by the policy, then raised; other errors at once.

    A TransientSinkError's `retry_after` is the least wait, whatever the cap says.
    """
    surroundings = world or Surroundings()
    deadline = surroundings.monotonic() + policy.deadline_seconds
    for ceiling in policy.ceilings():
        try:
            return call()
        except TransientError as error:
            wait = max(surroundings.uniform(0.0, ceiling), _retry_after(error))
            if surroundings.monotonic() + wait >= deadline:
                raise
        surroundings.sleep(wait)
    return call()


def _retry_after(error: TransientError) -> float:
    return (error.retry_after or 0.0) if isinstance(error, TransientSinkError) else 0.0
