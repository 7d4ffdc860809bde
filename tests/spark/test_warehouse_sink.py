"""The warehouse sink on the real emulator: each row version once, whatever comes twice and whoever dies."""

import json
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import pytest
from google.cloud import bigquery as google
from tests.builders import CONTENT_ID, EVENT_TS, LSN, MIXED, Message, created, envelope, in_order, message, row
from tests.spark import frames
from tests.spark.warehouse import IDENTITY, NOW, Dataset, Faulty, Warehouse, inserted, part, start

from engagement.errors import GapError, PermanentSinkError, TransientSinkError
from engagement.sinks.bigquery.rest import FENCE, VIEWS
from engagement.sinks.bigquery.tables import EVENTS, FENCES

pytestmark = [pytest.mark.spark, pytest.mark.timeout(120)]

SENT = in_order(MIXED)


def test_a_new_dataset_has_the_public_table_its_views_and_no_fence(warehouse: Warehouse) -> None:
    assert warehouse.driver().fence() == {}
    client = warehouse.rest.client
    table = client.get_table(warehouse.rest.full_name("enriched_events"))
    assert [(f.name, f.field_type, f.mode) for f in table.schema] == [(f.name, f.field_type, f.mode) for f in EVENTS]
    assert table.time_partitioning is not None
    assert (table.time_partitioning.type_, table.time_partitioning.field) == ("DAY", "event_timestamp")
    assert table.clustering_fields == ["content_type", "event_type", "content_id"]
    assert [warehouse.rows(view) for view in VIEWS] == [[], [], []]


def test_each_message_ends_where_its_outcome_says(warehouse: Warehouse) -> None:
    sink = warehouse.driver()
    (summary,) = warehouse.deliver(sink, SENT)
    assert summary.conservation_difference == 0
    assert (summary.read, summary.delivered, summary.tombstones, summary.moves) == (7, 3, 1, 1)
    assert summary.dead_letters == {"E_RANGE_DURATION": 1, "E_UTF8": 1}
    assert [(r["kafka_offset"], r["op"]) for r in warehouse.events()] == [(0, "c"), (5, "u"), (6, "d")]
    assert sink.fence() == {0: 7}
    assert sum(sum(times.values()) for times in warehouse.visible[-1]) == 3


def test_a_table_that_was_emptied_is_told_of(warehouse: Warehouse) -> None:
    (summary,) = warehouse.deliver(warehouse.driver(), in_order([created(), message(envelope("t"))]))
    assert (summary.delivered, summary.dead_letters, summary.truncations) == (1, {"E_ENVELOPE": 1}, 1)


def test_rows_hold_what_the_transform_computed(warehouse: Warehouse) -> None:
    warehouse.deliver(warehouse.driver(), [created(duration_ms=45_000)])
    (found,) = warehouse.events()
    assert (found["content_id"], found["content_slug"], found["content_length_seconds"]) == (CONTENT_ID, "a", 60)
    assert (found["engagement_seconds"], found["engagement_pct"]) == (Decimal(45), Decimal(75))
    assert (found["raw_payload"], found["flags"]) == ({"a": 1}, [])
    assert found["event_timestamp"] == datetime.fromisoformat(EVENT_TS)
    assert found["processed_timestamp"] == NOW


@pytest.mark.parametrize(
    "payload", ["it's no JSON", "", '{"a": "\\ud800"}', "1e999", "[1, 2]", 'a "quote"\n\x00\u2028', "NaN"]
)
def test_a_payload_of_any_kind_is_stored(warehouse: Warehouse, payload: str) -> None:
    warehouse.deliver(warehouse.driver(), [created(raw_payload=payload)])
    (found,) = warehouse.events()
    assert found["raw_payload"] == ([1, 2] if payload == "[1, 2]" else payload)


def test_a_deletion_that_knows_only_its_id_is_stored(warehouse: Warehouse) -> None:
    deletion = message(envelope("d", before=row(event_ts="?", event_type="?", content_id="?", raw_payload=None)))
    warehouse.deliver(warehouse.driver(), [deletion])
    (found,) = warehouse.events()
    assert (found["event_id"], found["op"], found["event_timestamp"]) == (1, "d", None)


def test_many_requests_of_several_partitions_are_one_commit(warehouse: Warehouse) -> None:
    small = Warehouse(warehouse.spark, warehouse.service, rows_per_request=2)
    sink = small.driver()
    messages = [*inserted(7), *inserted(5, partition=1)]
    summaries = small.deliver(sink, messages, part(0, 7), part(0, 5, partition=1), part(3, 9, partition=2))
    assert [(s.partition, s.delivered) for s in summaries] == [(0, 7), (1, 5), (2, 0)]
    assert (sink.fence(), small.ids()) == ({0: 7, 1: 5, 2: 9}, [1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5])
    small.close()


def test_what_comes_twice_is_stored_once(warehouse: Warehouse) -> None:
    warehouse.deliver(warehouse.driver(), SENT)
    events = warehouse.events()
    (again,) = warehouse.deliver(warehouse.driver(), SENT)
    assert (again.read, again.already_delivered, again.delivered) == (7, 7, 0)
    assert warehouse.events() == events


def test_a_replay_of_old_rows_only_does_not_block_what_follows(warehouse: Warehouse) -> None:
    sink = warehouse.driver()
    for end in (3, 3, 5):
        warehouse.deliver(sink, inserted(end), part(0, end))
    assert warehouse.ids() == [1, 2, 3, 4, 5]


def test_of_a_range_that_overlaps_only_the_rest_is_stored(warehouse: Warehouse) -> None:
    sink = warehouse.driver()
    warehouse.deliver(sink, inserted(3), part(0, 3))
    (summary,) = warehouse.deliver(sink, inserted(5), part(0, 5))
    assert (summary.already_delivered, summary.delivered) == (3, 2)
    assert warehouse.ids() == [1, 2, 3, 4, 5]


def test_partitions_move_by_themselves(warehouse: Warehouse) -> None:
    sink = warehouse.driver()
    warehouse.deliver(sink, inserted(2), part(0, 2))
    warehouse.deliver(sink, inserted(4, partition=1), part(2, 2), part(0, 4, partition=1))
    assert (sink.fence(), len(warehouse.events())) == ({0: 2, 1: 4}, 6)


def test_a_range_without_rows_moves_the_fence(warehouse: Warehouse) -> None:
    sink = warehouse.driver()
    (summary,) = warehouse.deliver(sink, [], part(0, 9))
    assert (summary.read, sink.fence()) == (0, {0: 9})


def test_a_range_beyond_the_fence_waits_for_what_is_between(warehouse: Warehouse) -> None:
    sink = warehouse.driver()
    warehouse.deliver(sink, inserted(2), part(0, 2))
    with pytest.raises(TransientSinkError, match="fence lies before"):
        warehouse.deliver(sink, inserted(5)[4:], part(4, 5))
    assert warehouse.ids() == [1, 2]


def test_a_topic_that_was_made_again_starts_at_its_beginning(warehouse: Warehouse) -> None:
    warehouse.deliver(warehouse.driver(), inserted(2))
    warehouse.topic_id = "second"
    sink = warehouse.driver()
    assert sink.fence() == {}
    warehouse.deliver(sink, inserted(1))
    assert (sink.fence(), len(warehouse.events())) == ({0: 1}, 3)


def test_what_a_topic_brings_that_was_made_again_since_comes_once_by_the_next_start(warehouse: Warehouse) -> None:
    sink = warehouse.driver()
    warehouse.deliver(sink, inserted(2))
    warehouse.topic_id = "second"
    anew = [Message(created(id=n + 11).value, offset=n) for n in range(4)]
    with pytest.raises(GapError, match="made again"):
        warehouse.deliver(sink, anew[2:], part(2, 4))
    assert warehouse.ids() == [1, 2]
    again = warehouse.driver()
    assert again.fence() == {}
    warehouse.deliver(again, anew)
    assert sorted(warehouse.ids()) == [1, 2, 11, 12, 13, 14]


def test_a_table_without_a_fence_tells_it_by_its_rows(warehouse: Warehouse) -> None:
    warehouse.deliver(warehouse.driver(), inserted(3))
    warehouse.rest.client.delete_table(warehouse.rest.full_name(FENCE))
    assert warehouse.driver().fence() == {0: 3}


def drop_events(warehouse: Warehouse) -> None:
    warehouse.rest.client.delete_table(warehouse.rest.full_name("enriched_events"))


def test_a_fence_whose_rows_are_gone_with_their_table_is_not_believed(
    warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    warehouse.deliver(warehouse.driver(), inserted(3))
    assert not caplog.records
    drop_events(warehouse)
    sink = warehouse.driver()
    (told,) = caplog.records
    assert "{'first': {0: 3}}" in told.getMessage()
    assert "backfill --sinks warehouse" in told.getMessage()
    assert sink.fence() == {}
    warehouse.deliver(sink, inserted(3))
    assert (warehouse.ids(), warehouse.driver().fence()) == ([1, 2, 3], {0: 3})


def beside(warehouse: Warehouse) -> Dataset:
    """Another events' table in the same dataset, filled from the same topic."""
    return Dataset(warehouse.spark, replace(warehouse.options, table="events_v2"))


def test_a_table_that_is_made_beside_another_leaves_its_fence_alone(
    warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    first = warehouse.driver()
    warehouse.deliver(first, inserted(3))
    other = beside(warehouse)
    second = other.driver()
    assert (first.fence(), second.fence(), caplog.records) == ({0: 3}, {}, [])
    other.deliver(second, inserted(2))
    warehouse.deliver(first, inserted(4))
    assert (warehouse.driver().fence(), other.driver().fence()) == ({0: 4}, {0: 2})
    drop_events(warehouse)
    assert (warehouse.driver().fence(), second.fence(), other.driver().fence()) == ({}, {0: 2}, {0: 2})


def test_a_fence_of_an_earlier_release_is_that_of_the_table_with_rows(warehouse: Warehouse) -> None:
    warehouse.deliver(warehouse.driver(), inserted(3))
    warehouse.rest.run_text(f"update {warehouse.rest.quoted(FENCE)} set events_table = null where true")  # noqa: S608
    other = beside(warehouse)
    assert (other.driver().fence(), warehouse.driver().fence()) == ({}, {0: 3})
    warehouse.deliver(warehouse.driver(), inserted(5))
    assert (warehouse.ids(), warehouse.driver().fence(), other.driver().fence()) == ([1, 2, 3, 4, 5], {0: 5}, {})


def test_the_fences_of_an_earlier_release_get_the_column_that_they_lack(warehouse: Warehouse) -> None:
    client = warehouse.rest.client
    client.create_dataset(warehouse.options.dataset_id)
    older = [field for field in FENCES if field.name != "events_table"]
    client.create_table(google.Table(warehouse.rest.full_name(FENCE), schema=older))
    warehouse.deliver(warehouse.driver(), inserted(1))
    assert [found["events_table"] for found in warehouse.rows(FENCE)] == ["enriched_events"]


def test_a_driver_that_writes_while_the_table_is_made_anew_is_told_so(warehouse: Warehouse) -> None:
    def others() -> None:
        drop_events(warehouse)
        warehouse.deliver(warehouse.driver(), inserted(1))

    first = warehouse.driver(ledger=Faulty("claim", others, before=True))
    with pytest.raises(TransientSinkError, match="another driver"):
        warehouse.deliver(first, inserted(3))
    assert (first.fence(), warehouse.ids()) == ({0: 1}, [1])


def test_a_column_that_an_older_table_lacks_is_added(warehouse: Warehouse) -> None:
    make_table(warehouse, [field for field in EVENTS if field.name not in ("flags", "op")])
    warehouse.deliver(warehouse.driver(), inserted(1))
    (found,) = warehouse.events()
    assert (found["flags"], found["op"]) == ([], "c")


def test_a_column_of_another_type_stops_before_any_row_is_read(warehouse: Warehouse) -> None:
    make_table(warehouse, [google.SchemaField("event_id", "STRING")])
    with pytest.raises(PermanentSinkError, match="event_id is NULLABLE STRING, not NULLABLE INT64"):
        warehouse.driver()


def make_table(warehouse: Warehouse, fields: list[google.SchemaField]) -> None:
    client = warehouse.rest.client
    client.create_dataset(warehouse.options.dataset_id)
    client.create_table(google.Table(warehouse.rest.full_name("enriched_events"), schema=fields))


def test_a_view_of_an_older_release_is_replaced(warehouse: Warehouse) -> None:
    warehouse.driver()
    view = warehouse.rest.quoted("current_events")
    warehouse.rest.run_text(f"create or replace view {view} as select 1 as event_id")
    warehouse.deliver(warehouse.driver(), inserted(2))
    assert sorted(found["kafka_offset"] for found in warehouse.rows("current_events")) == [0, 1]


def test_a_warehouse_that_is_away_is_waited_for(warehouse: Warehouse) -> None:
    sink = warehouse.driver()
    warehouse.kill()
    with pytest.raises(TransientSinkError, match="cannot be reached"):
        sink.fence()
    with pytest.raises(TransientSinkError):
        warehouse.deliver(sink, inserted(1))
    start(warehouse.service)
    warehouse.deliver(sink, inserted(1))
    assert warehouse.ids() == [1]


def test_the_fence_names_its_micro_batch_for_people(warehouse: Warehouse) -> None:
    warehouse.deliver(warehouse.driver(), inserted(1))
    (found,) = warehouse.rows(FENCE)
    assert (found["batch"], found["state"], json.loads(found["next_offsets"])) == ("app/generation/3", "done", {"0": 1})


def later(number: int, op: str = "c") -> bytes:
    """A row whose change stands further on in the source's log."""
    return message(envelope(op, after=row(id=number), lsn=LSN + 16 * number)).value or b""


def test_versions_that_the_source_sends_again_under_new_offsets_are_stored_once(warehouse: Warehouse) -> None:
    sink = warehouse.driver()
    warehouse.deliver(sink, [Message(later(n), offset=n) for n in range(1, 5)], part(1, 5))
    again = [Message(later(n), offset=n + 10) for n in (3, 4, 5)]
    (summary,) = warehouse.deliver(sink, again, part(5, 16))
    assert (summary.delivered, summary.repeats, summary.already_delivered) == (1, 2, 2)
    assert summary.conservation_difference == 0
    assert [(r["event_id"], r["kafka_offset"]) for r in warehouse.events()] == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 15)]
    (summary,) = warehouse.deliver(warehouse.driver(), [Message(later(6), offset=20)], part(16, 21))
    assert (summary.delivered, summary.repeats) == (1, 0)


def test_versions_that_come_again_within_one_micro_batch_are_stored_once(warehouse: Warehouse) -> None:
    commit_ms = 1_795_446_000_000
    values = [(later(n), commit_ms + 1000 * n) for n in (1, 2, 3, 2, 3, 4)]
    sent = [value.replace(str(commit_ms).encode(), str(at).encode()) for value, at in values]
    (summary,) = warehouse.deliver(warehouse.driver(), [Message(value, offset=n) for n, value in enumerate(sent)])
    assert (summary.delivered, summary.repeats) == (4, 2)
    assert sorted(warehouse.ids()) == [1, 2, 3, 4]


def test_a_version_that_comes_again_in_another_partition_is_stored_once(warehouse: Warehouse) -> None:
    """Events without a content have no key, so the source may send one again to any partition."""
    without_content = message(envelope(after=row(id=3, content_id=None), lsn=LSN + 16 * 3)).value
    sink = warehouse.driver()
    warehouse.deliver(sink, [Message(later(5), partition=1)], part(0, 1, partition=1))
    sent = frames.messages(warehouse.spark, [Message(without_content, n, partition=n) for n in (0, 1)])
    in_two_tasks = frames.of_messages(warehouse.spark, sent.repartitionByRange(2, "partition"))
    summaries = sink.deliver(in_two_tasks, [part(0, 1), part(1, 2, partition=1)], IDENTITY, final=True)
    assert [(s.delivered, s.repeats, s.conservation_difference) for s in summaries] == [(1, 0, 0), (0, 1, 0)]
    assert warehouse.ids() == [3, 5]
