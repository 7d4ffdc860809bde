"""What each of the four commands does, and says; terminal, clock and destinations are passed in."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TextIO

from rich.console import Console

from engagement.dead_letters import display
from engagement.dead_letters.discard import discard
from engagement.dead_letters.letter import FullLetter, LetterId
from engagement.dead_letters.replay import Destination, Replayer, Tally, judge
from engagement.dead_letters.selection import Selection
from engagement.dead_letters.table import LetterTable
from engagement.errors import ContractError
from engagement.transform.json_text import JsonReader, Refusal

_WIDTH = 140
"""Narrower, and ids that people copy would be folded."""


@dataclass(frozen=True)
class DeadLetters:
    """The commands; each returns its exit code. Raises: EngagementError."""

    table: LetterTable
    destinations: Mapping[str, Destination]
    """By the name of the sink that refused; those without an address are absent."""
    who: str
    clock: Callable[[], datetime]
    out: TextIO
    progress: Callable[[str], None]
    """Told how far a long command is."""

    def list(self, selection: Selection, limit: int, *, as_json: bool) -> int:
        """Counts by code, and the newest letters."""
        if not self.table.exists():
            return self._nothing(as_json=as_json)
        counts, letters = self.table.counts(selection), self.table.newest(selection, limit)
        if as_json:
            return self._write(json.dumps(display.listing(counts, letters), indent=2))
        if not counts:
            return self._write("dead-letters: none match")
        console = Console(file=self.out)
        console.width = max(console.width, _WIDTH)
        console.print(display.count_table(counts))
        console.print(display.letter_table(letters))
        total = sum(count.letters for count in counts)
        return self._write(
            f"{len(letters):,} of {total:,}, newest first; --limit shows more, `show ID` one of them whole"
        )

    def show(self, letter: LetterId, *, as_json: bool, raw: bool) -> int:
        """One letter whole."""
        full = self._find(letter)
        if raw:
            sys.stdout.buffer.write(full.value)
            return 0
        found = judge(JsonReader(), full, full.value, self.clock())
        now = found if isinstance(found, Refusal) else None
        if as_json:
            verdict = None if now is None else {"code": str(now.code), "detail": now.detail}
            more = {"text": _text(full.value), "hex": full.value.hex(), "headers": list(full.header_names)}
            return self._write(json.dumps({**display.as_json(full.letter), **more, "refused_now": verdict}, indent=2))
        return self._write("\n".join(display.shown(full, now)))

    def replay(self, selection: Selection, payload: bytes | None, *, dry_run: bool) -> int:
        """Send letters again; 1 when some stay."""
        if not self.table.exists():
            return self._nothing()
        if payload is not None:
            self._check_payload(selection, payload)
        replayer = Replayer(self.table, self.destinations, self.who, self.clock, self._report)
        tally = replayer.run(selection, payload, dry_run=dry_run)
        self._write(f"dead-letters: {tally}{'; this was a dry run' if dry_run else ''}")
        return 0 if tally.is_complete else 1

    def discard(self, selection: Selection, reason: str, confirm: Callable[[str], bool]) -> int:
        """Mark letters as discarded, after asking; 1 when the answer was no."""
        if not self.table.exists():
            return self._nothing()
        replayer = Replayer(self.table, self.destinations, self.who, self.clock, self._report)
        if settled := replayer.settle(selection):
            self._write(f"dead-letters: {settled:,} had been sent again before and are noted so")
        counts = self.table.counts(selection)
        total = sum(count.letters for count in counts)
        if total == 0:
            return self._write("dead-letters: none to discard")
        told = ", ".join(f"{count.code} by {count.sink} {count.letters:,}" for count in counts)
        if not confirm(f"Discard {total:,} dead letters ({told})?"):
            self._write("dead-letters: nothing was discarded")
            return 1
        done = discard(
            self.table, selection, self.who, reason, self.clock,
            lambda at, of: self.progress(f"{at:,} of {of:,} discarded"),
        )  # fmt: skip
        return self._write(f"dead-letters: {done:,} discarded; `show ID` still shows them")

    def _check_payload(self, selection: Selection, payload: bytes) -> None:
        """Say at once what is wrong with a correction. Raises: ContractError."""
        meant = self.table.messages(self.table.places(selection), selection) or [self._find(selection.ids[0])]
        if len(meant) > 1:
            raise ContractError(
                f"{selection.ids[0]} are several, since their topic was made again: the newer one is meant alone with "
                f"--since, the older one once the newer was replayed or discarded"
            )
        found = judge(JsonReader(), meant[0], payload, self.clock())
        if isinstance(found, Refusal):
            raise ContractError(f"the payload would be refused too: {found.code}, {found.detail}")

    def _find(self, letter: LetterId) -> FullLetter:
        """The newest, if a topic that was made again has left several. Raises: ContractError when there is none."""
        if not self.table.exists():
            raise ContractError(f"there is no table of dead letters at {self.table.path} yet")
        one = Selection(ids=(letter,))
        found = self.table.messages(self.table.places(one), one)
        if not found:
            raise ContractError(f"there is no dead letter {letter}")
        return found[-1]

    def _report(self, tally: Tally) -> None:
        self.progress(str(tally))

    def _nothing(self, *, as_json: bool = False) -> int:
        if as_json:
            return self._write(json.dumps(display.listing([], [])))
        return self._write(f"dead-letters: none; no streaming job has made the table {self.table.path} yet")

    def _write(self, text: str) -> int:
        self.out.write(f"{text}\n")
        self.out.flush()
        return 0


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
