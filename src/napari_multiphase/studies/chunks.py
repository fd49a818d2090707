"""A volume as 64-cubed chunks: which there are, how one is packed, how a change in one is noticed."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

SIDE = 64
MOST_PACKED_BYTES = SIDE**3 + 4096
"""More than a packed chunk can take, whatever it holds."""
HASH_BYTES = 16

Shape = tuple[int, int, int]
Box = tuple[slice, slice, slice]


def counts(shape: Shape) -> Shape:
    """Chunks along each axis."""
    d, h, w = (math.ceil(n / SIDE) for n in shape)
    return d, h, w


def box_of(number: int, shape: Shape) -> Box:
    """The voxels of a chunk; chunks are numbered in C order, those at the far borders are smaller."""
    _, rows, columns = counts(shape)
    index = (number // (rows * columns), number // columns % rows, number % columns)
    z, y, x = (slice(i * SIDE, min((i + 1) * SIDE, n)) for i, n in zip(index, shape, strict=True))
    return z, y, x


def touched(boxes: Iterable[Box], shape: Shape) -> list[int]:
    """The numbers of the chunks that `boxes` (clipped to the volume) reach into, in order."""
    _, rows, columns = counts(shape)
    found: set[int] = set()
    for box in boxes:
        spans = [part.indices(n)[:2] for part, n in zip(box, shape, strict=True)]
        if any(start >= stop for start, stop in spans):
            continue
        spread = [range(start // SIDE, (stop - 1) // SIDE + 1) for start, stop in spans]
        found.update((z * rows + y) * columns + x for z, y, x in itertools.product(*spread))
    return sorted(found)


def content_hash(number: int, content: NDArray[np.uint8]) -> bytes:
    """What tells one content of a chunk from every other, and from that of another chunk."""
    return hashlib.blake2b(np.ascontiguousarray(content).data, digest_size=HASH_BYTES, key=b"%d" % number).digest()


def pack(content: NDArray[np.uint8]) -> bytes:
    """Compressed bytes of uint8 values."""
    return bytes(isal_zlib.compress(np.ascontiguousarray(content).data, 1))


def unpack(packed: bytes, size: int) -> NDArray[np.uint8]:
    """The `size` uint8 values of `pack`, flat; ValueError where it holds more, fewer or something else."""
    stream = isal_zlib.decompressobj()
    try:
        content = stream.decompress(packed, max_length=size + 1)
    except isal_zlib.error as error:  # type: ignore[misc]
        raise ValueError(str(error)) from error
    if len(content) != size or not stream.eof:
        raise ValueError(f"{len(content)} values instead of {size}")
    return np.frombuffer(content, np.uint8)
