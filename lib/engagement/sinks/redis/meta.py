"""What readers see of contents beside their numbers: written when it changed, and all of it after a restart."""

import pyarrow as pa
import redis

from engagement.sinks.redis import keys
from engagement.sinks.redis.faults import translated
from engagement.sinks.redis.hashes import write_hashes
from engagement.sinks.redis.texts import texts

FIELDS = ("slug", "title", "content_type", "length_seconds", "publish_ts")
PIPELINE = 1000


class MetaWriter:
    """Writes content_meta:{id} hashes, and remembers which: a catalogue that did not change costs nothing."""

    def __init__(self) -> None:
        self._written: dict[str, tuple[str, ...]] = {}

    def write(self, client: redis.Redis, table: pa.Table) -> None:
        """Write the contents (contract CONTENT) that are new or differ from what was written last.

        Raises: TransientSinkError.
        """
        contents = dict(zip(table["content_id"].to_pylist(), texts(table, FIELDS), strict=True))
        changed = [content for content, values in contents.items() if self._written.get(content) != values]
        with translated():
            for start in range(0, len(changed), PIPELINE):
                some = changed[start : start + PIPELINE]
                hashes = {keys.content_meta(c): dict(zip(FIELDS, contents[c], strict=True)) for c in some}
                write_hashes(client, hashes)
        self._written = contents

    def write_anew(self, client: redis.Redis, table: pa.Table) -> None:
        """Write all contents: Redis has lost them. Raises: TransientSinkError."""
        self._written = {}
        self.write(client, table)
