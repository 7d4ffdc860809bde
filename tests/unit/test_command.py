import argparse
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jobs import benchmark, demo, reconcile

from engagement.command import (
    Command,
    Context,
    hold_off_signals,
    main,
    percentage,
    positive_float,
    positive_int,
    writable_file,
)
from engagement.errors import ConfigError, EngagementError
from engagement.settings import SettingsFiles

NOWHERE = SettingsFiles(Path("/nonexistent/project"))


@pytest.fixture(autouse=True)
def logging_tree() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("engagement")
    handlers, level, our_level = list(root.handlers), root.level, ours.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    ours.setLevel(our_level)


def command(run: Callable[[Context], int | None], **more: object) -> Command:
    return Command(name="try", summary="Tries.", run=run, **more)  # type: ignore[arg-type]  # only what a test names


def start(tried: Command, *words: str, env: dict[str, str] | None = None) -> int:
    return main(tried, list(words), env or {}, NOWHERE)


def raising(error: BaseException) -> Command:
    def run(_context: Context) -> None:
        raise error

    return command(run)


def test_success_is_0() -> None:
    assert start(command(lambda _: None)) == 0


def test_a_command_may_say_that_it_failed() -> None:
    assert start(command(lambda _: 1)) == 1


def test_an_error_of_ours_is_a_sentence_and_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert start(raising(EngagementError("the broker is away"))) == 1
    assert capsys.readouterr().err == "try: the broker is away\n"


def test_a_configuration_error_found_late_is_2_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert start(raising(ConfigError(["A is wrong", "B is missing"]))) == 2
    assert capsys.readouterr().err.splitlines() == [
        "try: 2 problems in the configuration",
        "  - A is wrong",
        "  - B is missing",
    ]


def test_all_configuration_problems_are_listed_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    ran: list[Context] = []
    tried = command(ran.append, needs=("DATABASE_URL",))
    assert start(tried, env={"DB_POOL_SIZE": "x", "METRICS_PORT": "y"}) == 2
    assert ran == []
    assert len(capsys.readouterr().err.splitlines()) == 4


def test_an_unforeseen_error_is_logged_without_secrets_and_1(capsys: pytest.CaptureFixture[str]) -> None:
    tried = raising(ZeroDivisionError("while using canary-secret"))
    assert start(tried, env={"EXTERNAL_SYSTEM_TOKEN": "canary-secret"}) == 1
    shown = capsys.readouterr().err
    assert "ZeroDivisionError" in shown
    assert "canary-secret" not in shown


def test_secrets_in_an_error_of_ours_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    assert start(raising(EngagementError("canary-secret")), env={"EXTERNAL_SYSTEM_TOKEN": "canary-secret"}) == 1
    assert "canary-secret" not in capsys.readouterr().err


def test_an_unknown_option_is_2() -> None:
    assert start(command(lambda _: None), "--nonsense") == 2


def test_help_is_0_even_when_the_configuration_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert start(command(lambda _: None), "--help", env={"DB_POOL_SIZE": "x"}) == 0
    assert "./spark-submit.sh try" in capsys.readouterr().out


def test_print_config_shows_the_settings_and_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    tried = command(lambda _: 1, needs=("DATABASE_URL",))
    assert start(tried, "--print-config", env={"REDIS_URL": "redis://:hunter22@cache/1"}) == 0
    shown = capsys.readouterr().out
    assert "REDIS_URL = redis://:********@cache/1  # environment" in shown
    assert "hunter22" not in shown


def test_what_follows_two_dashes_is_sparks() -> None:
    seen: list[tuple[str, ...]] = []

    def run(context: Context) -> None:
        seen.append(context.spark_options)

    assert start(command(run, uses_spark=True), "--", "--conf", "a=b", "--help") == 0
    assert seen == [("--conf", "a=b", "--help")]


def test_spark_options_for_a_command_without_spark_are_2() -> None:
    assert start(command(lambda _: None), "--", "--conf", "a=b") == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_asks_a_command_that_stops_itself_to_stop(number: signal.Signals) -> None:
    def run(context: Context) -> None:
        os.kill(os.getpid(), number)
        assert context.stop.wait(5)

    assert start(command(run, stops_itself=True)) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_any_other_command_with_1_and_no_traceback(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(context: Context) -> None:
        os.kill(os.getpid(), number)
        context.stop.wait(5)

    assert start(command(run)) == 1
    assert capsys.readouterr().err == "try: interrupted\n"


def test_a_command_that_is_to_outlive_its_terminal_does() -> None:
    def run(context: Context) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not context.stop.is_set()

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert start(command(run, stops_itself=True)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_that_are_held_off_interrupt_nothing_until_the_command_is_over() -> None:
    before = signal.getsignal(signal.SIGINT)

    def run(context: Context) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        assert context.stop.wait(5)
        hold_off_signals()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)

    assert start(command(run, stops_itself=True)) == 0
    assert signal.getsignal(signal.SIGINT) is before


def test_signal_handlers_come_back_after_the_command() -> None:
    before = signal.getsignal(signal.SIGTERM)
    start(command(lambda _: None, stops_itself=True))
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (positive_int, "0"),
        (positive_int, "1.5"),
        (positive_int, "x"),
        (positive_float, "0"),
        (positive_float, "-1"),
        (positive_float, "inf"),
        (positive_float, "nan"),
        (percentage, "101"),
        (percentage, "-1"),
    ],
)
def test_numbers_out_of_range_are_refused(parse: Callable[[str], float], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        parse(text)


def test_numbers_in_range_are_taken() -> None:
    assert (positive_int("5"), positive_float("0.5"), percentage("100")) == (5, 0.5, 100)


@pytest.mark.parametrize(
    ("named", "problem"), [("missing/r.json", "there is no folder"), (".", "is a folder"), ("file/r.json", "no folder")]
)
def test_a_file_that_could_not_be_written_at_the_end_is_refused_at_the_beginning(
    tmp_path: Path, named: str, problem: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(argparse.ArgumentTypeError, match=problem):
        writable_file(str(tmp_path / named))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("named", ["new.json", "old.json"])
def test_so_is_one_that_the_caller_may_not_write(tmp_path: Path, named: str) -> None:
    (tmp_path / "old.json").touch(0o400)
    tmp_path.chmod(0o500)
    with pytest.raises(argparse.ArgumentTypeError, match="cannot be written"):
        writable_file(str(tmp_path / named))


def test_a_file_that_can_be_written_is_taken_whether_it_is_there_or_not(tmp_path: Path) -> None:
    (tmp_path / "old.json").touch()
    for path in (tmp_path / "new.json", tmp_path / "old.json", Path("/dev/null"), Path("r.json")):
        assert writable_file(str(path)) == path
    assert not (tmp_path / "new.json").exists()


@pytest.mark.parametrize(
    ("tried", "words"),
    [(benchmark.COMMAND, ["drain"]), (demo.COMMAND, ["--duration", "60"]), (reconcile.COMMAND, [])],
)
def test_a_report_that_has_nowhere_to_go_is_2_before_anything_is_started(
    tried: Command, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = str(tmp_path / "missing" / "r.json")
    assert start(tried, *words, "--report", nowhere, env={"ENGAGEMENT_HOME": str(tmp_path / "home")}) == 2
    assert f"argument --report: '{nowhere}': there is no folder" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()
