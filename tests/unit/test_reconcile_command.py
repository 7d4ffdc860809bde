"""A reconcile that compares again and again, and what it tells to do."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime

import pytest

from engagement.errors import PermanentSinkError, TransientError
from engagement.reconcile.board import BoardDrift
from engagement.reconcile.command import Wanted, counts_of, document_of, or_else, repeat, report, told_of
from engagement.reconcile.compare import Findings, Kind
from engagement.sources.history import Span

A_DAY = Span(datetime(2025, 8, 1, tzinfo=UTC), datetime(2025, 8, 2, tzinfo=UTC))


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


@pytest.mark.parametrize(
    ("span", "sinks", "mends", "told"),
    [
        (None, ("warehouse", "lake", "redis"), False, {"warehouse", "lake", "dead_letters", "redis", "lake_files"}),
        (None, ("warehouse", "lake", "redis"), True, {"warehouse", "lake", "dead_letters", "redis", "lake_files"}),
        (A_DAY, ("warehouse", "lake", "redis"), False, {"warehouse", "redis", "lake_files"}),
        (A_DAY, ("warehouse", "lake", "redis"), True, {"redis", "lake_files"}),
        (None, ("external",), False, {"external"}),
    ],
)
def test_a_range_without_a_difference_says_nothing_of_the_whole(
    span: Span | None, sinks: tuple[str, ...], mends: bool, told: set[str]
) -> None:
    """Of dead letters no more is known than the tables led to; the ranking and files are always compared whole."""
    found = [Findings(sink) for sink in (*sinks, "dead_letters") if sink != "redis"]
    if "warehouse" in sinks:
        found[0].add(Kind.MISSING, 7)
    assert told_of(Wanted(span, mends, sinks), counts_of(sinks, found, [], []), mends=mends).keys() == told


@pytest.mark.parametrize("error", [PermanentSinkError("warehouse", "403"), TransientError("away"), None])
def test_what_could_not_be_mended_is_told_after_all(error: Exception | None) -> None:
    told = list[str]()
    with nullcontext() if error is None else pytest.raises(type(error)), or_else(lambda: told.append("seven rows")):
        if error is not None:
            raise error
    assert told == ([] if error is None else ["seven rows"])


def test_files_that_are_there_again_are_told_whenever_the_lake_was_compared() -> None:
    assert counts_of(("lake",), [], [], ["a.parquet"])["lake_files"] == Counter({Kind.MISSING: 1})
    assert counts_of(("lake",), [], [], [])["lake_files"].total() == 0
    assert "lake_files" not in counts_of(("warehouse",), [], [], [])


def test_what_is_too_much_for_a_line_is_whole_in_the_report() -> None:
    found, ids = Findings("lake", uncounted=2), list(range(1, 301))
    found.ids[Kind.MISSING] = ids
    drift = [BoardDrift(f"c{number}", 600, {"events": 1}, {"events": 2}) for number in range(21)]
    files = [f"{number}.parquet" for number in range(21)]
    lines = list(report([found], drift, files))
    assert lines[0].endswith(", 19.parquet and 1 more (--report FILE lists all)")
    assert lines[1].endswith(", 20 and 280 more (--report FILE lists all)")
    assert "redis: 21 content(s) differ (--report FILE lists all)" in lines
    document = document_of(("lake", "redis"), [found], drift, files)
    assert document["lake"] == {"missing": ids, "stale": [], "phantom": [], "doubled": [], "uncounted": 2}
    assert document["redis"] == [
        {"content_id": one.content_id, "second": 600, "counted": {"events": 1}, "expected": {"events": 2}}
        for one in drift
    ]
    assert document["lake_files"] == files


def test_the_report_names_only_what_was_compared() -> None:
    assert document_of(("warehouse",), [Findings("warehouse")], [], []).keys() == {"warehouse"}
