"""Errors that a user can mend, told in one sentence."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Bad input. The message says what, where, and the nearest valid choice; no traceback is shown."""


class UnknownMetric(UserError):
    """A metric was named that no run of this model logs: what would end every run of a sweep ends the sweep."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """``; nearest: 'beta_vae'`` for the closest choice, or the list of choices when none is close."""
    known = sorted(choices)
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"; nearest: '{close[0]}'"
    return f"; choices: {', '.join(known)}" if known else ""
