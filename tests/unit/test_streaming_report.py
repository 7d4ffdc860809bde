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


def test_a_micro_batch_that_is_mostly_refused_raises_one_alarm_and_is_told_by_the_status(told: Told) -> None:
    told.delivered(
        PartitionSummary(0, 0, 40, 40, 30, {"E_JSON": 10}), PartitionSummary(1, 0, 60, 60, 49, {"E_JSON": 7, "E_TS": 4})
    )
    (alarm,) = told.alarms
    assert alarm.startswith("lake: 21 of 100 messages were refused (E_JSON, E_TS)")
    assert "./spark-submit.sh dead-letters list" in alarm
    assert told.board.refused is not None
    assert told.board.refused.reason in alarm


@pytest.mark.parametrize(("read", "refused"), [(100, 20), (99, 99), (1000, 1)])
def test_few_dead_letters_or_a_small_micro_batch_raise_none(told: Told, read: int, refused: int) -> None:
    told.delivered(PartitionSummary(0, 0, read, read, read - refused, {"E_JSON": refused}))
    assert (told.alarms, told.board.refused) == ([], None)


def test_other_dead_letters_raise_none(told: Told) -> None:
    told.delivered(PartitionSummary(0, 0, 2, 2, 1, {"E_ENVELOPE": 1}))
    assert (told.alarms, told.board.truncations) == ([], 0)
