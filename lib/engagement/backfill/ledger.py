"""The chunk ledger: which chunks a backfill consists of, and which of them each destination holds, in one local file.

Lines of JSON, only ever added to, each on disk before the next chunk begins. A run that was killed goes on with the
same plan, and so with the same chunks under the same names, unless the source is another one by then or the plan is old
(backfill.run decides that by what is told here); a line cut short by the crash is left out, and its chunk
repeated, which adds nothing. Of two runs at once each sees what the other has done; should both load a chunk, the
destination holds it once (sinks.base.Loader). What is noted belongs to the tables that were filled: for others, also
under a sink's old name, and for those that a RESTORE has taken back since, nothing is done yet. A finished ledger is
replaced: the next run looks at everything again.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MARK_CHARACTERS = 16


@dataclass(frozen=True)
class Planned:
    """One chunk of a plan."""

    parts: tuple[tuple[int, ...], ...]
    """What the source reads it by: ranges of ids, days or offsets; see the source."""
    rows: int
    """Rows that it was seen to hold when it was planned."""


@dataclass(frozen=True)
class Plan:
    """The chunks of a run; `run` tells it apart from an earlier run over the same range."""

    run: str
    chunks: tuple[Planned, ...]
    source: str = ""
    """Tells what was planned: mark_of its source's identity."""

    def name(self, number: int) -> str:
        """The name of a chunk, for jobs and commits.

        >>> Plan("ab12", ()).name(7)
        'ab12_000007'
        """
        return f"{self.run}_{number:06}"


class Ledger:
    """One backfill's file; opens nothing before it is asked."""

    def __init__(self, path: Path, new_run: Callable[[], str], now: Callable[[], float]) -> None:
        self._path = path
        self._new_run = new_run
        self._now = now
        """Seconds since 1970, as the file's own times."""

    def unfinished(self) -> Plan | None:
        """The plan of a run that did not end; None when there is nothing to go on with."""
        plan: Plan | None = None
        for line in self._lines():
            if "plan" in line:
                chunks = tuple(_planned(chunk) for chunk in line["chunks"])
                plan = Plan(line["plan"], chunks, str(line.get("source", "")))
            elif plan and line.get("finished") == plan.run:
                plan = None
        return plan

    def idle_seconds(self) -> float:
        """How long nothing has been added to a file that is there."""
        return self._now() - self._path.stat().st_mtime

    def begin(self, chunks: Sequence[Planned], source: str) -> Plan:
        """Begin a run; what the file held before is of no use any more."""
        plan = Plan(self._new_run(), tuple(chunks), source)
        listed = [[chunk.parts, chunk.rows] for chunk in plan.chunks]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_name(f"{self._path.name}.{plan.run}")
        fresh.write_text(json.dumps({"plan": plan.run, "source": source, "chunks": listed}) + "\n")
        fresh.replace(self._path)
        return plan

    def done(self, plan: Plan, sink: str, destination: str) -> set[int]:
        """Numbers of the chunks that a sink's tables hold, by this run or another one of the same plan."""
        wanted = {"done": plan.run, "sink": sink, "into": mark_of(destination)}
        return {int(line["chunk"]) for line in self._lines() if wanted.items() <= line.items()}

    def note_done(self, plan: Plan, sink: str, destination: str, number: int) -> None:
        """Keep that a sink's tables hold a chunk."""
        self._add({"done": plan.run, "sink": sink, "into": mark_of(destination), "chunk": number})

    def finish(self, plan: Plan) -> None:
        """Keep that nothing of the plan is left to do."""
        self._add({"finished": plan.run})

    def _add(self, line: dict[str, object]) -> None:
        # The line break comes first, so that a line that a crash cut short does not swallow this one.
        data = ("\n" + json.dumps(line) + "\n").encode()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _lines(self) -> list[dict[str, Any]]:
        if not self._path.is_file():
            return []
        found = [_parsed(text) for text in self._path.read_text().splitlines() if text]
        return [line for line in found if line is not None]


def mark_of(text: str) -> str:
    """A short form that tells texts apart and keeps addresses out of the file."""
    return hashlib.sha256(text.encode()).hexdigest()[:_MARK_CHARACTERS]


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None  # cut short by a crash
    return line if isinstance(line, dict) else None


def _planned(chunk: Sequence[Any]) -> Planned:
    parts, rows = chunk
    return Planned(tuple(tuple(int(number) for number in part) for part in parts), int(rows))
