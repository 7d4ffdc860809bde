"""What became of the messages that a Spark task saw, counted on Arrow where they are: for sinks that keep rows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engagement.errors import ContractError
from engagement.identity import OffsetRange
from engagement.schemas import SNAPSHOT, TRUNCATE, Kind
from engagement.sinks.base import PartitionSummary

COMMIT_STEP_MS = 100
ANY_PLACE = -(2**63)
"""Below every offset: a row of the table whose id is refused as negative has it as its place."""

NONE: pa.Array = pa.array([], pa.int64())
"""No offsets."""

OUTCOME_FIELDS = (
    *((name, pa.int64()) for name in ("partition", "read", "delivered", "truncations", "tombstones", "moves")),
    *((name, pa.int64()) for name in ("already_delivered", "repeats")),
    ("dead_letters", pa.map_(pa.string(), pa.int64())),
    ("commit_times_ms", pa.map_(pa.int64(), pa.int64())),
)


@dataclass
class OutcomeCounts:
    """Counts one partition's messages by outcome; mutable while its batches come."""

    partition: int
    read: int = 0
    delivered: int = 0
    truncations: int = 0
    """Of the dead letters."""
    tombstones: int = 0
    moves: int = 0
    already_delivered: int = 0
    repeats: int = 0
    """Of those: versions that came again under new offsets."""
    dead_letters: Counter[str] = field(default_factory=Counter)
    commit_times_ms: Counter[int] = field(default_factory=Counter)

    def add(self, changes: pa.RecordBatch, following: int, done: pa.Array = NONE) -> None:
        """Count a batch (contract CHANGES); what lies below `following`, or in `done`, was delivered before."""
        columns = {name: changes.column(name) for name in ("kind", "code", "op")}
        columns["old"] = is_old(changes.column("kafka_offset"), following, done)
        columns["commit_ms"] = commit_steps(changes)
        messages = pa.table(columns).filter(changes.column("is_version"))
        grouped = messages.group_by([*columns], use_threads=False).aggregate([([], "count_all")])
        for group in grouped.to_pylist():
            self._add(group, group["count_all"])

    def take_back(self, commit_ms: int | None) -> None:
        """A row that was counted as delivered turned out not to be; `commit_ms` is its time in the source."""
        self.delivered -= 1
        if commit_ms is not None:
            self.commit_times_ms -= Counter({commit_ms // COMMIT_STEP_MS * COMMIT_STEP_MS: 1})

    def repeat(self, versions: pa.RecordBatch) -> None:
        """Rows (CHANGES) that were counted as delivered turned out to be there already."""
        for commit_ms in versions.column("source_ts_ms").to_pylist():
            self.take_back(commit_ms)
        self.already_delivered += versions.num_rows
        self.repeats += versions.num_rows

    def row(self) -> dict[str, Any]:
        """The counts as a row of OUTCOME_FIELDS."""
        row = {name: getattr(self, name) for name, _ in OUTCOME_FIELDS}
        return {**row, "dead_letters": [*self.dead_letters.items()], "commit_times_ms": [*self.commit_times_ms.items()]}

    def _add(self, group: Mapping[str, Any], count: int) -> None:
        kind = Kind(group["kind"])
        self.read += count
        if group["old"]:
            self.already_delivered += count
        elif kind is Kind.DEAD_LETTER:
            self.dead_letters[group["code"] or "unknown"] += count
            if group["op"] == TRUNCATE:
                self.truncations += count
        elif kind is Kind.TOMBSTONE:
            self.tombstones += count
        elif kind is Kind.MOVE:
            self.moves += count
        else:
            self.delivered += count
            if group["commit_ms"] is not None and group["op"] != SNAPSHOT:
                self.commit_times_ms[int(group["commit_ms"])] += count


def row_versions(changes: pa.RecordBatch, following: int, done: pa.Array = NONE) -> pa.RecordBatch:
    """The rows a sink is to take: row versions at `following` or above, not in `done` (offsets).

    In and out: CHANGES. Order: kept.
    """
    return changes.filter(
        pc.and_(is_version(changes), pc.invert(is_old(changes.column("kafka_offset"), following, done)))
    )


def is_version(changes: pa.RecordBatch) -> pa.BooleanArray:
    """Which rows are row versions. In: CHANGES."""
    return pc.and_(pc.equal(changes.column("kind"), str(Kind.CHANGE)), changes.column("is_version"))


def count_refused(changes: pa.RecordBatch) -> int:
    """How many rows are dead letters. In: CHANGES."""
    return int(pc.sum(pc.equal(changes.column("kind"), str(Kind.DEAD_LETTER))).as_py() or 0)


def check_range(changes: pa.RecordBatch, partition: int, ranges: Mapping[int, tuple[int, int]]) -> None:
    """Hold rows of one partition against the plan: partition -> (first offset, one past the last).

    Raises: ContractError.
    """
    offsets = changes.column("kafka_offset")
    first, end = ranges[partition]
    if offsets[0].as_py() < first or offsets[-1].as_py() >= end:
        raise ContractError(f"partition {partition}: rows outside the planned range [{first}, {end})")


def is_old(offsets: pa.Array, following: int, done: pa.Array = NONE) -> pa.Array:
    """Which offsets lie below `following` or are among `done`."""
    below = pc.less(offsets, following)
    return pc.or_(below, pc.is_in(offsets, value_set=done)) if len(done) else below


def commit_steps(changes: pa.RecordBatch) -> pa.Array:
    """Commit times in the source in ms, rounded down to steps of COMMIT_STEP_MS; NULL where there is none."""
    times = changes.column("source_ts_ms").cast(pa.float64())
    return pc.multiply(pc.floor(pc.divide(times, COMMIT_STEP_MS)), COMMIT_STEP_MS)


def has_own_time(changes: pa.RecordBatch) -> pa.Array:
    """Whether a row's commit time is its own: those of a snapshot share one."""
    ops = pc.fill_null(pc.not_equal(changes.column("op"), SNAPSHOT), True)
    return pc.and_(ops, changes.column("source_ts_ms").is_valid())


def to_summary(row: Mapping[str, Any]) -> PartitionSummary:
    """Read a collected row of OUTCOME_FIELDS (`asDict()` of Spark's, or Arrow's to_pylist); its range is not known."""
    own = {name: row[name] for name, _ in OUTCOME_FIELDS}
    own["dead_letters"], own["commit_times_ms"] = dict(own["dead_letters"]), dict(own["commit_times_ms"])
    return PartitionSummary(start=0, end=0, **own)


def sum_up(parts: Sequence[PartitionSummary], part: OffsetRange) -> PartitionSummary:
    """One range's outcomes, of however many tasks had a share in it."""
    own = [each for each in parts if each.partition == part.partition]
    letters, commits = Counter[str](), Counter[int]()
    for each in own:
        letters.update(each.dead_letters)
        commits.update(each.commit_times_ms)
    return PartitionSummary(
        partition=part.partition,
        start=part.start,
        end=part.end,
        read=sum(each.read for each in own),
        delivered=sum(each.delivered for each in own),
        dead_letters=dict(letters),
        truncations=sum(each.truncations for each in own),
        tombstones=sum(each.tombstones for each in own),
        moves=sum(each.moves for each in own),
        already_delivered=sum(each.already_delivered for each in own),
        repeats=sum(each.repeats for each in own),
        commit_times_ms=dict(commits),
    )
