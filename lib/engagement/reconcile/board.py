"""The live ranking against PostgreSQL: for event times that are old enough, every content's numbers must be equal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Numbers = Mapping[str, Mapping[str, int]]
"""content_id -> units, events, play, pause, finish, click, duration_ms."""


@dataclass(frozen=True)
class BoardDrift:
    """One content whose numbers differ."""

    content_id: str
    counted: Mapping[str, int]
    expected: Mapping[str, int]

    def __str__(self) -> str:
        names = [n for n in {**self.expected, **self.counted} if self.counted.get(n, 0) != self.expected.get(n, 0)]
        told = ", ".join(f"{n} {self.counted.get(n, 0)} instead of {self.expected.get(n, 0)}" for n in names)
        return f"{self.content_id}: {told}"


@dataclass(frozen=True)
class BoardComparison:
    """Compares the older part of the window; opens nothing."""

    counted: Callable[[int, int], Numbers]
    """The board's own numbers over event times (seconds, first inclusive, end exclusive)."""
    expected: Callable[[int, int], Numbers]
    """The same from PostgreSQL."""
    window: Callable[[], tuple[int, int]]
    """The live window."""
    young_seconds: int
    await_age: Callable[[], None]

    def run(self) -> list[BoardDrift]:
        """What differs at two looks while PostgreSQL's numbers stay as they are."""
        first, end = self._part()
        suspects = {drift.content_id: drift for drift in self._look(first, end)}
        if not suspects:
            return []
        self.await_age()
        later, _ = self._part()
        first = max(first, later)  # what has left the window meanwhile is gone from both
        before = self.expected(first, end)
        again = [drift for drift in self._look(first, end) if drift.content_id in suspects]
        after = self.expected(first, end)
        return [one for one in again if before.get(one.content_id) == after.get(one.content_id)]

    def _part(self) -> tuple[int, int]:
        first, end = self.window()
        step = 10
        return first + step, max(first + step, (end - self.young_seconds) // step * step)

    def _look(self, first: int, end: int) -> Sequence[BoardDrift]:
        expected, counted = self.expected(first, end), self.counted(first, end)
        return [
            BoardDrift(content, counted.get(content, {}), expected.get(content, {}))
            for content in sorted(expected.keys() | counted.keys())
            if dict(counted.get(content, {})) != dict(expected.get(content, {}))
        ]
