"""Spark's JVM takes its classes out of the archive that set-up has made."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from engagement.embedded.jars import class_archive

pytestmark = pytest.mark.spark


def test_the_archive_is_mapped_into_the_jvm(spark: SparkSession) -> None:
    """Java lets go of one that does not fit, without a word: starts would only be slower."""
    gateway = spark.sparkContext._gateway
    assert gateway is not None
    maps = Path(f"/proc/{gateway.proc.pid}/maps")
    if not maps.exists():
        pytest.skip("this system does not tell what a process has mapped")
    assert str(class_archive()) in maps.read_text()
