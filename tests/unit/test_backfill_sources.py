"""How history is cut into chunks."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from engagement.backfill.ledger import Planned
from engagement.backfill.sources import TopicSource
from engagement.identity import Fence
from engagement.sources.history import Span

NOBODY: Any = None
ALWAYS = Span(datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


def planned(bounds: dict[int, tuple[int, int]], fence: Fence, rows: int) -> list[Planned]:
    positions: Any = SimpleNamespace(bounds=lambda: bounds)
    return TopicSource(NOBODY, NOBODY, positions, NOBODY, ALWAYS, rows, lambda: fence, str).plan()


def test_a_chunk_of_a_topic_has_a_part_of_each_partition() -> None:
    bounds = {1: (5, 900), 0: (0, 900)}
    assert planned(bounds, {0: 25, 1: 10}, rows=20) == [
        Planned(((0, 0, 10), (1, 5, 10)), 15),
        Planned(((0, 10, 20),), 10),
        Planned(((0, 20, 25),), 5),
    ]


@pytest.mark.parametrize("bounds", [{}, {0: (3, 3), 1: (7, 7)}, {0: (3, 9), 1: (0, 9)}])
def test_what_no_stream_has_taken_is_not_planned(bounds: dict[int, tuple[int, int]]) -> None:
    assert planned(bounds, {0: 3}, rows=2) == []


def test_chunks_of_one_row_over_many_partitions_still_get_on() -> None:
    chunks = planned({number: (0, 2) for number in range(3)}, {0: 2, 1: 2, 2: 2}, rows=1)
    assert [chunk.rows for chunk in chunks] == [3, 3]
