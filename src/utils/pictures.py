"""Pictures on disk: where they are, what shape they have, and reading them; no torch."""

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from lzma import LZMAError
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING

import numpy as np

from src.utils.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
# Pillow's readers that a file's content may choose: others run programs, as that of PostScript does.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")
# What damaged files of arrays make NumPy raise, and those of pictures Pillow's decoders.
NO_ARRAYS = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    SyntaxError,
    TokenError,
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
)
UNDECODABLE = (OSError, SyntaxError, ValueError, EOFError, TypeError, IndexError, struct.error)
SPLITS = ("train", "val", "test")


def picture_files(folder: Path) -> list[Path]:
    """All pictures below ``folder``, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def picture_shape(path: str | None, size: Sequence[int] | int | None = None) -> list[int]:
    """[C, H, W] of the pictures at ``path`` (a folder, .npz or .npy), read from the first one only.

    Raises:
        UserError: there is nothing to read there.
    """
    source = existing(path)
    if source.is_dir():
        files = picture_files(source)
        if not files:
            raise UserError(
                f"data.path={source} holds no pictures; endings that are read: {', '.join(SUFFIXES)}"
            )
        shape = list(read_picture(files[0]).shape)
    else:
        array = next(iter(read_arrays(source).values()))
        shape = list(as_chw(array[:1], source).shape[1:])
    return [shape[0], *pair(size)] if size else shape


def recording_shape(path: str | None, size: Sequence[int] | int | None = None) -> list[int]:
    """[3, H, W] of the frames of recordings, read from the first one only.

    Args:
        path: a recording, or a folder with some in or below it.
        size: H or [H, W] that frames are scaled to.

    Raises:
        UserError: there is none.
    """
    if not path:
        raise UserError("data=recordings needs data.path=<a recording, or a folder of some>")
    if size:
        return [3, *pair(size)]
    for folder, inner, files in os.walk(path):
        # The walk goes on in this order, past caches and what is half converted.
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        shown = [name for name in files if not name.startswith(".")]
        if Path(folder).name == "frames" and shown:
            return list(read_picture(Path(folder) / shown[0]).shape)
    raise UserError(f"data.path={path} holds no recordings; scripts/record.py makes some")


def existing(path: str | None) -> Path:
    """``path``, or a ``UserError`` when it is not given or not there."""
    if not path:
        raise UserError("data=images needs data.path=<a folder, .npz or .npy of pictures>")
    source = Path(path)
    if not source.exists():
        folder = source.absolute().parent
        there = "is there" if folder.exists() else "is not there either"
        raise UserError(f"data.path={source} does not exist; its folder {folder} {there}")
    if source.is_file() and source.suffix not in (".npz", ".npy"):
        raise UserError(
            f"data.path={source} is a file of a kind that is not read; give a folder of pictures, a .npz or a .npy"
        )
    return source


def read_picture(path: Path, size: Sequence[int] | int | None = None) -> np.ndarray:
    """One picture as uint8 (C, H, W), grey or RGB; transparency is dropped.

    Raises:
        UserError: naming the file, when it cannot be decoded.
    """
    from PIL import Image  # not needed to compose a config without pictures

    with opened_picture(path) as opened:
        image = opened
        if image.mode.startswith("I"):  # 16 bits, which Pillow's own conversion would clip at 255
            image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
        picture = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
        if size:
            height, width = pair(size)
            picture = picture.resize((width, height), Image.Resampling.BOX)
    array = np.asarray(picture)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


@contextmanager
def opened_picture(
    path: Path, formats: Sequence[str] = FORMATS, largest: int | None = None
) -> "Iterator[Image.Image]":
    """A picture in one of Pillow's ``formats``; what its decoder stumbles over becomes one sentence.

    Args:
        largest: pixels that it may have; None for what Pillow allows.

    Raises:
        UserError: naming the file, when it cannot be decoded or is too large.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=list(formats)) as image:
            width, height = image.size
            if largest is not None and width * height > largest:
                raise UserError(
                    f"{path} has {width}×{height} pixels; at most {largest // 10**6} million are read"
                )
            yield image
    except UserError:
        raise
    except Image.UnidentifiedImageError as error:
        known = f"none of {', '.join(formats)}" if len(formats) > 1 else f"no {formats[0]}"
        raise UserError(f"{path} cannot be read as a picture: it is {known}") from error
    except (*UNDECODABLE, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as a picture: {error}") from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npy (named ``x``) or .npz, without pickles.

    Raises:
        UserError: the file is damaged, holds objects, or is empty.
    """
    try:
        loaded = np.load(path, allow_pickle=False, mmap_mode="r" if path.suffix == ".npy" else None)
        arrays = (
            {"x": loaded}
            if isinstance(loaded, np.ndarray)
            else {name: loaded[name] for name in loaded.files}
        )
    except NO_ARRAYS as error:
        raise UserError(f"{path} cannot be read as arrays: {error}") from error
    if not arrays or any(array.ndim == 0 or len(array) == 0 for array in arrays.values()):
        raise UserError(f"{path} is empty")
    known = {"x", "label", *SPLITS, *(f"label_{split}" for split in SPLITS)}
    if unknown := sorted(set(arrays) - known):
        raise UserError(
            f"{path} has an array '{unknown[0]}' that is not read; names that are: {', '.join(sorted(known))}"
        )
    return arrays


def as_chw(array: np.ndarray, source: Path) -> np.ndarray:
    """(N, H, W), (N, C, H, W) or (N, H, W, C) → (N, C, H, W) uint8; floats must lie in [0, 1].

    Raises:
        UserError: another shape, another range, or NaN.
    """
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[-1] in (1, 3) and array.shape[1] not in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4:
        raise UserError(
            f"{source} holds samples of shape {list(array.shape[1:])}; pictures are (N, H, W), (N, "
            "C, H, W) or (N, H, W, C)"
        )
    if array.dtype == np.uint8:
        return np.asarray(array)
    array = np.asarray(array, dtype=np.float32)
    if np.isnan(array).any():
        raise UserError(
            f"{source}: picture {int(np.isnan(array).reshape(len(array), -1).any(1).argmax())} has NaN values"
        )
    if array.min() < 0 or array.max() > 1:
        raise UserError(
            f"{source} has values from {array.min():.3g} to {array.max():.3g}; give uint8, or floats in [0, 1]"
        )
    return np.rint(array * 255).astype(np.uint8)


def pixels(picture: np.ndarray) -> np.ndarray:
    """(C, H, W) in [0, 1] → uint8 (H, W), or (H, W, 3) of three channels; other channels lie side by side."""
    array = np.rint(picture.clip(0, 1) * 255).astype(np.uint8)
    return array.transpose(1, 2, 0) if len(array) == 3 else np.concatenate([*array], 1)


def pair(size: Sequence[int] | int, name: str = "data.size") -> tuple[int, int]:
    """(H, W) of one number or two.

    Raises:
        UserError: ``name`` is neither.
    """
    sides = (
        (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, Sequence) else ()
    )
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise UserError(f"{name}={size} must be one number from 1, or height and width")
    return sides[0], sides[1]


def pyramid(height: int, width: int, smallest: int = 4) -> list[tuple[int, int]]:
    """Picture sizes from (height, width) downwards, each side halved (rounded down) at every step."""
    sizes = [(height, width)]
    while max(sizes[-1]) > smallest and min(sizes[-1]) >= 4:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes


def conv_features(shape: Sequence[int], channels: int, largest: int) -> int:
    """How many numbers are left of a picture at the end of its ``pyramid``, channels doubled on the way.

    Of what is no picture 0: a config is composed before data that do not fit its networks are refused.
    """
    if len(shape) != 3:
        return 0
    sizes = pyramid(*shape[1:])
    return min(channels * 2 ** max(len(sizes) - 2, 0), largest) * prod(sizes[-1])
