"""The live ranking against PostgreSQL: for event times that are old enough, every content's numbers must be equal.

Event times are compared in steps of ten seconds, as the board keeps them. A late event changes an old step, so a step
counts only if PostgreSQL's numbers for it were the same at both looks, and after the second.

A row that came too early is a dead letter: when its time has come, PostgreSQL has it and the board rightly does not.
Such a content is not judged in that step.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

STEP_SECONDS = 10
Numbers = Mapping[str, Mapping[str, int]]
"""content_id -> units, events, play, pause, finish, click, duration_ms."""


@dataclass(frozen=True)
class BoardDrift:
    """One content whose numbers differ in one step of event time."""

    content_id: str
    second: int
    """Where the step begins, since 1970."""
    counted: Mapping[str, int]
    expected: Mapping[str, int]

    def __str__(self) -> str:
        names = [n for n in {**self.expected, **self.counted} if self.counted.get(n, 0) != self.expected.get(n, 0)]
        told = ", ".join(f"{n} {self.counted.get(n, 0)} instead of {self.expected.get(n, 0)}" for n in names)
        return f"{self.content_id} at {datetime.fromtimestamp(self.second, UTC):%H:%M:%S}: {told}"


@dataclass(frozen=True)
class BoardComparison:
    """Compares the middle of the window; opens nothing."""

    counted: Callable[[int, int], Numbers]
    """The board's own numbers over event times (seconds, first inclusive, end exclusive)."""
    expected: Callable[[int, int], Numbers]
    """The same from PostgreSQL."""
    window: Callable[[], tuple[int, int]]
    """The live window."""
    refused: Callable[[int, int], Collection[tuple[str, int]]]
    """content_id and beginning of the steps among some event times that hold a row which came too early."""
    young_seconds: int
    await_age: Callable[[], None]

    def run(self) -> list[BoardDrift] | None:
        """What differs at two looks while PostgreSQL's numbers stay as they are.

        None: no step is old enough now and still in the window later, so nothing was compared.
        """
        steps = self._steps()
        if not steps:
            return None
        suspects = [drift for second in steps for drift in self._look(second)]
        if not suspects:
            return []
        self.await_age()
        found = [drift for one in suspects for drift in self._again(one)]
        refused = self.refused(steps[0], steps[-1] + STEP_SECONDS) if found else ()
        return [drift for drift in found if (drift.content_id, drift.second) not in refused]

    def _steps(self) -> Sequence[int]:
        """Steps that are old enough now, and still in the window at the second look."""
        first, end = self.window()
        begin = first + -(-2 * self.young_seconds // STEP_SECONDS) * STEP_SECONDS
        return range(begin, (end - self.young_seconds) // STEP_SECONDS * STEP_SECONDS, STEP_SECONDS)

    def _look(self, second: int) -> Sequence[BoardDrift]:
        span = (second, second + STEP_SECONDS)
        expected, counted = self.expected(*span), self.counted(*span)
        return [
            BoardDrift(content, second, counted.get(content, {}), expected.get(content, {}))
            for content in sorted(expected.keys() | counted.keys())
            if dict(counted.get(content, {})) != dict(expected.get(content, {}))
        ]

    def _again(self, before: BoardDrift) -> Sequence[BoardDrift]:
        now = [drift for drift in self._look(before.second) if drift.content_id == before.content_id]
        after = self.expected(before.second, before.second + STEP_SECONDS).get(before.content_id, {})
        return [drift for drift in now if dict(before.expected) == dict(drift.expected) == dict(after)]
