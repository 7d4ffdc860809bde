"""Test data that looks like life: a pure core that makes rows, a thin edge that writes them to PostgreSQL."""

from engagement.generator.catalogue import ContentRow, make_catalogue
from engagement.generator.events import EventFactory, EventRow, Traits
from engagement.generator.plan import MODES, Mode, Plan, Request
from engagement.generator.run import Generator, Progress

__all__ = [
    "MODES",
    "ContentRow",
    "EventFactory",
    "EventRow",
    "Generator",
    "Mode",
    "Plan",
    "Progress",
    "Request",
    "Traits",
    "make_catalogue",
]
