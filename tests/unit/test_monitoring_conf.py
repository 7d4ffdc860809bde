"""Rules and dashboards: as the code writes them, of metrics that exist, and accepted by Prometheus's own tool."""

import json
import shutil
import subprocess
from pathlib import Path

import promql_parser
import pytest
import yaml
from tests.prometheus.expressions import dashboard_expressions, metric_names, rule_expressions

from engagement.monitoring.catalogue import METRICS
from engagement.monitoring.conf_files import conf_files
from engagement.project import PROJECT

EXPORTED = {
    name for metric in METRICS.values() for name in {metric.sample, metric.name + "_sum", metric.name + "_count"}
}
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not on PATH (Debian: apt install prometheus)")


@pytest.mark.parametrize(("path", "text"), list(conf_files()), ids=str)
def test_the_files_are_what_the_code_writes(path: Path, text: str) -> None:
    assert (PROJECT / path).read_text() == text, "run `python -m engagement.monitoring.conf_files`"


@pytest.mark.parametrize("expression", [*rule_expressions(), *dashboard_expressions()])
def test_an_expression_names_only_metrics_and_labels_that_the_catalogue_has(expression: str) -> None:
    names = metric_names(expression)
    assert names
    assert names - {"up"} <= EXPORTED


def test_a_metric_that_does_not_exist_is_found_out() -> None:
    assert metric_names('rate(engagement_nothing_total{sink="x"}[5m]) > on (a) foo') == {
        *("engagement_nothing_total", "foo")
    }
    with pytest.raises(ValueError, match=r"\w"):
        promql_parser.parse("rate(engagement_read_rows_total[5m")


def test_every_alert_has_a_severity_and_says_what_is_wrong() -> None:
    rules = yaml.safe_load((PROJECT / "conf/prometheus/alerts.yml").read_text())["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert len(rule["annotations"]["summary"]) > 20


def test_panels_do_not_overlap_and_all_have_a_unit() -> None:
    board = json.loads((PROJECT / "conf/grafana/dashboards/engagement.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["type"] == "row" or panel["fieldConfig"]["defaults"]["unit"]


def test_compose_mounts_what_is_there_and_grafana_finds_its_source() -> None:
    services = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]
    for name in ("prometheus", "grafana"):
        for volume in services[name]["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (PROJECT / source).exists(), source
    assert "pg_publication" in " ".join(services["postgres"]["healthcheck"]["test"]), (
        "it may have started without tables"
    )
    (source,) = yaml.safe_load((PROJECT / "conf/grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    dashboard = (PROJECT / "conf/grafana/dashboards/engagement.json").read_text()
    assert f'"uid": "{source["uid"]}"' in dashboard


@needs_promtool
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "conf/prometheus/prometheus.yml"),
        ("check", "rules", "conf/prometheus/alerts.yml"),
        ("test", "rules", "tests/prometheus/alerts.test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_accepts(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([str(PROMTOOL), *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
