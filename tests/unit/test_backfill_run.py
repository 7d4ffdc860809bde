"""A backfill over chunks with sinks that fail, crash and are slow, and the ledger that it goes on from."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest

from engagement.backfill.ledger import Ledger, Plan, Planned, mark_of
from engagement.backfill.progress import Audience, Outcome, Progress, table
from engagement.backfill.run import Backfill, Pace
from engagement.errors import EngagementError, PermanentSinkError, TransientSinkError
from engagement.monitoring.catalogue import BACKFILL_DONE_ROWS, BACKFILL_FAILED_CHUNKS, BACKFILL_PLANNED_ROWS
from engagement.monitoring.measures import Measures, Nothing
from engagement.sinks.base import Additions, Chunk, Loaded

CHUNKS = [Planned(((n * 10 + 1, n * 10 + 10, 10),), 10) for n in range(5)]


class CrashError(BaseException):
    """kill -9."""


@dataclass
class Table:
    """A source of five chunks of ten rows."""

    chunks: Sequence[Planned] = tuple(CHUNKS)
    still_open: tuple[str, ...] = ()
    source: str = "topic 1"
    plans: int = 0
    waits: int = 0

    def identity(self) -> str:
        return self.source

    def await_writers(self) -> Sequence[str]:
        self.waits += 1
        return self.still_open

    def plan(self) -> list[Planned]:
        self.plans += 1
        return list(self.chunks)

    def chunk(self, planned: Planned, name: str) -> Chunk:
        return Chunk(name, cast("Any", planned), ("event_id",))


@dataclass
class Destination:
    """Holds ids; `trouble` may act before or after a chunk is in."""

    name: str = "lake"
    trouble: Callable[[str, int], None] = lambda _when, _first: None
    ids: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    table: str = "first"
    opened: int = 0

    def open(self) -> None:
        self.opened += 1

    def destination(self) -> str:
        return f"https://user:secret@host/{self.table}"

    def load(self, chunk: Chunk) -> Loaded:
        ((first, last, _),) = cast("Planned", chunk.changes).parts
        self.trouble("before", first)
        missing = [number for number in range(first, last + 1) if number not in self.ids]
        self.ids += missing
        self.names.append(chunk.name)
        self.trouble("after", first)
        return Loaded(last - first + 1, len(missing))

    def close(self) -> None:
        """Nothing is open."""


class Impatient(threading.Event):
    """Not set, and nobody waits for it."""

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002
        return self.is_set()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    numbers = count()
    return Ledger(tmp_path / "deep" / "ledger.jsonl", lambda: f"run{next(numbers)}", time.time)


def backfill(
    ledger: Ledger, *sinks: Destination, source: Table | None = None, stop: threading.Event | None = None,
    said: list[str] | None = None, measures: Measures | None = None,
) -> Backfill:  # fmt: skip
    say = (said if said is not None else []).append
    return Backfill(
        source or Table(), sinks, ledger, Audience(say, measures or Nothing()), Pace(lambda: 0.0, stop or Impatient())
    )


def test_everything_is_loaded_once_and_the_next_run_looks_again(ledger: Ledger) -> None:
    sink = Destination()
    (first,) = backfill(ledger, sink).run()
    (second,) = backfill(ledger, sink).run()
    assert sorted(sink.ids) == list(range(1, 51))
    assert (first.read, first.written, second.read, second.written) == (50, 50, 50, 0)
    assert len(set(sink.names)) == 10  # a new run has names of its own


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("first", [1, 21, 41])
def test_a_run_that_was_killed_goes_on_where_it_stopped(ledger: Ledger, when: str, first: int) -> None:
    def die(at: str, chunk: int) -> None:
        if (at, chunk) == (when, first):
            raise CrashError

    sink = Destination(trouble=die)
    source = Table()
    with pytest.raises(CrashError):
        backfill(ledger, sink, source=source).run()
    sink.trouble = lambda _when, _first: None
    said: list[str] = []
    (outcome,) = backfill(ledger, sink, source=source, said=said).run()
    assert sorted(sink.ids) == list(range(1, 51))
    assert (outcome.skipped_chunks, source.plans, source.waits) == (first // 10, 1, 2)
    assert "going on with run0" in said[0]
    assert len({name for name in sink.names}) == 5  # the chunk that is repeated has the name it had


def test_what_one_table_holds_is_not_done_for_another(ledger: Ledger, tmp_path: Path) -> None:
    """The lake lies elsewhere now, or was emptied: it has the sink's old name."""

    def die(at: str, chunk: int) -> None:
        if (at, chunk) == ("before", 31):
            raise CrashError

    with pytest.raises(CrashError):
        backfill(ledger, Destination(trouble=die)).run()
    other = Destination(table="second")
    (outcome,) = backfill(ledger, other).run()
    assert (sorted(other.ids), outcome.skipped_chunks) == (list(range(1, 51)), 0)
    assert "secret" not in next((tmp_path / "deep").iterdir()).read_text()


@dataclass
class Stopped:
    """A run that was stopped after its second chunk."""

    path: Path
    sink: Destination = field(default_factory=Destination)

    def __post_init__(self) -> None:
        stop = Impatient()
        self.sink.trouble = lambda at, chunk: stop.set() if (at, chunk) == ("after", 11) else None
        backfill(self.ledger("first"), self.sink, stop=stop).run()

    def ledger(self, run: str, later_seconds: float = 0.0) -> Ledger:
        return Ledger(self.path, lambda: run, lambda: time.time() + later_seconds)


@pytest.mark.parametrize(("hours", "plans"), [(23, 0), (25, 1)])
def test_an_old_plan_is_not_gone_on_with(tmp_path: Path, hours: int, plans: int) -> None:
    """What came after it would be left out, and so would what was lost since from chunks that are done."""
    stopped = Stopped(tmp_path / "ledger.jsonl")
    stopped.sink.ids.remove(3)
    grown, said = Table((*CHUNKS, Planned(((51, 60, 10),), 10))), list[str]()
    backfill(stopped.ledger("second", hours * 3600.0), stopped.sink, source=grown, said=said).run()
    assert grown.plans == plans
    assert sorted(stopped.sink.ids) == ([*range(1, 61)] if plans else [1, 2, *range(4, 51)])
    assert any("planning anew" in line for line in said) == bool(plans)


def test_a_plan_of_another_source_is_not_gone_on_with(tmp_path: Path) -> None:
    stopped = Stopped(tmp_path / "ledger.jsonl")
    recreated, said = Table((Planned(((1, 30, 30),), 30),), source="topic 2"), list[str]()
    (outcome,) = backfill(stopped.ledger("second"), stopped.sink, source=recreated, said=said).run()
    assert (recreated.plans, outcome.skipped_chunks) == (1, 0)
    assert sorted(stopped.sink.ids) == list(range(1, 31))
    assert "planning anew" in said[0]


def test_a_restart_forgets_the_run_that_did_not_end(ledger: Ledger) -> None:
    ledger.note_done(ledger.begin(CHUNKS, mark_of(Table.source)), "lake", Destination().destination(), 0)
    (outcome,) = backfill(ledger, Destination()).run(restart=True)
    assert (outcome.skipped_chunks, outcome.written) == (0, 50)


def test_a_chunk_that_fails_is_tried_again_and_then_left_for_the_next_start(ledger: Ledger) -> None:
    tries = count()

    def refuse(at: str, chunk: int) -> None:
        if (at, chunk) == ("before", 21):
            next(tries)
            raise TransientSinkError("lake", "is away")

    sink = Destination(trouble=refuse)
    (outcome,) = backfill(ledger, sink).run()
    assert outcome.failures == ["chunk 3 of 5: lake: is away"]
    assert next(tries) == 6
    assert len(sink.ids) == 40  # the others went on
    sink.trouble = lambda _when, _first: None
    (rest,) = backfill(ledger, sink).run()
    assert (rest.skipped_chunks, rest.written, rest.failures) == (4, 10, [])


def test_what_cannot_be_cured_is_not_tried_again_and_other_sinks_go_on(ledger: Ledger) -> None:
    tries = count()

    def refuse(_at: str, _chunk: int) -> None:
        next(tries)
        raise PermanentSinkError("warehouse", "refused")

    bad, good = Destination("warehouse", refuse), Destination()
    first, second = backfill(ledger, bad, good).run()
    assert (len(first.failures), next(tries), second.written) == (5, 5, 50)


def test_a_sink_that_does_not_open_fails_and_others_go_on(ledger: Ledger) -> None:
    class Closed(Destination):
        def open(self) -> None:
            raise TransientSinkError("warehouse", "is away")

    first, second = backfill(ledger, Closed("warehouse"), Destination()).run()
    assert (first.failures, second.written) == (["warehouse: is away"], 50)


def test_it_stops_between_chunks_when_told_to(ledger: Ledger) -> None:
    stop = Impatient()
    sink = Destination(trouble=lambda at, chunk: stop.set() if (at, chunk) == ("after", 11) else None)
    backfill(ledger, sink, stop=stop).run()
    assert sorted(sink.ids) == list(range(1, 21))
    (outcome,) = backfill(ledger, sink).run()
    assert (outcome.skipped_chunks, outcome.written) == (2, 30)


def test_two_runs_at_once_share_plan_and_ledger(ledger: Ledger, tmp_path: Path) -> None:
    other = Ledger(tmp_path / "deep" / "ledger.jsonl", lambda: "other", time.time)
    sink, seconds = Destination(), list[list[Outcome]]()

    def start_another(at: str, chunk: int) -> None:
        if (at, chunk) == ("after", 21) and not seconds:
            seconds.append([])
            seconds[0] += backfill(other, sink).run()

    sink.trouble = start_another
    (outcome,) = backfill(ledger, sink).run()
    ((inner,),) = seconds
    assert sorted(sink.ids) == list(range(1, 51))
    assert (inner.skipped_chunks, outcome.skipped_chunks) == (2, 2)  # each skips what the other has noted


def test_transactions_that_are_still_open_are_told(ledger: Ledger) -> None:
    said: list[str] = []
    backfill(ledger, Destination(), source=Table(still_open=("transaction 3/7 (process 99)",)), said=said).run()
    assert any("still open" in line and "3/7" in line for line in said)


def test_a_line_that_a_crash_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path, lambda: "run", time.time)
    plan = ledger.begin(CHUNKS, mark_of(Table.source))
    ledger.note_done(plan, "lake", "a", 0)
    ledger.note_done(plan, "lake", "a", 1)
    path.write_bytes(path.read_bytes()[:-8])
    assert ledger.unfinished() == plan
    assert ledger.done(plan, "lake", "a") == {0}
    ledger.note_done(plan, "lake", "a", 4)
    assert ledger.done(plan, "lake", "a") == {0, 4}
    assert ledger.done(plan, "lake", "b") == set()
    assert ledger.done(plan, "warehouse", "a") == set()
    assert ledger.done(Plan("another", ()), "lake", "a") == set()


def test_a_finished_run_is_not_gone_on_with(ledger: Ledger) -> None:
    assert ledger.unfinished() is None
    plan = ledger.begin(CHUNKS, mark_of(Table.source))
    assert ledger.unfinished() == plan
    ledger.finish(plan)
    assert ledger.unfinished() is None


def test_progress_tells_rate_and_time_left() -> None:
    said: list[str] = []
    seconds = iter((0.0, 10.0))
    progress = Progress("lake", 4_000, Audience(said.append), lambda: next(seconds))
    progress.skip(1_000)
    progress.add(1_000)
    progress.tell("chunk 3 of 4")
    assert said == ["lake: 2,000 of about 4,000 rows, 100 rows/s, 0:20 left; chunk 3 of 4"]


def told(measures: Measures) -> dict[tuple[str, str], float]:
    return {(one.metric, one.labels["sink"]): one.value for one in measures.snapshot().values}


def test_the_monitoring_is_told_of_each_sinks_rows_and_of_chunks_that_were_given_up(ledger: Ledger) -> None:
    def refuse(at: str, chunk: int) -> None:
        if (at, chunk) == ("before", 21):
            raise PermanentSinkError("warehouse", "refused")

    measures = Measures("backfill")
    backfill(ledger, Destination("warehouse", refuse), Destination("lake"), measures=measures).run()
    wanted = {"warehouse": (50, 40, 1), "lake": (50, 50, 0)}
    metrics = (BACKFILL_PLANNED_ROWS, BACKFILL_DONE_ROWS, BACKFILL_FAILED_CHUNKS)
    assert told(measures) == {
        (metric.name, sink): value
        for sink, values in wanted.items()
        for metric, value in zip(metrics, values, strict=True)
    }
    backfill(ledger, Destination("warehouse"), Destination("lake"), measures=measures).run()  # the chunk that is left
    assert told(measures)[BACKFILL_DONE_ROWS.name, "warehouse"] == 50
    assert told(measures)[BACKFILL_FAILED_CHUNKS.name, "warehouse"] == 0


def test_what_an_attempt_added_before_it_failed_counts_for_the_chunk() -> None:
    first, second = (Chunk(name, cast("Any", None), ("event_id",)) for name in ("run_0", "run_1"))
    additions = Additions()
    additions.add(first, "commit 7", 30)
    additions.add(second, "commit 8", 5)
    additions.add(first, "commit 9", 2)
    additions.add(first, "commit 7", 30)  # a job that is asked again tells the same again
    assert (additions.total(first), additions.total(second)) == (32, 5)
    assert additions.total(first) == 0  # the chunk is done; when it comes again, nothing is new


def test_the_summary_is_a_table() -> None:
    lines = table([Outcome("lake", 1_000, 900, 5, 0, ["x"], 2.0)])
    assert lines[0].split() == "sink read written already there dead letters failed chunks seconds rows/s".split()
    assert lines[1].split() == ["lake", "1,000", "900", "100", "5", "1", "2.0", "502"]


def test_an_error_that_nobody_raised_on_purpose_is_not_swallowed(ledger: Ledger) -> None:
    def break_down(_at: str, _chunk: int) -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        backfill(ledger, Destination(trouble=break_down)).run()
    assert not issubclass(KeyError, EngagementError)
