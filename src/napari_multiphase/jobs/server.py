"""The loop of a child process: read requests, run one job at a time, answer. Used by worker and parser alike."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from napari_multiphase.errors import Cancelled, UserError
from napari_multiphase.events import Cancel, Event, OnEvent
from napari_multiphase.jobs.codec import decode, encode
from napari_multiphase.jobs.leases import Store
from napari_multiphase.jobs.protocol import HEARTBEAT_S, URGENT, JobError, Message, ProtocolError, Writer, read_messages

_LAST_WORDS_S = 2.0


@dataclass(frozen=True)
class Context:
    """What a job function gets besides its parameters.

    Attributes
    ----------
    on_event : takes the job's progress.
    cancel : to be checked between two steps.
    scratch : folder for large intermediate arrays; what is mapped from here and returned is not copied.
    """

    on_event: OnEvent
    cancel: Cancel
    scratch: Path


Task = Callable[..., Any]
"""``task(context, **parameters) -> result``; parameters and result are objects that `codec` knows."""


@dataclass(order=True)
class _Request:
    rank: tuple[int, int]
    message: Message = field(compare=False)
    cancel: Cancel = field(compare=False, default_factory=Cancel)
    settled: bool = field(compare=False, default=False)  # begun, or cancelled before it began


class Server:
    """Runs the tasks of `tasks` for the messages on `source`, answers on `sink`; arrays lie under `folder`."""

    def __init__(self, tasks: Mapping[str, Task], source: BinaryIO, sink: BinaryIO, folder: Path) -> None:
        self._tasks, self._folder = tasks, folder
        self._source, self._writer = source, Writer(sink, folder)
        self._queue: queue.PriorityQueue[_Request] = queue.PriorityQueue()
        self._waiting: dict[str, _Request] = {}
        self._count = 0
        self._settling = threading.Lock()
        self._ended = threading.Event()

    def run(self) -> None:
        """Serve until the end of input or a shutdown message."""
        for work in (self._read, self._beat):
            threading.Thread(target=work, daemon=True, name=work.__name__).start()
        self._writer.send(Message("ready", body={"pid": os.getpid()}))
        while not self._ended.is_set():
            request = self._next()
            if request is not None:
                self._run(request)
                gc.collect()

    def _next(self, urgent: bool = False) -> _Request | None:
        try:
            request = self._queue.get_nowait() if urgent else self._queue.get()
        except queue.Empty:
            return None
        if urgent and -request.rank[0] < URGENT:
            self._queue.put(request)
            return None
        return request

    def _run(self, request: _Request) -> None:
        message = request.message
        if message.kind == "shutdown" or not self._settle(request):
            return
        try:
            self._writer.send(message.answer("started"))
            folder = self._folder / message.job
            store = Store(self._folder, folder / "out", message.job)
            store.folder.mkdir(parents=True, exist_ok=True)
            context = Context(lambda event: self._tell(message, event), request.cancel, store.folder)
            task = self._tasks.get(message.task)
            if task is None:
                raise UserError(f"there is no job '{message.task}': this process runs {', '.join(self._tasks)}")
            result = task(context, **decode(message.body or {}, store))
            answer = message.answer("result", progress=1.0, body=encode(result, store))
        except Cancelled:
            answer = message.answer("cancelled")
        except BaseException as error:
            answer = message.answer("failed", error=describe(error))
        self._waiting.pop(message.job, None)
        self._writer.send(answer)

    def _settle(self, request: _Request) -> bool:
        """Whether the caller is the first to decide what becomes of a waiting request."""
        with self._settling:
            first, request.settled = not request.settled, True
            return first

    def _tell(self, message: Message, event: Event) -> None:
        # How a job ends is said by its answer alone.
        if event.kind in ("done", "failed"):
            event = replace(event, kind="progress")
        store = Store(self._folder, self._folder / message.job / "out", message.job)
        body = {**asdict(replace(event, data={})), "data": encode(dict(event.data), store)}
        self._writer.send(message.answer("event", progress=event.fraction, body=body))
        if message.priority < URGENT:
            while (urgent := self._next(urgent=True)) is not None:
                self._run(urgent)

    def _read(self) -> None:
        try:
            for message in read_messages(self._source, self._folder):
                self._take(message)
                if message.kind == "shutdown":
                    break
        except ProtocolError:
            traceback.print_exc()
        self._end()

    def _take(self, message: Message) -> None:
        if message.kind == "submit":
            self._count += 1
            request = _Request((-message.priority, self._count), message)
            self._waiting[message.job] = request
            self._queue.put(request)
        elif message.kind == "cancel" and (waiting := self._waiting.get(message.job)) is not None:
            waiting.cancel.set()
            if self._settle(waiting):
                self._waiting.pop(message.job, None)
                self._writer.send(waiting.message.answer("cancelled"))

    def _end(self) -> None:
        self._ended.set()
        for request in list(self._waiting.values()):
            request.cancel.set()
        self._queue.put(_Request((-(1 << 30), 0), Message("shutdown")))
        time.sleep(_LAST_WORDS_S)  # then a job that does not look at its token is left no choice
        os._exit(0)

    def _beat(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while not self._ended.wait(HEARTBEAT_S):
                self._writer.send(Message("heartbeat"))


def describe(error: BaseException) -> JobError:
    """Class, sentence and traceback of what a job raised."""
    log = "".join(traceback.format_exception(error))
    print(log, file=sys.stderr, flush=True)
    if isinstance(error, UserError):
        return JobError("UserError", str(error), log)
    kind = type(error).__name__
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError":
        sentence = (
            "there was not enough memory for this; nothing was changed; close other programs or take smaller tiles"
        )
        return JobError("MemoryError", sentence, log)
    first = str(error).strip().splitlines()
    return JobError(
        kind, f"the job stopped on a defect of this program ({kind}: {first[0] if first else 'no text'})", log
    )


def lacking(error: BaseException) -> str:
    """What this computer ran out of, and what to do; empty for an error of another kind."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "there was not enough memory: close other programs, or take smaller tiles"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full: free some space, or set MULTIPHASE_SCRATCH to a folder on a larger disk"
    return ""


def private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Requests and answers on copies of standard input and output; what libraries print goes to standard error."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return source, sink


def serve(tasks: Mapping[str, Task], folder: Path) -> None:
    """Be a child process: take the pipes, leave Ctrl+C to the parent, serve."""
    source, sink = private_pipes()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(BrokenPipeError):
        Server(tasks, source, sink, folder).run()
    os._exit(0)
