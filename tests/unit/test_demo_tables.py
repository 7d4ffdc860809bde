"""The lake's files as the demo finds them, and what it measures of deliveries and of the warehouse."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from tests.unit.demo_clock import Alarm, Clock

from engagement.demo.external import Committed, ExternalReport, await_sent, measure_external
from engagement.demo.lake import table_files
from engagement.demo.patience import Patience
from engagement.demo.warehouse import WarehouseProbe
from engagement.monitoring.status import QueryStatus


def test_files_below_a_folder_with_a_space_are_found(tmp_path: Path) -> None:
    table = tmp_path / "a lake" / "events"
    write_deltalake(str(table), pa.table({"day": ["2026-11-25"], "id": [1]}), partition_by=["day"])
    files = table_files(table)
    assert len(files) == 1
    assert Path(files[0]).is_file()


def test_a_table_that_does_not_exist_has_notable_files(tmp_path: Path) -> None:
    assert table_files(tmp_path / "nothing") == []


SQL = Path(__file__).resolve().parents[2] / "sql" / "reference"
SINCE = datetime(2026, 11, 25, 12, tzinfo=UTC)
MEASURED = Committed(SINCE, SINCE + timedelta(seconds=60))
ENDED = MEASURED.until + timedelta(seconds=2)


def test_deliveries_are_measured_from_commit_to_acknowledgement(tmp_path: Path) -> None:
    def row(op: str, status: str, committed: float, milliseconds: int) -> dict[str, object]:
        at = SINCE + timedelta(seconds=committed)
        return {"op": op, "status": status, "commit_ts": at, "last_ts": at + timedelta(milliseconds=milliseconds)}

    rows = [
        *(row("c", "delivered", 1, 1000 + n * 10) for n in range(101)),
        row("r", "delivered", 1, 3_600_000),
        row("u", "rejected", 2, 1500),
        row("c", "delivered", -60, 90_000),
        row("c", "delivered", 60, 90_000),
    ]
    write_deltalake(str(tmp_path / "deliveries"), pa.Table.from_pylist(rows))
    report = measure_external(tmp_path, SQL, MEASURED, receiver="", waiting=3)
    assert report == ExternalReport(p50_ms=1500, p99_ms=1989.9, delivered=102, repeats=None, dead_letters=1, waiting=3)
    assert str(report).endswith("p99 1990 ms, 3 still wait")


def test_without_records_there_is_nothing_to_measure(tmp_path: Path) -> None:
    assert measure_external(tmp_path, SQL, MEASURED, receiver="", waiting=0) is None


class Statuses:
    """What a query says of itself at each second; the last one stays."""

    def __init__(self, *said: QueryStatus | None) -> None:
        self.said = list(said)

    def __call__(self) -> QueryStatus | None:
        return self.said.pop(0) if len(self.said) > 1 else self.said[0]


def says(lag: dict[int, int], seconds: float) -> QueryStatus:
    return QueryStatus.model_construct(lag_rows=lag, updated_at=ENDED + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("said", "waiting", "seconds"),
    [
        ([says({0: 7, 1: 2}, 4), says({0: 1, 1: 0}, 5), says({0: 0, 1: 0}, 6)], 0, 2),
        ([says({0: 7, 1: 2}, 4)], 9, 61),
        ([says({0: 0, 1: 0}, 2), says({0: 5, 1: 0}, 4), says({0: 0, 1: 0}, 5)], 0, 2),
        ([says({0: 4}, 4), None], 4, 61),
        ([says({}, 4)], None, 61),
        ([None], None, 61),
    ],
    ids=["all sent", "some wait", "said before the end", "Redis is away", "the job began anew", "never said"],
)
def test_what_waits_for_the_receiver_is_given_a_minute(
    said: list[QueryStatus | None], waiting: int | None, seconds: int
) -> None:
    statuses, clock = Statuses(*said), Clock()
    assert await_sent(statuses, ENDED, Patience(Alarm(clock), clock)) == waiting
    assert clock.now == seconds


def test_who_is_told_to_stop_does_not_wait_for_the_receiver() -> None:
    clock = Clock()
    await_sent(Statuses(None), ENDED, Patience(Alarm(clock, 0.5), clock))
    assert clock.now == 0.5


class Visible:
    """Events that a query of the warehouse finds."""

    def __init__(self, *events: int) -> None:
        self.events = set(events)

    def __call__(self, asked: Sequence[int]) -> set[int]:
        return self.events & set(asked)


def test_probes_that_the_warehouse_never_shows_are_missed_and_so_are_those_it_does_not_show_yet() -> None:
    clock, visible = Clock(), Visible(1)
    probe = WarehouseProbe(visible, 2.0, clock)
    for event_id in (1, 2):
        probe.note(event_id)
    clock.now = 121.0
    probe.note(3)
    probe.look()
    clock.now = 125.0
    probe.look()
    seen = probe.freshness()
    assert seen is not None
    assert (seen.samples, probe.missed()) == (1, 2)
    visible.events.add(3)
    probe.look()
    assert probe.missed() == 1
    probe.forget()
    assert probe.missed() == 0
