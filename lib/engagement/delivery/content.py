"""Which contents a query counts with, from one micro-batch to the next."""

import threading
from collections.abc import Callable

from engagement.sources.content import ContentCatalogue, ContentSnapshot

Withhold = Callable[[frozenset[str]], frozenset[str]]
"""Of contents whose length changed, those whose old length a sink must go on using until it has counted again."""


def withhold_nothing(_: frozenset[str]) -> frozenset[str]:
    """The rule of every sink that keeps rows and not sums."""
    return frozenset()


class ContentHandle:
    """The snapshot that one query joins with; replaced as a whole, never changed in place.

    A score depends on its content's length. A sink that keeps sums must not meet a new length before it has counted
    again, or a later take-back would subtract something else than was added; such lengths are withheld here until
    `adopt_newest`. Every method raises TransientError when PostgreSQL does not answer.
    """

    def __init__(self, catalogue: ContentCatalogue) -> None:
        self._catalogue = catalogue
        self.withhold: Withhold = withhold_nothing
        """Set by a sink that keeps sums; asked at every refresh."""
        self._lock = threading.RLock()
        self._current: ContentSnapshot | None = None
        self._newest: ContentSnapshot | None = None

    @property
    def current(self) -> ContentSnapshot:
        """What events are scored with now; loaded on first use."""
        with self._lock:
            if self._current is None:
                self._current = self._newest = self._catalogue.load()
            return self._current

    @property
    def newest(self) -> ContentSnapshot:
        """The catalogue as last read, withheld lengths included."""
        with self._lock:
            return self._newest or self.current

    def refresh(self) -> None:
        """Read the catalogue again."""
        old, newest = self.current, self.newest
        new = self._catalogue.load(newest)
        with self._lock:
            if new is old:
                return
            kept = self.withhold(old.changed_lengths(new))
            self._current, self._newest = self._catalogue.keeping_lengths(old, new, kept) if kept else new, new

    def adopt(self, snapshot: ContentSnapshot) -> None:
        """Score with `snapshot` from now on: the sink has counted everything with it."""
        with self._lock:
            self._current, self._newest = snapshot, self._newest or snapshot
