"""The threads that run depthsr._native's loops: same results on any number, from any thread, and after a fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest


def frame(size, low, seed=0):
    """Random rgb H×W×3, depth_m h×w and valid h×w."""
    random = np.random.default_rng(seed)
    return random.random((*size, 3), np.float32), 1 + random.random(low, np.float32), random.random(low) > 0.2


@pytest.fixture
def threads(native_module):
    """Sets the number of threads for one test."""
    before = native_module.threads()
    yield native_module.set_threads
    native_module.set_threads(before)


def test_results_do_not_depend_on_the_number_of_threads(native_module, threads):
    rgb, depth_m, valid = frame((150, 97), (19, 12))
    priors = []
    for count in (1, 2, 5):
        threads(count)
        assert native_module.threads() == count
        priors += [native_module.make_prior(rgb, depth_m, valid) for _ in range(5)]
    for prior in priors[1:]:
        for name in prior:
            np.testing.assert_array_equal(prior[name], priors[0][name], err_msg=name)


def test_several_python_threads_at_once(native_module, threads):
    threads(3)
    frames = [frame((90, 70), (15, 14), seed=seed) for seed in range(4)]
    expected = [native_module.make_prior(*f)["upsampled"] for f in frames]
    actual: list = [None] * 4

    def restore(index):
        for _ in range(10):
            actual[index] = native_module.make_prior(*frames[index])["upsampled"]

    workers = [threading.Thread(target=restore, args=(index,)) for index in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_makes_its_own_threads(native_module, tmp_path):
    """The parent's threads do not exist in the child: waiting for them would never end."""
    code = """
import os, signal, numpy as np
from depthsr import _native
_native.set_threads(3)
random = np.random.default_rng(0)
x = random.random((200, 120, 3), np.float32), random.random((50, 30), np.float32), np.ones((50, 30), bool)
expected = _native.make_prior(*x)["upsampled"]
child = os.fork()
if child == 0:
    signal.alarm(60)
    same = all(np.array_equal(_native.make_prior(*x)["upsampled"], expected) for _ in range(20))
    os._exit(0 if same else 1)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert np.array_equal(_native.make_prior(*x)["upsampled"], expected)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_numbers_of_threads_that_make_no_sense(native_module):
    for count in (0, -3):
        with pytest.raises(ValueError, match="at least 1"):
            native_module.set_threads(count)
