"""Files of anybody's turned into samples of a model's shape, with a sentence for everything that was changed.

Nothing in a file is executed or unpickled, and nothing larger than ``LARGEST`` is unpacked.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src.datamodules.hand_files import LAYOUTS, Convention, PoseFile
from src.datamodules.npz import Npz, readable
from src.evaluation.inference.fitting import Expected, Fitted, as_samples, check_count
from src.utils.errors import UserError
from src.utils.pictures import opened_picture, read_arrays, read_picture

# Bytes that one file may unpack to, and pixels of a picture.
LARGEST, PIXELS = 2**30, 50_000_000
File = tuple[str, bytes]


@dataclass
class Samples:
    """Samples as they are stored, and what was done to them.

    Attributes:
        stored: (N, *shape) uint8 levels of pictures, float32 of what is none.
        names: (N,) file, and number where it holds several.
        divisor: of the levels.
        changes: what was done → to how many samples.
        refused: one sentence a file that could not be read.
    """

    stored: np.ndarray
    names: list[str]
    divisor: float = 1.0
    changes: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)

    def floats(self, rows: slice) -> Tensor:
        """Samples as a model takes them, (n, *shape) float32."""
        return torch.from_numpy(self.stored[rows].astype(np.float32) / np.float32(self.divisor))


def read_uploads(files: Sequence[File], expected: Expected) -> Samples:
    """The samples of files, given as (name, content).

    Raises:
        UserError: none of them could be read: what is wrong with the first.
    """
    parts, names, refused = [], [], []
    changes: Counter[str] = Counter()
    for name, content in files:
        try:
            part, own = _read(name, content, expected)
        except UserError as error:
            refused.append(str(error))
            continue
        parts.append(part)
        names += [name] if len(part) == 1 else [f"{name} [{i}]" for i in range(len(part))]
        changes += own
    if not parts:
        raise UserError(refused[0] if refused else "no file was given")
    check_count(len(names), f"{len(files)} files")
    divisor = expected.levels - 1.0 if expected.pictures else 1.0
    return Samples(np.concatenate(parts), names, divisor, changes, refused)


def _read(name: str, content: bytes, expected: Expected) -> Fitted:
    """The samples of one file, (n, *shape), and what was done to them."""
    suffix = Path(name).suffix.lower()
    if suffix not in expected.endings:
        raise UserError(
            f"{name} is of a kind that this model does not take; endings that are read: {', '.join(expected.endings)}"
        )
    with _on_disk(name, suffix, content) as path:
        if suffix == ".npz" and expected.pose and _is_pose_file(path):
            return _poses_of(path), Counter()
        array = _array(path, suffix, expected)
        if len(array) == 0 or array.size == 0:
            raise UserError(f"{path} is empty")
        return as_samples(array, path, expected)


@contextmanager
def _on_disk(name: str, suffix: str, content: bytes) -> Iterator[Path]:
    """The content as a file for the readers, whose errors then tell the name that the person knows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"upload{suffix}"
        path.write_bytes(content)
        try:
            yield path
        except UserError as error:
            raise UserError(str(error).replace(str(path), name)) from error


def _array(path: Path, suffix: str, expected: Expected) -> np.ndarray:
    """What a file holds, as an array of whatever shape."""
    if suffix == ".npy":
        return np.array(read_arrays(path)["x"])
    if suffix == ".npz":
        return _of_npz(path)
    if suffix == ".csv":
        return _of_csv(path)
    if suffix == ".gif":
        return _film(path, expected.shape[0])
    with opened_picture(path, largest=PIXELS):
        return read_picture(path)


def _of_npz(path: Path) -> np.ndarray:
    with Npz(path) as npz:
        name = "x" if "x" in npz.names else npz.names[0] if len(npz.names) == 1 else None
        if name is None:
            held = ", ".join(npz.names) or "no array"
            raise UserError(f"{path} holds {held}; call the array that is to be read x")
        shape, dtype = npz.header(name)
        if prod(shape) * dtype.itemsize > LARGEST:
            raise UserError(f"{path} unpacks to more than {LARGEST // 2**30} GB and is not opened")
        found = npz.whole(name)
    if found.ndim == 0:
        raise UserError(f"{path} holds a single number")
    return found


def _of_csv(path: Path) -> np.ndarray:
    """The numbers of a table, (rows, columns); a first line of names is passed over."""
    with readable(path):
        lines = path.read_text(encoding="utf-8-sig").replace(";", ",").splitlines()
    lines = [line for line in lines if line.strip()]
    if lines and not _numbers(lines[0]):
        lines = lines[1:]
    if not lines:
        raise UserError(f"{path} is empty")
    with readable(path):
        return np.loadtxt(lines, delimiter=",", dtype=np.float64, ndmin=2)


def _numbers(line: str) -> bool:
    """Whether a line of a table holds nothing but numbers."""
    try:
        for part in line.split(","):
            float(part)
    except ValueError:
        return False
    return True


def _film(path: Path, frames: int) -> np.ndarray:
    """The first frames of an animation, and one more that tells whether any is left out: (n, 3, H, W) uint8."""
    from PIL import ImageSequence

    largest = min(PIXELS, LARGEST // (3 * (frames + 1)))
    with opened_picture(path, ("GIF",), largest) as opened:
        first = islice(ImageSequence.Iterator(opened), frames + 1)
        return np.stack([np.asarray(one.convert("RGB")).transpose(2, 0, 1) for one in first])


def _is_pose_file(path: Path) -> bool:
    """Whether an NPZ has arrays of the names that hand data come under."""
    with Npz(path) as npz:
        return any(set(layout.widths) <= set(npz.names) for layout in LAYOUTS)


def _poses_of(path: Path) -> np.ndarray:
    file = PoseFile(path, Convention())
    check_count(len(file), str(path))
    return np.concatenate([poses for _, poses in file.read(np.arange(len(file)))])
