"""`generate`: writes test data into PostgreSQL."""

import argparse
import sys

from engagement.command import Command, Context, main, percentage, positive_float, positive_int
from engagement.generator import MODES, Generator, Request
from engagement.generator.plan import HISTORICAL_DAYS_AT_MOST, HISTORICAL_ROWS_PER_DAY
from engagement.generator.popularity import SHIFT_SECONDS
from engagement.settings import GenerationSettings
from engagement.terminal import sayer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `generate`."""
    add = parser.add_argument
    mode = "live traffic until stopped, some rows at once, or history (default: %(default)s)"
    add("--mode", choices=MODES, default="continuous", help=mode)
    usual = f"default: EVENTS_PER_BATCH, {GenerationSettings().events_per_batch}"
    size = f"rows per GENERATION_INTERVAL (continuous, unless --rate is given) or in all (batch); {usual}; "
    size += f"historical: in all (default: {HISTORICAL_ROWS_PER_DAY:,} a day)"
    add("--batch-size", type=positive_int, metavar="N", help=size)
    days = f"historical: days before now to spread rows over, at most {HISTORICAL_DAYS_AT_MOST} (default: %(default)s)"
    add("--historical-days", type=_historical_days, metavar="N", default=7, help=days)
    rate = "rows per second (default: 1000 continuously, else as fast as possible)"
    add("--rate", type=positive_float, metavar="N", help=rate)
    seed = "inserts the same rows again, but for their times (continuous: until popularity shifts, by the clock, after "
    seed += f"{SHIFT_SECONDS:g} s; default: chance, printed at the end)"
    add("--seed", type=int, metavar="N", help=seed)
    add("--updates-pct", type=percentage, metavar="P", default=0.0, help=_share("updates"))
    add("--deletes-pct", type=percentage, metavar="P", default=0.0, help=_share("deletes"))
    add("--duration", type=positive_float, metavar="S", help="seconds after which to stop (default: never)")


def _historical_days(text: str) -> int:
    days = positive_int(text)
    if days > HISTORICAL_DAYS_AT_MOST:
        raise argparse.ArgumentTypeError(f"{text!r} must be at most {HISTORICAL_DAYS_AT_MOST}: no event is before 2000")
    return days


def _share(changes: str) -> str:
    return f"{changes} per 100 inserted rows (default: %(default)g)"


def run(context: Context) -> None:
    """Generate until done or stopped, then say what was committed."""
    args = context.args
    request = Request(
        mode=args.mode,
        batch_size=args.batch_size,
        historical_days=args.historical_days,
        rate=args.rate,
        seed=args.seed,
        updates_pct=args.updates_pct,
        deletes_pct=args.deletes_pct,
        duration_seconds=args.duration,
    )
    say = sayer("generate")
    progress = Generator(context.settings, request, report=say).run(context.stop)
    say(f"done: {progress}")


COMMAND = Command(
    name="generate",
    summary="Write engagement events that look like life into PostgreSQL.",
    run=run,
    add_arguments=add_arguments,
    needs=("DATABASE_URL",),
    stops_itself=True,
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
