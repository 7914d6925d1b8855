"""Reading NPZ files a piece at a time; nothing in them is unpickled."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from src.utils.errors import UserError
from src.utils.pictures import NO_ARRAYS


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what a missing or damaged file raises into one sentence that names it."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except NO_ARRAYS as error:
        reason = str(error).strip().split("\n")[0] or "it ends too early"
        raise UserError(f"{path} cannot be read as arrays: {reason}") from error


class Npz:
    """The arrays of an NPZ file; for a ``with`` statement.

    Raises:
        UserError: it is missing or damaged; every method may find that out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with readable(path):
            self._zip = zipfile.ZipFile(path)
        self.names = [n.removesuffix(".npy") for n in self._zip.namelist() if n.endswith(".npy")]

    def __enter__(self) -> "Npz":
        return self

    def __exit__(self, *error: object) -> None:
        self._zip.close()

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and type of an array."""
        with readable(self.path), self._open(name) as stream:
            shape, _, dtype = _header(stream)
            held = self._zip.getinfo(f"{name}.npy").file_size
            if not dtype.hasobject and held < prod(shape) * dtype.itemsize:
                raise EOFError(f"{name} ends too early for {list(shape)}")
            return shape, dtype

    def whole(self, name: str) -> np.ndarray:
        """An array at once."""
        with readable(self.path), self._open(name) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)

    def pieces(self, name: str, rows: int) -> Iterator[np.ndarray]:
        """An array (N, …) as (≤ rows, …), one after the other."""
        with readable(self.path), self._open(name) as stream:
            shape, fortran, dtype = _header(stream)
            if fortran:  # whose rows do not follow each other
                whole = self.whole(name)
                yield from (whole[first : first + rows] for first in range(0, len(whole), rows))
                return
            for first in range(0, shape[0], rows):
                piece = (min(rows, shape[0] - first), *shape[1:])
                read = stream.read(prod(piece) * dtype.itemsize)
                if len(read) < prod(piece) * dtype.itemsize:
                    raise EOFError(f"{name} ends too early for {list(shape)}")
                yield np.frombuffer(read, dtype).reshape(piece)
            stream.read(1)  # at its end an array's check sum is compared

    def _open(self, name: str) -> IO[bytes]:
        return self._zip.open(f"{name}.npy")


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"version {version} of the format is not known")
