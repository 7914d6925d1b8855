"""Drawn characters: their factors, their frames, and what can be seen of both."""

from itertools import product

import numpy as np
import pytest

from src.datamodules.sprites import (
    ACTIONS,
    COMBINATIONS,
    DIRECTIONS,
    FACTORS,
    PALETTES,
    all_characters,
    frames,
    render,
)
from src.utils.cyclicity import first_last_mse
from src.utils.errors import UserError

EIGHT = all_characters(0)[:8]
COLOURS = [name for name in FACTORS if name.endswith("colour")]


@pytest.mark.parametrize(
    ("action", "wrap", "cells", "different"),
    [
        ("slash", False, (0, 1, 2, 3, 4, 5, 4, 0), 6),
        ("spellcard", False, (0, 1, 2, 3, 4, 5, 4, 6), 7),
        ("walk", False, (8, 1, 2, 3, 4, 5, 6, 7), 8),
        ("walk", True, (8, 1, 2, 3, 4, 5, 6, 7, 8), 8),
    ],
)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_frames_are_those_of_the_original_sheets(action, wrap, cells, different, direction):
    assert frames(action, wrap) == cells
    x = render(EIGHT[:2], action, direction, wrap)
    assert x.dtype == np.uint8 and x.shape == (2, len(cells), 3, 64, 64)
    for sequence in x:
        assert len(np.unique(sequence.reshape(len(cells), -1), axis=0)) == different
        for i, j in product(range(len(cells)), repeat=2):
            equal = cells[i] == cells[j] or {cells[i], cells[j]} == {0, 8} and action == "walk"
            assert np.array_equal(sequence[i], sequence[j]) == equal


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_slash_and_wrapped_walk_close_exactly_and_nothing_else_nearly(direction):
    assert (first_last_mse(render(EIGHT, "slash", direction), 255) == 0).all()
    assert (first_last_mse(render(EIGHT, "walk", direction, wrap=True), 255) == 0).all()
    assert (first_last_mse(render(EIGHT, "walk", direction), 255) > 1e-3).all()
    assert (first_last_mse(render(EIGHT, "spellcard", direction), 255) > 1e-3).all()


@pytest.mark.parametrize("action", ACTIONS)
def test_every_step_of_an_action_is_a_visible_movement(action):
    for direction in DIRECTIONS:
        x = render(EIGHT[:1], action, direction, wrap=True)[0] / 255
        assert np.square(np.diff(x, axis=0)).mean((1, 2, 3)).min() > 5e-4


@pytest.mark.parametrize("action", ACTIONS)
def test_right_is_the_mirror_of_left(action):
    left, right = (render(EIGHT[:2], action, side) for side in ("left", "right"))
    np.testing.assert_array_equal(right, left[..., ::-1])
    assert not np.array_equal(left, right)


@pytest.mark.parametrize("action", ["walk", "slash"])
def test_figures_stand_on_black_and_stay_inside_their_frame(action):
    for direction in ("front", "left"):
        x = render(EIGHT, action, direction)
        assert not x[..., :, [0, -1]].any() and not x[..., [0, -1], :].any()
        covered = x.any((0, 1, 2)).mean()
        assert 0.2 < covered < 0.7


def test_a_character_looks_the_same_whoever_is_drawn_beside_it():
    many = render(all_characters(1)[:40], "slash", "front")
    for row in (0, 7, 39):
        alone = render(all_characters(1)[row : row + 1], "slash", "front")
        np.testing.assert_array_equal(alone[0], many[row])


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("direction", ["front", "left"])
def test_every_value_of_a_factor_looks_different(factor, direction):
    for character in EIGHT[:2]:
        variants = np.repeat(character[None], len(FACTORS[factor]), axis=0)
        variants[:, list(FACTORS).index(factor)] = np.arange(len(variants))
        x = render(variants, "slash", direction) / 255
        for i, j in product(range(len(x)), repeat=2):
            if i != j:  # in every frame
                assert np.square(x[i] - x[j]).mean((1, 2, 3)).min() > 2e-5


@pytest.mark.parametrize("direction", ["front", "left"])
def test_no_style_hides_a_colour(direction):
    styles = np.array(list(product(range(4), range(3), range(3))))
    characters = np.zeros((len(styles), len(FACTORS)), np.int64)
    characters[:, [n for n, name in enumerate(FACTORS) if name.endswith("style")]] = styles
    before = render(characters, "slash", direction).astype(int)
    for colour in COLOURS:
        changed = characters.copy()
        changed[:, list(FACTORS).index(colour)] = 3
        difference = np.abs(render(changed, "slash", direction) - before).max(2) > 15
        assert difference.sum((-1, -2)).min() >= 30, colour


def test_colours_can_be_told_apart():
    for colour in COLOURS:
        assert len(PALETTES[colour]) == len(FACTORS[colour])
        table = np.array([list(bytes.fromhex(value)) for value in PALETTES[colour]], float)
        distances = np.linalg.norm(table[:, None] - table[None], axis=-1)
        assert distances[~np.eye(len(table), dtype=bool)].min() > 35


def test_factors_are_independent_because_every_combination_occurs_once():
    everyone = all_characters(3)
    assert everyone.shape == (COMBINATIONS, len(FACTORS)) == (46656, 7)
    assert len(np.unique(everyone, axis=0)) == COMBINATIONS
    assert everyone.max(0).tolist() == [len(values) - 1 for values in FACTORS.values()]


def test_the_seed_alone_decides_the_order():
    np.testing.assert_array_equal(all_characters(0), all_characters(0))
    assert not np.array_equal(all_characters(0)[:50], all_characters(1)[:50])
    for column, values in zip(all_characters(0)[:3000].T, FACTORS.values(), strict=True):
        share = np.bincount(column, minlength=len(values)) / len(column)
        np.testing.assert_allclose(share, 1 / len(values), atol=0.03)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(UserError, match="there is no action 'slahs'; nearest: 'slash'"):
        render(EIGHT, "slahs", "front")
    with pytest.raises(UserError, match="there is no direction 'rigth'; nearest: 'right'"):
        render(EIGHT, "walk", "rigth")
