"""What a backfill lets others see: lines while it runs, a table at the end, and metrics all along."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from engagement.monitoring.catalogue import BACKFILL_DONE_ROWS, BACKFILL_FAILED_CHUNKS, BACKFILL_PLANNED_ROWS
from engagement.monitoring.measures import Nothing, Recorder

_COLUMNS = ("sink", "read", "written", "already there", "dead letters", "failed chunks", "seconds", "rows/s")


@dataclass
class Outcome:
    """What became of one sink's share; counts are row versions."""

    sink: str
    read: int = 0
    written: int = 0
    dead_letters: int = 0
    skipped_chunks: int = 0
    """Done by an earlier start of the same run."""
    failures: list[str] = field(default_factory=list)
    """One reason per chunk that failed."""
    seconds: float = 0.0

    @property
    def rows_per_second(self) -> float:
        """Rows read, refused ones too, by the seconds that took."""
        return (self.read + self.dead_letters) / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Audience:
    """Who hears how far a backfill is."""

    say: Callable[[str], None]
    """A person."""
    measures: Recorder = field(default_factory=Nothing)
    """The monitoring."""
    publish: Callable[[], object] = lambda: None
    """Sends on what was measured; never fails and does not wait long."""


class Progress:
    """How far one sink's chunks are."""

    def __init__(self, sink: str, total_rows: int, audience: Audience, clock: Callable[[], float]) -> None:
        self._sink = sink
        self._total = total_rows
        self._audience = audience
        self._clock = clock
        self._began = clock()
        self._rows = self._skipped = self._failed = 0
        self._measure()

    def skip(self, rows: int) -> None:
        """A chunk that was done before."""
        self._skipped += rows
        self._measure()

    def add(self, rows: int) -> None:
        """A chunk that has been done now."""
        self._rows += rows
        self._measure()

    def fail(self) -> None:
        """A chunk that was given up."""
        self._failed += 1
        self._measure()

    def tell(self, note: str) -> None:
        """Say how far it is, and what it is at."""
        passed = self._rows + self._skipped
        rate = self._rows / max(self._clock() - self._began, 1e-9)
        left = f", {duration((self._total - passed) / rate)} left" if rate else ""
        share = f"{passed:,} of about {self._total:,} rows, {rate:,.0f} rows/s{left}"
        self._audience.say(f"{self._sink}: {share}; {note}")
        self._audience.publish()

    def _measure(self) -> None:
        measures = self._audience.measures
        measures.set(BACKFILL_PLANNED_ROWS, self._total, sink=self._sink)
        measures.set(BACKFILL_DONE_ROWS, self._rows + self._skipped, sink=self._sink)
        measures.set(BACKFILL_FAILED_CHUNKS, self._failed, sink=self._sink)
        self._audience.publish()


def duration(seconds: float) -> str:
    """Minutes and seconds.

    >>> duration(75.4), duration(-1), duration(7205)
    ('1:15', '0:00', '120:05')
    """
    whole = max(0, int(seconds))
    return f"{whole // 60}:{whole % 60:02}"


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """The summary, a line a sink."""
    rows = [
        [
            one.sink,
            *(f"{count:,}" for count in (one.read, one.written, one.read - one.written, one.dead_letters)),
            str(len(one.failures)),
            f"{one.seconds:.1f}",
            f"{one.rows_per_second:,.0f}",
        ]
        for one in outcomes
    ]
    widths = [max(len(cell) for cell in column) for column in zip(_COLUMNS, *rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (list(_COLUMNS), *rows)
    ]
