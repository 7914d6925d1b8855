"""The figure of a sprite: where its joints are in every pose, and the shapes drawn between them; NumPy only.

A character stands on the ground at the origin and looks along +z: x to its left, y up, z forward, in pixels. Nothing
here knows a colour of a character: shapes are drawn in inks, which ``sprites.py`` fills from palettes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

SIZE = 64
INKS = ("body_colour", "hair_colour", "top_colour", "bottom_colour")
BASIS = len(INKS) + 3  # how much of every ink a pixel holds, then its fixed red, green and blue
LEATHER, IRON, GOLD, LINEN, DARK = (
    (0.42, 0.27, 0.16),
    (0.80, 0.85, 0.92),
    (0.92, 0.74, 0.28),
    (0.93, 0.90, 0.82),
    (0.10, 0.08, 0.12),
)
MAGIC, SPARK = (0.35, 0.80, 1.0), (0.95, 1.0, 1.0)

GROUND, MIDDLE = 59.4, 32.0  # row of the ground and column of the origin
TILT = (
    0.25  # rows that one pixel towards the viewer moves down: the camera looks slightly from above
)
HIP, SHOULDER, HEAD = 16.0, 29.0, 40.0  # heights
HIP_WIDTH, SHOULDER_WIDTH = 3.4, 7.2  # from the middle
THIGH, UPPER_ARM = 7.25, 6.6  # half the length of a leg and of an arm
BLADE = 15.0

ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE].astype(np.float32) + np.float32(0.5)
Ink = str | tuple[float, float, float]
Point = np.ndarray  # (2,): column and row


# ---------------------------------------------------------------------------------------------- poses


@dataclass(frozen=True)
class Pose:
    """Joints of one frame, (…, 3) in pixels; index 0 is the left side, whose hand holds the sword.

    Attributes:
        ankles, hands: (2, 3).
        bob: how far the body is raised; sway: to the left; lean: the shoulders forward.
        swing: how far hair and skirt hang behind the movement.
        blade: direction of the sword, (3,), or None.
        trail: hand and blade of the pose that a stroke comes from, or None.
        glow: radius of the light between the hands; scattered: how far its sparks have flown.
    """

    ankles: np.ndarray
    hands: np.ndarray
    bob: float = 0.0
    sway: float = 0.0
    lean: float = 0.0
    swing: float = 0.0
    blade: np.ndarray | None = None
    trail: tuple[np.ndarray, np.ndarray] | None = None
    glow: float = 0.0
    scattered: float = 0.0

    def lifted(self, point: np.ndarray | tuple[float, float, float]) -> np.ndarray:
        """A point (…, 3) of the resting trunk where this pose has it."""
        point = np.asarray(point, dtype=float)
        share = (point[..., 1:2] - HIP).clip(0) / (HEAD - HIP)  # the hips do not lean
        return point + np.array([self.sway, self.bob, 0]) + share * np.array([0, 0, self.lean])


def walk(phase: int) -> Pose:
    """Phase of a walking loop of eight; 8 is 0 again."""
    angle = 2 * np.pi * (phase % 8) / 8
    step, lift = np.sin(angle), np.cos(angle)
    feet = [
        [3.5, 2.2 + 4.2 * max(lift, 0), 7.0 * step],
        [-3.5, 2.2 + 4.2 * max(-lift, 0), -7.0 * step],
    ]
    hands = [[9.2, 17.5 + 0.8 * step, -6 * step + 1], [-9.2, 17.5 - 0.8 * step, 6 * step + 1]]
    bob = 1.3 * lift**2
    return Pose(
        np.array(feet),
        np.array(hands) + np.array([0.7 * step, bob, 0]),
        bob=bob,
        sway=0.7 * step,
        lean=1.0,
        swing=1.6 * np.cos(2 * angle + 0.6) + 1.2 * np.sin(angle - 0.5),
    )


# Hand height, distance from the middle, forward; light, flown sparks; how far the body stretches.
SPELL = (
    (20.0, 4.0, 6.5, 0.0, 0.0, -0.8),
    (24.0, 4.5, 8.0, 3.2, 0.0, -0.4),
    (29.0, 7.5, 9.0, 4.6, 0.0, 0.0),
    (41.5, 11.0, 4.0, 6.0, 0.0, 0.8),
    (44.0, 11.0, 1.5, 7.5, 0.0, 1.4),
    (46.0, 10.5, 0.5, 9.0, 4.0, 1.8),
    (33.0, 11.5, 5.0, 4.0, 13.0, 0.4),
)


def spellcard(cell: int) -> Pose:
    """Cell 0 to 6 of a spell: the hands gather light, raise it and let it go."""
    height, apart, forward, glow, scattered, bob = SPELL[cell]
    return Pose(
        np.array([[4.2, 2.2, 1.5], [-4.2, 2.2, -1.5]]),
        np.array([[apart, height, forward], [-apart, height, forward]]),
        bob=bob,
        lean=1.0 - 0.5 * cell if cell < 6 else 0.0,
        swing=0.4 * cell if cell < 6 else 1.0,
        glow=glow,
        scattered=scattered,
    )


# Sword hand (x, y, z), direction of the blade (x, y, z), lean, forward step of the other foot.
SLASH = (
    ((8.5, 19.0, 5.0), (0.45, 0.85, 0.35), 0.0, 1.5),
    ((11.0, 30.0, -4.0), (0.65, 0.60, -0.75), -1.5, 1.0),
    ((9.5, 39.0, -1.0), (0.35, 0.90, -0.35), -1.0, 2.5),
    ((9.0, 38.0, 6.0), (-0.42, 0.80, 0.42), 2.0, 4.5),
    ((-3.0, 22.0, 11.0), (-0.75, -0.15, 0.75), 3.5, 5.5),
    ((-6.0, 17.0, 7.5), (-0.80, -0.60, 0.30), 3.0, 5.5),
)
STROKES = {3: 2, 4: 3}  # the pose whose blade leaves a trail → the one that it comes from


def slash(cell: int) -> Pose:
    """Cell 0 to 5 of a stroke with the sword: raised over the shoulder, down across the body."""
    hand, _, lean, step = SLASH[cell]
    origin = STROKES.get(cell)
    balance = [-8.5 + 0.4 * cell, 18.5 + 0.6 * lean, -2.0 - lean]
    return Pose(
        np.array([[4.4, 2.2, -0.8 * step], [-4.4, 2.2, step]]),
        np.array([hand, balance]),
        bob=-0.35 * abs(lean),
        lean=lean,
        swing=-0.6 * lean,
        blade=_blade(cell),
        trail=None if origin is None else (np.array(SLASH[origin][0]), _blade(origin)),
    )


def _blade(cell: int) -> np.ndarray:
    direction = np.array(SLASH[cell][1])
    return direction / np.linalg.norm(direction)


POSES: dict[str, Callable[[int], Pose]] = {"walk": walk, "spellcard": spellcard, "slash": slash}


def joint(start: np.ndarray, end: np.ndarray, length: float, towards: np.ndarray) -> np.ndarray:
    """The knee or elbow between two bones of ``length``, pushed ``towards`` (3,) as far as they are bent."""
    spare = max(length**2 - float(np.sum((end - start) ** 2)) / 4, 0.0)
    return (start + end) / 2 + towards * np.sqrt(spare)


# --------------------------------------------------------------------------------------------- shapes
# Signed distances (64, 64) in pixels, negative inside.


def capsule(start: Point, end: Point, r0: float, r1: float) -> np.ndarray:
    """A bone with a radius at each end."""
    along = end - start
    length = max(float(along @ along), 1e-6)
    share = ((COLUMNS - start[0]) * along[0] + (ROWS - start[1]) * along[1]) / length
    share = share.clip(0, 1)
    distance = np.hypot(COLUMNS - start[0] - share * along[0], ROWS - start[1] - share * along[1])
    return distance - (r0 + share * (r1 - r0))


def ellipse(centre: Point, rx: float, ry: float) -> np.ndarray:
    """Exact for a circle, and near the edge good enough for anything round."""
    scaled = np.hypot((COLUMNS - centre[0]) / rx, (ROWS - centre[1]) / ry)
    return (scaled - 1) * min(rx, ry)


def polygon(points: np.ndarray, rounding: float = 0.0) -> np.ndarray:
    """Any simple polygon (n, 2), its corners rounded outwards."""
    nearest = np.full((SIZE, SIZE), np.inf, np.float32)
    inside = np.zeros((SIZE, SIZE), bool)
    for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
        nearest = np.minimum(nearest, capsule(start, end, 0, 0))
        above = (start[1] > ROWS) != (end[1] > ROWS)
        if above.any():  # an edge that lies level crosses no row
            crossing = start[0] + (ROWS - start[1]) * (end[0] - start[0]) / (end[1] - start[1])
            inside ^= above & (crossing > COLUMNS)
    return np.where(inside, -nearest, nearest) - rounding


@dataclass
class Canvas:
    """What is painted so far: of every pixel, how much of each ink and of fixed red, green and blue it holds."""

    basis: np.ndarray = field(default_factory=lambda: np.zeros((BASIS, SIZE, SIZE), np.float32))

    def paint(self, distance: np.ndarray, ink: Ink, shade: float = 1.0, rim: float = 0.45) -> None:
        """Cover a shape, with smooth edges, lighter towards its middle.

        Args:
            distance: (64, 64) signed.
            ink: one of ``INKS``, or a fixed colour in [0, 1].
            shade: brightness of the middle; rim: of the edge, relative to it.
        """
        depth = np.clip((-distance - 0.2) / 1.5, 0, 1)
        tone = shade * (rim + (1 - rim) * depth) * np.clip(0.93 - 0.025 * distance, 0.85, 1.03)
        self.blend(np.clip(0.5 - distance, 0, 1), ink, tone)

    def blend(self, cover: np.ndarray, ink: Ink, tone: np.ndarray | float = 1.0) -> None:
        """Lay ``ink`` over what is there, with an opacity (64, 64) in [0, 1]."""
        self.basis *= 1 - cover
        if isinstance(ink, str):
            self.basis[INKS.index(ink)] += cover * tone
        else:
            for channel, value in enumerate(ink):
                self.basis[len(INKS) + channel] += cover * tone * value


# --------------------------------------------------------------------------------------------- figure


def draw(action: str, pose: int, direction: str, hair: str, top: str, bottom: str) -> np.ndarray:
    """One frame before its colours are known.

    Args:
        action, pose: one of ``POSES`` and the number of its pose.
        direction: front or left.
        hair, top, bottom: the styles.

    Returns:
        (BASIS, 64, 64) float32: how much of every ink a pixel holds, then its fixed red, green and blue.
    """
    figure = Figure(POSES[action](pose), direction, hair, top, bottom)
    figure.draw()
    return figure.canvas.basis


class Figure:
    """One character in one pose, seen from one side.

    Args:
        pose: where the joints are.
        direction: front or left.
        hair, top, bottom: the styles.
    """

    def __init__(self, pose: Pose, direction: str, hair: str, top: str, bottom: str) -> None:
        self.pose, self.front = pose, direction == "front"
        self.hair, self.top, self.bottom = hair, top, bottom
        self.canvas = Canvas()
        self.head = self.at(pose.lifted((0, HEAD, 0)))

    def at(self, point: np.ndarray | tuple[float, float, float]) -> Point:
        """Column and row of a point (…, 3)."""
        x, y, z = np.moveaxis(np.asarray(point, dtype=float), -1, 0)
        across, near = (x, z) if self.front else (-z, x)
        return np.stack([MIDDLE + across, GROUND - y + TILT * near], -1)

    def trunk(self, across: float, height: float) -> Point:
        """A point of the trunk's outline, ``across`` pixels from its middle as it is seen."""
        return self.at(self.pose.lifted((0, height, 0))) + np.array([across, 0])

    def draw(self) -> None:
        """Paint from the back to the front."""
        raised = self.pose.hands[:, 1] > HEAD - 9
        if self.front:
            self._hair_behind()
            self._legs((0, 1))
            self._trunk()
            for side in (0, 1):
                if not raised[side]:
                    self._arm(side)
            self._head()
            for side in (0, 1):
                if raised[side]:
                    self._arm(side)
        else:
            self._arm(1)
            self._legs((1, 0))
            self._trunk()
            self._hair_behind()
            self._head()
            self._arm(0)
        self._light()

    # -- limbs

    def _dim(self, side: int) -> float:
        """The far side of a figure seen from the left lies in its own shadow."""
        return 0.68 if side == 1 and not self.front else 1.0

    def _legs(self, order: tuple[int, int]) -> None:
        for side in order:
            self._leg(side)
        if self.bottom == "skirt":
            self._skirt()

    def _leg(self, side: int) -> None:
        sign, dim = 1 - 2 * side, self._dim(side)
        hip = self.pose.lifted((sign * HIP_WIDTH, HIP, 0))
        ankle = self.pose.ankles[side]
        knee = joint(hip, ankle, THIGH, np.array([0.0, 0.0, 1.0]))
        h, k, a = self.at(hip), self.at(knee), self.at(ankle)
        self.canvas.paint(
            np.minimum(capsule(h, k, 3.2, 2.9), capsule(k, a, 2.9, 2.4)), "body_colour", dim
        )
        if self.bottom == "trousers":
            cloth = np.minimum(capsule(h, k, 3.9, 3.4), capsule(k, a + [0, -0.6], 3.4, 3.1))
            self.canvas.paint(cloth, "bottom_colour", dim)
        elif self.bottom == "shorts":
            self.canvas.paint(capsule(h, h + 0.95 * (k - h), 4.1, 4.2), "bottom_colour", dim)
        toe = self.at(ankle + np.array([0.3 * sign, -0.7, 2.6]))
        shoe = np.minimum(capsule(a, toe, 2.7, 2.4), capsule(a, a + [0, -2.0], 2.7, 2.8))
        self.canvas.paint(shoe, LEATHER, dim)

    def _skirt(self) -> None:
        width, hem = (5.2, 9.0) if self.front else (4.4, 7.6)
        sway = 0.5 * self.pose.swing
        ankles = self.at(self.pose.ankles)[:, 0]
        left, right = (
            min(MIDDLE - hem, ankles.min() - 2.0) + sway,
            max(MIDDLE + hem, ankles.max() + 2.0) + sway,
        )
        row = self.trunk(0, 6.5)[1]
        top_left, top_right = self.trunk(-width, HIP + 1.5), self.trunk(width, HIP + 1.5)
        outline = np.array(
            [
                top_left,
                top_right,
                [right, row - 0.6],
                [(left + right) / 2, row + 1],
                [left, row - 0.6],
            ]
        )
        self.canvas.paint(polygon(outline, 0.8), "bottom_colour")
        for share in (0.3, 0.7):  # pleats
            start = top_left + share * (top_right - top_left) + [0, 4]
            end = np.array([left + share * (right - left), row])
            self.canvas.paint(capsule(start, end, 0.1, 0.5), "bottom_colour", 0.62, rim=1.0)

    def _arm(self, side: int) -> None:
        sign, dim = 1 - 2 * side, self._dim(side)
        width = SHOULDER_WIDTH if self.front else 2.0
        shoulder = self.pose.lifted((sign * width, SHOULDER - 0.5, 0))
        hand = self.pose.hands[side]
        if not self.front:  # both shoulders lie near the middle; the hands follow them
            hand = hand * np.array([0.4, 1, 1])
        reach = hand - shoulder
        hand = shoulder + reach * min(1.0, 1.98 * UPPER_ARM / float(np.linalg.norm(reach)))
        outwards = np.array([0.75 * sign, -0.35, -0.55])
        elbow = joint(shoulder, hand, UPPER_ARM, outwards)
        s, e, h = self.at(shoulder), self.at(elbow), self.at(hand)
        if side == 0 and self.pose.blade is not None:
            self._trail()
            self._sword(hand)
        self.canvas.paint(
            np.minimum(capsule(s, e, 2.5, 2.2), capsule(e, h, 2.2, 1.9)), "body_colour", dim
        )
        if self.top == "tee":
            self.canvas.paint(capsule(s, s + 0.75 * (e - s), 3.3, 3.4), "top_colour", dim)
        elif self.top == "coat":
            sleeve = np.minimum(capsule(s, e, 3.2, 2.8), capsule(e, e + 0.85 * (h - e), 2.8, 3.2))
            self.canvas.paint(sleeve, "top_colour", dim)
        self.canvas.paint(ellipse(h, 2.5, 2.5), "body_colour", dim)

    # -- trunk

    def _trunk(self) -> None:
        wide = 1.0 if self.front else 0.66
        neck = self.at(self.pose.lifted((0, SHOULDER + 3, 0)))
        self.canvas.paint(capsule(neck, neck + [0, -4], 2.6, 2.6), "body_colour", 0.8)
        if self.bottom != "skirt":  # the seat
            seat = np.array(
                [self.trunk(a * wide, h) for a, h in ((-5, 18), (5, 18), (5.3, 14.5), (-5.3, 14.5))]
            )
            self.canvas.paint(polygon(seat, 1.2), "bottom_colour")
        hem, flare = {"tee": (16.0, 5.0), "vest": (17.0, 4.6), "coat": (11.5, 7.6)}[self.top]
        shoulders = 5.2 if self.top == "vest" else 6.6
        corners = [
            (-shoulders, 30),
            (shoulders, 30),
            (4.8, 20),
            (flare, hem),
            (-flare, hem),
            (-4.8, 20),
        ]
        outline = np.array([self.trunk(a * wide, h) for a, h in corners])
        self.canvas.paint(polygon(outline, 1.2), "top_colour")
        getattr(self, f"_{self.top}_details")(wide)

    def _tee_details(self, wide: float) -> None:
        ahead = 0.0 if self.front else -1.5
        self.canvas.paint(ellipse(self.trunk(ahead, 30.8), 3.4 * wide, 1.9), "body_colour", 0.95)
        stripe = capsule(self.trunk(-4.6 * wide, 23.0), self.trunk(4.6 * wide, 23.0), 1.1, 1.1)
        self.canvas.paint(stripe, LINEN, 0.95, rim=0.85)

    def _vest_details(self, wide: float) -> None:
        ahead = 0.0 if self.front else -3.0
        shirt = np.array(
            [
                self.trunk(a * wide + ahead, h)
                for a, h in ((-2.6, 31), (2.6, 31), (0.7, 19), (-0.7, 19))
            ]
        )
        self.canvas.paint(polygon(shirt, 0.3), LINEN, 0.95)
        self._belt(wide, 18.0)

    def _coat_details(self, wide: float) -> None:
        ahead = 0.0 if self.front else -3.4
        seam = capsule(self.trunk(ahead, 29), self.trunk(1.1 * ahead, 12), 0.35, 0.5)
        self.canvas.paint(seam, "top_colour", 0.45, rim=1.0)
        for height in (26.5, 23.0):
            self.canvas.paint(
                ellipse(self.trunk(ahead + 1.6, height), 0.9, 0.9), GOLD, 1.0, rim=0.8
            )
        collar = capsule(self.trunk(-3.4 * wide, 31), self.trunk(3.4 * wide, 31), 1.7, 1.7)
        self.canvas.paint(collar, "top_colour", 1.2)
        self._belt(wide, 18.5)

    def _belt(self, wide: float, height: float) -> None:
        ends = self.trunk(-4.9 * wide, height), self.trunk(4.9 * wide, height)
        self.canvas.paint(capsule(*ends, 1.1, 1.1), LEATHER, 0.9, rim=0.7)
        buckle = self.trunk(0.0 if self.front else -3.2, height)
        self.canvas.paint(ellipse(buckle, 1.4, 1.4), GOLD, 1.0, rim=0.7)

    # -- head

    def _head(self) -> None:
        head, canvas = self.head, self.canvas
        canvas.paint(ellipse(head + [0, 0.5], 9.4, 9.6), "body_colour")
        if self.front:
            for sign in (-1, 1):
                canvas.paint(ellipse(head + [9.3 * sign, 2.2], 1.8, 2.3), "body_colour", 0.9)
                self._eye(head + [3.9 * sign, 2.2])
            canvas.blend(
                0.7 * np.clip(0.5 - capsule(head + [-1.3, 6.6], head + [1.3, 6.6], 0.5, 0.5), 0, 1),
                DARK,
            )
        else:
            canvas.paint(ellipse(head + [-9.2, 3.4], 1.5, 1.4), "body_colour", 1.0, rim=0.8)
            self._eye(head + [-5.8, 2.2])
            canvas.blend(
                0.7
                * np.clip(0.5 - capsule(head + [-6.9, 6.7], head + [-4.8, 6.9], 0.4, 0.5), 0, 1),
                DARK,
            )
        self._hair_in_front()
        if not self.front:
            canvas.paint(ellipse(head + [1.6, 3.0], 1.9, 2.4), "body_colour", 0.9)

    def _eye(self, centre: Point) -> None:
        self.canvas.paint(ellipse(centre, 1.9, 2.5), LINEN, 1.0, rim=0.8)
        self.canvas.paint(
            ellipse(centre + [0 if self.front else -0.5, 0.3], 1.25, 2.0), DARK, 1.0, rim=1.0
        )
        self.canvas.paint(ellipse(centre + [-0.5, -0.7], 0.6, 0.7), SPARK, 1.0, rim=1.0)

    def _cap(self, fringe: float) -> np.ndarray:
        """Hair on the skull, down to ``fringe`` pixels above the middle of the face."""
        head = self.head
        skull = ellipse(head + [0 if self.front else 0.6, -0.6], 10.4, 10.2)
        if self.front:
            face = ellipse(head + [0, 6.5], 8.2, 6.5 + fringe)
        else:
            face = np.minimum(
                ellipse(head + [-6.2, 6.0], 8.0, 6.0 + fringe), ellipse(head + [1.0, 9.0], 6.5, 6.5)
            )
        return np.maximum(skull, -face)

    def _hair_in_front(self) -> None:
        head, canvas, swing = self.head, self.canvas, self.pose.swing
        if self.hair == "spiky":
            canvas.paint(np.minimum(self._cap(4.2), self._spikes()), "hair_colour")
            return
        canvas.paint(
            self._cap({"short": 4.4, "long": 3.4, "ponytail": 5.0}[self.hair]), "hair_colour"
        )
        # A light on the hair, on the side that the light comes from.
        gloss = capsule(head + [-5.5, -5.0], head + [-1.5, -7.2], 0.7, 0.9)
        canvas.blend(0.35 * np.clip(0.5 - gloss, 0, 1), SPARK)
        if self.hair == "short" and self.front:
            canvas.paint(
                capsule(head + [1.5, -4.5], head + [6.0, -1.2], 1.8, 0.8),
                "hair_colour",
                0.95,
                rim=0.8,
            )
        if self.hair == "long" and self.front:
            for sign in (-1, 1):
                tip = head + [8.6 * sign + 0.5 * swing, 13.5]
                lock = np.minimum(
                    capsule(head + [9.0 * sign, -1.0], head + [9.3 * sign, 6.0], 2.2, 2.4),
                    capsule(head + [9.3 * sign, 6.0], tip, 2.4, 1.2),
                )
                canvas.paint(lock, "hair_colour")

    def _spikes(self) -> np.ndarray:
        head, swing = self.head, 0.3 * self.pose.swing
        shape = np.full((SIZE, SIZE), np.inf, np.float32)
        angles = (-70, -35, 0, 35, 70) if self.front else (-50, -15, 20, 55, 90, 122)
        for angle in np.deg2rad(angles):
            out = np.array([np.sin(angle), -np.cos(angle)])
            across = np.array([-out[1], out[0]])
            root, length = head + 7.5 * out, 14.6 if self.front else 14.2
            tip = head + length * out + [swing if self.front else 2.0 + swing, 0]
            shape = np.minimum(
                shape, polygon(np.array([root + 4.4 * across, tip, root - 4.4 * across]), 0.3)
            )
        return shape

    def _hair_behind(self) -> None:
        head, canvas, swing = self.head, self.canvas, self.pose.swing
        if self.hair == "long":
            if self.front:
                outline = head + np.array(
                    [[-9, -2], [9, -2], [10.5 + 0.5 * swing, 15], [-10.5 + 0.5 * swing, 15]]
                )
            else:
                outline = head + np.array(
                    [[0, -6], [9, -3], [9.5 + swing, 16], [3 + swing, 17], [1.5, 6]]
                )
            canvas.paint(polygon(outline, 1.4), "hair_colour", 0.8)
        elif self.hair == "ponytail":
            if self.front:
                knot, bend, tip = [6.0, -9.0], [12.5 + 0.4 * swing, -4.0], [12.0 + 0.9 * swing, 7.0]
            else:
                knot, bend, tip = (
                    [8.5, -6.0],
                    [13.5 + 0.5 * swing, -1.0],
                    [13.0 + 1.2 * swing, 11.0],
                )
            tail = np.minimum(
                capsule(head + knot, head + bend, 2.6, 3.4),
                capsule(head + bend, head + tip, 3.4, 1.0),
            )
            canvas.paint(tail, "hair_colour", 0.9)
            canvas.paint(ellipse(head + np.array(knot), 2.6, 2.6), GOLD, 0.9)

    # -- sword and spell

    def _sword(self, hand: np.ndarray) -> None:
        assert self.pose.blade is not None
        direction = self.pose.blade
        pommel, guard = self.at(hand - 3.0 * direction), self.at(hand + 2.6 * direction)
        tip = self.at(hand + (2.6 + BLADE) * direction)
        along = (tip - guard) / max(float(np.hypot(*(tip - guard))), 1e-6)
        across = np.array([-along[1], along[0]])
        self.canvas.paint(capsule(pommel, guard, 1.2, 1.2), LEATHER)
        self.canvas.paint(capsule(guard, tip, 1.9, 0.6), IRON, 1.0, rim=0.7)
        self.canvas.paint(capsule(guard, guard + 0.7 * (tip - guard), 0.3, 0.2), IRON, 0.7, rim=1.0)
        self.canvas.paint(capsule(guard - 3 * across, guard + 3 * across, 1.1, 1.1), GOLD)

    def _trail(self) -> None:
        """The air that the blade has come through since the pose before."""
        if self.pose.trail is None or self.pose.blade is None:
            return
        (hand, blade), steps = self.pose.trail, 12
        cover = np.zeros((SIZE, SIZE), np.float32)
        for share in np.linspace(0.1, 1, steps):
            grip = hand + share * (self.pose.hands[0] - hand)
            way = blade + share * (self.pose.blade - blade)
            way = way / np.linalg.norm(way)
            stripe = capsule(self.at(grip + 8 * way), self.at(grip + (2 + BLADE) * way), 1.0, 1.6)
            cover = np.maximum(cover, 0.6 * share**1.5 * np.clip(0.8 - stripe, 0, 1))
        self.canvas.blend(cover, IRON)

    def _light(self) -> None:
        glow, flown = self.pose.glow, self.pose.scattered
        if glow <= 0:
            return
        centre = self.at(self.pose.hands.mean(0) + np.array([0, 2.0 + 0.5 * glow, 1.0]))
        distance = np.hypot(COLUMNS - centre[0], ROWS - centre[1])
        fading = 0.55 if flown > 9 else 1.0
        self.canvas.blend(0.75 * fading * np.exp(-((distance / glow) ** 2)), MAGIC)
        self.canvas.blend(0.95 * fading * np.exp(-((distance / (0.5 * glow)) ** 2)), SPARK)
        for number in range(6):
            angle = 2 * np.pi * (number + 0.6 * glow) / 6
            place = centre + (glow + 1 + flown) * np.array([np.cos(angle), 0.8 * np.sin(angle)])
            across, down = np.abs(COLUMNS - place[0]), np.abs(ROWS - place[1])
            star = np.clip(1.6 - across - down, 0, 1)
            self.canvas.blend(star, MAGIC if number % 2 else SPARK)
