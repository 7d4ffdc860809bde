"""Spark's Python daemon, started warm.

Spark forks every Python worker from one daemon, and runs `gc.collect()` after every task: 37 ms with pandas and
pyarrow loaded. Importing what workers need before the fork, and freezing it out of the collector's sight, makes
that pass nearly free and spares each worker the imports. Named by `spark.python.daemon.module`.
"""

import gc
import os
from collections.abc import Callable

import msgpack  # noqa: F401  imported for the workers that are forked from here
import pandas  # noqa: F401
import pyarrow  # noqa: F401
from pyspark import daemon, worker  # noqa: F401

import engagement.sinks.bigquery.writer
import engagement.sinks.external.task
import engagement.sinks.lake.chunk_files
import engagement.sinks.lake.writer
import engagement.sinks.redis.writer
import engagement.sources.table_copy
import engagement.transform.changes  # noqa: F401
from engagement.workers import NICENESS

Worker = Callable[..., int]
"""What pyspark's daemon runs in a process that it has forked; the exit code."""


def ending_quietly(work: Worker) -> Worker:
    """End the process without a word where nobody is left to hear one.

    When a job ends, Spark's JVM may be gone before a worker that gives way has said its last; pyspark would show that
    to the person who stopped the job. What fails in a task is told through the socket, not like this.
    """

    def run(*given: object) -> int:
        try:
            return work(*given)
        except BrokenPipeError:
            os._exit(1)

    return run


if __name__ == "__main__":
    daemon.worker = ending_quietly(daemon.worker)
    os.nice(int(os.environ.get(NICENESS, "0")))  # and so those that are forked from here
    gc.collect()
    gc.freeze()
    daemon.manager()
