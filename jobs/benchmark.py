"""`benchmark`: measurements on this machine, on embedded services of their own."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from engagement.benchmark import drain, history, isolation, monitoring, outage
from engagement.benchmark.bench import Bench
from engagement.benchmark.place import kept_alone
from engagement.command import Command, Context, main, positive_float, positive_int, writable_file
from engagement.embedded.stack import Stack
from engagement.settings import declared_settings, resolve
from engagement.streaming import SINKS
from engagement.terminal import sayer

BENCHMARKS = {
    "drain": (drain.run, "rows that piled up while the streaming job was down, from its start until the sink has them"),
    "isolation": (
        isolation.run,
        "freshness of the ranking, also beside a slow warehouse (or --sink external)",
    ),
    "outage": (outage.run, "what piles up while the receiver answers 503: sent how fast, in what order, who notices"),
    "backfill": (history.run_backfill, "history out of PostgreSQL into lake or warehouse, beside two COPY to nowhere"),
    "reconcile": (history.run_reconcile, "the same, and then the comparison of both"),
    "api": (monitoring.run_api, "200 requests/s to the API: their answer time, and the ranking's freshness meanwhile"),
    "monitoring": (monitoring.run_monitoring, "freshness of the ranking with all monitoring, and without"),
}
NO_STREAM = {"backfill": "lake", "reconcile": "lake"}
"""Those that need no Kafka, with their usual sink."""
SERVICES = ("postgres", "bigquery")
ADDRESSES = frozenset({
    *("DATABASE_URL", "REDIS_URL", "KAFKA_BOOTSTRAP_SERVERS", "KAFKA_CONNECT_URL", "KAFKA_TOPIC_ENGAGEMENT_EVENTS"),
    *("BIGQUERY_PROJECT_ID", "BIGQUERY_DATASET_ID", "BIGQUERY_EMULATOR_HOST", "BIGQUERY_EMULATOR_GRPC_HOST"),
    *("GOOGLE_APPLICATION_CREDENTIALS", "LAKE_PATH", "CHECKPOINT_PATH"),
    *("EXTERNAL_SYSTEM_URL", "EXTERNAL_SYSTEM_TOKEN", "EXTERNAL_SYSTEM_SIGNING_SECRET"),
})  # fmt: skip
"""What `stack env` names, and what says of a project that it is a real one."""
EXTENT = ("REDIS_TOP_CONTENT_SIZE", "REDIS_AGGREGATION_WINDOW_MINUTES", "REDIS_AGGREGATION_TTL_SECONDS")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `benchmark`."""
    add = parser.add_argument
    add("name", choices=BENCHMARKS, help="; ".join(f"{name}: {text}" for name, (_, text) in BENCHMARKS.items()))
    rows = "drain, backfill, reconcile: rows to move (default: %(default)s)"
    add("--rows", type=positive_int, metavar="N", default=200_000, help=rows)
    add("--sink", choices=SINKS, help=f"destination (default: {SINKS[0]}; of {' and '.join(NO_STREAM)}: lake)")
    rate = "isolation, outage, api, monitoring: rows inserted a second meanwhile (default: %(default)s)"
    add("--rate", type=positive_int, metavar="N", default=1000, help=rate)
    seconds = "isolation, api, monitoring: length of one turn; outage: of the outage; seconds (default: %(default)g)"
    add("--seconds", type=positive_float, metavar="S", default=60.0, help=seconds)
    rounds = "isolation, api, monitoring: turns of each of the two ways that are compared (default: %(default)s)"
    add("--rounds", type=positive_int, metavar="N", default=2, help=rounds)
    add("--report", type=writable_file, metavar="FILE", help="write what was measured as JSON")


def without_services(environment: Mapping[str, str], home: Path) -> dict[str, str]:
    """The caller's variables without addresses: with those of `stack env` rows would go to the tables they name."""
    kept = {name: value for name, value in environment.items() if name.removesuffix("_FILE") not in ADDRESSES}
    return {**kept, "ENGAGEMENT_HOME": str(home)}


def usual_load() -> dict[str, str]:
    """The generator's settings and the ranking's extent as if nobody had set them.

    Only the options say how much is written, and how fast; and probes need a place on the ranking.
    """
    ours = (each for each in declared_settings() if each.section == "generation" or each.name in EXTENT)
    return {each.name: str(each.default) for each in ours}


def run(context: Context) -> int:
    """Measure on a stack of its own beside the demo's, and remove it."""
    args, home = context.args, context.settings.paths.engagement_home / "benchmark"
    say = sayer("benchmark")
    own = without_services(context.environment, home)
    every = Stack(home, own)
    stack = Stack(home, own, SERVICES) if args.name in NO_STREAM else every
    sink = args.sink or NO_STREAM.get(args.name, SINKS[0])
    with kept_alone(every, say):
        say("starting the embedded services")
        stack.up(say)
        environment = {**own, **usual_load(), **stack.env()}
        settings = resolve(environment, context.files).settings
        wanted = (args.rows, args.rate, args.seconds, args.rounds, sink)
        report = BENCHMARKS[args.name][0](Bench(settings, environment, home, *wanted, context.stop, say))
    if report is None:
        return 1
    say(report.summary())
    if args.report:
        report.write(args.report)
    return 0


COMMAND = Command(
    name="benchmark",
    summary="Measure this machine; everything runs on embedded services that are removed afterwards.",
    run=run,
    add_arguments=add_arguments,
    stops_itself=True,
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
