"""How many messages a slow sink's micro-batch takes, and when the warehouse's is due."""

from engagement.settings import BigQuerySettings
from engagement.sources.kafka import BatchSize

SLOW_BATCH = 1_000_000
"""Messages a slow sink's micro-batch takes at most: with fewer, its trigger would slow down a catch-up."""
_WAREHOUSE_SECONDS = 10.0
"""Between two looks of the warehouse's query: rows that just missed a flush are then visible in time."""
_WAREHOUSE_WRITE_SECONDS = 5.0
"""What a flush may take, out of BIGQUERY_MAX_BATCH_TIME_SECONDS."""


def flushes(settings: BigQuerySettings) -> tuple[float, BatchSize]:
    """How often the warehouse's query looks for rows, in seconds, and how many it waits for, and how long."""
    trigger = min(settings.max_batch_time_seconds, _WAREHOUSE_SECONDS)
    # What waits past one trigger is taken by the next, and then written.
    longest_wait = max(0.0, settings.max_batch_time_seconds - trigger - _WAREHOUSE_WRITE_SECONDS)
    return trigger, BatchSize(SLOW_BATCH, least=settings.batch_size, longest_wait_seconds=longest_wait)
