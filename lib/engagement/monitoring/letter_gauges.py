"""What the lake's table of dead letters holds, as gauges: by sink, code and status, and since when the oldest waits."""

from engagement.dead_letters.letter import NEW
from engagement.dead_letters.selection import Selection
from engagement.dead_letters.table import LetterTable
from engagement.monitoring.catalogue import OLDEST_DEAD_LETTER, STORED_DEAD_LETTERS
from engagement.monitoring.measures import Measures


class LetterGauges:
    """Counts when the table has changed since the last look: looking again costs the reading of its log's end."""

    def __init__(self, table: LetterTable, measures: Measures) -> None:
        self._table = table
        self._measures = measures
        self._version: int | None = None

    def look(self) -> None:
        """Bring the gauges up to date. Raises: TransientError, ContractError."""
        if not self._table.exists():
            return
        version = self._table.version()
        if version == self._version:
            return
        counts = self._table.counts(Selection())
        # What was there and is no more must not stay; a reading just now finds less, and the next one all.
        self._measures.forget(STORED_DEAD_LETTERS)
        self._measures.forget(OLDEST_DEAD_LETTER)
        for count in counts:
            named = {"sink": count.sink, "code": count.code}
            self._measures.set(STORED_DEAD_LETTERS, count.letters, **named, status=count.status)
            if count.status == NEW:
                self._measures.set(OLDEST_DEAD_LETTER, count.oldest.timestamp(), **named)
        self._version = version
