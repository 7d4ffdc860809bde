"""What a lane sends and what follows from each answer, without network, clock or threads."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement.sinks.external.answers import LONGEST_RETRY_AFTER_SECONDS, Answer, Trouble, retry_after_seconds
from engagement.sinks.external.events import Event, RowVersion
from engagement.sinks.external.keys import batch_key, event_key
from engagement.sinks.external.lane import LaneWork, Status, results_of


def event(number: int, version: int = 1, size: int = 0) -> Event:
    key = event_key("test", number, version)
    body = json.dumps({"event_id": number, "version": version, "pad": "x" * size})
    return Event(RowVersion(0, number * 10 + version, None, number, version, "c", key), body)


def work_of(*events: Event, batch_size: int = 100) -> LaneWork:
    work = LaneWork(batch_size)
    work.add(events)
    return work


def sent(work: LaneWork) -> list[int]:
    """Event ids of the request that is due."""
    sending = work.next()
    assert sending is not None
    return [item.event.version.event_id for item in sending.items]


def answer(work: LaneWork, status: int, results: Mapping[int, int] | None = None) -> object:
    return work.answered(Answer(status), results, 1, 2)


def ends(work: LaneWork) -> dict[int, Status]:
    return {outcome.version.event_id: outcome.status for outcome in work.outcomes}


def test_a_batch_is_the_contract_s_json_with_the_key_of_its_members() -> None:
    sending = work_of(event(1), event(2)).next()
    assert sending is not None
    keys = [event_key("test", 1, 1), event_key("test", 2, 1)]
    document = json.loads(sending.body)
    assert (sending.key, document["batch_id"], document["event_count"]) == (batch_key(keys), batch_key(keys), 2)
    assert [each["event_id"] for each in document["events"]] == [1, 2]


def test_a_single_event_goes_in_the_single_form_with_its_own_key() -> None:
    sending = work_of(event(1)).next()
    assert sending is not None
    assert (sending.is_batch, sending.key, json.loads(sending.body)["event_id"]) == (False, event_key("test", 1, 1), 1)


def test_without_results_a_success_is_that_of_every_event() -> None:
    work = work_of(event(1), event(2))
    assert answer(work, 204) is None
    assert ends(work) == {1: Status.DELIVERED, 2: Status.DELIVERED}
    assert work.next() is None


def test_each_event_of_a_batch_is_judged_by_the_same_table() -> None:
    work = work_of(*(event(number) for number in range(5)))
    halt = work.answered(Answer(207), {0: 200, 1: 422, 2: 503, 3: 409, 4: 200}, 1, 2)
    assert ends(work) == {0: Status.DELIVERED, 1: Status.REJECTED, 4: Status.DELIVERED}
    assert halt is not None
    assert sent(work) == [2, 3]
    assert answer(work, 200) is None
    assert work.outcomes[-1].attempts == 2


def test_what_results_leave_out_is_asked_for_one_by_one_after_what_they_want_again() -> None:
    work = work_of(*(event(number) for number in range(5)))
    halt = work.answered(Answer(207), {1: 422, 2: 503, 4: 503}, 1, 2)
    assert ends(work) == {1: Status.REJECTED}
    assert halt is not None
    seen = []
    while work.next() is not None:
        seen.append(sent(work))
        assert answer(work, 200) is None
    assert seen == [[2, 4], [0], [3]]


def test_an_answer_that_names_failures_alone_asks_for_no_wait() -> None:
    work = work_of(event(1), event(2), event(3))
    assert answer(work, 200, {1: 422}) is None
    assert sent(work) == [1]


def test_a_wait_that_is_asked_for_beside_the_results_is_kept() -> None:
    work = work_of(event(1), event(2))
    halt = work.answered(Answer(207, retry_after_seconds=120.0), {0: 429, 1: 429}, 1, 2)
    assert halt is not None
    assert (halt.retry_after_seconds, halt.pause) == (120.0, False)


def test_an_event_that_is_not_allowed_pauses() -> None:
    work = work_of(event(1), event(2))
    halt = work.answered(Answer(200), {0: 200, 1: 403}, 1, 2)
    assert halt is not None
    assert halt.pause
    assert sent(work) == [2]


@given(st.integers(1, 40), st.sets(st.integers(0, 39)))
def test_bisecting_finds_exactly_the_bad_events_and_keeps_the_order(count: int, bad: set[int]) -> None:
    work, accepted, requests = work_of(*(event(number) for number in range(count))), [], 0
    while work.next() is not None:
        ids = sent(work)
        refused = bool(bad & set(ids))
        accepted += [] if refused else ids
        answer(work, 422 if refused else 200)
        requests += 1
    assert accepted == [number for number in range(count) if number not in bad]
    assert {n for n, status in ends(work).items() if status is Status.REJECTED} == bad & set(range(count))
    assert requests <= 2 * count


@pytest.mark.parametrize("trouble", [Trouble.TIMEOUT, Trouble.CONNECTION, Trouble.BROKEN_OFF])
def test_after_no_answer_the_same_request_is_due_again(trouble: Trouble) -> None:
    work = work_of(event(1), event(2))
    before = work.next()
    halt = work.answered(Answer(trouble=trouble), None, 1, 2)
    after = work.next()
    assert halt is not None
    assert not halt.pause
    assert before is not None
    assert after is not None
    assert (after.key, after.body) == (before.key, before.body)


@pytest.mark.parametrize("trouble", [Trouble.TLS, Trouble.ADDRESS])
def test_what_another_try_cannot_cure_pauses(trouble: Trouble) -> None:
    halt = work_of(event(1)).answered(Answer(trouble=trouble), None, 1, 2)
    assert halt is not None
    assert halt.pause


def test_two_versions_of_an_event_are_never_in_one_request() -> None:
    work = work_of(event(1, 1), event(2, 1), event(1, 2), event(1, 3))
    seen = []
    while work.next() is not None:
        seen.append(sent(work))
        answer(work, 200)
    assert seen == [[1, 2], [1], [1]]


def test_a_request_is_closed_by_its_size() -> None:
    work = work_of(event(1, size=700_000), event(2, size=700_000), event(3))
    assert sent(work) == [1]


def test_after_an_answer_too_long_to_read_each_event_is_asked_for_alone() -> None:
    work = work_of(event(1), event(2))
    work.split()
    assert sent(work) == [1]
    answer(work, 200)
    assert sent(work) == [2]


def test_times_and_tries_of_an_event_are_those_of_its_requests() -> None:
    work = work_of(event(1))
    work.answered(Answer(503), None, 10, 20)
    work.answered(Answer(200), None, 30, 40)
    (outcome,) = work.outcomes
    assert (outcome.attempts, outcome.first_us, outcome.last_us, outcome.http_status) == (2, 10, 40, 200)


@pytest.mark.parametrize(
    "header",
    [
        "\u00b2", "\u0663", "-1", "1.5", "soon", "", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2026 00:00:00 +99999999999", "Fri, 31 Dec 9999 23:59:59 -2359", "Mon, 01 Jan 0001 00:00:00 +2359",
    ],
)  # fmt: skip
def test_a_retry_after_that_cannot_be_read_counts_as_none_and_none_is_an_error(header: str) -> None:
    assert retry_after_seconds(header, datetime(2026, 1, 1, tzinfo=UTC)) in (None, 0.0, LONGEST_RETRY_AFTER_SECONDS)


def test_a_retry_after_of_many_digits_is_a_long_wait() -> None:
    assert retry_after_seconds("9" * 5_000, datetime(2026, 1, 1, tzinfo=UTC)) == LONGEST_RETRY_AFTER_SECONDS


@pytest.mark.parametrize(
    ("document", "found"),
    [
        (None, None),
        ([], None),
        ({"results": "all"}, None),
        ({"results": []}, None),
        ({"results": [{"index": 0, "status": 200}, {"index": 1.5, "status": 200}, {"status": 1}, 3]}, {0: 200}),
        ({"results": [{"index": "0", "status": "200"}, {"index": 1, "status": "422"}]}, {0: 200, 1: 422}),
        ({"results": [{"index": 0, "status": "200 OK"}, {"index": 1, "status": "\u0662"}, {"index": 2}]}, {}),
        ({"results": [{"index": 0, "status": True}, {"index": 1, "status": "9" * 5_000}]}, {}),
    ],
)
def test_results_are_read_from_whatever_comes(document: object, found: object) -> None:
    assert results_of(document) == found
