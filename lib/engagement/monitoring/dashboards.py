"""Grafana's dashboard, from the metrics of catalogue.py: conf/grafana/dashboards/engagement.json.

Needs grafana-foundation-sdk, a development dependency: what runs the pipeline never imports this.
"""

from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders.common import VizLegendOptions
from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.statetimeline import Panel as StateTimeline
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DataSourceRef, GridPos

from engagement.monitoring import catalogue as m
from engagement.monitoring.catalogue import Metric

UID = "engagement"
DATASOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
WIDTH = 24


@dataclass(frozen=True)
class Chart:
    """One panel: its title, queries with their legends, the unit, and how much of the row's 24 columns it takes."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str
    width: int = 8
    kind: str = "line"


def _rate(metric: Metric, *by: str) -> str:
    return f"sum by ({', '.join(by)}) (rate({metric.sample}[$__rate_interval]))"


def _quantile(metric: Metric, quantile: float, only: str = "") -> str:
    return f"histogram_quantile({quantile:g}, sum by (le, sink) (rate({metric.sample}{only}[$__rate_interval])))"


ROWS: tuple[tuple[str, tuple[Chart, ...]], ...] = (
    ("At a glance", (
        Chart("Health", ((m.HEALTH.sample, "all"),), "percentunit", 4, "stat"),
        Chart("Redis, p99 freshness", ((_quantile(m.FRESHNESS, 0.99, '{sink="redis"}'), "p99"),), "s", 5,
              "stat"),
        Chart("Events per second", ((f'sum({m.INPUT_RATE.sample}{{sink="redis"}})', "read"),), "short", 5, "stat"),
        Chart("Rows without an outcome", ((f"sum({m.CONSERVATION.sample})", "must be 0"),), "short", 5, "stat"),
        Chart("Slot lag", ((m.SLOT_LAG.sample, "WAL"),), "bytes", 5, "stat"),
    )),
    ("Freshness: commit to visible", (
        Chart("p99 per sink", ((_quantile(m.FRESHNESS, 0.99), "{{sink}}"),), "s", 12),
        Chart("Median per sink", ((_quantile(m.FRESHNESS, 0.5), "{{sink}}"),), "s", 6),
        Chart("Seen by a reader, p99", ((_quantile(m.PROBE_FRESHNESS, 0.99), "{{sink}}"),), "s", 6),
    )),
    ("Rows", (
        Chart("Read per second", ((_rate(m.READ_ROWS, "sink"), "{{sink}}"),), "short"),
        Chart("Outcomes per second", ((_rate(m.PROCESSED_ROWS, "sink", "outcome"), "{{sink}} {{outcome}}"),), "short"),
        Chart("Dead letters per second", ((_rate(m.DEAD_LETTER_ROWS, "sink", "code"), "{{sink}} {{code}}"),), "short"),
        Chart("Dead letters nobody has seen to", (
            (f'{m.STORED_DEAD_LETTERS.sample}{{status="new"}}', "{{sink}} {{code}}"),
        ), "short"),
        Chart("The oldest of them", ((f"time() - {m.OLDEST_DEAD_LETTER.sample}", "{{sink}} {{code}}"),), "s"),
        Chart("Waiting in Kafka", ((f"sum by (sink) ({m.LAG_ROWS.sample})", "{{sink}}"),), "short"),
        Chart("Oldest waiting message", ((f"max by (sink) ({m.LAG_SECONDS.sample})", "{{sink}}"),), "s"),
        Chart("Late, repeated", (
            (_rate(m.LATE_ROWS, "sink"), "{{sink}} late"), (_rate(m.REPEAT_ROWS, "sink"), "{{sink}} repeated"),
        ), "short"),
    )),
    ("Queries", (
        Chart("State", ((f"{m.QUERY_STATE.sample} == 1", "{{sink}} {{state}}"),), "short", 8, "state"),
        Chart("Last micro-batch", ((m.BATCH_DURATION.sample, "{{sink}}"),), "s"),
        Chart("Its phases, Redis", ((f'{m.BATCH_PHASE.sample}{{sink="redis"}}', "{{phase}}"),), "s"),
        Chart("Since the last success", ((f"time() - {m.LAST_SUCCESS.sample}", "{{sink}}"),), "s"),
        Chart("Retries, rebuilds", (
            (f"increase({m.RETRIES.sample}[$__rate_interval])", "{{sink}} retries"),
            (f"increase({m.REBUILDS.sample}[$__rate_interval])", "{{sink}} rebuilds"),
        ), "short"),
        Chart("Age of contents", ((m.CONTENT_AGE.sample, "{{sink}}"),), "s"),
    )),
    ("Services", (
        Chart("Components", ((m.COMPONENT_HEALTH.sample, "{{component}}"),), "percentunit", 12, "state"),
        Chart("Answer time", ((m.COMPONENT_LATENCY.sample, "{{component}}"),), "s", 6),
        Chart("Memory", ((m.PROCESS_MEMORY.sample, "{{process}}"),), "bytes", 6),
        Chart("Replication slot", (
            (m.SLOT_LAG.sample, "not confirmed"), (m.SLOT_RETAINED.sample, "kept"),
        ), "bytes"),
        Chart("Silence of the connector", ((m.SOURCE_SILENCE.sample, "seconds"),), "s"),
        Chart("API answers per second", ((_rate(m.API_RESPONSES, "code"), "{{code}}"),), "short"),
    )),
    ("External system, backfill, reconcile", (
        Chart("Breaker", ((f"{m.BREAKER_STATE.sample} == 1", "{{sink}} {{state}}"),), "short", 8, "state"),
        Chart("Requests per second", (
            (_rate(m.REQUESTS, "sink", "outcome"), "{{sink}} {{outcome}}"),
            (_rate(m.REQUEST_RETRIES, "sink"), "{{sink}} sent again"),
        ), "short"),
        Chart("Backfill", (
            (f"{m.BACKFILL_DONE_ROWS.sample} / {m.BACKFILL_PLANNED_ROWS.sample}", "{{sink}}"),
        ), "percentunit"),
        Chart("Backfill's failed chunks", ((m.BACKFILL_FAILED_CHUNKS.sample, "{{sink}}"),), "short"),
        Chart("Drift", ((m.DRIFT_ROWS.sample, "{{sink}} {{kind}}"),), "short"),
        Chart("Since the last reconcile", ((f"time() - {m.RECONCILED.sample}", "{{sink}}"),), "s"),
    )),
)  # fmt: skip
HEIGHTS = {"stat": 4, "line": 7, "state": 7}


def dashboard_json() -> str:
    """The dashboard as Grafana imports it."""
    board = (
        Dashboard("Engagement")
        .uid(UID)
        .tags(["engagement"])
        .refresh("5s")
        .time("now-30m", "now")
        .timezone("browser")
        .readonly()
    )
    top = 0
    for title, charts in ROWS:
        board = board.with_row(Row(title).grid_pos(GridPos(h=1, w=WIDTH, x=0, y=top)))
        top += 1
        left = 0
        for chart in charts:
            if left + chart.width > WIDTH:
                left, top = 0, top + HEIGHTS[chart.kind]
            place = GridPos(h=HEIGHTS[chart.kind], w=chart.width, x=left, y=top)
            board = board.with_panel(_panel(chart).grid_pos(place))
            left += chart.width
        top += max(HEIGHTS[chart.kind] for chart in charts)
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _panel(chart: Chart) -> TimeSeries | Stat | StateTimeline:
    panel: TimeSeries | Stat | StateTimeline = _PANELS[chart.kind]().title(chart.title)
    panel = panel.unit(chart.unit).datasource(DATASOURCE)
    if isinstance(panel, TimeSeries):
        shown = VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
        panel = panel.legend(shown.show_legend(True)).fill_opacity(8).line_width(2)
    for number, (expression, legend) in enumerate(chart.queries):
        query = Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + number))
        panel = panel.with_target(query.datasource(DATASOURCE))
    return panel


_PANELS: dict[str, Any] = {"line": TimeSeries, "stat": Stat, "state": StateTimeline}
