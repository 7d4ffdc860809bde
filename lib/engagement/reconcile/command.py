"""What the command does, one step after the other, and what it says."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import SparkSession

from engagement.backfill.build import RECEIVER, TABLES, events_of, start_spark
from engagement.errors import EngagementError, TransientError
from engagement.reconcile.board import BoardDrift
from engagement.reconcile.build import (
    RANKING,
    UNCOUNTED,
    Parts,
    build_comparison,
    compare_board,
    lake_mender,
    mend,
    mend_board,
    prepare,
    publish,
)
from engagement.reconcile.compare import Findings, Kind
from engagement.reconcile.run import LETTERS, MOST_RANGES
from engagement.settings import Settings
from engagement.sources.history import LogPosition, Span

Say = Callable[[str], None]
_SHOWN = 20
_ALL = " (--report FILE lists all)"
_LOST_FILES = "lake_files"
"""Beside the sinks: how many of the lake's files are gone."""


@dataclass(frozen=True)
class Wanted:
    """What was asked for."""

    span: Span | None
    repair: bool
    sinks: tuple[str, ...]
    report: Path | None = None
    """Where to write everything that differs, of the newest comparison."""


def reconcile(
    settings: Settings, wanted: Wanted, spark_options: Sequence[str], stop: threading.Event, say: Say
) -> bool:
    """Compare, say what differs, mend it if asked to; again after RECONCILE_INTERVAL_SECONDS if set.

    Returns whether nothing is left that differs. Raises: TransientError if it is to run once; PermanentSinkError.
    """
    spark = start_spark(settings, spark_options)
    try:
        once, interval = _Run(settings, wanted, spark, stop, say).run, settings.reconcile.interval_seconds
        return repeat(once, interval, stop, say) if interval else once()
    finally:
        spark.stop()


def repeat(once: Callable[[], bool], interval_seconds: float, stop: threading.Event, say: Say) -> bool:
    """Run again and again until told to stop; what the last run returned, False if something was away."""
    while True:
        try:
            clean = once()
        except TransientError as error:  # the next run may find it back, and nobody would start one
            say(f"not compared: {error}; again in {interval_seconds:g} s")
            clean = False
        if stop.wait(interval_seconds):
            return clean


class _Run:
    """One comparison, from beginning to end."""

    def __init__(
        self, settings: Settings, wanted: Wanted, spark: SparkSession, stop: threading.Event, say: Say
    ) -> None:
        self._settings = settings
        self._wanted = wanted
        self._say = say
        self._stop = stop
        self._parts = Parts(settings, spark, wanted.span, say, self._await_age, stop, wanted.sinks)
        # Files that are gone must not end the comparison that is to find them.
        spark.conf.set("spark.sql.files.ignoreMissingFiles", "true")

    def run(self) -> bool:
        """Compare, tell, mend; whether nothing is left."""
        position = events_of(self._settings).log_position()
        prepare(self._parts)
        lost = self._lost_files() if "lake" in self._wanted.sinks else []
        found = build_comparison(self._parts).run() if self._keepers else []
        ranking = self._compare_board() if RANKING in self._wanted.sinks else None
        compared = [sink for sink in self._wanted.sinks if sink != RANKING or ranking is not None]
        drift = ranking or []
        for line in report(found, drift, lost) if compared else ():
            self._say(line)
        if self._wanted.report:
            document = document_of(compared, found, drift, lost)
            self._wanted.report.write_text(json.dumps(document, indent=2) + "\n")
        clean = not (lost or drift or any(each.rows or each.uncounted for each in found))
        mends = self._wanted.repair and not clean
        publish(self._settings, told_of(self._wanted, counts_of(compared, found, drift, lost), mends=mends))
        if not mends:
            return clean
        left: Sequence[Findings] = found
        with or_else(lambda: self._tell(counts_of(compared, left, drift, lost))):
            left = self._repair(position, found)
            drift, lost = self._repair_board() if drift else [], []
        self._tell(counts_of([*compared, *(each.sink for each in found)], left, drift, lost))
        return not (drift or any(each.rows or each.uncounted for each in left))

    def _tell(self, left: Mapping[str, Counter[str]]) -> None:
        """After mending, or when that has failed: what was mended before it did is left no more."""
        publish(self._settings, told_of(self._wanted, left, mends=False))
        if self._wanted.span:
            self._say("an alert of drift goes on until all is compared again: ./spark-submit.sh reconcile")

    def _compare_board(self) -> list[BoardDrift] | None:
        drift = compare_board(self._parts, self._young)
        if drift is None:
            self._say(
                f"redis: not compared: the window has to be longer than 3 x RECONCILE_YOUNG_SECONDS ({self._young})"
            )
        return drift

    def _repair_board(self) -> list[BoardDrift]:
        """Count it again, and compare again; what is left."""
        mend_board(self._parts)
        drift = self._compare_board() or []
        self._say(f"redis: {f'{len(drift)} content(s) still differ' if drift else 'mended'}")
        return drift

    def _repair(self, position: LogPosition, found: Sequence[Findings]) -> Sequence[Findings]:
        """Mend, and look again at what was mended; what is left."""
        mend(self._parts, position, found)
        comparison = build_comparison(self._parts)
        sides = {side.name: side for side in comparison.sinks}
        left = []
        for each in found:
            if each.sink in sides and (each.rows or each.uncounted):
                again = comparison.look(sides[each.sink], {one for ids in each.ids.values() for one in ids})
                again.uncounted = each.uncounted
                left.append(again)
                self._say(f"{each.sink}: {f'{again.rows} row(s) still differ' if again.rows else 'mended'}")
        if any(each.uncounted for each in left):
            self._say("more differs than one run looks at: how to go on is told above")
        return left

    @property
    def _keepers(self) -> bool:
        """Whether a sink that keeps rows is among those to compare."""
        return set(self._wanted.sinks) != {RANKING}

    def _lost_files(self) -> list[str]:
        mender = lake_mender(self._parts)
        lost = mender.lost_files()
        if lost and self._wanted.repair:
            mender.forget_lost_files()
        return lost

    def _await_age(self) -> None:
        # From now: all that was read so far is older by then.
        if self._stop.wait(self._young):
            raise EngagementError("stopped before the second look; nothing was judged")

    @property
    def _young(self) -> int:
        return self._settings.reconcile.young_seconds


@contextmanager
def or_else(tell: Callable[[], None]) -> Iterator[None]:
    """Mend within this: what was found is still there if that fails, and is told after all."""
    try:
        yield
    except EngagementError:
        tell()
        raise


def report(found: Iterable[Findings], drift: Sequence[BoardDrift], lost: Sequence[str]) -> Iterator[str]:
    """What differs, for a person, with the command that mends it."""
    clean = True
    if lost:
        clean = False
        yield f"lake: {len(lost)} file(s) that the table names are gone: {_some(lost)}"
    for each in found:
        for kind, ids in each.ids.items():
            clean = False
            yield f"{each.sink}: {len(ids)} {kind}: ids {_some(ids)}"
        if each.uncounted:
            clean = False
            yield f"{each.sink}: {each.uncounted} more range(s) of ids differ; {_OF_MANY.get(each.sink, _BACKFILL)}"
    for one in drift[:_SHOWN]:
        yield f"redis: {one}"
    if drift:
        clean = False
        yield f"redis: {len(drift)} content(s) differ{_ALL if len(drift) > _SHOWN else ''}"
    yield "nothing differs" if clean else "mend with ./spark-submit.sh reconcile --repair"


_BACKFILL = "mend with ./spark-submit.sh backfill --start-date 0001-01-01 --end-date 2100-01-01 --restart"
_OF_MANY = {RECEIVER: f"repeat ./spark-submit.sh reconcile --repair, which mends {MOST_RANGES} of them at a time"}
"""Where a backfill would do more than to mend: the receiver need not have what is older than its stream."""


def _some(items: Sequence[object]) -> str:
    shown = ", ".join(str(item) for item in items[:_SHOWN])
    return shown if len(items) <= _SHOWN else f"{shown} and {len(items) - _SHOWN} more{_ALL}"


def document_of(
    sinks: Iterable[str], found: Iterable[Findings], drift: Sequence[BoardDrift], lost: Sequence[str]
) -> dict[str, object]:
    """Everything that differs, for a program: sink -> kind -> ids; of the ranking, contents and their numbers."""
    document: dict[str, object] = {}
    for each in found:
        ids = {str(kind): each.ids.get(kind, []) for kind in Kind}
        document[each.sink] = {**ids, UNCOUNTED: each.uncounted}
    if RANKING in sinks:
        document[RANKING] = [vars(one) for one in drift]
    if "lake" in sinks:
        document[_LOST_FILES] = list(lost)
    return document


def counts_of(
    sinks: Iterable[str], found: Iterable[Findings], drift: Sequence[BoardDrift], lost: Sequence[str]
) -> dict[str, Counter[str]]:
    """Sink -> Kind or UNCOUNTED -> rows; what was compared and does not differ is told too."""
    counts = {sink: Counter[str]() for sink in sinks}
    for each in found:
        counts.setdefault(each.sink, Counter()).update({kind: len(ids) for kind, ids in each.ids.items()})
        counts[each.sink][UNCOUNTED] += each.uncounted
    if drift:
        counts[RANKING][Kind.STALE] = len(drift)
    if "lake" in counts:
        counts[_LOST_FILES] = Counter[str]({Kind.MISSING: len(lost)})
    return counts


def told_of(wanted: Wanted, counts: Mapping[str, Counter[str]], *, mends: bool) -> dict[str, Counter[str]]:
    """Of what was counted, what can be said of all that a sink holds; `mends`: it is mended next.

    A range of event times in which nothing differs says nothing of the others, so what is known of the sink stays. What
    differs in it is told, unless it is about to be mended: nothing that such a run tells later could take it back.
    """
    partly = set(counts) - {RANKING, _LOST_FILES} if wanted.span else set[str]()
    if not set(TABLES) & set(wanted.sinks):  # it is the rows of whole tables that lead to letters
        partly.add(LETTERS)
    return {sink: kinds for sink, kinds in counts.items() if sink not in partly or (any(kinds.values()) and not mends)}
