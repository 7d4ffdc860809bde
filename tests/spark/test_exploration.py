"""What notebooks ask, on real tables, Redis and the emulator; and every cell of the notebooks."""

import ast
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib import pyplot
from pyspark.sql import SparkSession
from redis import Redis
from tests.builders import CONTENT_ID, LSN, Message, created, envelope, in_order, message, row
from tests.contract.receiving import Receiving
from tests.notebooks import NOTEBOOKS, code_cells, each, source_of
from tests.spark.partner import Partner
from tests.spark.test_lake_sink import Lake
from tests.spark.warehouse import Warehouse, start

from engagement.embedded import redis as embedded_redis
from engagement.embedded.bigquery import BigQuery
from engagement.embedded.site import Site
from engagement.errors import EngagementError
from engagement.exploration import Exploration, explore
from engagement.settings import SettingsFiles, resolve

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300)]

STATS = {
    "events": 2, "play": 1, "pause": 0, "finish": 1, "click": 0, "unique_users": 1, "engagement_seconds": "12.5",
    "avg_engagement_pct": "41.67", "score": 4.5, "last_event_ts": "2026-11-23T14:59:59Z",
    "window_start": "2026-11-23T14:50:00Z", "window_end": "2026-11-23T15:00:00Z",
}  # fmt: skip


@pytest.fixture(autouse=True)
def drawings() -> Iterator[None]:
    """They go nowhere, and are forgotten."""
    with mpl.rc_context({"backend": "agg"}):
        yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    service = embedded_redis.Redis(Site(tmp_path_factory.mktemp("home"), {}))
    service.up()
    service.site.release_ports()
    yield service.settings()["REDIS_URL"]
    service.stop()


@pytest.fixture(scope="module")
def pipeline(
    spark: SparkSession,
    receiving: Receiving,
    bigquery: BigQuery,
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Exploration]:
    """One whose sinks hold three events, of which one was changed and one deleted, a refused one, and a ranking."""
    start(bigquery)
    partner, warehouse = Partner(spark, tmp_path_factory.mktemp("a lake"), receiving), Warehouse(spark, bigquery)
    fill(Lake(spark, partner.folder), partner, warehouse, redis_url)
    environment = {
        **bigquery.settings(), "LAKE_PATH": str(partner.folder), "REDIS_URL": redis_url,
        "ENGAGEMENT_HOME": str(partner.folder), "BIGQUERY_DATASET_ID": warehouse.options.dataset,
        # Spark's start writes these; they are given back.
        "PYSPARK_SUBMIT_ARGS": "", "SPARK_SUBMIT_OPTS": "",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as variables:
        for name, value in environment.items():
            variables.setenv(name, value)
        found = explore()
        assert found.spark is spark
        yield found
    for sink in partner.opened:
        sink.close()
    warehouse.close()


def fill(lake: Lake, partner: Partner, warehouse: Warehouse, redis_url: str) -> None:
    first, second = row(id=1), row(id=2)
    later = [envelope("u", {**first, "duration_ms": 5}, first, LSN + 16), envelope("d", None, second, LSN + 32)]
    messages = in_order([*(created(id=n + 1) for n in range(3)), *map(message, later), Message(b"\xff")])
    lake.deliver(lake.driver(), messages)
    partner.deliver(partner.driver(), messages)
    warehouse.deliver(warehouse.driver(), messages)
    with Redis.from_url(redis_url) as client:
        client.zadd("top_content_last_10min", {CONTENT_ID: 4.5})
        client.hset(f"content_stats:{CONTENT_ID}", mapping=STATS)


def exploration(environment: Mapping[str, str], project: Path, spark: SparkSession) -> Exploration:
    found = resolve(environment, SettingsFiles(project))
    return Exploration(found.settings, spark, found.stack_counts)


def test_each_question_has_its_answer(pipeline: Exploration) -> None:
    assert sorted((r.event_id, r.op) for r in pipeline.versions().collect()) == [
        (1, "c"), (1, "u"), (2, "c"), (2, "d"), (3, "c"),
    ]  # fmt: skip
    assert sorted((r.event_id, r.op) for r in pipeline.events().collect()) == [(1, "u"), (3, "c")]
    assert pipeline.events().columns == pipeline.versions().columns
    assert [r.code for r in pipeline.dead_letters().collect()] == ["E_UTF8"]
    assert {r.status for r in pipeline.deliveries().collect()} == {"delivered"}
    (top,) = pipeline.top_content().to_dict("records")
    assert (top["rank"], top["content_id"], top["score"], top["finish"]) == (1, CONTENT_ID, 4.5, 1)
    days = pipeline.days(date(2000, 1, 1), date(2100, 1, 1))
    assert days["events"].sum() == 2
    ends = {date(2026, 11, 23): 0, date(2026, 11, 24): 2, date(2026, 11, 30): 2, date(2026, 12, 1): 0}
    assert {end: pipeline.days(end=end)["events"].sum() for end in ends} == ends, "each the week before it"


def test_events_are_planned_with_one_exchange(pipeline: Exploration) -> None:
    plan = pipeline.events()._jdf.queryExecution().executedPlan().toString()
    assert plan.count("Exchange hashpartitioning(event_id") == 1
    assert plan.count("Exchange") == 1


def test_an_empty_place_says_what_to_do(spark: SparkSession, redis_url: str, tmp_path: Path) -> None:
    environment = {"LAKE_PATH": str(tmp_path / "lake"), "REDIS_URL": f"{redis_url.removesuffix('/0')}/1"}
    pipeline = exploration(environment, tmp_path, spark)
    with pytest.raises(EngagementError, match=r"no table .*/enriched_events yet.*spark-submit\.sh demo"):
        pipeline.events()
    assert pipeline.top_content().empty
    assert "title" in pipeline.top_content().columns


def test_without_a_stack_the_lake_can_still_be_asked_and_the_others_say_what_to_do(
    pipeline: Exploration, tmp_path: Path
) -> None:
    environment = {"LAKE_PATH": str(pipeline.settings.paths.lake_path), "ENGAGEMENT_HOME": str(tmp_path)}
    later = exploration(environment, tmp_path, pipeline.spark)
    assert later.events().count() == 2
    for question in (later.top_content, later.days):
        with pytest.raises(EngagementError, match=r"is not set: .*spark-submit\.sh stack up"):
            question()


def test_where_no_stack_counts_nobody_is_sent_to_one(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "prod.yaml").touch()
    pipeline = exploration({"ENGAGEMENT_CONFIG": "prod"}, tmp_path, spark)
    for question in (pipeline.top_content, pipeline.days):
        with pytest.raises(EngagementError, match=r"is not set$"):
            question()


def run_cell(source: str, names: dict[str, Any]) -> object:
    """As Jupyter does; what its last expression shows."""
    *statements, last = ast.parse(source).body
    rest = [] if isinstance(last, ast.Expr) else [last]
    exec(compile(ast.Module([*statements, *rest], []), "cell", "exec"), names)  # noqa: S102 our own
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # noqa: S307 as well
    return None


def cell_that_says(word: str) -> str:
    (source,) = [source_of(cell) for path in NOTEBOOKS for cell in code_cells(path) if word in source_of(cell)]
    return source


@each
@pytest.mark.usefixtures("pipeline")
def test_every_cell_of_a_notebook_runs(path: Path) -> None:
    """One after the other."""
    names: dict[str, Any] = {}
    shown = [run_cell(source_of(cell), names) for cell in code_cells(path)]
    tables = [one for one in shown if isinstance(one, pd.DataFrame)]
    assert len(tables) >= 5
    assert [list(table["op"]) for table in tables if "op" in table] == [["c", "d", "u"]]
    assert pyplot.get_fignums()


def test_contents_that_share_a_title_stay_apart_in_a_notebook(spark: SparkSession) -> None:
    columns = "content_id string, title string, content_type string, user_id string, engagement_seconds int"
    rows = [("x", "T", "video", "u", 60, 1), ("x", "U", "video", "v", 60, 2), ("y", "U", "video", "u", 60, 1)]
    events = spark.createDataFrame(rows, f"{columns}, processed_ts int")
    counted = run_cell(cell_that_says("group by"), {"events": events, "pipeline": SimpleNamespace(spark=spark)})
    assert isinstance(counted, pd.DataFrame)
    assert counted[["title", "events", "users"]].to_numpy().tolist() == [["U", 2, 2], ["U", 1, 1]]

    lines = [("x", "U", 3.0), ("y", "U", 2.0), ("z", None, 1.0)]
    ranking = pd.DataFrame(lines, columns=["content_id", "title", "score"])
    figure = pyplot.figure()
    shown = {"plt": pyplot, "pipeline": SimpleNamespace(top_content=lambda _: ranking)}
    run_cell(cell_that_says("barh"), shown)
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [3.0, 2.0, 1.0]
    assert len({bar.get_y() for bar in axes.patches}) == 3
    assert [label.get_text() for label in axes.get_yticklabels()] == ["U", "U", "z"]
