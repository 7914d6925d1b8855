"""Hand poses in NPZ files: which formats are known, and how one is read a piece at a time; NumPy only."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from src.datamodules.hand_anatomy import MIRROR, SIDES, canonical
from src.datamodules.npz import Npz
from src.utils.errors import UserError, nearest

CHUNK = 16384  # frames read at once: 22 MB of the widest format in float64
HAND = 45  # numbers of a hand: 15 joints in axis-angle
CONVENTIONS = ("absolute", "offset")
STILL = 1e-3  # radians: a sequence whose numbers all have a smaller standard deviation was recorded without fingers


@dataclass(frozen=True)
class Layout:
    """Where a format keeps its hands.

    Attributes:
        text: for messages.
        widths: the numbers that a frame has in every array that makes up the format.
        hands: array and first column of the left and of the right hand, or of the only one.
    """

    text: str
    widths: Mapping[str, int]
    hands: Sequence[tuple[str, int]]


LAYOUTS = (
    Layout(
        "lhand_pose and rhand_pose (N, 45)",
        {"lhand_pose": HAND, "rhand_pose": HAND},
        (("lhand_pose", 0), ("rhand_pose", 0)),
    ),
    Layout("pose_hand (N, 90)", {"pose_hand": 90}, (("pose_hand", 0), ("pose_hand", 45))),
    Layout("poses (N, 165) of SMPL-X", {"poses": 165}, (("poses", 75), ("poses", 120))),
    Layout("poses (N, 156) of SMPL-H", {"poses": 156}, (("poses", 66), ("poses", 111))),
    *(
        Layout(f"{name} (N, {width}) of MANO", {name: width}, ((name, width - HAND),))
        for name in ("poses", "pose")
        for width in (48, 45)
    ),
)


class Convention:
    """What the numbers of files stand for.

    SMPL-X and MANO take a pose either as it is (``flat_hand_mean=True``) or as an offset from the mean hand, and the
    files do not tell which. Offsets are added component by component, as SMPL-X does.

    Attributes:
        means: (2, 45) radians that are added to the left and the right hand.

    Args:
        hand_mean: ``absolute``, ``offset``, or None where the files say it themselves, as ours do.
        hand_mean_path: of offsets, an NPZ with ``lhand_mean`` and ``rhand_mean`` (45,), from the user's own copy.
        side: ``left`` or ``right``, of MANO files without a text ``side``.
    """

    def __init__(
        self,
        hand_mean: str | None = None,
        hand_mean_path: str | None = None,
        side: str | None = None,
    ) -> None:
        choices = {"hand_mean": (hand_mean, CONVENTIONS), "side": (side, SIDES)}
        for key, (value, known) in choices.items():
            if value not in (None, *known):
                raise UserError(f"data.{key}='{value}' is unknown{nearest(str(value), known)}")
        if (hand_mean == "offset") != bool(hand_mean_path):
            raise UserError(
                "data.hand_mean=offset and data.hand_mean_path=<an NPZ with lhand_mean and rhand_mean> go together; "
                f"they are {hand_mean or 'null'} and {hand_mean_path or 'null'}"
            )
        self.hand_mean, self.hand_mean_path, self.side = hand_mean, hand_mean_path, side
        self.means = _means(Path(hand_mean_path)) if hand_mean_path else np.zeros((2, HAND))


def _means(path: Path) -> np.ndarray:
    names = [f"{side[0]}hand_mean" for side in SIDES]
    with Npz(path) as npz:
        found = [npz.whole(name) for name in names if name in npz.names]
    if [mean.shape for mean in found] != [(HAND,), (HAND,)] or not np.isfinite(found).all():
        raise UserError(
            f"data.hand_mean_path={path} must hold {' and '.join(names)}, {HAND} radians each"
        )
    return np.stack(found).astype(np.float64)


class PoseFile:
    """The poses of an NPZ file, in one of ``LAYOUTS``.

    A MANO file has one hand; the other one is what a mirror shows of it, (x, y, z) → (x, −y, −z) for every joint.

    Args:
        path: the file.
        convention: of its numbers; a text ``hand_mean`` in the file (ours have ``absolute``) makes it unnecessary.

    Raises:
        UserError: it is missing, damaged, empty or in no known format, or its convention has not been chosen.
    """

    def __init__(self, path: Path, convention: Convention) -> None:
        self.path, self.convention = path, convention
        with Npz(path) as npz:
            self.layout, self.length = _layout(npz)
            self.side = self._side(npz)
            self._check_convention(_text(npz, "hand_mean"))
            self._named = next((n for n in ("sequence_id", "image_ids") if n in npz.names), None)

    def __len__(self) -> int:
        return self.length

    def _side(self, npz: Npz) -> int | None:
        """Which hand the file has, 0 or 1; None for both."""
        if len(self.layout.hands) == 2:
            return None
        side = _text(npz, "side") or self.convention.side
        if side not in SIDES:
            raise UserError(
                f"{self.path} has {self.layout.text}, one hand; choose data.side=left or data.side=right"
            )
        return SIDES.index(side)

    def _check_convention(self, told: str | None) -> None:
        chosen = self.convention.hand_mean
        if told not in CONVENTIONS and chosen is None:
            raise UserError(
                f"{self.path} does not tell whether its poses are absolute or offsets from the mean hand; choose "
                "data.hand_mean=absolute, or data.hand_mean=offset with "
                "data.hand_mean_path=<an NPZ with lhand_mean and rhand_mean>"
            )
        if told in CONVENTIONS and chosen not in (None, told):
            raise UserError(
                f"{self.path} says that its poses are {told}; leave out data.hand_mean={chosen}"
            )

    def names(self) -> np.ndarray | None:
        """What the file calls the sequence of every frame, (N,); None where it does not.

        That is its ``sequence_id``, or what its ``image_ids`` have before the frame's number.
        """
        if self._named is None:
            return None
        with Npz(self.path) as npz:
            found = npz.whole(self._named)
        if found.shape != (self.length,):
            raise UserError(
                f"{self.path} has {self.length} frames and {self._named} of shape {list(found.shape)}"
            )
        return found if self._named == "sequence_id" else _stems(found)

    def sequences(self) -> np.ndarray:
        """Which sequence each frame belongs to, (N,) int64 from 0; all to one where the file does not tell."""
        names = self.names()
        if names is None:
            return np.zeros(self.length, np.int64)
        return np.unique(names, return_inverse=True)[1].astype(np.int64)

    def still(self, sequences: np.ndarray) -> np.ndarray:
        """The numbers of those sequences, of several frames, in which no finger moves: see ``STILL``.

        Args:
            sequences: (N,) of the frames, see ``sequences``.
        """
        count = np.bincount(sequences)
        several = np.flatnonzero(count > 1)
        if not len(several):
            return several
        place = np.full(len(count), len(several))  # the last, of single frames, is not looked at
        place[several] = np.arange(len(several))
        sums = np.zeros((2, len(several) + 1, 2 * HAND))
        for first, hands in self._pieces():
            of = place[sequences[first : first + len(hands)]]
            starts = np.flatnonzero(np.diff(of, prepend=-1))
            for power, total in enumerate(sums, 1):
                np.add.at(total, of[starts], np.add.reduceat(hands**power, starts))
        mean, square = sums[:, :-1] / count[several, None]
        return several[(square - mean**2 < STILL**2).all(1)]

    def read(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Chosen frames, a piece at a time.

        Args:
            rows: (n,) their numbers, in rising order.

        Yields:
            Where in ``rows`` a piece begins, and its canonical poses (≤ CHUNK, 30, 3) float32.

        Raises:
            UserError: one of them has NaN or infinite values.
        """
        for start, hands in self._pieces():
            first, end = np.searchsorted(rows, (start, start + len(hands)))
            if end == first:
                continue
            chosen = hands[rows[first:end] - start]
            finite = np.isfinite(chosen).all(1)
            if not finite.all():
                row = rows[first + int(np.argmin(finite))]
                raise UserError(f"{self.path}: frame {row} has NaN or infinite values")
            yield int(first), canonical(chosen.reshape(-1, 30, 3).astype(np.float32))

    def _pieces(self) -> Iterator[tuple[int, np.ndarray]]:
        """The number of a frame, and both hands from there on, (≤ CHUNK, 90) float64 as stored, means added."""
        first, names = 0, [*self.layout.widths]
        with Npz(self.path) as npz:
            for pieces in zip(*(npz.pieces(name, CHUNK) for name in names), strict=True):
                arrays = dict(zip(names, pieces, strict=True))
                yield (
                    first,
                    self._both([arrays[name][:, at : at + HAND] for name, at in self.layout.hands]),
                )
                first += len(pieces[0])

    def _both(self, hands: list[np.ndarray]) -> np.ndarray:
        if self.side is None:
            return np.concatenate(hands, 1) + self.convention.means.reshape(-1)
        one = hands[0] + self.convention.means[self.side]
        both = [one, one * np.tile(MIRROR, HAND // 3)]
        return np.concatenate(both if self.side == 0 else both[::-1], 1)


def _layout(npz: Npz) -> tuple[Layout, int]:
    """The format of a file, and its number of frames."""
    found = {name: npz.header(name) for name in npz.names}
    shapes = {name: shape for name, (shape, _) in found.items()}
    layout = next((one for one in LAYOUTS if _fits(one, shapes)), None)
    if layout is None:
        told = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()) or "nothing"
        known = "; ".join(one.text for one in LAYOUTS)
        raise UserError(
            f"{npz.path} has no hand poses that are known: it holds {told}; known are {known}"
        )
    for name in layout.widths:
        if not np.issubdtype(found[name][1], np.floating):
            raise UserError(f"{npz.path} has {name} of type {found[name][1]}; give floats, radians")
    lengths = {shapes[name][0] for name in layout.widths}
    if len(lengths) > 1 or 0 in lengths:
        told = " and ".join(f"{shapes[name][0]} frames in {name}" for name in layout.widths)
        raise UserError(f"{npz.path} has {told}; give the same number, at least one")
    return layout, lengths.pop()


def _fits(layout: Layout, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return all(shapes.get(name, ())[1:] == (width,) for name, width in layout.widths.items())


def _text(npz: Npz, name: str) -> str | None:
    """A text that a file holds as an array of one."""
    if name not in npz.names:
        return None
    shape, dtype = npz.header(name)
    return str(npz.whole(name).reshape(())) if prod(shape) == 1 and dtype.kind == "U" else None


def _stems(names: np.ndarray) -> np.ndarray:
    """What names of frames, such as ``signer3_00017.jpg``, have before their last number."""
    number = re.compile(r"[\W_]*\d+(\.[A-Za-z]\w*)?$")
    if names.dtype.kind == "S":
        names = np.char.decode(names, "utf-8", "replace")
    return np.array([number.sub("", str(name)) for name in names])
