"""Which offsets are due: the planned ranges of a micro-batch against the fence of the sink. Pure.

Spark's own bookkeeping is treated as a plan, never as the truth. Lost or altered offset logs make Spark hand out the
same batch id with other rows, or skip a batch with a warning; a restored destination knows less than Spark believes,
a second driver makes it know more. In each case comparing two numbers per partition says exactly what is missing.
"""

import json
from collections.abc import Mapping, Sequence

from engagement.errors import ContractError
from engagement.identity import Fence, OffsetRange

TopicOffsets = Mapping[str, Mapping[int, int]]
Bounds = Mapping[int, tuple[int, int]]
"""Kafka partition -> (earliest offset, end offset) that the topic holds now."""

MOST_GAP_ROWS = 20_000
"""So many messages are written in front of a micro-batch, or read in vain behind a fence; more begins anew."""
_OFFSET_LOG_HEADER_LINES = 2
"""An offset log entry: version, batch metadata, then one line per source."""


def parse_topic_offsets(text: str) -> dict[str, dict[int, int]]:
    """Topic -> partition -> offset, out of the JSON that Spark's Kafka source writes.

    >>> parse_topic_offsets('{"events":{"0":5,"1":7}}')
    {'events': {0: 5, 1: 7}}
    """
    try:
        return {
            topic: {int(partition): int(offset) for partition, offset in offsets.items()}
            for topic, offsets in json.loads(text).items()
        }
    except (ValueError, AttributeError) as error:
        raise ContractError(f"not Kafka offsets as Spark writes them: {text[:80]!r}") from error


def parse_offset_log(text: str) -> dict[str, dict[int, int]]:
    """End offsets of a batch, out of the text of `<checkpoint>/offsets/<batch id>` (one Kafka source per query)."""
    lines = text.splitlines()
    if len(lines) <= _OFFSET_LOG_HEADER_LINES:
        raise ContractError("incomplete offset log entry")
    return parse_topic_offsets(lines[_OFFSET_LOG_HEADER_LINES])


def parse_initial_offsets(text: str) -> dict[str, dict[int, int]]:
    """Start offsets of a query, out of the text of `<checkpoint>/sources/0/0` (a version line, then JSON)."""
    brace = text.find("{")
    if brace < 0:
        raise ContractError("incomplete initial offsets")
    return parse_topic_offsets(text[brace:])


def planned_ranges(start: TopicOffsets, end: TopicOffsets) -> list[OffsetRange]:
    """What Spark is about to hand over; a partition that is new in `end` starts at 0, as Spark's own rule has it."""
    return [
        OffsetRange(topic, partition, start.get(topic, {}).get(partition, 0), until)
        for topic, offsets in sorted(end.items())
        for partition, until in sorted(offsets.items())
    ]


def find_gaps(planned: Sequence[OffsetRange], fence: Fence) -> tuple[OffsetRange, ...]:
    """Ranges the sink lacks although Spark thinks them delivered, since it went back while the query ran.

    A fence at or above the planned start is no gap: the sink skips what lies below its fence. A partition without a
    fence has none either: the query began where the topic does.

    >>> find_gaps([OffsetRange("t", 0, 10, 20), OffsetRange("t", 1, 5, 9)], {0: 7, 1: 6})
    (OffsetRange(topic='t', partition=0, start=7, end=10),)
    """
    return tuple(
        OffsetRange(part.topic, part.partition, fence[part.partition], part.start)
        for part in planned
        if fence.get(part.partition, part.start) < part.start
    )


def lost_ranges(topic: str, fence: Fence, bounds: Bounds) -> tuple[OffsetRange, ...]:
    """What the sink still needs and Kafka holds no longer.

    >>> lost_ranges("t", {0: 7, 1: 6}, {0: (10, 20), 1: (0, 6)})
    (OffsetRange(topic='t', partition=0, start=7, end=10),)
    """
    return tuple(
        OffsetRange(topic, partition, fence[partition], first)
        for partition, (first, _) in sorted(bounds.items())
        if fence.get(partition, first) < first
    )


def beyond_end(fence: Fence, bounds: Bounds) -> dict[int, int]:
    """Partitions that end before what the sink has taken of them, with that end: the topic has lost its newest rows.

    >>> beyond_end({0: 7, 1: 6}, {0: (0, 5), 1: (0, 6)})
    {0: 5}
    """
    return {partition: end for partition, (_, end) in sorted(bounds.items()) if end < fence.get(partition, 0)}
