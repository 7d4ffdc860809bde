"""The lake's table of dead letters, read and marked without a JVM, beside the job that writes to it.

Guarantee: a mark is one Delta commit; status and history move together. It races with the job's own commits: Delta
lets one of the two pass, and the other looks again and repeats; a letter is only marked from a status it may leave.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from engagement.dead_letters.letter import Action, FullLetter, Letter, LetterId, Place
from engagement.dead_letters.selection import Selection, quoted
from engagement.errors import ContractError, TransientError
from engagement.retry import RetryPolicy, call_with_retry
from engagement.transform.instant import to_micros

_ROWS_PER_BATCH = "256"
"""Rows that are decoded at once: messages may be large."""
_CONFLICTS = RetryPolicy(attempts=10, base_seconds=0.2, cap_seconds=5.0, deadline_seconds=120.0)
_ACTION = pa.struct(
    [("at", pa.timestamp("us", "UTC")), ("who", pa.string()), ("action", pa.string()), ("detail", pa.string())]
)
_MARKS = pa.schema(
    [
        ("topic", pa.string()),
        ("kafka_partition", pa.int32()),
        ("kafka_offset", pa.int64()),
        ("stage", pa.string()),
        ("kafka_date", pa.date32()),
        ("kafka_ts", pa.timestamp("us", "UTC")),
        ("status", pa.string()),
        ("action", pa.list_(_ACTION)),
    ]
)
_COLUMNS = frozenset({"header_names", "history", "status", "raw_value", "replay_of"})
_SAME_LETTER = " and ".join(
    f"stored.{name} = mark.{name}"
    for name in ("kafka_date", "topic", "kafka_partition", "kafka_offset", "stage", "kafka_ts")
)


@dataclass(frozen=True)
class Count:
    """Letters that share code, sink and status."""

    code: str
    sink: str
    status: str
    letters: int
    oldest: Any
    """Kafka time of the oldest (datetime)."""


class LetterTable:
    """Opens the table anew for every question; every method raises TransientError and ContractError."""

    def __init__(self, lake: str, sql: Path) -> None:
        self._path = f"{lake}/dead_letters"
        self._sql = sql / "dead_letters"

    @property
    def path(self) -> str:
        """Folder or address of the table."""
        return self._path

    def exists(self) -> bool:
        """Whether any streaming job has made it yet."""
        with self._translated():
            return DeltaTable.is_deltatable(self._path)

    def version(self) -> int:
        """Grows with every change of the table; cheap to ask for."""
        with self._translated():
            return DeltaTable(self._path).version()

    def counts(self, selection: Selection) -> list[Count]:
        """How many letters there are of each code, sink and status; most first."""
        return [Count(**row) for row in self._ask("counts", selection).to_pylist()]

    def newest(self, selection: Selection, limit: int) -> list[Letter]:
        """The newest letters, newest first."""
        return [_letter(row) for row in self._ask("letters", selection, limit=str(limit)).to_pylist()]

    def places(self, selection: Selection) -> list[Place]:
        """Every letter's place, in the order in which the messages came."""
        rows = self._ask("places", selection).to_pylist()
        return [Place(_id(row), row["kafka_us"], row["kafka_date"], row["sink"], row["size"]) for row in rows]

    def messages(self, places: Sequence[Place], selection: Selection) -> list[FullLetter]:
        """The letters at these places with their messages, in the same order; those no longer selected are left out."""
        if not places:
            return []
        days = sorted({place.kafka_date.isoformat() for place in places})
        offsets = [place.id.offset for place in places]
        near = f"kafka_date in ({', '.join(f'date {quoted(day)}' for day in days)})"
        near += f" and kafka_offset between {min(offsets)} and {max(offsets)} and {selection.condition()}"
        wanted = {(place.id, place.kafka_us): number for number, place in enumerate(places)}
        found: dict[int, FullLetter] = {}
        for batch in self._stream("messages", near):
            for row in batch.to_pylist():
                number = wanted.get((_id(row), to_micros(row["kafka_ts"])))
                if number is not None:
                    names = tuple(row["header_names"] or ())
                    value, replay_of = row["raw_value"] or b"", row["replay_of"]
                    found[number] = FullLetter(places[number], _letter(row), value, names, replay_of)
        return [found[number] for number in sorted(found)]

    def mark(self, marks: Mapping[Place, Action], status: str, leaving: Sequence[str]) -> int:
        """Give letters a status, if they have one of `leaving`, and add to their history; returns how many."""
        if not marks:
            return 0
        rows = [
            {
                **_place_columns(place.id),
                "kafka_date": place.kafka_date,
                "kafka_ts": place.kafka_us,
                "status": status,
                "action": [action._asdict()],
            }
            for place, action in marks.items()
        ]
        source = pa.Table.from_pylist(rows, schema=_MARKS)
        days = sorted({place.kafka_date.isoformat() for place in marks})
        # The days are named, so that a commit of the job about another day is no conflict.
        within = f"stored.kafka_date in ({', '.join(f'date {quoted(day)}' for day in days)}) and {_SAME_LETTER}"
        may_leave = f"stored.status in ({', '.join(map(quoted, leaving))})"
        return call_with_retry(lambda: self._merge(source, within, may_leave), _CONFLICTS)

    def _merge(self, source: pa.Table, same: str, may_leave: str) -> int:
        with self._translated():
            merge = self._open().merge(source, same, source_alias="mark", target_alias="stored")
            changed = merge.when_matched_update(
                {"status": "mark.status", "history": "array_concat(stored.history, mark.action)"}, may_leave
            ).execute()
        return int(changed["num_target_rows_updated"])

    def _ask(self, statement: str, selection: Selection, **names: str) -> pa.Table:
        return pa.Table.from_batches(*self._read(statement, selection.condition(), **names))

    def _stream(self, statement: str, condition: str) -> Iterator[pa.RecordBatch]:
        with self._translated():
            yield from self._reader(statement, condition)

    def _read(self, statement: str, condition: str, **names: str) -> tuple[list[pa.RecordBatch], pa.Schema]:
        with self._translated():
            reader = self._reader(statement, condition, **names)
            return list(reader), reader.schema

    def _reader(self, statement: str, condition: str, **names: str) -> pa.RecordBatchReader:
        text = (self._sql / f"{statement}.sql").read_text().format(condition=condition, **names)
        engine = QueryBuilder({"datafusion.execution.batch_size": _ROWS_PER_BATCH})
        return pa.RecordBatchReader.from_stream(engine.register("letters", self._open()).execute(text))

    def _open(self) -> DeltaTable:
        table = DeltaTable(self._path)
        lacking = _COLUMNS - {field.name for field in table.schema().fields}
        if lacking:
            raise ContractError(
                f"{self._path} has no column {', '.join(sorted(lacking))}: an older release made it; "
                f"`./spark-submit.sh stream` adds what is missing"
            )
        return table

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except TableNotFoundError as error:
            raise ContractError(f"there is no table of dead letters at {self._path}") from error
        except CommitFailedError as error:
            raise TransientError(f"{self._path}: somebody else wrote to it at the same time: {error}") from error
        except (DeltaError, OSError, pa.ArrowException) as error:  # the last: what the engine meets while it reads
            raise TransientError(f"{self._path} cannot be read or written: {error}") from error


def _id(row: Mapping[str, Any]) -> LetterId:
    return LetterId(row["topic"], row["kafka_partition"], row["kafka_offset"], row["stage"])


def _place_columns(letter: LetterId) -> dict[str, object]:
    names = ("topic", "kafka_partition", "kafka_offset", "stage")
    return dict(zip(names, letter, strict=True))


def _letter(row: Mapping[str, Any]) -> Letter:
    return Letter(
        _id(row), row["kafka_ts"], row["code"], row["detail"] or "", row["sink"], row["attempts"] or 0,
        row["batch_id"] or "", row["status"],
        tuple(Action(**action) for action in row["history"] or ()),
    )  # fmt: skip
