"""What a run would do, without Spark and without a trace: each source counts what it has of the range."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from engagement.backfill.build import RECEIVER, SOURCES, Request, events_of
from engagement.errors import TransientSinkError, first_line
from engagement.project import PROJECT
from engagement.settings import Settings
from engagement.sinks.delta.faults import translated
from engagement.sinks.lake.tables import SINK, events_table
from engagement.sources.history import Span
from engagement.sources.kafka import TopicPositions
from engagement.streaming.options import kafka_topic
from engagement.transform.instant import to_micros

_LAKE_DAYS = PROJECT / "sql" / "backfill" / "count_lake_days.sql"
_AS_IS = "each with the version that it has there"
_TAKEN = "what the streams of these sinks have yet to take is left to them"


@dataclass(frozen=True)
class Counted:
    """What a source has of the range."""

    lines: Sequence[str]
    total: int
    items: str
    """What it has so many of."""
    versions: str
    """As what they are added."""


def dry_run(settings: Settings, request: Request) -> Iterator[str]:
    """What the source holds of the range, and what a run would do. Raises: TransientError."""
    counted = _SOURCES[request.source](settings, request.span)
    yield from counted.lines
    for sink in request.sinks:
        yield f"would {_PURPOSES[sink].format(items=counted.items, versions=counted.versions)}"
    if RECEIVER in request.sinks:
        rate = settings.external.backfill_rate
        seconds = f"{counted.total / rate:,.0f} s for all of these {counted.items}"
        yield f"the receiver is sent {rate:,} events a second at most: {seconds}"
    yield "nothing was written"


def _of_postgres(settings: Settings, span: Span) -> Counted:
    days = events_of(settings).count_days(span)
    rows, size = sum(day.rows for day in days), settings.backfill.batch_size
    lines = [f"{day.day}  {day.rows:>12,} rows, ids {day.first_id} to {day.last_id}" for day in days]
    lines.append(f"{rows:,} rows in {len(days)} days, {-(-rows // size)} chunks of up to {size:,} rows")
    return Counted(lines, rows, "rows", "each with version 0")


def _of_the_lake(settings: Settings, span: Span) -> Counted:
    days = lake_days(events_table(settings.paths.lake_path).path, span, _LAKE_DAYS)
    rows = sum(days.values())
    lines = [f"{day:10}  {count:>12,} row versions" for day, count in days.items()]
    lines.append(f"{rows:,} row versions in {len(days)} chunks, one a day; {_TAKEN}")
    return Counted(lines, rows, "row versions", _AS_IS)


def lake_days(path: str, span: Span, sql: Path) -> dict[str, int]:
    """Of a table of the lake, UTC day -> row versions of the span; none where there is no table.

    Raises: TransientSinkError.
    """
    text = sql.read_text().format(
        first_day=span.start.date(), last_day=span.end.date(),
        start_us=to_micros(span.start), end_us=to_micros(span.end),
    )  # fmt: skip
    with translated(SINK):
        if not DeltaTable.is_deltatable(path):
            return {}
        try:
            found = QueryBuilder().register("events", DeltaTable(path)).execute(text)
            rows = pa.RecordBatchReader.from_stream(found).read_all().to_pylist()
        except pa.ArrowException as error:  # what the engine meets while it reads
            raise TransientSinkError(SINK, first_line(error)) from error
    return {str(row["day"] or "no day"): row["rows"] for row in rows}


def _of_kafka(settings: Settings, _span: Span) -> Counted:
    with closing(TopicPositions(kafka_topic(settings.kafka))) as positions:
        return of_topic(positions.bounds(), settings.backfill.batch_size)


def of_topic(bounds: Mapping[int, tuple[int, int]], chunk_rows: int) -> Counted:
    """Partition -> first offset and end: ends of transactions count too, and who does not read sees no event times."""
    total = sum(end - first for first, end in bounds.values())
    lines = [
        f"partition {number:<4} {end - first:>12,} messages at most, offsets {first} to {end}, itself excluded"
        for number, (first, end) in sorted(bounds.items())
    ]
    taken = f"of which those of the range are taken, in chunks of up to {chunk_rows:,}; {_TAKEN}"
    lines.append(f"{total:,} messages at most in {len(bounds)} partitions, {taken}")
    return Counted(lines, total, "row versions", _AS_IS)


_SOURCES: Mapping[str, Callable[[Settings, Span], Counted]] = dict(
    zip(SOURCES, (_of_postgres, _of_the_lake, _of_kafka), strict=True)
)
_PURPOSES = {
    "warehouse": "add the {items} that the warehouse's table lacks, {versions}",
    "lake": "add the {items} that the lake's table lacks, {versions}",
    "external": "send the receiver the {items} of which no delivery is on record, {versions}",
    "redis": "count the live window again from Kafka; rows outside it change nothing",
}
