"""What `backfill` and `reconcile` refuse before anything starts: exit code 2, every reason at once."""

from pathlib import Path

import pytest
from jobs.backfill import COMMAND as BACKFILL
from jobs.reconcile import COMMAND as RECONCILE

from engagement.command import Command, main
from engagement.settings import SettingsFiles

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
        (RECONCILE, ["--from", "2025-08-01"], ["--to is missing"]),
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
