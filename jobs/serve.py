"""`serve`: the monitoring API and its page, until Ctrl-C."""

import sys
from collections.abc import Mapping

from engagement.command import Command, Context, main
from engagement.monitoring.api import create_app
from engagement.monitoring.server import address, build_parts, listen, serve_until
from engagement.settings.sources import STACK, read_stack

SETTING_OF: Mapping[str, str] = {
    "postgres": "DATABASE_URL",
    "replication_slot": "DATABASE_URL",
    "kafka": "KAFKA_BOOTSTRAP_SERVERS",
    "connect": "KAFKA_CONNECT_URL",
    "source": "KAFKA_BOOTSTRAP_SERVERS",
    "redis": "REDIS_URL",
    "warehouse": "BIGQUERY_EMULATOR_HOST",
    "external": "EXTERNAL_SYSTEM_URL",
    "lake": "LAKE_PATH",
}


def embedded_components(context: Context) -> set[str]:
    """Name the components whose address is the running embedded stack's, however this command came to know it."""
    stack = read_stack(context.files, str(context.settings.paths.engagement_home)).values
    ours = {
        name
        for name in set(SETTING_OF.values()) & stack.keys()
        if context.origins.get(name) == STACK or context.environment.get(name) == stack[name]
    }
    return {component for component, name in SETTING_OF.items() if name in ours}


def run(context: Context) -> None:
    """Serve on METRICS_HOST:METRICS_PORT and say where."""
    settings = context.settings
    parts = build_parts(settings, context.files.project, embedded_components(context))
    with listen(settings.monitoring.metrics_host, settings.monitoring.metrics_port) as listener:
        sys.stdout.write(f"Monitoring API and live page: {address(listener)}/\n")
        sys.stdout.flush()
        serve_until(create_app(parts), listener, context.stop)


COMMAND = Command(
    name="serve",
    summary="Serve the live page, the ranking, health and metrics (GET /, /top-content, /health, /metrics).",
    run=run,
    needs=("REDIS_URL",),
    stops_itself=True,
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
