"""History to the external system, beside its stream: real receiver, real Delta tables, killed and repeated."""

from collections import Counter
from collections.abc import Sequence

import pytest
from pyspark.sql import SparkSession
from tests.builders import LSN, Message, created, envelope, message, row
from tests.spark.history import History
from tests.spark.partner import Partner
from tests.spark.warehouse import CrashError, part

from engagement.errors import TransientSinkError
from engagement.sinks.base import Loaded
from engagement.sinks.external.backfill import ExternalLoader
from engagement.sinks.external.outcomes import Part

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300)]


@pytest.fixture
def history(spark: SparkSession) -> History:
    return History(spark)


def table(count: int) -> list[dict[str, object]]:
    return [row(id=n + 1, duration_ms=1_000 * n) for n in range(count)]


def sent(partner: Partner, event_id: int) -> list[int]:
    """Versions of an event that the receiver got of this test, in the order in which they came."""
    keys = {each.key: each.version for each in partner.deliveries() if each.event_id == event_id}
    return [keys[one["key"]] for one in partner.receiving.get(f"events/{event_id}") if one["key"] in keys]


def outcomes(partner: Partner) -> Counter[tuple[int, int, str]]:
    return Counter((each.event_id, each.version, each.status) for each in partner.deliveries())


def test_history_is_sent_once_however_often_it_comes(partner: Partner, history: History) -> None:
    first = partner.loader().load(history.chunk(table(30)))
    again = partner.loader().load(history.chunk(table(40), "chunk_1"))
    assert (first, again) == (Loaded(30, 30), Loaded(40, 10))
    assert (partner.gained("delivered"), partner.gained("repeats")) == (40, 0)
    assert outcomes(partner) == Counter({(n + 1, 0, "delivered"): 1 for n in range(40)})


def test_more_deliveries_than_the_driver_has_room_for_are_told_apart_too(partner: Partner, history: History) -> None:
    partner.loader().load(history.chunk(table(30)))
    loader = partner.loader()
    loader.broadcast_rows = 29
    assert loader.load(history.chunk(table(40), "chunk_1")) == Loaded(40, 10)
    assert (partner.gained("delivered"), partner.gained("repeats")) == (40, 0)


def test_another_receiver_is_another_destination(partner: Partner) -> None:
    first, again = (partner.loader().destination() for _ in range(2))
    other = partner.loader(installation="another")
    assert (again == first, other.destination() == first) == (True, False)


def test_what_the_stream_has_delivered_is_not_sent_as_history(partner: Partner, history: History) -> None:
    streamed = [Message(created(id=n + 1).value, offset=n) for n in range(10)]
    partner.deliver(partner.driver(), streamed)
    loaded = partner.loader().load(history.chunk(table(15)))
    assert loaded == Loaded(15, 5)
    assert partner.gained("delivered") == 15
    assert {version for event_id, version, _ in outcomes(partner) if event_id <= 10} == {LSN}


def test_the_stream_goes_on_from_where_it_was_whatever_a_backfill_has_sent(partner: Partner, history: History) -> None:
    streamed = [Message(created(id=n + 1).value, offset=n) for n in range(10)]
    partner.deliver(partner.driver(), streamed)
    loader = partner.loader()
    for number in range(12):  # more commits than are looked at first
        loader.load(history.chunk([row(id=100 + number)], f"chunk_{number}"))
    driver = partner.driver()
    assert driver.fence() == {0: 10}
    more = [Message(created(id=n + 1).value, offset=n) for n in range(14)]
    (summary,) = partner.deliver(driver, more)
    assert (summary.already_delivered, summary.delivered) == (10, 4)
    assert partner.gained("repeats") == 0


def test_a_stream_that_commits_while_a_chunk_is_sent_loses_nothing_of_its_fence(
    partner: Partner, history: History
) -> None:
    driver = partner.driver()
    partner.deliver(driver, [Message(created(id=n + 1).value, offset=n) for n in range(5)])

    class Beaten(ExternalLoader):
        """Looks at the log, and is overtaken by the stream before its own commit."""

        def _append(self, name: str, found: Part) -> None:
            log = self.log(self.deliveries)
            partner.deliver(driver, [Message(created(id=n + 1).value, offset=n) for n in range(9)], part(0, 9))
            log.append_beside(found.files, name)

    loader = partner.loader(loader_class=Beaten)
    loader.load(history.chunk([row(id=100)]))
    assert partner.driver().fence() == {0: 9}


def test_what_the_receiver_refuses_is_a_letter_and_is_tried_again_by_the_next_backfill(
    partner: Partner, history: History
) -> None:
    partner.receiving.fail({"reject_every": 5})
    loaded = partner.loader().load(history.chunk(table(20), "run_1_0"))
    assert (loaded.read, loaded.written, loaded.dead_letters) == (16, 16, 4)
    letters = partner.letters()
    assert [(each.stage, each.code, each.topic) for each in letters] == [
        ("external", "E_HTTP_REJECT", "postgresql.engagement_events")
    ] * 4
    rejected = {event_id for event_id, _, status in outcomes(partner) if status == "rejected"}
    assert {each.kafka_offset for each in letters} == rejected
    assert b'"event_ts":"' in letters[0].raw_value
    partner.receiving.heal()
    again = partner.loader().load(history.chunk(table(20), "run_2_0"))
    assert again == Loaded(20, 4)
    assert len(partner.letters()) == 4


def test_a_letter_holds_the_row_as_the_transform_takes_it(partner: Partner, history: History) -> None:
    partner.receiving.fail({"reject_every": 1})
    given = row(id=7, raw_payload='{"a": "é"}', user_id=None, duration_ms=12)
    partner.loader().load(history.chunk([given]))
    (letter,) = partner.letters()
    replayed = history.streamed([Message(bytes(letter.raw_value))], ("event_id", "version"), "again").changes.frame()
    (found,) = replayed.collect()
    assert (found.kind, found.event_id, found.raw_payload, found.user_id, found.duration_ms) == (
        "change", 7, '{"a": "é"}', None, 12,
    )  # fmt: skip


def test_while_the_receiver_is_away_a_chunk_waits_and_then_goes_on(partner: Partner, history: History) -> None:
    partner.receiving.fail({"status": 503, "count": 200})
    partner.while_waiting = partner.receiving.heal
    loaded = partner.loader(retry_attempts=0).load(history.chunk(table(25)))
    assert loaded == Loaded(25, 25)
    assert partner.told.reasons
    assert partner.gained("delivered") == 25


def test_one_that_is_stopped_while_it_waits_goes_on_at_the_next_start(partner: Partner, history: History) -> None:
    partner.receiving.fail({"status": 503, "count": 10_000})
    partner.while_waiting = partner.stop.set
    with pytest.raises(TransientSinkError, match="stopping"):
        partner.loader(retry_attempts=0).load(history.chunk(table(10)))
    partner.stop.clear()
    partner.receiving.heal()
    assert partner.loader().load(history.chunk(table(10))) == Loaded(10, 10)


class DiesBeforeTheCommit(ExternalLoader):
    def _append(self, *_: object) -> None:
        raise CrashError


def test_after_a_crash_before_the_commit_the_chunk_is_sent_again_with_the_same_keys(
    partner: Partner, history: History
) -> None:
    with pytest.raises(CrashError):
        partner.loader(loader_class=DiesBeforeTheCommit).load(history.chunk(table(10)))
    assert partner.loader().load(history.chunk(table(10))) == Loaded(10, 10)
    assert (partner.gained("delivered"), partner.gained("repeats"), partner.gained("conflicts")) == (10, 10, 0)


def test_what_a_round_has_no_time_for_comes_in_the_next(
    partner: Partner, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engagement.sinks.external.backfill.BUDGET_SECONDS", 2.0)
    loaded = partner.loader(events_per_second=20.0).load(history.chunk(table(60)))
    assert loaded == Loaded(60, 60)
    assert (partner.gained("delivered"), partner.gained("repeats")) == (60, 0)
    assert len({each.last_ts for each in partner.deliveries()}) > 1


def test_versions_of_an_event_go_out_in_their_order_and_once(partner: Partner, history: History) -> None:
    versions = [message(envelope("u", after=row(id=1, duration_ms=n), lsn=LSN + 8 * n)) for n in range(3)]
    topic = [Message(m.value, offset=at) for at, m in enumerate([*reversed(versions), versions[0], created(id=2)])]
    loaded = partner.loader().load(history.streamed(topic, ("event_id", "version"), "chunk_0"))
    assert loaded.written == 4
    assert sent(partner, 1) == sorted(sent(partner, 1))
    assert partner.gained("repeats") == 0


def test_rows_that_the_transform_refuses_are_counted_and_not_sent(partner: Partner, history: History) -> None:
    rows: Sequence[dict[str, object]] = [row(id=1), row(id=2, duration_ms=-1), row(id=3)]
    assert partner.loader().load(history.chunk(rows)) == Loaded(2, 2, 1)
    assert partner.gained("delivered") == 2
