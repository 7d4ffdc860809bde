"""The steps of the protocol as statements and calls (protocol.Ledger); decides nothing."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from engagement.errors import ContractError
from engagement.identity import Fence
from engagement.sinks.bigquery.client import WarehouseOptions
from engagement.sinks.bigquery.fence import (
    Answer,
    Claim,
    FenceRow,
    Written,
    from_text,
    places_from_text,
    places_to_text,
    start_of,
    to_text,
)
from engagement.sinks.bigquery.rest import Parameter, Rest
from engagement.sinks.bigquery.stream import commit
from engagement.transform.instant import from_micros, to_micros

_DONE, _CLAIMED = "done", "claimed"


class BigQueryLedger:
    """The fence's table and the events' table of one dataset."""

    def __init__(self, rest: Rest, options: WarehouseOptions) -> None:
        self._rest = rest
        self._options = options

    def read(self, topic_id: str) -> FenceRow | None:
        """The topic's row of this events' table; None when there is none yet."""
        found = [row for row in self._own() if row["topic_id"] == topic_id]
        if len(found) > 1:
            raise ContractError(f"the warehouse's fence has {len(found)} rows of topic {topic_id} and one table")
        return _fence_row(found[0]) if found else None

    def seed(self, topic_id: str, token: str) -> None:
        """Make the row of a topic that has none, from what the rows of the events' table say."""
        known = {row["topic_id"]: from_text(row["next_offsets"]) for row in self._own()}
        start = start_of(known, self._held())
        parameters = [_text("topic_id", topic_id), _text("token", token), _offsets(start), self._table()]
        self._rest.run("seed_fence", parameters)

    def claim(self, read_token: str, row: FenceRow) -> bool:
        """Replace the row that was read; False when it is another one by now, or claimed."""
        written = row.claim.written if row.claim else Written()
        parameters = [
            *_this(row),
            _text("read_token", read_token),
            _text("state", _CLAIMED if row.claim else _DONE),
            _offsets(row.next_offsets),
            _text("streams", json.dumps(written.streams)),
            _text("batch", written.batch),
            _text("places", places_to_text(row.places)),
            self._table(),
            _time("processed", written.processed_us),
            _time("event_from", written.event_from_us),
            _time("event_to", written.event_to_us),
        ]
        return self._changes_one("claim_fence", parameters)

    def commit(self, streams: tuple[str, ...]) -> Answer:
        """Make the rows of finalized streams visible, all or none."""
        return commit(self._options, streams)

    def landed(self, row: FenceRow) -> bool:
        """Whether the events' table holds rows of this claim: one tells of all, since a commit is all or nothing."""
        written = row.claim.written if row.claim else Written()
        parameters = [
            _time("processed", written.processed_us),
            _time("event_from", written.event_from_us),
            _time("event_to", written.event_to_us),
        ]
        return any(self._holds(parameters, span) for span in row.step)

    def finish(self, row: FenceRow) -> bool:
        """Note a claim as done; False when it is none any more."""
        return self._changes_one("finish_claim", _this(row))

    def undo(self, row: FenceRow) -> bool:
        """Put the fence back to where the claim began; False when it is none any more."""
        return self._changes_one("undo_claim", _this(row))

    def _own(self) -> Sequence[Any]:
        """The rows that are this events' table's.

        Those of an earlier release name no table: they are of this one until it has its own, unless it holds no row of
        a stream's. Then they tell of another table, or of rows that are gone, and nothing of them is to be believed.
        """
        rows = self._rest.run("read_fence").rows
        named = [row for row in rows if row["events_table"] == self._options.table]
        unnamed = [row for row in rows if row["events_table"] is None]
        if named or not unnamed:
            return named
        return unnamed if self._held() else []

    def _table(self) -> Parameter:
        return _text("events_table", self._options.table)

    def _changes_one(self, statement: str, parameters: Sequence[Parameter]) -> bool:
        return self._rest.run(statement, parameters).affected == 1

    def _holds(self, claim: Sequence[Parameter], span: tuple[int, int, int]) -> bool:
        names = ("kafka_partition", "first_offset", "end_offset")
        numbers = [Parameter(name, "INT64", number) for name, number in zip(names, span, strict=True)]
        return bool(self._rest.run("rows_of_claim", [*claim, *numbers]).rows[0]["found"])

    def _held(self) -> Fence:
        return {row["kafka_partition"]: row["following"] for row in self._rest.run("held_offsets").rows}


def _fence_row(row: Any) -> FenceRow:  # noqa: ANN401 a row of Google's client, which has no types
    following, claim = from_text(row["next_offsets"]), None
    if row["state"] == _CLAIMED:
        written = Written(
            tuple(str(name) for name in json.loads(row["streams"])),
            _micros(row["processed_timestamp"]) or 0,
            _micros(row["event_from"]),
            _micros(row["event_to"]),
        )
        claim = Claim(from_text(row["former_offsets"]), written, float(row["age_seconds"]))
    return FenceRow(row["topic_id"], following, row["token"], claim, places_from_text(row["places"]))


def _this(row: FenceRow) -> list[Parameter]:
    return [_text("topic_id", row.topic_id), _text("token", row.token)]


def _text(name: str, value: str) -> Parameter:
    return Parameter(name, "STRING", value)


def _offsets(offsets: Fence) -> Parameter:
    return _text("next_offsets", to_text(offsets))


def _time(name: str, us: int | None) -> Parameter:
    return Parameter(name, "TIMESTAMP", None if us is None else from_micros(us))


def _micros(at: datetime | None) -> int | None:
    return None if at is None else to_micros(at)
