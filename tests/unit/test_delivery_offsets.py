"""Planned ranges and gaps: which offsets are due."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement.delivery.offsets import (
    find_gaps,
    parse_initial_offsets,
    parse_offset_log,
    planned_ranges,
)
from engagement.errors import ContractError
from engagement.identity import OffsetRange

LOG_ENTRY = 'v1\n{"batchWatermarkMs":0,"batchTimestampMs":1,"conf":{}}\n{"events":{"1":7,"0":5}}'


def test_an_offset_log_entry_gives_the_end_offsets_of_its_batch() -> None:
    assert parse_offset_log(LOG_ENTRY) == {"events": {0: 5, 1: 7}}


@pytest.mark.parametrize("text", ["", "v1", 'v1\n{"batchWatermarkMs":0}', 'v1\n{}\n{"events":{"0"', "v1\n{}\n[1]"])
def test_an_incomplete_offset_log_entry_is_a_contract_error(text: str) -> None:
    with pytest.raises(ContractError):
        parse_offset_log(text)


def test_initial_offsets_are_found_behind_the_version_line() -> None:
    assert parse_initial_offsets('0v1\n{"events":{"0":3}}') == {"events": {0: 3}}


def test_initial_offsets_without_json_are_a_contract_error() -> None:
    with pytest.raises(ContractError):
        parse_initial_offsets("v1\n")


def test_a_partition_that_is_new_in_a_batch_starts_at_its_first_offset() -> None:
    ranges = planned_ranges({"events": {0: 3}}, {"events": {0: 5, 1: 2}})
    assert ranges == [OffsetRange("events", 0, 3, 5), OffsetRange("events", 1, 0, 2)]


@given(start=st.integers(0, 50), length=st.integers(0, 50), fence=st.none() | st.integers(0, 120))
def test_gap_and_batch_together_always_reach_from_the_fence_to_the_planned_end(
    start: int, length: int, fence: int | None
) -> None:
    planned = OffsetRange("events", 0, start, start + length)
    gaps = find_gaps([planned], {} if fence is None else {0: fence})
    offered = {offset for part in (*gaps, planned) for offset in range(part.start, part.end)}
    if fence is not None:
        assert set(range(fence, planned.end)) <= offered
    assert all(part.end == planned.start for part in gaps)


def test_an_empty_range_knows_that_it_is_empty() -> None:
    assert OffsetRange("events", 0, 5, 5).is_empty
    assert not OffsetRange("events", 0, 5, 6).is_empty
