"""Row images joined with their content, and what is computed from both; the public event and dead letter schemas."""

from collections.abc import Callable, Sequence
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from engagement import scoring
from engagement.schemas import CHANGES, DEAD_LETTER, ENRICHED_EVENT, Kind

DECODE_STAGE = "decode"
_KNOWN = "known_content_id"


class Enricher:
    """Joins images with content; keeps its columns, since making them costs some hundred calls into the JVM.

    One instance per query is enough, and a micro-batch then costs about a dozen such calls.
    """

    def __init__(self) -> None:
        self._select = PreparedSelect(_change_columns)
        self._matches: Column | None = None
        self._content: DataFrame | None = None
        self._known: DataFrame | None = None

    def __call__(self, images: DataFrame, content: DataFrame) -> DataFrame:
        """What every sink starts from.

        In: IMAGES, CONTENT (content_id unique). Out: CHANGES. Rows: 1 -> 1. Order: kept. Shuffle: none, content is
        broadcast; so one task holds a whole Kafka partition.
        """
        if self._matches is None:
            self._matches = F.col("content_id") == F.col(_KNOWN)
        if self._known is None or content is not self._content:
            self._content, self._known = content, F.broadcast(content.withColumnRenamed("content_id", _KNOWN))
        return self._select(images.join(self._known, on=self._matches, how="left"))


class PreparedSelect:
    """`frame.select(*columns)` that hands the columns to the JVM once; `select` does so, one by one, at every call."""

    def __init__(self, columns: Callable[[], Sequence[Column]]) -> None:
        self._make_columns = columns
        self._prepared: Any = None

    def __call__(self, frame: DataFrame) -> DataFrame:
        """The selection from one frame."""
        classic: Any = frame
        if self._prepared is None:
            self._prepared = classic._jcols(*self._make_columns())
        selected: DataFrame = type(classic)(classic._jdf.select(self._prepared), frame.sparkSession)
        return selected


def enrich_changes(images: DataFrame, content: DataFrame) -> DataFrame:
    """`Enricher` for a single use."""
    return Enricher()(images, content)


def enriched_events(changes: DataFrame, processed_ts: Column) -> DataFrame:
    """The row versions, one row each.

    In: CHANGES. Out: ENRICHED_EVENT. Rows: 1 -> 0..1 (moves, dead letters, tombstones and rows before an update are
    left out). Order: kept. Shuffle: none. The time is passed in, so that a repeated micro-batch can give the same one.
    """
    versions = changes.where((F.col("kind") == str(Kind.CHANGE)) & F.col("is_version"))
    return versions.select(*ENRICHED_EVENT.names[:-1], processed_ts.alias("processed_ts"))


def dead_letters(changes: DataFrame) -> DataFrame:
    """The messages that were refused, with their bytes.

    In: IMAGES or CHANGES. Out: DEAD_LETTER. Rows: 1 -> 0..1. Order: kept. Shuffle: none.
    """
    refused = changes.where(F.col("kind") == str(Kind.DEAD_LETTER))
    return refused.withColumn("stage", F.lit(DECODE_STAGE)).select(*DEAD_LETTER.names)


def _change_columns() -> list[Column]:
    computed = _computed_columns()
    return [computed[n].alias(n) if n in computed else F.col(n) for n in CHANGES.names]


def _computed_columns() -> dict[str, Column]:
    duration, length = F.col("duration_ms"), F.col("length_seconds")
    hundredths = scoring.pct_hundredths_column(duration, length)
    flags = scoring.flags_column(
        over_100=hundredths > scoring.FULL_HUNDREDTHS,
        length_bad=length <= 0,
        content_missing=F.col("content_id").isNotNull() & F.col(_KNOWN).isNull(),
        suspect=duration > scoring.DAY_MS,
        skewed=F.col("event_ts") > F.col("kafka_ts"),
    )
    return {
        "engagement_seconds": (duration.cast("decimal(12,0)") * F.expr("0.001BD")).cast("decimal(12,3)"),
        "engagement_pct": (hundredths.cast("decimal(12,0)") * F.expr("0.01BD")).cast("decimal(14,2)"),
        "flags": flags,
        "units": scoring.score_units_column(F.col("event_type"), hundredths),
    }
