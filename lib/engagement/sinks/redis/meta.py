"""What readers see of contents beside their numbers: written when it changed, and all of it after a restart."""

from collections.abc import Callable, Sequence
from datetime import datetime

import pyarrow as pa

from engagement.sinks.redis.reader import ContentMeta
from engagement.transform.instant import to_micros, to_text

_Write = Callable[[Sequence[ContentMeta]], None]


class MetaWriter:
    """Remembers what it wrote, so that a catalogue that did not change costs nothing."""

    def __init__(self, write: _Write) -> None:
        self._write = write
        self._written: dict[str, ContentMeta] = {}

    def write(self, table: pa.Table) -> None:
        """Write the contents that are new or differ from what was written last. Raises: TransientSinkError."""
        contents = {row["content_id"]: _meta(row) for row in table.to_pylist()}
        changed = [meta for content_id, meta in contents.items() if self._written.get(content_id) != meta]
        if changed:
            self._write(changed)
            self._written = contents

    def write_anew(self, table: pa.Table) -> None:
        """Write all contents: Redis has lost them. Raises: TransientSinkError."""
        self._written = {}
        self.write(table)


def _meta(row: dict[str, object]) -> ContentMeta:
    published, length = row["publish_ts"], row["length_seconds"]
    return ContentMeta(
        content_id=str(row["content_id"]),
        slug=_text(row["slug"]),
        title=_text(row["title"]),
        content_type=_text(row["content_type"]),
        length_seconds=int(str(length)) if length is not None else None,
        publish_ts=to_text(to_micros(published)) if isinstance(published, datetime) else None,
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)
