"""How the example receiver is told to fail: a plan, a list of faults that are worked off one after the other."""

from typing import Annotated

from annotated_types import Ge, Interval, MinLen
from pydantic import BaseModel, ConfigDict

Status = Annotated[int, Interval(ge=200, le=599)]


class Fault(BaseModel):
    """What happens to the next requests, until `count` of them or `seconds` are over, whichever is told.

    With none of the effects set, requests are served as usual: a pause within a plan.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: Annotated[int, Ge(1)] | None = None
    seconds: Annotated[float, Ge(0)] | None = None
    status: Status | None = None
    """Answer with this instead of taking what came."""
    retry_after: str | None = None
    """The Retry-After header of that answer."""
    location: str | None = None
    """The Location header of that answer."""
    delay_seconds: Annotated[float, Interval(ge=0, le=600)] = 0.0
    """Wait so long before the answer; without a status, after having taken what came."""
    truncate: bool = False
    """Take what came, then break off in the middle of the answer."""
    reject_every: Annotated[int, Ge(1)] | None = None
    """Refuse events whose id is divisible by this with 422, each for itself in a batch."""


class FaultPlan(BaseModel):
    """The body of `PUT /faults`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    faults: Annotated[list[Fault], MinLen(1)]


class FaultScript:
    """A plan under way; times are monotonic seconds."""

    def __init__(self) -> None:
        self._left: list[Fault] = []
        self._served = 0
        self._since: float | None = None

    def begin(self, plan: FaultPlan) -> None:
        """Replace whatever was under way."""
        self._left, self._served, self._since = list(plan.faults), 0, None

    def clear(self) -> None:
        """Serve as usual from now on."""
        self._left = []

    def next(self, now: float) -> Fault:
        """The fault that the request that came at `now` meets."""
        while self._left:
            fault = self._left[0]
            self._since = now if self._since is None else self._since
            over = fault.seconds is not None and now - self._since >= fault.seconds
            if not over and (fault.count is None or self._served < fault.count):
                self._served += 1
                return fault
            self._left, self._served, self._since = self._left[1:], 0, None
        return Fault()
