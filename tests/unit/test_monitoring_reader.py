"""The reader that measures from outside: what it counts, what it does not, and that it forgets."""

from collections.abc import Mapping
from typing import Any

import psycopg2
import pytest

from engagement.errors import TransientSinkError
from engagement.monitoring.health import HealthStatus, Reading
from engagement.monitoring.measures import Measures
from engagement.monitoring.reader_probe import ReaderProbe


class Chain:
    """PostgreSQL and Redis of one content, in a time of its own: rows come every second, and show after `delay`."""

    def __init__(self, delay: float, *, last_row: int = 1_000_000) -> None:
        self.now, self.delay, self.last_row = 0.0, delay, last_row
        self.failure: Exception | None = None
        self.looks = self.searches = 0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def newest(self) -> int:
        return min(int(self.now), self.last_row)

    def get_recent_events(self, _content: str, count: int) -> list[Mapping[str, str | None]]:
        if self.failure:
            raise self.failure
        self.looks, self.searches = self.looks + (count == 1), self.searches + (count > 1)
        shown = [{"event_id": str(row)} for row in range(self.newest() + 1) if row + self.delay <= self.now]
        return [dict(event) for event in shown[::-1][:count]]


class Probe(ReaderProbe):
    """With the rows of a chain instead of a database."""

    def __init__(self, chain: Chain, measures: Measures) -> None:
        reader: Any = chain
        super().__init__("", "", reader, measures, lambda: chain.now, chain.sleep)
        self._chain = chain

    def _newest(self) -> tuple[str, str] | None:
        return str(self._chain.newest()), "a content"

    def after(self, seconds: float) -> Reading:
        """The reading after so many seconds of checks."""
        end = self._chain.now + seconds
        while self._chain.now < end:
            (reading,) = self.check()
            self._chain.now += 0.01
        return reading


def values(measures: Measures) -> dict[str, float]:
    return {one.metric: one.value for one in measures.snapshot().values}


def test_a_row_is_timed_from_its_commit_until_it_is_seen_never_too_short() -> None:
    chain, measures = Chain(0.4), Measures("serve")
    assert Probe(chain, measures).after(30).status is HealthStatus.HEALTHY
    (histogram,) = [one for one in measures.snapshot().values if one.counts]
    assert histogram.counts is not None
    mean = histogram.value / sum(histogram.counts)
    assert sum(histogram.counts) >= 10
    assert 0.4 <= mean <= 0.4 + 0.16  # a look before, a look after, and the rounding of a row's second


def test_events_are_searched_only_when_a_newer_one_shows() -> None:
    chain = Chain(1.3)
    Probe(chain, Measures("serve")).after(30)
    assert 0 < chain.searches < chain.looks / 5  # twenty looks a second, and one new event


def test_rows_that_never_show_are_told_after_two_and_forgotten_when_none_comes() -> None:
    chain, measures = Chain(1000.0, last_row=30), Measures("serve")
    probe = Probe(chain, measures)
    assert probe.after(12).status is HealthStatus.HEALTHY
    reading = probe.after(14)
    assert (reading.status, reading.critical) == (HealthStatus.DEGRADED, False)
    assert "could not be read" in reading.reason
    assert probe.after(30).status is HealthStatus.HEALTHY
    assert values(measures)["engagement_probe_missed_rows"] >= 2


@pytest.mark.parametrize("failure", [psycopg2.OperationalError("away"), TransientSinkError("redis", "away")])
def test_an_outage_is_no_miss(failure: Exception) -> None:
    chain, measures = Chain(0.4), Measures("serve")
    chain.failure = failure
    probe = Probe(chain, measures)
    assert probe.after(20).status is HealthStatus.UNKNOWN
    assert values(measures)["engagement_probe_missed_rows"] == 0
    chain.failure = None
    assert probe.after(20).status is HealthStatus.HEALTHY
