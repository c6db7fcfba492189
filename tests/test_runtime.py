"""What `--runtime auto` chooses, and why."""

from __future__ import annotations

import ctypes
import dataclasses
import importlib.machinery
import json
import logging

import pytest
import torch

from depthsr import infer, runtime
from depthsr.config import EDGE, DepthAnythingConfig
from depthsr.model_files import CONFIG_FILE, WEIGHTS_FILE
from depthsr.runtime import choose_automatically, choose_runtime, why_no_gpu
from depthsr.types import UserError


@pytest.fixture
def machine(monkeypatch):
    """machine(torch, native, gpu): as if those were here or not. At first: torch, the native runtime and no GPU."""

    def set_up(torch: bool = True, native: bool = True, gpu: bool = False) -> None:
        monkeypatch.delenv("DEPTHSR_BACKEND", raising=False)
        monkeypatch.setattr(runtime, "find_spec", lambda name: object() if torch else None)
        monkeypatch.setattr(runtime, "why_no_module", lambda name: None if native else f"depthsr.{name} was not built")
        monkeypatch.setattr(runtime, "why_no_gpu", lambda: None if gpu else "there is no NVIDIA driver")

    set_up()
    return set_up


def test_native_on_a_machine_without_gpu(machine):
    assert choose_runtime("auto") == ("native", "on the CPU, as there is no NVIDIA driver")
    assert choose_runtime("auto", device="cpu", dtype="fp16") == ("native", "the device is the CPU")


def test_torch_where_there_is_a_gpu_or_something_that_only_torch_does(machine, monkeypatch, tmp_path):
    for options, reason in (
        ({"device": "cuda:1"}, "the device is cuda:1"),
        ({"dtype": torch.float16}, "the precision is torch.float16"),
        ({"name_or_path": _model(tmp_path / "da", depth_anything=DepthAnythingConfig())}, "has no Depth Anything"),
        ({"name_or_path": _model(tmp_path / "narrow", widths=(4, 8, 8, 8))}, "multiples of 8 channels"),
    ):
        chosen, why = choose_automatically(**options)
        assert chosen == "torch"
        assert reason in why
    machine(gpu=True)
    assert choose_automatically() == ("torch", "there is a GPU")
    assert choose_automatically(device="cpu")[0] == "native"
    machine(native=False)
    assert choose_automatically() == ("torch", "depthsr._native was not built")
    machine()
    monkeypatch.setenv("DEPTHSR_BACKEND", "reference")
    assert choose_automatically() == ("torch", "DEPTHSR_BACKEND is reference, which is about its ops")


def _model(folder, **changes) -> str:
    folder.mkdir()
    (folder / CONFIG_FILE).write_text(json.dumps(dataclasses.replace(EDGE, **changes).to_dict()))
    (folder / WEIGHTS_FILE).write_bytes(b"never read")
    return str(folder)


def test_without_torch_only_the_native_one(machine):
    machine(torch=False, native=False)
    assert choose_runtime("auto", device="cuda") == ("native", "torch is not installed")
    assert choose_runtime("native") == ("native", None)
    with pytest.raises(UserError, match="torch is not installed; install depthsr again with DEPTHSR_TORCH unset"):
        choose_runtime("torch")


def test_what_is_named_is_taken(machine):
    machine(gpu=True)
    assert choose_runtime("native") == ("native", None)
    machine()
    assert choose_runtime("torch") == ("torch", None)
    with pytest.raises(UserError, match="runtime 'onnx' is unknown; choose one of auto, torch, native"):
        choose_runtime("onnx")
    with pytest.raises(UserError, match="does not exist; name a model"):
        choose_runtime("auto", "nowhere")


def test_load_asks_and_says_what_was_chosen(monkeypatch, native_module, caplog):
    for chosen in ("torch", "native"):
        monkeypatch.setattr(infer, "choose_runtime", lambda *arguments, chosen=chosen: (chosen, "so it is"))
        with caplog.at_level(logging.INFO, logger="depthsr.infer"):
            restorer = infer.load("edge", device="cpu").restorer
        assert type(restorer).__module__ == ("depthsr.torch_runtime" if chosen == "torch" else "depthsr.native")
    assert [record.message for record in caplog.records] == [
        "torch computes: so it is.",
        "the native runtime computes: so it is.",
    ]


def test_nothing_is_said_to_compute_on_a_device_that_does_not_exist(caplog):
    with caplog.at_level(logging.INFO, logger="depthsr"), pytest.raises(UserError, match="device 'gpu' cannot be used"):
        infer.load("edge", device="gpu")
    assert not caplog.records


@pytest.mark.parametrize("name", ["bilinaer", "runs/none", None, 3])
def test_a_model_that_does_not_exist(name):
    said = (
        r"there is no model '.*'; name edge, edge-s, base, a baseline \(nearest, bilinear,"
        if str(name) == name
        else "is no model"
    )
    with pytest.raises(UserError, match=said):
        infer.load(name)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"device": "cuda"}, "device cuda"),
        ({"dtype": "fp16"}, "precision fp16"),
        ({"dtype": torch.bfloat16}, "precision torch.bfloat16"),
        ({"runtime": "onnx"}, "runtime onnx"),
    ],
)
def test_a_baseline_runs_in_one_way(option, words):
    harmless = {"device": "cpu", "dtype": torch.float32, "runtime": "native"}
    assert infer.load("bilinear", **harmless).name == "bilinear"
    with pytest.raises(UserError, match=f"bilinear is a baseline, computed on the CPU in fp32: leave out {words}"):
        infer.load("bilinear", **{**harmless, **option})


def test_what_needs_torch_says_how_to_get_it(native_module, monkeypatch):
    monkeypatch.setattr("depthsr.native.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"base needs Depth Anything.*; install depthsr again with DEPTHSR_TORCH unset"):
        infer.load("base", runtime="native")


# --- the GPU -------------------------------------------------------------------------------------------------------


class Driver:
    """As libcuda."""

    def __init__(self, error: int = 0, gpus: int = 0) -> None:
        self.error, self.gpus = error, gpus

    def cuInit(self, flags: int) -> int:
        return self.error

    def cuDeviceGetCount(self, count) -> int:
        count._obj.value = self.gpus
        return 0


def _missing(name: str):
    raise OSError(f"{name}: cannot open shared object file")


@pytest.mark.parametrize(
    ("library", "load_driver", "reason"),
    [
        ("libtorch_cpu.so", lambda name: Driver(gpus=1), "the installed torch is a CPU build"),
        ("libtorch_cuda.so", _missing, "there is no NVIDIA driver"),
        ("libtorch_cuda.so", lambda name: Driver(error=100, gpus=1), "NVIDIA's driver finds no GPU"),
        ("torch_cuda.dll", lambda name: Driver(gpus=0), "NVIDIA's driver finds no GPU"),
        ("libtorch_cuda.so", lambda name: Driver(gpus=2), None),
        ("libtorch_hip.so", _missing, None),
    ],
)
def test_the_gpu_is_found_without_torch(tmp_path, monkeypatch, library, load_driver, reason):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / library).touch()
    spec = importlib.machinery.ModuleSpec("torch", None, is_package=True)
    spec.submodule_search_locations.append(str(tmp_path))
    monkeypatch.setattr(runtime, "find_spec", lambda name: spec)
    monkeypatch.setattr(ctypes, "CDLL", load_driver)
    assert why_no_gpu() == reason


def test_it_agrees_with_torch():
    assert (why_no_gpu() is None) == torch.cuda.is_available()
