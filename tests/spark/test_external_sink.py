"""The external sink against a real receiver and real Delta tables: what it sends, records, sends again and gives up."""

from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame
from tests.builders import Message, created, envelope, in_order, message, row, updated
from tests.spark.partner import IDENTITY, KEEP_DAYS, Partner
from tests.spark.warehouse import CrashError, part

from engagement.errors import TransientSinkError
from engagement.sinks.external.ledger import DeliveryLedger

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300)]


def inserted(count: int, partition: int = 0) -> list[Message]:
    first = partition * 1_000
    return [Message(created(id=first + n + 1).value, offset=n, partition=partition) for n in range(count)]


MIXED = [
    Message(m.value, offset=at, headers=m.headers)
    for at, m in enumerate(
        [
            created(id=1),
            updated(duration_ms=-1),
            Message(None),
            Message(b"\xff"),
            message(envelope("d", before=row(id=2)), headers=("__debezium.newkey",)),
            created(id=3),
            message(envelope("d", before=row(id=4))),
        ]
    )
]


def test_each_row_version_is_posted_once_and_its_outcome_recorded(partner: Partner) -> None:
    sink = partner.driver()
    assert sink.fence() == {}
    (summary,) = partner.deliver(sink, MIXED)
    assert summary.conservation_difference == 0
    assert (summary.read, summary.delivered, summary.tombstones, summary.moves) == (7, 3, 1, 1)
    assert summary.dead_letters == {"E_RANGE_DURATION": 1, "E_UTF8": 1}
    rows = partner.deliveries()
    assert [(r.kafka_offset, r.event_id, r.op, r.status, r.attempts, r.http_status) for r in rows] == [
        (0, 1, "c", "delivered", 1, 200),
        (5, 3, "c", "delivered", 1, 200),
        (6, 4, "d", "delivered", 1, 200),
    ]
    assert {r.batch_id for r in rows} == {str(IDENTITY)}
    assert all(r.first_ts <= r.last_ts for r in rows)
    assert [event["key"] for event in partner.receiving.get("events/3")][-1] == rows[1].key
    assert (sink.fence(), partner.gained("delivered"), partner.gained("repeats")) == ({0: 7}, 3, 0)
    assert sum(sum(times.values()) for times in partner.told.times[-1]) == 3
    beyond = [("kafka_partition", "=", 0), ("kafka_offset", ">", 0), ("status", "=", "delivered")]
    found = DeltaTable(f"{partner.folder}/deliveries").to_pyarrow_table(filters=beyond)
    assert sorted(found["event_id"].to_pylist()) == [3, 4]


def test_a_table_that_was_emptied_is_told_of(partner: Partner) -> None:
    (summary,) = partner.deliver(partner.driver(), in_order([created(), message(envelope("t"))]))
    assert (summary.delivered, summary.dead_letters, summary.truncations) == (1, {"E_ENVELOPE": 1}, 1)


def test_what_comes_twice_is_posted_once_by_this_driver_and_by_the_next(partner: Partner) -> None:
    sink = partner.driver()
    partner.deliver(sink, inserted(6))
    for again in (sink, partner.driver()):
        (summary,) = partner.deliver(again, inserted(8))
    assert summary.already_delivered == 8
    assert (partner.gained("delivered"), partner.gained("repeats"), len(partner.deliveries())) == (8, 0, 8)


def test_refused_events_become_dead_letters_with_their_bytes_once(partner: Partner) -> None:
    partner.receiving.fail({"reject_every": 3})
    messages = inserted(9)
    (summary,) = partner.deliver(partner.driver(), messages)
    assert (summary.delivered, summary.dead_letters, summary.conservation_difference) == (6, {"E_HTTP_REJECT": 3}, 0)
    letters = partner.letters()
    assert [(r.kafka_offset, r.code, r.sink, r.stage, r.status) for r in letters] == [
        (offset, "E_HTTP_REJECT", "external", "external", "new") for offset in (2, 5, 8)
    ]
    assert [bytes(r.raw_value) for r in letters] == [messages[offset].value for offset in (2, 5, 8)]
    assert {r.detail for r in letters} == {"the receiver answered 422"}
    assert [r.status for r in partner.deliveries()].count("rejected") == 3


def test_an_outage_is_waited_for_and_what_was_acknowledged_is_not_sent_again(partner: Partner) -> None:
    """Lane 0 fails for as long as the driver has not waited twice; the other lane's events are through meanwhile."""
    waits = 0

    def heal_after_two() -> None:
        nonlocal waits
        waits += 1
        if waits == 2:
            partner.receiving.heal()

    partner.while_waiting = heal_after_two
    partner.receiving.fail({"count": 3}, {"status": 503})
    (summary,) = partner.deliver(partner.driver(retry_attempts=0), inserted(40))
    assert (summary.delivered, summary.conservation_difference) == (40, 0)
    assert (partner.gained("delivered"), partner.gained("repeats"), len(partner.deliveries())) == (40, 0, 40)
    assert "it answered 503" in partner.told.reasons[0]
    assert partner.told.alarms == []


def test_a_wrong_401_pauses_raises_an_alarm_and_is_over_by_itself(partner: Partner) -> None:
    partner.while_waiting = partner.receiving.heal
    partner.receiving.fail({"status": 401})
    (summary,) = partner.deliver(partner.driver(), inserted(20))
    assert (summary.delivered, partner.gained("delivered"), partner.gained("repeats")) == (20, 20, 0)
    assert [text for text in partner.told.alarms if "401" in text]
    assert partner.letters() == []


def test_when_told_to_stop_it_leaves_the_rest_to_the_next_start(partner: Partner) -> None:
    partner.receiving.fail({"count": 4}, {"status": 503})
    sink = partner.driver(retry_attempts=0)
    partner.while_waiting = partner.stop.set
    with pytest.raises(TransientSinkError, match="stopping"):
        partner.deliver(sink, inserted(40))
    acknowledged = partner.gained("delivered")
    assert 0 < acknowledged < 40
    assert len(partner.deliveries()) == acknowledged
    partner.stop.clear()
    partner.receiving.heal()
    (summary,) = partner.deliver(partner.driver(), inserted(40))
    assert (summary.already_delivered, summary.delivered) == (acknowledged, 40 - acknowledged)
    assert (partner.gained("delivered"), partner.gained("repeats"), len(partner.deliveries())) == (40, 0, 40)


class DiesBeforeTheLetters(DeliveryLedger):
    def add_letters(self, _letters: DataFrame) -> None:
        raise CrashError


class DiesBeforeTheCommit(DeliveryLedger):
    def commit(self, *_: object) -> None:
        raise CrashError


@pytest.mark.parametrize("dying", [DiesBeforeTheLetters, DiesBeforeTheCommit])
def test_after_a_crash_one_micro_batch_is_sent_again_with_the_same_keys(
    partner: Partner, dying: type[DeliveryLedger]
) -> None:
    partner.receiving.fail({"reject_every": 5})
    partner.deliver(partner.driver(), inserted(10))
    with pytest.raises(CrashError):
        partner.deliver(partner.driver(dying), inserted(25))
    assert len(partner.deliveries()) == 10
    (summary,) = partner.deliver(partner.driver(), inserted(25))
    assert (summary.delivered, summary.dead_letters) == (12, {"E_HTTP_REJECT": 3})
    assert (partner.gained("delivered"), partner.gained("conflicts")) == (20, 0)
    assert partner.gained("repeats") == 12, "what the crashed micro-batch had delivered, and no more"
    assert [r.kafka_offset for r in partner.letters()] == [4, 9, 14, 19, 24]


def test_of_two_drivers_one_goes_on_from_the_other(partner: Partner) -> None:
    first = partner.driver()

    class Overtaken(DeliveryLedger):
        """Another driver delivers between this one's answers and its commit."""

        def commit(self, *arguments: Any) -> None:  # noqa: ANN401 passed on as they come
            if not partner.deliveries():
                partner.deliver(first, inserted(10))
            super().commit(*arguments)

    second = partner.driver(Overtaken)
    with pytest.raises(TransientSinkError, match="another driver"):
        partner.deliver(second, inserted(15))
    (summary,) = partner.deliver(second, inserted(15))
    assert (summary.already_delivered, summary.delivered) == (10, 5)
    assert (partner.gained("delivered"), partner.gained("conflicts")) == (15, 0)
    assert len(partner.deliveries()) == 15


def test_partitions_move_by_themselves_and_a_new_topic_starts_at_its_beginning(partner: Partner) -> None:
    sink = partner.driver()
    partner.deliver(sink, [*inserted(2), *inserted(4, partition=1)], part(0, 2), part(0, 4, partition=1))
    partner.deliver(sink, [], part(2, 9))
    assert sink.fence() == {0: 9, 1: 4}
    partner.topic_id = "second"
    assert partner.driver().fence() == {}


def test_old_days_of_the_record_go_and_nothing_is_sent_again(partner: Partner) -> None:
    sink = partner.driver()
    partner.deliver(sink, inserted(6))
    partner.days_later = KEEP_DAYS
    partner.deliver(sink, inserted(7))
    assert len(partner.deliveries()) == 7
    partner.days_later = KEEP_DAYS + 2
    partner.deliver(sink, inserted(8))
    assert partner.deliveries() == [], "all of them were sent on a day that has passed"
    for again in (sink, partner.driver()):
        (summary,) = partner.deliver(again, inserted(8))
        assert (summary.already_delivered, again.fence()) == (8, {0: 8})
    assert (partner.gained("delivered"), partner.gained("repeats")) == (8, 0)


def test_rows_beyond_the_fence_are_kept_until_it_has_passed_them(partner: Partner) -> None:
    """Only they tell that their events are through."""
    partner.receiving.fail({"count": 4}, {"status": 503})
    sink = partner.driver(retry_attempts=0)
    partner.days_later = KEEP_DAYS + 1
    partner.while_waiting = partner.stop.set
    with pytest.raises(TransientSinkError, match="stopping"):
        partner.deliver(sink, inserted(40))
    assert len(partner.deliveries()) == partner.gained("delivered") > 0
    partner.while_waiting = lambda: None
    partner.stop.clear()
    partner.receiving.heal()
    partner.deliver(sink, inserted(40))
    assert (partner.gained("delivered"), partner.gained("repeats"), partner.deliveries()) == (40, 0, [])


def test_a_table_of_an_earlier_release_lets_old_days_go_too(partner: Partner) -> None:
    partner.deliver(partner.driver(), inserted(2))
    DeltaTable(partner.folder / "deliveries").alter.set_table_properties({"delta.appendOnly": "true"})
    sink = partner.driver()
    partner.days_later = KEEP_DAYS + 1
    partner.deliver(sink, inserted(3))
    assert (partner.deliveries(), sink.fence()) == ([], {0: 3})
