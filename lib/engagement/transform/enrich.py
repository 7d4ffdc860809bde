"""Row images joined with their content, and what is computed from both; the public event and dead letter schemas."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from engagement import scoring
from engagement.schemas import CHANGES, CONTENT, DEAD_LETTER, ENRICHED_EVENT, Kind

DECODE_STAGE = "decode"
_KNOWN = "known_content_id"


class Enricher:
    """Joins images with content; keeps its columns, since making them costs some hundred calls into the JVM.

    One instance per query is enough, and a micro-batch then costs about a dozen such calls.
    """

    def __init__(self) -> None:
        self._content: list[Column] = []
        self._matches: Column | None = None
        self._changes: list[Column] = []

    def __call__(self, images: DataFrame, content: DataFrame) -> DataFrame:
        """What every sink starts from.

        In: IMAGES, CONTENT (content_id unique). Out: CHANGES. Rows: 1 -> 1. Order: kept. Shuffle: none, content is
        broadcast; so one task holds a whole Kafka partition.
        """
        if self._matches is None:
            self._prepare()
        known = F.broadcast(content.select(self._content))
        return images.join(known, on=self._matches, how="left").select(self._changes)

    def _prepare(self) -> None:
        self._content = [F.col("content_id").alias(_KNOWN), *[F.col(n) for n in CONTENT.names if n != "content_id"]]
        computed = _computed_columns()
        self._changes = [computed[n].alias(n) if n in computed else F.col(n) for n in CHANGES.names]
        self._matches = F.col("content_id") == F.col(_KNOWN)


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
