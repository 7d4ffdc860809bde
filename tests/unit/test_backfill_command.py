"""What `backfill` and `reconcile` refuse before anything starts: exit code 2, every reason at once."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from jobs.backfill import COMMAND as BACKFILL
from jobs.reconcile import COMMAND as RECONCILE
from pyspark.sql.pandas.types import to_arrow_schema

from engagement.backfill.dry_run import of_topic
from engagement.command import Command, main
from engagement.settings import SettingsFiles
from engagement.sinks.lake.tables import EVENTS

ENVIRONMENT = {"DATABASE_URL": "postgresql://nobody:secret@127.0.0.1:1/nothing"}
RANGE = ["--start-date", "2025-08-01", "--end-date", "2025-08-02"]


@pytest.mark.parametrize(
    ("command", "words", "reasons"),
    [
        (BACKFILL, [], ["--start-date is missing", "--end-date is missing"]),
        (BACKFILL, ["--start-date", "x", "--end-date", "2025-13-01"], ["--start-date 'x'", "--end-date '2025-13-01'"]),
        (BACKFILL, [*RANGE, "--sinks", "warehouse"], ["BIGQUERY_PROJECT_ID or BIGQUERY_EMULATOR_HOST"]),
        (BACKFILL, [*RANGE, "--sinks", "nowhere"], ["choose from warehouse, lake, external, redis"]),
        (BACKFILL, [*RANGE, "--sinks", "external"], ["EXTERNAL_SYSTEM_URL is not set"]),
        (
            BACKFILL,
            [*RANGE, "--source", "lake", "--sinks", "lake,redis"],
            ["cannot fill the lake from itself", "KAFKA_BOOTSTRAP_SERVERS is not set", "REDIS_URL is not set"],
        ),
        (
            BACKFILL,
            ["--source", "lake", "--sinks", "lake"],
            ["--start-date is missing", "--end-date is missing", "cannot fill the lake", "KAFKA_BOOTSTRAP_SERVERS"],
        ),
        (RECONCILE, ["--from", "2025-08-01"], ["--to is missing"]),
        (RECONCILE, ["--from", "2025-08-01", "--sinks", "warehouse"], ["--to is missing", "--sinks warehouse: it has"]),
        (RECONCILE, ["--from", "2025-08-01", "--to", "2025-08-01"], ["--to 2025-08-01 must lie after"]),
    ],
)
def test_nonsense_is_refused_with_every_reason(
    command: Command, words: list[str], reasons: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command, words, ENVIRONMENT, SettingsFiles(tmp_path)) == 2
    told = capsys.readouterr().err
    assert all(reason in told for reason in reasons), told
    assert "Traceback" not in told


def test_a_database_that_is_away_is_a_sentence_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(BACKFILL, [*RANGE, "--dry-run"], ENVIRONMENT, SettingsFiles(tmp_path)) == 1
    told = capsys.readouterr().err
    assert "PostgreSQL" in told
    assert "Traceback" not in told
    assert "secret" not in told


LAKE = {**ENVIRONMENT, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
FROM_THE_LAKE = ["--source", "lake", "--sinks", "warehouse,external", "--dry-run"]


def dry_run_from_the_lake(project: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    environment = {**LAKE, "BIGQUERY_EMULATOR_HOST": "127.0.0.1:1", "EXTERNAL_SYSTEM_URL": "http://127.0.0.1:1/"}
    told = {**environment, "LAKE_PATH": str(project / "lake"), "ENGAGEMENT_HOME": str(project)}
    assert main(BACKFILL, [*words, *FROM_THE_LAKE], told, SettingsFiles(project)) == 0
    return capsys.readouterr().out


def test_a_dry_run_from_the_lake_counts_what_the_lake_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """PostgreSQL has purged it: nobody asks there."""
    times = [datetime(2025, 8, day, hour, tzinfo=UTC) for day in (1, 2) for hour in (1, 2, 23)]
    rows = [
        {"event_id": n, "version": 7, "op": "c", "event_ts": at, "event_date": at.date()} for n, at in enumerate(times)
    ]
    deleted = {"event_id": 9, "version": 8, "op": "d", "kafka_ts": times[0]}
    table = pa.Table.from_pylist([*rows, deleted], schema=to_arrow_schema(EVENTS, timezone="UTC"))
    write_deltalake(str(tmp_path / "lake" / "enriched_events"), table, partition_by=["event_date"])
    there = sorted(tmp_path.rglob("*"))
    told = dry_run_from_the_lake(tmp_path, ["--start-date", "2025-08-01", "--end-date", "2025-08-02T23:00:00Z"], capsys)
    assert "2025-08-01             3 row versions\n" in told
    assert "2025-08-02             2 row versions\n" in told
    assert "no day                 1 row versions\n" in told
    assert "6 row versions in 3 chunks, one a day" in told
    assert (
        "would add the row versions that the warehouse's table lacks, each with the version that it has there" in told
    )
    assert "would send the receiver the row versions of which no delivery is on record" in told
    assert "version 0" not in told
    assert sorted(tmp_path.rglob("*")) == there, "nothing was written"
    everything = dry_run_from_the_lake(tmp_path, ["--start-date", "0001-01-01", "--end-date", "9999-12-31"], capsys)
    assert "7 row versions in 3 chunks" in everything


def test_a_dry_run_from_a_lake_that_is_not_there_finds_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "0 row versions in 0 chunks" in dry_run_from_the_lake(tmp_path, RANGE, capsys)


def test_of_a_topic_the_messages_are_counted_by_partition() -> None:
    counted = of_topic({1: (0, 3), 0: (1_000, 3_000)}, 500)
    assert counted.total == 2_003
    assert counted.lines[0] == "partition 0           2,000 messages at most, offsets 1000 to 3000, itself excluded"
    assert counted.lines[2].startswith(
        "2,003 messages at most in 2 partitions, of which those of the range are taken, in chunks"
    )
