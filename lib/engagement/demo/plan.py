"""What a demo is to do."""

from dataclasses import dataclass
from pathlib import Path

from engagement.demo.warehouse import Warehouse

WARM_UP_SHARE = 0.25
WARM_UP_MOST_SECONDS = 60.0


@dataclass(frozen=True)
class DemoPlan:
    """What the person asked for; `duration_seconds` None = until told to stop."""

    rate: int
    duration_seconds: float | None
    setup_seconds: float
    sql_folder: Path
    warehouse: Warehouse
    began: float
    """Monotonic seconds at which the command's Python started."""
    chaos_seed: int | None = None
    """Break things in the order that this gives while it is measured; None = do not."""

    @property
    def warm_up_seconds(self) -> float:
        """Before the measured time; 0 where nothing is measured.

        The JVM compiles for about a minute, and first micro-batches are several times slower.
        """
        return min(WARM_UP_MOST_SECONDS, (self.duration_seconds or 0.0) * WARM_UP_SHARE)
