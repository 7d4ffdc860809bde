"""Messages through the transform as Arrow batches, without Spark."""

import json

import pyarrow as pa
from tests.builders import CONTENT_ROWS, KAFKA_TS, Message

from engagement.dead_letters.catalogue import CONTENT
from engagement.transform.changes import transform_batches
from engagement.transform.content import Contents


def narrow(*messages: Message) -> pa.RecordBatch:
    """Contract NARROW_MESSAGES."""
    columns = {
        "topic": ["engagement-events"] * len(messages),
        "partition": pa.array([m.partition for m in messages], pa.int32()),
        "offset": pa.array([m.offset for m in messages], pa.int64()),
        "timestamp": pa.array([m.kafka_ts for m in messages], pa.timestamp("us", "UTC")),
        "value": pa.array([m.value for m in messages], pa.binary()),
        "header_names_json": pa.array([json.dumps(m.headers) if m.headers else None for m in messages], pa.string()),
        "replay_of": pa.array([m.replay_of for m in messages], pa.int64()),
    }
    return pa.RecordBatch.from_pydict(columns)


def changes(*messages: Message) -> pa.RecordBatch:
    """Contract CHANGES, without Spark."""
    table = pa.Table.from_pylist(
        [{**content, "publish_ts": KAFKA_TS} for content in CONTENT_ROWS],
        schema=CONTENT,
    )
    (batch,) = transform_batches([narrow(*messages)], Contents(table))
    return batch
