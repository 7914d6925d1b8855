"""Sprite tensors on disk, in the forms in which the original sets are handed around."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src.utils.errors import UserError

READABLE = (torch.uint8, torch.float16, torch.float32, torch.float64)
CHUNK = 64  # sequences read at once: 25 MB of float32


def sprite_file(folder: Path, split: str) -> Path:
    """The file of a split: its closed loops where they have been extracted, else all of its sequences.

    Raises:
        UserError: there is neither.
    """
    names = f"Sprites_{split}_cyclic.pt", f"Sprites_{split}.pt"
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"data.path={folder} has neither {names[0]} nor {names[1]}")


def open_sprites(path: Path) -> Tensor:
    """The sequences of a file, memory-mapped: (N, T, C, H, W), of the type that they are stored in.

    The file holds a tensor, or a dict with one as ``data``, with the channels before or after the pixels.

    Raises:
        UserError: it is missing, damaged, or holds something else.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{path} cannot be read as tensors: {reason}") from error
    x = content.get("data") if isinstance(content, dict) else content
    if not isinstance(x, Tensor):
        found = f"a dict with {sorted(map(str, content))}" if isinstance(content, dict) else "none"
        raise UserError(
            f"{path} must hold a tensor, or a dict with one as 'data'; it holds {found}"
        )
    if x.dim() != 5 or 3 not in (x.shape[2], x.shape[-1]):
        raise UserError(
            f"{path} holds {list(x.shape)}; sequences are (N, T, 3, H, W) or (N, T, H, W, 3)"
        )
    if x.dtype not in READABLE:
        raise UserError(f"{path} holds values of type {x.dtype}; give uint8 or float32")
    if len(x) == 0:
        raise UserError(f"{path} holds no sequences")
    return x.detach() if x.shape[2] == 3 else x.detach().movedim(-1, 2)


def intensity_units(x: Tensor, path: Path) -> tuple[float, int]:
    """How intensities are stored, found by reading all of them.

    Args:
        x: (N, …) uint8, or float in [0, 1] or [0, 255].
        path: for messages.

    Returns:
        The number that stands for 1, and by how much it is divided: 256 where all values are k/256, as in the
        original sets (whose largest is therefore 0.996), else 255.

    Raises:
        UserError: NaN, negative or larger values.
    """
    if x.dtype == torch.uint8:
        return 255.0, 255
    largest, in_256ths = 0.0, True
    for start in range(0, len(x), CHUNK):
        part = x[start : start + CHUNK].float()
        flat = part.flatten(1)
        if not flat.isfinite().all():
            row = start + int((~flat.isfinite().all(1)).nonzero()[0])
            raise UserError(f"{path}: sequence {row} has NaN or infinite values")
        if flat.min() < 0 or flat.max() > 255:
            raise UserError(
                f"{path} has values from {float(flat.min()):.3g} to {float(flat.max()):.3g}; they must "
                "lie in [0, 1] or [0, 255]"
            )
        largest = max(largest, float(flat.max()))
        in_256ths = in_256ths and bool((flat * 256 == (flat * 256).round()).all())
    return (1.0, 256 if in_256ths and largest < 1 else 255) if largest <= 1 else (255.0, 255)


def as_uint8(x: Tensor, one: float, divisor: float, out: np.ndarray) -> None:
    """Write x (N, …), in which ``one`` stands for 1, into ``out`` as whole ``divisor``-ths."""
    for start in range(0, len(x), CHUNK):
        part = x[start : start + CHUNK]
        if part.dtype != torch.uint8 or divisor != one:
            part = (part.double() * (divisor / one)).round().to(torch.uint8)
        out[start : start + CHUNK] = part.numpy()
