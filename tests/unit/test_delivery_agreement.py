"""Fence, topic and checkpoint at a query's start: where it begins, what is set aside, when it stands still."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from engagement.delivery.agreement import Agreement
from engagement.delivery.checkpoint import Checkpoint
from engagement.errors import DataLossError, TransientError
from engagement.identity import OffsetRange
from engagement.sources.kafka import KafkaTopic

TOPIC = KafkaTopic("events", "localhost:1", "test")


class World:
    """A sink with its fence, a topic with its bounds, and the runner that moves one beyond the other's loss."""

    name = "lake"

    def __init__(self, fence: dict[int, int], bounds: dict[int, tuple[int, int]]) -> None:
        self.held, self._bounds = fence, bounds
        self.taken: dict[int, int] = {}
        self.gate = threading.Lock()
        self.topic = "first"
        self.answers = True

    def fence(self) -> dict[int, int]:
        if not self.answers:
            raise TransientError("away")
        return dict(self.held)

    def bounds(self) -> dict[int, tuple[int, int]]:
        return self._bounds

    def topic_id(self) -> str:
        return self.topic

    def skip(self, lost: Sequence[OffsetRange]) -> None:
        for part in lost:
            assert part.start == self.held.get(part.partition, part.start)
            self.held[part.partition] = part.end


def agreement(world: World, root: Path, begin: str = "earliest", *, skip_lost: bool = False) -> Agreement:
    parts = cast("Any", world)
    return Agreement(parts, Checkpoint(root, "lake"), TOPIC, parts, parts, begin, skip_lost)


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
    assert json.loads(agreement(world, tmp_path, skip_lost=True).reach(world.fence)) == {"events": {"0": 7}}
    assert world.taken == {0: 7}


def test_a_topic_that_ends_before_the_fence_is_waited_for(tmp_path: Path) -> None:
    folder = checkpoint_at(tmp_path, 9)
    world = World({0: 9}, {0: (0, 6)})
    with pytest.raises(TransientError, match="lost its newest messages"):
        agreement(world, tmp_path).reach(world.fence)
    assert folder.exists()


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
    world.answers = False
    agreed.check()


def test_a_topic_that_is_made_again_while_nothing_comes_is_noticed(tmp_path: Path) -> None:
    world = World({0: 9}, {0: (0, 9)})
    agreed = agreement(world, tmp_path)
    agreed.reach(world.fence)
    world.topic = "second"
    with pytest.raises(TransientError, match="made again"):
        agreed.check()
