"""A checkpoint is read for its plan, locked, and set aside when it cannot be true."""

import json
from pathlib import Path

import pytest

from engagement.delivery.checkpoint import Checkpoint
from engagement.errors import ContractError, PermanentError
from engagement.identity import OffsetRange

TOPIC = "events"
HELD = {0: 9}
"""A sink's fence that is as far as any checkpoint here."""


def write_checkpoint(root: Path, ends: list[dict[str, int]], initial: dict[str, int]) -> Checkpoint:
    """Lay out a folder as Spark does: metadata, initial offsets, one offset log entry per batch."""
    folder = root / "redis"
    (folder / "offsets").mkdir(parents=True)
    (folder / "sources" / "0").mkdir(parents=True)
    (folder / "metadata").write_text(json.dumps({"id": "generation-1"}))
    (folder / "sources" / "0" / "0").write_text(f"0v1\n{json.dumps({TOPIC: initial})}")
    for number, end in enumerate(ends):
        (folder / "offsets" / str(number)).write_text(f"v1\n{{}}\n{json.dumps({TOPIC: end})}")
    return Checkpoint(root, "redis")


def test_the_first_batch_starts_at_the_initial_offsets(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path, [{"0": 5}], {"0": 2})
    assert checkpoint.planned_ranges(0) == [OffsetRange(TOPIC, 0, 2, 5)]


def test_a_later_batch_starts_where_the_one_before_ends(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path, [{"0": 5}, {"0": 9}], {"0": 2})
    assert checkpoint.planned_ranges(1) == [OffsetRange(TOPIC, 0, 5, 9)]


def test_the_generation_is_the_id_that_spark_gave_the_checkpoint(tmp_path: Path) -> None:
    assert write_checkpoint(tmp_path, [], {"0": 0}).generation() == "generation-1"


def test_a_second_driver_is_refused_by_name_of_the_folder(tmp_path: Path) -> None:
    first, second = Checkpoint(tmp_path, "redis"), Checkpoint(tmp_path, "redis")
    first.lock()
    with pytest.raises(PermanentError, match="another streaming job"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()


def test_a_place_where_no_folder_can_be_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PermanentError, match=r"CHECKPOINT_PATH cannot hold a checkpoint: .*file.*: Not a directory"):
        Checkpoint(tmp_path / "file" / "checkpoints", "redis").lock()


def test_a_folder_that_does_not_exist_is_not_damaged(tmp_path: Path) -> None:
    assert Checkpoint(tmp_path, "redis").damage(TOPIC, {0: (0, 9)}, HELD) is None


def test_a_sound_checkpoint_is_not_damaged(tmp_path: Path) -> None:
    assert write_checkpoint(tmp_path, [{"0": 5}, {"0": 9}], {"0": 2}).damage(TOPIC, {0: (2, 9)}, HELD) is None


@pytest.mark.parametrize(
    ("end", "bounds", "reason"),
    [
        ({"0": 4}, (0, 9), "go back"),
        ({"0": 10}, (0, 9), "beyond the topic's end"),
        ({"0": 9}, (6, 9), "before the topic's first"),
    ],
)
def test_offsets_that_cannot_be_true_are_damage(
    tmp_path: Path, end: dict[str, int], bounds: tuple[int, int], reason: str
) -> None:
    damage = write_checkpoint(tmp_path, [{"0": 5}, end], {"0": 2}).damage(TOPIC, {0: bounds}, HELD)
    assert damage is not None
    assert reason in damage


@pytest.mark.parametrize("lost", ["metadata", "offsets/0"])
def test_a_truncated_file_is_damage_and_a_contract_error(tmp_path: Path, lost: str) -> None:
    checkpoint = write_checkpoint(tmp_path, [{"0": 5}, {"0": 9}], {"0": 2})
    (tmp_path / "redis" / lost).write_text("v1")
    assert checkpoint.damage(TOPIC, {0: (0, 9)}, HELD) is not None
    with pytest.raises(ContractError):
        checkpoint.generation() if lost == "metadata" else checkpoint.planned_ranges(1)


def test_a_commit_without_its_plan_is_damage(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path, [{"0": 5}, {"0": 9}], {"0": 2})
    commits = tmp_path / "redis" / "commits"
    commits.mkdir()
    (commits / "1").write_text("v1\n{}")
    assert checkpoint.damage(TOPIC, {0: (0, 9)}, HELD) is None
    (tmp_path / "redis" / "offsets" / "1").unlink()
    assert "batch 1" in (checkpoint.damage(TOPIC, {0: (0, 9)}, HELD) or "")


@pytest.mark.parametrize(
    ("fence", "is_done", "reason"),
    [
        ({0: 9}, True, ""),
        ({0: 11}, True, ""),
        ({0: 5}, False, ""),
        ({0: 8}, True, "go on at 9 of partition 0, but the sink holds up to 8"),
        ({0: 4}, False, "go on at 5 of partition 0, but the sink holds up to 4"),
        ({}, True, "go on at 9 of partition 0, but the sink knows nothing of it"),
    ],
)
def test_a_checkpoint_that_would_go_on_beyond_the_fence_is_damage(
    tmp_path: Path, fence: dict[int, int], is_done: bool, reason: str
) -> None:
    checkpoint = write_checkpoint(tmp_path, [{"0": 5}, {"0": 9}], {"0": 2})
    commits = checkpoint.path / "commits"
    commits.mkdir()
    (commits / "0").write_text("v1\n{}")
    if is_done:
        (commits / "1").write_text("v1\n{}")
    assert reason in (checkpoint.damage(TOPIC, {0: (0, 9)}, fence) or "")
    assert bool(checkpoint.damage(TOPIC, {0: (0, 9)}, fence)) is bool(reason)


def test_a_partition_that_nothing_was_taken_of_needs_no_fence(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path, [{"0": 5, "1": 3}], {"0": 2, "1": 3})
    assert checkpoint.damage(TOPIC, {0: (0, 9), 1: (3, 9)}, {0: 5}) is None


def test_a_checkpoint_that_began_beyond_what_a_sink_without_fence_lacks_is_damage(tmp_path: Path) -> None:
    """It began at a fence that is gone since, before its first micro-batch was done."""
    checkpoint = write_checkpoint(tmp_path, [], {"0": 4})
    assert checkpoint.damage(TOPIC, {0: (0, 9)}, {0: 4}) is None
    assert "go on at 4" in (checkpoint.damage(TOPIC, {0: (0, 9)}, {}) or "")


def test_a_damaged_folder_is_kept_beside_under_a_new_name_each_time(tmp_path: Path) -> None:
    for expected in ("redis.damaged-1", "redis.damaged-2"):
        checkpoint = Checkpoint(tmp_path, "redis")
        checkpoint.path.mkdir()
        assert checkpoint.set_aside().name == expected
        assert not checkpoint.path.exists()
