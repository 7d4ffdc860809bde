"""How many messages a slow sink's micro-batch takes, and when the warehouse's and the external system's is due."""

from engagement.settings import BigQuerySettings, ExternalSettings
from engagement.sources.kafka import BatchSize

SLOW_BATCH = 1_000_000
"""Messages a slow sink's micro-batch takes at most: with fewer, its trigger would slow down a catch-up."""
_WAREHOUSE_SECONDS = 10.0
"""Between two looks of the warehouse's query: rows that just missed a flush are then visible in time."""
_WAREHOUSE_WRITE_SECONDS = 5.0
"""What a flush may take, out of BIGQUERY_MAX_BATCH_TIME_SECONDS."""
EXTERNAL_BATCH = 40_000
"""Of the external sink: a crash has a micro-batch sent again, so it takes no more than some seconds of sending."""
_EXTERNAL_BACKLOG = 10_000
"""Messages that are sent at once, out of turn."""
_EXTERNAL_LOOK_SECONDS = 1.0
"""Between two looks of the external system's query for such a backlog."""


def flushes(settings: BigQuerySettings) -> tuple[float, BatchSize]:
    """How often the warehouse's query looks for rows, in seconds, and how many it waits for, and how long."""
    trigger = min(settings.max_batch_time_seconds, _WAREHOUSE_SECONDS)
    # What waits past one trigger is taken by the next, and then written.
    longest_wait = max(0.0, settings.max_batch_time_seconds - trigger - _WAREHOUSE_WRITE_SECONDS)
    return trigger, BatchSize(SLOW_BATCH, least=settings.batch_size, longest_wait_seconds=longest_wait)


def postings(settings: ExternalSettings) -> tuple[float, BatchSize]:
    """How often the external system's query looks, in seconds, how many messages it takes, and how it waits for more.

    A micro-batch costs about the same for 50 messages as for 5,000, so in ordinary times one comes every
    EXTERNAL_SYSTEM_INTERVAL_SECONDS. To wait for that between two full ones would be what limits a catch-up.
    """
    look = min(settings.interval_seconds, _EXTERNAL_LOOK_SECONDS)
    return look, BatchSize(EXTERNAL_BATCH, _EXTERNAL_BACKLOG, settings.interval_seconds - look)
