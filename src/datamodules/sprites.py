"""Animated characters made of independent factors, drawn here and free of anybody's licence; NumPy only.

The pictures have the contract of the LPC sprites of Li & Mandt (arXiv 1803.02991): three actions seen from three sides,
64×64 pixels on black, with the same order of frames. Nothing of those sheets is in them.
"""

from functools import lru_cache
from math import prod

import numpy as np

from src.datamodules.sprite_drawing import INKS, SIZE, draw
from src.utils.errors import UserError, nearest

# What a character consists of; every combination exists, each factor chosen independently of the others.
FACTORS: dict[str, tuple[str, ...]] = {
    "body_colour": ("porcelain", "peach", "tan", "brown", "umber", "goblin"),
    "hair_style": ("short", "long", "spiky", "ponytail"),
    "hair_colour": ("raven", "chestnut", "blond", "ginger", "silver", "azure"),
    "top_style": ("tee", "vest", "coat"),
    "top_colour": ("red", "green", "blue", "yellow", "purple", "teal"),
    "bottom_style": ("trousers", "shorts", "skirt"),
    "bottom_colour": ("navy", "brown", "grey", "olive", "wine", "white"),
}
ACTIONS = ("walk", "spellcard", "slash")
DIRECTIONS = ("front", "left", "right")
COMBINATIONS = prod(len(values) for values in FACTORS.values())

# Red, green and blue of the values of every colour factor, in their order.
PALETTES = {
    "body_colour": ("fbe0cc", "f0b98d", "d29a63", "a5673f", "6d432c", "8fb85c"),
    "hair_colour": ("46425e", "7c4a2a", "f0cf62", "d9632b", "c9cfdb", "4a83e0"),
    "top_colour": ("d8363c", "3fa34d", "3b6fd4", "f0c330", "9650c8", "2fb5b0"),
    "bottom_colour": ("35468c", "7a5433", "83889a", "7d8a3a", "93304d", "e6e2d8"),
}
# The cells of a sheet that make up eight frames.
FRAMES = {
    "walk": (8, 1, 2, 3, 4, 5, 6, 7),
    "spellcard": (0, 1, 2, 3, 4, 5, 4, 6),
    "slash": (0, 1, 2, 3, 4, 5, 4, 0),
}
CHUNK = 16  # characters coloured at once: their floats stay in the processor's cache


def frames(action: str, wrap: bool = False) -> tuple[int, ...]:
    """The poses of an action in their order.

    Args:
        action: one of ``ACTIONS``.
        wrap: end ``walk`` with the pose it begins with, so that its nine frames are a closed loop.
    """
    order = FRAMES[action]
    return (*order, order[0]) if wrap and action == "walk" else order


def all_characters(seed: int) -> np.ndarray:
    """Every character once, in an order that depends on ``seed`` alone: (46656, 7) int64 indices into ``FACTORS``."""
    order = np.random.default_rng(seed).permutation(COMBINATIONS)
    counts = [len(values) for values in FACTORS.values()]
    return np.stack(np.unravel_index(order, counts), axis=1).astype(np.int64)


def render(characters: np.ndarray, action: str, direction: str, wrap: bool = False) -> np.ndarray:
    """The animations of characters.

    A pixel is linear in the four colours of a character: shapes are drawn once per combination of styles and
    coloured for all characters that wear it.

    Args:
        characters: (N, 7) indices into the values of ``FACTORS``.
        action: one of ``ACTIONS``; direction: one of ``DIRECTIONS``; wrap: see ``frames``.

    Returns:
        (N, T, 3, 64, 64) uint8.

    Raises:
        UserError: unknown action or direction.
    """
    for name, chosen, known in (("action", action, ACTIONS), ("direction", direction, DIRECTIONS)):
        if chosen not in known:
            raise UserError(f"there is no {name} '{chosen}'{nearest(chosen, known)}")
    # Equal frames are copies of one pose, so that they are equal to the last bit; so are mirrored ones.
    poses, order = np.unique([pose % 8 for pose in frames(action, wrap)], return_inverse=True)
    seen = "front" if direction == "front" else "left"
    x = np.empty((len(characters), len(order), 3, SIZE, SIZE), np.uint8)
    styles, group = np.unique(characters[:, _columns("style")], axis=0, return_inverse=True)
    for number, style in enumerate(styles):
        basis = np.stack([_basis(action, int(pose), seen, *map(int, style)) for pose in poses])
        rows = np.flatnonzero(group.reshape(-1) == number)
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            x[part] = _coloured(basis, colours(characters[part]))[:, order]
    return x[..., ::-1] if direction == "right" else x


def colours(characters: np.ndarray) -> np.ndarray:
    """(N, 4, 3) float32 in [0, 1]: what ``INKS`` are filled with."""
    columns = [list(FACTORS).index(ink) for ink in INKS]
    tables = [np.array([list(bytes.fromhex(value)) for value in PALETTES[ink]]) for ink in INKS]
    chosen = [table[characters[:, column]] for table, column in zip(tables, columns, strict=True)]
    return (np.stack(chosen, axis=1) / 255).astype(np.float32)


def _columns(ending: str) -> list[int]:
    return [column for column, name in enumerate(FACTORS) if name.endswith(ending)]


@lru_cache(maxsize=640)  # 73 MB: all styles of one action
def _basis(action: str, pose: int, seen: str, hair: int, top: int, bottom: int) -> np.ndarray:
    names = [name for name in FACTORS if name.endswith("style")]
    styles = [FACTORS[name][value] for name, value in zip(names, (hair, top, bottom), strict=True)]
    return draw(action, pose, seen, *styles)


def _coloured(basis: np.ndarray, inks: np.ndarray) -> np.ndarray:
    """(P, BASIS, 64, 64) and (N, 4, 3) → (N, P, 3, 64, 64) uint8.

    Elementwise, not as a matrix product: what a character looks like must not depend on who is drawn beside it.
    """
    x = np.repeat(basis[None, :, len(INKS) :], len(inks), axis=0)
    for number in range(len(INKS)):
        x += basis[None, :, number, None] * inks[:, None, number, :, None, None]
    return np.rint(x.clip(0, 1) * 255).astype(np.uint8)
