"""Fence, topic and checkpoint at a query's start: where it begins, what is set aside, when it stands still."""

import json
import re
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from engagement.delivery.agreement import Agreement, OnLoss
from engagement.delivery.checkpoint import Checkpoint
from engagement.errors import DataLossError, TransientError
from engagement.identity import OffsetRange
from engagement.monitoring.board import REASON_LENGTH
from engagement.sinks.bigquery.sink import WarehouseSink
from engagement.sinks.external.sink import ExternalSink
from engagement.sinks.lake.sink import LakeSink
from engagement.sinks.redis.sink import RedisSink
from engagement.sources.kafka import KafkaTopic

TOPIC = KafkaTopic("events", "localhost:1", "test")
SINKS = (RedisSink, WarehouseSink, ExternalSink, LakeSink)


class World:
    """A sink with its fence, a topic with its bounds, and the runner that moves one beyond the other's loss."""

    def __init__(self, fence: dict[int, int], bounds: dict[int, tuple[int, int]], name: str = "lake") -> None:
        self.held, self.ends, self.name = fence, bounds, name
        self.backfill_mends = {sink.name: sink.backfill_mends for sink in SINKS}[name]
        self.taken: dict[int, int] = {}
        self.gate = threading.Lock()
        self.topic = "first"
        self.answers = self.takes = True
        self.skips = 0

    def fence(self) -> dict[int, int]:
        if not self.answers:
            raise TransientError("away")
        return dict(self.held)

    def bounds(self) -> dict[int, tuple[int, int]]:
        return self.ends

    def topic_id(self) -> str:
        if not self.topic:
            raise TransientError("Kafka is away")
        return self.topic

    def skip(self, lost: Sequence[OffsetRange]) -> None:
        if not self.takes:
            raise TransientError("away")
        self.skips += bool(lost)
        for part in lost:
            assert part.start == self.held.get(part.partition, part.start)
            self.held[part.partition] = part.end


def agreement(world: World, root: Path, begin: str = "earliest", on_loss: OnLoss = OnLoss.STAND_STILL) -> Agreement:
    parts = cast("Any", world)
    agreed = Agreement(parts, Checkpoint(root, "lake"), TOPIC, parts, parts, begin, on_loss)
    agreed.begin()
    return agreed


def checkpoint_at(root: Path, offset: int) -> Path:
    """Of a query that began at 0 and has taken so much."""
    folder = root / "lake"
    for name, text in {
        "metadata": json.dumps({"id": "generation-1"}),
        "sources/0/0": f"v1\n{json.dumps({'events': {'0': 0}})}",
        "offsets/0": f"v1\n{{}}\n{json.dumps({'events': {'0': offset}})}",
        "commits/0": "v1\n{}",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(("begin", "offset"), [("earliest", 2), ("latest", 9)])
def test_the_first_start_of_an_empty_sink_goes_by_the_setting(tmp_path: Path, begin: str, offset: int) -> None:
    world = World({}, {0: (2, 9)})
    assert json.loads(agreement(world, tmp_path, begin).reach(world.fence)) == {"events": {"0": offset}}


def test_a_first_start_at_the_end_is_kept_in_the_sink(tmp_path: Path) -> None:
    """Or a sink that was emptied would look like one that was told to begin there."""
    world = World({}, {0: (2, 9)})
    agreement(world, tmp_path, "latest").reach(world.fence)
    assert (world.held, world.taken) == ({0: 9}, {0: 9})


def test_a_start_that_broke_off_does_not_make_an_emptied_sink_a_new_one(tmp_path: Path) -> None:
    checkpoint_at(tmp_path, 9)
    world = World({}, {0: (2, 20)})
    for _ in range(2):  # the second finds no checkpoint: the process was killed before Spark had made one
        assert json.loads(agreement(world, tmp_path, "latest").reach(world.fence)) == {"events": {"0": 2}}
    assert world.held == {}


@pytest.mark.parametrize("planned", [pytest.param(True, id="planned"), pytest.param(False, id="not even planned")])
def test_what_ages_out_before_a_sink_has_ever_taken_anything_is_missed_all_the_same(
    tmp_path: Path, planned: bool
) -> None:
    """A receiver that refused from the first day on: the query is to stand still, as it would with any fence."""
    folder = checkpoint_at(tmp_path, 9)
    (folder / "commits" / "0").unlink()
    if not planned:
        (folder / "offsets" / "0").unlink()
    world = World({}, {0: (6, 20)})
    with pytest.raises(DataLossError, match=re.escape("events-0 [0, 6)")):
        agreement(world, tmp_path).reach(world.fence)
    start = agreement(world, tmp_path, on_loss=OnLoss.SKIP_ONCE).reach(world.fence)
    assert (json.loads(start), world.held) == ({"events": {"0": 6}}, {0: 6})


@pytest.mark.parametrize(("begin", "lost", "goes_on"), [("earliest", "[2, 6)", {}), ("latest", "", {0: 9})])
def test_where_a_sink_was_to_begin_is_known_however_long_it_refuses_to_be_opened(
    tmp_path: Path, begin: str, lost: str, goes_on: dict[int, int]
) -> None:
    """A role without a right, on the first day: no checkpoint comes to be, and no fence."""
    world = World({}, {0: (2, 9)})
    agreement(world, tmp_path, begin)
    world.ends = {0: (6, 20)}
    again = agreement(world, tmp_path, begin)  # another process, much later
    if lost:
        with pytest.raises(DataLossError, match=re.escape(f"events-0 {lost}")):
            again.reach(world.fence)
    else:
        assert json.loads(again.reach(world.fence)) == {"events": {"0": goes_on[0]}}
    assert world.held == goes_on


@pytest.mark.parametrize(
    ("ends", "held"),
    [
        ({0: (12, 20), 1: (3, 8)}, {0: 12, 1: 5}),
        ({0: (12, 20), 1: (6, 8)}, {0: 12, 1: 6}),
        ({0: (12, 20), 1: (3, 8), 2: (0, 4)}, {0: 12, 1: 5, 2: 0}),
    ],
    ids=["one part aged out", "all did", "a partition came meanwhile"],
)
def test_a_late_beginning_and_what_aged_out_before_it_are_passed_over_at_once(
    tmp_path: Path, ends: dict[int, tuple[int, int]], held: dict[int, int]
) -> None:
    """Or a start that broke off between the two would leave a fence, and the rest be taken from its beginning."""
    world = World({}, {0: (0, 9), 1: (0, 5)})
    agreement(world, tmp_path, "latest")
    world.ends = ends
    agreement(world, tmp_path, "latest", OnLoss.SKIP_ONCE).reach(world.fence)
    assert (world.held, world.skips) == (held, 1)


def test_who_vouched_for_what_is_lost_is_not_asked_again_because_the_sink_was_away(tmp_path: Path) -> None:
    checkpoint_at(tmp_path, 4)
    world = World({0: 4}, {0: (7, 9)})
    agreed = agreement(world, tmp_path, on_loss=OnLoss.SKIP_ONCE)
    world.takes = False
    with pytest.raises(TransientError, match="away"):
        agreed.reach(world.fence)
    world.takes = True
    agreed.reach(world.fence)
    assert world.held == {0: 7}


@pytest.mark.parametrize("begin", ["earliest", "latest"])
def test_a_topic_that_was_made_again_while_its_sink_refused_is_taken_whole(tmp_path: Path, begin: str) -> None:
    world = World({}, {0: (5, 9)})
    agreement(world, tmp_path, begin)
    world.topic, world.ends = "second", {0: (0, 4)}
    agreed = agreement(world, tmp_path, begin)
    world.ends = {0: (0, 7)}
    assert json.loads(agreed.reach(world.fence)) == {"events": {"0": 0}}


def test_a_sink_that_is_made_anew_long_afterwards_takes_all_there_is(tmp_path: Path) -> None:
    world = World({}, {0: (2, 9)})
    agreed = agreement(world, tmp_path)
    agreed.begin()
    agreed.reach(world.fence)
    folder = checkpoint_at(tmp_path, 9)
    world.held = {0: 9}
    agreed.check()
    shutil.rmtree(folder)
    world.held, world.ends = {}, {0: (6, 20)}
    assert json.loads(agreement(world, tmp_path).reach(world.fence)) == {"events": {"0": 6}}


def test_a_checkpoint_far_behind_the_fence_is_not_walked_through(tmp_path: Path) -> None:
    """After a long pause the ranking is counted anew, up to the topic's end."""
    folder = checkpoint_at(tmp_path, 5)
    world = World({0: 500_000}, {0: (0, 500_010)})
    assert json.loads(agreement(world, tmp_path).reach(world.fence)) == {"events": {"0": 500_000}}
    assert not folder.exists()


def test_a_large_micro_batch_that_a_crash_left_delivered_and_not_noted_is_read_once_more(tmp_path: Path) -> None:
    folder = checkpoint_at(tmp_path, 500_000)
    (folder / "commits" / "0").unlink()
    world = World({0: 500_000}, {0: (0, 500_010)})
    agreement(world, tmp_path).reach(world.fence)
    assert folder.exists()


def test_a_checkpoint_of_another_topic_is_set_aside(tmp_path: Path) -> None:
    folder = checkpoint_at(tmp_path, 5)
    log = folder / "offsets" / "0"
    log.write_text(log.read_text().replace("events", "former"))
    world = World({0: 5}, {0: (0, 9)})
    assert json.loads(agreement(world, tmp_path).reach(world.fence)) == {"events": {"0": 5}}
    assert not folder.exists()


def test_a_checkpoint_at_the_fence_or_behind_it_stays(tmp_path: Path) -> None:
    folder = checkpoint_at(tmp_path, 5)
    for fence in (5, 7):
        world = World({0: fence}, {0: (0, 9)})
        agreement(world, tmp_path).reach(world.fence)
        assert folder.exists()
        assert world.taken == {0: fence}


def test_a_sink_that_was_restored_from_a_copy_is_given_what_it_lacks(tmp_path: Path) -> None:
    folder = checkpoint_at(tmp_path, 9)
    world = World({0: 4}, {0: (0, 9)})
    assert json.loads(agreement(world, tmp_path).reach(world.fence)) == {"events": {"0": 4}}
    assert not folder.exists()


@pytest.mark.parametrize("begin", ["earliest", "latest"])
def test_a_sink_that_was_emptied_or_whose_topic_was_made_again_takes_all_there_is(tmp_path: Path, begin: str) -> None:
    checkpoint_at(tmp_path, 9)
    world = World({}, {0: (2, 20)})
    assert json.loads(agreement(world, tmp_path, begin).reach(world.fence)) == {"events": {"0": 2}}


def test_what_kafka_holds_no_more_is_named_with_the_command_that_brings_it_back(tmp_path: Path) -> None:
    folder = checkpoint_at(tmp_path, 4)
    world = World({0: 4}, {0: (7, 9)})
    for _ in range(2):
        with pytest.raises(DataLossError, match=r"events-0 \[4, 7\).*backfill .*--sinks lake.*--skip-lost lake"):
            agreement(world, tmp_path).reach(world.fence)
    assert folder.exists()
    assert world.held == {0: 4}


def test_the_query_goes_on_behind_it_once_a_person_says_so(tmp_path: Path) -> None:
    checkpoint_at(tmp_path, 4)
    world = World({0: 4}, {0: (7, 9)})
    agreed = agreement(world, tmp_path, on_loss=OnLoss.SKIP_ONCE)
    assert json.loads(agreed.reach(world.fence)) == {"events": {"0": 7}}
    assert world.taken == {0: 7}
    world.ends = {0: (8, 20)}
    with pytest.raises(DataLossError, match=r"events-0 \[7, 8\)"):  # nobody knows of these
        agreed.reach(world.fence)


def test_the_ranking_goes_on_behind_whatever_is_lost(tmp_path: Path) -> None:
    world = World({0: 4}, {0: (7, 9)}, "redis")
    agreed = agreement(world, tmp_path, on_loss=OnLoss.SKIP)
    agreed.reach(world.fence)
    world.ends = {0: (8, 20)}
    agreed.reach(world.fence)
    assert world.held == {0: 8}


def test_the_receiver_is_not_sent_what_it_had_before_its_record_begins(tmp_path: Path) -> None:
    world = World({0: 4}, {0: (7, 9)}, "external")
    with pytest.raises(DataLossError, match=r"--skip-lost external.*reconcile --sinks external --repair") as found:
        agreement(world, tmp_path).reach(world.fence)
    assert "backfill" not in str(found.value)


@pytest.mark.parametrize("name", ["warehouse", "external"])
def test_what_to_do_is_told_whole_on_the_page_too(tmp_path: Path, name: str) -> None:
    far = 10**12
    world = World(dict.fromkeys(range(3), far), dict.fromkeys(range(3), (2 * far, 3 * far)), name)
    with pytest.raises(DataLossError) as found:
        agreement(world, tmp_path).reach(world.fence)
    assert len(str(found.value)) <= REASON_LENGTH


def test_a_topic_that_ends_before_the_fence_is_waited_for(tmp_path: Path) -> None:
    folder = checkpoint_at(tmp_path, 9)
    world = World({0: 9}, {0: (0, 6)})
    with pytest.raises(TransientError, match="lost its newest messages"):
        agreement(world, tmp_path).reach(world.fence)
    assert folder.exists()


def test_a_topic_that_has_grown_past_the_fence_again_is_told_with_the_command_that_mends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World({0: 9}, {0: (0, 8)})
    agreed = agreement(world, tmp_path)
    for end in (8, 6, 7):
        world.ends = {0: (0, end)}
        with pytest.raises(TransientError, match=f"ends at {{0: {end}}}"):
            agreed.reach(world.fence)
    world.ends = {0: (0, 30)}
    for _ in range(2):
        assert json.loads(agreed.reach(world.fence)) == {"events": {"0": 9}}
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "events-0 [6, 9)" in told
    assert "reconcile --repair" in told


def went_back(root: Path) -> Path:
    """A checkpoint whose query had taken 9 when Spark saw the topic end at 6."""
    folder = checkpoint_at(root, 9)
    (folder / "offsets" / "1").write_text(f"v1\n{{}}\n{json.dumps({'events': {'0': 6}})}")
    return folder


def test_a_topic_that_lost_its_newest_messages_and_grew_again_before_the_next_start_is_told_of_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = went_back(tmp_path)
    world = World({0: 9}, {0: (0, 30)})
    agreed = agreement(world, tmp_path)
    for _ in range(2):
        agreed.begin()
        assert json.loads(agreed.reach(world.fence)) == {"events": {"0": 9}}
    assert not folder.exists()
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "events-0 [6, 9)" in told
    assert "reconcile --repair" in told


@pytest.mark.parametrize(("topic", "fence"), [("first", {}), ("first", {0: 6}), ("second", {0: 20})])
def test_a_plan_that_goes_back_says_nothing_of_another_topic_or_of_a_sink_that_takes_it_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, topic: str, fence: dict[int, int]
) -> None:
    checkpoint_at(tmp_path, 9)
    world = World({0: 9}, {0: (0, 9)})
    agreed = agreement(world, tmp_path)
    agreed.reach(world.fence)
    went_back(tmp_path)
    world.held, world.ends, world.topic = fence, {0: (0, 30)}, topic
    for _ in range(2):  # the first start breaks off: the sink is still being filled
        agreed.begin()
    assert json.loads(agreed.reach(world.fence)) == {"events": {"0": fence.get(0, 0)}}
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("fence", [{}, {0: 3}])
def test_a_sink_that_takes_again_what_the_topic_lost_lacks_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fence: dict[int, int]
) -> None:
    """Emptied meanwhile, or restored; or the topic was made again."""
    world = World({0: 9}, {0: (0, 6)})
    agreed = agreement(world, tmp_path)
    with pytest.raises(TransientError, match="lost its newest messages"):
        agreed.reach(world.fence)
    world.held = fence
    assert json.loads(agreed.reach(world.fence)) == {"events": {"0": fence.get(0, 0)}}
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_sink_that_goes_back_while_nothing_comes_is_noticed(tmp_path: Path) -> None:
    world = World({0: 9}, {0: (0, 9)})
    agreed = agreement(world, tmp_path)
    agreed.reach(world.fence)
    agreed.check()
    world.held = {0: 7}
    with world.gate:
        agreed.check()  # the micro-batch under way sees it
    with pytest.raises(TransientError, match="gone back"):
        agreed.check()


def test_a_sink_that_does_not_answer_twice_in_a_row_is_opened_again(tmp_path: Path) -> None:
    """A table that was deleted only comes back by that."""
    world = World({0: 9}, {0: (0, 9)})
    agreed = agreement(world, tmp_path)
    agreed.reach(world.fence)
    for answers in (False, True, False):
        world.answers = answers
        agreed.check()
    with pytest.raises(TransientError, match="away"):
        agreed.check()
    world.answers = True
    agreed.reach(world.fence)
    world.answers = False
    agreed.check()


def test_kafka_that_is_away_starts_nothing_again(tmp_path: Path) -> None:
    world = World({0: 9}, {0: (0, 9)})
    agreed = agreement(world, tmp_path)
    agreed.reach(world.fence)
    world.topic = ""
    for _ in range(3):
        agreed.check()


def test_a_topic_that_is_made_again_while_nothing_comes_is_noticed(tmp_path: Path) -> None:
    world = World({0: 9}, {0: (0, 9)})
    agreed = agreement(world, tmp_path)
    agreed.reach(world.fence)
    world.topic = "second"
    for answers in (True, False):
        world.answers = answers
        with pytest.raises(TransientError, match="made again"):
            agreed.check()
    with world.gate, pytest.raises(TransientError, match="made again"):
        agreed.check()  # traffic that never pauses hides nothing


def test_a_topic_that_is_made_again_while_the_sink_is_opened_is_noticed(tmp_path: Path) -> None:
    """The sink may have asked before it was."""
    world = World({0: 9}, {0: (0, 9)})
    agreed = agreement(world, tmp_path)
    world.topic = "second"
    agreed.reach(world.fence)
    with pytest.raises(TransientError, match="made again"):
        agreed.check()
