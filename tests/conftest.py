"""Fixtures of the whole suite."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session")
def native() -> None:
    """Skips the test where depthsr._C_cpu is not built; fails it under DEPTHSR_REQUIRE_NATIVE=1 (.ci/run sets it)."""
    from depthsr.ops.choice import why_no_module

    if reason := why_no_module("_C_cpu"):
        if os.environ.get("DEPTHSR_REQUIRE_NATIVE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def one_thread():
    """For many steps of tiny networks: a second thread gains nothing there, and on a busy machine costs ten-fold."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
