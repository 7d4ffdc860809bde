"""The files by which Python and Spark's JVM talk on one machine: who may open them, and what is left of them."""

import stat
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from engagement.session import forget_sockets, submit_arguments

pytestmark = pytest.mark.spark


def noted(spark: SparkSession) -> list[str]:
    """What the JVM is going to delete when it ends."""
    java: Any = spark.sparkContext._jvm
    field = java.java.lang.Class.forName("java.io.DeleteOnExitHook").getDeclaredField("files")
    field.setAccessible(True)
    return list(field.get(None))


def test_the_jvm_does_not_remember_every_collect_for_ever(spark: SparkSession) -> None:
    java: Any = spark.sparkContext._jvm
    another = java.java.io.File.createTempFile("another", ".txt")
    another.deleteOnExit()
    for _ in range(3):
        spark.range(1).collect()
    assert sum(name.endswith(".sock") for name in noted(spark)) >= 3
    forget_sockets(spark)
    assert not [name for name in noted(spark) if name.endswith(".sock")]
    assert another.getPath() in noted(spark)
    assert spark.range(1).count() == 1


def test_nobody_else_may_open_a_worker_s_socket(spark: SparkSession) -> None:
    folder = Path(spark.conf.get("spark.python.unix.domain.socket.dir") or "")
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IRWXU


@pytest.mark.parametrize(("master", "by_files"), [("local[2]", True), ("yarn", False), ("spark://host:7077", False)])
def test_elsewhere_than_on_one_machine_they_talk_over_tcp(master: str, by_files: bool) -> None:
    """A container's temporary folder has too long a name for a socket: no Python task could run."""
    arguments = submit_arguments((), (), master)
    assert ("spark.python.unix.domain.socket.enabled=true" in arguments) is by_files
