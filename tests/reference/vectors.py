"""The vector files of tests/vectors, read for tests; see each loader for their form."""

import base64
import json
from pathlib import Path
from typing import Any

from tests.builders import Message

_FOLDER = Path(__file__).resolve().parents[1] / "vectors"


def scoring_vectors() -> list[dict[str, Any]]:
    """Event and content -> computed columns; `content` is known, unknown, or null when the event has none."""
    return _load("scoring.json")


def message_vectors() -> list[dict[str, Any]]:
    """Message -> outcome. The value is text, base64, or texts to repeat; columns not named are not looked at."""
    return _load("messages.json")


def vector_message(vector: dict[str, Any], offset: int) -> Message:
    """The message of a vector."""
    value: bytes | None
    if "value_base64" in vector:
        value = base64.b64decode(vector["value_base64"])
    elif "value_parts" in vector:
        value = "".join(text * count for text, count in vector["value_parts"]).encode()
    else:
        value = None if vector["value"] is None else vector["value"].encode()
    return Message(value, offset=offset, headers=tuple(vector.get("headers", ())))


def _load(name: str) -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads((_FOLDER / name).read_text("utf-8"))
    return vectors
