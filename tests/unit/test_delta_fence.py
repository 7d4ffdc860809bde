"""A Delta table's fence as it travels in a commit."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement.errors import ContractError
from engagement.identity import BatchIdentity, OffsetRange
from engagement.sinks.delta.fence import DeltaFence, fence_of
from engagement.sinks.source_log import Place

IDENTITY = BatchIdentity("app", "generation", 7)
SMALL, LARGE = st.integers(0, 99), st.integers(0, 2**62)
OFFSETS = st.dictionaries(SMALL, LARGE, max_size=4)
PLACES = st.dictionaries(SMALL, st.tuples(LARGE, LARGE), max_size=3)
FENCES = st.builds(DeltaFence, st.text(max_size=5), OFFSETS, PLACES, st.integers(0, 9))
RANGES = st.lists(st.builds(OffsetRange, st.just("events"), SMALL, SMALL, SMALL))


@given(FENCES)
def test_what_a_commit_carries_is_read_back(fence: DeltaFence) -> None:
    assert fence_of(fence.to_metadata(IDENTITY)) == fence


def test_a_commit_names_its_micro_batch_for_people() -> None:
    assert json.loads(DeltaFence("t", {}).to_metadata(IDENTITY))["batch"] == "app/generation/7"


@pytest.mark.parametrize("metadata", [None, "", "compacted by hand", "[]", "7", '{"other": 1}'])
def test_a_commit_of_somebody_else_carries_no_fence(metadata: str | None) -> None:
    assert fence_of(metadata) is None


@pytest.mark.parametrize("damaged", ["7", '{"topic_id": "t"}', '{"topic_id": "t", "next": {"x": 1}}'])
def test_a_damaged_fence_is_an_error_and_not_an_empty_one(damaged: str) -> None:
    with pytest.raises(ContractError, match="cannot be read"):
        fence_of(f'{{"engagement_fence": {damaged}}}')


@given(FENCES, FENCES)
def test_only_equal_fences_have_the_same_successor(one: DeltaFence, other: DeltaFence) -> None:
    assert (one.successor == other.successor) == (one == other)


def test_the_order_in_which_partitions_were_seen_does_not_matter() -> None:
    assert DeltaFence("t", {0: 1, 1: 2}).successor == DeltaFence("t", {1: 2, 0: 1}).successor


@given(FENCES, RANGES, PLACES)
def test_a_fence_never_goes_back(fence: DeltaFence, ranges: list[OffsetRange], places: dict[int, Place]) -> None:
    after = fence.after(ranges, places)
    assert all(after.next_offsets[partition] >= offset for partition, offset in fence.next_offsets.items())
    assert all(after.next_offsets[part.partition] >= part.end for part in ranges)
    assert all(after.places[partition] >= place for partition, place in (*fence.places.items(), *places.items()))
