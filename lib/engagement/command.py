"""What every job shares: arguments, settings, logging, signals, and errors turned into messages and exit codes.

A job declares a Command and calls `main`; it holds no other process handling of its own.
"""

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from engagement.errors import ConfigError, EngagementError
from engagement.logs import redact, set_up_logging
from engagement.project import PROJECT
from engagement.settings import Resolved, Settings, SettingsFiles, config_lines, resolve, secret_values

OK = 0
FAILED = 1
MISUSED = 2
_SEPARATOR = "--"
_SPARK_HELP = "Everything after -- goes to Spark's spark-submit, for example: -- --conf spark.executor.memory=2g"
_ASKING_TO_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOG = logging.getLogger("engagement.command")


@dataclass(frozen=True)
class Context:
    """What a job runs with.

    `stop` is set by the first Ctrl-C, SIGTERM or SIGHUP of a command that stops by itself; `origins` says of each
    setting, by its public name, where its value came from.
    """

    args: argparse.Namespace
    settings: Settings
    stop: threading.Event
    spark_options: tuple[str, ...]
    files: SettingsFiles
    environment: Mapping[str, str]
    origins: Mapping[str, str]


@dataclass(frozen=True)
class Command:
    """One command: `run` returns None or 0 for success, 1 for failure.

    `needs` are the settings that must be set. `stops_itself` says that `run` watches `context.stop`; otherwise Ctrl-C,
    SIGTERM and SIGHUP (its terminal was closed) end it by KeyboardInterrupt. `uses_spark` allows Spark's own options
    after `--`.
    """

    name: str
    summary: str
    run: Callable[[Context], int | None]
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None
    needs: tuple[str, ...] = ()
    stops_itself: bool = False
    uses_spark: bool = False


def main(
    command: Command,
    argv: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    files: SettingsFiles | None = None,
) -> int:
    """Run the command and return its exit code: 0 done, 1 failed, 2 bad usage or configuration."""
    words = list(sys.argv[1:] if argv is None else argv)
    variables = dict(os.environ if env is None else env)
    place = files or SettingsFiles(project_folder())
    own, spark_options = split_spark_options(words)
    parser = build_parser(command)
    try:
        args = parser.parse_args(own)
        if spark_options and not command.uses_spark:
            parser.error(f"{command.name} starts no Spark, so nothing can follow {_SEPARATOR}")
        resolved = resolve(variables, place, () if args.print_config else command.needs)
    except SystemExit as asked:  # argparse has printed the help or the usage error
        return asked.code if isinstance(asked.code, int) else MISUSED
    except ConfigError as error:
        report_config(command.name, error)
        return MISUSED
    if args.print_config:
        return _print_config(resolved)
    with _signals(stops_itself=command.stops_itself) as stop:
        context = Context(args, resolved.settings, stop, spark_options, place, variables, resolved.origins)
        return _run(command, resolved, context)


def build_parser(command: Command) -> argparse.ArgumentParser:
    """Return the command's parser with what all commands have."""
    parser = argparse.ArgumentParser(
        prog=f"./spark-submit.sh {command.name}",
        description=command.summary,
        epilog=_SPARK_HELP if command.uses_spark else None,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print every setting with its value and origin, secrets masked"
    )
    if command.add_arguments:
        command.add_arguments(parser)
    return parser


def split_spark_options(words: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return the command's own words and Spark's, which follow the first `--`.

    >>> split_spark_options(["--sinks", "redis", "--", "--conf", "a=b"])
    (['--sinks', 'redis'], ('--conf', 'a=b'))
    """
    place = list(words).index(_SEPARATOR) if _SEPARATOR in words else len(words)
    return list(words[:place]), tuple(words[place + 1 :])


def names_of(known: Sequence[str], text: str) -> tuple[str, ...]:
    """Parse an argument that lists known names, separated by commas."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{text!r}: choose from {', '.join(known)}")
    return tuple(dict.fromkeys(names))


def positive_int(text: str) -> int:
    """Parse an argument that must be a whole number of at least 1."""
    return int(_number(text, least=1, kind=int))


def positive_float(text: str) -> float:
    """Parse an argument that must be a finite number above 0."""
    number = _number(text, least=0, kind=float)
    if number == 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be above 0")
    return number


def percentage(text: str) -> float:
    """Parse an argument that must lie in 0..100."""
    number = _number(text, least=0, kind=float)
    if number > 100:  # noqa: PLR2004 - per cent
        raise argparse.ArgumentTypeError(f"{text!r} must be at most 100")
    return number


def writable_file(text: str) -> Path:
    """Parse an argument that names a file which a command writes at its end: what it lacks is told at the beginning."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r}: there is no folder {str(path.parent)!r}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written")
    return path


def report_config(name: str, error: ConfigError) -> None:
    """Tell a person everything that is wrong in the configuration of the command `name`."""
    count = len(error.problems)
    _say(f"{name}: {count} problem{'s' if count > 1 else ''} in the configuration")
    for problem in error.problems:
        _say(f"  - {redact(problem)}")


def hold_off_signals() -> None:
    """Let no Ctrl-C, SIGTERM or SIGHUP interrupt what follows; `main` undoes it. Each step of that needs a time limit.

    For a command that must leave nothing running behind: people press Ctrl-C again when nothing seems to happen.
    """
    if threading.current_thread() is threading.main_thread():  # no other may set handlers, or is interrupted by them
        for number in _ASKING_TO_END:
            signal.signal(number, signal.SIG_IGN)


def project_folder() -> Path:
    """Return the folder of this checkout; the current one when the package is installed elsewhere."""
    return PROJECT if (PROJECT / "conf").is_dir() else Path.cwd()


def _number(text: str, least: float, kind: type[int] | type[float]) -> float:
    try:
        number = kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no {'whole ' if kind is int else ''}number") from None
    if not least <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} must be at least {least}")
    return number


def _run(command: Command, resolved: Resolved, context: Context) -> int:
    secrets = secret_values(resolved.settings)
    monitoring = resolved.settings.monitoring
    set_up_logging(monitoring.log_level, secrets, log_format=monitoring.log_format)
    for warning in resolved.warnings:
        LOG.warning("%s", warning)
    try:
        return command.run(context) or OK
    except ConfigError as error:
        report_config(command.name, error)
        return MISUSED
    except EngagementError as error:
        _say(f"{command.name}: {redact(str(error), secrets)}")
        return FAILED
    except KeyboardInterrupt:
        _say(f"{command.name}: interrupted")
        return FAILED
    except Exception:
        # The one place that may catch everything: an unexpected traceback must pass the log filter, not the terminal.
        LOG.exception("%s ended by an error that nobody foresaw; please report it", command.name)
        return FAILED


@contextmanager
def _signals(*, stops_itself: bool) -> Iterator[threading.Event]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into `stop` (a second one into KeyboardInterrupt); handlers come back after."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set() or not stops_itself:
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may set handlers; whoever called from another one sends no signals here
        return
    before = {number: signal.getsignal(number) for number in _ASKING_TO_END}
    for number, handler in before.items():
        if (number, handler) != (signal.SIGHUP, signal.SIG_IGN):  # nohup: the command is to outlive its terminal
            signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_config(resolved: Resolved) -> int:
    for line in config_lines(resolved):
        sys.stdout.write(f"{line}\n")
    return OK


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
