"""The dataset's tables and views: how they are made, and what is done with those that are there already."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from google.cloud import bigquery

from engagement.errors import PermanentSinkError
from engagement.sinks.bigquery.client import WarehouseOptions
from engagement.sinks.bigquery.faults import SINK
from engagement.sinks.bigquery.fence import from_text
from engagement.sinks.bigquery.rest import FENCE, VIEWS, ListParameter, Rest
from engagement.sinks.bigquery.rows import ROWS

log = logging.getLogger(__name__)

_CLUSTERING = ("content_type", "event_type", "content_id")
_PARTITIONED_BY = "event_timestamp"
_NEVER_NULL = frozenset({"event_id", "op", "version", "processed_timestamp"})
_OLD_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "DECIMAL": "NUMERIC"}
"""BigQuery's API answers with these for the types that SQL knows by the others."""

_TABLE_GONE = (
    "the warehouse's table %s is gone; it is made again, and its fences %s are not believed any more: rows come again "
    "as far back as Kafka holds them, older ones by "
    "./spark-submit.sh backfill --sinks warehouse --start-date D --end-date D"
)


def _field(column: pa.Field) -> bigquery.SchemaField:
    kind = column.type
    if column.name == "raw_payload":
        return bigquery.SchemaField(column.name, "JSON")
    if pa.types.is_list(kind):
        return bigquery.SchemaField(column.name, "STRING", "REPEATED")
    if pa.types.is_decimal(kind):
        return bigquery.SchemaField(column.name, "NUMERIC")
    if pa.types.is_timestamp(kind):
        return bigquery.SchemaField(column.name, "TIMESTAMP")
    return bigquery.SchemaField(column.name, "INT64" if pa.types.is_integer(kind) else "STRING")


EVENTS = tuple(_field(column) for column in ROWS)
"""The public table."""
FENCES = (
    bigquery.SchemaField("topic_id", "STRING"),
    bigquery.SchemaField("state", "STRING", description="done, or claimed: a step whose end nobody has noted"),
    bigquery.SchemaField("next_offsets", "STRING", description="JSON: Kafka partition -> next offset to take"),
    bigquery.SchemaField("former_offsets", "STRING", description="the same, before the newest step"),
    bigquery.SchemaField("streams", "STRING", description="JSON: streams that the newest step commits"),
    bigquery.SchemaField("token", "STRING", description="changes with every step"),
    bigquery.SchemaField("places", "STRING", description="JSON: Kafka partition -> farthest place in the source's log"),
    bigquery.SchemaField("batch", "STRING", description="the newest step's micro-batch, for people"),
    bigquery.SchemaField("processed_timestamp", "TIMESTAMP", description="what the newest step's rows carry"),
    bigquery.SchemaField("event_from", "TIMESTAMP", description="earliest event of the newest step"),
    bigquery.SchemaField("event_to", "TIMESTAMP", description="latest event of the newest step"),
    bigquery.SchemaField("updated_at", "TIMESTAMP"),
    bigquery.SchemaField("events_table", "STRING", description="whose fence it is; NULL: of an earlier release"),
)
"""One row per topic and events' table; sql/bigquery/*_fence.sql read and write it."""


@dataclass(frozen=True)
class WarehouseTables:
    """Makes the dataset ready; nothing is touched before `prepare`."""

    rest: Rest
    options: WarehouseOptions

    def prepare(self) -> None:
        """Make what is missing, check what is there.

        Columns that only a table has stay; new rows leave them NULL. Raises: TransientSinkError; PermanentSinkError for
        a column of another type, before any row is read.
        """
        self._make_dataset()
        fence = bigquery.Table(self.rest.full_name(FENCE), schema=FENCES)
        self._prepare_table(fence, FENCES)
        self._prepare_events()
        for view in VIEWS:
            self._prepare_view(view)

    def _make_dataset(self) -> None:
        if self.rest.find(self.rest.client.get_dataset, self.options.dataset_id) is None:
            dataset = bigquery.Dataset(self.options.dataset_id)
            dataset.location = self.options.location
            self.rest.call(self.rest.client.create_dataset, dataset, exists_ok=True)

    def _prepare_events(self) -> None:
        events = bigquery.Table(self.rest.full_name(self.options.table), schema=EVENTS)
        events.time_partitioning = bigquery.TimePartitioning(bigquery.TimePartitioningType.DAY, _PARTITIONED_BY)
        events.clustering_fields = _CLUSTERING
        if self._found(events) is None:
            self._forget_fences(events)
        self._prepare_table(events, EVENTS)

    def _forget_fences(self, events: bigquery.Table) -> None:
        """Believe no fence of rows that are gone; before their table is made anew, so that a crash forgets them too.

        A claim under way goes with them: its streams belong to the table that is gone, and its driver is told. Fences
        of other events' tables stay; so do those that name none, which a table without rows does not take for its own.
        """
        rows = [row for row in self.rest.run("read_fence").rows if row["events_table"] == events.table_id]
        fences = {row["token"]: (row["topic_id"], from_text(row["next_offsets"])) for row in rows}
        reached = {topic_id: offsets for topic_id, offsets in fences.values() if any(offsets.values())}
        # Looked again after reading: who made the table meanwhile has a fence of its own, which these are not.
        if not reached or self._found(events) is not None:
            return
        self.rest.run("forget_fences", [ListParameter("tokens", "STRING", list(fences))])
        log.warning(_TABLE_GONE, events.table_id, reached)

    def _found(self, table: bigquery.Table) -> bigquery.Table | None:
        return self.rest.find(self.rest.client.get_table, str(table.reference))

    def _prepare_table(self, wanted: bigquery.Table, fields: Sequence[bigquery.SchemaField]) -> None:
        there = self._found(wanted)
        if there is None:
            # Of two drivers that start at once, the second is told that it exists.
            there = self.rest.call(self.rest.client.create_table, wanted, exists_ok=True)
        found = {field.name: field for field in there.schema}
        wrong = [told for field in fields if field.name in found and (told := _difference(field, found[field.name]))]
        if wrong:
            name = wanted.table_id
            raise PermanentSinkError(SINK, f"table {name} has columns of another type: {'; '.join(wrong)}")
        absent = [field for field in fields if field.name not in found]
        if absent:
            self._add(wanted.table_id, absent)

    def _add(self, name: str, fields: Sequence[bigquery.SchemaField]) -> None:
        for field in fields:
            kind = f"array<{field.field_type}>" if field.mode == "REPEATED" else field.field_type
            self.rest.run("add_column", table=self.rest.quoted(name), column=field.name, kind=kind)
        # An emulator's statement changes its table but not its catalogue, and its API only the catalogue.
        there = self.rest.call(self.rest.client.get_table, self.rest.full_name(name))
        known = {field.name for field in there.schema}
        unknown = [field for field in fields if field.name not in known]
        if unknown:
            there.schema = [*there.schema, *unknown]
            self.rest.call(self.rest.client.update_table, there, ["schema"])

    def _prepare_view(self, view: str) -> None:
        query = self.rest.text(view)
        there = self.rest.find(self.rest.client.get_table, self.rest.full_name(view))
        if there is None or (there.view_query or "").strip() != query:
            self.rest.run("replace_view", view=self.rest.quoted(view), query=query)


def _difference(wanted: bigquery.SchemaField, found: bigquery.SchemaField) -> str:
    """What makes a column useless, "" when it serves."""
    kind = _OLD_NAMES.get(found.field_type, found.field_type)
    if kind != wanted.field_type or (found.mode == "REPEATED") != (wanted.mode == "REPEATED"):
        return f"{found.name} is {found.mode} {kind}, not {wanted.mode} {wanted.field_type}"
    if found.mode == "REQUIRED" and wanted.name not in _NEVER_NULL:
        return f"{found.name} is REQUIRED, but can be NULL"
    return ""
