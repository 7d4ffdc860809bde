"""When what a micro-batch brought became visible: the freshness of real events, seen from the publisher."""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from engagement.sinks.base import CommitTimes


class Observer(Protocol):
    """Told what the sink does beside micro-batches; must not raise."""

    def visible(self, times: Sequence[CommitTimes]) -> None:
        """What these tasks wrote is in the public ranking now."""
        ...

    def rebuilding(self, reason: str) -> None:
        """The board is being counted again."""
        ...

    def rebuilt(self) -> None:
        """It has been, and is swapped in."""
        ...

    def alarm(self, text: str) -> None:
        """Something a person should look at."""
        ...


class Unpublished:
    """Commit times of what shards hold and the public ranking does not show yet."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._waiting: deque[CommitTimes] = deque()

    def add(self, times: CommitTimes) -> None:
        """Remember what a task wrote."""
        if times:
            self._waiting.append(times)

    def waiting(self) -> int:
        """How many tasks' rows wait: asked before a publish, since what comes during it may not be in it."""
        return len(self._waiting)

    def shown(self, count: int) -> None:
        """The oldest of them are in the public ranking now."""
        if count:
            self._observer.visible([self._waiting.popleft() for _ in range(count)])
