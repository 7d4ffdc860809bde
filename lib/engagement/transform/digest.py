"""What tells whether two sides hold the same row: 64 bits of a digest, spelled alike wherever it is computed.

The digest of a row is the first 64 bits of the MD5 of its columns as text, computed where the row is: by PostgreSQL
(sql/backfill/digest_sums.sql), Spark (reconcile.sides.with_digest), BigQuery (sql/bigquery/drift_newest.sql), and here
on Arrow. raw_payload is not in it, since BigQuery spells JSON in its own way; nor is what events are enriched with: it
stays as it was at their delivery.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engagement.transform.columns import listed

DIGESTED = ("event_id", "content_id", "user_id", "event_type", "event_us", "duration_ms", "device")
"""What a row's digest is made of, in this order; event_us is event_ts, microseconds since 1970."""
_BYTES = 8


def digest_halves(columns: Mapping[str, pa.Array]) -> npt.NDArray[np.uint32]:
    """The halves of each row's digest, high and low: a row each.

    Args:
        columns: those of DIGESTED, with `event_us` as whole numbers.

    """
    texts = [columns[name].cast(pa.string()) for name in DIGESTED]
    joined = pc.binary_join_element_wise(*texts, "|", null_handling="replace", null_replacement="~")
    digests = b"".join(
        [hashlib.md5(text, usedforsecurity=False).digest()[:_BYTES] for text in listed(joined.cast(pa.binary()))]
    )
    return np.frombuffer(digests, ">u4").reshape(-1, 2).astype(np.uint32)


def micros_of(times: pa.Array) -> pa.Array:
    """Times as microseconds since 1970, whatever unit they have."""
    return times.cast(pa.timestamp("us", getattr(times.type, "tz", None))).cast(pa.int64())
