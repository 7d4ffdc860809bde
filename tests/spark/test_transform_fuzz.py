"""Mutated messages: Spark's transform and the plain Python reference agree on every one."""

import os
from itertools import islice

import pytest
from pyspark.sql import Row, SparkSession
from tests.builders import Message
from tests.reference.decode import Image, Outcome, decode
from tests.reference.fuzz import mutations
from tests.reference.strict_json import plain, read_plain
from tests.spark import frames

pytestmark = pytest.mark.spark
_COUNT = int(os.environ.get("FUZZ_MESSAGES", "5000"))
_SEED = int(os.environ.get("FUZZ_SEED", "20261123"))
_IMAGE_FIELDS = ("is_version", "effect", "event_id", "content_id", "user_id", "event_type", "event_ts_micros")
_OUTCOME_FIELDS = ("kind", "code", "op", "version", "commit_lsn", "lsn", "half")


def _differences(rows: list[Row], expected: Outcome) -> list[str]:
    if len(rows) != len(expected.images):
        return [f"{len(rows)} rows, not {len(expected.images)}"]
    own = rows[0]
    found = [f"{n}: {own[n]} not {getattr(expected, n)}" for n in _OUTCOME_FIELDS if own[n] != getattr(expected, n)]
    for row, image in zip(rows, expected.images, strict=True):
        for name in (*_IMAGE_FIELDS, "duration_ms", "device"):
            if row[name] != getattr(image, name):
                found.append(f"{name}: {row[name]!r} not {getattr(image, name)!r}")
        found += _payload_difference(row["raw_payload"], image)
    return found


def _payload_difference(text: str | None, image: Image) -> list[str]:
    expected = image.raw_payload
    if expected is None or isinstance(expected, str):
        return [] if text == expected else [f"raw_payload: {text!r} not {expected!r}"]
    same = text is not None and read_plain(text) == plain(expected)
    return [] if same else [f"raw_payload: {text!r} not {expected!r}"]


def _show(message: Message) -> str:
    value = message.value or b""
    return f"{message.headers} {value[:1500]!r}{'…' if len(value) > 1500 else ''}"


@pytest.mark.timeout(1800)
def test_every_mutated_message_has_the_outcome_of_the_reference(spark: SparkSession) -> None:
    given = list(islice(mutations(_SEED), _COUNT))
    rows = frames.collected(frames.changes(spark, given))
    wrong = []
    for message in given:
        expected = decode(message.value, message.offset, message.kafka_ts, message.headers)
        differences = _differences(rows.get(message.offset, []), expected)
        if differences:
            wrong.append(f"{differences}\n    {_show(message)}")
    assert not wrong, f"seed {_SEED}: {len(wrong)} of {_COUNT} differ, among them\n" + "\n".join(wrong[:15])
