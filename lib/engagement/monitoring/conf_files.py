"""Writes conf/prometheus/alerts.yml and conf/grafana/dashboards/: `python -m engagement.monitoring.conf_files`.

A development tool (it needs grafana-foundation-sdk); a test fails when the files are not what it would write.
"""

from collections.abc import Iterator
from pathlib import Path

import yaml

from engagement.monitoring.alerts import rule_file
from engagement.monitoring.dashboards import dashboard_json
from engagement.project import PROJECT

_HEAD = "# Written by `python -m engagement.monitoring.conf_files` from lib/engagement/monitoring/alerts.py.\n"


def conf_files() -> Iterator[tuple[Path, str]]:
    """Each file, relative to the project, with its content."""
    rules = yaml.safe_dump(rule_file(), sort_keys=False, width=1000, allow_unicode=True)
    yield Path("conf/prometheus/alerts.yml"), _HEAD + rules
    yield Path("conf/grafana/dashboards/engagement.json"), dashboard_json()


if __name__ == "__main__":
    for path, text in conf_files():
        (PROJECT / path).parent.mkdir(parents=True, exist_ok=True)
        (PROJECT / path).write_text(text, encoding="utf-8")
