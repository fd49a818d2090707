"""The next batch is drawn while this one trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from torch.utils.data import DataLoader, Dataset

T = TypeVar("T")


class Loader(Generic[T]):
    """Calls ``draw(step)`` ahead of time: in one helper thread, or in `workers` processes, which are forked."""

    def __init__(self, draw: Callable[[int], T], workers: int = 0) -> None:
        self._draw, self._workers = draw, workers
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="loader") if not workers else None

    def __enter__(self) -> Loader[T]:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def steps(self, first: int, stop: int) -> Iterator[tuple[int, T]]:
        """(step, what was drawn for it) for the steps from `first` up to `stop`."""
        if self._pool is None:
            steps = _Steps(self._draw, first, stop)
            # Forked ones need no copy of the cases, and `draw` may be any function.
            loader = DataLoader(steps, batch_size=None, num_workers=self._workers, multiprocessing_context="fork")
            yield from zip(range(first, stop), loader, strict=True)
            return
        coming = self._pool.submit(self._draw, first)
        for step in range(first, stop):
            ready = coming.result()
            if step + 1 < stop:
                coming = self._pool.submit(self._draw, step + 1)
            yield step, ready


class _Steps(Dataset[T]):
    def __init__(self, draw: Callable[[int], T], first: int, stop: int) -> None:
        self._draw, self._first, self._count = draw, first, stop - first

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> T:
        return self._draw(self._first + index)
