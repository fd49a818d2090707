"""Job functions that misbehave on purpose; served by a real child process in the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np

from napari_multiphase.errors import UserError
from napari_multiphase.events import Event


def count(context, steps=3, pause_s=0.0):
    for step in range(steps):
        context.cancel.check()
        context.on_event(Event("progress", f"step {step}", (step + 1) / steps))
        time.sleep(pause_s)
    return steps


def stubborn(context, seconds=60.0):
    context.on_event(Event("progress", "deaf", 0.0))
    time.sleep(seconds)


def die(context, number=int(getattr(signal, "SIGKILL", 9))):
    os.kill(os.getpid(), number)
    time.sleep(10)


def noisy(context):
    print("a library prints")
    sys.stdout.write('{"kind": "result"}\n')
    os.write(1, b"and so does its C side\n")
    subprocess.run([sys.executable, "-c", "print('and its child')"], check=True)
    return "clean"


def user_error(context):
    raise UserError("the file is not an image: choose another")


def defect(context):
    return 1 / 0


def echo(context, value):
    return value


def times_two(context, array):
    out = np.lib.format.open_memmap(context.scratch / "twice.npy", mode="w+", dtype=array.dtype, shape=array.shape)
    out[...] = 2 * array
    return {"whole": out, "part": out[1:3], "writeable": array.flags.writeable}


def long_answer(context, characters):
    return "x" * characters


def hoard(context):
    return np.ones(1 << 45, np.uint8).size


def pid(context):
    return os.getpid()


def preview_event(context):
    context.on_event(Event("preview", "slice", 0.5, data={"slice": np.arange(10000, dtype=np.int16)}))
    return None


TASKS = {
    f.__name__: f
    for f in (
        count,
        stubborn,
        die,
        noisy,
        user_error,
        defect,
        echo,
        times_two,
        long_answer,
        hoard,
        pid,
        preview_event,
    )
}
