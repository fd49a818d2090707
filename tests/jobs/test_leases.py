from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from napari_multiphase.jobs.codec import decode, encode
from napari_multiphase.jobs.leases import Lease, Session, Store, sweep


@pytest.fixture
def store(tmp_path):
    (tmp_path / "job").mkdir()
    return Store(tmp_path, tmp_path / "job", "job")


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64", "bool", "complex64"])
def test_an_array_comes_back_as_it_was(store, dtype):
    array = np.arange(2 * 3 * 5).reshape(2, 3, 5).astype(dtype)
    back = store.get(store.put(array))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("cut", [np.s_[3:7], np.s_[2], np.s_[:, 1:3], np.s_[::-1], np.s_[0:0]])
def test_any_view_of_a_map_comes_back_as_it_was(store, cut):
    whole = np.lib.format.open_memmap(store.folder / "a.npy", mode="w+", dtype=np.int16, shape=(9, 50, 70))
    whole[...] = np.arange(whole.size).reshape(whole.shape)
    np.testing.assert_array_equal(store.get(store.put(whole[cut])), np.array(whole[cut]))


def test_a_lease_outside_the_session_is_refused(store, tmp_path):
    other = tmp_path.parent / "secret.bin"
    other.write_bytes(b"x" * 100)
    for path in (str(other), str(tmp_path / "job" / ".." / ".." / "secret.bin")):
        with pytest.raises(ValueError, match="not a leased array"):
            store.get(Lease(path, (10,), "|u1", 0, "job", "handle"))


def test_a_lease_longer_than_its_file_is_refused(store):
    lease = store.put(np.zeros(5000, np.uint8))
    with pytest.raises(ValueError, match="shorter"):
        store.get(Lease(lease.path, (1 << 40,), "|u1", 0, "job", "handle"))
    with pytest.raises(ValueError, match="shorter"):
        store.get(Lease(lease.path, (10,), "|u1", -5, "job", "handle"))


def test_objects_of_python_are_refused(store):
    with pytest.raises(TypeError):
        store.put(np.array([object()]))
    with pytest.raises(TypeError, match="does not cross"):
        encode(object(), store)
    with pytest.raises(ValueError, match="does not cross"):
        decode({"$type": "Popen", "value": {}}, store)


def test_values_come_back_as_they_were(store):
    value = {"a": (1, 2.5, None), "b": [True, "text"], "c": {1: "one", (2, 3): "two"}, "d": {"$type": "user's"}}
    assert decode(encode(value, store), store) == value


def test_sessions_of_dead_processes_are_swept_and_living_ones_kept(tmp_path):
    code = (
        "import sys; from pathlib import Path; from napari_multiphase.jobs.leases import Session;"
        "s = Session(Path(sys.argv[1])); print(s.root, flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    root = process.stdout.readline().strip()
    mine = Session(tmp_path)
    assert sweep(tmp_path) == 0
    process.kill()
    process.wait()
    process.stdout.close()
    process.stdin.close()
    time.sleep(0.1)
    assert root
    assert sweep(tmp_path) == 1
    assert mine.root.exists()
    mine.close()
    assert list(tmp_path.iterdir()) == []
