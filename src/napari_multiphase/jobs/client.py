"""The asking side, for the window's process: standard library and NumPy only, never blocking the caller.

``submit`` returns at once; a sender thread writes arrays and requests, a reader thread per child process runs the
callbacks. One warm worker computes; each reading job gets a parser child of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.events import Event, OnEvent, ignore
from napari_multiphase.jobs.child import Child
from napari_multiphase.jobs.codec import decode, encode, leases_in
from napari_multiphase.jobs.leases import Session, Store
from napari_multiphase.jobs.protocol import JobError, Message

Where = Literal["worker", "parser"]
_REST_S = 2.0
"""From the end of a reading job to the start of the next parser, which takes a second of a core: what the job brought
is drawn meanwhile."""
_CANCELLED = JobError("Cancelled", "cancelled")


class Handle:
    """One job that was asked for. Safe across threads."""

    def __init__(self, client: Client, message: Message, where: Where, on_event: OnEvent) -> None:
        self._client, self._message, self._where, self._on_event = client, message, where, on_event
        self._ended = threading.Event()
        self._settled = False  # how it ends is decided; `done` follows once its files are in order
        self._payload: Any = None
        self._result: Any = None
        self._decoded = False
        self._error: JobError | None = None
        self._kill: threading.Timer | None = None
        self._cancelling = False
        self.running = False

    @property
    def id(self) -> str:
        """Id of the job."""
        return self._message.job

    @property
    def task(self) -> str:
        """Name of the job function."""
        return self._message.task

    @property
    def study_id(self) -> str:
        """The study the job was asked for; its result belongs to no other."""
        return self._message.study_id

    @property
    def revision(self) -> int:
        """The study's revision when the job was asked for."""
        return self._message.revision

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._ended.is_set()

    @property
    def cancelled(self) -> bool:
        """Whether it ended because someone cancelled it."""
        return self._error is not None and self._error.kind == "Cancelled"

    @property
    def error(self) -> JobError | None:
        """Why there is no result; None while it runs or where there is one."""
        return self._error

    @property
    def result(self) -> Any:
        """What the job returned, arrays memory-mapped; None without a result. Valid until `release`."""
        if not self._decoded and self.done and self._error is None:
            self._result, self._decoded = self._client._decode(self.id, self._payload), True
        return self._result

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until it ends; False where `timeout_s` ran out. Not for the window's main thread."""
        return self._ended.wait(timeout_s)

    def cancel(self) -> None:
        """Ask it to stop; after the grace period its process is ended. Returns at once."""
        self._client._cancel(self)

    def release(self) -> None:
        """Give the result's arrays back: their files go. Maps still open stay valid, except on Windows, where they
        keep the files until the session ends."""
        self._result, self._payload = None, None
        self._client._release(self)


class Client:
    """Starts and speaks to the child processes.

    Parameters
    ----------
    scratch : parent folder of the session folder; ``MULTIPHASE_SCRATCH`` or the system's by default.
    grace_s : seconds between the request to stop and the end of the process.
    silence_s : seconds without a heartbeat after which a process counts as lost.
    tasks : module whose ``TASKS`` the children serve.
    """

    def __init__(
        self,
        scratch: Path | None = None,
        *,
        grace_s: float = 3.0,
        silence_s: float = 300.0,
        tasks: str = "napari_multiphase.jobs.tasks",
    ) -> None:
        self.grace_s, self.silence_s, self._tasks = grace_s, silence_s, tasks
        self.session = Session(scratch)
        self._numbers = itertools.count(1)
        self._guard = threading.RLock()
        self._handles: dict[str, Handle] = {}
        self._children: dict[str, Child] = {}
        self._worker: Child | None = None
        self._spare: Child | None = None
        self._outbox: queue.Queue[Callable[[], object] | None] = queue.Queue()
        self._sender = threading.Thread(target=self._send_all, daemon=True, name="multiphase sender")
        self._closed = False
        self._sender.start()

    def start(self, *, warm: bool = True) -> None:
        """Start the worker and a parser now, so that the first job need not wait; `warm` loads torch as well."""
        self._outbox.put(lambda: self._ensure_worker(warm))
        self._outbox.put(self._ensure_spare)

    def submit(
        self,
        task: str,
        params: Mapping[str, Any] | None = None,
        *,
        study_id: str = "",
        revision: int = 0,
        inputs: Mapping[str, str] | None = None,
        priority: int = 0,
        where: Where = "worker",
        on_event: OnEvent = ignore,
    ) -> Handle:
        """Ask for a job; returns at once.

        `params` may hold any object `codec` knows (Study, Prediction, arrays, ...). `on_event` is called on a reader
        thread, last with kind "done" or "failed" (message: the sentence; data: error, details, cancelled).
        """
        job = f"job-{next(self._numbers)}"
        message = Message("submit", job, task, study_id, revision, inputs or {}, priority)
        handle = Handle(self, message, where, on_event)
        with self._guard:
            if self._closed:
                raise RuntimeError("the client is closed")
            self._handles[job] = handle
        self._outbox.put(lambda: self._deliver(handle, dict(params or {})))
        if where == "parser":  # what is opened now is segmented soon
            self._outbox.put(lambda: self._ensure_worker(warm=True))
        return handle

    def share(self, array: NDArray[Any]) -> NDArray[Any]:
        """A memory-mapped read-only twin of `array` in the session, so that later requests need not copy it."""
        store = Store(self.session.root, self.session.root / "shared", "client", "session")
        return store.get(store.put(np.asarray(array)))

    def close(self) -> None:
        """End every process and remove every file of the session. Jobs that still run count as cancelled."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            children = [c for c in (*self._children.values(), self._worker, self._spare) if c is not None]
            open_handles = [h for h in self._handles.values() if not h._settled]
        self._outbox.put(None)
        for child in set(children):
            child.end(kill=True)  # files in the making are under temporary names, and nothing else is kept
        for handle in open_handles:
            self._finish(handle, error=_CANCELLED)
        if threading.current_thread() is not self._sender:
            self._sender.join(5.0)
        self.session.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # --- the sender thread ---------------------------------------------------------------------------------------

    def _send_all(self) -> None:
        while (work := self._outbox.get()) is not None:
            with contextlib.suppress(OSError, ValueError):
                work()

    def _deliver(self, handle: Handle, params: Mapping[str, Any]) -> None:
        if handle._settled:
            return
        try:
            body = encode(dict(params), self.session.inputs(handle.id))
        except (OSError, TypeError, ValueError) as error:
            sentence = f"the request could not be handed to the compute process ({error}): free some disk space"
            self._finish(handle, error=JobError(type(error).__name__, sentence))
            return
        handle._message = handle._message.answer("submit", body=body)
        self._hand_over(handle)

    def _hand_over(self, handle: Handle) -> None:
        child = self._take_spare() if handle._where == "parser" else self._ensure_worker(warm=False)
        with self._guard:
            if handle._settled or child is None:
                return
            self._children[handle.id] = child
            child.jobs[handle.id] = handle
        child.send(handle._message)

    def _ensure_worker(self, warm: bool) -> Child | None:
        with self._guard:
            if self._closed:
                return None
            if self._worker is None or not self._worker.usable:
                self._worker = self._new_child("worker")
                worker, fresh = self._worker, True
            else:
                worker, fresh = self._worker, False
        if warm and fresh:
            worker.send(Message("submit", f"warm-{next(self._numbers)}", "warm", priority=-1, body={}))
        return worker

    def _ensure_spare(self) -> Child | None:
        with self._guard:
            if self._closed:
                return None
            if self._spare is None or not self._spare.usable:
                self._spare = self._new_child("parser")
                self._spare.send(Message("submit", f"warm-{next(self._numbers)}", "warm_parser", priority=-1, body={}))
            return self._spare

    def _take_spare(self) -> Child | None:
        child = self._ensure_spare()
        with self._guard:
            self._spare = None
        return child

    def _new_child(self, verb: Where) -> Child:
        return Child(
            verb, self.session.root, self._tasks, self.silence_s, self._on_message, self._on_end, self._on_quiet
        )

    # --- the reader threads --------------------------------------------------------------------------------------

    def _on_message(self, child: Child, message: Message) -> None:
        handle = child.jobs.get(message.job)
        if handle is None or handle._settled:
            return
        if message.kind == "started":
            handle.running = True
            _call(handle, Event("started", handle.task, 0.0))
        elif message.kind == "event":
            body = self._decode(handle.id, message.body)
            _call(handle, Event(**body))
        elif message.kind == "result":
            self._finish(handle, payload=message.body)
        elif message.kind == "cancelled":
            self._finish(handle, error=_CANCELLED)
        elif message.kind == "failed":
            self._finish(handle, error=message.error or JobError("Unknown", "the job failed without a reason"))

    def _on_quiet(self, child: Child, seconds: float) -> None:
        for handle in list(child.jobs.values()):
            if handle.running:
                text = f"the compute process has not answered for {seconds:.0f} s; Cancel ends it"
                _call(handle, Event("warning", text))

    def _on_end(self, child: Child, reason: JobError) -> None:
        """The process is gone: the job it ran is lost, those behind it go to the next process."""
        with self._guard:
            if self._worker is child:
                self._worker = None
            if self._spare is child:
                self._spare = None
            handles = [h for h in child.jobs.values() if not h._settled]
            closed = self._closed
        again = []
        for handle in handles:
            if handle._cancelling or closed:
                self._finish(handle, error=_CANCELLED)
            elif handle.running or not child.was_ready or handle._where == "parser":
                self._finish(handle, error=reason)
            else:
                again.append(handle)
        for handle in again:
            self._outbox.put(lambda h=handle: self._hand_over(h))  # type: ignore[misc]
        if child.was_ready and child.verb == "worker" and not closed:
            self._outbox.put(lambda: self._ensure_worker(warm=True))

    # --- handles -------------------------------------------------------------------------------------------------

    def _finish(self, handle: Handle, payload: Any = None, error: JobError | None = None) -> None:
        with self._guard:
            if handle._settled:
                return
            handle._settled = True
            handle._payload, handle._error = payload, error
            if handle._kill is not None:
                handle._kill.cancel()
            child = self._children.pop(handle.id, None)
            if child is not None:
                child.jobs.pop(handle.id, None)
            self._handles.pop(handle.id, None)
        if child is not None and child.verb == "parser":
            child.end(kill=False)
            rest = threading.Timer(_REST_S, self._outbox.put, (self._ensure_spare,))
            rest.daemon = True
            rest.start()
        if error is not None:
            self.session.drop(handle.id)
        # A result may hand on what the job was given, such as the volumes of a registered study.
        elif not any(self.session.is_input(handle.id, lease) for lease in leases_in(payload)):
            self.session.drop_inputs(handle.id)
        handle._ended.set()
        if error is None:
            _call(handle, Event("done", handle.task, 1.0))
        else:
            data = {"error": error.kind, "details": error.details, "cancelled": handle.cancelled}
            _call(handle, Event("failed", error.sentence, data=data))

    def _cancel(self, handle: Handle) -> None:
        with self._guard:
            if handle._settled or handle._cancelling:
                return
            handle._cancelling = True
            handle._kill = threading.Timer(self.grace_s, self._kill, (handle,))
            handle._kill.daemon = True
            handle._kill.start()
        self._outbox.put(lambda: self._send_cancel(handle))

    def _send_cancel(self, handle: Handle) -> None:
        child = self._children.get(handle.id)
        if child is None:
            self._finish(handle, error=_CANCELLED)
        else:
            child.send(Message("cancel", handle.id))

    def _kill(self, handle: Handle) -> None:
        with self._guard:
            child = self._children.get(handle.id)
            running = handle.running
        # A job that only waits its turn is cancelled without ending the one before it.
        if child is not None and running:
            child.end(kill=True)
        self._finish(handle, error=_CANCELLED)

    def _decode(self, job: str, payload: Any) -> Any:
        return decode(payload, Store(self.session.root, self.session.folder(job) / "out", job))

    def _release(self, handle: Handle) -> None:
        if handle.done:
            self._outbox.put(lambda: self.session.drop(handle.id))


def _call(handle: Handle, event: Event) -> None:
    """A callback that raises must not end the reader thread."""
    try:
        handle._on_event(event)
    except Exception:
        import traceback

        traceback.print_exc()
