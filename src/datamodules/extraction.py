"""Taking the closed loops out of a set of sequences, in the files of the original extraction."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.progress import track
from rich.table import Table
from torch import Tensor

from src.datamodules.sprite_files import CHUNK, intensity_units, open_sprites
from src.utils.cyclicity import CyclicityReport, closes, first_last_mse
from src.utils.errors import UserError


@dataclass(frozen=True)
class Extraction:
    """What came out of one file.

    Attributes:
        everything: of all sequences; kept: of those that were taken.
        files: that were written.
    """

    everything: CyclicityReport
    kept: CyclicityReport
    files: tuple[Path, ...]


def extract_cyclic(
    source: Path, split: str, folder: Path, threshold: float = 1e-4, max_examples: int = 15
) -> Extraction:
    """Write the sequences whose first–last MSE is below ``threshold``.

    ``Sprites_<split>_cyclic.pt`` is a float32 tensor (M, T, 3, H, W) in [0, 1], ``Sprites_<split>_metadata.pt`` tells
    where its sequences came from, and ``Sprites_<split>_examples.png`` shows some of them.

    Args:
        source: see ``open_sprites``; values above 1 are taken as 255ths.
        split: for the names of the files.
        folder: where to, made if needed.
        threshold: in intensity²; 0 takes sequences whose first and last frames are equal.
        max_examples: rows of the picture; 0 for none.

    Raises:
        UserError: the file cannot be used, or holds no closed loop.
    """
    if threshold < 0 or max_examples < 0:
        raise UserError(
            f"threshold={threshold:g} and max_examples={max_examples} must be at least 0"
        )
    x = open_sprites(source)
    one, _ = intensity_units(x, source)
    mse = first_last_mse(x.numpy(), one)
    rows, everything = np.flatnonzero(closes(mse, threshold)), CyclicityReport.of(mse, threshold)
    if len(rows) == 0:
        raise UserError(
            f"{source}: none of {len(x)} sequences has a first–last MSE below threshold={threshold:g}; "
            f"the smallest is {everything.min:.3g}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    kept = _gather(x, rows, one, f"{split}: {len(rows)} loops")
    names = ["cyclic.pt", "metadata.pt", *(["examples.png"] if max_examples else [])]
    files = tuple(folder / f"Sprites_{split}_{name}" for name in names)
    with _replacing(files[0]) as temporary:
        torch.save(kept, temporary)
    with _replacing(files[1]) as temporary:
        torch.save(_metadata(x, rows, mse, threshold), temporary)
    if max_examples:
        figure = examples(kept[:max_examples], rows[:max_examples], mse[rows[:max_examples]])
        with _replacing(files[2]) as temporary:
            figure.savefig(temporary, dpi=110, format="png")
    return Extraction(everything, CyclicityReport.of(mse[rows], threshold), files)


def _gather(x: Tensor, rows: np.ndarray, one: float, told: str) -> Tensor:
    kept = torch.empty((len(rows), *x.shape[1:]))
    for start in track(range(0, len(rows), CHUNK), told, transient=True):
        part = torch.from_numpy(rows[start : start + CHUNK])
        kept[start : start + CHUNK] = x[part].float() / one
    return kept


def _metadata(x: Tensor, rows: np.ndarray, mse: np.ndarray, threshold: float) -> dict[str, Any]:
    return {
        "original_indices": torch.from_numpy(rows),
        "mse_values": torch.from_numpy(mse[rows]),
        "similarity_threshold": float(threshold),
        "original_data_shape": list(x.shape),
        "cyclic_data_shape": [len(rows), *x.shape[1:]],
        "extraction_stats": {
            "total_original": len(x),
            "total_cyclic": len(rows),
            "cyclic_percentage": 100 * len(rows) / len(x),
        },
    }


def examples(x: Tensor, rows: np.ndarray, mse: np.ndarray) -> Figure:
    """First, middle and last frame and the difference of the outer two, one row a sequence.

    Args:
        x: (N, T, 3, H, W) in [0, 1].
        rows: (N,) where the sequences came from; mse: (N,) their first–last MSE.
    """
    figure = Figure(figsize=(5.6, 1.25 * len(x) + 0.3), layout="constrained")
    axes = figure.subplots(len(x), 4, squeeze=False)
    difference = (x[:, 0] - x[:, -1]).abs()
    shown = {"first": x[:, 0], "middle": x[:, x.shape[1] // 2], "last": x[:, -1]}
    for column, (title, pictures) in enumerate((shown | {"|first − last|": difference}).items()):
        axes[0, column].set_title(title, fontsize=9)
        for ax, picture in zip(axes[:, column], pictures, strict=True):
            ax.imshow(picture.movedim(0, -1).numpy(), vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
    for row, (number, value, unlike) in enumerate(zip(rows, mse, difference, strict=True)):
        told = f"sequence {number}\nMSE {value:.2g}\nlargest {float(unlike.max()):.2g}"
        axes[row, 0].set_ylabel(told, rotation=0, ha="right", va="center", fontsize=7)
    return figure


def comparison(found: Mapping[str, Extraction]) -> Table:
    """The splits beside each other."""
    table = Table("", *found, title="Closed loops (MSE in intensity²)", title_justify="left")
    rows = {
        "sequences": lambda e: f"{e.everything.count}",
        "closed loops": lambda e: f"{e.everything.cyclic}",
        "share": lambda e: f"{e.everything.rate:.1%}",
        "first–last MSE of all": lambda e: f"{e.everything.mean:.2e} ± {e.everything.std:.2e}",
        "largest": lambda e: f"{e.everything.max:.2e}",
        "first–last MSE of the loops": lambda e: f"{e.kept.mean:.2e} ± {e.kept.std:.2e}",
        "largest of the loops": lambda e: f"{e.kept.max:.2e}",
    }
    for name, cell in rows.items():
        table.add_row(name, *map(cell, found.values()))
    return table


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file to write in the place of ``path``, which is replaced at once when all of it is there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
