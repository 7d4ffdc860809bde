"""Spark's transform against the written vectors: message -> outcome, event and content -> computed columns."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession
from tests.builders import KAFKA_TS, NEWSLETTER_ID, Message, created
from tests.reference.vectors import message_vectors, scoring_vectors, vector_message
from tests.spark import frames

from engagement.transform.instant import to_text

pytestmark = pytest.mark.spark
_UNKNOWN = NEWSLETTER_ID


def _wrong_columns(row: Row, expected: dict[str, Any]) -> dict[str, object]:
    found: dict[str, object] = {**row.asDict()}
    micros = found.pop("event_ts_micros")
    if isinstance(micros, int):
        found["event_ts"] = to_text(micros)
    return {name: found.get(name) for name, value in expected.items() if found.get(name) != value}


def test_every_message_vector_has_its_outcome(spark: SparkSession) -> None:
    vectors = message_vectors()
    given = [vector_message(vector, offset) for offset, vector in enumerate(vectors)]
    rows = frames.collected(frames.changes(spark, given))
    wrong = {}
    for offset, vector in enumerate(vectors):
        expected = {"code": None, **vector["outcome"]}
        images = expected.pop("images")
        if expected.get("version") == "offset + 1":
            expected["version"] = offset + 1
        found = [_wrong_columns(row, image) for row, image in zip(rows[offset], images, strict=False)]
        found.append(_wrong_columns(rows[offset][0], expected))
        if any(found) or len(rows[offset]) != len(images):
            wrong[vector["name"]] = (found, len(rows[offset]))
    assert wrong == {}


def _scored_message(vector: dict[str, Any], content_id: str, offset: int) -> Message:
    moment = KAFKA_TS + timedelta(milliseconds=vector["ahead_of_kafka_ms"])
    given = {"known": content_id, "unknown": _UNKNOWN, None: None}[vector["content"]]
    message = created(
        content_id=given,
        event_type=vector["event_type"],
        duration_ms=vector["duration_ms"],
        event_ts=moment.isoformat(timespec="microseconds"),
    )
    return Message(message.value, offset=offset)


def test_every_scoring_vector_has_its_columns(spark: SparkSession) -> None:
    vectors = scoring_vectors()
    ids = [f"00000000-0000-4000-8000-{offset:012d}" for offset in range(len(vectors))]
    given = [_scored_message(vector, ids[offset], offset) for offset, vector in enumerate(vectors)]
    catalogue: list[dict[str, object]] = [
        {
            "content_id": ids[offset],
            "slug": "s",
            "title": "t",
            "content_type": "video",
            "length_seconds": v["length_seconds"],
        }
        for offset, v in enumerate(vectors)
    ]
    rows = frames.collected(frames.changes(spark, given, catalogue))
    found, expected = {}, {}
    for offset, vector in enumerate(vectors):
        row, name = rows[offset][0], vector["name"]
        found[name] = (row["engagement_seconds"], row["engagement_pct"], row["flags"], row["units"])
        decimals = [None if vector[n] is None else Decimal(vector[n]) for n in ("engagement_seconds", "engagement_pct")]
        expected[name] = (*decimals, vector["flags"], vector["units"])
    assert found == expected
