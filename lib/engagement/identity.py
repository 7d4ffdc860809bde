"""Names of units of work: which rows, of which query, in which micro-batch.

Pure values only; nothing here knows Spark, Kafka clients or sinks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Fence = Mapping[int, int]
"""Kafka partition -> the next offset a sink will take; what lies below it is in the sink."""


@dataclass(frozen=True, order=True)
class OffsetRange:
    """A contiguous piece of one Kafka partition: `start` inclusive, `end` exclusive.

    Offsets in it need not all hold rows: a transaction's commit marker takes an offset too.
    """

    topic: str
    partition: int
    start: int
    end: int

    @property
    def is_empty(self) -> bool:
        """Whether no offset lies in the range."""
        return self.end <= self.start

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition} [{self.start}, {self.end})"


def spans(ranges: Sequence[OffsetRange]) -> dict[int, tuple[int, int]]:
    """Partition -> its range's first offset, and one past the last.

    >>> spans([OffsetRange("events", 2, 5, 9)])
    {2: (5, 9)}
    """
    return {part.partition: (part.start, part.end) for part in ranges}


@dataclass(frozen=True)
class BatchIdentity:
    """One micro-batch, told apart across checkpoints and applications.

    `batch_id` alone restarts at 0 with every new checkpoint, and Spark can hand out the same number with other rows
    after a lost offset log, so it is recorded for people and never decides whether a row counts.
    """

    app_id: str
    generation: str
    batch_id: int

    def __str__(self) -> str:
        return f"{self.app_id}/{self.generation}/{self.batch_id}"
