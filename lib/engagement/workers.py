"""Which of Spark's Python workers run a function: those that go first, or those that give way.

Sinks share the processors of a machine. What the ranking waits for must not wait for a burst of another sink's rows, so
these run in processes of a lower priority. A priority belongs to a process for good (only root may raise it again):
hence workers of their own, which Spark keeps for each environment that functions were planned in.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from pyspark import SparkContext

NICENESS = "ENGAGEMENT_WORKER_NICENESS"
"""Environment variable that tells a worker daemon."""
_planning = threading.Lock()


class Workers(Enum):
    """A kind of workers; the value is the niceness of their processes."""

    FIRST = 0
    GIVE_WAY = 10

    @contextmanager
    def chosen(self, context: SparkContext) -> Iterator[None]:
        """Functions that are planned within run in workers of this kind; other threads' planning waits meanwhile."""
        with _planning:
            if self.value:
                context.environment[NICENESS] = str(self.value)
            try:
                yield
            finally:
                context.environment.pop(NICENESS, None)
