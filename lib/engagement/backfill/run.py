"""The backfill itself: wait for old transactions, plan, and put chunk after chunk into each sink.

Where a crash can fall: before a chunk's commit nothing is there; between commit and ledger the chunk is repeated and
finds everything there; after that it is skipped. A chunk that fails is left for the next start; the others go on.

A run that did not end is gone on with only while its plan says what a new one would: the source is the same, and what
came after it was planned is still the stream's to deliver. So not after a day. A chunk that is done is not looked at
again as long as its tables are the same, and no RESTORE has taken them back (`Loader.destination`): of rows that are
lost from it in another way the stream brings those of changes; all others `reconcile` does, or a run with `--restart`.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from engagement.backfill.ledger import Ledger, Plan, Planned, mark_of
from engagement.backfill.progress import Audience, Outcome, Progress
from engagement.errors import EngagementError, TransientError
from engagement.sinks.base import Chunk, Loaded, Loader

_TELL_SECONDS = 5.0
_RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Waits between the attempts of a chunk."""
_PLAN_SECONDS = 24 * 3600.0
"""Without a chunk that was done, after which a plan is old; what is left of a chunk's staging lives as long."""


class Source(Protocol):
    """Where history is read. Every method raises TransientError when its service does not answer."""

    def identity(self) -> str:
        """What a plan is made of, as far as the ledger's own name does not say it: another text for another source."""
        ...

    def await_writers(self) -> Sequence[str]:
        """Wait for transactions that were writing when this began; those that are still open, for a person."""
        ...

    def plan(self) -> list[Planned]:
        """The chunks that hold everything asked for."""
        ...

    def chunk(self, planned: Planned, name: str) -> Chunk:
        """A chunk to load; nothing is read yet."""
        ...


@dataclass(frozen=True)
class Pace:
    """Time, as a backfill uses it."""

    clock: Callable[[], float]
    """Monotonic seconds."""
    stop: threading.Event
    """Set when it shall end after the chunk under way."""


class Backfill:
    """One run, or the rest of one; the constructor opens nothing."""

    def __init__(
        self, source: Source, loaders: Sequence[Loader], ledger: Ledger, audience: Audience, pace: Pace
    ) -> None:
        self._source = source
        self._loaders = loaders
        self._ledger = ledger
        self._audience = audience
        self._say = audience.say
        self._pace = pace

    def run(self, *, restart: bool = False) -> list[Outcome]:
        """Load everything that is left. Raises: TransientError when the source cannot even be planned."""
        source = mark_of(self._source.identity())
        plan = None if restart else self._unfinished(source)
        still_open = self._source.await_writers()
        if plan:
            self._say(f"going on with {plan.run}, which did not end: {len(plan.chunks)} chunks")
        else:
            plan = self._ledger.begin(self._source.plan(), source)
            rows = sum(chunk.rows for chunk in plan.chunks)
            self._say(f"{plan.run}: {rows:,} rows in {len(plan.chunks)} chunks")
        for transaction in still_open:
            self._say(f"still open, so what it wrote is not in this run: {transaction}")
        outcomes = [self._load_into(loader, plan) for loader in self._loaders]
        if not self._pace.stop.is_set() and not any(outcome.failures for outcome in outcomes):
            self._ledger.finish(plan)
        return outcomes

    def _unfinished(self, source: str) -> Plan | None:
        """The plan of a run that did not end, if it still serves."""
        plan = self._ledger.unfinished()
        if plan is None:
            return None
        if plan.source != source:
            self._say(f"{plan.run} did not end, but was planned of another source, or for other tables: planning anew")
            return None
        if self._ledger.idle_seconds() > _PLAN_SECONDS:
            self._say(f"{plan.run} did not end, but was left more than a day ago: planning anew")
            return None
        return plan

    def _load_into(self, loader: Loader, plan: Plan) -> Outcome:
        outcome = Outcome(loader.name)
        began = self._pace.clock()
        total = sum(chunk.rows for chunk in plan.chunks)
        progress = Progress(loader.name, total, self._audience, self._pace.clock)
        try:
            loader.open()
            into = loader.destination()
            for number, planned in enumerate(plan.chunks):
                if self._pace.stop.is_set():
                    break
                if number in self._ledger.done(plan, loader.name, into):
                    outcome.skipped_chunks += 1
                    progress.skip(planned.rows)
                else:
                    self._load(loader, into, plan, number, progress, outcome)
        except EngagementError as error:
            outcome.failures.append(str(error))
        finally:
            loader.close()
            outcome.seconds = self._pace.clock() - began
        return outcome

    def _load(self, loader: Loader, into: str, plan: Plan, number: int, progress: Progress, outcome: Outcome) -> None:
        note = f"chunk {number + 1} of {len(plan.chunks)}"
        ticker = _Ticker(lambda: progress.tell(note))
        ticker.start()
        try:
            loaded = self._patiently(loader, plan, number)
        except EngagementError as error:
            outcome.failures.append(f"{note}: {error}")
            progress.fail()
            self._say(f"{loader.name}: {note} failed: {error}")
        else:
            self._ledger.note_done(plan, loader.name, into, number)
            outcome.read += loaded.read
            outcome.written += loaded.written
            outcome.dead_letters += loaded.dead_letters
            progress.add(loaded.read + loaded.dead_letters)
        finally:
            ticker.stop()

    def _patiently(self, loader: Loader, plan: Plan, number: int) -> Loaded:
        for delay in _RETRY_SECONDS:
            try:
                return loader.load(self._source.chunk(plan.chunks[number], plan.name(number)))
            except TransientError as error:
                self._say(f"{loader.name}: {error}; trying again in {delay:g} s")
                if self._pace.stop.wait(delay):
                    raise
        return loader.load(self._source.chunk(plan.chunks[number], plan.name(number)))


class _Ticker(threading.Thread):
    """Says something every few seconds until it is stopped."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__(name="backfill-progress", daemon=True)
        self._tell = tell
        self._over = threading.Event()

    def run(self) -> None:
        """Tell until the end."""
        while not self._over.wait(_TELL_SECONDS):
            self._tell()

    def stop(self) -> None:
        """End it and wait for that."""
        self._over.set()
        self.join()
