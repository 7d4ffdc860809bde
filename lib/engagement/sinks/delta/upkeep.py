"""What keeps Delta tables fit: small files become large ones, old days go, files that no version needs are deleted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import nlargest

from pyspark.sql import SparkSession

from engagement.sinks.delta.log import DeltaLog
from engagement.sinks.delta.tables import LakeTable

_FIRST_AFTER, _EVERY = timedelta(hours=1), timedelta(days=1)
"""Of what is deleted: for the first time so long after the start, so that restarts do not add up."""
_SMALL_BYTES, _LARGE_BYTES = 64 * 2**20, 256 * 2**20
_COMPACTION = {"minFileSize": _SMALL_BYTES, "maxFileSize": _LARGE_BYTES}
"""What is small, and what small files become. A file that is large enough is not rewritten again and again."""
_MANY_SMALL = 8
"""Small files of an older day that are worth a rewrite: with fewer, each late event would rewrite its whole day."""
_OLDER_DAYS = 2
"""That one pass rewrites: a micro-batch waits for it, and a backfill leaves years of such days behind."""


@dataclass(frozen=True)
class UpkeepPlan:
    """How often."""

    compact_commits: int = 50
    """Commits after which the small files of today and yesterday, and of those two older days that most of them came to
    (late events, a backfill), are rewritten as one; 0: never."""
    retention_hours: int = 168
    """Age at which files that no version needs any more are deleted; 0: never."""
    keep_days: int = 0
    """Days (the tables' partitions) that are kept beside today; 0: all."""


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
        self._days_after = self._files_after = clock() + _FIRST_AFTER

    def prepare(self) -> None:
        """Tell Spark what counts as small."""
        for name, value in _COMPACTION.items():
            self._spark.conf.set(f"spark.databricks.delta.optimize.{name}", value)

    def after_commit(self, *, may_forget: bool = True) -> None:
        """Rewrite and delete what is due; `may_forget`: no row of an old day is needed any more."""
        self._rewrite_small_files()
        if may_forget:
            self._delete_old_days()
        self._delete_old_files()

    def _rewrite_small_files(self) -> None:
        """Every so many micro-batches."""
        self._uncompacted += 1
        if not self._plan.compact_commits or self._uncompacted < self._plan.compact_commits:
            return
        self._uncompacted = 0
        yesterday = (self._clock() - timedelta(days=1)).date().isoformat()
        for table in self._tables:
            small = DeltaLog(table).small_files(_SMALL_BYTES)
            older = {day: files for day, files in small.items() if day is None or day < yesterday}
            scattered = [day for day, files in older.items() if files >= _MANY_SMALL]
            most = nlargest(_OLDER_DAYS, scattered, key=older.__getitem__)
            chosen = _in_days(table.partition_by, yesterday, most)
            table.open(self._spark).optimize().where(chosen).executeCompaction()

    def _delete_old_days(self) -> None:
        """Whole partitions, and so only in the table's log: their files go as all others that nobody needs."""
        if not self._plan.keep_days or self._clock() < self._days_after:
            return
        self._days_after = self._clock() + _EVERY
        first = (self._clock() - timedelta(days=self._plan.keep_days)).date().isoformat()
        for table in self._tables:
            table.open(self._spark).delete(f"{table.partition_by} < '{first}'")

    def _delete_old_files(self) -> None:
        if not self._plan.retention_hours or self._clock() < self._files_after:
            return
        self._files_after = self._clock() + _EVERY
        for table in self._tables:
            table.open(self._spark).vacuum(self._plan.retention_hours)


def _in_days(column: str, since: str, days: Sequence[str | None]) -> str:
    """Condition on a table's partitions, in SQL.

    >>> _in_days("day", "2026-11-22", []), _in_days("day", "2026-11-22", ["2026-11-18", None])
    ("day >= '2026-11-22'", "day >= '2026-11-22' or day in ('2026-11-18') or day is null")
    """
    dated = ", ".join(f"'{day}'" for day in days if day is not None)
    parts = [f"{column} >= '{since}'", f"{column} in ({dated})" if dated else "", None in days and f"{column} is null"]
    return " or ".join(part for part in parts if part)
