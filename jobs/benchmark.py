"""`benchmark`: measurements on this machine, on embedded services of their own."""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from engagement.benchmark.drain import DrainBenchmark
from engagement.command import Command, Context, main, positive_int
from engagement.demo.children import Child
from engagement.embedded.stack import Stack
from engagement.settings import resolve
from engagement.streaming import SINKS

BENCHMARKS = {"drain": "rows that piled up while the streaming job was down, from its start until the sink has them"}
DEFAULT_ROWS = 200_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `benchmark`."""
    add = parser.add_argument
    add("name", choices=BENCHMARKS, help="; ".join(f"{name}: {text}" for name, text in BENCHMARKS.items()))
    add("--rows", type=positive_int, metavar="N", default=DEFAULT_ROWS, help="rows to drain (default: %(default)s)")
    add("--sink", choices=SINKS, default=SINKS[0], help="destination to drain into (default: %(default)s)")
    add("--report", type=Path, metavar="FILE", help="write what was measured as JSON")


def say(text: str) -> None:
    """One line on the terminal."""
    sys.stdout.write(f"benchmark: {text}\n")
    sys.stdout.flush()


def run(context: Context) -> int:
    """Measure on a stack of its own beside the demo's, and remove it."""
    home = context.settings.paths.engagement_home / "benchmark"
    own = {**context.environment, "ENGAGEMENT_HOME": str(home)}
    stack = Stack(home, own)
    with ExitStack() as cleanup:
        cleanup.callback(stack.down, purge=True)
        say("starting PostgreSQL, Kafka, Connect and Redis")
        stack.up(say)
        environment = {**own, **stack.env()}
        settings = resolve(environment, context.files).settings
        job = Child("stream", ["--sinks", context.args.sink], home, environment)
        report = DrainBenchmark(settings, context.args.sink, job, say).run(context.args.rows, context.stop)
    if report is None:
        return 1
    if context.args.report:
        report.write(context.args.report)
    say(report.summary())
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
