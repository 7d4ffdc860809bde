"""Which names are ours: finds misspelt settings without tripping over other programs' variables. Pure."""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase

PREFIXES = (
    "BACKFILL_",
    "BIGQUERY_",
    "CHECKPOINT_",
    "CONTENT_REFRESH_",
    "DATABASE_",
    "DB_",
    "ENABLE_EXACTLY_",
    "ENABLE_HEALTH_",
    "EVENTS_PER_",
    "EXTERNAL_SYSTEM_",
    "GENERATION_",
    "KAFKA_",
    "LAKE_",
    "MAX_EVENTS_",
    "MAX_PROCESSING_",
    "METRICS_",
    "PROCESSING_",
    "RECONCILE_",
    "REDIS_",
)
# Set by Kafka's and Redis's own scripts and images, and by Kubernetes for every service in a namespace. None of them
# is a misspelt setting, and nobody can unset what Kubernetes injects.
_OTHER_PROGRAMS = re.compile(
    r"KAFKA_(HOME|OPTS|DEBUG|\w+_OPTS|GC_\w+|JMX_\w+|LOG4J_\w+|VERSION|SCALA_VERSION)"
    r"|(KAFKA|REDIS)_(VERSION|DOWNLOAD_\w+|SHA256|SHA)"
    r"|\w+_SERVICE_(HOST|PORT(_\w+)?)"
    r"|\w+_PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?"
)
# Also switches of tests and launchers, so that only what looks like a misspelt setting is reported.
_OURS = "ENGAGEMENT_"
_ALIKE = 0.6
_ALMOST_THE_SAME = 0.88


def unknown_in_file(values: Mapping[str, object], known: Collection[str]) -> Iterator[str]:
    """Yield a problem for each name of `.env` under our prefixes, or nearly one of ours, that is no setting."""
    for name in values:
        if name not in known and (name.startswith(PREFIXES) or _nearest(name, known, _ALMOST_THE_SAME)):
            yield f"{name} is no setting{_hint(name, known)}"


def unknown_in_conf(values: Mapping[str, object], known: Collection[str]) -> Iterator[str]:
    """Yield a problem for each name of a conf file that is no setting: such a file is read by nobody else."""
    for name in values:
        if name not in known:
            yield f"{name} is no setting{_hint(name, known)}"


def unknown_in_environment(values: Mapping[str, object], known: Collection[str], foreign: str) -> Iterator[str]:
    """Yield a problem for each variable under our prefixes that is no setting.

    `foreign` is ENGAGEMENT_FOREIGN_VARIABLES: names or patterns, separated by commas, that belong to other programs.
    """
    allowed = [pattern.strip() for pattern in foreign.split(",") if pattern.strip()]
    for name in sorted(values):
        if name in known or _OTHER_PROGRAMS.fullmatch(name) or any(fnmatchcase(name, item) for item in allowed):
            continue
        if name.startswith(PREFIXES) or (name.startswith(_OURS) and _nearest(name, known, _ALMOST_THE_SAME)):
            yield (
                f"{name} is no setting{_hint(name, known)} "
                f"(if another program needs it, list it in ENGAGEMENT_FOREIGN_VARIABLES)"
            )


def _hint(name: str, known: Collection[str]) -> str:
    nearest = _nearest(name, known, _ALIKE)
    return f"; did you mean {nearest}?" if nearest else ""


def _nearest(name: str, known: Collection[str], cutoff: float) -> str:
    found = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    return found[0] if found else ""
