"""One child process as the client sees it: its pipes, its log, its heartbeat, and why it ended."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_multiphase.jobs.priority import give_way
from napari_multiphase.jobs.protocol import HEARTBEAT_S, JobError, Message, ProtocolError, Writer, read_messages

_QUIET_S = 15.0
_CLOSING_S = 5.0
_LOG_LINES = 40


class Child:
    """Starts ``python -m napari_multiphase VERB`` and reads what it says on a thread of its own.

    `on_message`, `on_end` and `on_quiet` run on that thread (`on_quiet` on the watching one).
    """

    def __init__(
        self,
        verb: str,
        folder: Path,
        tasks: str,
        silence_s: float,
        on_message: Callable[[Child, Message], None],
        on_end: Callable[[Child, JobError], None],
        on_quiet: Callable[[Child, float], None],
    ) -> None:
        self.verb, self._folder, self._silence_s = verb, folder, silence_s
        self._on_message, self._on_end, self._on_quiet = on_message, on_end, on_quiet
        self.jobs: dict[str, Any] = {}
        self.was_ready = False
        self._told: str = ""
        self._log = folder / f"{verb}-{uuid.uuid4().hex[:8]}.log"
        self._process = self._popen(tasks)
        give_way(self._process.pid)
        self._heard = time.monotonic()
        assert self._process.stdin is not None
        self._writer = Writer(self._process.stdin, folder)  # type: ignore[arg-type]
        for work in (self._read, self._watch):
            threading.Thread(target=work, daemon=True, name=f"multiphase {verb}").start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def usable(self) -> bool:
        """Whether it runs and nobody asked it to end."""
        return not self._told and self._process.poll() is None

    def send(self, message: Message) -> None:
        """Send; what cannot be sent to a dead process comes back through `on_end`."""
        with contextlib.suppress(OSError, ValueError):
            self._writer.send(message)

    def end(self, *, kill: bool) -> None:
        """End it: at once, or by end of input and then, if it stays, by force. Does not wait."""
        self._told = self._told or "ended"
        if kill:
            with contextlib.suppress(OSError):
                self._process.kill()
            return
        with contextlib.suppress(OSError, ValueError):
            self._writer.close()
        timer = threading.Timer(_CLOSING_S, self._process.kill)
        timer.daemon = True
        timer.start()

    def _popen(self, tasks: str) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-m",
            "napari_multiphase",
            self.verb,
            "--folder",
            str(self._folder),
            "--tasks",
            tasks,
        ]
        extra: dict[str, Any] = {}
        if sys.platform == "win32":
            extra["creationflags"] = subprocess.CREATE_NO_WINDOW
        with self._log.open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, **extra)

    def _read(self) -> None:
        try:
            for message in read_messages(self._process.stdout, self._folder):  # type: ignore[arg-type]
                self._heard = time.monotonic()
                self.was_ready = self.was_ready or message.kind == "ready"
                self._on_message(self, message)
        except ProtocolError as error:
            self._told = self._told or f"it did not speak the protocol ({error})"
        except (OSError, ValueError):
            pass
        self._stop()
        self._on_end(self, self._reason())
        self._log.unlink(missing_ok=True) if sys.platform != "win32" else None

    def _stop(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._writer.close()
        try:
            self._process.wait(_CLOSING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _watch(self) -> None:
        warned = False
        while self._process.poll() is None:
            time.sleep(HEARTBEAT_S)
            quiet_s = time.monotonic() - self._heard
            if quiet_s > self._silence_s and self.jobs:
                self._told = self._told or f"it did not answer for {quiet_s:.0f} s"
                self._process.kill()
                return
            if quiet_s > min(_QUIET_S, self._silence_s) and not warned:
                self._on_quiet(self, quiet_s)
            warned = quiet_s > min(_QUIET_S, self._silence_s)

    def _reason(self) -> JobError:
        """Why the process ended, in words."""
        name = "compute process" if self.verb == "worker" else "process that reads files"
        code = self._process.returncode
        log = self._last_lines()
        if self._told and self._told != "ended":
            return JobError("Lost", f"the {name} was stopped because {self._told}; nothing was changed; try again", log)
        if not self.was_ready:
            last = log.strip().splitlines()[-1:] or ["it said nothing"]
            sentence = f"the {name} could not start ({last[0]}); run 'multiphase doctor' to see what is missing"
            return JobError("NotStarted", sentence, log)
        return JobError("Crashed", f"the {name} {_how(code)}", f"exit code {code}\n{log}")

    def _last_lines(self) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
        return ""


def _how(code: int) -> str:
    kill = -getattr(signal, "SIGKILL", 9)
    if code in (kill, 137, 0xC0000017):
        return (
            "was ended by the system, most likely out of memory; nothing was changed; close other programs, or choose "
            "smaller tiles, and run it again"
        )
    if code == -7:
        return (
            "could not write its intermediate files, most likely the disk is full; nothing was changed; free some space"
        )
    if code in (-11, -6, -4, 0xC0000005, 0xC0000409):
        return "crashed inside a library; nothing was changed; run it again, and if it happens twice, copy the report"
    return f"ended unexpectedly (exit code {code}); nothing was changed; run it again"
