"""The hand as a chain of joints: what its rotation vectors mean, what a hand can do, and where its points are.

The axes are those of MANO and SMPL-X: a bone points along x, so that x is its twist, y its splay and z its bend, and a
joint's rotation is R = Rx(twist) Ry(splay) Rz(bend). Flexion is positive about z in the right hand; the left hand is
what a mirror shows of it, (x, y, z) → (x, −y, −z). The thumb has one fixed oblique frame for its three joints, and all
lengths are of a synthetic hand: no number of the licensed models is in here.
"""

import numpy as np
from scipy.spatial.transform import Rotation

FINGERS = ("index", "middle", "pinky", "ring", "thumb")
JOINTS = tuple(f"{finger}{number}" for finger in FINGERS for number in (1, 2, 3))
SIDES = ("left", "right")
NUM_JOINTS = len(SIDES) * len(JOINTS)
MIRROR = np.array([1.0, -1.0, -1.0])
BASES, MIDDLES, TIPS = (np.arange(first, 12, 3) for first in range(3))
THUMB = np.arange(12, 15)

# Range of bend, in degrees, of the first, second and third joint of a finger, and of the thumb's three.
FINGER_BEND = ((-20.0, 90.0), (0.0, 110.0), (-10.0, 80.0))
THUMB_BEND = ((0.0, 45.0), (-10.0, 55.0), (-15.0, 80.0))
# Range of splay at the base of a finger, of spread and of opposition at the base of the thumb.
FINGER_SPLAY = (-18.0, 18.0)
THUMB_SPLAY, THUMB_TWIST = (-15.0, 45.0), (-45.0, 45.0)
# A finger's last joint follows the one before it; a bent finger cannot be spread.
DIP_PER_PIP, SPLAY_LOSS = 2 / 3, 0.8
# How far beyond, in degrees, a pose still counts as one of a hand: about four times the noise that trackers leave,
# which twists the base of a finger most. The last joint follows the middle one with a standard deviation of 5 degrees.
BEND_SLACK, SPLAY_SLACK, COUPLING_SLACK = 5.0, 3.0, 20.0
TWIST_SLACK = np.where(np.arange(15) % 3 == 0, 11.0, 7.0)

# A right hand in metres, palm down, fingers along −x, thumb towards +z.
KNUCKLES = (
    np.array([[-88, 0, 22], [-92, 3, 0], [-78, -3, -37], [-86, 1, -19], [-22, -10, 26]]) * 1e-3
)
BONE_LENGTHS = (
    np.array([[40, 24, 22], [44, 28, 24], [32, 20, 19], [40, 27, 23], [42, 32, 27]]) * 1e-3
)
# Points of a hand: the wrist, then three joints and the tip of every finger.
BONES = tuple(
    pair
    for first in range(1, 21, 4)
    for pair in ((0, first), *((first + i, first + i + 1) for i in range(3)))
)


def _thumb_frame() -> np.ndarray:
    """Columns: against the bone, splay axis, bend axis, which carries the tip across the palm."""
    bone = np.array([-0.75, -0.25, 0.61])
    bone /= np.linalg.norm(bone)
    across = np.array([-0.35, -0.55, -0.76])
    across -= bone * (across @ bone)
    bend = np.cross(bone, across / np.linalg.norm(across))
    return np.stack([-bone, np.cross(bend, -bone), bend], 1)


THUMB_FRAME = _thumb_frame()


def canonical(poses: np.ndarray) -> np.ndarray:
    """The same rotations (…, 3) with angles in [0, π]: the angle is wrapped, not its components."""
    angle = np.linalg.norm(poses, axis=-1, keepdims=True)
    wrapped = angle - 2 * np.pi * np.round(angle / (2 * np.pi))
    return np.where(angle > np.pi, poses * (wrapped / np.where(angle > 0, angle, 1)), poses)


def mirrored(poses: np.ndarray) -> np.ndarray:
    """What a mirror shows of poses (…, 30, 3)."""
    left, right = np.split(poses, 2, axis=-2)
    return np.concatenate([right, left], axis=-2) * MIRROR


def _as_right(poses: np.ndarray) -> np.ndarray:
    """(N, 30, 3) with the left hand's vectors mirrored, so that both read as right hands."""
    return np.concatenate([poses[:, :15] * MIRROR, poses[:, 15:]], 1)


def _frames() -> Rotation:
    """The frame of each of the 30 joints: the thumbs' are oblique."""
    frames = np.tile(np.eye(3), (NUM_JOINTS, 1, 1))
    frames[THUMB] = frames[15 + THUMB] = THUMB_FRAME
    return Rotation.from_matrix(frames)


def angles(poses: np.ndarray) -> np.ndarray:
    """Twist, splay and bend of every joint of poses (N, 30, 3), in degrees, (N, 30, 3).

    Both hands in the right hand's convention. The splay lies in [−90°, 90°], twist and bend in [−180°, 180°].
    """
    frames = np.tile(_frames().as_matrix(), (len(poses), 1, 1))
    joints = Rotation.from_rotvec(_as_right(np.asarray(poses, np.float64)).reshape(-1, 3))
    local = np.swapaxes(frames, 1, 2) @ joints.as_matrix() @ frames
    return Rotation.from_matrix(local).as_euler("XYZ", degrees=True).reshape(poses.shape)


def poses(angles: np.ndarray) -> np.ndarray:
    """The inverse of ``angles``: degrees (N, 30, 3) → canonical rotation vectors in radians, (N, 30, 3)."""
    local = Rotation.from_euler("XYZ", angles.reshape(-1, 3), degrees=True).as_rotvec()
    # Conjugating a rotation turns its axis.
    turned = np.einsum("jab,njb->nja", _frames().as_matrix(), local.reshape(angles.shape))
    return canonical(_as_right(turned))


def _inside(value: np.ndarray, limits: tuple[float, float], slack: float) -> np.ndarray:
    return (value >= limits[0] - slack) & (value <= limits[1] + slack)


def within_limits(poses: np.ndarray) -> np.ndarray:
    """Which joints of poses (N, 30, 3) a hand can bend like that, (N, 30).

    The ranges are passive-safe norms; twist and the splay of outer joints are what trackers leave; the last joint of
    a finger follows two thirds of the one before it, and the splay that a bent finger has left is smaller.
    """
    both = angles(poses).reshape(-1, 15, 3)
    twist, splay, bend = both[..., 0], both[..., 1], both[..., 2]
    good = np.abs(twist) <= TWIST_SLACK
    good &= np.abs(splay) <= SPLAY_SLACK
    for order, columns in ((1, MIDDLES), (2, TIPS)):
        thumb = THUMB[order]
        good[:, columns] &= _inside(bend[:, columns], FINGER_BEND[order], BEND_SLACK)
        good[:, thumb] &= _inside(bend[:, thumb], THUMB_BEND[order], BEND_SLACK)
    left = np.clip(1 - SPLAY_LOSS * bend[:, BASES].clip(0) / 90, 0, 1)
    most = FINGER_SPLAY[1] * left + SPLAY_SLACK
    good[:, BASES] = (
        (np.abs(splay[:, BASES]) <= most)
        & (np.abs(twist[:, BASES]) <= TWIST_SLACK[0])
        & _inside(bend[:, BASES], FINGER_BEND[0], BEND_SLACK)
    )
    follows = np.abs(bend[:, TIPS] - DIP_PER_PIP * bend[:, MIDDLES]) <= COUPLING_SLACK
    good[:, TIPS] &= follows
    good[:, 12] = (
        _inside(splay[:, 12], THUMB_SPLAY, SPLAY_SLACK)
        & _inside(twist[:, 12], THUMB_TWIST, TWIST_SLACK[0])
        & _inside(bend[:, 12], THUMB_BEND[0], BEND_SLACK)
    )
    return good.reshape(-1, NUM_JOINTS)


def positions(poses: np.ndarray) -> np.ndarray:
    """Points of both hands, (N, 2, 21, 3) in metres, of poses (N, 30, 3): see ``BONES``.

    Each hand has its wrist at the origin; the left one is the mirror image of a right one.
    """
    right = _as_right(np.asarray(poses, np.float64)).reshape(-1, 5, 3, 3)
    turns = Rotation.from_rotvec(right.reshape(-1, 3)).as_matrix().reshape(-1, 5, 3, 3, 3)
    rest = np.tile(np.array([-1.0, 0, 0]), (5, 1))
    rest[4] = -THUMB_FRAME[:, 0]
    points = np.zeros((len(right), 21, 3))
    whole = np.tile(np.eye(3), (len(right), 5, 1, 1))
    at = np.tile(KNUCKLES, (len(right), 1, 1))
    points[:, 1::4] = at
    for joint in range(3):
        whole = whole @ turns[:, :, joint]
        at = at + (whole @ (rest * BONE_LENGTHS[:, joint, None])[..., None])[..., 0]
        points[:, 2 + joint :: 4] = at
    hands = points.reshape(-1, 2, 21, 3)
    hands[:, 0, :, 0] *= -1
    return hands
