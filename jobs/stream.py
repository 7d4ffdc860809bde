"""`stream`: the streaming job, one query per sink, until Ctrl-C or SIGTERM."""

import argparse
import sys
from functools import partial

from engagement.command import Command, Context, main, names_of
from engagement.streaming import SINKS, build_job, sinks_to_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `stream`."""
    parser.add_argument(
        "--sinks",
        type=partial(names_of, SINKS),
        default=(),
        metavar="NAMES",
        help=f"where to deliver: {','.join(SINKS)} (default: all that have an address)",
    )
    parser.add_argument(
        "--skip-lost",
        type=partial(names_of, [name for name in SINKS if name != "redis"]),
        default=(),
        metavar="NAMES",
        help="sinks that go on, at this start, behind messages that Kafka held too briefly for them; the log says what "
        "else to run for each",
    )


def run(context: Context) -> None:
    """Run until told to stop; the micro-batch under way is finished first."""
    sinks = sinks_to_run(context.settings, context.args.sinks)
    build_job(context.settings, sinks, context.spark_options, context.stop, context.args.skip_lost).run()


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
