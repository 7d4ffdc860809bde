"""When what a micro-batch brought became visible: the freshness of real events, seen from the publisher."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from engagement.sinks.base import CommitTimes
from engagement.sinks.redis.publisher import Published, Publisher


class Observer(Protocol):
    """Told what the sink does beside micro-batches; must not raise."""

    def visible(self, times: Sequence[CommitTimes]) -> None:
        """What these micro-batches brought is in the public ranking now."""
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

    def __init__(self) -> None:
        self._waiting: deque[CommitTimes] = deque()

    def add(self, times: CommitTimes) -> None:
        """Remember what a micro-batch brought."""
        if times:
            self._waiting.append(times)

    def waiting(self) -> int:
        """How many micro-batches wait."""
        return len(self._waiting)

    def take(self, count: int) -> list[CommitTimes]:
        """Give the oldest of them."""
        return [self._waiting.popleft() for _ in range(count)]


class ReportingPublisher:
    """A publisher that reports what each publish made visible (keeper.Publishing)."""

    def __init__(self, publisher: Publisher, unpublished: Unpublished, observer: Observer) -> None:
        self._publisher = publisher
        self._unpublished = unpublished
        self._observer = observer

    def publish(self, partitions: Iterable[int], now: float | None = None) -> Published:
        """Publish; what was in the shards before it began is visible after it. Raises as Publisher.publish does."""
        waiting = self._unpublished.waiting()
        published = self._publisher.publish(partitions, now)
        if waiting:
            self._observer.visible(self._unpublished.take(waiting))
        return published

    def publish_stats(self, limit: int) -> int:
        """Write statistics that are due."""
        return self._publisher.publish_stats(limit)

    def forget(self) -> None:
        """Read everything again next time."""
        self._publisher.forget()
