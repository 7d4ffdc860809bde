"""`stack`: the embedded services alone: PostgreSQL, Kafka, Connect with its connector, Redis, BigQuery, a receiver."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from engagement.command import MISUSED, project_folder, report_config
from engagement.embedded.service import ServiceStatus
from engagement.embedded.stack import Stack
from engagement.errors import ConfigError, EngagementError
from engagement.settings import SettingsFiles, resolve

# Narrower, and rich would cut addresses that people copy.
TABLE_WIDTH = 110
EXAMPLES = """examples:
  ./spark-submit.sh stack up                         start what is missing; returns when everything answers
  ./spark-submit.sh stack status                     what runs where, since when, with how much memory
  set -a; eval "$(./spark-submit.sh stack env)"      use the services from your own shell
  REDIS_URL=redis://my-host:6379/0 ./spark-submit.sh stack up      bring your own Redis: none is started
  ./spark-submit.sh stack down --purge               stop everything and remove all data

The state lies in ENGAGEMENT_HOME (default: .engagement in the project folder), one log per service in logs/.
Exit codes: 0 success (status: everything runs), 1 failure, 2 bad usage or configuration."""


def main(arguments: Sequence[str], environment: Mapping[str, str], files: SettingsFiles | None = None) -> int:
    """Run one of the four subcommands."""
    options = _parser().parse_args(arguments)
    try:
        resolved = resolve(environment, files or SettingsFiles(project_folder()))
        for warning in resolved.warnings:
            _say(f"warning: {warning}")
        return _run(Stack.of(resolved.settings, resolved.origins), options)
    except ConfigError as error:
        report_config("stack", error)
        return MISUSED
    except EngagementError as error:
        _say(str(error))
    except KeyboardInterrupt:
        _say("interrupted; `stack up` goes on from here, `stack down` stops what has started")
    return 1


def _run(stack: Stack, options: argparse.Namespace) -> int:
    if options.action == "up":
        stack.up(_say)
    elif options.action == "down":
        stack.down(purge=options.purge, progress=_say)
    elif options.action == "status":
        statuses = stack.status()
        console = Console()
        console.width = max(console.width, TABLE_WIDTH)
        console.print(_table(statuses))
        return 0 if all(status.state in ("running", "external") for status in statuses) else 1
    elif stack.env_file.is_file():
        sys.stdout.write(stack.env_lines())
    else:
        _say("the stack is not running; start it first: ./spark-submit.sh stack up")
        return 1
    return 0


def _table(statuses: Sequence[ServiceStatus]) -> Table:
    table = Table("service", "state", "address", "pid", "MiB", "", box=None, pad_edge=False)
    for status in statuses:
        memory = f"{status.rss_mib:.0f}" if status.pid else ""
        table.add_row(status.name, status.state, status.address, str(status.pid or ""), memory, status.detail)
    return table


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "./spark-submit.sh stack", description=__doc__, epilog=EXAMPLES, formatter_class=raw
    )
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("up", help="start what is missing; returns when everything answers")
    down = actions.add_parser("down", help="stop everything")
    down.add_argument("--purge", action="store_true", help="remove all data, passwords and logs as well")
    actions.add_parser("status", help="show what runs; exit code 1 unless everything does")
    actions.add_parser("env", help="print the settings that clients need, as NAME=value lines")
    return parser


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
