"""`dead-letters`: look at messages that were refused, send them again, discard them. Starts no Spark."""

import argparse
import sys
import time
from datetime import UTC, datetime
from functools import partial
from getpass import getuser
from pathlib import Path
from socket import gethostname

from engagement.command import Command, Context, main, positive_int
from engagement.dead_letters import request
from engagement.dead_letters.actions import DeadLetters
from engagement.dead_letters.catalogue import read_contents
from engagement.dead_letters.letter import DISCARDED, NEW, STATUSES
from engagement.dead_letters.progress import Progress
from engagement.dead_letters.receiver import ReceiverReplays
from engagement.dead_letters.replay import Destination
from engagement.dead_letters.selection import TRANSFORM
from engagement.dead_letters.table import LetterTable
from engagement.dead_letters.topic import ReplayTopic
from engagement.errors import ConfigError
from engagement.project import PROJECT
from engagement.settings import Settings
from engagement.sinks.external.options import SINK as EXTERNAL
from engagement.streaming.external import external_options
from engagement.streaming.options import content_query

DEFAULT_LIMIT = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the four subcommands."""
    actions = parser.add_subparsers(dest="action", metavar="list | show | replay | discard")
    listed = actions.add_parser("list", help="counts by code, and the newest letters")
    request.add_filters(listed, status="all")
    listed.add_argument(
        "--limit", type=positive_int, default=DEFAULT_LIMIT, metavar="N", help="letters shown (default: %(default)s)"
    )
    shown = actions.add_parser("show", help="one letter whole: message, reason, history")
    shown.add_argument("id", metavar="ID", help="topic:partition:offset:stage, as `list` prints it")
    shown.add_argument("--raw", action="store_true", help="write the message's bytes and nothing else, to correct them")
    for each in (listed, shown):
        each.add_argument("--json", action="store_true", help="for programs")
    replayed = actions.add_parser(
        "replay", help="send letters again: to every sink, or to the one that refused; repeating it changes nothing"
    )
    replayed.add_argument("--dry-run", action="store_true", help="only say what would be sent, and what refused again")
    replayed.add_argument(
        "--payload", type=Path, metavar="FILE", help="a corrected message in the place of one letter's"
    )
    discarded = actions.add_parser("discard", help="mark letters that nobody will send again; nothing is deleted")
    discarded.add_argument("--all", action="store_true", help="every new letter; needed when nothing else limits it")
    discarded.add_argument("--yes", action="store_true", help="do not ask")
    discarded.add_argument("--reason", default="", metavar="TEXT", help="kept in the letters' history")
    for each in (replayed, discarded):
        each.add_argument("ids", nargs="*", metavar="ID", help="letters; without any, all that pass the filters")
        request.add_filters(each, status=NEW)


def run(context: Context) -> int:
    """Do what was asked."""
    args, now = context.args, datetime.now(UTC)
    letters = DeadLetters(
        LetterTable(context.settings.paths.lake_path, PROJECT / "sql"), destinations(context.settings),
        f"{getuser()}@{gethostname()}", lambda: datetime.now(UTC), sys.stdout, Progress(time.monotonic).show,
    )  # fmt: skip
    if args.action is None:
        raise ConfigError(["choose list, show, replay or discard; each has --help"])
    if args.action == "list":
        selection = request.selection(args, now, default=(), allowed=STATUSES)
        return letters.list(selection, args.limit, as_json=args.json)
    if args.action == "show":
        return letters.show(request.one_id(args.id), as_json=args.json, raw=args.raw)
    if args.action == "replay":
        selection = request.selection(args, now, default=(NEW,), allowed=(NEW, DISCARDED))
        return letters.replay(selection, request.payload(args.payload, args.ids), dry_run=args.dry_run)
    selection = request.selection(args, now, default=(NEW,), allowed=(NEW,))
    if selection.is_everything and not args.all:
        raise ConfigError(["discard needs ids, a filter, or --all"])
    if not args.yes and not sys.stdin.isatty():
        raise ConfigError(["discard asks before it acts; without a terminal it needs --yes"])
    return letters.discard(selection, args.reason, lambda question: args.yes or is_agreed(question))


def is_agreed(question: str) -> bool:
    """Ask on the terminal."""
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def destinations(settings: Settings) -> dict[str, Destination]:
    """Where letters can be sent again, by the name of what refused them."""
    kafka, external = settings.kafka, settings.external
    database_url = settings.postgres.database_url.get_secret_value()
    found: dict[str, Destination] = {}
    if kafka.bootstrap_servers:
        found[TRANSFORM] = ReplayTopic(kafka.topic, kafka.client_properties(), time.monotonic)
    if external.url and database_url:
        contents = partial(read_contents, database_url, content_query())
        found[EXTERNAL] = ReceiverReplays(external_options(external), contents)
    return found


COMMAND = Command(
    name="dead-letters",
    summary="Look at messages that were refused, send them again, discard them.",
    run=run,
    add_arguments=add_arguments,
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
