"""A reconcile that compares again and again, and what it tells to do."""

import threading
from collections.abc import Iterator

import pytest

from engagement.errors import PermanentSinkError, TransientError
from engagement.reconcile.command import repeat, report
from engagement.reconcile.compare import Findings


class Waits(threading.Event):
    """Told to stop at the end of so many waits, none of which takes time."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.left, self.seconds = count, list[float | None]()

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout)
        self.left -= 1
        return self.left <= 0


def runs(*outcomes: bool | Exception) -> Iterator[bool]:
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
        yield outcome


def repeated(*outcomes: bool | Exception) -> tuple[bool, list[str], Waits]:
    said, stop, left = list[str](), Waits(len(outcomes)), iter(outcomes)
    return repeat(lambda: next(runs(next(left))), 60, stop, said.append), said, stop


@pytest.mark.parametrize("last", [True, False])
def test_a_service_that_is_away_ends_nothing(last: bool) -> None:
    clean, said, stop = repeated(True, TransientError("PostgreSQL does not answer"), last)
    assert (clean, stop.seconds) == (last, [60, 60, 60])
    assert said == ["not compared: PostgreSQL does not answer; again in 60 s"]


def test_a_last_run_that_compared_nothing_is_not_clean() -> None:
    clean, _, _ = repeated(True, TransientError("Redis does not answer"))
    assert not clean


def test_what_another_run_cannot_cure_ends_it() -> None:
    with pytest.raises(PermanentSinkError):
        repeated(True, PermanentSinkError("warehouse"), True)


def test_more_than_one_run_mends_is_brought_by_what_fills_that_sink() -> None:
    """A backfill sends nothing to the external system unless it is named, and then all that PostgreSQL holds."""
    lake, external, _ = report([Findings("lake", uncounted=3), Findings("external", uncounted=5)], [], [])
    assert lake.startswith("lake: 3 more range(s) of ids differ; mend with ./spark-submit.sh backfill ")
    assert external.startswith("external: 5 more range(s) of ids differ; repeat ./spark-submit.sh reconcile --repair,")
