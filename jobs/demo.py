"""`demo`: everything on one machine, from the services to the live ranking."""

import argparse
import sys
import time
from contextlib import ExitStack
from functools import partial

from rich.console import Console

from engagement.command import (
    Command,
    Context,
    hold_off_signals,
    main,
    positive_float,
    positive_int,
    writable_file,
)
from engagement.demo.chaos import LEAST_SECONDS, MOST_SECONDS
from engagement.demo.children import Child, child_environment, free_metrics_port
from engagement.demo.display import LineDisplay, LiveDisplay
from engagement.demo.plan import DemoPlan
from engagement.demo.probe import check_ranking_size
from engagement.demo.run import Demo, Display
from engagement.demo.warehouse import Warehouse
from engagement.embedded.stack import Stack
from engagement.errors import ConfigError
from engagement.settings import resolve
from engagement.streaming import warehouse_options
from engagement.terminal import if_heard, sayer

DEFAULT_RATE = 100
UPDATES_PCT, DELETES_PCT = 5, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `demo`."""
    add = parser.add_argument
    add("--duration", type=positive_float, metavar="S", help="end by itself after S seconds, and judge the result")
    add("--rate", type=positive_int, metavar="N", default=DEFAULT_RATE, help="rows per second (default: %(default)s)")
    pauses = f"{LEAST_SECONDS:g} to {MOST_SECONDS:g} s"
    chaos = f"kill or pause a service or a job every {pauses}, in the order that SEED gives"
    add("--chaos", type=positive_int, metavar="SEED", help=chaos)
    add("--report", type=writable_file, metavar="FILE", help="write what was measured as JSON; needs --duration")


def run(context: Context) -> int:
    """Bring everything up, watch it, take it down; 0 only if an unattended run ended with an exact board."""
    began, say = time.monotonic(), sayer()
    if context.args.report and context.args.duration is None:
        raise ConfigError(["--report needs --duration: without an end there is nothing to report"])
    check_ranking_size(context.settings.redis.top_size)
    stack = Stack.of(context.settings, context.origins)
    home = stack.home
    with ExitStack() as cleanup:
        cleanup.enter_context(stack.kept_by_demo())
        cleanup.callback(stack.down, progress=partial(if_heard, say))
        cleanup.callback(hold_off_signals)
        say("demo: starting PostgreSQL, Kafka, Connect, Redis, BigQuery and a receiver")
        stack.up(say)
        port = free_metrics_port(context.settings.monitoring)
        environment = child_environment(context.environment, stack.env(), port)
        settings = resolve(environment, context.files).settings
        generate = ["--mode", "continuous", "--rate", str(context.args.rate)]
        generate += ["--updates-pct", str(UPDATES_PCT), "--deletes-pct", str(DELETES_PCT)]
        children = [
            Child("stream", [], home, environment),
            Child("serve", [], home, environment),
            Child("generate", generate, home, environment),
        ]
        display: Display = LineDisplay(say)
        if sys.stdout.isatty():
            display = cleanup.enter_context(LiveDisplay(Console()))
        warehouse = Warehouse(warehouse_options(settings.bigquery))
        cleanup.callback(warehouse.close)
        plan = DemoPlan(
            context.args.rate, context.args.duration, float(environment.get("ENGAGEMENT_SETUP_SECONDS", 0)),
            context.files.project / "sql" / "reference", warehouse, began, context.args.chaos,
        )  # fmt: skip
        report = Demo(plan, stack, children, settings, display).run(context.stop)
    if report is None:
        return 0
    say(report.summary())
    if context.args.report:
        report.write(context.args.report)
    return 0 if report.succeeded else 1


COMMAND = Command(
    name="demo",
    summary="Run everything on this machine: services, generator, streaming job, API; Ctrl-C stops it all.",
    run=run,
    add_arguments=add_arguments,
    stops_itself=True,
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
