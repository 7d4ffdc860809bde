"""Spark with what set-up has prepared for it: the locked jars, and the archive of classes."""

from collections.abc import Sequence

from pyspark.sql import SparkSession

from engagement.embedded.jars import class_archive, spark_jars
from engagement.session import start_session, submit_arguments


def prepared_session(
    app_name: str, spark_options: Sequence[str], master: str, *, json_logs: bool = False
) -> SparkSession:
    """Start it; `spark_options` are what a person wrote after `--`.

    An archive that is missing, or made for another Java, is passed over: Spark then starts some seconds later.
    """
    archive = (f"-XX:SharedArchiveFile={class_archive()}", "-Xshare:auto", "-Xlog:cds*=off")
    arguments = submit_arguments(spark_jars(), spark_options, master)
    return start_session(app_name, arguments, json_logs=json_logs, jvm_options=archive)
