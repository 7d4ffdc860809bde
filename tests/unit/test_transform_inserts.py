"""Inserts read by the pattern, against the same messages judged one by one."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import builders
from tests.arrow import narrow
from tests.builders import KAFKA_TS, MIXED, Message, created
from tests.reference.fuzz import mutations
from tests.reference.vectors import message_vectors, vector_message

from engagement.transform.decode import decode_batch, decode_each
from engagement.transform.inserts import read_inserts
from engagement.transform.json_text import MAX_BYTES, JsonReader
from engagement.transform.validate import UNAVAILABLE

RECORDED = Message(
    rb'{"before":null,"after":{"id":218865,"content_id":"c405886d-dff8-48dc-bb79-93912d61d16f","user_id":"c1feaae5-a0cd'
    rb'-4f80-bd18-6514765cbae1","event_type":"pause","event_ts":"2026-11-27T19:34:12.253003Z","duration_ms":1927813,"de'
    rb'vice":"web","raw_payload":"{\"app\": \"4.2.0\", \"session\": \"9ea85b2e145f\", \"position_ms\": 1927813}"},"sour'
    rb'ce":{"version":"3.6.3.Final","connector":"postgresql","name":"engagement","ts_ms":1795808052387,"snapshot":"fals'
    rb'e","db":"engagement","sequence":"[\"151368048\",\"151364480\"]","ts_us":1795808052387590,"ts_ns":179580805238759'
    rb'0000,"schema":"public","table":"engagement_events","txId":9484,"lsn":151364480,"xmin":null,"origin":null,"origin'
    rb'_lsn":null},"transaction":null,"op":"c","ts_ms":1795808052388,"ts_us":1795808052388809,"ts_ns":17958080523888099'
    rb"41}",
    kafka_ts=datetime(2026, 11, 27, 19, 34, 12, 400_000, UTC),
)
"""As the embedded Connect wrote it."""
LATEST = (KAFKA_TS + timedelta(minutes=5)).isoformat(timespec="microseconds").replace("+00:00", "Z")
AHEAD = (KAFKA_TS + timedelta(minutes=5, microseconds=1)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def one_by_one(*messages: Message) -> pa.RecordBatch:
    return decode_each(JsonReader(), narrow(*messages))


def decoded(*messages: Message) -> pa.RecordBatch:
    return decode_batch(JsonReader(), narrow(*messages))


def is_read(message: Message) -> bool:
    return read_inserts(narrow(message)).images.num_rows == 1


def respelled(change: Callable[[str], str], **columns: object) -> Message:
    text = (created(**columns).value or b"").decode()
    assert change(text) != text
    return Message(change(text).encode())


@pytest.mark.parametrize(
    "message",
    [
        RECORDED,
        created(),
        replace(RECORDED, value=(RECORDED.value or b"").replace(b'"op":"c"', b'"op":"r"')),
        created(content_id=None, user_id=None, duration_ms=None, device=None, raw_payload=None),
        created(event_type="click", duration_ms=0, device="", raw_payload='a "quoted" \\ text\nwith\tmore'),
        respelled(lambda text: text.replace('"device":"ios"', '"device":"\u00e9\U0001f600\\/"')),
        created(event_ts="2026-11-23T14:59:58Z"),
        created(event_ts="2026-11-23T14:59:58.250Z"),
        created(event_ts=LATEST),
        *(created(event_ts=f"2025-{day}T23:59:59.999999Z") for day in ("01-31", "02-28", "04-30", "12-31")),
    ],
)
def test_a_valid_insert_is_read_by_the_pattern(message: Message) -> None:
    assert is_read(message)
    assert decoded(message).equals(one_by_one(message))


@pytest.mark.parametrize(
    "message",
    [
        Message(None),
        Message(b"\xff"),
        builders.message(builders.row()),
        builders.updated(),
        builders.message(builders.envelope("d", before=builders.row())),
        builders.message(builders.envelope(after=builders.row()), headers=("__debezium.oldkey",)),
        replace(created(), offset=9, replay_of=3),
        created(id=0),
        created(id=-1),
        created(id=2**63 - 1),
        created(id=2**63),
        created(id=True),
        created(content_id=builders.CONTENT_ID.upper()),
        created(content_id=""),
        created(content_id=builders.CONTENT_ID + "\n"),
        created(event_type=UNAVAILABLE),
        created(event_type="Play"),
        created(device=UNAVAILABLE),
        created(raw_payload=UNAVAILABLE),
        created(device=7),
        created(raw_payload={"a": 1}),
        created(raw_payload="\u0007"),
        created(duration_ms=-1),
        created(duration_ms=1.0),
        created(duration_ms=2**31 - 1),
        created(event_ts=AHEAD),
        created(event_ts="2024-02-29T00:00:00.000000Z"),
        created(event_ts="2026-02-29T00:00:00.000000Z"),
        created(event_ts="2026-04-31T00:00:00.000000Z"),
        created(event_ts="2026-11-23T24:00:00.000000Z"),
        created(event_ts="2026-11-23T14:59:60.000000Z"),
        created(event_ts="1999-12-31T23:59:59.999999Z"),
        created(event_ts="3000-01-01T00:00:00.000000Z"),
        created(added=None),
        created(raw_payload="x" * MAX_BYTES),
        respelled(lambda text: text + " "),
        respelled(lambda text: text + "\n"),
        respelled(lambda text: text + "{}"),
        respelled(lambda text: text.replace('"id":1', '"id":01')),
        respelled(lambda text: text.replace('"id":1', '"id":1.0')),
        respelled(lambda text: text.replace('"id":1,', '"id":1,"id":2,')),
        respelled(lambda text: text.replace('"op":"c"', '"op":"c","op":"d"')),
        respelled(lambda text: text.replace('"op":"c"', '"op":"t"')),
        respelled(lambda text: text.replace('"before":null,', "")),
        respelled(lambda text: text.replace('"ts_ns":', '"ts_ns":0')),
        respelled(lambda text: text.replace('"ts_ms":1795446000000', '"ts_ms":1795446300001')),
        respelled(lambda text: text.replace('"ts_ms":1795446000000', '"ts_ms":-1')),
        respelled(lambda text: text.replace('"device":"ios"', '"device":"i\\u006fs"')),
        respelled(lambda text: text.replace('"device":"ios"', '"device":"i\tos"')),
        respelled(lambda text: text.replace('"device":"ios"', '"device":"i\\os"')),
        respelled(lambda text: text.replace(f'"lsn":{builders.LSN}', '"lsn":0')),
        respelled(lambda text: text.replace(f'"lsn":{builders.LSN}', '"lsn":null')),
        respelled(lambda text: text.replace(f'["{builders.LSN - 8}"', "[null").replace('\\"33749920\\"', "null")),
    ],
)
def test_every_other_message_is_left_to_be_judged_by_itself(message: Message) -> None:
    assert not is_read(message)
    assert decoded(message).equals(one_by_one(message))


def test_rows_keep_the_order_of_their_messages() -> None:
    mixed = builders.in_order([message for other in MIXED for message in (created(id=7), other, created(id=8))])
    places = read_inserts(narrow(*mixed)).places.tolist()
    assert 2 * len(MIXED) <= len(places) < len(mixed)
    assert decoded(*mixed).equals(one_by_one(*mixed))
    assert decoded().equals(one_by_one())


def test_vectors_and_mutated_messages_come_out_as_if_judged_one_by_one() -> None:
    vectors = [vector_message(vector, offset) for offset, vector in enumerate(message_vectors())]
    messages = [*vectors, *islice(mutations(20261127), 4_000)]
    read = read_inserts(narrow(*messages)).places
    assert 20 < len(read) < len(messages) / 2
    assert decoded(*messages).equals(one_by_one(*messages))


@settings(max_examples=400)
@given(
    st.data(),
    st.integers(min_value=0, max_value=len(RECORDED.value or b"")),
    st.sampled_from(
        [b'"', b"\\", b"0", b"1", b"-", b",", b" ", b"}", b"{", b"null", b"\xc3\xa9", b"\xc3", b"\x00", b""]
    ),
)
def test_a_letter_more_less_or_other_changes_nothing_between_the_two(
    data: st.DataObject, at: int, letters: bytes
) -> None:
    value = RECORDED.value or b""
    end = data.draw(st.integers(min_value=at, max_value=min(at + 3, len(value))))
    message = replace(RECORDED, value=value[:at] + letters + value[end:])
    assert decoded(message).equals(one_by_one(message))
