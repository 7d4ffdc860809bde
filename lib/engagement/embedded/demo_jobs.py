"""The jobs that a demo runs beside the services: how each runs, and how whoever comes next finds and ends them."""

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from engagement.embedded.process import ProcessSpec, Supervised

STOP_SECONDS = 40.0
"""A streaming job finishes its micro-batch first."""
_PREFIX = "demo-"


def job_spec(
    name: str, arguments: Sequence[str], home: Path, environment: Mapping[str, str], niceness: int = 0
) -> ProcessSpec:
    """Tell how the job `name` runs below ENGAGEMENT_HOME."""
    return ProcessSpec(
        name=name,
        command=(sys.executable, "-m", f"jobs.{name}", *arguments),
        folder=home / "demo" / name,
        log=home / "logs" / f"{name}.log",
        pid_file=home / "run" / f"{_PREFIX}{name}.json",
        env=environment,
        stop_seconds=STOP_SECONDS,
        niceness=niceness,
    )


def stop_jobs(home: Path, progress: Callable[[str], None]) -> None:
    """End what a demo has left behind that was killed; a demo that ends by itself leaves nothing."""
    names = [path.stem.removeprefix(_PREFIX) for path in sorted((home / "run").glob(f"{_PREFIX}*.json"))]
    if not names:
        return
    with ThreadPoolExecutor(len(names)) as pool:
        for name in pool.map(lambda name: _stop(job_spec(name, (), home, {})), names):
            progress(f"{name}: stopped")


def _stop(spec: ProcessSpec) -> str:
    Supervised(spec.name, spec.pid_file).stop(spec)
    return spec.name
