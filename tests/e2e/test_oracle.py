"""The oracle itself: it must find what it is there to find. No stack is needed for these."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from google.cloud.bigquery.table import Row
from tests import builders as b
from tests.e2e.support.canaries import Canaries
from tests.e2e.support.lake import LakeOracle
from tests.e2e.support.ledger import Ledger
from tests.e2e.support.oracle import Totals, difference
from tests.e2e.support.receiver import ReceiverOracle
from tests.e2e.support.scores import UNITS_PER_POINT, percentage, units
from tests.e2e.support.source import id_differences, live_ids, row_differences
from tests.e2e.support.topic import COLUMNS, Place, Topic, Values
from tests.e2e.support.warehouse import WarehouseOracle
from tests.e2e.support.watcher import excess

START = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)
CONTENT = "00000e2e-0000-0000-0000-000000000001"
USER = "00000ca9-0000-0000-0000-000000000001"


def two_events() -> Totals:
    totals = Totals()
    totals.add("finish", START, 30_000, 60)
    totals.add("click", START + timedelta(seconds=3), None, 60)
    return totals


def shown(**changes: str) -> dict[str, str]:
    """What Redis holds for `two_events`."""
    right = {
        "events": "2", "play": "0", "pause": "0", "finish": "1", "click": "1", "engagement_seconds": "30.000",
        "avg_engagement_pct": "50.00", "score": "4.8", "last_event_ts": "2026-11-23T15:00:03.000000Z",
    }  # fmt: skip
    return {**right, **changes}


def test_equal_totals_do_not_differ() -> None:
    assert difference(CONTENT, two_events(), 4.8, shown()) is None


@pytest.mark.parametrize(
    ("kind", "score", "stats"),
    [
        ("lost", 4.5, shown(events="1", click="0")),
        ("lost", None, {}),
        ("doubled", 9.3, shown(events="3", finish="2")),
        ("stale", 4.81, shown()),
        ("stale", 4.8, shown(engagement_seconds="30.001")),
        ("stale", 4.8, shown(avg_engagement_pct="49.99")),
        ("stale", 4.8, shown(last_event_ts="2026-11-23T15:00:02.000000Z")),
        ("stale", 4.8, shown(finish="0", play="1")),
    ],
)
def test_a_difference_is_named_by_what_happened(kind: str, score: float | None, stats: dict[str, str]) -> None:
    found = difference(CONTENT, two_events(), score, stats)
    assert found is not None
    assert found.kind == kind


@pytest.mark.parametrize(("score", "stats"), [(4.8, {}), (None, shown())])
def test_a_content_without_rows_must_be_gone_everywhere(score: float | None, stats: dict[str, str]) -> None:
    found = difference(CONTENT, None, score, stats)
    assert found is not None
    assert found.kind == "phantom"
    assert difference(CONTENT, None, None, {}) is None


@pytest.mark.parametrize(
    ("kind", "duration_ms", "length_seconds", "expected"),
    [("play", 30_000, 60, 150_000), ("finish", 90_000, 60, 600_000), ("click", None, 60, 30_000),
     ("pause", 1, 0, 50_000), ("play", 1_005, 7, 114_360), ("play", 5, 100, 100_010)],
)  # fmt: skip
def test_scores_round_half_up_and_end_at_100_per_cent(
    kind: str, duration_ms: int | None, length_seconds: int | None, expected: int
) -> None:
    assert units(kind, percentage(duration_ms, length_seconds)) == expected


def test_the_bound_counts_every_version_of_a_row_once_at_its_most() -> None:
    ledger = Ledger()
    ledger.note_length(CONTENT, 60)
    ledger.note(1, CONTENT, "play", START, 30_000)
    ledger.note(1, CONTENT, "finish", START, 0)
    ledger.note(2, CONTENT, "click", START + timedelta(seconds=10), None)
    ledger.note(3, CONTENT, "click", START + timedelta(seconds=20), None)
    ledger.note(4, CONTENT, "play", START, -1)
    assert ledger.bound(CONTENT, START, START + timedelta(seconds=20)) == (2, 330_000)
    ledger.note(1, CONTENT, "finish", START, 30_000)
    assert ledger.bound(CONTENT, START, START + timedelta(seconds=20)) == (2, 480_000)


def board(rows: Iterable[tuple[str, int, int]], *, half_even: bool = False) -> tuple[float, dict[str, str]]:
    """Score and stats that Redis would show for rows: event type, duration, seconds after START."""
    totals = Totals()
    for kind, duration_ms, second in rows:
        totals.add(kind, START + timedelta(seconds=second), duration_ms, 60)
    score = totals.units / UNITS_PER_POINT
    average = totals.average
    if half_even:
        mean = sum(totals.percentages, Decimal(0)) / len(totals.percentages)
        average = mean.quantize(Decimal("0.01"), ROUND_HALF_EVEN)
    return score, {
        "events": str(totals.events),
        **{kind: str(totals.by_type[kind]) for kind in ("play", "pause", "finish", "click")},
        "engagement_seconds": f"{totals.duration_ms / 1000:.3f}",
        "avg_engagement_pct": str(average),
        "score": str(score),
        "last_event_ts": f"{totals.last_event or START:%Y-%m-%dT%H:%M:%S.%fZ}",
    }


ROWS = [("play", 30_000, 1), ("play", 30_006, 2)]
"""Their percentages are 50.00 and 50.01."""
REPLACED = ("finish", 1_000, 1)
"""What the first one was before an update."""


@pytest.mark.parametrize(
    ("kind", "shown_rows", "half_even"),
    [
        pytest.param("stale", ROWS, True, id="half rounded to even"),
        pytest.param("lost", ROWS[1:], False, id="window of another clock"),
        pytest.param("stale", [REPLACED, *ROWS[1:]], False, id="update not applied"),
        pytest.param("doubled", [REPLACED, *ROWS], False, id="update that takes nothing back"),
        pytest.param("doubled", [*ROWS, *ROWS], False, id="increments repeated"),
    ],
)
def test_a_bug_of_the_board_is_called_by_what_it_shows(
    kind: str, shown_rows: list[tuple[str, int, int]], half_even: bool
) -> None:
    right = Totals()
    for event_type, duration_ms, second in ROWS:
        right.add(event_type, START + timedelta(seconds=second), duration_ms, 60)
    assert difference(CONTENT, right, *board(ROWS)) is None
    found = difference(CONTENT, right, *board(shown_rows, half_even=half_even))
    assert found is not None
    assert found.kind == kind


def test_a_board_of_deleted_rows_is_a_phantom() -> None:
    found = difference(CONTENT, None, *board(ROWS))
    assert found is not None
    assert found.kind == "phantom"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("redis://:hunter2-hunter2@localhost", "REDIS_PASSWORD"),
        ("Authorization: Bearer of-the-receiver", "EXTERNAL_SYSTEM_TOKEN"),
        (f"a row of {USER}", "a user's id"),
    ],
)
def test_a_log_that_tells_a_secret_or_a_user_is_named_with_its_line(tmp_path: Path, line: str, name: str) -> None:
    secrets = {"redis_password": "hunter2-hunter2", "EXTERNAL_SYSTEM_TOKEN": "of-the-receiver", "empty_password": ""}
    canaries = Canaries({**secrets, "KAFKA_BOOTSTRAP_SERVERS": "localhost:9092"}, [USER])
    log = tmp_path / "stream.log"
    log.write_text("ready at localhost:9092\n")
    assert canaries.in_logs(tmp_path) == []
    log.write_text(f"ready\n{line}\n")
    assert canaries.in_logs(tmp_path) == [f"stream.log:2 holds {name}"]


EVENTS: dict[Place, Values] = {
    (0, 4): ("c", 10, 1, CONTENT, USER, "play", START, 30_000, "ios"),
    (0, 6): ("u", 20, 1, CONTENT, USER, "finish", START, 30_000, "ios"),
    (1, 3): ("c", 15, 2, None, None, "click", START, None, None),
}
LETTERS: dict[Place, Values] = {(0, 5): ("E_JSON", b"{"), (1, 4): ("E_RANGE_DURATION", b"{}")}
Rows = list[tuple[Place, Values]]


def pictures(right: dict[Place, Values]) -> dict[str, Rows]:
    """What a table may hold instead, by what a comparison must say of it; right, where that is nothing."""
    (first, one), (second, other), *rest = right.items()
    return {
        "": [(first, one), (second, other), *rest],
        "doubled": [(first, one), (first, one), (second, other), *rest],
        f"{first} is lost": [(second, other), *rest],
        "(2, 9) should not be there": [(first, one), (second, other), *rest, ((2, 9), one)],
        f"{second} is": [(first, one), (second, one), *rest],
        f"{first} is (": [(first, other), (second, one), *rest],  # one in the place of the other
    }


def write(folder: Path, columns: tuple[str, ...], rows: Rows) -> None:
    """Make or extend a table of the lake."""
    names = ("kafka_partition", "kafka_offset", *columns)
    values = [dict(zip(names, (*place, *said), strict=True)) for place, said in rows]
    times = {"event_ts": pa.timestamp("us", "UTC"), "raw_value": pa.binary()}
    whole = ("kafka_partition", "kafka_offset", "version", "event_id", "duration_ms")
    schema = pa.schema([(name, pa.int64() if name in whole else times.get(name, pa.string())) for name in names])
    write_deltalake(folder, pa.Table.from_pylist(values, schema=schema), mode="append")


def told(said: str, differences: list[str]) -> bool:
    """Whether the differences say so, or there are none where nothing is to be said."""
    return any(said in one for one in differences) if said else not differences


@pytest.fixture
def topic() -> Topic:
    found = Topic("", "events")
    found.events |= EVENTS
    found.letters |= {place: (str(said[0]), said[1]) for place, said in LETTERS.items()}
    return found


@pytest.mark.parametrize(("said", "rows"), pictures(EVENTS).items())
def test_rows_of_the_lake_that_differ_are_named(tmp_path: Path, topic: Topic, said: str, rows: Rows) -> None:
    write(tmp_path / "enriched_events", COLUMNS, rows)
    write(tmp_path / "dead_letters", ("code", "raw_value"), list(LETTERS.items()))
    assert told(said, LakeOracle(topic, tmp_path).differences())


@pytest.mark.parametrize(("said", "rows"), pictures(LETTERS).items())
def test_letters_of_the_lake_that_differ_are_named(tmp_path: Path, topic: Topic, said: str, rows: Rows) -> None:
    write(tmp_path / "enriched_events", COLUMNS, list(EVENTS.items()))
    write(tmp_path / "dead_letters", ("code", "raw_value"), rows)
    assert told(said, LakeOracle(topic, tmp_path).differences())


def test_rows_that_were_right_and_are_written_again_are_counted(tmp_path: Path, topic: Topic) -> None:
    write(tmp_path / "enriched_events", COLUMNS, list(EVENTS.items()))
    write(tmp_path / "dead_letters", ("code", "raw_value"), list(LETTERS.items()))
    oracle = LakeOracle(topic, tmp_path)
    assert oracle.differences() == []
    assert oracle.differences() == []
    write(tmp_path / "enriched_events", COLUMNS, list(EVENTS.items())[:1])
    assert oracle.differences() == ["4 rows for 3 events"]


class Warehouse(WarehouseOracle):
    """Whose tables answer with what a test gives."""

    new: Rows
    total: int

    def _client(self) -> Any:  # noqa: ANN401 - of a client, only what is asked here
        return self

    def __enter__(self) -> "Warehouse":
        return self

    def __exit__(self, *_: object) -> None: ...

    def query(self, sql: str) -> "Warehouse":
        self._sql = sql
        return self

    def result(self) -> list[Row]:
        if "count(*)" in self._sql:
            return [Row((self.total,), {"n": 0})]
        names = {"kafka_partition": 0, "kafka_offset": 1}
        return [Row((*place, *said), names) for place, said in self.new]


@pytest.mark.parametrize(("said", "rows"), pictures(EVENTS).items())
def test_rows_of_the_warehouse_that_differ_are_named(topic: Topic, said: str, rows: Rows) -> None:
    oracle = Warehouse(topic, "project", "dataset", "")
    oracle.new, oracle.total = rows, len(rows)
    assert told(said, oracle.differences())


def test_rows_that_the_warehouse_loses_after_they_were_right_are_counted(topic: Topic) -> None:
    oracle = Warehouse(topic, "project", "dataset", "")
    oracle.new, oracle.total = list(EVENTS.items()), len(EVENTS)
    assert oracle.differences() == []
    oracle.new, oracle.total = [], 2
    assert oracle.differences() == ["2 rows for 3 events"]


class Receiver(ReceiverOracle):
    """Which says what a test gives."""

    conflicts = 0

    def stats(self) -> dict[str, Any]:
        return {"conflicts": self.conflicts}

    def _read_versions(self) -> None: ...


VERSIONS = [(1, 10, "c"), (1, 20, "u"), (2, 15, "c")]
DELIVERIES: dict[Place, Values] = {place: (said[2], said[1], "delivered") for place, said in EVENTS.items()}


@pytest.mark.parametrize(
    ("said", "arrived", "conflicts"),
    [
        ("", VERSIONS, 0),
        ("(1, 10, 'c') never arrived", VERSIONS[1:], 0),
        ("(3, 30, 'c') should not have come", [*VERSIONS, (3, 30, "c")], 0),
        ("(1, 20, 'd') should not have come", [VERSIONS[0], (1, 20, "d"), VERSIONS[2]], 0),
        pytest.param("(1, 10, 'c') has come under 2 keys", [*VERSIONS, VERSIONS[0]], 0, id="random key"),
        pytest.param("with another body", VERSIONS, 1, id="another body"),
    ],
)
def test_what_arrived_otherwise_is_named(
    tmp_path: Path, topic: Topic, said: str, arrived: list[tuple[int, int, str]], conflicts: int
) -> None:
    write(tmp_path / "deliveries", ("event_id", "version", "status"), list(DELIVERIES.items()))
    oracle = Receiver(topic, "", "", tmp_path)
    oracle._arrived, oracle.conflicts = Counter(arrived), conflicts
    assert told(said, oracle.differences())


@pytest.mark.parametrize(("said", "rows"), pictures(DELIVERIES).items())
def test_deliveries_that_are_noted_otherwise_are_named(tmp_path: Path, topic: Topic, said: str, rows: Rows) -> None:
    write(tmp_path / "deliveries", ("event_id", "version", "status"), rows)
    oracle = Receiver(topic, "", "", tmp_path)
    oracle._arrived = Counter(VERSIONS)
    assert told(said, oracle.differences())


@pytest.mark.parametrize(
    ("events", "score", "seen"),
    [("1", "1.5", False), ("0", "0", False), ("2", "1.5", True), ("1", "1.50001", True)],
)
def test_the_watcher_sees_what_is_more_than_was_ever_committed(events: str, score: str, seen: bool) -> None:
    ledger = Ledger()
    ledger.note_length(CONTENT, 60)
    ledger.note(1, CONTENT, "play", START, 30_000)
    window = {"window_start": "2026-11-23T15:00:00.000000Z", "window_end": "2026-11-23T15:02:00.000000Z"}
    found = excess(ledger, CONTENT, {**window, "events": events, "score": score})
    assert (found is not None) is seen


class Handed:
    """A message as Kafka's client hands it over."""

    def __init__(self, message: b.Message) -> None:
        self._message = message

    def partition(self) -> int:
        return self._message.partition

    def offset(self) -> int:
        return self._message.offset

    def timestamp(self) -> tuple[int, int]:
        return 1, int(self._message.kafka_ts.timestamp() * 1000)

    def headers(self) -> list[tuple[str, bytes]]:
        return [(name, b"") for name in self._message.headers]

    def value(self) -> bytes | None:
        return self._message.value


def take(topic: Topic, *messages: b.Message) -> None:
    """Let the topic hold these."""
    for message in messages:
        topic._take(Handed(message))  # type: ignore[arg-type]


def version(op: str, lsn: int, at: Place, headers: tuple[str, ...] = (), **columns: Any) -> b.Message:  # noqa: ANN401
    """A version of row 1, or of another."""
    row = b.row(**columns)
    image = {"before": row} if op == "d" else {"after": row}
    return b.message(b.envelope(op, **image, lsn=lsn), offset=at[1], partition=at[0], headers=headers)


def table_row(event_id: int = 1, **columns: object) -> Values:
    """The row that PostgreSQL holds of it."""
    row = b.row(**columns)
    names = ("content_id", "user_id", "event_type", "event_ts", "duration_ms", "device")
    moment = datetime.fromisoformat(str(row["event_ts"]))
    return (event_id, *(moment if name == "event_ts" else row[name] for name in names))


@pytest.mark.parametrize(
    ("said", "messages", "rows"),
    [
        pytest.param("", [version("c", 1, (0, 0))], [table_row()], id="inserted"),
        pytest.param("row 1 is lost", [], [table_row()], id="insert lost"),
        pytest.param(
            "",
            [version("u", 2, (0, 0), duration_ms=5), version("c", 1, (0, 1)), version("u", 2, (0, 2), duration_ms=5)],
            [table_row(duration_ms=5)],
            id="repeated and in disorder",
        ),
        pytest.param("stale", [version("c", 1, (0, 0))], [table_row(duration_ms=5)], id="update lost"),
        pytest.param("", [version("c", 1, (0, 0)), version("d", 2, (0, 1))], [], id="deleted"),
        pytest.param("row 1 was deleted", [version("c", 1, (0, 0))], [], id="deletion lost"),
        pytest.param(
            "row 1 is there", [version("c", 1, (0, 0)), version("d", 2, (0, 1))], [table_row()], id="deletion made up"
        ),
        pytest.param(
            "",
            [
                version("c", 2, (1, 0), ("__debezium.oldkey",), content_id=None),
                version("c", 1, (0, 0)),
                version("d", 2, (0, 1), ("__debezium.newkey",)),
            ],
            [table_row(content_id=None)],
            id="moved",
        ),
        pytest.param(
            "row 1 is there",
            [version("c", 1, (0, 0)), version("d", 2, (0, 1), ("__debezium.newkey",))],
            [table_row(content_id=None)],
            id="half of a move lost",
        ),
        pytest.param(
            "",
            [version("c", 1, (0, 0)), version("u", 2, (0, 1), duration_ms=-1)],
            [table_row(duration_ms=-1)],
            id="made invalid",
        ),
    ],
)
def test_rows_that_the_topic_lacks_are_named(said: str, messages: list[b.Message], rows: list[Values]) -> None:
    topic = Topic("", "events")
    take(topic, *messages)
    live = live_ids(topic.newest)
    differences = row_differences(topic.newest, rows) + id_differences(live, {row[0] for row in rows})
    assert told(said, differences)
