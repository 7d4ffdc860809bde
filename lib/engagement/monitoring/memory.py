"""Resident memory of this process and all it started (Spark's JVM, Python workers)."""

from collections.abc import Iterator

import psutil

from engagement.processes import family


def tree_rss_bytes(pid: int) -> int:
    """Bytes of a process and its children now; pages they share count in each."""
    return sum(_each(pid))


def _each(pid: int) -> Iterator[int]:
    for member in family(pid):
        try:
            yield int(member.memory_info().rss)
        except psutil.Error:
            continue  # it ended while we looked
