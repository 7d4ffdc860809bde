"""What can happen to a checkpoint folder between two runs; each function is one misfortune."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path], None]


def numbers(folder: Path) -> list[int]:
    """Batch ids in `offsets` or `commits`, ascending."""
    if not folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit())


def is_mid_batch(checkpoint: Path) -> bool:
    """Whether a micro-batch is planned and not yet noted as done."""
    planned, done = numbers(checkpoint / "offsets"), numbers(checkpoint / "commits")
    return bool(planned) and planned[-1] > (done[-1] if done else -1)


def lose_last_commit(checkpoint: Path) -> None:
    """The newest file of `commits` never reached the disk."""
    _remove(checkpoint / "commits", 1)


def lose_last_two_commits(checkpoint: Path) -> None:
    """Neither did the one before: Spark then runs only the last batch again."""
    _remove(checkpoint / "commits", 2)


def lose_last_offsets(checkpoint: Path) -> None:
    """The newest plan is gone, its commit too: Spark gives the same id to other rows."""
    last = numbers(checkpoint / "offsets")[-1]
    _remove(checkpoint / "offsets", 1)
    if last in numbers(checkpoint / "commits"):
        _remove(checkpoint / "commits", 1)


def lose_offsets_but_not_commit(checkpoint: Path) -> None:
    """The newest plan is gone, its commit is still there."""
    last = numbers(checkpoint / "commits")[-1]
    for number in numbers(checkpoint / "offsets"):
        if number >= last:
            _remove_entry(checkpoint / "offsets", number)


def lower_offsets(checkpoint: Path) -> None:
    """The newest plan is other valid JSON: Spark believes less was planned."""
    _alter(checkpoint, lambda offset: max(0, offset - 37))


def raise_offsets(checkpoint: Path) -> None:
    """The newest plan is other valid JSON: Spark believes more was planned, beyond the topic's end."""
    _alter(checkpoint, lambda offset: offset + 1_000_000)


def skip_offsets(checkpoint: Path) -> None:
    """Two plans later than the sink: rows between the fence and the plan look delivered to Spark."""
    _alter(checkpoint, lambda offset: offset + 3)


def truncate_offsets(checkpoint: Path) -> None:
    """The newest plan ends in the middle."""
    entry = _newest(checkpoint / "offsets")
    entry.write_bytes(entry.read_bytes()[:20])


def lose_everything(checkpoint: Path) -> None:
    """The folder is gone."""
    shutil.rmtree(checkpoint)


ALL: list[Damage] = [
    lose_last_commit,
    lose_last_two_commits,
    lose_last_offsets,
    lose_offsets_but_not_commit,
    lower_offsets,
    skip_offsets,
    raise_offsets,
    truncate_offsets,
    lose_everything,
]
"""Every misfortune."""


def _alter(checkpoint: Path, change: Callable[[int], int]) -> None:
    entry = _newest(checkpoint / "offsets")
    *head, source = entry.read_text().splitlines()
    topics = {topic: {p: change(o) for p, o in offsets.items()} for topic, offsets in json.loads(source).items()}
    entry.write_text("\n".join([*head, json.dumps(topics, separators=(",", ":"))]))
    # Its checksum would be renewed by whoever edits the file; a left-over one is the truncated case.
    entry.with_name(f".{entry.name}.crc").unlink(missing_ok=True)


def _newest(folder: Path) -> Path:
    return folder / str(numbers(folder)[-1])


def _remove(folder: Path, count: int) -> None:
    for number in numbers(folder)[-count:]:
        _remove_entry(folder, number)


def _remove_entry(folder: Path, number: int) -> None:
    (folder / str(number)).unlink()
    (folder / f".{number}.crc").unlink(missing_ok=True)
