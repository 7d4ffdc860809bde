"""The lanes of a task and the breaker they share, with a receiver that is a function and time that is a number."""

import threading
from collections.abc import Callable, Sequence

import pytest

from engagement.sinks.external.answers import Answer, Trouble
from engagement.sinks.external.events import Event, RowVersion
from engagement.sinks.external.gate import PAUSE_PROBE_SECONDS, Gate, GateState
from engagement.sinks.external.lane import Halt, Sending, Status
from engagement.sinks.external.lanes import LanePlan, LaneResult, Lanes, LaneWorld

Post = Callable[[int, Sending], Answer]


class Clock:
    """Seconds that pass when somebody sleeps, or when a request takes them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self._lock = threading.Lock()

    def pass_by(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.pass_by(seconds)


class Receiver:
    """Answers as told by `script`, one entry per request, the last one for ever; keeps what it accepted, by lane."""

    def __init__(self, *script: Answer) -> None:
        self._script = list(script)
        self._lock = threading.Lock()
        self.keys: list[str] = []
        self.accepted: dict[int, list[tuple[int, int]]] = {}

    def __call__(self, lane: int, sending: Sending) -> Answer:
        with self._lock:
            self.keys.append(sending.key)
            answer = self._script[0] if len(self._script) == 1 else self._script.pop(0)
            if answer.status == 200:
                versions = [item.event.version for item in sending.items]
                self.accepted.setdefault(lane, []).extend((v.event_id, v.version) for v in versions)
            return answer


def events(count: int, versions: int = 1) -> list[Event]:
    found = []
    for version in range(1, versions + 1):
        for number in range(count):
            row = RowVersion(0, len(found), None, number, version, "u", f"{number}/{version}")
            found.append(Event(row, "{}"))
    return found


def send(
    receiver: Post, given: Sequence[Event], clock: Clock | None = None, *, jitter: float = 0.0, **changes: object
) -> LaneResult:
    clock = clock or Clock()
    plan = LanePlan(**{
        "lanes": 3, "batch_size": 10, "retry_attempts": 3, "budget_seconds": 10.0, "timeout_seconds": 1.0, **changes,
    })  # type: ignore[arg-type]  # fmt: skip
    lanes = Lanes(plan, LaneWorld(receiver, lambda: clock.now, lambda: 1, clock.sleep, lambda _: jitter))
    for event in given:
        lanes.put(event)
    return lanes.finish()


FINE, AWAY = Answer(200), Answer(503)


def test_every_event_has_one_outcome() -> None:
    receiver = Receiver(FINE)
    result = send(receiver, events(500))
    assert sorted(outcome.version.event_id for outcome in result.outcomes) == list(range(500))
    assert (result.left, result.halt) == ([], None)
    assert result.tally.requests == len(receiver.keys)


def test_the_versions_of_an_event_are_sent_in_order_whatever_fails() -> None:
    receiver = Receiver(AWAY, FINE, AWAY, AWAY, FINE, FINE, AWAY, FINE)
    send(receiver, events(30, versions=4), retry_attempts=9)
    sent = [version for lane in receiver.accepted.values() for version in lane]
    for number in range(30):
        assert [v for n, v in sent if n == number] == [1, 2, 3, 4]


def test_a_request_that_fails_is_sent_again_with_its_key() -> None:
    receiver, clock = Receiver(AWAY, AWAY, FINE), Clock()
    result = send(receiver, events(5), clock, jitter=0.5, lanes=1)
    assert len(set(receiver.keys)) == 1
    assert (len(receiver.keys), clock.slept, result.left) == (3, [0.5, 0.5], [])
    assert result.tally.retries == 2


def test_after_its_tries_a_lane_gives_up_and_the_others_go_on() -> None:
    def only_one_fails(lane: int, _: Sending) -> Answer:
        return AWAY if lane == 1 else FINE

    result = send(only_one_fails, events(90), retry_attempts=2)
    assert {version.event_id % 3 for version in result.left} == {1}
    assert {outcome.version.event_id % 3 for outcome in result.outcomes} == {0, 2}
    assert result.halt is not None
    assert not result.halt.pause


@pytest.mark.parametrize(
    ("answer", "pause", "seconds"),
    [
        (Answer(401), True, None),
        (Answer(302), True, None),
        (Answer(trouble=Trouble.TLS), True, None),
        (Answer(429, retry_after_seconds=30.0), False, 30.0),
    ],
)
def test_what_concerns_the_receiver_as_a_whole_stops_all_lanes(
    answer: Answer, pause: bool, seconds: float | None
) -> None:
    receiver = Receiver(answer)
    result = send(receiver, events(900))
    assert len(receiver.keys) <= 3, "a request per lane may have been under way"
    assert len(result.left) == 900
    assert result.halt is not None
    assert (result.halt.pause, result.halt.retry_after_seconds) == (pause, seconds)


def test_failures_in_a_row_stop_all_lanes() -> None:
    receiver = Receiver(AWAY)
    result = send(receiver, events(900), retry_attempts=100)
    assert len(receiver.keys) <= 5 + 3
    assert len(result.left) == 900


def test_a_cautious_task_sends_one_request_first_and_all_after_its_success() -> None:
    first, others = threading.Event(), []

    def slow_at_first(_: int, sending: Sending) -> Answer:
        if not first.is_set():
            assert not others
            first.set()
        else:
            others.append(sending.key)
        return FINE

    assert send(slow_at_first, events(300), cautious=True).left == []
    receiver = Receiver(AWAY)
    assert len(send(receiver, events(300), cautious=True).left) == 300
    assert len(receiver.keys) == 1


def test_when_the_time_is_up_nothing_is_begun_and_that_is_no_failure() -> None:
    clock = Clock()

    def slow(_: int, __: Sending) -> Answer:
        clock.pass_by(1.0)
        return FINE

    result = send(slow, events(1_000), clock, lanes=1)
    assert 10 <= len(result.outcomes) // 10 <= 11
    assert (len(result.outcomes) + len(result.left), result.halt) == (1_000, None)


def test_a_request_that_hangs_beyond_its_limit_does_not_hold_up_the_task() -> None:
    released = threading.Event()
    clock = Clock()

    def hang(lane: int, _: Sending) -> Answer:
        if lane == 0:
            clock.pass_by(100.0)
            released.wait(30)
        return FINE

    result = send(hang, events(300), clock)
    released.set()
    assert {version.event_id % 3 for version in result.left} >= {0}
    assert {outcome.version.event_id for outcome in result.outcomes}.isdisjoint(v.event_id for v in result.left)
    assert result.halt is not None
    assert (result.halt.reason, result.halt.pause) == ("timeout", False)


def test_a_defect_in_a_lane_is_raised_where_the_task_waits() -> None:
    def broken(_: int, __: Sending) -> Answer:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        send(broken, events(10))


def test_a_batch_whose_answer_is_too_long_is_asked_for_event_by_event() -> None:
    def talkative(_: int, sending: Sending) -> Answer:
        return Answer(200, body=None if sending.is_batch else b"")

    result = send(talkative, events(30))
    assert (len(result.outcomes), result.left) == (30, [])


@pytest.mark.parametrize(
    "body",
    [b'{"results":[{"index":0,"status":422,"error":"no"},{"index":1,"sta', b"\r\n [", b"\xef\xbb\xbf{", b"[" * 60_000],
    ids=["within a result", "blanks before it", "a byte order mark before it", "too deep to be read"],
)
def test_a_batch_whose_answer_breaks_off_is_asked_for_event_by_event(body: bytes) -> None:
    def cut_off(_: int, sending: Sending) -> Answer:
        if sending.is_batch:
            return Answer(200, body=body)
        return Answer(422 if sending.items[0].event.version.event_id == 0 else 200)

    result = send(cut_off, events(30))
    statuses = {outcome.version.event_id: outcome.status for outcome in result.outcomes}
    assert statuses == {**dict.fromkeys(range(1, 30), Status.DELIVERED), 0: Status.REJECTED}
    assert result.left == []


@pytest.mark.parametrize("body", [b"", b"OK", b"accepted {all}", b'"fine"', b"\xff\xfe"])
def test_an_answer_that_is_no_document_accepts_the_whole_batch(body: bytes) -> None:
    keys: list[str] = []

    def brief(_: int, sending: Sending) -> Answer:
        keys.append(sending.key)
        return Answer(200, body=body)

    result = send(brief, events(30))
    assert (len(result.outcomes), result.left, len(keys)) == (30, [], 3)


def test_the_gate_opens_for_longer_and_longer_and_a_success_closes_it() -> None:
    gate = Gate(lambda failures: 2.0**failures)
    for failures in (1, 2, 3):
        gate.failed(Halt("it answered 503"), now=100.0)
        assert (gate.state, gate.wait_seconds(100.0)) == (GateState.OPEN, 2.0**failures)
    gate.probed(FINE, 108.0)
    assert (gate.state, gate.is_passable) == (GateState.HALF_OPEN, True)
    gate.failed(Halt("it answered 503"), now=110.0)
    assert gate.wait_seconds(110.0) == 16.0, "a heartbeat's success is no event's"
    gate.probed(FINE, 126.0)
    gate.succeeded()
    gate.failed(Halt("it answered 503"), now=130.0)
    assert gate.wait_seconds(130.0) == 2.0


def test_the_gate_honours_retry_after() -> None:
    gate = Gate(lambda _: 1.0)
    gate.failed(Halt("it answered 429", retry_after_seconds=30.0), now=0.0)
    assert (gate.wait_seconds(10.0), gate.wait_seconds(31.0)) == (20.0, 0.0)


def test_a_refusal_pauses_the_gate_until_a_probe_gets_through() -> None:
    gate = Gate(lambda _: 1.0)
    gate.failed(Halt("it answered 401", pause=True), now=0.0)
    assert (gate.state, gate.wait_seconds(0.0)) == (GateState.PAUSED, PAUSE_PROBE_SECONDS)
    assert "401" in gate.reason
    gate.probed(Answer(401), 15.0)
    assert (gate.state, gate.wait_seconds(15.0)) == (GateState.PAUSED, PAUSE_PROBE_SECONDS)
    gate.probed(Answer(422), 30.0)
    assert gate.state is GateState.HALF_OPEN, "a receiver that knows no heartbeats is there all the same"
