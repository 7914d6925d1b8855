"""What sliders say, there and back; without torch."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from src.evaluation.exploring.sliders import Sliders
from src.utils.errors import UserError

MOVED = Sliders(mu=(0.0, 1.25, -3.0), sigma=(1.0, 0.5, 0.0), z=(0.0, 0.0, 7.0), seed=12)


@pytest.mark.parametrize(
    "sliders",
    [
        Sliders.start(3),
        MOVED,
        replace(MOVED, mode="exact", mu=(0.0,) * 3, sigma=(1.0,) * 3, fixed=False),
        replace(Sliders.start(3), mode="prior", seed=5, label=9),
    ],
)
def test_an_address_brings_back_what_counts(sliders: Sliders) -> None:
    shown = replace(sliders, z=(0.0,) * 3) if sliders.mode != "exact" else sliders
    assert Sliders.of_address(sliders.address(), 3) == shown


def test_an_address_is_short() -> None:
    assert Sliders.start(32).address() == {}
    assert MOVED.address() == {"mu": "1:1.25,2:-3", "sigma": "1:0.5,2:0", "seed": "12"}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"mu": "7:1"}, "mu has no dimension 7"),
        ({"mu": "-1:1"}, "mu has no dimension -1"),
        ({"mu": "0=1"}, "must be written as"),
        ({"z": "0:nan"}, "numbers between"),
        ({"mu": "0:1e9"}, "numbers between"),
        ({"sigma": "0:-1"}, "negative"),
        ({"mode": "wild"}, "mode 'wild' is unknown"),
        ({"seed": "-1"}, "seed"),
        ({"seed": "one"}, "seed must be a whole number"),
        ({"fixed": "perhaps"}, "'fixed'"),
        ({"label": "9" * 30}, "class 9+ is not"),
        ({"label": "-2"}, "class -2 is not"),
    ],
)
def test_what_an_address_may_not_say(said: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Sliders.of_address(said, 3)


@pytest.mark.parametrize(
    "content",
    [
        *({"mu": [1, 2]}, {"mu": "abc"}, {"mu": [1, 2, None]}, {"mu": [1, 2, 10**400]}),
        *({"seed": True}, {"label": 1.5}),
    ],
)
def test_what_a_browser_may_not_send(content: dict[str, object]) -> None:
    with pytest.raises(UserError):
        Sliders.read(MOVED.as_json() | content, 3)


def test_noise_and_new_centres_depend_on_the_seed_and_not_on_each_other() -> None:
    sliders = Sliders.start(2000)
    again = replace(sliders, seed=1)
    assert np.array_equal(sliders.noise(), Sliders.start(2000).noise())
    assert not np.allclose(sliders.noise(), again.noise())
    centres = np.array(sliders.randomised().mu)
    assert abs(np.corrcoef(centres, sliders.noise())[0, 1]) < 0.1
    assert centres.std() == pytest.approx(1, abs=0.1)


def test_sliders_are_read_without_torch() -> None:
    code = "import sys, src.evaluation.exploring.sliders; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
