"""Idempotency keys: the same key means the same event versions, for ever. Pure.

A key is made of nothing but what it names, so every driver, replay, backfill and later release gives the same one.
"""

from collections.abc import Sequence
from hashlib import sha1
from uuid import UUID, uuid5

_NAMESPACE = UUID("5d1f6c1e-7a0b-4a3b-9f0e-3f8a2b6c9d42")
"""Never to be changed: every receiver would take what it has for new."""
_FREE = ~(0xF << 76 | 0b11 << 62)
_VERSION_5 = 5 << 76 | 0b10 << 62
"""Bits of a UUID that RFC 9562 fixes: its version and its variant."""


def event_key(installation: str, event_id: int, version: int) -> str:
    """The key of one row version.

    >>> event_key("engagement", 1, 33749928)
    'db3aebad-31fc-5acd-938d-479cde12f3a1'
    """
    name = f"{installation}/{event_id}/{version}"
    digest = sha1(_NAMESPACE.bytes + name.encode(), usedforsecurity=False).digest()
    # uuid5 without its object, which costs twice as much as all the rest.
    text = (int.from_bytes(digest[:16]) & _FREE | _VERSION_5).to_bytes(16).hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def batch_key(keys: Sequence[str]) -> str:
    """The key of a batch: of its members, in their order."""
    return str(uuid5(_NAMESPACE, "batch/" + "/".join(keys)))
