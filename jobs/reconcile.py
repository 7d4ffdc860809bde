"""`reconcile`: PostgreSQL against every sink, by ranges of ids, and the mending of what differs."""

import argparse
import sys
from functools import partial

from engagement.backfill.request import both, span_of
from engagement.command import Command, Context, main, names_of, writable_file
from engagement.reconcile.build import SINKS, sinks_of
from engagement.reconcile.command import Wanted, reconcile
from engagement.terminal import sayer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `reconcile`."""
    add = parser.add_argument
    add("--from", dest="start", metavar="D", help="first UTC day, or instant with a zone (default: all events)")
    add("--to", dest="end", metavar="D", help="where it ends, itself excluded; goes with --from")
    sinks = f"which sinks: {','.join(SINKS)} (default: all that have an address; dead letters go with the others)"
    add("--sinks", type=partial(names_of, SINKS), default=(), metavar="NAMES", help=sinks)
    add(
        "--report",
        type=writable_file,
        metavar="FILE",
        help="write everything that differs as JSON, before it is mended",
    )
    add("--repair", action="store_true", help="mend what differs: through the same code as a backfill")


def run(context: Context) -> int:
    """Compare, and exit with 1 if something differs and was not mended."""
    args = context.args
    span, sinks = both(
        lambda: span_of(args.start, args.end, ("--from", "--to")) if args.start or args.end else None,
        lambda: sinks_of(context.settings, args.sinks),
    )
    wanted = Wanted(span, args.repair, sinks, args.report)
    return 0 if reconcile(context.settings, wanted, context.spark_options, context.stop, sayer("reconcile")) else 1


COMMAND = Command(
    name="reconcile",
    summary="Say whether the sinks, dead letters among them, hold what PostgreSQL holds, and with --repair mend what "
    "differs; exit code 1 if something differs and was not mended.",
    run=run,
    add_arguments=add_arguments,
    needs=("DATABASE_URL",),
    stops_itself=True,
    uses_spark=True,
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
