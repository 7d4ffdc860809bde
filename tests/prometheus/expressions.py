"""The expressions in conf/prometheus and conf/grafana, and the metrics that they name."""

import json
from pathlib import Path

import promql_parser
import yaml

PROJECT = Path(__file__).resolve().parents[2]


def rule_expressions() -> list[str]:
    """Of each alert rule."""
    rules = yaml.safe_load((PROJECT / "conf/prometheus/alerts.yml").read_text())["groups"][0]["rules"]
    return [rule["expr"] for rule in rules]


def dashboard_expressions() -> list[str]:
    """Of each query of each panel, with Grafana's own variables filled in."""
    board = json.loads((PROJECT / "conf/grafana/dashboards/engagement.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    return [query.replace("$__rate_interval", "1m") for query in queries]


def metric_names(expression: str) -> set[str]:
    """Metrics that an expression reads; ValueError when it is no PromQL."""
    return set(_selectors(promql_parser.parse(expression)))


def _selectors(node: object) -> list[str]:
    names: list[str] = []
    for selector in (node, getattr(node, "vector_selector", None)):
        if isinstance(selector, promql_parser.VectorSelector) and selector.name:
            names.append(str(selector.name))
    children = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "param")]
    for child in [*children, *(getattr(node, "args", None) or [])]:
        if child is not None:
            names += _selectors(child)
    return names
