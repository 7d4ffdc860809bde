"""One local SparkSession for all Spark tests: UTC, ANSI, two cores, no UI."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from tests.contract.receiving import Receiving, start_receiver
from tests.spark.partner import Partner
from tests.spark.warehouse import Warehouse, start

from engagement.embedded.bigquery import BigQuery
from engagement.embedded.postgres import Postgres
from engagement.embedded.site import Site
from engagement.embedded.spark import prepared_session
from engagement.project import PROJECT

_CHANGES = {
    # One JVM runs all tests, and so compiles more than a job does.
    "spark.driver.memory": "2g",
    "spark.driver.extraJavaOptions": (
        "-Xss8m -Duser.timezone=UTC -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
    ),
}
"""What is otherwise than in the jobs' own conf/spark-defaults.conf."""


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    # Spark's Python workers import the package and tests.spark.frames too, however pytest was started.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(PROJECT / "lib"), str(PROJECT), os.environ.get("PYTHONPATH", "")])
    settings = {**_CHANGES, "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse"))}
    options = [word for name, value in settings.items() for word in ("--conf", f"{name}={value}")]
    session = prepared_session("tests", options, "local[2]")
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def bigquery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BigQuery]:
    """The embedded BigQuery, alone; a test that kills it starts it again."""
    service = BigQuery(Site(tmp_path_factory.mktemp("engagement home"), {}))
    start(service)
    yield service
    service.stop()


@pytest.fixture
def warehouse(spark: SparkSession, bigquery: BigQuery) -> Iterator[Warehouse]:
    """A dataset of the test's own."""
    start(bigquery)
    warehouse = Warehouse(spark, bigquery)
    yield warehouse
    warehouse.close()


@pytest.fixture(scope="module")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL of the module's own, without rows."""
    postgres = Postgres(Site(tmp_path_factory.mktemp("engagement"), {}))
    postgres.up()
    postgres.site.release_ports()
    yield postgres.settings()["DATABASE_URL"]
    postgres.stop()
    for folder in postgres.purge_folders():
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def receiving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiving]:
    with start_receiver(tmp_path_factory.mktemp("receiver home")) as running:
        yield running


@pytest.fixture
def partner(spark: SparkSession, receiving: Receiving, tmp_path: Path) -> Iterator[Partner]:
    receiving.heal()
    partner = Partner(spark, tmp_path / f"lake{tmp_path.name}", receiving)
    yield partner
    for sink in partner.opened:
        sink.close()
    receiving.heal()
