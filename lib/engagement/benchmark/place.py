"""The folder of a benchmark, below ENGAGEMENT_HOME: its services live and end there, and it is one benchmark's only."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from engagement.command import hold_off_signals
from engagement.embedded.stack import Stack
from engagement.errors import StackError, TransientError
from engagement.terminal import if_heard

_HOLDER = "demo"
"""Who the stack says has it, whichever command that is."""


@contextmanager
def kept_alone(stack: Stack, say: Callable[[str], None]) -> Iterator[None]:
    """Let nobody else in, and nothing be there that was: neither now nor, whatever ends the block, afterwards.

    `stack` has every service, also those that this benchmark does not want: an earlier one that was killed may have
    wanted them. What it has left would be measured as well: its load goes on, and its rows would be moved with ours.
    Raises: TransientError when another benchmark runs.
    """
    with ExitStack() as cleanup:
        try:
            # In this order, for the purge takes the lock's file too. Whoever comes between has not started anything.
            stack.down(purge=True, progress=say)
            cleanup.enter_context(stack.kept_by_demo())
        except StackError as error:
            if error.service != _HOLDER:
                raise
            raise TransientError(f"another benchmark runs in {stack.home}: wait for it, or end it first") from None
        cleanup.callback(stack.down, purge=True, progress=partial(if_heard, say))
        cleanup.callback(hold_off_signals)
        yield
