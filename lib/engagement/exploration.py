"""What a notebook asks for: the lake as DataFrames, the live ranking, the warehouse; under the settings of the jobs.

Reads only. A notebook holds questions and pictures; how a table is read is said here, and tested.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime, timedelta
from os import environ

import pandas as pd
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from engagement.command import project_folder
from engagement.embedded.spark import prepared_session
from engagement.errors import ConfigError, EngagementError
from engagement.settings import Settings, SettingsFiles, not_set, resolve
from engagement.sinks.bigquery.reader import DayStats, WarehouseReader
from engagement.sinks.delta.tables import LakeTable, dead_letters_table
from engagement.sinks.external.deliveries import deliveries_table
from engagement.sinks.lake.tables import SINK, events_table
from engagement.sinks.redis.client import connect
from engagement.sinks.redis.reader import ContentStats, EngagementReader, RankedContent
from engagement.streaming.options import redis_options, warehouse_options

APP_ID = "engagement-notebook"
_TOP_COLUMNS = dict.fromkeys(column.name for kind in (RankedContent, ContentStats) for column in fields(kind))
_HINT = "Fill it first, for instance with: ./spark-submit.sh demo --duration 60"


@dataclass(frozen=True)
class Exploration:
    """The results of the pipeline that `settings` describe; connects when it is asked something."""

    settings: Settings
    spark: SparkSession
    stack_counts: bool
    """Whether a running stack supplies what they do not set."""

    def versions(self) -> DataFrame:
        """Every version of every row: ENRICHED_EVENT and its day. Raises: EngagementError without a lake."""
        return self._read(events_table(self._lake))

    def events(self) -> DataFrame:
        """The newest version of every event, deleted ones left out; columns of `versions`. Shuffle: by event_id.

        Raises:
            EngagementError: there is no lake.

        """
        age = F.struct("version", "processed_ts", "kafka_partition", "kafka_offset")
        newest = self.versions().groupBy("event_id").agg(F.max_by(F.struct("*"), age).alias("newest"))
        return newest.select("newest.*").where("op != 'd'")

    def dead_letters(self) -> DataFrame:
        """Every message that was refused, and what was done with it. Raises: EngagementError without a lake."""
        return self._read(dead_letters_table(SINK, self._lake))

    def deliveries(self) -> DataFrame:
        """What became of each row version at the external system. Raises: EngagementError if none was ever sent."""
        return self._read(deliveries_table(self._lake))

    def top_content(self, limit: int = 10) -> pd.DataFrame:
        """The live ranking, best first, with each content's totals in the window; empty when nobody is there.

        Raises:
            ConfigError: no Redis is set.
            TransientSinkError: it does not answer.

        """
        if not self.settings.redis.url.get_secret_value():
            raise ConfigError([not_set("REDIS_URL", self.stack_counts)])
        options = redis_options(self.settings.redis)
        with connect(options) as client:
            reader = EngagementReader(client, options.top_key)
            lines = [(line, reader.get_content_stats(line.content_id)) for line in reader.get_top_content(limit)]
        rows = [{**asdict(line), **(asdict(stats) if stats else {})} for line, stats in lines]
        return pd.DataFrame(rows, columns=list(_TOP_COLUMNS))

    def days(self, start: date | None = None, end: date | None = None) -> pd.DataFrame:
        """What the warehouse counts on each UTC day of [start, end), by default the week that ends with today.

        `end` alone asks for the week before it.

        Raises:
            ConfigError: no warehouse is set.
            TransientSinkError, PermanentSinkError: it does not answer, or has no such dataset.

        """
        if not self.settings.bigquery.is_set:
            raise ConfigError([not_set("BIGQUERY_PROJECT_ID", self.stack_counts)])
        until = end or datetime.now(UTC).date() + timedelta(days=1)
        since = start or until - timedelta(days=7)
        reader = WarehouseReader(warehouse_options(self.settings.bigquery))
        try:
            found = reader.stats(since, until)
        finally:
            reader.close()
        return pd.DataFrame([asdict(day) for day in found], columns=[column.name for column in fields(DayStats)])

    @property
    def _lake(self) -> str:
        return str(self.settings.paths.lake_path)

    def _read(self, table: LakeTable) -> DataFrame:
        if not DeltaTable.is_deltatable(table.path):
            raise EngagementError(f"There is no table {table.path} yet. {_HINT}")
        return table.read(self.spark)


def explore(env: Mapping[str, str] = environ, files: SettingsFiles | None = None) -> Exploration:
    """Start Spark with the settings of the jobs: environment, .env, conf/ and a running stack.

    Raises:
        ConfigError: settings that cannot be used, every problem listed.

    """
    found = resolve(env, files or SettingsFiles(project_folder()))
    spark = prepared_session(APP_ID, (), found.settings.processing.spark_master)
    return Exploration(found.settings, spark, found.stack_counts)
