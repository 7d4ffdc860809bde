"""`backfill`: history through the same transform into the sinks, beside the stream."""

import argparse
import sys
from functools import partial

from engagement.backfill.build import SINKS, SOURCES, Request, sinks_to_fill
from engagement.backfill.command import backfill
from engagement.backfill.dry_run import dry_run
from engagement.backfill.request import both, span_of
from engagement.command import Command, Context, main, names_of
from engagement.terminal import sayer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `backfill`."""
    add = parser.add_argument
    add("--start-date", metavar="D", help="first UTC day, or instant with a zone (default: BACKFILL_START_DATE)")
    add("--end-date", metavar="D", help="where it ends, itself excluded (default: BACKFILL_END_DATE)")
    sinks = f"where to: {','.join(SINKS)} (default: lake, and warehouse if there is one); "
    sinks += "external: sent at EXTERNAL_SYSTEM_BACKFILL_RATE; redis: the live window counted again from Kafka"
    add("--sinks", type=partial(names_of, SINKS), default=(), metavar="NAMES", help=sinks)
    source = "where from (default: %(default)s); lake and kafka may hold what PostgreSQL has purged"
    add("--source", choices=SOURCES, default=SOURCES[0], help=source)
    add("--dry-run", action="store_true", help="count what the source has and say what would be done; write nothing")
    add("--restart", action="store_true", help="look at every chunk again, also after a run that did not end")


def run(context: Context) -> int:
    """Fill, and say what became of it."""
    args, settings, say = context.args, context.settings, sayer("backfill")
    days = settings.backfill.start_date, settings.backfill.end_date
    start, end = (None if day is None else day.isoformat() for day in days)
    span, sinks = both(
        lambda: span_of(args.start_date or start, args.end_date or end),
        lambda: sinks_to_fill(settings, args.source, args.sinks),
    )
    request = Request(span, args.source, sinks)
    if args.dry_run:
        for line in dry_run(settings, request):
            say(line)
        return 0
    done = backfill(settings, request, context.spark_options, context.stop, say, restart=args.restart)
    return 0 if done else 1


COMMAND = Command(
    name="backfill",
    summary="Add history to the sinks as far as they lack it; safe to repeat, to kill, and beside the stream.",
    run=run,
    add_arguments=add_arguments,
    needs=("DATABASE_URL",),
    stops_itself=True,
    uses_spark=True,
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
