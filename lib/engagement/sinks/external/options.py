"""What the sink needs to know; it travels to Spark's tasks."""

from dataclasses import dataclass, field
from typing import Literal

SINK = "external"


@dataclass(frozen=True)
class ExternalOptions:
    """The receiver, and how it is spoken to."""

    url: str
    token: str = field(default="", repr=False)
    """Bearer token; empty: none is sent."""
    signing_secrets: tuple[str, ...] = field(default=(), repr=False)
    """Standard Webhooks secrets; each signs every request, so that a receiver may know the old or the new one."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    mode: Literal["batch", "single"] = "batch"
    batch_size: int = 100
    lanes: int = 8
    """Requests under way at once, per Spark task."""
    timeout_seconds: float = 10.0
    retry_attempts: int = 5
    """Tries after the first, within one round; what is left then is tried in the next round."""
    installation: str = "engagement"
    """Part of every idempotency key."""
    allow_private: bool = False
    """Whether the receiver may be in a private network."""
    ca_file: str = ""
    """PEM file of the authorities that are trusted; empty: the public ones."""
