"""Idempotency keys: the same key means the same event versions, for ever. Pure.

A key is made of nothing but what it names, so every driver, replay, backfill and later release gives the same one.
"""

from collections.abc import Sequence
from uuid import UUID, uuid5

_NAMESPACE = UUID("5d1f6c1e-7a0b-4a3b-9f0e-3f8a2b6c9d42")
"""Never to be changed: every receiver would take what it has for new."""


def event_key(installation: str, event_id: int, version: int) -> str:
    """The key of one row version.

    >>> event_key("engagement", 1, 33749928)
    'db3aebad-31fc-5acd-938d-479cde12f3a1'
    """
    return str(uuid5(_NAMESPACE, f"{installation}/{event_id}/{version}"))


def batch_key(keys: Sequence[str]) -> str:
    """The key of a batch: of its members, in their order."""
    return str(uuid5(_NAMESPACE, "batch/" + "/".join(keys)))
