"""The decode without Spark: every written vector, mutated messages against the reference, and the reader's limits."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import builders
from tests.reference.decode import Outcome as Expected
from tests.reference.decode import decode
from tests.reference.fuzz import mutations
from tests.reference.instant import micros_of
from tests.reference.instant import parse_instant as parse_instant_again
from tests.reference.strict_json import plain, read_plain
from tests.reference.vectors import message_vectors, vector_message

from engagement.transform.envelope import Effect, Headers, Outcome, Place, read_message
from engagement.transform.instant import parse_instant, to_text
from engagement.transform.json_text import RECURSION_LIMIT, JsonReader, to_compact_text
from engagement.transform.validate import Image

_COUNT = int(os.environ.get("FUZZ_MESSAGES", "5000"))
_SEED = int(os.environ.get("FUZZ_SEED", "20261123"))
_OFFSET = 41


@pytest.fixture(scope="module", autouse=True)
def _deep_recursion() -> Iterator[None]:
    former = sys.getrecursionlimit()
    sys.setrecursionlimit(RECURSION_LIMIT)
    yield
    sys.setrecursionlimit(former)


def _read(message: builders.Message) -> Outcome:
    headers = Headers(message.headers, message.replay_of)
    return read_message(JsonReader(), message.value, message.offset, micros_of(message.kafka_ts), headers)


def _outcome_fields(outcome: Outcome) -> dict[str, object]:
    refusal = outcome.refusal
    return {
        "kind": str(outcome.kind),
        "code": None if refusal is None else str(refusal.code),
        "op": outcome.op,
        **outcome.place._asdict(),
        "half": outcome.half,
    }


def _image_fields(effect: Effect) -> dict[str, object]:
    fields = {"is_version": effect.is_version, "effect": effect.effect, **effect.image._asdict()}
    micros = fields.pop("event_us")
    if isinstance(micros, int):
        fields["event_ts"] = to_text(micros)
    return fields


@pytest.mark.parametrize("vector", message_vectors(), ids=lambda vector: vector["name"])
def test_a_message_has_the_outcome_that_is_written_down(vector: dict[str, Any]) -> None:
    outcome = _read(vector_message(vector, _OFFSET))
    expected = {"code": None, **vector["outcome"]}
    images = expected.pop("images")
    if expected.get("version") == "offset + 1":
        expected["version"] = _OFFSET + 1
    found = _outcome_fields(outcome)
    assert {name: found.get(name) for name in expected} == expected
    assert len(outcome.effects) == len(images)
    for effect, columns in zip(outcome.effects, images, strict=True):
        fields = _image_fields(effect)
        assert {name: fields.get(name) for name in columns} == columns


def _differences(message: builders.Message) -> list[str]:
    outcome = _read(message)
    expected: Expected = decode(message.value, message.offset, message.kafka_ts, message.headers)
    fields = _outcome_fields(outcome)
    found = [name for name, value in fields.items() if name != "source_ts_ms" and value != getattr(expected, name)]
    if len(outcome.effects) != len(expected.images):
        return [*found, "images"]
    for effect, image in zip(outcome.effects, expected.images, strict=True):
        values = (effect.is_version, effect.effect, *effect.image[:-1])
        wanted = (
            *(image.is_version, image.effect, image.event_id, image.content_id, image.user_id, image.event_type),
            *(image.event_ts_micros, image.duration_ms, image.device),
        )
        if values != wanted:
            found.append(f"{values} not {wanted}")
        payload = image.raw_payload
        if isinstance(payload, str | None):
            if effect.image.raw_payload != payload:
                found.append("raw_payload")
        elif read_plain(effect.image.raw_payload or "null") != plain(payload):
            found.append("raw_payload")
    return found


@pytest.mark.timeout(1800)
def test_every_mutated_message_has_the_outcome_of_the_reference() -> None:
    wrong = []
    for message in islice(mutations(_SEED), _COUNT):
        differences = _differences(message)
        if differences:
            wrong.append(f"{differences}\n    {message.headers} {(message.value or b'')[:1200]!r}")
    assert not wrong, f"seed {_SEED}: {len(wrong)} of {_COUNT} differ, among them\n" + "\n".join(wrong[:10])


@given(st.binary(max_size=400))
def test_no_bytes_make_it_raise(value: bytes) -> None:
    assert len(_read(builders.Message(value)).effects) == 1


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)))
def test_compact_text_says_the_same_as_what_was_read(document: dict[str, Any]) -> None:
    read = JsonReader().read(json.dumps(document).encode())
    assert isinstance(read, dict)
    assert json.loads(to_compact_text(read)) == document


@pytest.mark.parametrize("number", ["1.50", "1e999", "-0", "-0.0", "9" * 30, "9" * 5000, "18446744073709551616"])
def test_numbers_of_a_payload_keep_their_spelling(number: str) -> None:
    read = JsonReader().read(f'{{"a": [{number}]}}'.encode())
    assert isinstance(read, dict)
    assert to_compact_text(read) == f'{{"a":[{number}]}}'


@pytest.mark.parametrize("depth", [999, 1000, 1001, 1199, 3000, 300_000])
def test_values_nested_deeper_than_1000_levels_are_no_json(depth: int) -> None:
    nested = b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"
    outcome = _read(builders.Message(nested))
    assert outcome.refusal is not None
    assert outcome.refusal.detail == ("not one JSON object" if depth > 1000 else "no row")


@pytest.mark.parametrize("end", [b"", b"\\", b"\n"])
def test_a_large_message_that_breaks_off_in_a_text_is_refused_in_no_time(end: bytes) -> None:
    """One quote after the other tried as the first of a text would take hours, and no batch would end."""
    outcome = _read(builders.Message(b'{"after":{"raw_payload":"{' + b'\\"a\\": 1, ' * 120_000 + end))
    assert outcome.refusal is not None
    assert str(outcome.refusal.code) == "E_TOO_LARGE"


def _under_frames(count: int, message: builders.Message) -> Outcome:
    return _under_frames(count - 1, message) if count else _read(message)


def _with_payload(payload: str, document: dict[str, object]) -> builders.Message:
    return builders.Message(json.dumps(document).replace('"deep"', payload).encode())


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_a_payload_may_be_as_deep_as_a_message(opening: str, closing: str) -> None:
    def nested(depth: int) -> str:
        return f"{opening * depth}1{closing * depth}"

    deep = builders.row(raw_payload="deep")
    bad_id = builders.row(id=0, raw_payload="deep")
    given = [
        (999, deep, "change"),
        (999, bad_id, "dead_letter"),
        (998, builders.envelope(after=deep), "change"),
        (998, builders.envelope(after=bad_id), "dead_letter"),
        (998, builders.envelope("d", before=deep), "change"),
        (998, builders.envelope("u", after=builders.row(), before=deep), "change"),
    ]
    for depth, document, kind in given:
        # A worker of Spark calls from about so deep.
        outcome = _under_frames(40, _with_payload(nested(depth), document))
        assert str(outcome.kind) == kind
        assert outcome.effects[-1].image.raw_payload == (nested(depth) if kind == "change" else None)
        assert str(_read(_with_payload(nested(depth + 1), document)).kind) == "dead_letter"


def test_a_replay_stands_for_the_message_it_names_and_takes_nothing_back() -> None:
    update = builders.updated(duration_ms=5)
    replay = _read(replace(update, offset=99, replay_of=_OFFSET))
    assert replay.place == Place(builders.LSN)
    assert [(effect.is_version, effect.effect) for effect in replay.effects] == [(True, 1)]
    assert len(_read(update).effects) == 2
    flat = _read(replace(builders.message(builders.row()), offset=99, replay_of=_OFFSET))
    assert flat.place == Place(_OFFSET + 1)


def test_a_replayed_move_is_still_a_move() -> None:
    moved = builders.message(builders.envelope("d", before=builders.row()), headers=("__debezium.newkey",))
    assert str(_read(replace(moved, replay_of=_OFFSET)).kind) == "move"


def test_a_commit_time_far_ahead_of_its_message_is_not_believed() -> None:
    envelope = builders.envelope(after=builders.row())
    source = envelope["source"]
    assert isinstance(source, dict)
    source["ts_ms"] = micros_of(builders.KAFKA_TS) // 1000 + 5 * 60_000
    assert _read(builders.message(envelope)).place.source_ts_ms == source["ts_ms"]
    source["ts_ms"] += 1
    assert _read(builders.message(envelope)).place.source_ts_ms is None


@pytest.mark.parametrize("op", ["d", "u"])
def test_what_was_counted_is_taken_back_after_the_brokers_clock_was_set_back(op: str) -> None:
    earlier = builders.row(event_ts="2026-11-23T14:40:00Z")
    message = builders.message(builders.envelope(op, earlier if op == "u" else None, builders.row()))
    outcome = _read(replace(message, kafka_ts=builders.KAFKA_TS - timedelta(minutes=10)))
    assert str(outcome.kind) == "change"
    assert [effect.effect for effect in outcome.effects] == ([-1] if op == "d" else [1, -1])
    assert outcome.effects[-1].image.event_us == parse_instant(builders.EVENT_TS)


@pytest.mark.parametrize(
    ("columns", "code"), [({}, "E_TS_FUTURE"), ({"duration_ms": -1}, "E_TS_FUTURE"), ({"user_id": "x"}, "E_UUID")]
)
def test_a_row_that_is_refused_for_its_time_keeps_it_and_no_other_does(columns: dict[str, object], code: str) -> None:
    outcome = _read(builders.created(event_ts="2026-11-23T15:05:00.000001Z", **columns))
    assert outcome.refusal is not None
    assert str(outcome.refusal.code) == code
    ahead = parse_instant("2026-11-23T15:05:00.000001Z") if code == "E_TS_FUTURE" else None
    assert outcome.effects == (Effect(Image(1, event_us=ahead), is_version=True, effect=0),)


@pytest.mark.parametrize(
    ("columns", "kept"),
    [({}, builders.EVENT_TS), ({"event_ts": "2026-11-23T15:06:00Z"}, "2026-11-23T15:06:00Z"), ({"user_id": "x"}, None)],
)
def test_a_row_whose_id_was_changed_keeps_its_time_unless_no_before_can_bring_it_again(
    columns: dict[str, object], kept: str | None
) -> None:
    changed = _read(builders.updated(before=builders.row(id=5), id=6, **columns))
    assert changed.refusal is not None
    assert str(changed.refusal.code) == "E_ENVELOPE"
    expected = Image(6, event_us=None if kept is None else parse_instant(kept))
    assert changed.effects[0] == Effect(expected, is_version=True, effect=0)
    again = _read(builders.updated(before=builders.row(id=6, **columns), id=6))
    assert [effect.effect for effect in again.effects] == ([1] if kept is None else [1, -1])


@given(
    st.from_regex(
        r"\A[+-]?[0-9]{4,6}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]{1,9})?"
        r"(Z|[+-][0-2][0-9](:?[0-5][0-9])?)\Z"
    )
)
def test_times_are_read_as_the_reference_reads_them(text: str) -> None:
    assert parse_instant(text) == parse_instant_again(text)
