"""A new deployment over a table with history: stream from now, backfill before; and what is lost after that."""

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from redis import Redis
from tests.contract.receiving import Receiving, start_receiver
from tests.e2e.support.connectors import Connector
from tests.e2e.support.processes import PATIENCE, JobProcess, await_that
from tests.e2e.support.topic import Topic
from tests.e2e.support.warm import PausableStream, WarmProcess
from tests.e2e.support.world import World

from engagement.monitoring.catalogue import DRIFT_ROWS
from engagement.monitoring.measures import read_measures

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600 * PATIENCE)]

DATASET = "deployment"
YOUNG_SECONDS = 15
"""What the streams bring late may look lost until then."""
QUIET_YOUNG_SECONDS = 3
"""The same where nobody writes."""
COMMAND_SECONDS = 200
EVERYTHING = ("--start-date", "0001-01-01", "--end-date", "2100-01-01")
KEEPERS = ("warehouse", "lake")
"""The sinks that keep rows, and are compared."""
ONLY_KEEPERS = ("--sinks", ",".join(KEEPERS))
Newest = dict[int, tuple[Any, ...]]


class Deployment:
    """A connector, a streaming job and sinks of their own, over the world's table."""

    def __init__(self, world: World, folder: Path, warm: WarmProcess) -> None:
        self.world, self.folder, self.warm = world, folder, warm
        self.connector = Connector(world, "later")
        self.lake = folder / "a lake"
        self.environment = world.job_environment(
            KAFKA_TOPIC_ENGAGEMENT_EVENTS=self.connector.topic, CHECKPOINT_PATH=str(folder / "checkpoints"),
            LAKE_PATH=str(self.lake), BIGQUERY_DATASET_ID=DATASET, ENGAGEMENT_HOME=str(folder),
            REDIS_URL=world.env["REDIS_URL"].rsplit("/", 1)[0] + "/2", REDIS_DB="2",
            RECONCILE_YOUNG_SECONDS=str(YOUNG_SECONDS),
        )  # fmt: skip
        self.redis = Redis.from_url(self.environment["REDIS_URL"], decode_responses=True)
        self.stream = PausableStream(world.process, self.environment, self.redis, KEEPERS)

    def in_chunks(self) -> None:
        """From now on a backfill of the table is a handful of chunks."""
        self.environment["BACKFILL_BATCH_SIZE"] = str(_chunk_rows(self.world))

    def job(self, name: str, *arguments: str) -> JobProcess:
        return JobProcess(name, arguments, self.environment, self.world.home / "logs" / f"{name}-{random.random()}.log")

    def done(self, name: str, *arguments: str, expected: int = 0) -> str:
        """Run a command to its end."""
        return done(self.warm, self.environment, name, *arguments, expected=expected)

    def table(self) -> Newest:
        """What PostgreSQL has of valid rows: the workload's invalid times lie days ahead or in another century."""
        with closing(self.world.connect()) as database, database.cursor() as cursor:
            cursor.execute(
                "select id, content_id::text, event_type, duration_ms from engagement_events "
                "where coalesce(duration_ms, 0) >= 0 and event_ts between '2000-01-01' and now() + interval '1 day'"
            )
            return {row[0]: tuple(row[1:]) for row in cursor.fetchall()}

    def in_lake(self) -> list[dict[str, Any]]:
        columns = ["event_id", "version", "op", "content_id", "event_type", "duration_ms"]
        return DeltaTable(self.lake / "enriched_events").to_pyarrow_table(columns=columns).to_pylist()

    def in_warehouse(self) -> list[dict[str, Any]]:
        return self._query("select event_id, version, op, content_id, event_type, duration_ms from")

    def lose(self, condition: str) -> int:
        """Delete rows from lake and warehouse; how many the lake lost."""
        self._query("delete from", f"where {condition}")
        table = DeltaTable(self.lake / "enriched_events")
        table.alter.set_table_properties({"delta.appendOnly": "false"})
        lost = int(table.delete(condition)["num_deleted_rows"])
        table.alter.set_table_properties({"delta.appendOnly": "true"})
        return lost

    def _query(self, before: str, after: str = "") -> list[dict[str, Any]]:
        oracle = self.world.warehouse_oracle(Topic("", ""), DATASET)
        with oracle._client() as client:
            return [dict(row) for row in client.query(f"{before} `{DATASET}.enriched_events` {after}").result()]

    def differences(self) -> list[str]:
        """How the newest versions differ from the table; rows that are not valid any more keep their last version."""
        table = self.table()
        found: list[str] = []
        valid = set(table)
        with closing(self.world.connect()) as database, database.cursor() as cursor:
            cursor.execute("select id from engagement_events")
            there = {row[0] for row in cursor.fetchall()}
        for sink, rows in (("lake", self.in_lake()), ("warehouse", self.in_warehouse())):
            newest: dict[int, dict[str, Any]] = {}
            for row in sorted(rows, key=lambda row: row["version"]):
                newest[row["event_id"]] = row
            alive = {
                event_id: (row["content_id"], row["event_type"], row["duration_ms"])
                for event_id, row in newest.items()
                if row["op"] != "d" and (event_id in valid or event_id not in there)
            }
            found += [
                f"{sink} {i}: {alive.get(i)} is not {table.get(i)}"
                for i in alive.keys() | valid
                if alive.get(i) != table.get(i)
            ]
            copies = Counter((row["event_id"], row["version"]) for row in rows)
            found += [f"{sink} {key}: {count} times" for key, count in copies.items() if count > 1]
        return found

    def await_equality(self, limit_seconds: float) -> None:
        await_that(lambda: not self.differences(), limit_seconds, lambda: "\n".join(self.differences()[:20]))


def _chunk_rows(world: World) -> int:
    """Rows of which the table has a handful of chunks."""
    with closing(world.connect()) as database, database.cursor() as cursor:
        cursor.execute("select count(*) / 4 from engagement_events")
        row = cursor.fetchone()
        return max(700, int(row[0]) if row else 0)


def done(warm: WarmProcess, environment: Mapping[str, str], name: str, *arguments: str, expected: int = 0) -> str:
    """Run a command to its end; what it said."""
    code, said = warm.run(COMMAND_SECONDS, environment, name, *arguments)
    assert code == expected, said
    return said


@pytest.fixture
def job(world: World) -> PausableStream:
    """The streaming job, running, its board equal to the reference."""
    return world.with_job()


@pytest.fixture
def deployment(world: World, warm: WarmProcess, tmp_path: Path) -> Iterator[Deployment]:
    world.without_job()
    found = Deployment(world, tmp_path, warm)
    found.connector.make_topic()
    try:
        yield found
    finally:
        found.stream.release()
        found.connector.remove()
        found.redis.flushdb()
        found.redis.close()


def test_stream_from_now_and_backfill_before_hold_everything_once_and_reconcile_sees_what_is_lost(
    world: World, deployment: Deployment
) -> None:
    deployment.connector.register()
    deployment.stream.start_and_wait()
    with world.load(rate=150):
        deployment.in_chunks()
        # A first backfill is killed on its way, then two run at once, all beside updates and deletions.
        first = deployment.job("backfill", *EVERYTHING)
        first.start()
        ledgers = deployment.folder / "backfill"
        await_that(lambda: any('"done"' in p.read_text() for p in ledgers.glob("*.jsonl")), 120, first.tail)
        first.kill()
        other = deployment.job("backfill", *EVERYTHING)
        other.start()
        said = deployment.done("backfill", *EVERYTHING)
        assert other.wait(240) == 0, other.tail()
        assert "going on with" in said + other.text()
        assert "nothing differs" in deployment.done("reconcile", *ONLY_KEEPERS)  # while rows come and change
    deployment.await_equality(90)

    # Rows that a sink lost can come back from where they still are, without PostgreSQL's table.
    deployment.in_chunks()
    deployment.environment["RECONCILE_YOUNG_SECONDS"] = str(QUIET_YOUNG_SECONDS)
    lost = deployment.lose("event_type = 'play' and kafka_offset is not null")
    assert lost > 100
    assert deployment.differences()
    deployment.done("backfill", *EVERYTHING, "--source", "kafka", "--sinks", "lake")
    deployment.done("backfill", *EVERYTHING, "--source", "lake", "--sinks", "warehouse")
    assert deployment.differences() == []

    deployment.connector.remove()
    with closing(world.connect()) as database, database, database.cursor() as cursor:
        cursor.execute("select max(id) from engagement_events")
        ((last,),) = cursor.fetchall()
        cursor.execute("update engagement_events set duration_ms = 4242 where id > %s and id %% 7 = 0", (last - 300,))
        cursor.execute("delete from engagement_events where id > %s and id %% 11 = 0", (last - 300,))
        cursor.execute(
            "insert into engagement_events (content_id, event_type, event_ts, duration_ms) "
            "select content_id, event_type, event_ts, duration_ms from engagement_events where id > %s and id %% 5 = 0",
            (last - 100,),
        )
    deployment.connector.register()
    said = deployment.done("reconcile", *ONLY_KEEPERS, expected=1)
    assert all(word in said for word in ("missing", "stale", "phantom", "lake", "warehouse")), said
    told = read_measures(deployment.redis)
    assert sum(one.value for one in told["reconcile:lake"].values if one.metric == DRIFT_ROWS.name) > 0
    report = deployment.lake.parent / "differs.json"
    assert "mended" in deployment.done("reconcile", *ONLY_KEEPERS, "--repair", "--report", str(report))
    found = json.loads(report.read_text())  # as it was before it was mended
    assert all(found[sink][kind] for sink in KEEPERS for kind in ("missing", "stale", "phantom")), found
    deployment.await_equality(30)


def test_the_ranking_is_compared_and_counted_again_while_it_runs(
    world: World, job: PausableStream, warm: WarmProcess, tmp_path: Path
) -> None:
    environment = world.job_environment(ENGAGEMENT_HOME=str(tmp_path), RECONCILE_YOUNG_SECONDS=str(YOUNG_SECONDS))
    with world.load(rate=150):
        job.await_batches(5)
        assert "nothing differs" in done(warm, environment, "reconcile", "--sinks", "redis")
        done(warm, environment, "backfill", "--sinks", "redis", *EVERYTHING)
        job.await_batches(5)
    world.oracle.await_equality(60, least_events=500)


@pytest.fixture
def receiving(tmp_path: Path) -> Iterator[Receiving]:
    """A receiver of the test's own: the stack's is compared with what the streaming job sends."""
    with start_receiver(tmp_path / "another home") as running:
        yield running


def test_history_goes_to_the_receiver_and_what_it_lacks_is_sent(
    world: World, warm: WarmProcess, receiving: Receiving, tmp_path: Path
) -> None:
    with world.load():
        pass  # history, whatever tests there were before
    environment = world.job_environment(
        ENGAGEMENT_HOME=str(tmp_path), LAKE_PATH=str(tmp_path / "a lake"), EXTERNAL_SYSTEM_INSTALLATION="history",
        EXTERNAL_SYSTEM_BACKFILL_RATE="20000", RECONCILE_YOUNG_SECONDS="1", **receiving.env,
    )  # fmt: skip

    def newest() -> dict[int, tuple[int, str]]:
        columns = ["event_id", "version", "op", "status"]
        rows = DeltaTable(tmp_path / "a lake" / "deliveries").to_pyarrow_table(columns=columns).to_pylist()
        assert {row["status"] for row in rows} == {"delivered"}
        in_order = sorted(rows, key=lambda row: row["version"])
        return {row["event_id"]: (row["version"], row["op"]) for row in in_order}

    done(warm, environment, "backfill", *EVERYTHING, "--sinks", "lake,external")
    sent = newest()
    assert receiving.stats()["delivered"] == len(sent) > 100
    assert set(sent.values()) == {(0, "r")}
    with closing(world.connect()) as database, database, database.cursor() as cursor:
        cursor.execute("update engagement_events set duration_ms = 4243 where id = %s", (max(sent),))
        cursor.execute("delete from engagement_events where id = %s", (min(sent),))
    assert "external: mended" in done(warm, environment, "reconcile", "--sinks", "external", "--repair")
    assert [newest()[event_id][1] for event_id in (max(sent), min(sent))] == ["u", "d"]
    assert "nothing differs" in done(warm, environment, "reconcile", "--sinks", "external")
