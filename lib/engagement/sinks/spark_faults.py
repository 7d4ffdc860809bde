"""What Spark and Delta can answer, as this project's errors: the same for every sink."""

from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from engagement.errors import TransientSinkError, first_line


@contextmanager
def spark_translated(sink: str) -> Iterator[None]:
    """Turn Spark's and Delta's errors into TransientSinkError; a JVM that has gone stays what it is."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        raise TransientSinkError(sink, first_line(error)) from error
