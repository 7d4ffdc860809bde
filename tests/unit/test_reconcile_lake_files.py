"""Which task sums up which of the lake's files, and that their sums are those of all rows together."""

import hashlib
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engagement.reconcile.compare import Slices, Sums
from engagement.reconcile.lake_files import RangeTask, Reading, _sum_up, plan_tasks
from engagement.sinks.delta.files import Folder

MILLION = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOMENT = datetime(2025, 8, 1, tzinfo=UTC)


def files(*given: tuple[int | None, int | None, int | None]) -> pa.Table:
    rows, first, last = zip(*given, strict=True)
    paths = [str(number) for number in range(len(given))]
    numbers = {name: pa.array(v, pa.int64()) for name, v in {"rows": rows, "first": first, "last": last}.items()}
    return pa.table({"path": paths, **numbers})


def test_each_task_has_the_files_of_its_ids_and_together_they_have_all() -> None:
    inserts = [(100_000, n * 100_000 + 1, (n + 1) * 100_000) for n in range(20)]
    chance = random.Random(7)
    given = files(*chance.sample(inserts, 20), (500, 5, 1_999_999))
    tasks = plan_tasks(given, Slices(1, 2_000_000, 2_048))
    assert tasks
    assert len(tasks) in range(6, 12)
    assert [task.first for task in tasks] == [1, *(task.last + 1 for task in tasks[:-1])]
    assert tasks[-1].last == 2_000_000
    for path, first, last in zip(*(given[name].to_pylist() for name in ("path", "first", "last")), strict=True):
        reading = [task for task in tasks if path in task.paths]
        assert reading == [task for task in tasks if task.first <= last and task.last >= first]


def test_files_outside_of_what_is_asked_for_are_not_read() -> None:
    given = files((10, 1, 10), (10, 11, 20), (10, 21, 30))
    assert plan_tasks(given, Slices(12, 18, 2_048)) == [RangeTask(12, 18, ("1",))]
    assert plan_tasks(given, Slices(40, 50, 2_048)) == [RangeTask(40, 50, ())]
    assert plan_tasks(given.slice(0, 0), Slices(1, 5, 2_048)) == [RangeTask(1, 5, ())]


@pytest.mark.parametrize(
    "given",
    [
        [(10, 1, 10), (10, None, None)],
        [(None, 1, 10)],
        [(5 * MILLION, 1, 5 * MILLION)],
        [(MILLION, n, 100 * MILLION + n) for n in range(1, 100)],
    ],
    ids=["no bounds", "no number of rows", "too much for a task", "ids from all over"],
)
def test_what_does_not_pay_is_left_to_spark(given: list[tuple[int | None, int | None, int | None]]) -> None:
    assert plan_tasks(files(*given), Slices(1, 200 * MILLION, 2_048)) is None


def test_sums_of_files_are_those_of_the_newest_live_versions(tmp_path: Path) -> None:
    chance = random.Random(11)
    columns = ("event_id", "version", "op", "event_ts", "duration_ms", "device")
    rows = [
        (
            chance.randrange(1, 3_000),
            chance.randrange(4),
            chance.choice("cccud"),
            _MOMENT + timedelta(hours=chance.randrange(48)),
        )
        for _ in range(5_000)
    ]
    # What has one name holds one thing; copies are copies.
    rows = list({row[:2]: row for row in rows}.values()) + rows[:1]
    full = [(*row, row[1] or None, chance.choice((None, "", "|~", "\u00e9"))) for row in rows]
    full[-1] = next(row for row in full if row[:2] == full[-1][:2])
    chance.shuffle(full)
    told = []
    for number, part in enumerate((full[:2_000], full[2_000:2_100], full[2_100:])):
        table = _as_others_write(pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in part]), number)
        name = f"day=1 x/{number}.parquet"
        (tmp_path / "day=1 x").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / name)
        ids = np.array([row[0] for row in part])
        told.append((name.replace(" ", "%20"), len(part), int(ids.min()), int(ids.max())))
    paths, counts, first, last = zip(*told, strict=True)
    slices = Slices(100, 2_900, 64)
    tasks = [RangeTask(100, 1_500, paths), RangeTask(1_501, 2_900, (*paths, "gone.parquet"))]
    assert plan_tasks(pa.table({"path": paths, "rows": counts, "first": first, "last": last}), slices)
    for times in (None, (_MOMENT, _MOMENT + timedelta(hours=20))):
        micros = None if times is None else tuple((moment - _EPOCH) // timedelta(microseconds=1) for moment in times)
        reading = Reading(Folder(str(tmp_path)), slices, micros)  # type: ignore[arg-type]
        numbers = pa.RecordBatch.from_pydict({"id": [0, 1]})
        found: dict[int, Sums] = defaultdict(Sums)
        for batch in _sum_up([numbers], tasks=tasks, reading=reading):
            for row in batch.to_pylist():
                had = found[row["bucket"]]
                found[row["bucket"]] = Sums(
                    had.events + row["events"], had.high + row["high"], had.low + row["low"], had.extra + row["extra"]
                )
        assert {k: v for k, v in found.items() if v != Sums()} == _wanted(full, slices, times)


def _as_others_write(table: pa.Table, number: int) -> pa.Table:
    """The same rows as engines write them whose texts are views or large: delta-rs, once it has deleted rows."""
    text = (pa.string(), pa.string_view(), pa.large_string())[number]
    fields = [field.with_type(text) if pa.types.is_string(field.type) else field for field in table.schema]
    return table.cast(pa.schema(fields))


def _wanted(
    rows: list[tuple[int, int, str, datetime, int | None, str | None]],
    slices: Slices,
    times: tuple[datetime, datetime] | None,
) -> dict[int, Sums]:
    versions: dict[tuple[int, int], list[tuple[int, int, str, datetime, int | None, str | None]]] = defaultdict(list)
    for row in rows:
        versions[row[:2]].append(row)
    newest = {event_id: version for event_id, version in sorted(versions)}
    found: dict[int, Sums] = defaultdict(Sums)
    for (event_id, version), copies in versions.items():
        if not slices.first <= event_id <= slices.last:
            continue
        _, _, op, moment, duration, device = copies[0]
        live = newest[event_id] == version and op != "d" and (times is None or times[0] <= moment < times[1])
        micros = (moment - _EPOCH) // timedelta(microseconds=1)
        values = (event_id, None, None, None, micros, duration, device)
        text = "|".join("~" if value is None else str(value) for value in values)
        digest = hashlib.md5(text.encode()).hexdigest()  # noqa: S324
        bucket = (event_id - slices.first) // slices.width
        had = found[bucket]
        found[bucket] = Sums(
            had.events + live,
            had.high + live * int(digest[:8], 16),
            had.low + live * int(digest[8:16], 16),
            had.extra + len(copies) - 1,
        )
    return {bucket: sums for bucket, sums in found.items() if sums != Sums()}
