"""History and stream into the same tables of a real lake and a real warehouse, in every order, killed and repeated."""

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import pytest
from deltalake import DeltaTable
from google.cloud.bigquery import Table
from pyspark.sql import DataFrame, Row, SparkSession
from tests.builders import LSN, Message, created, envelope, message, row
from tests.spark import frames
from tests.spark.history import READ, History, Seed
from tests.spark.tables import rows_of
from tests.spark.warehouse import IDENTITY, NOW, CrashError, Warehouse, part

from engagement import schemas
from engagement.backfill.ledger import Ledger, Planned
from engagement.backfill.progress import Audience
from engagement.backfill.run import Backfill, Pace
from engagement.backfill.sources import LakeSource, TopicSource
from engagement.errors import TransientSinkError
from engagement.identity import Fence
from engagement.monitoring.measures import Nothing
from engagement.sinks.base import Chunk, Loaded, Loader
from engagement.sinks.bigquery.load import WarehouseLoader
from engagement.sinks.bigquery.rest import Answered, Parameter, Rest
from engagement.sinks.delta.log import DeltaLog
from engagement.sinks.held import without
from engagement.sinks.lake.backfill import LakeLoader
from engagement.sinks.lake.sink import LakeOptions, LakeSink
from engagement.sources.content import ContentCatalogue, JdbcAddress
from engagement.sources.history import Span
from engagement.transform.changes import Changes

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

SEEDS = 50
Held = dict[str, Any]


class Place(Protocol):
    """A sink, its loader, and what its table holds."""

    def stream(self, messages: Sequence[Message], first: int) -> None: ...

    def loader(self) -> Loader: ...

    def rows(self) -> list[Held]: ...

    def empty(self) -> None: ...


@dataclass
class Lake:
    spark: SparkSession
    folder: Path

    def __post_init__(self) -> None:
        self.sink = LakeSink(self.spark, LakeOptions(str(self.folder)), lambda: "first", _nobody, lambda: NOW)
        self.sink.open()

    def stream(self, messages: Sequence[Message], first: int) -> None:
        self.sink.deliver(_changes(self.spark, messages, first), _ranges(messages, first), IDENTITY, final=True)

    def loader(self) -> LakeLoader:
        loader = LakeLoader(self.spark, str(self.folder), lambda: READ)
        loader.open()
        return loader

    def rows(self) -> list[Held]:
        return [row.asDict() for row in rows_of(self.sink.events)]

    def empty(self) -> None:
        shutil.rmtree(self.folder)

    def letters(self) -> list[Held]:
        return [row.asDict() for row in rows_of(self.sink.dead_letters)]


@dataclass
class Bank:
    """The warehouse, with the lake's names for its columns."""

    warehouse: Warehouse
    lock: Any = None

    def __post_init__(self) -> None:
        self.sink = self.warehouse.driver()
        self.lock = self.lock or threading.Lock()

    def stream(self, messages: Sequence[Message], first: int) -> None:
        changes = _changes(self.warehouse.spark, messages, first)
        self.sink.fence()
        self.sink.deliver(changes, _ranges(messages, first), IDENTITY, final=True)

    def loader(self) -> WarehouseLoader:
        loader = WarehouseLoader(self.warehouse.options, lambda: self.lock, lambda: READ)
        loader.open()
        return loader

    def rows(self) -> list[Held]:
        return [{**row, "event_ts": row["event_timestamp"]} for row in self.warehouse.rows()]

    def empty(self) -> None:
        self.warehouse.drop()


@pytest.fixture(params=["lake", "warehouse"])
def place(request: pytest.FixtureRequest, spark: SparkSession, tmp_path: Path) -> Place:
    if request.param == "lake":
        return Lake(spark, tmp_path / "a lake")
    return Bank(request.getfixturevalue("warehouse"))


@pytest.fixture
def history(spark: SparkSession) -> History:
    return History(spark)


def _nobody(_times: object) -> None:
    """Nobody asks when rows became visible."""


def _changes(spark: SparkSession, messages: Sequence[Message], first: int) -> Changes:
    return frames.changes(spark, [Message(m.value, offset=first + n) for n, m in enumerate(messages)])


def _ranges(messages: Sequence[Message], first: int) -> list[Any]:
    return [part(first, first + len(messages))]


def newest(rows: Sequence[Held]) -> dict[int, Held]:
    """The newest version of each event that is not deleted."""
    found: dict[int, Held] = {}
    for one in sorted(rows, key=lambda held: held["version"]):
        found[one["event_id"]] = one
    return {event_id: one for event_id, one in found.items() if one["op"] != "d"}


def table(count: int) -> list[dict[str, object]]:
    return [row(id=n + 1, duration_ms=1_000 * n) for n in range(count)]


def keys(rows: Sequence[Held]) -> Counter[tuple[int, int]]:
    return Counter((one["event_id"], one["version"]) for one in rows)


def test_fifty_overlaps_of_stream_and_backfill_end_as_the_table_stands(place: Place, history: History) -> None:
    """Each seed has a schedule of its own; one step of all of them is one micro-batch and one chunk."""
    seeds, offset = [Seed(number) for number in range(SEEDS)], 0
    for now in range(seeds[0].steps):
        due = [message for seed in seeds for message in seed.step(now)]
        loads = [one for seed in seeds for one in seed.read.get(now, {}).values()]
        if loads and now % 2:
            place.loader().load(history.chunk(loads, f"chunk_{now}"))
        place.stream(due, offset)
        offset += len(due)
        if loads and not now % 2:
            place.loader().load(history.chunk(loads, f"chunk_{now}"))
    held = place.rows()
    wanted = {event_id: one for seed in seeds for event_id, one in seed.rows.items() if _was_seen(seed, event_id)}
    found = newest(held)
    assert found.keys() == wanted.keys()
    assert {i: found[i]["duration_ms"] for i in found} == {i: wanted[i]["duration_ms"] for i in wanted}
    assert max(keys(held).values()) == 1
    versions = {key for seed in seeds for key in seed.versions}
    assert {key for key in keys(held) if key[1] > 0} == versions
    assert sum(1 for one in held if one["version"] == 0) > SEEDS  # backfill did its part


def _was_seen(seed: Seed, event_id: int) -> bool:
    """Whether stream or backfill ever had the row: what was committed before both is nobody's."""
    streamed = any(key[0] == event_id for key in seed.versions)
    return streamed or any(event_id in rows for rows in seed.read.values())


def test_tables_that_were_made_anew_are_another_destination(place: Place) -> None:
    first, again = (place.loader().destination() for _ in range(2))
    place.empty()
    assert (again == first, place.loader().destination() == first) == (True, False)


@dataclass
class Tens:
    """A source of twenty rows in two chunks; tells when it is asked for one."""

    history: History
    asked: Callable[[], None]

    def identity(self) -> str:
        return "a table"

    def await_writers(self) -> Sequence[str]:
        return ()

    def plan(self) -> list[Planned]:
        return [Planned(((first, first + 10),), 10) for first in (0, 10)]

    def chunk(self, planned: Planned, name: str) -> Chunk:
        self.asked()
        ((first, end),) = planned.parts
        return self.history.chunk(table(20)[first:end], name)


def test_a_run_that_is_gone_on_with_fills_what_a_restore_has_emptied(
    spark: SparkSession, tmp_path: Path, history: History
) -> None:
    lake, stop = Lake(spark, tmp_path / "a lake"), threading.Event()
    ledger = Ledger(tmp_path / "ledger.jsonl", lambda: "run", time.time)
    audience, pace = Audience(lambda _: None, Nothing()), Pace(time.monotonic, stop)
    Backfill(Tens(history, stop.set), [lake.loader()], ledger, audience, pace).run()
    assert len(lake.rows()) == 10
    DeltaTable(lake.sink.events.path).restore(0)
    stop.clear()
    (outcome,) = Backfill(Tens(history, lambda: None), [lake.loader()], ledger, audience, pace).run()
    assert (outcome.skipped_chunks, outcome.written) == (0, 20)
    assert keys(lake.rows()) == Counter({(n + 1, 0): 1 for n in range(20)})


def test_a_chunk_is_added_once_however_often_it_comes(place: Place, history: History) -> None:
    first = place.loader().load(history.chunk(table(30)))
    again = place.loader().load(history.chunk(table(40), "chunk_1"))
    assert (first, again) == (Loaded(30, 30), Loaded(40, 10))
    assert keys(place.rows()) == Counter({(n + 1, 0): 1 for n in range(40)})


@pytest.mark.parametrize(("most", "broadcast"), [(30, True), (29, False)])
def test_more_keys_than_the_driver_has_room_for_are_not_sent_to_the_tasks(
    spark: SparkSession, tmp_path: Path, history: History, most: int, broadcast: bool
) -> None:
    lake = Lake(spark, tmp_path / "a lake")
    lake.loader().load(history.chunk(table(30)))
    chunk, loader = history.chunk(table(40), "chunk_1"), lake.loader()
    rows = DeltaLog(loader.events).most_rows("event_id", chunk.ids)
    held = loader.events.read(spark).select("event_id")
    # Spark itself broadcasts what its statistics call small, which a test's table is.
    spark.conf.set("spark.sql.autoBroadcastJoinThreshold", "-1")
    try:
        plan = (
            without(chunk.changes.frame(), held, chunk.key, rows, most)._jdf.queryExecution().executedPlan().toString()
        )
        assert ("BroadcastExchange" in plan) == broadcast
        loader.broadcast_rows = most
        assert loader.load(chunk) == Loaded(40, 10)
    finally:
        spark.conf.unset("spark.sql.autoBroadcastJoinThreshold")
    assert keys(lake.rows()) == Counter({(n + 1, 0): 1 for n in range(40)})


def lake_source(lake: Lake, taken: Fence, own: Fence) -> LakeSource:
    span = Span(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    return LakeSource(lake.spark, lake.sink.events, span, lambda: taken, lambda: own, str)


@pytest.mark.parametrize(
    ("taken", "own", "ids"),
    [
        ({0: 3}, {0: 3}, range(1, 11)),  # those from 3 on are of an earlier topic
        ({0: 3}, {0: 10}, range(1, 4)),
        ({0: 3}, {0: 5}, [1, 2, 3, 6, 7, 8, 9, 10]),
        ({}, {0: 10}, []),
        ({}, {}, range(1, 11)),
        ({1: 5}, {1: 7}, range(1, 11)),
    ],
)
def test_rows_of_an_earlier_topic_are_copied_and_what_the_stream_will_bring_is_not(
    spark: SparkSession, tmp_path: Path, taken: Fence, own: Fence, ids: Sequence[int]
) -> None:
    lake = Lake(spark, tmp_path / "lake")
    lake.stream([created(id=n + 1) for n in range(10)], 0)
    source = lake_source(lake, taken, own)
    planned = source.plan()
    lake.stream([created(id=n) for n in (11, 12)], 10)  # beyond the fence that was asked for, and the stream's
    found = [row.event_id for part in planned for row in source.chunk(part, "x").changes.frame().collect()]
    assert (sorted(found), sum(part.rows for part in planned)) == (list(ids), len(ids))


def test_deletions_without_a_time_are_copied_too(spark: SparkSession, tmp_path: Path, warehouse: Warehouse) -> None:
    lake, bank = Lake(spark, tmp_path / "lake"), Bank(warehouse)
    deleted = message(envelope("d", None, row(id=1, event_ts="infinity"), lsn=LSN + 8))
    lake.stream([created(id=1), created(id=2), deleted], 0)
    source = lake_source(lake, {0: 3}, {0: 3})
    for _ in range(2):
        for number, planned in enumerate(source.plan()):
            bank.loader().load(source.chunk(planned, f"chunk_{number}"))
    assert (newest(bank.rows()).keys(), len(bank.rows())) == ({2}, 3)
    assert [one["event_id"] for one in warehouse.rows("current_events")] == [2]


def test_versions_from_the_topic_are_the_rows_and_not_what_they_took_back(place: Place, history: History) -> None:
    """An update is two rows of one version, and so are the two messages of a move between contents of one partition."""
    sent: list[Message] = []
    for n in range(1, 41):
        lsn, now, before = LSN + 8 * n, row(id=n, duration_ms=2), row(id=n, duration_ms=1)
        if n % 2:
            sent.append(message(envelope("u", now, before, lsn=lsn)))
        else:
            sent.append(message(envelope("d", None, before, lsn=lsn), headers=("__debezium.newkey",)))
            sent.append(message(envelope("c", now, lsn=lsn), headers=("__debezium.oldkey",)))
    topic = [replace(one, offset=at) for at, one in enumerate(sent)]
    loaded = place.loader().load(history.streamed(topic, ("event_id", "version"), "kafka_0"))
    assert loaded == Loaded(40, 40)
    wanted = {(LSN + 8 * n, 2): 1 for n in range(1, 41)}
    assert Counter((one["version"], one["duration_ms"]) for one in place.rows()) == Counter(wanted)


def test_rows_hold_what_the_stream_would_have_stored(place: Place, history: History) -> None:
    rows = [
        row(id=1, duration_ms=45_000, raw_payload='{"b": [1, {"c": null}], "a": 1.50}'),
        row(id=2, content_id=None, user_id=None, duration_ms=None, device=None, raw_payload=None),
        row(id=3, duration_ms=90_000_000, raw_payload='"text"', device='"\\é😀'),
    ]
    place.stream([message(envelope("r", after={**one, "id": int(str(one["id"])) + 10})) for one in rows], 0)
    place.loader().load(history.chunk(rows))
    other = {
        "event_id",
        "version",
        "kafka_partition",
        "kafka_offset",
        "kafka_ts",
        "processed_ts",
        "processed_timestamp",
    }
    held = {one["event_id"]: {n: v for n, v in one.items() if n not in other} for one in place.rows()}
    assert [held[n] for n in (1, 2, 3)] == [held[n + 10] for n in (1, 2, 3)]


def test_refused_rows_are_dead_letters_once(spark: SparkSession, tmp_path: Path, history: History) -> None:
    lake = Lake(spark, tmp_path / "lake")
    rows = [row(id=1), row(id=2, duration_ms=-1), row(id=3)]
    loaded = [lake.loader().load(history.chunk(rows, f"chunk_{n}")) for n in range(2)]
    assert loaded == [Loaded(2, 2, 1), Loaded(2, 0, 1)]
    (letter,) = lake.letters()
    assert (letter["kafka_offset"], letter["code"], letter["status"]) == (2, "E_RANGE_DURATION", "new")
    assert sorted(one["event_id"] for one in lake.rows()) == [1, 3]


def test_a_letter_of_a_topic_that_was_made_again_is_not_the_old_one_at_its_place(
    spark: SparkSession, tmp_path: Path, history: History
) -> None:
    lake, refused = Lake(spark, tmp_path / "lake"), created(duration_ms=-1)
    lake.stream([refused], 0)
    later = replace(refused, kafka_ts=refused.kafka_ts + timedelta(hours=1))
    for number, again in enumerate((refused, later, later)):
        lake.loader().load(history.streamed([again], ("event_id", "version"), f"kafka_{number}"))
    times = sorted(letter["kafka_ts"].replace(tzinfo=UTC) for letter in lake.letters())
    assert times == [refused.kafka_ts, later.kafka_ts]


def die() -> None:
    raise CrashError


class DyingLake(LakeLoader):
    """Dies before or after one of its steps."""

    def __init__(self, lake: Lake, step: str, *, before: bool) -> None:
        super().__init__(lake.spark, str(lake.folder), lambda: READ)
        real = getattr(self, step)

        def run(*arguments: object) -> object:
            if before:
                die()
            result = real(*arguments)
            die()
            return result

        setattr(self, step, run)


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("step", ["_append", "_add_dead_letters"])
def test_the_lake_survives_a_crash_around_each_of_its_steps(
    spark: SparkSession, tmp_path: Path, history: History, step: str, *, before: bool
) -> None:
    lake = Lake(spark, tmp_path / "lake")
    rows = [row(id=1), row(id=2, duration_ms=-1), row(id=3)]
    with pytest.raises(CrashError):
        DyingLake(lake, step, before=before).load(history.chunk(rows))
    lake.loader().load(history.chunk(rows))
    assert keys(lake.rows()) == Counter({(1, 0): 1, (3, 0): 1})
    assert [one["kafka_offset"] for one in lake.letters()] == [2]


class DyingRest(Rest):
    """Dies before or after a statement."""

    def __init__(self, warehouse: Warehouse, statement: str, *, before: bool) -> None:
        super().__init__(warehouse.options)
        self._statement, self._before = statement, before

    def text(self, statement: str, **names: str) -> str:
        if statement == self._statement and self._before:
            die()
        return super().text(statement, **names)

    def run(self, statement: str, parameters: Sequence[Parameter] = (), **names: str) -> Answered:
        if statement == "count_staged" and not self._before:  # the step after it
            die()
        return super().run(statement, parameters, **names)


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_the_warehouse_survives_a_crash_around_its_insert(
    warehouse: Warehouse, history: History, *, before: bool
) -> None:
    bank = Bank(warehouse)
    dying = bank.loader()
    dying._rest = DyingRest(warehouse, "insert_missing", before=before)
    with pytest.raises(CrashError):
        dying.load(history.chunk(table(10)))
    assert len(bank.rows()) == (0 if before else 10)
    assert bank.loader().load(history.chunk(table(10))).written == (10 if before else 0)
    assert keys(bank.rows()) == Counter({(n + 1, 0): 1 for n in range(10)})


@pytest.mark.parametrize("step", ["_add_dead_letters", "_append"])
def test_what_the_lake_added_before_a_chunk_failed_counts_as_written(
    spark: SparkSession, tmp_path: Path, history: History, step: str
) -> None:
    loader = Lake(spark, tmp_path / "lake").loader()
    real = getattr(loader, step)

    def fail_once_it_is_done(*arguments: object) -> None:
        setattr(loader, step, real)
        real(*arguments)
        raise TransientSinkError("lake", "is away")

    setattr(loader, step, fail_once_it_is_done)
    rows = [row(id=1), row(id=2, duration_ms=-1), row(id=3)]
    with pytest.raises(TransientSinkError):
        loader.load(history.chunk(rows))
    assert loader.load(history.chunk([*rows, row(id=4)])) == Loaded(3, 3, 1)
    assert loader.load(history.chunk(rows)) == Loaded(2, 0, 1)  # in another run, say


def test_what_the_warehouse_added_before_a_chunk_failed_counts_as_written(
    warehouse: Warehouse, history: History
) -> None:
    loader = Bank(warehouse).loader()
    rest = loader._rest
    loader._rest = DyingRest(warehouse, "insert_missing", before=False)
    with pytest.raises(CrashError):
        loader.load(history.chunk(table(10)))
    loader._rest = rest
    assert loader.load(history.chunk(table(10))) == Loaded(10, 10)
    assert loader.load(history.chunk(table(10))) == Loaded(10, 0)


def test_a_task_that_loads_twice_adds_its_rows_once(warehouse: Warehouse, history: History) -> None:
    bank, loader = Bank(warehouse), Bank(warehouse).loader()
    real = loader._stage

    def twice(chunk: Chunk, staging: Table) -> list[Row]:
        real(chunk, staging)
        return real(chunk, staging)

    loader._stage = twice  # type: ignore[method-assign]
    assert loader.load(history.chunk(table(10))) == Loaded(10, 10)
    assert max(keys(bank.rows()).values()) == 1


def at_once(works: Sequence[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def until_done(loader: Loader, chunk: Chunk) -> Iterator[Loaded]:
    """As a backfill does: again after another one was faster."""
    for _ in range(20):
        try:
            yield loader.load(chunk)
        except TransientSinkError:
            continue
        return


def test_two_backfills_at_once_add_each_row_once(place: Place, history: History) -> None:
    loaders = [place.loader(), place.loader()]
    done: list[Loaded] = []
    chunks = [history.chunk(table(60), "first_0"), history.chunk(table(40), "second_0")]
    at_once(
        [
            lambda loader=loader, chunk=chunk: done.extend(until_done(loader, chunk))
            for loader, chunk in zip(loaders, chunks, strict=True)
        ]
    )
    assert len(done) == 2
    assert sum(one.written for one in done) == 60
    assert keys(place.rows()) == Counter({(n + 1, 0): 1 for n in range(60)})


def test_a_second_backfill_that_read_the_same_number_is_left_out_and_looks_again(
    spark: SparkSession, tmp_path: Path, history: History
) -> None:
    """The lake: both looked before either wrote; what keeps the second from adding everything again is the number."""
    lake = Lake(spark, tmp_path / "lake")
    slow, fast = lake.loader(), lake.loader()
    real = slow._held

    def look_then_wait(chunk: Chunk, log: DeltaLog) -> DataFrame | None:
        looked = real(chunk, log)
        fast.load(history.chunk(table(10), "fast_0"))
        return looked

    slow._held = look_then_wait  # type: ignore[method-assign]
    with pytest.raises(TransientSinkError, match="another writer"):
        slow.load(history.chunk(table(10), "slow_0"))
    assert keys(lake.rows()) == Counter({(n + 1, 0): 1 for n in range(10)})


@pytest.mark.parametrize("times", [None, (datetime(1, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))])
def test_versions_that_kafka_still_holds_are_added_by_version(
    place: Place, history: History, times: tuple[datetime, datetime] | None
) -> None:
    seed = Seed(3, steps=4)
    messages = [message for now in range(4) for message in seed.step(now)]
    sent = [Message(m.value, offset=n) for n, m in enumerate(messages)]
    place.stream(messages[:3], 0)
    chunk = history.streamed([*sent, Message(sent[-1].value, offset=99)], ("event_id", "version"), "topic_0")
    place.loader().load(replace(chunk, times=times))
    assert set(keys(place.rows())) == seed.versions
    assert max(keys(place.rows()).values()) == 1


def test_a_letter_lies_where_its_message_does_and_not_where_its_event_would(spark: SparkSession) -> None:
    ahead = frames.messages(spark, [message(envelope(after=row(event_ts="2027-05-01T00:00:00Z")))])
    catalogue = ContentCatalogue(spark, JdbcAddress("", {}), "")
    contents = catalogue.snapshot(spark.createDataFrame([], schemas.CONTENT).toArrow())
    topic: Any = SimpleNamespace(topic="engagement-events", read=lambda *_: ahead)
    known: Any = SimpleNamespace(load=lambda _: contents)
    nobody: Any = None
    day = Span(datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=UTC))
    source = TopicSource(spark, topic, nobody, known, day, 1, dict, str)
    (letter,) = source.chunk(Planned(((0, 0, 1),), 1), "chunk_0").changes.frame().collect()
    assert letter["code"] == "E_TS_FUTURE"
