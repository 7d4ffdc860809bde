"""Which contents a query counts with, from one micro-batch to the next and from one start to the next."""

import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from engagement.sources.content import ContentCatalogue, ContentSnapshot
from engagement.transform.content import Lengths


class CountedLengths(Protocol):
    """What a sink that keeps sums has to say about lengths; every method raises TransientSinkError."""

    def counted_lengths(self) -> Lengths:
        """The lengths that all its sums were counted with, kept in the destination itself."""
        ...

    def withheld(self, contents: frozenset[str]) -> frozenset[str]:
        """Of contents whose length changed, those that it must count again first; it sets about that."""
        ...

    def note_lengths(self, lengths: Lengths) -> None:
        """Keep these: from now on all its sums are counted with them."""
        ...

    def between_batches(self) -> AbstractContextManager[object]:
        """While entered, no other thread scores rows or writes them; a thread may enter it again."""
        ...


class NoSums:
    """The rule of every sink that keeps rows: what was delivered stays as it was enriched."""

    def counted_lengths(self) -> Lengths:
        """None."""
        return {}

    def withheld(self, _contents: frozenset[str]) -> frozenset[str]:
        """None."""
        return frozenset()

    def note_lengths(self, _lengths: Lengths) -> None:
        """Nothing to keep."""

    def between_batches(self) -> AbstractContextManager[object]:
        """At any time."""
        return nullcontext()


class ContentHandle:
    """The snapshot that one query joins with; replaced as a whole, never changed in place.

    A score depends on its content's length. A sink that keeps sums must not meet a new length before it has counted
    again, or a later take-back would subtract something else than was added; such lengths are withheld here until
    `adopt`. For the same reason lengths change only between micro-batches: rows that were scored with the former ones
    would come to a board that is counted with the new ones. The sink's own note of lengths comes after what it says has
    happened: after a crash in between, the worst is that it counts again for nothing. Every method raises
    TransientError when PostgreSQL or the sink does not answer.
    """

    def __init__(self, catalogue: ContentCatalogue) -> None:
        self._catalogue = catalogue
        self.sums: CountedLengths = NoSums()
        """Set by whoever puts a sink that keeps sums beside it."""
        self._lock = threading.RLock()
        self._current: ContentSnapshot | None = None
        self._newest: ContentSnapshot | None = None
        self._reads = self._settled = 0
        """Number of the newest reading of the catalogue, and of the newest that was settled."""
        self._noted: Lengths = {}
        """What the sink was last told to keep: nothing of a content whose earlier events are to be counted again."""

    @property
    def current(self) -> ContentSnapshot:
        """What events are scored with now; loaded on first use."""
        with self._lock:
            if self._current is None:
                return self._settle(self.sums.counted_lengths(), self._catalogue.load())
            return self._current

    @property
    def newest(self) -> ContentSnapshot:
        """The catalogue as last read, withheld lengths included."""
        with self._lock:
            return self._newest or self.current

    def refresh(self) -> None:
        """Read the catalogue again."""
        with self._lock:
            self._reads += 1
            number = self._reads
        new = self._catalogue.load(self.newest)
        with self.sums.between_batches(), self._lock:
            if number < self._settled:
                return  # another thread has read later, and settled sooner: this would bring back what was before
            self._settled = number
            old = self.current  # only now: a recount that ended meanwhile has adopted another one
            if new is not old:
                self._settle(self._noted, new)

    def adopt(self, snapshot: ContentSnapshot) -> None:
        """Score with `snapshot` from now on: the sink has counted everything with it. Only between micro-batches."""
        with self._lock:
            self._current, self._newest = snapshot, self._newest or snapshot
            self._note(snapshot.lengths)

    def _settle(self, counted: Lengths, new: ContentSnapshot) -> ContentSnapshot:
        kept = self.sums.withheld(new.changed_since(counted))
        current = self._catalogue.keeping_lengths(counted, new, kept) if kept else new
        self._current, self._newest = current, new
        self._note({c: n for c, n in current.lengths.items() if c not in kept or c in counted})
        return current

    def _note(self, lengths: Lengths) -> None:
        # In this order: were the sink away now, its older note would bring back lengths that rows no longer have.
        self._noted = lengths
        self.sums.note_lengths(lengths)
