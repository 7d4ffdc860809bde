"""The two READMEs as their test sees them, and the commands they talk about."""

import argparse
import importlib
import re
from pathlib import Path

from jobs import stack

from engagement.command import Command, build_parser

PROJECT = Path(__file__).resolve().parents[2]
ENGLISH, ARABIC = PROJECT / "README.md", PROJECT / "README.ar.md"
READMES = (ENGLISH, ARABIC)

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def text_of(readme: Path) -> str:
    return readme.read_text(encoding="utf-8")


def code_blocks(readme: Path) -> list[tuple[str, str]]:
    """Language and text of every block."""
    return FENCE.findall(text_of(readme))


def prose(readme: Path) -> str:
    """Everything but the code blocks."""
    return FENCE.sub("", text_of(readme))


def headings(readme: Path) -> list[str]:
    return [line for line in prose(readme).splitlines() if line.startswith("#")]


def anchors(readme: Path) -> set[str]:
    """What a link may name after #, as GitHub makes it from a heading."""
    return {re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in headings(readme)}


def targets(readme: Path) -> list[str]:
    """Relative targets of links and images."""
    return [target for target in LINK.findall(prose(readme)) if not target.startswith(("http://", "https://"))]


def tables(readme: Path) -> list[list[list[str]]]:
    """Every table as rows of cells, header first, the line below it left out."""
    found: list[list[list[str]]] = []
    inside = False
    for line in prose(readme).splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]
            if not inside:
                found.append([])
            if not all(set(cell) <= set("-:") for cell in cells):
                found[-1].append(cells)
        inside = line.startswith("|")
    return found


def table_that_begins(readme: Path, first_cell: str) -> list[list[str]]:
    """The rows below the header of the table whose first cell under the header is this one."""
    return next(table[1:] for table in tables(readme) if table[1][0] == first_cell)


def parser_of(command: str) -> argparse.ArgumentParser:
    if command == "stack":
        return stack._parser()
    declared = importlib.import_module(f"jobs.{command.replace('-', '_')}").COMMAND
    assert isinstance(declared, Command)
    return build_parser(declared)


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """A parser's own options and those of its subcommands, without what all commands have."""
    found: set[str] = set()
    for action in parser._actions:
        found |= {name for name in action.option_strings if name.startswith("--")}
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                found |= options_of(child)
    return found - {"--help", "--print-config"}
