"""Mending what differs, through the same loaders as a backfill.

A row that is missing is added as version 0. A row that is stale needs a version that is above all that the stream has
delivered of it and below all that it will still deliver: the database's log position when the run began, once every
transaction of that time has ended. What lies before that position can be read by then and is in what is read; whatever
changes the row later lies behind it. One less than the position is no multiple of 8, so no change has that version.
An event that PostgreSQL does not have any more gets a deletion of that version.

Where a sink holds a version that is no lower than that, the number after it is given. Either it was delivered since the
run began: then whatever changes the row later lies further behind it, since the lock of a row orders its changes. Or it
is of another database, which this one was restored or moved from and whose log was longer: then it would hide whatever
lies below it, and after the row's next change it does so again, until that is mended too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from engagement.errors import TransientError
from engagement.reconcile.compare import Findings, Held, Kind
from engagement.reconcile.run import LETTERS
from engagement.schemas import CHANGES, DELETION
from engagement.schemas import Kind as Outcome
from engagement.sinks.base import Chunk, Loader
from engagement.small_frames import small_frame
from engagement.sources.content import ContentCatalogue, ContentSnapshot
from engagement.sources.history import EventsTable, LogPosition
from engagement.transform.changes import Changes, FramedChanges, transform_rows
from engagement.transform.instant import from_micros

_VERSIONS = pa.schema([("event_id", pa.int64()), ("version", pa.int64())])
_GONE = pa.schema([*_VERSIONS, ("event_ts", pa.timestamp("us", "UTC"))])
_EVENT, _VERSION = ("event_id",), ("event_id", "version")


@dataclass
class Mender:
    """Mends; `position` is where the log was before anything was compared."""

    spark: SparkSession
    table: EventsTable
    catalogue: ContentCatalogue
    position: LogPosition
    name: str
    """Of this run: what chunks are called after."""
    now: Callable[[], datetime]
    _contents: ContentSnapshot | None = field(default=None, init=False)

    def version_above(self, held: Held) -> int:
        """What a stale row or a deletion is given where a sink holds this."""
        return max(self.position.place - 1, held.version + 1)

    def mend(self, found: Findings, loader: Loader, drop_copies: Callable[[Sequence[int]], None]) -> None:
        """Mend what was found in one sink. Raises: TransientError, TransientSinkError, PermanentSinkError."""
        if found.ids.get(Kind.DOUBLED):
            drop_copies(found.ids[Kind.DOUBLED])
        if found.ids.get(Kind.MISSING):
            self._load(loader, Kind.MISSING, self._rows(found.ids[Kind.MISSING]), _EVENT, found.ids[Kind.MISSING])
        stale, phantom = found.ids.get(Kind.STALE, []), found.ids.get(Kind.PHANTOM, [])
        if (stale or phantom) and not self.table.is_settled(self.position):
            raise TransientError("transactions from before this began are still open; stale rows cannot be judged yet")
        if stale:
            self._load(loader, Kind.STALE, self._newer(stale, found.held), _VERSION, stale)
        if phantom:
            self._load(loader, Kind.PHANTOM, self._deletions(phantom, found.held), _VERSION, phantom)

    def mend_letters(self, found: Findings, loader: Loader) -> None:
        """Add dead letters that are missing, by the loader of the lake."""
        ids = found.ids.get(Kind.MISSING, [])
        if ids:
            self._load(loader, LETTERS, self._rows(ids), _EVENT, ids)

    def _load(self, loader: Loader, what: str, changes: DataFrame, key: tuple[str, ...], ids: Sequence[int]) -> None:
        loader.load(Chunk(f"{self.name}_{what}", FramedChanges(changes), key, (min(ids), max(ids))))

    def _rows(self, ids: Sequence[int]) -> DataFrame:
        self._contents = self.catalogue.load(self._contents)
        read = self.table.read_ids(self.spark, ids, self.now())
        return Changes(read, self._contents.contents, transform_rows).frame()

    def _newer(self, ids: Sequence[int], held: Mapping[int, Held]) -> DataFrame:
        """Rows as they are now, above what a sink holds of them. Out: CHANGES. Shuffle: none."""
        given = [(number, self.version_above(held[number])) for number in ids]
        versions = F.broadcast(small_frame(self.spark, _VERSIONS, given))
        rows = self._rows(ids).drop("version").join(versions, "event_id", "left")
        return rows.withColumn("op", F.lit("u")).select(*CHANGES.names)

    def _deletions(self, ids: Sequence[int], held: Mapping[int, Held]) -> DataFrame:
        """Deletions that lie where the events lie. Out: CHANGES."""
        rows = [(number, self.version_above(held[number]), _moment(held[number].event_us)) for number in ids]
        given = small_frame(self.spark, _GONE, rows)
        known = {
            "kind": F.lit(str(Outcome.CHANGE)),
            "is_version": F.lit(True),
            "op": F.lit(DELETION),
            "version": F.col("version"),
            "event_id": F.col("event_id"),
            "event_ts": F.col("event_ts"),
            "flags": F.array().cast("array<string>"),
        }
        columns = [known.get(c.name, F.lit(None)).cast(c.dataType).alias(c.name) for c in CHANGES]
        return given.select(*columns)


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)
