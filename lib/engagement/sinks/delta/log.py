"""A table's log: the fence that its commits carry, and the one commit that may follow it.

Reached through delta-rs, as the other engines that read the lake do: a commit costs milliseconds and no JVM.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from engagement.errors import TransientSinkError, first_line
from engagement.identity import BatchIdentity
from engagement.sinks.delta.fence import DeltaFence, fence_of
from engagement.sinks.delta.files import add_action
from engagement.sinks.delta.tables import LakeTable

_NEWEST_COMMITS = 10
"""Where the fence is looked for first: behind it lies at most some upkeep."""


class DeltaLog:
    """One state of the table's log, read when it is made. Raises: TransientSinkError."""

    def __init__(self, table: LakeTable) -> None:
        self._sink = table.sink
        self._partition_by = table.partition_by
        with translated(self._sink):
            self._table = DeltaTable(table.path)

    def fence(self, topic_id: str) -> tuple[DeltaFence | None, bool]:
        """The topic's newest fence, and whether any commit tells of one, if only of a topic that is gone."""
        told: list[DeltaFence] = []
        for limit in (_NEWEST_COMMITS, None):
            with translated(self._sink):
                commits = self._table.history(limit)  # newest first
            found = [fence_of(commit.get("userMetadata")) for commit in commits]
            told = [fence for fence in found if fence is not None]
            of_topic = [fence for fence in told if fence.topic_id == topic_id]
            if of_topic:
                return of_topic[0], True
        return None, bool(told)

    def align(self, properties: Sequence[tuple[str, str]]) -> None:
        """Give a table that an earlier release has made the properties of this one."""
        with translated(self._sink):
            has = self._table.metadata().configuration
            if differing := {name: value for name, value in properties if has.get(name) != value}:
                self._table.alter.set_table_properties(differing)

    def append(
        self, files: Sequence[Mapping[str, Any]], before: DeltaFence, after: DeltaFence, identity: BatchIdentity
    ) -> None:
        """Make files visible and the fence move, both or neither.

        The transaction id names the fence that it goes on from, and of commits with one id only the first passes:
        delta-rs compares ours with all that came since this state was read, and what goes on from `before`, which was
        read from this state or a later one, can only have come since.
        """
        properties = CommitProperties(
            custom_metadata={"userMetadata": after.to_metadata(identity)},
            app_transactions=[Transaction(before.successor, 1)],
        )
        actions: list[AddAction | RemoveAction] = [add_action(file, self._partition_by) for file in files]
        schema = self._table.schema()
        with translated(self._sink):
            self._table.create_write_transaction(
                actions, "append", schema, [self._partition_by], commit_properties=properties
            )


@contextmanager
def translated(sink: str) -> Iterator[None]:
    """Turn errors of delta-rs into TransientSinkError."""
    try:
        yield
    except CommitFailedError as error:
        told = f"another driver wrote to it meanwhile; going on from its fence ({first_line(error)})"
        raise TransientSinkError(sink, told) from error
    except (DeltaError, OSError) as error:
        raise TransientSinkError(sink, first_line(error)) from error
