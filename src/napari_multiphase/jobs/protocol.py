"""What client and worker say to each other: one JSON message per line, versioned and of bounded length.

Both ends run the same installed package, so a message of another version is a defect and refused, not interpreted.
A body too long for one line goes through a file in the session folder.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

PROTOCOL = 1
MAX_LINE_BYTES = 1 << 20
HEARTBEAT_S = 1.0
URGENT = 10
"""From this priority on, a request runs at the next event of the running job instead of after it."""

Kind = Literal[
    "submit", "cancel", "shutdown", "ready", "started", "event", "result", "failed", "cancelled", "heartbeat"
]
_KINDS = frozenset(Kind.__args__)  # type: ignore[attr-defined]


class ProtocolError(Exception):
    """The other end did not speak this protocol: a defect or a foreign program, never bad input of a user."""


@dataclass(frozen=True)
class JobError:
    """Why a job ended without a result.

    Attributes
    ----------
    kind : class of the error ("UserError", "MemoryError", "Crashed", "Cancelled", ...).
    sentence : what the user reads: what was wrong and what to do.
    details : the log behind *Details*: traceback or the last lines of the process; may be empty.
    """

    kind: str
    sentence: str
    details: str = ""


@dataclass(frozen=True)
class Message:
    """One line.

    Attributes
    ----------
    kind : what the line is.
    job : id of the job it is about; empty for "ready", "heartbeat" and "shutdown".
    task : name of the function to run ("submit" only).
    study_id, revision : the study the job was asked for, echoed in every answer.
    inputs : sha256 of the job's source files by role, echoed in the result.
    priority : higher runs earlier; see `URGENT`.
    progress : share of the job that is done, in [0, 1], where known.
    error : class and sentence ("failed" only).
    body : parameters, event or result as JSON types; arrays appear in it as leases.
    """

    kind: Kind
    job: str = ""
    task: str = ""
    study_id: str = ""
    revision: int = 0
    inputs: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    progress: float | None = None
    error: JobError | None = None
    body: Any = None
    protocol: int = PROTOCOL

    def answer(self, kind: Kind, **values: Any) -> Message:
        """A message about the same job, study and revision."""
        return replace(self, kind=kind, **{"body": None, "progress": None, "error": None, **values})


def to_line(message: Message, folder: Path) -> bytes:
    """`message` as one line with its newline; a long body is left in a file under `folder`."""
    line = _dump(asdict(message))
    if len(line) <= MAX_LINE_BYTES:
        return line
    body_file = folder / f"body-{uuid.uuid4().hex}.json"
    body_file.write_text(json.dumps(message.body), encoding="utf-8")
    return _dump({**asdict(replace(message, body=None)), "body_file": body_file.name})


def from_line(line: bytes, folder: Path) -> Message:
    """The message of one line. Raises ProtocolError on anything else."""
    try:
        values = json.loads(line)
        if values["protocol"] != PROTOCOL:
            raise ProtocolError(f"protocol {values['protocol']}, expected {PROTOCOL}: restart after the update")
        if values["kind"] not in _KINDS:
            raise ProtocolError(f"unknown kind of message: {values['kind']!r}")
        body_file = values.pop("body_file", None)
        if body_file is not None:
            values["body"] = _take_body(folder / Path(body_file).name)
        error = values.get("error")
        values["error"] = JobError(**error) if error else None
        return Message(**values)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ProtocolError(f"not a message: {line[:80]!r}") from error


def read_messages(stream: BinaryIO, folder: Path) -> Iterator[Message]:
    """Messages until the end of `stream`. Raises ProtocolError on a line that is too long or no message."""
    while line := stream.readline(MAX_LINE_BYTES + 2):
        if len(line) > MAX_LINE_BYTES:
            raise ProtocolError(f"a line longer than {MAX_LINE_BYTES} bytes")
        yield from_line(line, folder)


class Writer:
    """Sends messages from any thread, each whole."""

    def __init__(self, stream: BinaryIO, folder: Path) -> None:
        self._stream, self._folder, self._lock = stream, folder, threading.Lock()

    def send(self, message: Message) -> None:
        """Write and flush one message; raises OSError or ValueError where the other end is gone."""
        line = to_line(message, self._folder)
        with self._lock:
            self._stream.write(line)
            self._stream.flush()

    def close(self) -> None:
        """End of input for the other end."""
        with self._lock:
            self._stream.close()


def _dump(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def _take_body(file: Path) -> Any:
    body = json.loads(file.read_text(encoding="utf-8"))
    file.unlink(missing_ok=True)
    return body
