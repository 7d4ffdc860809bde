"""What a demo shows on a terminal, and in a log file where there is none."""

from collections.abc import Callable
from datetime import timedelta

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from engagement.demo.run import Moment

_NEWEST_PROBES = 200
_LINE_EVERY_SECONDS = 10.0


def summary(moment: Moment) -> str:
    """The state in one line."""
    status = moment.status
    rate = f"{status.input_rows_per_second:,.0f} events/s" if status else "no events yet"
    fresh = moment.probe.freshness(_NEWEST_PROBES)
    freshness = f"freshness p50 {fresh.p50_ms:.0f} ms, p99 {fresh.p99_ms:.0f} ms" if fresh else "freshness unknown"
    sick = [f"{name} {state}" for name, state in moment.services.items() if state not in {"running", "external"}]
    return f"{timedelta(seconds=int(moment.seconds))}  {rate}  {freshness}  {', '.join(sick) or 'all services running'}"


class LineDisplay:
    """Lines, a state line every ten seconds: for logs and unattended runs."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._last = -_LINE_EVERY_SECONDS

    def say(self, text: str) -> None:
        """One line of progress."""
        self._write(text)

    def show(self, moment: Moment) -> None:
        """A state line, unless one was written a moment ago."""
        if moment.seconds - self._last >= _LINE_EVERY_SECONDS:
            self._last = moment.seconds
            self._write(summary(moment))


class LiveDisplay:
    """A table that redraws itself; use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=2, transient=False)

    def __enter__(self) -> "LiveDisplay":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """One line of progress, above the table."""
        self._live.console.print(Text(text))

    def show(self, moment: Moment) -> None:
        """Redraw."""
        ranking = Table(title="Top content, last 10 minutes", expand=True)
        ranking.add_column("#", justify="right")
        ranking.add_column("content")
        ranking.add_column("score", justify="right")
        for rank, (title, score) in enumerate(moment.top, start=1):
            ranking.add_row(str(rank), Text(title), f"{score:,.2f}")
        services = Text()
        for name, state in moment.services.items():
            services.append(f"● {name}  ", style="green" if state in {"running", "external"} else "bold red")
        self._live.update(
            Panel(
                Group(Text(summary(moment)), services, ranking, Text("Ctrl-C stops everything.", style="dim")),
                title=f"engagement  {moment.address}",
            )
        )
