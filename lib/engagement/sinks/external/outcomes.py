"""What a Spark task gives back: a small row per Kafka partition, and the names of the files with its outcomes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from engagement.identity import OffsetRange
from engagement.schemas import SNAPSHOT, DeadLetterCode
from engagement.sinks.base import PartitionSummary
from engagement.sinks.delta.files import FILE_FIELD
from engagement.sinks.external.lane import Halt, Outcome, Status
from engagement.sinks.external.lanes import LaneResult
from engagement.sinks.external.trip import Tally
from engagement.sinks.outcomes import COMMIT_STEP_MS, OutcomeCounts

REJECTED_FIELD = pa.struct(
    [
        ("kafka_partition", pa.int32()),
        ("kafka_offset", pa.int64()),
        ("http_status", pa.int32()),
        ("attempts", pa.int32()),
    ]
)
HELD_FIELD = pa.struct(
    [(name, pa.int64()) for name in ("partition", "kafka_offset", "event_id", "version", "kafka_ms")]
)
_NUMBERS = (
    *("partition", "read", "delivered", "truncations", "tombstones", "moves", "already_delivered"),
    *("left", "first_left"),
)
_TALLY = ("requests", "refused", "failures", "retries")
SCHEMA = pa.schema(
    [
        *((name, pa.int64()) for name in (*_NUMBERS, *_TALLY)),
        ("dead_letters", pa.map_(pa.string(), pa.int64())),
        ("commit_times_ms", pa.map_(pa.int64(), pa.int64())),
        ("rejected", pa.list_(REJECTED_FIELD)),
        ("held", pa.list_(HELD_FIELD)),
        ("ahead", pa.list_(pa.int64())),
        *(("halt", pa.string()), ("pause", pa.bool_()), ("retry_after_seconds", pa.float64())),
        ("files", pa.list_(FILE_FIELD)),
    ]
)
"""A row per partition; what belongs to the task as a whole stands in the first of them."""


@dataclass(frozen=True)
class Part:
    """What became of one partition's messages in one round."""

    partition: int
    read: int
    delivered: int
    truncations: int
    tombstones: int
    moves: int
    already_delivered: int
    dead_letters: Mapping[str, int]
    """Of the transform."""
    commit_times_ms: Mapping[int, int]
    """Of what was delivered."""
    rejected: Sequence[Mapping[str, Any]]
    """Rows of REJECTED_FIELD."""
    left: int
    """Row versions without an outcome."""
    first_left: int | None
    """The lowest offset among them."""
    ahead: Sequence[int]
    """Offsets beyond the range that have an outcome: they count when their own micro-batch comes."""
    held: Sequence[Mapping[str, Any]]
    """Rows of HELD_FIELD: of what is left, what is to be sent when all else is out (moved.py)."""
    halt: Halt | None
    requests: int
    """Of the whole task; like the next three (see Tally) it stands at one of the task's partitions."""
    refused: int
    failures: int
    retries: int
    files: Sequence[Mapping[str, Any]]
    """Rows of FILE_FIELD: the outcomes of the whole task."""

    @property
    def unsent(self) -> int:
        """What is left and was not held back."""
        return self.left - len(self.held)


def to_batch(
    counted: Mapping[int, OutcomeCounts],
    result: LaneResult,
    files: Sequence[Mapping[str, Any]],
    *,
    held: Sequence[Mapping[str, int]] = (),
    ends: Mapping[int, int] | None = None,
) -> pa.RecordBatch:
    """Give rows of SCHEMA; `held` are rows of HELD_FIELD, `ends` says where ranges end that outcomes may lie beyond."""
    rows = [_summary(counts, result, held, (ends or {}).get(counts.partition)) for counts in counted.values()]
    for number, row in enumerate(rows):
        tally = {name: getattr(result.tally, name) if number == 0 else 0 for name in _TALLY}
        row |= {**tally, "files": files if number == 0 else []}
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def from_rows(rows: Iterable[Mapping[str, Any]]) -> list[Part]:
    """Read collected rows of SCHEMA (`row.asDict(recursive=True)` of Spark, or Arrow's to_pylist)."""
    return [_part(dict(row)) for row in rows]


def tally_of(parts: Sequence[Part]) -> Tally:
    """What was sent in a round."""
    return Tally(**{name: sum(getattr(part, name) for part in parts) for name in _TALLY})


def sum_up(rounds: Sequence[Sequence[Part]], part: OffsetRange) -> PartitionSummary:
    """One range's outcomes over all rounds: the first has seen what was not to be sent, each has sent a share."""
    mine = [[each for each in parts if each.partition == part.partition] for parts in rounds]
    sent, first = [each for parts in mine for each in parts], mine[0] if mine else []
    letters, commits = Counter[str](), Counter[int]()
    for each in first:
        letters.update(each.dead_letters)
    for each in sent:
        commits.update(each.commit_times_ms)
    rejected = sum(row["kafka_offset"] < part.end for each in sent for row in each.rejected)
    if rejected:
        letters[DeadLetterCode.E_HTTP_REJECT.value] = rejected
    return PartitionSummary(
        partition=part.partition,
        start=part.start,
        end=part.end,
        read=sum(each.read for each in first),
        delivered=sum(each.delivered for each in sent),
        dead_letters=dict(letters),
        truncations=sum(each.truncations for each in first),
        tombstones=sum(each.tombstones for each in first),
        moves=sum(each.moves for each in first),
        already_delivered=sum(each.already_delivered for each in first),
        commit_times_ms=dict(commits),
    )


def _summary(
    counts: OutcomeCounts, result: LaneResult, held: Sequence[Mapping[str, int]], end: int | None
) -> dict[str, Any]:
    all_mine = [outcome for outcome in result.outcomes if outcome.version.partition == counts.partition]
    mine = [outcome for outcome in all_mine if end is None or outcome.version.offset < end]
    left = [version.offset for version in result.left if version.partition == counts.partition]
    delivered = [outcome for outcome in mine if outcome.status is Status.DELIVERED]
    halt = result.halt
    return {
        **counts.row(),
        "delivered": len(delivered),
        "commit_times_ms": list(_commit_times(delivered).items()),
        "rejected": [_rejected(outcome) for outcome in all_mine if outcome.status is Status.REJECTED],
        "ahead": [outcome.version.offset for outcome in all_mine if end is not None and outcome.version.offset >= end],
        "held": [row for row in held if row["partition"] == counts.partition],
        "left": len(left),
        "first_left": min(left, default=None),
        "halt": None if halt is None else halt.reason,
        "pause": None if halt is None else halt.pause,
        "retry_after_seconds": None if halt is None else halt.retry_after_seconds,
    }


def _rejected(outcome: Outcome) -> dict[str, int]:
    return {
        "kafka_partition": outcome.version.partition,
        "kafka_offset": outcome.version.offset,
        "http_status": outcome.http_status,
        "attempts": outcome.attempts,
    }


def _commit_times(delivered: Sequence[Outcome]) -> Counter[int]:
    times = [each.version.commit_ms for each in delivered if each.version.op != SNAPSHOT]
    return Counter(ms - ms % COMMIT_STEP_MS for ms in times if ms is not None)


def _part(row: dict[str, Any]) -> Part:
    reason, pause, seconds = (row.pop(name) for name in ("halt", "pause", "retry_after_seconds"))
    row["dead_letters"], row["commit_times_ms"] = dict(row["dead_letters"]), dict(row["commit_times_ms"])
    return Part(**row, halt=None if reason is None else Halt(reason, bool(pause), seconds))
