"""The streaming job put together: composition knows every part, so that no part has to know another."""

from engagement.streaming.build import SINKS, build_job, sinks_to_run
from engagement.streaming.options import warehouse_options

__all__ = ["SINKS", "build_job", "sinks_to_run", "warehouse_options"]
