"""What the delivery engine asks of a destination, and what it tells the engine back.

The contract every sink keeps, whatever it writes to:

1. Data and fence move in one atomic act in the destination, so a replay of the same rows has no second effect.
2. `deliver` returns only when the destination holds the rows; on any doubt it raises, and Spark's offsets stay put.
3. Rows below the fence are skipped by the sink, so a caller may always offer more than is missing.
4. The rows of a partition arrive whole, in offset order, in one task; the driver sees summaries only.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from engagement.errors import GapError
from engagement.identity import BatchIdentity, Fence, OffsetRange
from engagement.transform.changes import ChangeRows, Changes

CommitTimes = Mapping[int, int]
"""Commit time in the source, ms since 1970, rounded down -> messages that carried it."""


@dataclass(frozen=True)
class PartitionSummary:
    """What became of one offset range of one partition; counts are Kafka messages.

    Conservation: read = delivered + sum(dead_letters) + tombstones + moves + already_delivered.
    """

    partition: int
    start: int
    end: int
    read: int = 0
    delivered: int = 0
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    truncations: int = 0
    """Of the dead letters: those that say that the table was emptied."""
    tombstones: int = 0
    moves: int = 0
    already_delivered: int = 0
    repeats: int = 0
    late: int = 0
    commit_times_ms: CommitTimes = field(default_factory=dict)
    unknown_content: frozenset[str] = frozenset()
    """Contents this task did not know: nothing of the partition was written."""

    @property
    def conservation_difference(self) -> int:
        """Messages without an outcome; anything but 0 is a bug."""
        outcomes = self.delivered + sum(self.dead_letters.values()) + self.tombstones + self.moves
        return self.read - outcomes - self.already_delivered


def merge_dead_letters(summaries: Sequence[PartitionSummary]) -> dict[str, int]:
    """Dead letters by code over all partitions of a micro-batch."""
    total: Counter[str] = Counter()
    for summary in summaries:
        total.update(summary.dead_letters)
    return dict(total)


def check_topic(sink: str, opened_with: str, ask: Callable[[], str]) -> None:
    """Hold the topic whose fence is about to move against the one there is, once the rows have been read.

    One that was made again has other rows at the same offsets. They would be taken for rows of the former topic, and
    come a second time once the query has started on the new one. Raises: GapError, which starts it; TransientError.
    """
    if ask() != opened_with:
        raise GapError(f"{sink}: the topic was deleted and made again")


class Sink(Protocol):
    """A destination of the changes of one Kafka topic."""

    @property
    def name(self) -> str:
        """Short name: the checkpoint folder, the metric label, the word people type."""
        ...

    @property
    def content_first(self) -> bool:
        """Whether the catalogue is read before each micro-batch, and not only when a content is unknown.

        For sinks with a slow trigger: what is unknown then came later than its events, and no second try is needed.
        """
        ...

    @property
    def backfill_mends(self) -> bool:
        """Whether a backfill of all history is a safe repair.

        False for a sink that forgets old deliveries: it would send them again.
        """
        ...

    def open(self) -> None:
        """Connect and prove it; make whatever must exist before the first row. Raises: TransientSinkError."""
        ...

    def fence(self) -> Fence:
        """Next offset per partition, as the destination itself holds it; a partition it knows nothing of is absent."""
        ...

    def deliver(
        self, changes: Changes, ranges: Sequence[OffsetRange], identity: BatchIdentity, *, final: bool
    ) -> list[PartitionSummary]:
        """Write what `changes` holds of `ranges` and move the fence to their ends, partition by partition.

        With `final` unset a partition that meets an unknown content writes nothing and reports the ids;
        with it set such rows are written with their flag. Raises: TransientSinkError, PermanentSinkError, GapError.
        """
        ...

    def close(self) -> None:
        """Let go of connections and threads; safe to call twice."""
        ...


@dataclass(frozen=True)
class Chunk:
    """A bounded piece of history, to be put into a destination as far as it lacks it."""

    name: str
    """The same for the same piece of the same run, also after a restart; letters, digits and _."""
    changes: ChangeRows
    """Contract CHANGES. Only dead letters carry a Kafka place; rows have NULL there, because a sink derives its
    stream's fence from those columns. Nothing has run yet, and it may run more than once."""
    key: tuple[str, ...]
    """What tells whether a row is there: event_id (any version of it), or event_id and version."""
    ids: tuple[int, int] | None = None
    """Smallest and largest event_id, None when nobody knows."""
    times: tuple[datetime, datetime] | None = None
    """Earliest event_ts, and one that is later than all; None when nobody knows."""


@dataclass(frozen=True)
class Loaded:
    """What became of a chunk, by all attempts at it; counts are row versions: what was not written was there before."""

    read: int
    written: int
    dead_letters: int = 0
    """Rows beside these that were refused."""


class Additions:
    """Rows that a loader has added of chunks that are not done yet.

    What an attempt added before it failed is no row that the next one finds there already.
    """

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, int]] = {}

    def add(self, chunk: Chunk, act: str, rows: int) -> None:
        """Note what a commit or statement added, as soon as it did; the same one counts once, also when asked again."""
        acts = self._rows.setdefault(chunk.name, {})
        acts[act] = max(rows, acts.get(act, 0))

    def total(self, chunk: Chunk) -> int:
        """What all attempts of a chunk that is done have added."""
        return sum(self._rows.pop(chunk.name, {}).values())


class Loader(Protocol):
    """A destination that takes history beside its stream."""

    @property
    def name(self) -> str:
        """The sink's name."""
        ...

    def open(self) -> None:
        """Make or check its tables. Raises: TransientSinkError, PermanentSinkError."""
        ...

    def destination(self) -> str:
        """What it fills, once it is open: another text where the tables are others, were made anew, or were taken back.

        Raises: TransientSinkError, PermanentSinkError.
        """
        ...

    def load(self, chunk: Chunk) -> Loaded:
        """Add what is missing of a chunk; a repetition, also beside another one, adds nothing.

        Raises: TransientSinkError, also when another backfill was faster; PermanentSinkError.
        """
        ...

    def close(self) -> None:
        """Let go of connections; safe to call twice."""
        ...
