"""Deciding that letters stay what they are: nothing is deleted, they are only no longer waiting for anybody."""

from collections.abc import Callable
from datetime import datetime

from engagement.dead_letters.letter import DISCARDED, NEW, Action
from engagement.dead_letters.replay import MARK_LETTERS
from engagement.dead_letters.selection import Selection
from engagement.dead_letters.table import LetterTable


def discard(
    table: LetterTable, selection: Selection, who: str, reason: str, clock: Callable[[], datetime],
    report: Callable[[int, int], None],
) -> int:  # fmt: skip
    """Mark what is selected and new; returns how many were. Repeating it, also after a crash, discards the rest."""
    places = table.places(selection)
    done = 0
    for start in range(0, len(places), MARK_LETTERS):
        action = Action(clock(), who, DISCARDED, reason)
        done += table.mark(dict.fromkeys(places[start : start + MARK_LETTERS], action), DISCARDED, leaving=(NEW,))
        report(min(start + MARK_LETTERS, len(places)), len(places))
    return done
