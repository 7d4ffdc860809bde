"""What `--help` of every command tells."""

import argparse

import pytest
from tests.unit.readme_texts import PROJECT, parser_of

COMMANDS = sorted({path.stem.replace("_", "-") for path in (PROJECT / "jobs").glob("*.py")} - {"--init--"})
ON_SPARK = ("backfill", "reconcile", "stream")


def parsers_below(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parser and those of its subcommands."""
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [each for child in action.choices.values() for each in parsers_below(child)]
    return found


def help_of(command: str) -> str:
    """As one line: where it is broken depends on the terminal."""
    return " ".join(parser_of(command).format_help().split())


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_with_a_value_of_its_own_says_which(command: str) -> None:
    for parser in parsers_below(parser_of(command)):
        for action in parser._actions:
            if action.default and action.default != argparse.SUPPRESS:
                assert "default" in str(action.help), action.option_strings


@pytest.mark.parametrize("command", ON_SPARK)
def test_a_command_that_starts_spark_shows_how_spark_is_told(command: str) -> None:
    assert "-- --conf spark.executor.memory=2g" in help_of(command)


def test_generate_tells_how_many_rows_it_writes_unless_told() -> None:
    text = help_of("generate")
    assert "EVENTS_PER_BATCH, 50" in text
    assert "10,000 a day" in text


def test_reconcile_tells_its_exit_code() -> None:
    assert "exit code 1 if something differs and was not mended" in help_of("reconcile")
