"""Pictures as PNG files (PNG specification, 2nd edition, filter 0), with nothing but the standard library."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_RGB, _PALETTE = 2, 3


def png(picture: NDArray[np.uint8]) -> bytes:
    """(H, W, 3) uint8 sRGB as the bytes of a PNG file."""
    return _file(picture.reshape(len(picture), -1), picture.shape[1], _RGB)


def png_of_palette(picture: NDArray[np.uint8], colours: NDArray[np.uint8]) -> bytes:
    """(H, W) uint8 indices into `colours` (n, 3) uint8 sRGB as the bytes of a PNG file, a third as large."""
    return _file(picture, picture.shape[1], _PALETTE, _chunk(b"PLTE", np.ascontiguousarray(colours).tobytes()))


def _file(samples: NDArray[np.uint8], width: int, kind: int, palette: bytes = b"") -> bytes:
    rows = np.zeros((len(samples), 1 + samples.shape[1]), np.uint8)
    rows[:, 1:] = samples
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(samples), 8, kind, 0, 0, 0))
    content = _chunk(b"IDAT", zlib.compress(rows.tobytes(), 6))
    return b"\x89PNG\r\n\x1a\n" + header + palette + content + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
