"""What a model of the world learns from: observations with the actions between them.

Robots look again while they wait, so that runs of observations without an action are normal. Two observations belong
together when exactly one action lies between them, never by their numbers.
"""

import numpy as np

from src.recordings.recording import Recording
from src.utils.errors import UserError


def predecessors(recording: Recording) -> np.ndarray:
    """(N,) int64: for each observation the nearest earlier one with exactly one action between them, else -1.

    None lies across the end of an episode.
    """
    before, ends = recording.actions_before, recording.ends_before
    if not len(before):
        return np.empty(0, np.int64)
    found = np.searchsorted(before, before - 1, side="right") - 1
    fits = (found >= 0) & (before[found] == before - 1) & (ends[found] == ends)
    return np.where(fits, found, -1)


def transitions(recording: Recording) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every (observation before, action code, observation after), as three arrays of one length."""
    before = predecessors(recording)
    after = np.flatnonzero(before >= 0)
    return before[after], _actions_into(recording, after), after


def windows(recording: Recording, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Observations (W, length) that follow each other by one action each, and these actions' codes (W, length - 1).

    There is one window for each observation that has so many before it.

    Raises:
        UserError: ``length`` is less than 1.
    """
    if length < 1:
        raise UserError(f"a window of {length} observations has none; give a length of 1 or more")
    before = predecessors(recording)
    chain = [np.arange(len(before))]
    for _ in range(length - 1):
        chain.append(np.where(chain[-1] >= 0, before[chain[-1]], -1))
    rows = np.stack(chain[::-1], axis=1)
    rows = rows[rows[:, 0] >= 0]
    return rows, _actions_into(recording, rows[:, 1:])


def _actions_into(recording: Recording, observations: np.ndarray) -> np.ndarray:
    """The code of the last action before each of these observations, each of which has one."""
    return recording.action_codes[recording.actions_before[observations] - 1]
