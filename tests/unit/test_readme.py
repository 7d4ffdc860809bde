"""What the two READMEs say is true: commands, options, settings, report, codes, snippets, links; in both languages."""

import ast
import hashlib
import importlib
import io
import re
from dataclasses import fields
from pathlib import Path

import pytest
from rich.console import Console
from tests.unit.readme_texts import (
    ARABIC,
    ENGLISH,
    PROJECT,
    READMES,
    anchors,
    code_blocks,
    headings,
    options_of,
    parser_of,
    table_that_begins,
    tables,
    targets,
    text_of,
)

from engagement.command import split_spark_options
from engagement.demo.display import LiveDisplay
from engagement.demo.external import ExternalReport
from engagement.demo.probe import Freshness, FreshnessProbe
from engagement.demo.report import LakeReport, Report, WarehouseReport
from engagement.demo.run import Moment
from engagement.monitoring.status import QueryStatus
from engagement.schemas import DeadLetterCode
from engagement.settings import Declared, declared_settings
from engagement.settings.show import shown_value
from engagement.sinks.bigquery.tables import EVENTS

both = pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)

LATER_SECTIONS: set[str] = set()
LATER_ATTRIBUTES = {"pool_size", "max_overflow", "max_processing_time_seconds"}
"""Settings that are declared and checked but that nothing reads yet; a test below holds this true."""
LATER = {ENGLISH: "later", ARABIC: "لاحقًا"}

ARABIC_LETTER = re.compile(r"[\u0621-\u064a]")
CALL = re.compile(r"\./spark-submit\.sh ([a-z][^`\n|]*)")


@both
def test_every_call_of_the_launcher_would_be_understood(readme: Path) -> None:
    calls = CALL.findall(text_of(readme))
    assert calls
    for call in calls:
        command, *words = call.replace(')"', "").split()
        if command == "test":
            continue
        assert (PROJECT / "jobs" / f"{command.replace('-', '_')}.py").is_file(), call
        parser_of(command).parse_args(split_spark_options(words)[0])


@both
def test_the_table_of_commands_lists_all_commands_with_all_options(readme: Path) -> None:
    rows = table_that_begins(readme, "`demo`")
    listed = {row[0].strip("`"): set(re.findall(r"--[a-z][a-z-]*", row[2])) for row in rows}
    jobs = {path.stem.replace("_", "-") for path in (PROJECT / "jobs").glob("*.py")} - {"--init--"}
    assert set(listed) == jobs | {"test"}
    for command in jobs:
        assert listed[command] == options_of(parser_of(command)), command


def is_later(item: Declared) -> bool:
    return item.section in LATER_SECTIONS or item.attribute in LATER_ATTRIBUTES


def default_cell(item: Declared) -> str:
    shown = shown_value(item.default)
    return f"`{shown}`" if shown else ""


def meanings_digest() -> str:
    """Changes with every English meaning or note, so that the Arabic table cannot fall behind unnoticed."""
    told = "\n".join(f"{item.name}|{item.meaning}|{item.note}" for item in declared_settings())
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def english_settings_table() -> str:
    """What stands between the markers of README.md."""
    lines = ["| setting | default | meaning | note |", "|---|---|---|---|"]
    for item in declared_settings():
        note = item.note or ("later" if is_later(item) else "")
        lines.append(f"| `{item.name}` | {default_cell(item)} | {item.meaning} | {note} |")
    return "\n".join(lines)


def test_the_english_table_of_settings_is_the_declared_one() -> None:
    table = re.search(r"<!-- settings:begin -->\n(.*?)\n<!-- settings:end -->", text_of(ENGLISH), re.DOTALL)
    assert table is not None
    assert table[1].strip() == english_settings_table()


def test_the_arabic_table_of_settings_has_the_same_names_defaults_and_notes() -> None:
    rows = table_that_begins(ARABIC, f"`{declared_settings()[0].name}`")
    for item, row in zip(declared_settings(), rows, strict=True):
        assert row[:2] == [f"`{item.name}`", default_cell(item)]
        assert ARABIC_LETTER.search(row[2]), f"{item.name} has no Arabic meaning"
        assert bool(row[3]) == bool(item.note or is_later(item)), item.name
        assert (row[3] == LATER[ARABIC]) == (is_later(item) and not item.note), item.name


def test_the_arabic_table_of_settings_translates_the_present_meanings() -> None:
    marker = f"<!-- settings:begin of {meanings_digest()} -->"
    assert marker in text_of(ARABIC), f"bring the Arabic meanings up to date, then write {marker}"


def test_what_is_marked_as_later_is_read_by_nothing_yet() -> None:
    code = [*(PROJECT / "lib" / "engagement").rglob("*.py"), *(PROJECT / "jobs").glob("*.py")]
    names = [*(rf"settings\.{section}\b" for section in LATER_SECTIONS), *(rf"\.{name}\b" for name in LATER_ATTRIBUTES)]
    reading = re.compile("|".join(names))
    inside = PROJECT / "lib" / "engagement" / "settings"
    readers = [path.name for path in code if inside not in path.parents and reading.search(path.read_text())]
    assert not readers, f"{readers} read settings that the READMEs mark as later"


PARTS = {
    "redis": fields(Freshness), "lake": fields(LakeReport), "warehouse": fields(WarehouseReport),
    "external": fields(ExternalReport),
}  # fmt: skip


@both
def test_the_documented_keys_of_the_report_are_its_fields(readme: Path) -> None:
    documented = [row[0].strip("`") for row in table_that_begins(readme, "`setup_seconds`")]
    expected: list[str] = []
    for each in fields(Report):
        expected.append(each.name)
        expected += [f"{each.name}.{part.name}" for part in PARTS.get(each.name, ())]
    assert documented == expected


@both
def test_the_codes_of_bad_input_stand_in_the_order_of_the_checks(readme: Path) -> None:
    documented = [row[0].strip("`") for row in table_that_begins(readme, "`E_TOO_LARGE`")]
    assert documented == [code.value for code in DeadLetterCode]


class SeenProbe(FreshnessProbe):
    """A probe that has measured what the capture shows."""

    def __init__(self) -> None:
        """Measure nothing."""

    def freshness(self, newest: int | None = None) -> Freshness | None:
        return Freshness(p50_ms=174, p95_ms=260, p99_ms=402, max_ms=455, samples=newest or 0)


def test_the_capture_is_what_the_demo_shows() -> None:
    capture = next(text for _, text in code_blocks(ENGLISH) if text.startswith("$ ./spark-submit.sh demo\n"))
    services = ("postgres", "kafka", "redis", "bigquery", "receiver", "connect", "stream", "serve", "generate")
    ranked = re.findall(r"│ +\d+ │ (.*?) +│ +([\d.]+) │ │", capture)
    moment = Moment(
        seconds=83.4,
        status=QueryStatus.model_construct(input_rows_per_second=104.2),
        probe=SeenProbe(),
        top=[(title, float(score)) for title, score in ranked],
        services=dict.fromkeys(services, "running"),
        address="http://127.0.0.1:8080/",
    )
    terminal = io.StringIO()
    with LiveDisplay(Console(file=terminal, width=96, force_terminal=False, color_system=None)) as display:
        display.show(moment)
    assert len(ranked) == 10
    assert capture.rstrip("\n").endswith(terminal.getvalue().rstrip("\n"))


def test_both_languages_have_the_same_code() -> None:
    assert code_blocks(ENGLISH)
    assert code_blocks(ARABIC) == code_blocks(ENGLISH)


def test_both_languages_have_the_same_structure() -> None:
    def levels(readme: Path) -> list[str]:
        return [line.split(" ", maxsplit=1)[0] for line in headings(readme)]

    def shape(readme: Path) -> list[tuple[int, ...]]:
        return [tuple(len(row) for row in table) for table in tables(readme)]

    def names(readme: Path) -> list[list[str]]:
        return [re.findall("`[^`]*`", row[0])[:1] for table in tables(readme) for row in table]

    def figures(readme: Path) -> list[list[str]]:
        return [row[1:] for table in tables(readme) for row in table if re.match("[<>]= ", row[1])]

    assert levels(ARABIC) == levels(ENGLISH)
    assert shape(ARABIC) == shape(ENGLISH)
    assert names(ARABIC) == names(ENGLISH)
    assert figures(ARABIC) == figures(ENGLISH)


@both
def test_every_relative_link_leads_somewhere(readme: Path) -> None:
    known = anchors(readme)
    for target in targets(readme):
        path, _, anchor = target.partition("#")
        assert (PROJECT / path).exists(), f"{target} does not exist"
        assert not anchor or anchor in known, f"no heading for {target}"


def test_both_languages_link_to_the_same_places() -> None:
    def files(readme: Path) -> list[str]:
        return [target for target in targets(readme) if not target.startswith(("#", "README"))]

    assert files(ARABIC) == files(ENGLISH)


def test_every_decision_is_linked() -> None:
    linked = set(targets(ENGLISH))
    decisions = [f"docs/decisions/{path.name}" for path in (PROJECT / "docs" / "decisions").glob("*.md")]
    assert set(decisions) <= linked


@both
def test_python_snippets_compile_and_their_imports_exist(readme: Path) -> None:
    snippets = [text for language, text in code_blocks(readme) if language == "python"]
    assert snippets
    for snippet in snippets:
        tree = ast.parse(snippet)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for name in node.names:
                    importlib.import_module(name.name)
            elif isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, name.name) for name in node.names)


def test_code_stays_left_to_right_in_arabic() -> None:
    open_blocks = 0
    for line in text_of(ARABIC).splitlines():
        open_blocks += line.startswith("<div") - line.startswith("</div")
        assert not (line.startswith("```") and open_blocks), f"a code block within a right-to-left part: {line}"
    assert open_blocks == 0


@both
def test_no_figure_is_left_to_be_filled_in(readme: Path) -> None:
    assert "| FILL |" not in text_of(readme)


@both
def test_the_documented_columns_of_the_warehouse_are_those_of_its_table(readme: Path) -> None:
    events = table_that_begins(readme, "`enriched_events`")[0][1]
    listed = re.findall("[a-z]+(?:_[a-z]+)*", events.partition(":")[2].partition(";" if readme == ENGLISH else "؛")[0])
    assert listed == [column.name for column in EVENTS]
