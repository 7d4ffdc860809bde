"""What the generator asks of the place it writes to."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from engagement.generator.catalogue import ContentRow
from engagement.generator.events import EventRow


class Stop(Protocol):
    """Asks to end soon; `threading.Event` and `multiprocessing.Event` are such."""

    def is_set(self) -> bool:
        """Tell whether to end."""
        ...

    def wait(self, timeout: float) -> bool:
        """Wait so many seconds, less when asked to end; tell whether to end."""
        ...


@dataclass(frozen=True)
class Batch:
    """What one transaction does; `updates` give a row by its id as it shall be, no id occurs twice."""

    rows: Sequence[EventRow]
    updates: Sequence[tuple[int, EventRow]] = ()
    deletes: Sequence[int] = ()


@dataclass(frozen=True)
class Written:
    """What a committed transaction did; `ids` belong to the batch's rows, in their order."""

    ids: Sequence[int]
    updated: int
    deleted: int


class EventStore(Protocol):
    """Where content and events go."""

    @property
    def interruptions(self) -> int:
        """How often the connection was lost and made again."""
        ...

    def open(self) -> None:
        """Connect; EngagementError when that cannot work."""
        ...

    def add_content(self, catalogue: Sequence[ContentRow]) -> None:
        """Insert the contents that are missing."""
        ...

    def count_day(self, day: date) -> int:
        """Count the events that happened on a UTC day."""
        ...

    def write(self, batch: Batch, stop: Stop) -> Written | None:
        """Commit the batch exactly once, however often the connection breaks; None when stopped before that."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...
