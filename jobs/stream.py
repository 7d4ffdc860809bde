"""`stream`: the streaming job, one query per sink, until Ctrl-C or SIGTERM."""

import argparse
import sys

from engagement.command import Command, Context, main
from engagement.streaming import SINKS, build_job, sinks_to_run


def sink_names(text: str) -> tuple[str, ...]:
    """Parse `--sinks`: known names, separated by commas."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in SINKS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{text!r}: choose from {', '.join(SINKS)}")
    return names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `stream`."""
    parser.add_argument(
        "--sinks",
        type=sink_names,
        default=(),
        metavar="NAMES",
        help=f"where to deliver: {','.join(SINKS)} (default: all that have an address)",
    )


def run(context: Context) -> None:
    """Run until told to stop; the micro-batch under way is finished first."""
    sinks = sinks_to_run(context.settings, context.args.sinks)
    build_job(context.settings, sinks, context.spark_options, context.stop).run()


COMMAND = Command(
    name="stream",
    summary="Deliver the changes of engagement_events from Kafka to every sink, once each.",
    run=run,
    add_arguments=add_arguments,
    needs=("DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL"),
    stops_itself=True,
    uses_spark=True,
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
