"""The newest rows the generator wrote, from which it takes those to update and delete. Pure."""

from collections.abc import Sequence

from engagement.generator.events import EventFactory, EventRow
from engagement.generator.store import Batch, Written

KEPT = 5_000


class Changes:
    """Plans updates and deletes as shares of the inserted rows; only rows of this run are touched.

    Fractions are carried over: 0.5 per cent of 50 rows a commit is one row every fourth commit.
    """

    def __init__(self, factory: EventFactory, updates_pct: float, deletes_pct: float) -> None:
        self._factory = factory
        self._shares = (updates_pct / 100, deletes_pct / 100)
        self._owed = [0.0, 0.0]
        self._recent: list[tuple[int, EventRow]] = []

    def batch(self, rows: Sequence[EventRow]) -> Batch:
        """Return the transaction that inserts `rows` and makes the updates and deletes that go with so many."""
        updates, deletes = (self._count(kind, len(rows)) for kind in (0, 1))
        places = self._factory.pick(updates + deletes, len(self._recent))
        changed, gone = places[:updates], places[updates:]
        return Batch(
            rows,
            [(self._recent[at][0], self._factory.corrected(self._recent[at][1])) for at in changed],
            [self._recent[at][0] for at in gone],
        )

    def committed(self, batch: Batch, written: Written) -> None:
        """Take note of what is in the table now."""
        if not any(self._shares):
            return
        deleted, updated = set(batch.deletes), dict(batch.updates)
        kept = [(key, updated.get(key, row)) for key, row in self._recent if key not in deleted]
        self._recent = [*kept, *zip(written.ids, batch.rows, strict=True)][-KEPT:]

    def _count(self, kind: int, rows: int) -> int:
        self._owed[kind] += rows * self._shares[kind]
        whole = int(self._owed[kind])
        self._owed[kind] -= whole
        return whole
