"""Which observations belong together: exactly one action between them, never their numbers."""

import numpy as np
import pytest

from src.recordings import Recording, RecordingWriter
from src.recordings.windows import predecessors, transitions, windows
from src.utils.errors import UserError

RNG = np.random.default_rng(0)


@pytest.fixture
def recorded(tmp_path):
    """``recorded("O0O1A…")`` → a recording of observations, ends (T, X) and actions (digits)."""
    numbers = iter(range(10**6))

    def written(events: str) -> Recording:
        path = tmp_path / f"session_{next(numbers)}"
        with RecordingWriter(path, "R", [{"action": code} for code in range(10)]) as writer:
            for event in events:
                if event.isdigit():
                    writer.act({"action": int(event)})
                else:
                    pixel = np.zeros((1, 1, 3), np.uint8)
                    writer.observe(pixel, terminated=event == "T", truncated=event == "X")
        return Recording.open(path)

    return written


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ("O1O2O", [-1, 0, 1]),
        ("OOO1O2OO3O", [-1, -1, -1, 2, 3, 3, 5]),  # looking again while waiting
        ("O12O3O", [-1, -1, 1]),  # two actions in a row
        ("1O2O", [-1, 0]),
        ("O1T2O3O", [-1, 0, -1, 2]),  # the action after an end does nothing
        ("O1XO2O", [-1, 0, -1, 2]),
        ("123", []),
        ("", []),
    ],
)
def test_the_predecessor_is_one_action_away(recorded, events, expected):
    assert predecessors(recorded(events)).tolist() == expected


def test_an_end_whose_frame_is_missing_is_an_end(recorded):
    made = recorded("O1O2TO3O")
    made.frame_path(2).unlink()
    found = Recording.open(made.path)
    assert predecessors(found).tolist() == [-1, 0, -1, 2]


def test_a_missing_frame_breaks_the_chain(recorded):
    made = recorded("O1O2O3O")
    made.frame_path(1).unlink()
    assert predecessors(Recording.open(made.path)).tolist() == [-1, -1, 1]


def test_transitions_name_the_action_between(recorded):
    before, action, after = transitions(recorded("OO7O3OO"))
    assert (before.tolist(), action.tolist(), after.tolist()) == ([1, 2, 2], [7, 3, 3], [2, 3, 4])


def test_windows_and_their_actions(recorded):
    found, actions = windows(recorded("O1O2OO3O"), 3)
    assert found.tolist() == [[0, 1, 2], [0, 1, 3], [1, 3, 4]]
    assert actions.tolist() == [[1, 2], [1, 2], [2, 3]]


def test_windows_of_one_and_of_too_many(recorded):
    made = recorded("O1O2O")
    found, actions = windows(made, 1)
    assert found.tolist() == [[0], [1], [2]] and actions.shape == (3, 0)
    found, actions = windows(made, 4)
    assert found.shape == (0, 4) and actions.shape == (0, 3)
    with pytest.raises(UserError, match="length of 1"):
        windows(made, 0)


def test_windows_agree_with_reading_event_by_event(recorded):
    """Random recordings against the definition, taken literally."""
    for _ in range(10):
        events = "".join(RNG.choice([*"OOOOTX123"], 40))
        made = recorded(events)
        assert predecessors(made).tolist() == literal_predecessors(events)


def literal_predecessors(events: str) -> list[int]:
    places = [place for place, event in enumerate(events) if not event.isdigit()]
    found = []
    for row, place in enumerate(places):
        fitting = [-1]
        for earlier in range(row):
            between = events[places[earlier] : place]
            if sum(map(str.isdigit, between)) == 1 and not set(between) & {*"TX"}:
                fitting.append(earlier)
        found.append(max(fitting))
    return found
