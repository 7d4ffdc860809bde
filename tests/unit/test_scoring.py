"""The plain Python half of scoring.py against the vectors and against exact fractions."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.reference.scoring import enrich
from tests.reference.vectors import scoring_vectors

from engagement import scoring


@pytest.mark.parametrize("vector", scoring_vectors(), ids=lambda vector: vector["name"])
def test_scores_as_written_down(vector: dict[str, Any]) -> None:
    hundredths = scoring.pct_hundredths(vector["duration_ms"], vector["length_seconds"])
    pct = vector["engagement_pct"]
    assert hundredths == (None if pct is None else int(Decimal(pct) * 100))
    assert scoring.score_units(vector["event_type"], hundredths) == vector["units"]


@given(
    st.sampled_from(sorted(scoring.BASE_TENTHS)),
    st.none() | st.integers(0, 2**31 - 1),
    st.none() | st.integers(-(2**31), 2**31 - 1) | st.integers(1, 20_000),
)
def test_agrees_with_exact_fractions(event_type: str, duration_ms: int | None, length_seconds: int | None) -> None:
    expected = enrich(event_type, duration_ms, length_seconds)
    hundredths = scoring.pct_hundredths(duration_ms, length_seconds)
    assert hundredths == (None if expected.pct is None else int(expected.pct * 100))
    assert scoring.score_units(event_type, hundredths) == expected.units
