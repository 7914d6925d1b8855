"""Hand poses without any data: a kinematic hand of 21 degrees of freedom that takes archetypical poses.

A pose is a sparse blend of archetypes, moved along six synergies (hands have few: Santello et al. 1998, Postural hand
synergies for tool use), with noise on every degree of freedom, brought into the anatomical ranges and coupled as
tendons couple fingers. Joints keep the small twists that trackers leave. Both hands are mirror images of each other in
a third of the frames. The numbers are synthetic: they come from norms of anatomy and from no recording.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from src.datamodules import hand_anatomy as anatomy
from src.utils.errors import UserError, nearest

FPS = 30
# Degrees of freedom of a hand: bend of base and middle joint and splay of index, middle, ring and pinky, then the
# thumb's bend, spread and opposition at its base, and the bend of its other two joints. The last joint of a finger
# follows its middle one.
BEND, MIDDLE, SPLAY, THUMB = slice(0, 4), slice(4, 8), slice(8, 12), slice(12, 17)
DOFS = 17
# Where index, middle, ring and pinky stand among the joints.
COLUMNS = np.array([0, 1, 3, 2])
LOWEST = np.r_[[-20] * 4, [0] * 4, [-18] * 4, 0, -15, -45, -10, -15].astype(float)
HIGHEST = np.r_[[90] * 4, [110] * 4, [18] * 4, 45, 45, 45, 55, 80].astype(float)

# Bends of the base joints, of the middle joints and splay, each of index, middle, ring and pinky; the thumb.
ARCHETYPES = {
    "relaxed": ((15, 20, 23, 25), (25, 30, 32, 30), (3, 0, -2, -5), (10, 15, 5, 10, 15)),
    "open": ((-5, -5, -5, -5), (5, 5, 5, 5), (14, 3, -8, -16), (2, 38, -10, 0, 0)),
    "fist": ((80, 85, 85, 80), (100, 105, 105, 100), (0, 0, 0, 0), (30, 5, 30, 40, 55)),
    "point": ((0, 80, 85, 82), (5, 100, 102, 98), (2, 0, 0, 0), (28, 8, 28, 38, 50)),
    "v": ((0, 0, 82, 80), (5, 5, 100, 98), (14, -10, 0, 0), (30, 10, 35, 40, 45)),
    "power": ((50, 52, 55, 55), (65, 68, 68, 62), (4, 1, -2, -5), (20, 30, 35, 20, 30)),
    "pinch": ((48, 20, 15, 12), (50, 25, 20, 18), (0, 0, -3, -6), (25, 30, 40, 20, 35)),
    "hook": ((5, 5, 5, 5), (85, 88, 88, 85), (2, 0, -1, -3), (8, 20, 0, 5, 10)),
    "tabletop": ((80, 82, 82, 80), (8, 8, 8, 8), (0, 0, 0, 0), (10, 10, 15, 5, 5)),
    "thumb_up": ((78, 80, 80, 78), (95, 100, 100, 95), (0, 0, 0, 0), (0, 42, -30, -5, -8)),
    "pinky": ((75, 80, 78, -5), (95, 100, 98, 5), (0, 0, 0, -10), (28, 8, 25, 38, 50)),
    "sphere": ((35, 35, 35, 35), (42, 42, 42, 42), (15, 5, -6, -14), (12, 42, 38, 10, 20)),
    "l": ((0, 78, 80, 78), (5, 98, 100, 96), (2, 0, 0, 0), (0, 44, -25, 0, 0)),
    "b": ((0, 0, 0, 0), (4, 4, 4, 4), (0, 0, 0, 0), (40, 0, 40, 45, 40)),
    "y": ((75, 80, 78, -5), (95, 100, 96, 8), (0, 0, 0, -16), (0, 42, -20, -5, 0)),
}
# How far the six synergies move each degree of freedom, in degrees at one standard deviation.
SYNERGIES = np.array(
    [
        (*(8, 9, 9, 8), *(10, 11, 11, 10), *(-2, 0, 1, 2), *(3, 0, 2, 3, 4)),  # curl
        (
            *(8, 8, 8, 8),
            *(-9, -9, -9, -9),
            *(0, 0, 0, 0),
            *(0, 0, 0, 0, 0),
        ),  # base against middle joints
        (*(-5, -2, 3, 6), *(-5, -2, 3, 6), *(0, 0, 0, 0), *(0, 0, 0, 0, 0)),  # towards the ulna
        (*(0, 0, 0, 0), *(0, 0, 0, 0), *(5, 1, -3, -6), *(0, 4, 0, 0, 0)),  # spread
        (*(0, 0, 0, 0), *(0, 0, 0, 0), *(0, 0, 0, 0), *(4, 6, 9, 4, 4)),  # opposition
        (*(8, 0, 0, 0), *(9, 0, 0, 0), *(0, 0, 0, 0), *(0, 0, 0, 0, 0)),  # the index by itself
    ],
    dtype=float,
)
# Sum of a blend's Dirichlet parameters: a quarter for each of a dozen archetypes, so that few count in any blend.
BLENDING = 3.0


@dataclass(frozen=True)
class Style:
    """How somebody moves and was measured: a data set of its own.

    Attributes:
        weights: how much more often than the others an archetype comes; 0 for never.
        synergy: scale of the synergies.
        noise: of every degree of freedom, in degrees.
        twist: that trackers leave at the base of a finger, in degrees; 0.6 of it at the other joints.
        mirrored: the fraction of frames in which both hands do the same.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    synergy: float = 1.0
    noise: float = 2.5
    twist: float = 2.5
    mirrored: float = 0.35


STYLES = {
    "grasping": Style({"power": 3, "pinch": 3, "sphere": 3, "hook": 2, "v": 0, "y": 0, "l": 0}),
    "signing": Style({"relaxed": 0.5, "power": 0.3}, synergy=0.7, noise=2.0, mirrored=0.2),
    "talking": Style({"relaxed": 4, "open": 3, "point": 2, "b": 0.5}, synergy=1.2, noise=3.0),
}


def generate(
    style: str, frames: int, seed: int, temporal: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Poses of both hands.

    Args:
        style: a name of ``STYLES``.
        frames: how many.
        seed: the same one gives the same poses.
        temporal: sequences of 2 to 8 seconds at 30 frames a second, in which the hands move from pose to pose with
            minimal jerk (Flash & Hogan 1985) and rest there; otherwise every frame is independent of the others and a
            sequence of its own.

    Returns:
        Canonical rotation vectors in radians (N, 30, 3) float32, and the sequence of every frame, (N,) int64 from 0.

    Raises:
        UserError: an unknown style.
    """
    if style not in STYLES:
        raise UserError(f"data.styles: '{style}' is unknown{nearest(style, STYLES)}")
    chosen = STYLES[style]
    rng = np.random.default_rng([seed, list(STYLES).index(style)])
    if temporal:
        dofs, sequence = _sequences(chosen, frames, rng)
    else:
        dofs, sequence = _key_poses(chosen, frames, rng), np.arange(frames)
    angles = _angles(dofs, chosen, rng)
    return anatomy.poses(angles).astype(np.float32), sequence.astype(np.int64)


def _key_poses(style: Style, count: int, rng: np.random.Generator) -> np.ndarray:
    """Degrees of freedom of both hands before couplings, (N, 2, 17), in degrees."""
    table = np.array([np.concatenate(parts) for parts in ARCHETYPES.values()], float)
    weights = np.array([style.weights.get(name, 1.0) for name in ARCHETYPES])
    used = weights > 0
    sparse = BLENDING * weights[used] / weights.sum()
    dofs = rng.dirichlet(sparse, 2 * count) @ table[used]
    dofs += style.synergy * rng.standard_normal((2 * count, len(SYNERGIES))) @ SYNERGIES
    dofs = dofs.reshape(count, 2, DOFS)
    same = rng.random(count) < style.mirrored
    dofs[same, 1] = dofs[same, 0]
    dofs += style.noise * rng.standard_normal(dofs.shape)
    return _soft_clip(dofs)


def _soft_clip(dofs: np.ndarray) -> np.ndarray:
    """Into the anatomical ranges, smoothly: what lies inside by a tenth of the range hardly moves."""
    centre, half = (LOWEST + HIGHEST) / 2, (HIGHEST - LOWEST) / 2
    scaled = (dofs - centre) / half
    edge = 0.8
    beyond = np.maximum(np.abs(scaled) - edge, 0) / (1 - edge)
    inside = np.minimum(np.abs(scaled), edge) + (1 - edge) * np.tanh(beyond)
    return centre + half * np.sign(scaled) * inside


def _sequences(
    style: Style, frames: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Degrees of freedom (N, 2, 17) of sequences, and which sequence a frame is of."""
    parts: list[np.ndarray] = []
    total = 0
    while total < frames:
        length = min(int(rng.integers(2 * FPS, 8 * FPS)), frames - total)
        parts.append(_path(style, length, rng))
        total += length
    ids = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return np.concatenate(parts), ids


def _path(style: Style, length: int, rng: np.random.Generator) -> np.ndarray:
    """From pose to pose in 0.3 to 1 second each, resting up to as long in between, (length, 2, 17)."""
    keys = _key_poses(style, 2 + length // 10, rng)
    pieces = []
    for start, end in zip(keys, keys[1:], strict=False):
        t = np.linspace(0, 1, int(rng.integers(FPS // 3, FPS)), endpoint=False)[:, None, None]
        pieces.append(start + (end - start) * (10 * t**3 - 15 * t**4 + 6 * t**5))
        pieces.append(np.repeat(end[None], int(rng.integers(0, FPS)), 0))
    return np.concatenate(pieces)[:length]


def _angles(dofs: np.ndarray, style: Style, rng: np.random.Generator) -> np.ndarray:
    """Twist, splay and bend of all joints, (N, 30, 3) in degrees: the couplings, and what trackers leave."""
    count = len(dofs)
    noise = rng.standard_normal((count, 2, 15, 3))
    found = np.zeros((count, 2, 15, 3))
    found[..., 0] = style.twist * np.where(np.arange(15) % 3 == 0, 1.0, 0.6) * noise[..., 0]
    found[..., 1] = 0.5 * noise[..., 1]
    bend, middle = _enslaved(dofs[..., BEND]), _enslaved(dofs[..., MIDDLE])
    free = 1 - anatomy.SPLAY_LOSS * bend.clip(0) / 90
    base = 3 * COLUMNS
    found[..., base, 1] = dofs[..., SPLAY] * free
    found[..., base, 2] = bend
    found[..., base + 1, 2] = middle
    last = anatomy.DIP_PER_PIP * middle + 5 * noise[..., base + 2, 2]
    found[..., base + 2, 2] = np.clip(last, *anatomy.FINGER_BEND[2])
    thumb = dofs[..., THUMB]
    found[..., 12, 0] = thumb[..., 2]
    found[..., 12, 1] = thumb[..., 1]
    found[..., 12:15, 2] = thumb[..., [0, 3, 4]]
    return found.reshape(count, 30, 3)


def _enslaved(bend: np.ndarray) -> np.ndarray:
    """Neighbouring fingers pull each other along by a fifth, (…, 4) index to pinky."""
    padded = np.concatenate([bend[..., :1], bend, bend[..., -1:]], -1)
    return 0.8 * bend + 0.1 * (padded[..., :-2] + padded[..., 2:])
