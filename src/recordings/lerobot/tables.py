"""Parquet files: the columns and rows that are wanted, and no others, in little memory."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.utils.errors import UserError

EPISODE = "episode_index"
# Rows that are in memory at once while pictures are read.
PICTURES_AT_ONCE = 16


def needs_extra(package: str) -> UserError:
    """What is said where ``package`` is not installed."""
    return UserError(
        f"LeRobot datasets are read with {package}, which needs the extra 'lerobot': "
        "pip install 'latent-lab[lerobot]'"
    )


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
    with _Opened(file) as table:
        names = [name for name in table.schema_arrow.names if wanted(name)]
        rows: list[dict[str, Any]] = table.read(columns=names).select(names).to_pylist()
        return rows


def read_columns(
    file: Path, wanted: Sequence[str], episode: int | None = None
) -> dict[str, np.ndarray]:
    """Those ``wanted`` columns that are there, (n,) or (n, entries) each.

    Args:
        file: the parquet file.
        wanted: names of columns of numbers, or of vectors of equal length.
        episode: only its rows, from the row groups that hold any; ``None``: all rows.

    Raises:
        UserError: the file is missing or damaged, or a column is ragged.
    """
    with _Opened(file) as table:
        names = [name for name in wanted if name in table.schema_arrow.names]
        parts = list(_batches(table, names, episode, rows=65536))
    columns = {}
    for name in names:
        try:
            pieces = [_array(part.column(name)) for part in parts]
            columns[name] = np.concatenate(pieces) if pieces else np.zeros(0)
        except (ValueError, NotImplementedError) as error:
            raise UserError(f"{file}: column '{name}' is no table of numbers: {error}") from error
    return columns


def read_cells(file: Path, column: str, episode: int | None) -> Iterator[Any]:
    """The cells of one column in order, a few rows in memory at a time."""
    with _Opened(file) as table:
        if column not in table.schema_arrow.names:
            raise UserError(f"{file} has no column '{column}'")
        for batch in _batches(table, [column], episode, rows=PICTURES_AT_ONCE):
            yield from batch.column(column).to_pylist()


def _batches(table: Any, names: list[str], episode: int | None, rows: int) -> Iterator[Any]:
    """Record batches of ``names`` with the rows of ``episode``."""
    import pyarrow.compute as compute

    if episode is None:
        yield from table.iter_batches(rows, columns=names)
        return
    groups = _groups(table, episode)
    # An empty list of groups would be taken for all of them by older releases.
    for batch in (
        table.iter_batches(rows, row_groups=groups, columns=[*names, EPISODE]) if groups else ()
    ):
        kept = batch.filter(compute.equal(batch.column(EPISODE), episode))
        if kept.num_rows:
            yield kept


def _groups(table: Any, episode: int) -> list[int]:
    """The row groups whose statistics do not rule out that they hold ``episode``."""
    meta = table.metadata
    paths = [meta.schema.column(number).path for number in range(meta.num_columns)]
    if EPISODE not in paths:
        raise UserError(
            f"the data files hold no column '{EPISODE}', by which episodes are told apart"
        )
    place = paths.index(EPISODE)
    kept = []
    for group in range(meta.num_row_groups):
        told = meta.row_group(group).column(place).statistics
        if told is None or not told.has_min_max or told.min <= episode <= told.max:
            kept.append(group)
    return kept


def _array(column: Any) -> np.ndarray:
    """One batch's column → (n,), or (n, entries) of nested lists."""
    import pyarrow as pa

    rows = len(column)
    nested = False
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    while hasattr(column.type, "value_field"):  # lists of every kind
        column, nested = column.flatten(), True
    values: np.ndarray = column.to_numpy(zero_copy_only=False)
    return values.reshape(rows, -1) if nested else values


class _Opened:
    """A parquet file, open and mapped; what is wrong with it becomes a sentence that names it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.table: Any = None

    def __enter__(self) -> Any:
        try:
            import pyarrow as pa
            import pyarrow.parquet as parquet
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] != "pyarrow":
                raise
            raise needs_extra("pyarrow") from error
        self.errors = (pa.ArrowException, OSError)
        try:
            self.table = parquet.ParquetFile(existing(self.file), memory_map=True)
        except self.errors as error:
            raise self._sentence(error) from error
        return self.table

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.table.close()
        if isinstance(error, self.errors) and not isinstance(error, UserError):
            raise self._sentence(error) from error

    def _sentence(self, error: BaseException) -> UserError:
        return UserError(f"{self.file} cannot be read as parquet: {str(error).splitlines()[0]}")
