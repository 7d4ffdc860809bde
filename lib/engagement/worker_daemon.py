"""Spark's Python daemon, started warm.

Spark forks every Python worker from one daemon, and runs `gc.collect()` after every task: 37 ms with pandas and
pyarrow loaded. Importing what workers need before the fork, and freezing it out of the collector's sight, makes
that pass nearly free and spares each worker the imports. Named by `spark.python.daemon.module`.
"""

import gc
import os

import msgpack  # noqa: F401  imported for the workers that are forked from here
import pandas  # noqa: F401
import pyarrow  # noqa: F401
from pyspark import daemon, worker  # noqa: F401

import engagement.sinks.bigquery.writer
import engagement.sinks.external.task
import engagement.sinks.lake.chunk_files
import engagement.sinks.redis.writer
import engagement.sources.table_copy
import engagement.transform.changes  # noqa: F401
from engagement.workers import NICENESS

if __name__ == "__main__":
    os.nice(int(os.environ.get(NICENESS, "0")))  # and so those that are forked from here
    gc.collect()
    gc.freeze()
    daemon.manager()
