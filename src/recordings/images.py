"""Frames as files: lossless by default; (H, W, 3) uint8 on this side."""

import io
import struct
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image, UnidentifiedImageError

from src.utils.errors import UserError, nearest

ImageFormat = Literal["png", "webp", "jpeg"]
ENDINGS = {"png": "png", "webp": "webp", "jpeg": "jpg"}
JPEG_QUALITY = 85  # what the format's first users wrote


def ending(image_format: str) -> str:
    """The file ending of a format.

    Raises:
        UserError: there is no such format.
    """
    if image_format not in ENDINGS:
        choices = nearest(image_format, get_args(ImageFormat))
        raise UserError(f"image_format={image_format} is not written{choices}")
    return ENDINGS[image_format]


def encode(frame: np.ndarray, image_format: str) -> bytes:
    """The file of an (H, W, 3) uint8 frame; PNG and WebP give back its very bits, JPEG does not."""
    if image_format == "png":
        return encode_png(frame)
    buffer = io.BytesIO()
    image = Image.fromarray(frame)
    if image_format == "webp":
        image.save(buffer, "WEBP", lossless=True, quality=0, method=0)
    else:
        image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def encode_png(frame: np.ndarray) -> bytes:
    """An (H, W, 3) uint8 frame as PNG, three times as fast as Pillow writes one.

    Collecting Atari frames is bound by this function. Pillow tries five filters on every row, which pays for
    photographs; here rows are left as they are (filter 0) and compressed with zlib's quickest level.
    """
    height, width = frame.shape[:2]
    rows = np.zeros((height, 1 + 3 * width), np.uint8)
    rows[:, 1:] = frame.reshape(height, 3 * width)
    return _head(height, width) + _chunk(b"IDAT", zlib.compress(rows.data, 1)) + _END


@lru_cache
def _head(height: int, width: int) -> bytes:
    eight_bit_rgb = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", eight_bit_rgb)


def _chunk(kind: bytes, content: bytes) -> bytes:
    crc = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


_END = _chunk(b"IEND", b"")


def decode(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """The picture in ``path`` as (H, W, 3) uint8, averaged over boxes to ``size`` = (H, W) where it is given.

    Raises:
        UserError: it cannot be read as a picture.
    """
    with _opened(path) as image:
        picture = image.convert("RGB")
        if size and picture.size != (size[1], size[0]):
            picture = picture.resize((size[1], size[0]), Image.Resampling.BOX)
    return np.asarray(picture)


def picture_size(path: Path) -> tuple[int, int]:
    """(H, W) of the picture in ``path``, which is not decoded for it.

    Raises:
        UserError: it cannot be read as a picture.
    """
    with _opened(path) as image:
        return image.size[1], image.size[0]


class _opened:
    """``Image.open`` whose errors name the file, while opening and while decoding."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Image.Image:
        try:
            self.image = Image.open(self.path)
        except _ERRORS as error:
            raise self._told(error) from error
        return self.image

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        self.image.close()
        if isinstance(error, _ERRORS):
            raise self._told(error) from error

    def _told(self, error: BaseException) -> UserError:
        return UserError(
            f"{self.path} cannot be read as a picture: {error}; without that file the frame counts as missing"
        )


_ERRORS = (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError)
