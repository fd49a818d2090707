"""Where finished slices go: arrays in memory, or files that grow slice by slice and are mapped when complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

TWO_BEST = ("first", "second", "p_first", "p_second", "confidence")
"""What is kept of a network's result: the two best classes, their probabilities, and the confidence."""


class Results:
    """(D, H, W) arrays of `dtype` filled in ascending z: one in memory for each of `count`, or the `files`."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        count: int,
        files: list[IO[bytes]],
        paths: list[Path],
        dtype: type[np.generic],
    ) -> None:
        self._files, self._paths = files, paths
        self._arrays = [] if files else [np.empty(shape, dtype) for _ in range(count)]
        self._next = 0

    def append(self, *arrays: NDArray[Any]) -> None:
        """The next slices (n, H, W) of every array."""
        rows = slice(self._next, self._next + len(arrays[0]))
        for index, array in enumerate(arrays):
            if self._files:
                # Written, not mapped: pages of a mapping would count as memory of this process until evicted.
                self._files[index].write(np.ascontiguousarray(array).data)
            else:
                self._arrays[index][rows] = array
        self._next = rows.stop

    def complete(self) -> list[NDArray[Any]]:
        """The arrays, read-only maps where they are files."""
        for file in self._files:
            file.close()
        return self._arrays or [np.load(path, mmap_mode="r") for path in self._paths]


@contextmanager
def open_results(
    shape: tuple[int, int, int],
    scratch: Path | None,
    name: str,
    arrays: tuple[str, ...] = TWO_BEST,
    dtype: type[np.generic] = np.uint8,
) -> Iterator[Results]:
    """Room for one result: ``scratch/<name>_<array>.npy``, or memory; an error leaves no file behind."""
    paths = [scratch / f"{name}_{array}.npy" for array in arrays] if scratch else []
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(_npy(path, shape, dtype)) for path in paths]
            yield Results(shape, len(arrays), files, paths, dtype)
    except BaseException:
        for path in paths:
            path.unlink(missing_ok=True)
        raise


def _npy(path: Path, shape: tuple[int, int, int], dtype: type[np.generic]) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # a new file: an older result that is still mapped keeps its own
    file = path.open("wb")
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file
