"""Whatever happens to bookkeeping and sinks: each record has one effect in the end (delivery_simulator.py)."""

import os
import shutil
from pathlib import Path

import pytest
from tests.unit.delivery_simulator import FakeSink, KeyedSink, Parts, run

SEEDS = int(os.environ.get("SIMULATOR_SEEDS", "1000"))
"""Histories for each kind of sink: 2,000 in all, or as many as are asked for."""
BLOCKS = 10


@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize("sink", [FakeSink, KeyedSink])
def test_every_record_has_one_effect_whatever_happens_to_the_bookkeeping(
    tmp_path: Path, sink: type[FakeSink], block: int
) -> None:
    for seed in range(block, SEEDS, BLOCKS):
        assert run(tmp_path / str(seed), seed, Parts(sink)) == [], f"seed {seed}"
        shutil.rmtree(tmp_path / str(seed))
