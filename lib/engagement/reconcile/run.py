"""One comparison of PostgreSQL with every sink that keeps rows; says nothing about what may still be on its way.

Two looks, so that nothing is called drift that only is young: what differs at the first is looked at again when it is
old enough, and counts only if PostgreSQL's row was the same at both, and again after the sink had answered.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from engagement.reconcile.compare import (
    LEAF_IDS,
    Digest,
    Findings,
    Held,
    Kind,
    Side,
    Slices,
    Sums,
    judge,
    narrow,
    settled,
    slices_of,
)
from engagement.schemas import DeadLetterCode

MOST_RANGES = 100
"""Ranges in which one run finds something, and how many it looks at at a time; where more differ, a backfill is due."""
_MOST_SUSPECTS = MOST_RANGES * LEAF_IDS
"""Rows that are looked at again, of one sink: as many as those ranges can hold."""
LETTERS = "dead_letters"
_OF_ONE_SINK: Mapping[str, str] = {
    DeadLetterCode.E_WAREHOUSE_REJECT: "warehouse",
    DeadLetterCode.E_HTTP_REJECT: "external",
}
"""Codes of rows that the transform accepted and one sink did not: they say nothing of the others."""


class Source(Side, Protocol):
    """PostgreSQL. Raises: TransientError."""

    def ids_in(self, spans: Sequence[tuple[int, int]]) -> list[int]:
        """Ids of the rows in some ranges."""
        ...

    def digests(self, ids: Sequence[int]) -> Mapping[int, Digest]:
        """The rows of some ids that are there."""
        ...


class SinkSide(Side, Protocol):
    """A sink that keeps rows. Raises: TransientSinkError, PermanentSinkError."""

    @property
    def name(self) -> str:
        """The sink's name."""
        ...

    def bounds(self) -> tuple[int, int] | None:
        """Smallest and largest event id; None when it is empty."""
        ...

    def ids_in(self, spans: Sequence[tuple[int, int]]) -> list[int]:
        """Ids of the events in some ranges."""
        ...

    def held(self, ids: Sequence[int]) -> Mapping[int, Held]:
        """The newest versions of some events."""
        ...


@dataclass
class Remembered:
    """PostgreSQL's sums, asked for once however many sinks they are compared with."""

    side: Side
    known: dict[Slices, Mapping[int, Sums]] = field(default_factory=dict)

    def sums(self, slices: Slices) -> Mapping[int, Sums]:
        """What the side says, or said."""
        if slices not in self.known:
            self.known[slices] = self.side.sums(slices)
        return self.known[slices]


@dataclass
class _Suspects:
    """What differed in one sink at the first look."""

    sink: SinkSide
    ids: list[int] = field(default_factory=list)
    """Of rows that differ, or that the transform refuses."""
    rows: dict[int, Digest] = field(default_factory=dict)
    """Those of them that PostgreSQL has."""
    ranges: int = 0
    """In which something differs that no refused row explains."""
    uncounted: int = 0
    """Ranges that were not looked at."""

    @property
    def is_full(self) -> bool:
        """Whether it is enough for one run."""
        return self.ranges >= MOST_RANGES or len(self.ids) >= _MOST_SUSPECTS

    def add(self, spans: Sequence[tuple[int, int]], found: Findings, rows: Mapping[int, Digest]) -> None:
        """Note what was found in some ranges, of whose rows these are PostgreSQL's."""
        differing = sorted({event_id for ids in found.ids.values() for event_id in ids})
        # A row that is refused for good makes its range differ for ever: it must not hide what lies behind it.
        self.ranges += sum(bisect_left(differing, first) < bisect_right(differing, last) for first, last in spans)
        refused = (event_id for event_id, row in rows.items() if row.refused)
        suspicious = sorted({*differing, *refused})
        self.ids += suspicious
        self.rows.update((event_id, rows[event_id]) for event_id in suspicious if event_id in rows)


@dataclass(frozen=True)
class Part:
    """What a sink is held against that need not have all of PostgreSQL's rows."""

    source: Source
    from_its_first: bool
    """Only from the smallest id that it has."""


@dataclass(frozen=True)
class Comparison:
    """Compares; opens nothing before `run`."""

    source: Source
    sinks: Sequence[SinkSide]
    bounds: tuple[int, int] | None
    """Ids that PostgreSQL has, or may have had."""
    letters: Callable[[Sequence[int]], Mapping[int, set[str]]]
    """Of some ids, those of which there are dead letters: id -> their codes."""
    await_age: Callable[[], None]
    """Wait until what was read so far is old enough to be everywhere."""
    say: Callable[[str], None]
    parts: Mapping[str, Part] = field(default_factory=dict)
    """Sink -> what it is held against, where that is not all of `source`."""

    def run(self) -> list[Findings]:
        """What differs, sink by sink; dead letters last."""
        bounds = [found for found in (self.bounds, *(sink.bounds() for sink in self.sinks)) if found]
        if not bounds:
            return [Findings(sink.name) for sink in self.sinks]
        slices = slices_of(min(first for first, _ in bounds), max(last for _, last in bounds))
        source, sums = self.source, Remembered(self.source)
        suspects = [self._first_look(source, sums, sink, slices) for sink in self.sinks if sink.name not in self.parts]
        suspects += [self._part_look(sink, slices) for sink in self.sinks if sink.name in self.parts]
        if any(each.ids for each in suspects):
            self.say("something differs; looking again when it is old enough to be everywhere")
            self.await_age()
        return [*(self._second_look(each) for each in suspects), self._unlettered(suspects)]

    def look(self, sink: SinkSide, ids: Iterable[int]) -> Findings:
        """How a sink differs in some ids now."""
        listed = sorted(ids)
        return judge(sink.name, listed, self.source.digests(listed), sink.held(listed))

    def _part_look(self, sink: SinkSide, slices: Slices) -> _Suspects:
        part, bounds = self.parts[sink.name], sink.bounds()
        if part.from_its_first:
            if bounds is None:
                self.say(
                    f"{sink.name}: it has nothing yet, so nothing tells what it should have; name a range by --from"
                )
                return _Suspects(sink)
            slices = slices_of(bounds[0], slices.last)
        return self._first_look(part.source, part.source, sink, slices)

    def _first_look(self, source: Source, sums: Side, sink: SinkSide, slices: Slices) -> _Suspects:
        """`sums`: those of `source`."""
        spans = narrow(sums, sink, slices)
        self.say(f"{sink.name}: {len(spans)} range(s) of ids differ")
        suspects, looked = _Suspects(sink), 0
        while looked < len(spans) and not suspects.is_full:
            near = spans[looked : looked + MOST_RANGES]
            looked += len(near)
            ids = sorted({*source.ids_in(near), *sink.ids_in(near)})
            rows = self.source.digests(ids)
            suspects.add(near, judge(sink.name, ids, rows, sink.held(ids)), rows)
        suspects.uncounted = len(spans) - looked
        return suspects

    def _second_look(self, suspects: _Suspects) -> Findings:
        ids, sink = suspects.ids, suspects.sink
        rows = self.source.digests(ids)
        held = sink.held(ids)
        old = settled(settled(ids, suspects.rows, rows), rows, self.source.digests(ids))
        found = judge(sink.name, old, rows, held)
        found.uncounted = suspects.uncounted
        return self._without_letters(found)

    def _without_letters(self, found: Findings) -> Findings:
        """A row that was refused when it came (too far in the future, say) is a dead letter, and not missing.

        Unless it was refused for what it held: it is accepted now, so it has been changed since, and that was lost.
        """
        missing = found.ids.pop(Kind.MISSING, [])
        lettered = self.letters(missing) if missing else {}
        for event_id in missing:
            if not any(_excuses(code, found.sink) for code in lettered.get(event_id, ())):
                found.add(Kind.MISSING, event_id)
        return found

    def _unlettered(self, suspects: Sequence[_Suspects]) -> Findings:
        """Rows that the transform refuses, and that are no dead letter."""
        rows = {event_id: row for each in suspects for event_id, row in each.rows.items() if row.refused}
        now = self.source.digests(sorted(rows)) if rows else {}
        refused = [event_id for event_id in settled(sorted(rows), rows, now) if now[event_id].refused]
        found = Findings(LETTERS)
        lettered = self.letters(refused) if refused else {}
        for event_id in refused:
            if lettered.get(event_id, set()) <= _OF_ONE_SINK.keys():
                found.add(Kind.MISSING, event_id)
        return found


def _excuses(code: str, sink: str) -> bool:
    """Whether a dead letter explains that a sink lacks a row which is accepted as it is now.

    >>> _excuses("E_TS_FUTURE", "lake"), _excuses("E_HTTP_REJECT", "lake"), _excuses("E_HTTP_REJECT", "external")
    (True, False, True)
    """
    return code == DeadLetterCode.E_TS_FUTURE or _OF_ONE_SINK.get(code) == sink
