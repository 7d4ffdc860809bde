"""Versions of an event that moved between Kafka partitions reach the receiver in their order."""

import pytest
from tests.builders import LSN, Message, envelope, message, row
from tests.spark.partner import Partner
from tests.spark.warehouse import CrashError, part

from engagement.identity import OffsetRange

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300)]

OTHER_CONTENT = "0b6f7a52-6a5e-4c57-9d1e-6a1d1e0c8b11"


def version(number: int, partition: int, offset: int, event_id: int = 7, **told: object) -> Message:
    """A plain change of an event: an insert first, then updates that tell their `before`."""
    lsn, after = LSN + 8 * number, row(id=event_id, duration_ms=number)
    document = envelope("c", after, lsn=lsn) if not number else envelope("u", after, row(id=event_id), lsn=lsn)
    return message(document, offset=offset, partition=partition, **told)  # type: ignore[arg-type]


def moved(number: int, partition: int, offset: int, event_id: int = 7) -> Message:
    """The half of a move that arrives: Debezium sends an insert under the new key."""
    after = row(id=event_id, duration_ms=number, content_id=OTHER_CONTENT)
    headers = ("__debezium.oldkey",)
    return message(envelope("c", after, lsn=LSN + 8 * number), offset=offset, partition=partition, headers=headers)


def left(number: int, partition: int, offset: int, event_id: int = 7) -> Message:
    """The half that leaves."""
    headers = ("__debezium.newkey",)
    document = envelope("d", before=row(id=event_id), lsn=LSN + 8 * number)
    return message(document, offset=offset, partition=partition, headers=headers)


def ranges(*ends: tuple[int, int, int]) -> list[OffsetRange]:
    return [part(start, end, partition) for partition, start, end in ends]


def order(partner: Partner, event_id: int = 7) -> list[int]:
    """Numbers of the versions as they came to the receiver."""
    numbers = {each.key: (each.version - LSN) // 8 for each in partner.deliveries() if each.event_id == event_id}
    return [numbers[one["key"]] for one in partner.receiving.get(f"events/{event_id}") if one["key"] in numbers]


def test_within_a_micro_batch_older_versions_of_other_partitions_go_first(partner: Partner) -> None:
    there = [moved(2, 0, 0), version(3, 0, 1), version(5, 2, 9, event_id=8)]
    before = [version(0, 1, 0), version(1, 1, 1), left(2, 1, 2)]
    summaries = partner.deliver(partner.driver(), [*there, *before], *ranges((0, 0, 2), (1, 0, 3), (2, 9, 10)))
    assert order(partner) == [0, 1, 2, 3]
    assert [(s.delivered, s.moves, s.conservation_difference) for s in summaries] == [(2, 0, 0), (2, 1, 0), (1, 0, 0)]
    assert partner.driver().fence() == {0: 2, 1: 3, 2: 10}


def test_one_that_moves_on_and_back_keeps_its_order(partner: Partner) -> None:
    given = [
        version(0, 0, 0),
        left(1, 0, 1),
        moved(1, 1, 0),
        left(2, 1, 1),
        moved(2, 2, 0),
        left(3, 2, 1),
        moved(3, 0, 2),
    ]
    partner.deliver(partner.driver(), given, *ranges((0, 0, 3), (1, 0, 2), (2, 0, 2)))
    assert order(partner) == [0, 1, 2, 3]
    assert partner.gained("repeats") == 0


def test_what_lies_beyond_the_micro_batch_goes_first_and_counts_when_its_own_comes(partner: Partner) -> None:
    behind = [version(0, 1, 5), version(1, 1, 6), left(2, 1, 7), version(0, 1, 8, event_id=9)]
    partner.elsewhere.held = behind
    driver = partner.driver()
    partner.deliver(driver, [version(4, 1, 4, event_id=5)], *ranges((1, 4, 5)))
    (summary,) = partner.deliver(driver, [moved(2, 0, 0), version(3, 0, 1)], *ranges((0, 0, 2)))
    assert order(partner) == [0, 1, 2, 3]
    assert {each.event_id for each in partner.deliveries()} == {5, 7}, "what has not moved waits for its micro-batch"
    assert (summary.delivered, summary.conservation_difference) == (2, 0)
    assert partner.driver().fence() == {0: 2, 1: 5}
    (own,) = partner.deliver(partner.driver(), behind, *ranges((1, 5, 9)))
    assert (own.read, own.delivered, own.already_delivered, own.moves) == (4, 1, 2, 1)
    assert partner.gained("repeats") == 0
    assert partner.driver().fence() == {0: 2, 1: 9}


def test_a_stop_between_leaves_what_was_held_back_to_the_next_start(partner: Partner) -> None:
    given = [moved(1, 0, 0), version(0, 1, 0)]
    driver = partner.driver()
    real, partner.elsewhere.at_time = partner.elsewhere.at_time, _fail  # type: ignore[method-assign]
    with pytest.raises(CrashError):
        partner.deliver(driver, given, *ranges((0, 0, 1), (1, 0, 1)))
    assert partner.driver().fence() == {0: 0, 1: 1}
    partner.elsewhere.at_time = real  # type: ignore[method-assign]
    partner.deliver(partner.driver(), given, *ranges((0, 0, 1), (1, 0, 1)))
    assert order(partner) == [0, 1]
    assert partner.gained("repeats") == 0


def _fail(_epoch_ms: int) -> dict[int, int]:
    raise CrashError


def test_one_that_is_refused_is_a_letter_also_when_it_was_sent_ahead(partner: Partner) -> None:
    partner.receiving.fail({"reject_every": 7})
    partner.elsewhere.held = [version(0, 1, 5)]
    driver = partner.driver()
    partner.deliver(driver, [version(4, 1, 4, event_id=5)], *ranges((1, 4, 5)))
    (summary,) = partner.deliver(driver, [moved(1, 0, 0)], *ranges((0, 0, 1)))
    assert (summary.dead_letters, summary.conservation_difference) == ({"E_HTTP_REJECT": 1}, 0)
    assert [(each.kafka_partition, each.kafka_offset) for each in partner.letters()] == [(0, 0), (1, 5)]


def test_the_driver_that_sent_ahead_knows_it_without_reading_the_table(
    partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    partner.elsewhere.held = [version(0, 1, 5), version(0, 1, 6, event_id=9)]
    driver = partner.driver()
    partner.deliver(driver, [version(4, 1, 4, event_id=5)], *ranges((1, 4, 5)))
    partner.deliver(driver, [moved(1, 0, 0)], *ranges((0, 0, 1)))
    monkeypatch.delattr("engagement.sinks.external.ledger.islands")
    (own,) = partner.deliver(driver, partner.elsewhere.held, *ranges((1, 5, 7)))
    assert (own.delivered, own.already_delivered) == (1, 1)
    assert order(partner) == [0, 1]
