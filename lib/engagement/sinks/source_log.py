"""Where in the source's log a partition's new changes lie: what tells whether the source sends something again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engagement.sinks.outcomes import commit_steps, has_own_time

Place = tuple[int, int]
"""Where a change stands in the source's log: its transaction's commit LSN, its own LSN."""
SPAN_FIELDS = (
    ("first_place", pa.list_(pa.int64())),
    ("last_place", pa.list_(pa.int64())),
    ("in_order", pa.bool_()),
    ("replays", pa.bool_()),
)
_NOWHERE, _BEYOND = (-1, -1), (2**63, 2**63)


@dataclass
class LogSpan:
    """Of the changes that a table lacks; mutable while a partition's batches come, in offset order."""

    first_place: Place | None = None
    """Where they begin; None without changes that have a place."""
    last_place: Place | None = None
    in_order: bool = True
    """Whether commit times and offsets rise together, as they do unless the source sends something again."""
    replays: bool = False
    """Whether there are dead letters that were sent again: they have no place in the source's log."""
    _newest_step: float = -np.inf

    def add(self, versions: pa.RecordBatch) -> None:
        """Look at row versions that the table lacks (outcomes.row_versions; contract CHANGES)."""
        self.replays |= versions.column("replay_of").null_count < versions.num_rows
        new = versions.filter(has_own_time(versions))
        if not new.num_rows:
            return
        steps = commit_steps(new).to_numpy()
        self.in_order &= bool(steps[0] >= self._newest_step and np.all(np.diff(steps) >= 0))
        self._newest_step = max(self._newest_step, float(steps.max()))
        placed = new.filter(new.column("lsn").is_valid())
        if placed.num_rows:
            self._widen(pc.fill_null(placed.column("commit_lsn"), 0), placed.column("lsn"))

    def row(self) -> dict[str, Any]:
        """The span as a row of SPAN_FIELDS."""
        return {name: getattr(self, name) for name, _ in SPAN_FIELDS}

    def _widen(self, commits: pa.Array, own: pa.Array) -> None:
        first, last = (_edge(commits, own, edge) for edge in (pc.min, pc.max))
        self.first_place = first if self.first_place is None else min(first, self.first_place)
        self.last_place = last if self.last_place is None else max(last, self.last_place)


def _edge(commits: pa.Array, own: pa.Array, edge: Any) -> Place:  # noqa: ANN401 a function of Arrow's, without types
    commit = edge(commits)
    return int(commit.as_py()), int(edge(own.filter(pc.equal(commits, commit))).as_py())


def from_row(row: Mapping[str, Any]) -> LogSpan:
    """Read a collected row of SPAN_FIELDS."""
    first, last = (None if row[name] is None else tuple(row[name]) for name in ("first_place", "last_place"))
    return LogSpan(first, last, row["in_order"], row["replays"])


def may_repeat(spans: Sequence[tuple[int, LogSpan]], places: Mapping[int, Place]) -> bool:
    """Whether some new changes of these partitions may be in a table already that has those up to `places`.

    >>> may_repeat([(0, LogSpan((7, 8), (9, 9)))], {0: (7, 7)}), may_repeat([(0, LogSpan((7, 8), (9, 9)))], {0: (7, 8)})
    (False, True)
    """
    reached = dict(places)
    for partition, span in sorted(spans, key=lambda item: item[1].first_place or _NOWHERE):
        if span.replays or not span.in_order or (span.first_place or _BEYOND) <= reached.get(partition, _NOWHERE):
            return True
        # A partition that two tasks share: what one of them has seen is there for the other.
        reached[partition] = max(span.last_place or _NOWHERE, reached.get(partition, _NOWHERE))
    return False


def last_places(spans: Sequence[tuple[int, LogSpan]]) -> dict[int, Place]:
    """Partition -> where its new changes end; partitions without any that have a place are absent."""
    places: dict[int, Place] = {}
    for partition, span in spans:
        if span.last_place is not None:
            places[partition] = max(span.last_place, places.get(partition, span.last_place))
    return places
