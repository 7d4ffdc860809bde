"""The reference agrees with the written vectors: what it says of mutated messages can then be believed."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.reference.decode import Image, Outcome, decode
from tests.reference.fuzz import mutations
from tests.reference.scoring import enrich
from tests.reference.strict_json import Document, JsonError, as_text, read_any_depth, read_json
from tests.reference.vectors import message_vectors, scoring_vectors, vector_message

_OFFSET = 41


def _moment(micros: int | None) -> str | None:
    if micros is None:
        return None
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _value(source: Outcome | Image, name: str) -> object:
    if name == "event_ts" and isinstance(source, Image):
        return _moment(source.event_ts_micros)
    if name == "raw_payload" and isinstance(source, Image):
        return re.sub(r"\b(\d+)\.0\b", r"\1", as_text(source.raw_payload) or "") or None
    return getattr(source, name)


@pytest.mark.parametrize("vector", message_vectors(), ids=lambda vector: vector["name"])
def test_the_reference_gives_the_outcome_that_is_written_down(vector: dict[str, Any]) -> None:
    message = vector_message(vector, _OFFSET)
    outcome = decode(message.value, message.offset, message.kafka_ts, message.headers)
    expected = {"code": None, **vector["outcome"]}
    images = expected.pop("images")
    if expected.get("version") == "offset + 1":
        expected["version"] = _OFFSET + 1
    assert {name: _value(outcome, name) for name in expected} == expected
    assert len(outcome.images) == len(images)
    for image, columns in zip(outcome.images, images, strict=True):
        assert {name: _value(image, name) for name in columns} == columns


@pytest.mark.parametrize("vector", scoring_vectors(), ids=lambda vector: vector["name"])
def test_the_reference_scores_as_written_down(vector: dict[str, Any]) -> None:
    found = enrich(
        vector["event_type"],
        vector["duration_ms"],
        vector["length_seconds"],
        missing=vector["content"] == "unknown",
        skewed=vector["ahead_of_kafka_ms"] > 0,
    )
    pct, seconds = vector["engagement_pct"], vector["engagement_seconds"]
    assert found.pct == (None if pct is None else Decimal(pct))
    assert found.seconds == (None if seconds is None else Decimal(seconds))
    assert (found.units, list(found.flags)) == (vector["units"], vector["flags"])


def test_every_code_of_the_transform_has_a_vector() -> None:
    codes = {vector["outcome"].get("code") for vector in message_vectors()} - {None}
    assert codes == {
        *("E_TOO_LARGE", "E_UTF8", "E_JSON", "E_JSON_STRICT", "E_ENVELOPE", "E_ID", "E_UUID", "E_EVENT_TYPE"),
        *("E_TS", "E_TS_FUTURE", "E_TS_RANGE", "E_TYPE_DURATION", "E_RANGE_DURATION"),
    }


def _read(reader: Callable[[str], Document], text: str) -> Document | None:
    try:
        return reader(text)
    except JsonError:
        return None


def test_both_readers_of_the_reference_read_mutated_messages_alike() -> None:
    values = (message.value for message in islice(mutations(20261126), 4_000) if message.value is not None)
    for text in (value.decode(errors="replace") for value in values):
        assert _read(read_json, text) == _read(read_any_depth, text), text


@given(st.text(alphabet='{}[]:,"\\ \t01-+.eEuabnulltruefsNIy\x00\x1f\ufeff', max_size=30))
@example('{"a":1,"a":{"b":[],"b":2}} ]')
@example('["\\ud83d\\ude00\\u12"]')
@example("-01.5E+7")
def test_both_readers_of_the_reference_read_any_text_alike(text: str) -> None:
    assert _read(read_json, text) == _read(read_any_depth, text)
