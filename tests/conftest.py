"""Fixtures of the whole suite."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch

from depthsr import checkpoint
from depthsr.compiled import why_no_module
from depthsr.config import BASE, EDGE, DepthAnythingConfig, ModelConfig, TrainConfig
from depthsr.models.network import DepthSR

SMALL = {
    "widths": (8, 8, 16, 16),
    "relative_blocks": (1, 1, 1, 1),
    "depth_blocks": (1, 1, 1, 1),
    "middle_blocks": 1,
    "decoder_blocks": (1, 1, 1),
}

TINY_EDGE = dataclasses.replace(EDGE, name="tiny", **SMALL)

TINY_DEPTH_ANYTHING = DepthAnythingConfig(
    hub_id="none/tiny",
    hidden_size=32,
    layers=4,
    heads=2,
    out_indices=(1, 2, 3, 4),
    neck_sizes=(8, 8, 16, 16),
    fusion_size=8,
    image_side_px=56,
)

TINY_BASE = dataclasses.replace(BASE, name="tiny-base", depth_anything=TINY_DEPTH_ANYTHING, **SMALL)


def _require(module: str) -> None:
    """Skips the test where depthsr.<module> is not built; fails it under DEPTHSR_REQUIRE_NATIVE=1 (.ci/run sets it)."""
    if reason := why_no_module(module):
        if os.environ.get("DEPTHSR_REQUIRE_NATIVE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")


@pytest.fixture(autouse=True)
def nothing_told_yet(monkeypatch) -> None:
    monkeypatch.setattr("depthsr.once._told", set())


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


@pytest.fixture
def short_training(random_frames, tmp_path) -> TrainConfig:
    """Eight steps of a tiny network on frames with holes, so that samples do not weigh the same."""
    data = random_frames(6, scenes=3, holes=True)
    tiny = dataclasses.replace(TINY_EDGE, widths=(8, 8, 8, 8))
    torch.manual_seed(0)
    checkpoint.save_model(DepthSR(tiny), tmp_path / "tiny")
    return TrainConfig(
        data=str(data),
        out=str(tmp_path / "run"),
        preset=str(tmp_path / "tiny"),
        steps=8,
        batch=2,
        crop=32,
        final_crop=64,
        final_fraction=0.25,
        warmup_steps=2,
        workers=0,
        validate_steps=4,
        checkpoint_minutes=60,
        device="cpu",
    )


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


@pytest.fixture
def random_model() -> Callable[..., DepthSR]:
    """random_model(config): in eval mode, random weights everywhere (fresh heads, beta and gamma are zero)."""

    def make(config: ModelConfig, seed: int = 0) -> DepthSR:
        torch.manual_seed(seed)
        model = DepthSR(config)
        if config.takes_relative:
            model.add_depth_anything()
        model.eval()
        with torch.no_grad():
            for parameter in model.unet.parameters():
                parameter.add_(0.03 * torch.randn_like(parameter))
        return model

    return make


@pytest.fixture
def tiny_edge(random_model) -> DepthSR:
    return random_model(TINY_EDGE)


@pytest.fixture
def tiny_base_config() -> ModelConfig:
    return TINY_BASE


@pytest.fixture
def tiny_base(random_model, tiny_base_config) -> DepthSR:
    return random_model(tiny_base_config)


@pytest.fixture
def every_hole_is_wide(monkeypatch):
    """In crops as small as the tests', too."""
    for name, pixels in (("DEEP_PX", 0.5), ("LEAST_SIDE_PX", 8), ("LEAST_LOW_SIDE_PX", 1)):
        monkeypatch.setattr(f"depthsr.wide_holes.{name}", pixels)
