"""The one home of Redis key names.

A shard's keys carry the hash tag `{p<partition>}`, so that they share one Redis Cluster slot and one script may touch
them all; the scripts derive a generation's keys from the pointer's name. The public names have no tag.
"""

STEP_SECONDS = 10
"""Seconds of event time per bucket and per step of the window."""


def current(partition: int) -> str:
    """Pointer to a shard's current generation; all its other keys begin with what stands before `current`."""
    return f"engagement:{{p{partition}}}:current"


def generation_key(partition: int, generation: str, name: str) -> str:
    """Key of one part (`fence`, `totals`, `buckets`, …) of one generation."""
    return f"engagement:{{p{partition}}}:{generation}:{name}"


def shards() -> str:
    """SET of the partitions that have a shard."""
    return "engagement:shards"


def contents_with_stats() -> str:
    """SET of the contents that have statistics, or are about to."""
    return "engagement:contents_with_stats"


def counted_lengths() -> str:
    """HASH of every content's length, as the sums were counted with it; '' is NULL."""
    return "engagement:counted_lengths"


def ranking_keys(top_key: str) -> tuple[str, str, str]:
    """Give the ranking and its two private companions, all in one slot.

    >>> ranking_keys("top")
    ('top', '{top}:units', '{top}:seen')
    """
    return top_key, f"{{{top_key}}}:units", f"{{{top_key}}}:seen"


def content_stats(content_id: str) -> str:
    """HASH of a content's totals over the window."""
    return f"content_stats:{content_id}"


def content_meta(content_id: str) -> str:
    """HASH of a content's slug, title, type, length and publication time."""
    return f"content_meta:{content_id}"


def recent_events(content_id: str) -> str:
    """STREAM of a content's newest events."""
    return f"recent_events:{content_id}"


def event(event_id: int) -> str:
    """HASH of one event."""
    return f"event:{event_id}"
