"""The nearest valid choice."""

import pytest

from src.utils.errors import nearest


@pytest.mark.parametrize(
    ("word", "choices", "expected"),
    [
        ("beta_vea", ["vae", "beta_vae", "ae"], "; nearest: 'beta_vae'"),
        ("zzzz", ["vae", "ae"], "; choices: ae, vae"),
        ("anything", [], ""),
    ],
)
def test_nearest(word, choices, expected):
    assert nearest(word, choices) == expected
