"""What runs inside a Spark task of a backfill: the task's row versions as files that no table names yet.

The same files as the stream's tasks write (writer.py), and as harmless before the driver's commit names them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from engagement.sinks.delta.files import FILE_FIELD, FileWriter, Folder
from engagement.sinks.delta.letters import LetterWriter
from engagement.sinks.lake.letters import to_letters
from engagement.sinks.lake.tables import EVENT_DATE, to_file_rows
from engagement.sinks.outcomes import ANY_PLACE, count_refused, is_version
from engagement.transform.changes import Task

WRITTEN = pa.schema(
    [("rows", pa.int64()), ("refused", pa.int64()), ("files", pa.list_(FILE_FIELD)), ("letters", pa.list_(FILE_FIELD))]
)
"""One row a task: row versions and dead letters among its rows, the files of both."""


@dataclass(frozen=True)
class ChunkPlan:
    """What a task needs to know."""

    events: Folder
    dead_letters: Folder
    processed_us: int
    """Time of processing, the same for the whole chunk."""
    name: str
    """The chunk's."""


def write_chunk(plan: ChunkPlan) -> Task:
    """Give the work of one Spark task: changes (contract CHANGES) in, rows of WRITTEN out."""
    return partial(_write, plan=plan)


def _write(batches: Iterable[pa.RecordBatch], *, plan: ChunkPlan) -> Iterator[pa.RecordBatch]:
    writer = FileWriter(plan.events, EVENT_DATE, "event_ts", plan.processed_us // 1000)
    rows = refused = 0
    letters = LetterWriter(plan.dead_letters, plan.processed_us // 1000)
    for batch in batches:
        versions = batch.filter(is_version(batch))
        rows += versions.num_rows
        writer.add(to_file_rows(versions, plan.processed_us))
        count = count_refused(batch)
        if count:
            refused += count
            letters.add(to_letters(batch, ANY_PLACE, plan.name))
    writer.finish()
    letters.finish()
    written = {"rows": rows, "refused": refused, "files": writer.files, "letters": letters.files}
    yield pa.RecordBatch.from_pylist([written], schema=WRITTEN)
