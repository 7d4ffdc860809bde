"""What a query tells of its micro-batches: to its board, and to whoever reads the log."""

import logging

import pytest

from engagement.identity import BatchIdentity
from engagement.monitoring.board import StatusBoard
from engagement.monitoring.status import QueryStatus
from engagement.sinks.base import PartitionSummary
from engagement.streaming.report import QueryReport

IDENTITY = BatchIdentity("app", "generation", 3)


class Told:
    """A report, what its board says, and the alarms that it has raised."""

    def __init__(self, log: pytest.LogCaptureFixture) -> None:
        self._log = log
        self._board = StatusBoard("lake", clock=lambda: 1000.0)
        self._report = QueryReport(self._board, lambda: 1000.0)

    def delivered(self, *summaries: PartitionSummary) -> None:
        self._report.delivered(IDENTITY, summaries, 0.5)

    @property
    def board(self) -> QueryStatus:
        return self._board.snapshot()

    @property
    def alarms(self) -> list[str]:
        return [record.getMessage() for record in self._log.records if record.levelno >= logging.ERROR]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    return Told(caplog)


def test_a_table_that_was_emptied_raises_one_alarm_that_names_what_mends(told: Told) -> None:
    emptied = [PartitionSummary(n, 0, 2, 2, 1, {"E_ENVELOPE": 1}, truncations=1) for n in range(2)]
    told.delivered(*emptied)
    (alarm,) = told.alarms
    assert alarm.startswith("lake: engagement_events was truncated")
    assert "./spark-submit.sh reconcile --repair" in alarm
    assert told.board.truncations == 2


def test_other_dead_letters_raise_none(told: Told) -> None:
    told.delivered(PartitionSummary(0, 0, 2, 2, 1, {"E_ENVELOPE": 1}))
    assert (told.alarms, told.board.truncations) == ([], 0)
