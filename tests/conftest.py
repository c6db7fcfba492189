"""Fixtures of the whole suite."""

from __future__ import annotations

import os
from types import ModuleType

import pytest

from depthsr.compiled import why_no_module


def _require(module: str) -> None:
    """Skips the test where depthsr.<module> is not built; fails it under DEPTHSR_REQUIRE_NATIVE=1 (.ci/run sets it)."""
    if reason := why_no_module(module):
        if os.environ.get("DEPTHSR_REQUIRE_NATIVE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def native() -> None:
    """For tests of the CPU kernels as torch ops."""
    _require("_C_cpu")


@pytest.fixture(scope="session")
def native_module() -> ModuleType:
    """depthsr._native, for tests of the CPU kernels without torch."""
    _require("_native")
    from depthsr import _native

    return _native


@pytest.fixture
def one_thread():
    """For many steps of tiny networks: a second thread gains nothing there, and on a busy machine costs ten-fold."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
