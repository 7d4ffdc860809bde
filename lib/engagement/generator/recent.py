"""The newest rows the generator wrote, from which it takes those to update and delete. Pure."""

from collections.abc import Sequence

from engagement.generator.events import EventFactory, EventRow
from engagement.generator.store import Batch, Written

KEPT = 5_000


class Changes:
    """Plans updates and deletes as shares of the inserted rows; only rows of this run are touched.

    What a transaction cannot do is carried over: a fraction (0.5 per cent of 50 rows a commit is one row every fourth
    commit), and what finds no row of an earlier commit, as in the first one.
    """

    def __init__(self, factory: EventFactory, updates_pct: float, deletes_pct: float) -> None:
        self._factory = factory
        self._shares = (updates_pct / 100, deletes_pct / 100)
        self._owed = [0.0, 0.0]
        self._recent: list[tuple[int, EventRow]] = []
        self._oldest = 0
        self._planned: tuple[list[int], list[int]] = ([], [])

    @property
    def left(self) -> bool:
        """Whether a transaction that inserts nothing would make up for updates or deletes."""
        return bool(self._recent) and max(self._owed) >= 1

    def batch(self, rows: Sequence[EventRow]) -> Batch:
        """Return the transaction that inserts `rows` and makes the updates and deletes that are due by then."""
        owed = [owed + len(rows) * share for owed, share in zip(self._owed, self._shares, strict=True)]
        updates, deletes = map(int, owed)
        places = self._factory.pick(updates + deletes, len(self._recent))
        changed, gone = places[:updates], places[updates:]
        self._planned = (changed, gone)
        self._owed = [owed[0] - len(changed), owed[1] - len(gone)]
        return Batch(
            rows,
            [(self._recent[at][0], self._factory.corrected(self._recent[at][1])) for at in changed],
            [self._recent[at][0] for at in gone],
        )

    def committed(self, batch: Batch, written: Written) -> None:
        """Take note of what is in the table now, after the batch made last."""
        if not any(self._shares):
            return
        changed, gone = self._planned
        for place, update in zip(changed, batch.updates, strict=True):
            self._recent[place] = update
        # From the end, so that moving the last row into a gap never moves a row that is still to go.
        for place in sorted(gone, reverse=True):
            self._recent[place] = self._recent[-1]
            self._recent.pop()
        for row in zip(written.ids, batch.rows, strict=True):
            self._remember(row)

    def _remember(self, row: tuple[int, EventRow]) -> None:
        if len(self._recent) < KEPT:
            self._recent.append(row)
            return
        self._recent[self._oldest % KEPT] = row
        self._oldest += 1
