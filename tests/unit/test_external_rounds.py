"""What is left of a micro-batch after a round, where the fence then stands, and that every message is counted once."""

import json
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.arrow import changes
from tests.builders import Message, created, updated

from engagement.identity import OffsetRange
from engagement.sinks.delta.fence import DeltaFence
from engagement.sinks.external.answers import Trouble
from engagement.sinks.external.events import to_events
from engagement.sinks.external.gate import GateState
from engagement.sinks.external.lane import Halt
from engagement.sinks.external.ledger import Standing, fence_after
from engagement.sinks.external.options import ExternalOptions
from engagement.sinks.external.outcomes import Part, sum_up
from engagement.sinks.external.receiver import Receiver, Waiting
from engagement.sinks.outcomes import NONE, is_old, row_versions


def part(partition: int = 0, **changes: object) -> Part:
    counted = {
        "read": 0, "delivered": 0, "truncations": 0, "tombstones": 0, "moves": 0, "already_delivered": 0,
        "dead_letters": {}, "commit_times_ms": {}, "rejected": [], "left": 0, "first_left": None, "ahead": [],
        "held": [], "halt": None, "requests": 0, "refused": 0, "failures": 0, "retries": 0, "files": [], **changes,
    }  # fmt: skip
    return Part(partition, **counted)  # type: ignore[arg-type]


def span(start: int, end: int, partition: int = 0) -> OffsetRange:
    return OffsetRange("events", partition, start, end)


def test_the_fence_stands_at_the_end_when_nothing_is_left() -> None:
    before = Standing(DeltaFence("t", {0: 5}), {})
    after = fence_after(before, [span(5, 9), span(0, 4, 1)], [part(delivered=4), part(1)])
    assert (after.next_offsets, after.islands) == ({0: 9, 1: 4}, 0)


def test_what_is_left_holds_the_fence_and_what_is_done_beyond_are_islands() -> None:
    before = Standing(DeltaFence("t", {}), {})
    after = fence_after(before, [span(0, 9), span(0, 4, 1)], [part(delivered=3, left=2, first_left=6), part(1)])
    assert (after.next_offsets, after.islands) == ({0: 6, 1: 4}, 1)


def test_of_several_tasks_that_share_a_partition_the_first_row_left_counts() -> None:
    before = Standing(DeltaFence("t", {}), {})
    shares = [part(delivered=1, left=1, first_left=2), part(delivered=1, left=1, first_left=7)]
    assert fence_after(before, [span(0, 9)], shares).next_offsets == {0: 2}
    assert fence_after(before, [span(0, 9)], shares[::-1]).next_offsets == {0: 2}


def test_rows_beyond_a_fence_that_cannot_move_still_make_a_step() -> None:
    """Or the commit that stores them would have spent the transaction id of the next one."""
    before = Standing(DeltaFence("t", {0: 0}, islands=1), {0: pa.array([2])})
    after = fence_after(before, [span(0, 9)], [part(delivered=1, left=1, first_left=0)])
    assert (after.next_offsets, after.islands) == ({0: 0}, 2)
    assert after.successor != before.fence.successor


def test_a_round_without_an_outcome_moves_nothing() -> None:
    before = Standing(DeltaFence("t", {0: 3}), {})
    assert fence_after(before, [span(0, 9)], [part(left=4, first_left=5)]) == before.fence


def test_islands_beyond_a_shorter_range_are_not_forgotten() -> None:
    before = Standing(DeltaFence("t", {0: 3}, islands=1), {0: pa.array([5, 20])})
    assert fence_after(before, [span(3, 9)], [part(delivered=1)]).islands == 2
    assert fence_after(before, [span(3, 21)], [part(delivered=1)]).islands == 0


class Told:
    """An observer."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def waiting(self, reason: str) -> None:
        self.reasons.append(reason)

    def state(self, _state: str, reason: str = "") -> None:
        self.reasons.append(reason)

    def alarm(self, text: str) -> None:
        self.reasons.append(text)


def test_a_round_in_which_a_lane_hung_opens_the_gate_and_says_so() -> None:
    told = Told()
    waiting = Waiting(lambda _: None, lambda: False, lambda: datetime.now(UTC), lambda: 0.0)
    receiver = Receiver(ExternalOptions("http://127.0.0.1:9/events"), waiting, told)
    receiver.judge([part(left=3, first_left=0, halt=Halt(str(Trouble.TIMEOUT)))])
    assert (receiver.gate.state, told.reasons) == (GateState.OPEN, ["external: the receiver is away: timeout"])


@given(st.lists(st.sampled_from(["sent", "left", "done", "below"]), min_size=1, max_size=30), st.data())
def test_rounds_send_each_row_version_once_and_the_fence_never_passes_one_that_is_left(
    fates: list[str], data: st.DataObject
) -> None:
    """A model of rounds that end early at random: every offset ends up done once, and the fence at the end."""
    total, done, standing, sent = len(fates), set[int](), Standing(DeltaFence("t", {}), {}), list[int]()
    for _ in range(100):
        following = standing.fence.next_offsets.get(0, 0)
        due = [offset for offset in range(total) if offset >= following and offset not in done]
        if not due:
            break
        through = [offset for offset in due if data.draw(st.booleans())]
        left = [offset for offset in due if offset not in through]
        found = part(delivered=len(through), left=len(left), first_left=min(left, default=None))
        after = fence_after(standing, [span(0, total)], [found])
        sent += through
        done |= set(through)
        beyond = sorted(offset for offset in done if offset >= after.next_offsets.get(0, 0))
        standing = Standing(after, {0: pa.array(beyond, pa.int64())} if beyond and after.islands else {})
        assert all(offset in done for offset in range(after.next_offsets.get(0, 0)))
        assert not beyond or after.islands
    else:
        return
    assert sorted(sent) == list(range(total))
    assert standing.fence.next_offsets == {0: total}


def test_counts_of_several_rounds_make_one_summary() -> None:
    first = part(
        read=10, delivered=3, tombstones=1, moves=1, already_delivered=1, dead_letters={"E_ENVELOPE": 1},
        truncations=1, commit_times_ms={100: 3}, left=3, first_left=4,
    )  # fmt: skip
    rejected = [{"kafka_partition": 0, "kafka_offset": 9, "http_status": 422, "attempts": 1}]
    second = part(
        read=10, delivered=2, already_delivered=5, rejected=rejected, commit_times_ms={100: 1, 200: 1}, truncations=1
    )
    (summary,) = [sum_up([[first], [second]], span(0, 10))]
    assert summary.conservation_difference == 0
    assert (summary.read, summary.delivered, summary.already_delivered) == (10, 5, 1)
    assert summary.dead_letters == {"E_ENVELOPE": 1, "E_HTTP_REJECT": 1}
    assert summary.truncations == 1
    assert summary.commit_times_ms == {100: 4, 200: 1}


def test_only_versions_that_are_not_done_are_sent() -> None:
    batch = changes(*(Message(created(id=n + 1).value, offset=n) for n in range(6)), Message(None, offset=6))
    rows = row_versions(batch, 2, pa.array([3, 5]))
    assert rows.column("kafka_offset").to_pylist() == [2, 4]
    assert is_old(batch.column("kafka_offset"), 2, NONE).to_pylist() == [True, True, *[False] * 5]


@pytest.mark.parametrize(
    ("payload", "sent"),
    [
        ('{"a": [1, 2.50, "x"]}', {"a": [1, 2.5, "x"]}),
        ("plain text", "plain text"),
        ("NaN", "NaN"),
        ('{"a": 1} trailing', '{"a": 1} trailing'),
        ("[" * 100_000, "[" * 100_000),
        ('"<b>\u2028"', "<b>\u2028"),
        (None, None),
    ],
)
def test_whatever_the_payload_holds_the_body_is_json(payload: str | None, sent: object) -> None:
    (event,) = to_events(row_versions(changes(created(raw_payload=payload)), 0, NONE), "here")
    assert json.loads(event.body)["metadata"]["raw_payload"] == sent


@given(st.text(), st.text())
def test_any_text_arrives_as_it_was(device: str, title: str) -> None:
    (event,) = to_events(
        row_versions(changes(created(device=_valid(device), raw_payload=_valid(title))), 0, NONE), "here"
    )
    assert json.loads(event.body)["metadata"]["device"] == _valid(device)


def test_an_update_is_sent_as_it_is_now() -> None:
    events = list(to_events(row_versions(changes(updated(duration_ms=45_000)), 0, NONE), "here"))
    (document,) = [json.loads(event.body) for event in events]
    assert (document["op"], document["metadata"]["seconds"], document["metadata"]["pct"]) == ("u", 45.0, 75.0)


def _valid(text: str) -> str:
    return text.encode("utf-8", "ignore").decode()
