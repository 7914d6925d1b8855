"""The user's own pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.datamodules.base import ArrayDataModule, Split, seeded_split
from src.utils.errors import UserError
from src.utils.pictures import SPLITS, as_chw, existing, picture_files, read_arrays, read_picture


class ImagesDataModule(ArrayDataModule):
    """A folder of pictures, a .npz or a .npy.

    A folder with ``train``, ``val`` and ``test`` in it, or a .npz with arrays of those names, is the user's own
    split. Otherwise ``x`` (and ``label``) of the file, or all pictures below the folder, are split by
    ``split_seed``; the name of a picture's sub-folder is its label where there are sub-folders.

    Args:
        path: where the pictures are.
        size: H or [H, W] to scale to; without it they must all be of one size.
        split: fractions of train, val and test, where the user has no split.
        split_seed: of that split.
        kwargs: see ``ArrayDataModule``.
    """

    def __init__(
        self,
        path: str | None,
        size: Sequence[int] | int | None = None,
        split: Sequence[float] = (0.8, 0.1, 0.1),
        split_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path, self.size, self.split, self.split_seed = path, size, split, split_seed

    def load(self) -> dict[str, Split]:
        source = existing(self.path)
        return self._load_folder(source) if source.is_dir() else self._load_arrays(source)

    def _load_folder(self, source: Path) -> dict[str, Split]:
        own = {split: source / split for split in SPLITS if (source / split).is_dir()}
        if not own:
            return self._divide(self._read(source, picture_files(source)))
        if missing := [split for split in SPLITS if split not in own]:
            raise UserError(
                f"{source} has a folder '{next(iter(own))}' but none called '{missing[0]}'; give "
                f"all of {', '.join(SPLITS)} or none"
            )
        return {split: self._read(folder, picture_files(folder)) for split, folder in own.items()}

    def _read(self, root: Path, files: list[Path]) -> Split:
        if not files:
            raise UserError(f"{root} holds no pictures")
        pictures = np.empty((len(files), *self.shape), np.uint8)
        for row, file in enumerate(files):
            picture = read_picture(file, self.size)
            if picture.shape != self.shape:
                scaling = "give data.size=[H,W] to scale all to one size"
                cure = (
                    scaling
                    if picture.shape[1:] != self.shape[1:]
                    else "convert all to grey or all to colour"
                )
                raise UserError(
                    f"{file} is {_size(picture.shape)} where {_size(self.shape)} is expected; {cure}"
                )
            pictures[row] = picture
        folders = [file.relative_to(root).parts[0] if file.parent != root else "" for file in files]
        names = sorted(set(folders))
        labels = (
            {}
            if len(names) < 2
            else {"label": np.array([names.index(name) for name in folders], np.int64)}
        )
        return {"x": pictures} | labels

    def _load_arrays(self, source: Path) -> dict[str, Split]:
        if self.size:
            raise UserError(
                f"data.size scales picture files only; {source} already holds arrays, so leave it out"
            )
        arrays = read_arrays(source)
        if "x" in arrays:
            return self._divide(
                _with_label(as_chw(arrays["x"], source), arrays.get("label"), source)
            )
        if missing := [split for split in SPLITS if split not in arrays]:
            raise UserError(
                f"{source} has no array '{missing[0]}'; give x, or all of {', '.join(SPLITS)}"
            )
        return {
            split: _with_label(as_chw(arrays[split], source), arrays.get(f"label_{split}"), source)
            for split in SPLITS
        }

    def _divide(self, everything: Split) -> dict[str, Split]:
        rows = seeded_split(len(everything["x"]), self.split, self.split_seed)
        return {
            split: {name: array[part] for name, array in everything.items()}
            for split, part in rows.items()
        }


def _with_label(x: np.ndarray, label: np.ndarray | None, source: Path) -> Split:
    if label is not None and len(label) != len(x):
        raise UserError(f"{source} has {len(x)} pictures but {len(label)} labels")
    if label is not None and not np.issubdtype(label.dtype, np.integer):
        raise UserError(f"{source} has labels of type {label.dtype}; give whole numbers")
    return {"x": x} | ({} if label is None else {"label": np.asarray(label, np.int64)})


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}×{shape[2]} with {shape[0]} channel{'s' if shape[0] > 1 else ''}"
