"""Whatever happens to bookkeeping and sinks: each record has one effect in the end (delivery_simulator.py)."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.unit.delivery_simulator import FakeSink, KeyedSink, Parts, run

SEEDS = int(os.environ.get("SIMULATOR_SEEDS", "1000"))
"""Histories for each kind of sink: 2,000 in all, or as many as are asked for."""
BLOCKS = 10
MEMORY = Path("/dev/shm")  # noqa: S108 - folders with random names are made in it
"""A history makes a hundred files: not on a disk, where the machine has this."""


@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize("sink", [FakeSink, KeyedSink])
def test_every_record_has_one_effect_whatever_happens_to_the_bookkeeping(
    tmp_path: Path, sink: type[FakeSink], block: int
) -> None:
    place = MEMORY if os.access(MEMORY, os.W_OK) else tmp_path
    for seed in range(block, SEEDS, BLOCKS):
        with TemporaryDirectory(dir=place) as folder:
            assert run(Path(folder), seed, Parts(sink)) == [], f"seed {seed}"
