"""Arrays of whatever shape turned into samples of a model's shape, with a note of everything that was changed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from src.datamodules.hand_anatomy import canonical
from src.utils.errors import UserError
from src.utils.pictures import SUFFIXES, as_chw

ARRAYS, TABLES, FILMS = (".npy", ".npz"), (".csv",), (".gif",)
# No rotation vector that was meant as radians has a larger number.
LARGEST_ANGLE = 4 * np.pi
# Samples of one upload, at once.
MOST = 100_000
# Samples, and what was done to how many of them.
Fitted = tuple[np.ndarray, Counter[str]]


@dataclass(frozen=True)
class Expected:
    """What a model takes.

    Attributes:
        shape: of one sample.
        pose: whether that is 30 rotation vectors in radians.
        levels: grey levels of the data's pictures.
    """

    shape: tuple[int, ...]
    pose: bool = False
    levels: int = 256

    @property
    def pictures(self) -> bool:
        """Whether a sample is a picture, or several one after another."""
        return len(self.shape) in (3, 4)

    @property
    def endings(self) -> tuple[str, ...]:
        """The endings of files that are read."""
        if self.pictures:
            return (*FILMS, *ARRAYS) if len(self.shape) == 4 else (*SUFFIXES, *ARRAYS)
        return (*ARRAYS, *TABLES)


def as_samples(array: np.ndarray, path: Path, expected: Expected) -> Fitted:
    """The samples of an array: one of the model's shape, or several.

    Args:
        path: for messages.

    Returns:
        (N, *shape) uint8 levels of pictures, float32 of what is none, and what was done.

    Raises:
        UserError: it holds no numbers, NaN, numbers out of range, or has another shape.
    """
    if array.dtype.kind not in "biuf":
        raise UserError(f"{path} holds values of type {array.dtype}; give real numbers")
    if not expected.pictures:
        return _rows(array, path, expected)
    return (_sequences if len(expected.shape) == 4 else _pictures)(array, path, expected)


def check_count(count: int, where: str) -> None:
    """Refuse more samples than are taken at once."""
    if count > MOST:
        raise UserError(f"{where}: {count:,} samples are too many at once; give at most {MOST:,}")


def _rows(array: np.ndarray, path: Path, expected: Expected) -> Fitted:
    """Samples that are no pictures: one of the model's shape or flat, or several."""
    flat, changes = (prod(expected.shape),), Counter[str]()
    event = next((e for e in (expected.shape, flat) if array.shape[-len(e) :] == e), None)
    if event is None or array.ndim > len(event) + 1:
        raise UserError(
            f"{path} has the shape {list(array.shape)}; this model takes {list(expected.shape)} or {list(flat)}, or "
            "several of these"
        )
    rows = array.reshape(-1, *expected.shape).astype(np.float32)
    check_count(len(rows), str(path))
    finite = np.isfinite(rows).reshape(len(rows), -1).all(1)
    if not finite.all():
        raise UserError(f"{path}: sample {int(finite.argmin())} has NaN or infinite values")
    if expected.pose:
        if np.abs(rows).max() > LARGEST_ANGLE:
            raise UserError(
                f"{path} has values from {rows.min():.4g} to {rows.max():.4g}; give rotation vectors in radians, not "
                "degrees"
            )
        wrapped = canonical(rows).astype(np.float32)
        if changed := int((wrapped != rows).any((1, 2)).sum()):
            changes["rotations by more than half a turn were written the short way"] = changed
        rows = wrapped
    return rows, changes


def _pictures(array: np.ndarray, path: Path, expected: Expected) -> Fitted:
    """(H, W), (C, H, W), (H, W, C) or several of these → (N, *shape) levels."""
    single = array.ndim == 2 or (
        array.ndim == 3 and (array.shape[0] in (1, 3) or array.shape[-1] in (1, 3))
    )
    # Several grey pictures only look like channels where the model has as many.
    if array.ndim == 3 and array.shape[1:] == expected.shape[1:] and expected.shape[0] == 1:
        single = array.shape[0] == 1
    batch = array[None] if single else array
    check_count(len(batch), str(path))
    return _fitted(as_chw(batch, path), path, expected)


def _sequences(array: np.ndarray, path: Path, expected: Expected) -> Fitted:
    """(T, H, W), (T, C, H, W), (T, H, W, C) or several of the latter → (N, *shape) levels."""
    if array.ndim not in (3, 4, 5):
        raise UserError(
            f"{path} has the shape {list(array.shape)}; sequences are [T, C, H, W], or several of these"
        )
    several = array if array.ndim == 5 else array[None]
    check_count(len(several), str(path))
    wanted, there = expected.shape[0], several.shape[1]
    if there < wanted:
        raise UserError(f"{path} has {there} frames; this model takes {wanted}")
    frames = several[:, :wanted].reshape(-1, *several.shape[2:])
    fitted, changes = _fitted(as_chw(frames, path), path, expected)
    changes = Counter({what: len(several) for what in changes})
    if there > wanted:
        changes[f"only the first {wanted} frames were taken"] = len(several)
    return fitted.reshape(-1, *expected.shape), changes


def _fitted(pictures: np.ndarray, path: Path, expected: Expected) -> Fitted:
    """Pictures (N, c, h, w) uint8 → (N, C, H, W) levels."""
    given, wanted = pictures.shape[1:], expected.shape[-3:]
    changes: list[str] = []
    if given != wanted:
        if given[0] not in (1, 3) or wanted[0] not in (1, 3):
            raise UserError(
                f"{path} has pictures of shape {list(given)}; this model takes {list(wanted)}"
            )
        changes += _differences(given, wanted)
        pictures = np.stack([_converted(one, *wanted) for one in pictures])
    if expected.levels != 256:
        changes.append(f"values were rounded to the {expected.levels} grey levels of the data")
        pictures = np.rint(pictures * ((expected.levels - 1) / 255)).astype(np.uint8)
    return pictures, Counter({change: len(pictures) for change in changes})


def _differences(given: Sequence[int], wanted: Sequence[int]) -> list[str]:
    found = []
    if tuple(given[1:]) != tuple(wanted[1:]):
        told = (
            f"scaled from {given[1]}×{given[2]} to {wanted[1]}×{wanted[2]} pixels (height × width)"
        )
        same = given[1] * wanted[2] == given[2] * wanted[1]
        found.append(told if same else f"{told}, which changes the proportions")
    if given[0] != wanted[0]:
        found.append(
            "colours were turned to grey"
            if wanted[0] == 1
            else "grey was taken for all three colours"
        )
    return found


def _converted(picture: np.ndarray, channels: int, height: int, width: int) -> np.ndarray:
    """(c, h, w) uint8, c 1 or 3 → (channels, height, width); scaled as the data of folders are."""
    from PIL import Image

    opened = Image.fromarray(picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0))
    opened = opened.convert("L" if channels == 1 else "RGB")
    array = np.asarray(opened.resize((width, height), Image.Resampling.BOX))
    return array[None] if channels == 1 else array.transpose(2, 0, 1)
