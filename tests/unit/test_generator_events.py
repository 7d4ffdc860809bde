from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from engagement.generator import EventFactory, EventRow, Traits, make_catalogue

START = 1_750_000_000.0
FEW_TRAITS = Traits(users=500)


def hour_of_events(seed: int, rows: int = 20_000) -> list[EventRow]:
    return EventFactory(seed, traits=FEW_TRAITS).events([START + number * 3_600 / rows for number in range(rows)])


@pytest.fixture(scope="module")
def events() -> list[EventRow]:
    return hour_of_events(seed=1)


def test_the_same_seed_gives_the_same_rows(events: list[EventRow]) -> None:
    assert hour_of_events(seed=1) == events
    assert hour_of_events(seed=2) != events


def test_the_catalogue_does_not_depend_on_the_event_seed() -> None:
    assert EventFactory(1, traits=FEW_TRAITS).catalogue == EventFactory(2, traits=FEW_TRAITS).catalogue


def test_the_catalogue_has_five_thousand_different_contents() -> None:
    catalogue = make_catalogue()
    assert len(catalogue) == len({row.id for row in catalogue}) == len({row.slug for row in catalogue}) == 5_000


def test_newsletters_and_only_they_have_no_length() -> None:
    assert {(row.content_type == "newsletter", row.length_seconds is None) for row in make_catalogue()} == {
        (True, True),
        (False, False),
    }


def test_every_nullable_column_is_sometimes_null_and_mostly_not(events: list[EventRow]) -> None:
    for column in ("content_id", "user_id", "duration_ms", "device", "raw_payload"):
        missing = sum(getattr(row, column) is None for row in events) / len(events)
        assert 0.002 < missing < 0.3, column


def test_a_click_has_no_duration(events: list[EventRow]) -> None:
    assert {row.duration_ms for row in events if row.event_type == "click"} == {None}


def test_durations_fit_the_column(events: list[EventRow]) -> None:
    assert all(0 <= row.duration_ms < 2**31 for row in events if row.duration_ms is not None)


def test_all_four_types_occur_and_play_is_the_most_frequent(events: list[EventRow]) -> None:
    counted = Counter(row.event_type for row in events).most_common()
    assert len(counted) == 4
    assert counted[0][0] == "play"


def test_a_session_plays_before_it_pauses_or_finishes_and_ends_at_its_finish() -> None:
    # The row order is the order of insertion, which is what a session's own order means here.
    sessions: defaultdict[object, list[str]] = defaultdict(list)
    for row in hour_of_complete_events():
        assert row.raw_payload is not None
        sessions[row.raw_payload["session"]].append(row.event_type)
    assert max(Counter(map(len, sessions.values()))) > 3
    for steps in sessions.values():
        assert steps[0] == "play"
        assert "finish" not in steps[:-1]
        media = [step for step in steps if step != "click"]
        assert ("pause", "pause") not in set(pairwise(media))


def hour_of_complete_events() -> list[EventRow]:
    factory = EventFactory(3, traits=Traits(users=500, without_payload=0))
    return factory.events([START + number / 5 for number in range(10_000)])


def test_a_few_contents_get_most_of_the_attention(events: list[EventRow]) -> None:
    counted = Counter(row.content_id for row in events if row.content_id)
    top_fifty = sum(count for _, count in counted.most_common(50))
    assert 0.25 < top_fifty / len(events) < 0.9
    assert len(counted) > 1_000


def test_popularity_shifts_over_time() -> None:
    factory = EventFactory(4, traits=FEW_TRAITS)
    tops = []
    for hour in range(2):
        rows = factory.events([START + hour * 3_600 + number for number in range(3_600)])
        tops.append({key for key, _ in Counter(row.content_id for row in rows if row.content_id).most_common(10)})
    assert tops[0] != tops[1]


def test_popularity_shifts_with_the_rows_of_a_batch() -> None:
    times = [START] * 30_000
    still = EventFactory(4, traits=FEW_TRAITS).events(times)
    shifted = EventFactory(4, traits=FEW_TRAITS, shift_by_rows=True).events(times)
    assert shifted[:20_000] == still[:20_000]
    assert shifted[20_000:] != still[20_000:]


def test_changes_between_rows_leave_the_rows_that_follow_as_they_are() -> None:
    times = [START + number for number in range(200)]
    disturbed, undisturbed = EventFactory(7, traits=FEW_TRAITS), EventFactory(7, traits=FEW_TRAITS)
    first = disturbed.events(times[:100])
    for place in disturbed.pick(30, len(first)):
        disturbed.corrected(first[place])
    assert first + disturbed.events(times[100:]) == undisturbed.events(times)


def test_an_event_happened_shortly_before_its_row_and_some_are_late() -> None:
    ages = [START - row.event_ts.timestamp() for row in EventFactory(5, traits=FEW_TRAITS).events([START] * 10_000)]
    late = [age for age in ages if age >= 30]
    assert min(ages) > -0.001
    assert max(ages) <= 3_600
    assert max(age for age in ages if age < 30) <= 0.25
    assert 50 < len(late) < 200


def test_a_correction_changes_the_row_but_neither_its_user_nor_its_time(events: list[EventRow]) -> None:
    factory = EventFactory(6, traits=FEW_TRAITS)
    corrected = [factory.corrected(row) for row in events[:2_000]]
    assert [(row.user_id, row.event_ts) for row in corrected] == [(row.user_id, row.event_ts) for row in events[:2_000]]
    changed = sum(new != old for new, old in zip(corrected, events, strict=False))
    assert changed > 1_000
    moved = sum(new.content_id != old.content_id for new, old in zip(corrected, events, strict=False))
    assert 0 < moved < 200
