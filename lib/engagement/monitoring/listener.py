"""Spark's account of its micro-batches, for the status boards. It can neither fail nor hold up a stream.

A StreamingQueryListener: Spark calls it on a thread of its own, after a micro-batch is over, and ignores what it
answers. pyspark's Python listener turns every event into Python objects by some sixty calls into the JVM, for each of
several micro-batches a second; this one speaks to the same interface of Spark, looks at a query once a second at most,
and then takes the event as one JSON text.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.java_gateway import ensure_callback_server_started
from pyspark.sql import SparkSession

from engagement.monitoring.board import StatusBoard

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


class ProgressListener:
    """Tells the board of the query that carries its sink's name; `clock` is monotonic seconds."""

    def __init__(self, boards: Mapping[str, StatusBoard], clock: Callable[[], float] = time.monotonic) -> None:
        self._boards = boards
        self._clock = clock
        self._lock = threading.Lock()
        self._looked: dict[str, float] = {}
        self.listening: Callable[[], bool] = lambda: True
        """Asked before an event is read."""
        self.failures = 0
        """Events that could not be read; shown in the log once, and otherwise of no consequence."""

    def onQueryStarted(self, event: object) -> None:  # noqa: N802 - the name Spark calls
        """Nothing: the query's own thread knows."""

    def onQueryIdle(self, event: object) -> None:  # noqa: N802
        """Nothing: an idle query has no micro-batch to account for."""

    def onQueryTerminated(self, event: object) -> None:  # noqa: N802
        """Nothing: the query's own thread knows, and why."""

    def onQueryProgress(self, event: Any) -> None:  # noqa: ANN401, N802
        """Note the phases of a micro-batch that is over."""
        try:
            if not self.listening():
                return
            progress = event.progress()
            board = self._boards.get(str(progress.name()))
            if board is not None and self._is_due(board.sink):
                board.record_phases(read_phases(progress.json()))
        except Exception as error:  # noqa: BLE001 - one of the two places that may: a listener never fails a stream
            self.failures += 1
            if self.failures == 1:
                log.warning(
                    "Spark's account of a micro-batch cannot be read (%s); further ones are only counted", error
                )

    def _is_due(self, sink: str) -> bool:
        now = self._clock()
        with self._lock:
            if now - self._looked.get(sink, float("-inf")) < LOOK_SECONDS:
                return False
            self._looked[sink] = now
            return True

    class Java:
        """What py4j shows the JVM."""

        implements = ("org.apache.spark.sql.streaming.PythonStreamingQueryListener",)


def read_phases(progress_json: str) -> dict[str, float]:
    """Milliseconds by phase, from a progress event as Spark writes it.

    >>> read_phases('{"durationMs": {"addBatch": 12, "triggerExecution": 15}}')
    {'addBatch': 12.0, 'triggerExecution': 15.0}
    """
    durations = json.loads(progress_json).get("durationMs", {})
    return {str(phase): float(milliseconds) for phase, milliseconds in durations.items()}


def listen(spark: SparkSession, listener: ProgressListener) -> None:
    """Let a session's queries report to the listener; a Spark that cannot is only logged: streams need no listener."""
    try:
        start: Any = ensure_callback_server_started
        start(spark.sparkContext._gateway)  # as pyspark's own addListener does
        jvm: Any = spark.sparkContext._jvm
        wrapper = jvm.org.apache.spark.sql.streaming.PythonStreamingQueryListenerWrapper(listener)
        session: Any = spark._jsparkSession
        session.streams().addListener(wrapper)
    except (Py4JError, PySparkException, AttributeError, TypeError) as error:
        log.warning("micro-batches will be measured without Spark's own account: %s", error)
