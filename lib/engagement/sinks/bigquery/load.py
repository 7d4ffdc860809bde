"""History into the warehouse: load jobs into a staging table a chunk, then one statement that adds what is missing.

Guarantee: a row is added only if the events' table holds no version of its event among the chunk's days (or not this
version: `Chunk.key`). Where a crash can fall, and why the repetition repairs it:

* while tasks load: the staging table is the chunk's, so the repetition goes on with it and loads its rows beside those
  that are there; what the table holds twice is inserted once. One that nobody comes back to expires after a day.
* while the statement runs: BigQuery knows its id, and the repetition waits for it instead of running it again, unless
  the events' table is another one by then.
* after it: the rows are there, and the repetition inserts none.

Beside the stream: what it commits meanwhile has a version above 0, so it stays the newest. Beside another backfill: the
statement runs under a lock (`guard`), since BigQuery does not hold one INSERT against another.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

from google.cloud import bigquery
from pyspark.sql import Row

from engagement.sinks.base import Additions, Chunk, Loaded
from engagement.sinks.bigquery.client import WarehouseOptions
from engagement.sinks.bigquery.faults import SINK
from engagement.sinks.bigquery.jobs import run_job
from engagement.sinks.bigquery.rest import CALL_SECONDS, Parameter, Rest
from engagement.sinks.bigquery.rows import ROWS
from engagement.sinks.bigquery.staging import STAGED, STAGING, StagingPlan, stage
from engagement.sinks.bigquery.tables import WarehouseTables
from engagement.sinks.spark_faults import spark_translated
from engagement.transform.instant import from_micros, to_micros

_STAGING_LIFE = timedelta(days=1)
_JSON = "raw_payload"
_NO_RETRY: Any = None


class WarehouseLoader:
    """Adds chunks to the events' table (sinks.base.Loader); dead letters are counted here and stored by the lake."""

    name = SINK

    def __init__(
        self,
        options: WarehouseOptions,
        guard: Callable[[], AbstractContextManager[None]],
        clock: Callable[[], datetime],
    ) -> None:
        self._options = options
        self._rest = Rest(options)
        self._guard = guard
        self._clock = clock
        self._added = Additions()

    def open(self) -> None:
        """Make dataset, tables and views, or check those that are there. Raises: TransientSinkError, Permanent…."""
        WarehouseTables(self._rest, self._options).prepare()

    def destination(self) -> str:
        """The events' table, where it is, and when it was made. Raises: TransientSinkError, PermanentSinkError."""
        table = self._events()
        name = self._rest.full_name(self._options.table)
        return " ".join((self._options.emulator or "BigQuery", name, str(table.created)))

    def load(self, chunk: Chunk) -> Loaded:
        """Add what is missing. Raises: TransientSinkError, PermanentSinkError."""
        staging = self._staging(chunk)
        tasks = self._stage(chunk, staging)
        if any(task.rows for task in tasks):
            with self._guard():
                self._added.add(chunk, _name(chunk, staging), self._insert(chunk, staging, tasks))
        ((staged,),) = self._rest.run("count_staged", staging=self._rest.quoted(staging.table_id)).rows
        self._rest.call(self._rest.client.delete_table, str(staging.reference), not_found_ok=True)
        return Loaded(int(staged), self._added.total(chunk), sum(task.refused for task in tasks))

    def close(self) -> None:
        """Let go of the connection; safe to call twice."""
        self._rest.close()

    def _events(self) -> bigquery.Table:
        return self._rest.call(self._rest.client.get_table, self._rest.full_name(self._options.table))

    def _staging(self, chunk: Chunk) -> bigquery.Table:
        table = bigquery.Table(self._rest.full_name(f"staging_{chunk.name}"), schema=STAGING)
        table.expires = self._clock() + _STAGING_LIFE
        return self._rest.call(self._rest.client.create_table, table, exists_ok=True)

    def _stage(self, chunk: Chunk, staging: bigquery.Table) -> list[Row]:
        processed_us = to_micros(self._clock())
        plan = StagingPlan(self._options, str(staging.reference), _name(chunk, staging), processed_us)
        with spark_translated(SINK):
            return chunk.changes.each_partition(stage(plan), STAGED).collect()

    def _insert(self, chunk: Chunk, staging: bigquery.Table, tasks: list[Row]) -> int:
        values = ", ".join(f"parse_json({_JSON}) as {_JSON}" if name == _JSON else name for name in ROWS.names)
        text = self._rest.text(
            "insert_missing",
            columns=", ".join(ROWS.names),
            values=values,
            staging=self._rest.quoted(staging.table_id),
            same=" and ".join(f"held.{name} = staged.{name}" for name in chunk.key),
        )
        times = [us for task in tasks for us in (task.event_from_us, task.event_to_us) if us is not None]
        bounds = {"event_from": min(times, default=0), "event_to": max(times, default=0)}
        config = bigquery.QueryJobConfig(
            query_parameters=[Parameter(name, "TIMESTAMP", from_micros(us)) for name, us in bounds.items()]
        )
        client = self._rest.client
        job = run_job(
            client,
            # A staging table can outlive the one that is filled: what was inserted there says nothing of the next one.
            f"{_name(chunk, staging)}_{_made(self._events())}_insert",
            lambda job_id: client.query(
                text, config, job_id=job_id, retry=_NO_RETRY, job_retry=None, timeout=CALL_SECONDS
            ),
        )
        return int(job.num_dml_affected_rows or 0)


def _name(chunk: Chunk, staging: bigquery.Table) -> str:
    """What the chunk's jobs are called: those of a staging table that was dropped belong to that one."""
    return f"{chunk.name}_{_made(staging)}"


def _made(table: bigquery.Table) -> int:
    """When a table was made, in ms since 1970: the same name may stand for another one."""
    return int(table.created.timestamp() * 1000) if table.created else 0
