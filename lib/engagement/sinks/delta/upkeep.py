"""What keeps Delta tables fit: small files become large ones, files that no version needs any more are deleted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pyspark.sql import SparkSession

from engagement.sinks.delta.tables import LakeTable

_FIRST_VACUUM, _VACUUM_EVERY = timedelta(hours=1), timedelta(days=1)
_COMPACTION = {"minFileSize": 64 * 2**20, "maxFileSize": 256 * 2**20}
"""Bytes: what is small, and what small files become. A file that is large enough is not rewritten again and again."""


@dataclass(frozen=True)
class UpkeepPlan:
    """How often."""

    compact_commits: int = 50
    """Commits after which the small files of today and yesterday are rewritten as one; 0: never."""
    retention_hours: int = 168
    """Age at which files that no version needs any more are deleted; 0: never."""


class Upkeep:
    """Called after every commit; acts when it is time."""

    def __init__(
        self, spark: SparkSession, tables: Sequence[LakeTable], plan: UpkeepPlan, clock: Callable[[], datetime]
    ) -> None:
        self._spark = spark
        self._tables = tables
        self._plan = plan
        self._clock = clock
        self._uncompacted = 0
        self._vacuum_after = clock() + _FIRST_VACUUM

    def prepare(self) -> None:
        """Tell Spark what counts as small."""
        for name, value in _COMPACTION.items():
            self._spark.conf.set(f"spark.databricks.delta.optimize.{name}", value)

    def after_commit(self) -> None:
        """Rewrite and delete what is due."""
        self._rewrite_small_files()
        self._delete_old_files()

    def _rewrite_small_files(self) -> None:
        """Every so many micro-batches; older days have seen their last compaction."""
        self._uncompacted += 1
        if not self._plan.compact_commits or self._uncompacted < self._plan.compact_commits:
            return
        self._uncompacted = 0
        yesterday = (self._clock() - timedelta(days=1)).date().isoformat()
        for table in self._tables:
            recent = f"{table.partition_by} >= '{yesterday}'"
            table.open(self._spark).optimize().where(recent).executeCompaction()

    def _delete_old_files(self) -> None:
        """Once a day, and for the first time an hour after the start, so that restarts do not add up."""
        if not self._plan.retention_hours or self._clock() < self._vacuum_after:
            return
        self._vacuum_after = self._clock() + _VACUUM_EVERY
        for table in self._tables:
            table.open(self._spark).vacuum(self._plan.retention_hours)
