"""A table's log: the fence that its commits carry, and the one commit that may follow it.

Reached through delta-rs, as the other engines that read the lake do: a commit costs milliseconds and no JVM.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.transaction import AddAction, RemoveAction
from pyarrow.fs import FileSystem

from engagement.errors import ContractError, TransientSinkError
from engagement.identity import BatchIdentity
from engagement.sinks.delta.faults import OTHER_DRIVER, translated
from engagement.sinks.delta.fence import DeltaFence, fence_of
from engagement.sinks.delta.files import Folder, add_action
from engagement.sinks.delta.tables import LakeTable
from engagement.transform.instant import to_micros

_NEWEST_COMMITS = 10
"""Where the fence is looked for first: behind it lies at most some upkeep."""
_RESTORE = "RESTORE"
_NO_VERSION = -1
_OTHER_WRITER = "another writer added to it meanwhile; looking again"


class DeltaLog:
    """One state of the table's log, read when it is made. Raises: TransientSinkError."""

    def __init__(self, table: LakeTable, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._sink = table.sink
        self._path = table.path
        self._partition_by = table.partition_by
        self._clock = clock
        with translated(self._sink):
            self._table = DeltaTable(table.path)

    def fence(self, topic_id: str) -> tuple[DeltaFence | None, bool]:
        """The topic's farthest fence, and whether any commit tells of one, if only of a topic that is gone.

        The farthest is not always in the newest commit: see `append_beside`.
        """
        told: list[DeltaFence] = []
        for limit in (_NEWEST_COMMITS, None):
            told = self._fences(limit)
            if found := _farthest(told, topic_id):
                return found, True
        return None, bool(told)

    def append(
        self, files: Sequence[Mapping[str, Any]], before: DeltaFence, after: DeltaFence, identity: BatchIdentity
    ) -> None:
        """Make files visible and the fence move, both or neither.

        The transaction id names the fence that it goes on from, and of commits with one id only the first passes:
        delta-rs compares ours with all that came since this state was read, and what goes on from `before`, which was
        read from this state or a later one, can only have come since.
        """
        self._append(files, after.to_metadata(identity), self._transaction(before.successor, 1), OTHER_DRIVER)

    def append_next(self, files: Sequence[Mapping[str, Any]], app: str, metadata: str) -> int:
        """Make files visible as the transaction of `app` that follows the one this state knows; its number.

        A commit of the same application that came since this state was read makes it fail: whoever decided by this
        state what is missing has to look again.
        """
        following = (self._table.transaction_version(app) or 0) + 1
        self._append(files, metadata, self._transaction(app, following), _OTHER_WRITER)
        return following

    def append_beside(self, files: Sequence[Mapping[str, Any]], chunk: str) -> None:
        """Make a backfill's files visible beside a stream, whose fence the commit carries along.

        Carried, since Delta forgets a frequently written table's commits within the hour, and with them a fence that
        no newer one repeats. What the stream commits between our look and our commit is farther than what we carry:
        `fence` goes by how far it is, among the newest commits, and a backfill looks anew before each of its own.
        """
        told = self._fences(_NEWEST_COMMITS) or self._fences(None)
        fence = _farthest(told, told[0].topic_id) if told else None
        metadata = fence.to_carried(chunk) if fence else json.dumps({"backfill": chunk})
        self._append(files, metadata, None, _OTHER_WRITER)

    def may_hold(self, column: str, first: int, last: int) -> bool:
        """Whether a file may have a value between these two, by its bounds; true where it tells none."""
        return self.most_rows(column, (first, last)) != 0

    def most_rows(self, column: str, between: tuple[int, int] | None) -> int | None:
        """Rows of the files that may have a value between these two, or of all; None: not every file tells its rows."""
        files = self.files(column)
        if between:
            outside = pc.or_(pc.greater(files["first"], between[1]), pc.less(files["last"], between[0]))
            files = files.filter(pc.invert(outside.fill_null(False)))
        rows: int | None = None if files["rows"].null_count else pc.sum(files["rows"], min_count=0).as_py()
        return rows

    def files(self, column: str) -> pa.Table:
        """Every file: its path below the table's folder, its rows, and the bounds of a column; NULL: it tells none."""
        files = self._files
        told = {"rows": "num_records", "first": f"min.{column}", "last": f"max.{column}"}
        unknown = pa.nulls(files.num_rows, pa.int64())
        columns = {name: files[own] if own in files.column_names else unknown for name, own in told.items()}
        return pa.table({"path": files["path"], **columns})

    def small_files(self, below: int) -> dict[str | None, int]:
        """Day -> its files of fewer bytes than `below`; days without any are absent."""
        small = self._files.filter(pc.less(self._files["size_bytes"], below))
        counted = pc.value_counts(small[f"partition.{self._partition_by}"].cast(pa.string())).to_pylist()
        return {day["values"]: day["counts"] for day in counted}

    def read(self, columns: Sequence[str], where: pc.Expression) -> pa.Table:
        """Some columns of some rows, as this state has them."""
        with translated(self._sink):
            return self._table.to_pyarrow_table(columns=list(columns), filters=where)

    @property
    def version(self) -> int:
        """The number of this state: how many commits came before it."""
        return int(self._table.version())

    @property
    def identity(self) -> str:
        """What the table was given when it was made, wherever it lies, and its newest RESTORE, if the log tells of one.

        Another text means another table, or one that may have lost what it held under the former text.
        """
        with translated(self._sink):
            commits = self._table.history()
        restored = [str(commit["version"]) for commit in commits if commit.get("operation") == _RESTORE]
        return " ".join((str(self._table.metadata().id), *restored[:1]))

    @property
    def is_plain(self) -> bool:
        """Whether its files hold its rows and nothing else has a say: no deletion vectors, no mapped columns."""
        return int(self._table.protocol().min_reader_version) == 1

    @cached_property
    def _files(self) -> pa.Table:
        """Every file as its commit tells of it."""
        with translated(self._sink):
            return pa.table(self._table.get_add_actions(flatten=True))

    def _fences(self, limit: int | None) -> list[DeltaFence]:
        """Those that the newest commits carry, newest first."""
        with translated(self._sink):
            commits = self._table.history(limit)
        found = [fence_of(commit.get("userMetadata")) for commit in self._standing(commits)]
        return [fence for fence in found if fence is not None]

    def _standing(self, commits: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Commits, newest first, without those that a RESTORE has undone: the log still tells of them."""
        newest = self._table.version()
        for commit in commits:
            if commit["version"] > newest:
                continue
            yield commit
            if commit.get("operation") == _RESTORE:
                newest = self._restored(int(commit["version"]))

    def _restored(self, restore: int) -> int:
        """The newest version before a RESTORE that had the files which it brought back.

        Found by what each commit changed, and not by what the RESTORE says that it went back to: Spark writes a time as
        its own zone has it, and does not name the zone. Versions with the same files in a row differ by fences without
        rows only, so any of them will do. Raises: TransientSinkError; ContractError when there is none.
        """
        differing: set[str] = set()
        with translated(self._sink):
            if DeltaTable(self._path).version() != self._table.version():
                # What came since is in the history too, whose versions are counted back from our state's.
                raise TransientSinkError(self._sink, _OTHER_WRITER)
            file_system, folder = Folder(self._path).opened()
            for version in range(restore, 0, -1):
                try:
                    differing ^= _changed_files(file_system, f"{folder}/_delta_log/{version:020}.json")
                except FileNotFoundError:  # Delta has forgotten this commit, and so all that came before it
                    return _NO_VERSION
                if not differing:
                    return version - 1
        raise ContractError(f"the RESTORE of version {restore} of {self._path} brought back what no version had")

    def _transaction(self, app: str, version: int) -> Transaction:
        """With its time, in ms: Delta forgets old ids (tables.FENCED), but never one that does not tell its age."""
        return Transaction(app, version, to_micros(self._clock()) // 1000)

    def _append(self, files: Sequence[Mapping[str, Any]], metadata: str, once: Transaction | None, lost: str) -> None:
        transactions = None if once is None else [once]
        properties = CommitProperties(custom_metadata={"userMetadata": metadata}, app_transactions=transactions)
        actions: list[AddAction | RemoveAction] = [add_action(file, self._partition_by) for file in files]
        schema = self._table.schema()
        with translated(self._sink, lost):
            self._table.create_write_transaction(
                actions, "append", schema, [self._partition_by], commit_properties=properties
            )


def _changed_files(file_system: FileSystem, commit: str) -> set[str]:
    """Files that a commit added or removed, without those with which it did both. Raises: OSError."""
    with file_system.open_input_stream(commit) as stream:
        actions = [json.loads(line) for line in stream.read().splitlines() if line]
    added, removed = ({action[what]["path"] for action in actions if what in action} for what in ("add", "remove"))
    return added ^ removed


def _farthest(fences: Sequence[DeltaFence], topic_id: str) -> DeltaFence | None:
    """Of a topic's fences that which is farthest, the first of them if they are as far."""
    of_topic = [fence for fence in fences if fence.topic_id == topic_id]
    return max(of_topic, key=lambda fence: fence.progress, default=None)
