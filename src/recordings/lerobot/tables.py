"""Parquet files: the columns and rows that are wanted, and no others."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from src.utils.errors import UserError

# Pictures that are handed out at once; of the file one row group is in memory, as long as its writer made them.
PICTURES_AT_ONCE = 16


def needed(package: str, module: str) -> Any:
    """``module`` of ``package``, imported.

    Raises:
        UserError: the package is not installed; the sentence says how to install it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != package:
            raise
        raise UserError(
            f"LeRobot datasets are read with {package}, which needs the extra 'lerobot': "
            "pip install 'latent-lab[lerobot]'"
        ) from error


def existing(file: Path) -> Path:
    """``file``.

    Raises:
        UserError: it is not there, or only Git's pointer to it is.
    """
    if not file.is_file():
        raise UserError(f"{file} is not there, though the dataset's metadata names it")
    with open(file, "rb") as opened:
        if opened.read(20) == b"version https://git-":
            raise UserError(
                f"{file} is only Git's pointer to it; fetch the files by `git lfs pull`"
            )
    return file


def read_rows(file: Path, wanted: Callable[[str], bool]) -> list[dict[str, Any]]:
    """All rows of the columns whose name is ``wanted``, as plain Python values."""
    with _opened(file) as table:
        names = [name for name in table.schema.names if wanted(name)]
        rows: list[dict[str, Any]] = table.to_table(columns=names).to_pylist()
        return rows


def read_columns(
    file: Path, wanted: Sequence[str], episode: int | None = None
) -> dict[str, np.ndarray]:
    """Those ``wanted`` columns that are there, (n,) or (n, entries) each.

    Args:
        file: the parquet file.
        wanted: names of columns of numbers, or of vectors of equal length.
        episode: only its rows; ``None``: all.

    Raises:
        UserError: the file is missing or damaged, or a column is ragged.
    """
    with _opened(file) as table:
        names = [name for name in wanted if name in table.schema.names]
        found = table.to_table(columns=names, filter=_of(episode))
    columns = {}
    for name in names:
        try:
            columns[name] = _array(found.column(name).to_numpy())
        except (AttributeError, ValueError) as error:  # None among lists; lists of two lengths
            raise UserError(f"{file}: column '{name}' is no table of numbers: {error}") from error
    return columns


def read_cells(file: Path, column: str, episode: int | None) -> Iterator[Any]:
    """The cells of one column in order, a few at a time."""
    with _opened(file) as table:
        if column not in table.schema.names:
            raise UserError(f"{file} has no column '{column}'")
        for batch in table.to_batches(
            columns=[column],
            filter=_of(episode),
            batch_size=PICTURES_AT_ONCE,
            batch_readahead=0,
            fragment_readahead=0,
        ):
            yield from batch.column(column).to_pylist()


def _of(episode: int | None) -> Any:
    """The condition for an episode's rows; row groups whose statistics rule them out are not decoded."""
    if episode is None:
        return None
    return needed("pyarrow", "pyarrow.dataset").field("episode_index") == episode


def _array(cells: np.ndarray) -> np.ndarray:
    """(n,) numbers, or lists of one length and depth → (n,) or (n, entries)."""
    if cells.dtype != object or not len(cells):
        return cells
    return np.stack([np.ravel(_array(cell)) for cell in cells])


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A parquet file; what is wrong with it becomes a sentence that names it."""
    pa, dataset = needed("pyarrow", "pyarrow"), needed("pyarrow", "pyarrow.dataset")
    try:
        yield dataset.dataset(existing(file), format="parquet")
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{file} cannot be read as parquet: {str(error).splitlines()[0]}"
        ) from error
