"""The one place that makes a SparkSession."""

import os
import shlex
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path

from pyspark.sql import SparkSession

PROJECT = Path(__file__).resolve().parents[2]

_ENFORCED = {
    # Not pinned by a checkpoint: the same naive timestamp would move with the machine's zone.
    "spark.sql.session.timeZone": "UTC",
    # An overflow is an error everywhere, never a silent NULL; data goes through try_* functions only.
    "spark.sql.ansi.enabled": "true",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # Passwords of clients, wherever Spark would print its configuration or a plan.
    "spark.redaction.regex": "(?i)secret|password|passwd|token|url|jaas|key",
    "spark.sql.redaction.options.regex": "(?i)url|password|secret|token|jaas",
}


def submit_arguments(jars: Sequence[Path], spark_options: Sequence[str], settings: Mapping[str, str]) -> str:
    """What pyspark hands to spark-submit when it starts the JVM.

    Order decides: conf/spark-defaults.conf, then ours, then what the person wrote after `--`.
    """
    ours = [
        "--conf", f"spark.scheduler.allocation.file={(PROJECT / 'conf' / 'fair-scheduler.xml').as_uri()}",
        "--jars", ",".join(str(jar) for jar in jars),
    ]  # fmt: skip
    for name, value in {**settings, **_ENFORCED}.items():
        ours += ["--conf", f"{name}={value}"]
    return shlex.join([*ours, *spark_options, "pyspark-shell"])


def start_session(app_name: str, arguments: str, environment: MutableMapping[str, str] = os.environ) -> SparkSession:
    """Start Spark's JVM, or take the one that spark-submit started already."""
    environment.setdefault("SPARK_CONF_DIR", str(PROJECT / "conf"))
    environment.setdefault("PYSPARK_PYTHON", sys.executable)
    environment.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    environment["PYSPARK_SUBMIT_ARGS"] = arguments
    builder = SparkSession.builder.appName(app_name)
    for name, value in _ENFORCED.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    # Driver logging is set by conf/log4j2.properties; this silences what the shell entry point adds.
    session.sparkContext.setLogLevel("WARN")
    return session
