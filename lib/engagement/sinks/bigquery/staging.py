"""What runs inside a Spark task of a backfill: the task's row versions as one Parquet file and one load job.

A task that Spark runs again within one attempt of a chunk makes the same job again: BigQuery knows it by its id and
does not load twice. Another attempt stamps its rows with another time, and so loads them once more, perhaps beside a
job of the former one. What is staged twice, also by an emulator, which knows no ids, is inserted once.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from google.cloud import bigquery
from pyspark import TaskContext

from engagement.sinks.bigquery.client import WarehouseOptions
from engagement.sinks.bigquery.jobs import JOB_SECONDS, run_job
from engagement.sinks.bigquery.rest import Rest
from engagement.sinks.bigquery.rows import ROWS, time_bounds, to_rows
from engagement.sinks.bigquery.tables import EVENTS
from engagement.sinks.outcomes import count_refused, is_version

STAGED = pa.schema([(name, pa.int64()) for name in ("rows", "refused", "event_from_us", "event_to_us")])
"""One row a task: row versions loaded, dead letters among its rows, bounds of the loaded rows' times."""
STAGING = tuple(bigquery.SchemaField(field.name, "STRING") if field.field_type == "JSON" else field for field in EVENTS)
"""The events' columns; JSON travels as text, which a load job cannot read as anything else."""


@dataclass(frozen=True)
class StagingPlan:
    """Where a chunk's rows go."""

    options: WarehouseOptions
    table: str
    """Full name of the staging table, which exists."""
    name: str
    """What job ids begin with, before partition and digest: the same for the same staging table, and for no other."""
    processed_us: int


def stage(plan: StagingPlan) -> "partial[Iterator[pa.RecordBatch]]":
    """Give the work of one Spark task: changes (contract CHANGES) in, rows of STAGED out."""
    return partial(_stage, plan=plan)


def _stage(batches: Iterable[pa.RecordBatch], *, plan: StagingPlan) -> Iterator[pa.RecordBatch]:
    rows = refused = 0
    bounds: list[int] = []
    with tempfile.TemporaryFile() as file:
        with pq.ParquetWriter(file, ROWS) as writer:
            for batch in batches:
                refused += count_refused(batch)
                versions = batch.filter(is_version(batch))
                if versions.num_rows:
                    stored = to_rows(versions, plan.processed_us)
                    writer.write_batch(stored)
                    rows += stored.num_rows
                    bounds += [us for us in time_bounds(stored) if us is not None]
        if rows:
            _load(file, plan)
    summary = [rows, refused, min(bounds, default=None), max(bounds, default=None)]
    yield pa.RecordBatch.from_arrays([pa.array([value], pa.int64()) for value in summary], schema=STAGED)


def _load(file: IO[bytes], plan: StagingPlan) -> None:
    file.seek(0)
    digest = hashlib.sha256(file.read()).hexdigest()[:16]
    context = TaskContext.get()
    rest = Rest(plan.options)
    try:
        name = f"{plan.name}_{context.partitionId() if context else 0}_{digest}"
        run_job(rest.client, name, lambda job_id: _start(rest.client, file, plan.table, job_id))
    finally:
        rest.close()


def _start(client: bigquery.Client, file: IO[bytes], table: str, job_id: str) -> bigquery.LoadJob:
    parquet: Any = bigquery.ParquetOptions()  # type: ignore[no-untyped-call]
    parquet.enable_list_inference = True  # flags as an array of texts, not of records
    config = bigquery.LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_APPEND", schema=STAGING)
    config.parquet_options = parquet
    return client.load_table_from_file(file, table, rewind=True, job_id=job_id, job_config=config, timeout=JOB_SECONDS)
