"""The range that a backfill is asked for: what is taken, and every reason for what is not."""

import pytest

from engagement.backfill.request import parse_moment, span_of
from engagement.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-08-01", "2025-08-01T00:00:00+00:00"),
        ("0001-01-01", "0001-01-01T00:00:00+00:00"),  # rows before 2000 are refused, but have to be dead letters
        ("2025-08-01T12:30:00Z", "2025-08-01T12:30:00+00:00"),
        ("2025-08-01T02:00:00.5+02:00", "2025-08-01T00:00:00.500000+00:00"),
    ],
)
def test_days_and_instants_are_taken_as_utc(text: str, expected: str) -> None:
    assert parse_moment(text).isoformat() == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2025-08-32",
        "2025-02-29",
        "2025-08-01T12:00:00",
        "01.08.2025",
        "0001-01-01T00:00:00+05:00",
        "1e9",
    ],
)
def test_other_texts_are_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="is no UTC day"):
        parse_moment(text)


def test_a_range_includes_its_start_and_excludes_its_end() -> None:
    span = span_of("2025-08-01", "2025-08-02")
    assert (span.start.isoformat(), span.end.isoformat()) == ("2025-08-01T00:00:00+00:00", "2025-08-02T00:00:00+00:00")


@pytest.mark.parametrize(
    ("start", "end", "reasons"),
    [
        (None, None, ["--start-date is missing", "--end-date is missing"]),
        ("x", "y", ["--start-date 'x'", "--end-date 'y'"]),
        ("2025-08-02", "2025-08-02", ["must lie after"]),
        ("1999-12-31", "1999-01-01", ["must lie after"]),
    ],
)
def test_every_reason_is_told_at_once(start: str | None, end: str | None, reasons: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        span_of(start, end)
    assert len(refused.value.problems) == len(reasons)
    assert all(reason in problem for reason, problem in zip(reasons, refused.value.problems, strict=True))
