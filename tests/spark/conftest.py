"""One local SparkSession for all Spark tests: UTC, ANSI, two cores, no UI."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from tests.contract.receiving import Receiving, start_receiver
from tests.spark.partner import Partner
from tests.spark.warehouse import Warehouse, start

from engagement.embedded.bigquery import BigQuery
from engagement.embedded.jars import spark_jars
from engagement.embedded.postgres import Postgres
from engagement.embedded.site import Site

_PROJECT = Path(__file__).resolve().parents[2]
_CHANGES = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    # One JVM runs all tests, and so compiles more than a job does.
    "spark.driver.memory": "2g",
    "spark.driver.extraJavaOptions": (
        "-Xss8m -Duser.timezone=UTC -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
    ),
    "spark.jars": ",".join(str(jar) for jar in spark_jars()),
}
"""What is otherwise than in the jobs' own conf/spark-defaults.conf."""


def job_settings() -> dict[str, str]:
    """Spark's settings as the jobs have them."""
    lines = (_PROJECT / "conf" / "spark-defaults.conf").read_text().splitlines()
    pairs = (line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    return {name: value.strip() for name, value in pairs}


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    # Spark's Python workers import the package and tests.spark.frames too, however pytest was started.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(_PROJECT / "lib"), str(_PROJECT), os.environ.get("PYTHONPATH", "")])
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    builder = SparkSession.builder.master("local[2]").appName("tests")
    for name, value in {**job_settings(), **_CHANGES}.items():
        builder = builder.config(name, value)
    session = builder.config("spark.sql.warehouse.dir", str(tmp_path_factory.mktemp("warehouse"))).getOrCreate()
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
