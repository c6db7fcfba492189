"""Fixtures of the whole suite."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch

from depthsr.compiled import why_no_module
from depthsr.config import ModelConfig
from depthsr.models.network import DepthSR


def _require(module: str) -> None:
    """Skips the test where depthsr.<module> is not built; fails it under DEPTHSR_REQUIRE_NATIVE=1 (.ci/run sets it)."""
    if reason := why_no_module(module):
        if os.environ.get("DEPTHSR_REQUIRE_NATIVE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")


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


@pytest.fixture
def random_frames(tmp_path) -> Callable[..., Path]:
    """random_frames(count, scenes, holes=False): a folder of frames of 64×96, smooth depths of 2 to 60 m, to train on.

    With holes, more of them in one frame than in another.
    """

    def make(count: int, scenes: int, *, holes: bool = False) -> Path:
        folder = tmp_path / "data"
        (folder / "rgb").mkdir(parents=True)
        (folder / "depth").mkdir()
        rng = np.random.default_rng(0)
        for number in range(count):
            name = f"scene{number % scenes}_{number}"
            depth_m = cv2.resize(rng.uniform(2, 60, (6, 8)).astype(np.float32), (96, 64))
            if holes:
                depth_m[: 8 * number, 8:64] = np.nan
            np.save(folder / "depth" / f"{name}.npy", depth_m)
            cv2.imwrite(str(folder / "rgb" / f"{name}.png"), rng.integers(0, 255, (64, 96, 3), dtype=np.uint8))
        return folder

    return make


@pytest.fixture(scope="session")
def save_random_model(tmp_path_factory) -> Callable[[ModelConfig], str]:
    """save_random_model(config): a folder with a network whose every weight is random, so that it changes its input."""

    def save(config: ModelConfig) -> str:
        torch.manual_seed(0)
        model = DepthSR(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        folder = tmp_path_factory.mktemp("model")
        model.save_pretrained(folder)
        return str(folder)

    return save
