"""The steps of the fence, in the order that lets any of them be the last one before a crash.

A micro-batch that goes on from the fence F, and what a crash (or a lost answer) leaves behind:

* before the claim: streams that nobody names, which BigQuery drops; the fence is F, the replay writes everything.
* between claim and commit: the claim names finalized streams; whoever reads the fence next commits them.
* between commit and `done`: the same commit is refused, but the rows are in the table; the claim is finished.
* the streams were lost with the claim (an emulator keeps them in memory): the rows are not in the table and nobody can
  bring them; the claim is undone, the fence is F again.

Two drivers: a claim is one conditional update of one row, from exactly the state that was read, so of two drivers one
is refused; its streams are never committed. Two that settle the same claim can only come to the same end, and each
update names the token it is about, so none touches a later claim.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol

from engagement.errors import GapError, TransientSinkError
from engagement.identity import Fence
from engagement.sinks.bigquery.faults import SINK
from engagement.sinks.bigquery.fence import Answer, Claim, FenceRow, Verdict, Written, judge
from engagement.sinks.source_log import Place

_NOWHERE: Mapping[int, Place] = MappingProxyType({})


class Ledger(Protocol):
    """The fence's table, and commits to the events' table; every call raises TransientSinkError on any doubt."""

    def read(self, topic_id: str) -> FenceRow | None:
        """The topic's row; None when there is none yet."""
        ...

    def seed(self, topic_id: str, token: str) -> None:
        """Make the row of a topic that has none, from what the rows of the events' table say."""
        ...

    def claim(self, read_token: str, row: FenceRow) -> bool:
        """Replace the row that was read; False when it is another one by now, or claimed."""
        ...

    def commit(self, streams: tuple[str, ...]) -> Answer:
        """Make the rows of finalized streams visible, all or none."""
        ...

    def landed(self, row: FenceRow) -> bool:
        """Whether the events' table holds rows of this claim."""
        ...

    def finish(self, row: FenceRow) -> bool:
        """Note a claim as done; False when it is none any more."""
        ...

    def undo(self, row: FenceRow) -> bool:
        """Put the fence back to where the claim began; False when it is none any more."""
        ...


class FenceKeeper:
    """Reads the fence of one topic and moves it; `new_token` gives a text that was never given before."""

    def __init__(self, ledger: Ledger, topic_id: str, new_token: Callable[[], str]) -> None:
        self._ledger = ledger
        self._topic_id = topic_id
        self._new_token = new_token
        self._was_there = False

    def settled(self) -> FenceRow:
        """The fence, once no claim is open. Raises: TransientSinkError while that cannot be known.

        GapError when one that was there has vanished: a query that goes on would leave out what lies before it.
        """
        row = self._ledger.read(self._topic_id)
        if row is None:
            if not self._was_there:
                self._ledger.seed(self._topic_id, self._new_token())
            row = self._read_again()
        self._was_there = True
        return row if row.claim is None else self._settle(row, row.claim)

    def move(
        self, before: FenceRow, next_offsets: Fence, written: Written, reached: Mapping[int, Place] = _NOWHERE
    ) -> FenceRow:
        """Make rows visible and the fence move, both or neither. Raises: TransientSinkError; read the fence anew then.

        Without rows one update does. `reached`: where in the source's log the rows end. A claim that is undone leaves
        these places behind, which only makes the next micro-batch look for repeats.
        """
        claim = Claim(before.next_offsets, written) if written.streams else None
        row = FenceRow(before.topic_id, dict(next_offsets), self._new_token(), claim, before.farthest(reached))
        if not self._ledger.claim(before.token, row):
            raise TransientSinkError(SINK, "another driver wrote to it meanwhile; going on from its fence")
        if claim is None:
            return row
        if self._ledger.commit(written.streams) is not Answer.DONE:
            raise TransientSinkError(SINK, "a commit was not confirmed; asking the table")
        if not self._ledger.finish(row):
            return self.settled()
        return replace(row, claim=None)

    def _settle(self, row: FenceRow, claim: Claim) -> FenceRow:
        verdict = self._judge(row, claim)
        if verdict is Verdict.WAIT:
            raise TransientSinkError(SINK, "whether its last commit took place is not known yet")
        if verdict is Verdict.FINISH:
            self._ledger.finish(row)
        else:
            self._ledger.undo(row)
        # Whoever was faster: what the table says now is what counts.
        row = self._read_again()
        if row.claim is not None:
            raise TransientSinkError(SINK, "another driver is writing to it")
        return row

    def _judge(self, row: FenceRow, claim: Claim) -> Verdict:
        answer = self._ledger.commit(claim.written.streams)
        # Asked after the commit: before it, a "no" would not say what the commit has done.
        landed = answer is Answer.DONE or self._ledger.landed(row)
        return judge(answer, landed=landed, age_seconds=claim.age_seconds)

    def _read_again(self) -> FenceRow:
        row = self._ledger.read(self._topic_id)
        if row is None and self._was_there:
            raise GapError(f"{SINK}: its fence has vanished")
        if row is None:
            raise TransientSinkError(SINK, "its fence was taken away as soon as it was made")
        return row
