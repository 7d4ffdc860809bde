"""Rows of `changes` out of Arrow: whole messages, one partition at a time, as plain lists (no object per row)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engagement.transform.columns import listed

CONTENT_MISSING = "content_missing"


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns of one chunk; None is NULL."""

    offsets: list[int]
    kinds: list[str]
    codes: list[str | None]
    is_version: list[bool]
    effects: list[int]
    ops: list[str | None]
    versions: list[int | None]
    commit_lsns: list[int | None]
    lsns: list[int | None]
    source_ts: list[int | None]
    halves: list[int]
    replay_of: list[int | None]
    event_ids: list[int | None]
    content_ids: list[str | None]
    user_ids: list[str | None]
    event_types: list[str | None]
    event_us: list[int | None]
    durations: list[int | None]
    pcts: list[int | None]
    """engagement_pct in hundredths."""
    units: list[int | None]

    def in_order(self) -> list[int]:
        """Row numbers, each message's taken-back image before the one that replaces it."""
        order = list(range(len(self.offsets)))
        for i in range(1, len(order)):
            if not self.is_version[i] and self.offsets[i] == self.offsets[i - 1]:
                order[i - 1], order[i] = i, i - 1
        return order


def read_rows(batch: pa.RecordBatch) -> Rows:
    """Turn a batch of `changes` into lists."""
    names = ("kafka_offset", "kind", "code", "is_version", "effect", "op", "version", "commit_lsn", "lsn")
    more = ("source_ts_ms", "half", "replay_of", "event_id", "content_id", "user_id", "event_type")
    columns = [listed(batch.column(name)) for name in (*names, *more)]
    columns += [microseconds(batch.column("event_ts")), listed(batch.column("duration_ms"))]
    columns += [unscaled(batch.column("engagement_pct")), listed(batch.column("units"))]
    return Rows(*columns)


def microseconds(column: pa.Array) -> list[int | None]:
    """Give a timestamp column as microseconds since 1970."""
    return listed(column.cast(pa.timestamp("us", column.type.tz)).view(pa.int64()))


def unscaled(column: pa.Array) -> list[int | None]:
    """Give a decimal column's integers (12.34 -> 1234) from its buffer: building Decimals costs 20 times as much."""
    if len(column) == 0 or column.null_count == len(column):
        return [None] * len(column)
    halves = np.frombuffer(column.buffers()[1], dtype="<i8")
    low = halves[2 * column.offset : 2 * (column.offset + len(column)) : 2]
    return listed(pa.array(low, mask=column.is_null().to_numpy(zero_copy_only=False)))


def unknown_content(batch: pa.RecordBatch) -> frozenset[str]:
    """Contents whose rows carry the flag content_missing."""
    flags = batch.column("flags")
    if pc.index(flags.flatten(), CONTENT_MISSING).as_py() < 0:
        return frozenset()
    pairs = zip(batch.column("content_id").to_pylist(), flags.to_pylist(), strict=True)
    return frozenset(content for content, row in pairs if content and CONTENT_MISSING in (row or ()))


def chunks(batches: Iterable[pa.RecordBatch], size: int) -> Iterator[pa.RecordBatch]:
    """Cut one partition's batches into chunks of about `size` rows, never inside a message."""
    held: pa.RecordBatch | None = None
    for batch in batches:
        whole = pa.concat_batches([held, batch]) if held is not None else batch
        offsets = whole.column("kafka_offset").to_numpy(zero_copy_only=False)
        start = 0
        # What may be the last chunk is held until it is known to end here: its last message may go on.
        while len(offsets) - start > size:
            stop = int(np.searchsorted(offsets, offsets[start + size - 1], side="right"))
            if stop == len(offsets):
                break
            yield whole.slice(start, stop - start)
            start = stop
        held = whole.slice(start)
    if held is not None and held.num_rows:
        yield held
