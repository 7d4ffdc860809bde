"""Parquet files of a Delta table that a commit may name: written where the rows are, seen by nobody before it."""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake.transaction import AddAction
from pyarrow.fs import FileSystem, LocalFileSystem

ROWS_PER_FILE, BYTES_PER_FILE = 250_000, 128 * 2**20
"""What a task holds at most until it writes it; messages that were refused may be large."""
EVENT_BOUNDS = ("event_id", "version")
"""Columns of events whose bounds a commit tells: readers that look for single ones skip other files."""
_NO_DAY = "__HIVE_DEFAULT_PARTITION__"
_LAST_DAY = 2_932_896
"""9999-12-31 in days since 1970: other engines know no later one, and a broker's time can lie beyond."""

FILE_FIELD = pa.struct(
    [("path", pa.string()), ("size", pa.int64()), ("day", pa.string()), ("stats", pa.string()), ("at_ms", pa.int64())]
)


def bounds_property(columns: Sequence[str]) -> tuple[str, str]:
    """Property of a table whose commits tell the bounds of these columns.

    Without it, delta-rs takes it that files hold nothing of the other columns, and finds no row by them.
    """
    return "delta.dataSkippingStatsColumns", ",".join(columns)


@dataclass(frozen=True)
class Folder:
    """A table's folder or object store address, as tasks reach it."""

    address: str

    def opened(self) -> tuple[FileSystem, str]:
        """The file system and the folder's path in it. Raises: OSError."""
        if "://" not in self.address and not self.address.startswith("file:"):
            return LocalFileSystem(), str(Path(self.address).absolute())
        # Hadoop's name for the same store.
        file_system, path = FileSystem.from_uri(self.address.replace("s3a://", "s3://", 1))
        return file_system, path


class FileWriter:
    """Collects rows and writes them as files of `folder`, one per UTC day of the time in `day_of`."""

    def __init__(
        self, folder: Folder, partition_by: str, day_of: str, at_ms: int, bounded: Sequence[str] = EVENT_BOUNDS
    ) -> None:
        self._folder = folder
        self._partition_by = partition_by
        self._day_of = day_of
        self._at_ms = at_ms
        self._bounded = bounded
        self._waiting: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0
        self.files: list[dict[str, Any]] = []
        """Rows of FILE_FIELD: what was written."""

    def add(self, rows: pa.RecordBatch) -> None:
        """Take rows (the table's columns without the day); they are written sooner or later. Raises: OSError."""
        if rows.num_rows:
            self._waiting.append(rows)
            self._rows += rows.num_rows
            self._bytes += rows.nbytes
        if self._rows >= ROWS_PER_FILE or self._bytes >= BYTES_PER_FILE:
            self.finish()

    def finish(self) -> None:
        """Write what waits. Raises: OSError."""
        if not self._waiting:
            return
        rows, self._waiting, self._rows, self._bytes = pa.Table.from_batches(self._waiting), [], 0, 0
        file_system, root = self._folder.opened()
        for day, group in _by_day(rows, self._day_of):
            of_day = f"{self._partition_by}={day or _NO_DAY}"
            name = f"{of_day}/part-{uuid.uuid4()}.parquet"
            file_system.create_dir(f"{root}/{of_day}", recursive=True)
            size = write_parquet(file_system, f"{root}/{name}", group)
            stats = json.dumps(_stats(group, self._bounded))
            self.files.append({"path": name, "size": size, "day": day, "stats": stats, "at_ms": self._at_ms})


def write_parquet(file_system: FileSystem, path: str, rows: pa.Table) -> int:
    """Write one file and give its size in bytes. Raises: OSError."""
    with file_system.open_output_stream(path) as out:
        pq.write_table(rows, out, compression="zstd")
        return int(out.tell())


def add_action(file: Mapping[str, Any], partition_by: str) -> AddAction:
    """A row of FILE_FIELD as a commit names it."""
    return AddAction(file["path"], file["size"], {partition_by: file["day"]}, file["at_ms"], True, file["stats"])


def days_of(times: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """The UTC days of some times; NULL for those that other engines do not know."""
    days = times.cast(pa.date32()).cast(pa.int32())
    return pc.if_else(pc.less_equal(days, _LAST_DAY), days, pa.scalar(None, pa.int32())).cast(pa.date32())


def _by_day(rows: pa.Table, day_of: str) -> Iterator[tuple[str | None, pa.Table]]:
    """Rows in groups of one day (NULL has its own), in the order in which they came."""
    days = days_of(rows[day_of]).cast(pa.int32()).combine_chunks()
    order = pc.sort_indices(days)
    sorted_days = pc.fill_null(days.take(order), _LAST_DAY + 1).to_numpy()
    borders = [0, *(np.flatnonzero(np.diff(sorted_days)) + 1).tolist(), len(sorted_days)]
    for start, stop in pairwise(borders):
        day = pa.scalar(int(sorted_days[start]), pa.int32()).cast(pa.date32())
        group = rows.take(order.slice(start, stop - start)) if len(borders) > 2 else rows  # noqa: PLR2004
        yield (None if sorted_days[start] > _LAST_DAY else str(day)), group


def _stats(rows: pa.Table, bounded: Sequence[str]) -> dict[str, Any]:
    bounds = {name: pc.min_max(rows[name]).as_py() for name in bounded}
    return {
        "numRecords": rows.num_rows,
        "minValues": {name: bound["min"] for name, bound in bounds.items()},
        "maxValues": {name: bound["max"] for name, bound in bounds.items()},
        "nullCount": {name: rows[name].null_count for name in bounds},
    }
