"""Newest events per content (`recent_events:{id}` streams) and, when asked for, single events (`event:{id}`).

Written before the fence moves: a crash in between leaves entries that the replay skips, because a stream takes only
entries above its newest and a hash only newer versions.
"""

from collections.abc import Iterable, Iterator

import msgpack
import pyarrow as pa
import redis

from engagement.sinks.redis import keys
from engagement.sinks.redis.faults import translated
from engagement.sinks.redis.scripts import Call, load, run_many
from engagement.sinks.redis.texts import texts
from engagement.transform.columns import listed

STREAM_LENGTH = 1000
STREAM_SECONDS = 3600
PIPELINE_CALLS = 1000
FIELDS = (
    *("event_id", "version", "op", "event_type", "user_id", "event_ts", "duration_ms"),
    *("engagement_seconds", "engagement_pct", "device"),
)


def write_recent(client: redis.Redis, partition: int, events: pa.RecordBatch, event_ttl_seconds: int = 0) -> None:
    """Add row versions (columns of `changes`, offset order). Raises: TransientSinkError."""
    calls = list(stream_calls(partition, events))
    if event_ttl_seconds > 0:
        calls += event_calls(events, event_ttl_seconds)
    with translated():
        for start in range(0, len(calls), PIPELINE_CALLS):
            run_many(client, calls[start : start + PIPELINE_CALLS])


def forget_recent(client: redis.Redis, contents: Iterable[str]) -> None:
    """Delete the streams of some contents. Raises: TransientSinkError."""
    streams = [keys.recent_events(content) for content in contents]
    with translated():
        for start in range(0, len(streams), PIPELINE_CALLS):
            pipeline = client.pipeline(transaction=False)
            for stream in streams[start : start + PIPELINE_CALLS]:
                pipeline.unlink(stream)
            pipeline.execute()


def stream_calls(partition: int, events: pa.RecordBatch) -> Iterator[Call]:
    """Give one call per content with its newest entries; an entry's number is its Kafka offset + 1 (0 is no id).

    An event without a content is in no stream.
    """
    entries: dict[str, list[tuple[int, tuple[str, ...], bool]]] = {}
    offsets = listed(events.column("kafka_offset"))
    contents = listed(events.column("content_id"))
    replays = listed(events.column("replay_of").is_valid())
    for content, offset, row, replay in zip(contents, offsets, texts(events, FIELDS), replays, strict=True):
        if content is not None:
            entries.setdefault(content, []).append((offset + 1, row, replay))
    script, pack = load("recent"), msgpack.Packer().pack
    for content, rows in entries.items():
        packed = pack((FIELDS, rows[-STREAM_LENGTH:]))
        yield Call(script, (keys.recent_events(content),), (partition, STREAM_LENGTH, STREAM_SECONDS, packed))


def event_calls(events: pa.RecordBatch, ttl_seconds: int) -> Iterator[Call]:
    """Give one call per row version, in order."""
    script = load("event")
    names = ("content_id", *FIELDS)
    for version, row in zip(listed(events.column("version")), texts(events, names), strict=True):
        values = dict(zip(names, row, strict=True))
        pairs = [text for pair in values.items() for text in pair]
        yield Call(script, (keys.event(int(values["event_id"])),), (f"{version or 0:020d}", ttl_seconds, *pairs))
