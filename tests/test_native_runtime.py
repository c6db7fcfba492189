"""The native runtime behind the Predictor: what PyTorch computes, without torch in the process."""

from __future__ import annotations

import dataclasses
import json
import logging
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
import torch

from depthsr import config, ops
from depthsr.config import EDGE, EDGE_S, DepthAnythingConfig
from depthsr.infer import load
from depthsr.io import read_depth, write_depth, write_picture
from depthsr.model_files import CONFIG_FILE, WEIGHTS_FILE
from depthsr.models.network import DepthSR
from depthsr.native import rounded
from depthsr.runtime import choose_automatically
from depthsr.types import UserError

SMALL = dataclasses.replace(EDGE, name="small", widths=(8, 16, 8, 24), relative_blocks=(1, 2, 1, 1), middle_blocks=1)


def frame(size=(48, 64), low=(12, 16), seed=0) -> tuple[np.ndarray, np.ndarray]:
    """Random RGB, and random depth between 1 and 3 m with holes (NaN)."""
    random = np.random.default_rng(seed)
    depth_m = random.uniform(1, 3, low).astype(np.float32)
    depth_m[random.random(low) < 0.2] = np.nan
    depth_m[0, 0] = 1.5
    return random.integers(0, 256, (*size, 3), np.uint8), depth_m


@pytest.fixture(scope="module")
def saved_model(native_module, save_random_model) -> str:
    return save_random_model(SMALL)


def assert_close(actual, expected, rtol):
    """Both predictions' depth and error agree to a share of the largest depth."""
    for field in ("depth_m", "error_m"):
        a, e = getattr(actual, field), getattr(expected, field)
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, e, rtol=rtol, atol=rtol * expected.depth_m.max(), err_msg=field)
    np.testing.assert_array_equal(actual.valid, expected.valid)


def distance(actual, expected) -> float:
    """Root mean square of the difference of both predictions' depths."""
    return float(np.sqrt(np.mean((actual.depth_m - expected.depth_m) ** 2)))


@pytest.mark.parametrize(
    ("size", "low"),
    [
        ((48, 64), (12, 16)),
        ((63, 65), (16, 16)),
        ((35, 52), (14, 21)),
        ((7, 5), (7, 5)),
        ((1, 40), (1, 10)),
        ((1, 1), (1, 1)),
    ],
)
@pytest.mark.parametrize("options", [{}, {"quantisation_step_m": 0.3, "max_depth_m": 2.6}], ids=["plain", "known"])
def test_is_what_torch_computes(saved_model, size, low, options):
    rgb, depth_m = frame(size, low)
    expected = load(saved_model, device="cpu", runtime="torch")(rgb, depth_m, **options)
    assert_close(load(saved_model, runtime="native")(rgb, depth_m, **options), expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["edge", "edge-s"])
def test_shipped_weights(native_module, name):
    rgb, depth_m = frame((240, 320), (30, 40))
    expected = load(name, device="cpu", runtime="torch")(rgb, depth_m)
    assert_close(load(name, runtime="native")(rgb, depth_m), expected, rtol=1e-4)


def test_edge_s_runs_here(native_module, save_random_model):
    model = save_random_model(EDGE_S)
    rgb, depth_m = frame((50, 70), (12, 17))
    with ops.backend("reference"):
        expected = load(model, device="cpu", runtime="torch")(rgb, depth_m)
    assert_close(load(model, runtime="native")(rgb, depth_m), expected, rtol=1e-4)


def test_the_challenges_levels(saved_model):
    random = np.random.default_rng(4)
    rgb, levels = random.integers(0, 256, (40, 56, 3), np.uint8), random.uniform(1, 25, (5, 7)).astype(np.float32)
    levels[0, 3] = 4094  # sky
    expected = load(saved_model, device="cpu", runtime="torch")(rgb, levels, protocol="ais")
    assert_close(load(saved_model, runtime="native")(rgb, levels, protocol="ais"), expected, rtol=1e-4)


def test_every_call_starts_anew(saved_model):
    """Frames of other sizes in between leave nothing behind."""
    predictor = load(saved_model, runtime="native")
    first = predictor(*frame())
    predictor(*frame((70, 90), (10, 10), seed=1))
    predictor(*frame((3, 4), (3, 4), seed=2))
    again = predictor(*frame())
    np.testing.assert_array_equal(again.depth_m, first.depth_m)
    np.testing.assert_array_equal(again.error_m, first.error_m)


@pytest.mark.parametrize(("dtype", "torch_dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_half_precision_weights_are_rounded_as_torch_rounds_them(dtype, torch_dtype):
    weight = np.random.default_rng(0).normal(size=(50, 60)).astype(np.float32)
    weight[0, :4] = [1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-11, 0]  # ties, and 0
    expected = torch.from_numpy(weight).to(torch_dtype).float().numpy()
    np.testing.assert_array_equal(rounded(weight, dtype), expected)
    assert not np.array_equal(rounded(weight, dtype), weight)
    np.testing.assert_array_equal(rounded(weight, "fp32"), weight)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_precision_is_nearer_to_full_than_that_of_torch(saved_model, native_module, dtype, caplog):
    rgb, depth_m = frame()
    full = load(saved_model, runtime="native")(rgb, depth_m)
    with caplog.at_level(logging.INFO, logger="depthsr"):
        half = load(saved_model, dtype=dtype, runtime="native")(rgb, depth_m)
    slow = "bf16" not in native_module.isa()
    sentence = f"{dtype} weights, computed in fp32: this CPU has no fast half-precision arithmetic."
    assert [r.message for r in caplog.records] == ([sentence] if slow else [])
    with ops.backend("reference"):
        torch_full, torch_half = (load(saved_model, dtype=d, runtime="torch")(rgb, depth_m) for d in ("fp32", dtype))
    assert 0 < distance(half, full) < distance(torch_half, torch_full)


def test_a_baseline_is_the_same_in_every_runtime():
    rgb, depth_m = frame()
    expected = load("guided_filter", runtime="torch")(rgb, depth_m).depth_m
    np.testing.assert_array_equal(load("guided_filter", runtime="native")(rgb, depth_m).depth_m, expected)


def test_what_only_torch_can_do(saved_model, tmp_path):
    with pytest.raises(UserError, match="computes on the CPU and not on 'cuda:0'"):
        load(saved_model, device="cuda:0", runtime="native")
    with pytest.raises(UserError, match="precision fp8 is unknown to the native runtime"):
        load(saved_model, dtype="fp8", runtime="native")
    with pytest.raises(UserError, match="takes no relative depth"):
        load(saved_model, runtime="native")(*frame(), relative=np.ones((48, 64)))
    with_relative = dataclasses.replace(SMALL, depth_anything=DepthAnythingConfig())
    (tmp_path / CONFIG_FILE).write_text(json.dumps(with_relative.to_dict()))
    (tmp_path / WEIGHTS_FILE).write_bytes(b"never read")
    with pytest.raises(UserError, match=r"needs Depth Anything, which the native runtime does not have"):
        load(str(tmp_path), runtime="native")


@pytest.mark.parametrize("field", config.MODEL_CHOICES)
def test_variants_of_the_method_are_for_torch(native_module, field, tmp_path, monkeypatch):
    monkeypatch.delenv("DEPTHSR_BACKEND", raising=False)  # any but auto is a reason for torch
    word = config.MODEL_CHOICES[field][1]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(dataclasses.replace(SMALL, **{field: word}).to_dict()))
    (tmp_path / WEIGHTS_FILE).write_bytes(b"never read")
    with pytest.raises(UserError, match=f"has {field} {word}, which the native runtime does not know"):
        load(str(tmp_path), runtime="native")
    chosen, reason = choose_automatically(str(tmp_path), "cpu")
    assert chosen == "torch"
    assert f"{field} {word}" in reason


def test_files_that_are_damaged_or_do_not_belong_together(saved_model, native_module, tmp_path):
    weights = safetensors.numpy.load_file(f"{saved_model}/{WEIGHTS_FILE}")

    def load_with(config_dict=None, **changed):
        (tmp_path / CONFIG_FILE).write_text(json.dumps(config_dict or SMALL.to_dict()))
        kept = {name: value for name, value in {**weights, **changed}.items() if value is not None}
        safetensors.numpy.save_file(kept, tmp_path / WEIGHTS_FILE)
        return load(str(tmp_path), runtime="native")

    rgb, depth_m = frame()
    expected = load(saved_model, runtime="native")(rgb, depth_m).depth_m
    np.testing.assert_array_equal(load_with()(rgb, depth_m).depth_m, expected)
    with pytest.raises(UserError, match=r"does not belong to the model .*unet\.residual_head\.bias"):
        load_with(**{"unet.residual_head.bias": None})
    with pytest.raises(UserError, match=r"does not belong to the model .*unet\.relative_stem\.weight"):
        load_with(**{"unet.relative_stem.weight": np.ones((8, 3, 3, 3), np.float32)})
    with pytest.raises(UserError, match="multiples of 8"):
        load_with(dataclasses.replace(SMALL, widths=(4, 8, 8, 8)).to_dict())
    (tmp_path / WEIGHTS_FILE).write_bytes((tmp_path / WEIGHTS_FILE).read_bytes()[:-10])
    with pytest.raises(UserError, match="is corrupt"):
        load(str(tmp_path), runtime="native")
    with pytest.raises(UserError, match=r"there is no model '.*nowhere'"):
        load(str(tmp_path / "nowhere"), runtime="native")


def test_without_the_compiled_module(monkeypatch):
    from depthsr import native

    monkeypatch.setattr(native, "why_no_module", lambda name: f"depthsr.{name} was not built: there is no compiler")
    with pytest.raises(UserError, match=r"cannot start: depthsr\._native was not built: there is no compiler"):
        load("edge", runtime="native")


def test_number_of_threads_from_the_environment(saved_model, native_module, monkeypatch):
    before = native_module.threads()
    try:
        monkeypatch.setenv("DEPTHSR_THREADS", "3")
        load(saved_model, runtime="native")
        assert native_module.threads() == 3
        monkeypatch.setenv("DEPTHSR_THREADS", "auto")
        assert config.threads() is None
        for wrong in ("0", "-1", "many", "1.5", "", "²", "99999"):
            monkeypatch.setenv("DEPTHSR_THREADS", wrong)
            with pytest.raises(UserError, match=r"DEPTHSR_THREADS is .*set it to auto or a number from 1 to 1024"):
                load(saved_model, runtime="native")
    finally:
        native_module.set_threads(before)


def test_wrong_arguments_of_the_module(native_module):
    rgb, depth_m = np.ones((8, 8, 3), np.float32), np.ones((4, 4), np.float32)
    with pytest.raises(ValueError, match="no tensor"):
        native_module.Network(json.dumps(SMALL.to_dict()), {})
    torch.manual_seed(1)
    weights = {name: value.numpy() for name, value in DepthSR(SMALL).state_dict().items()}
    network = native_module.Network(json.dumps(SMALL.to_dict()), weights)
    for arguments, words in (
        ((rgb[..., :2], depth_m), "rgb must be H×W×3"),
        ((rgb, depth_m[0]), "depth_m must be h×w"),
        ((rgb[:0], depth_m), "must not be empty"),
        ((rgb, np.full_like(depth_m, np.nan)), "no value"),
    ):
        with pytest.raises(ValueError, match=words):
            network.infer(*arguments)


# --- a process without torch -----------------------------------------------------------------------------------------

#: Runs the command line with torch not installed, as far as Python can tell. Says what it imported nevertheless.
WITHOUT_TORCH = """
import importlib.util, sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "tensorboard", "huggingface_hub"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "torch" else find_spec(name, package)
sys.meta_path.insert(0, NoTorch())
import numpy
before = set(sys.modules)  # numpy 1 imports its ma itself
from depthsr import cli
try:
    cli.main()
finally:
    # each of the others takes a tenth of the time that a frame has from start to file
    costly = {"torch", "transformers", "pydantic", "numpy.ma", "tqdm"}
    print("imported", costly & (set(sys.modules) - before), file=sys.stderr)
"""


def depthsr(folder, *arguments, without_torch=True) -> subprocess.CompletedProcess:
    code = WITHOUT_TORCH if without_torch else "from depthsr import cli; cli.main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("runtime", ["native", "auto"])
def test_command_line_without_torch(saved_model, tmp_path, runtime):
    rgb, depth_m = frame()
    write_picture(tmp_path / "rgb.png", rgb)
    write_depth(tmp_path / "depth.npy", depth_m)
    files = ["infer", "--rgb", "rgb.png", "--depth", "depth.npy", "--format", "npy", "--model", saved_model]
    done = depthsr(tmp_path, *files, "--out", "out", "--runtime", runtime)
    assert done.returncode == 0, done.stderr
    assert "imported set()" in done.stderr
    assert ("the native runtime computes: torch is not installed." in done.stderr) == (runtime == "auto")
    expected = load(saved_model, device="cpu", runtime="torch")(rgb, depth_m).depth_m
    np.testing.assert_allclose(read_depth(tmp_path / "out/rgb.npy"), expected, rtol=1e-4, atol=1e-4)
    assert (tmp_path / "out/rgb.vis.png").exists()


@pytest.mark.parametrize("options", ["runtime='native'", "runtime='auto', device='cpu'"])
def test_native_imports_no_torch_where_there_is_one(saved_model, native_module, tmp_path, options, monkeypatch):
    monkeypatch.delenv("DEPTHSR_BACKEND", raising=False)  # any but auto is a reason for torch
    code = f"""
import sys, numpy as np, depthsr
predictor = depthsr.load({saved_model!r}, {options})
assert predictor(np.full((9, 9, 3), 50, np.uint8), np.full((3, 3), 2.0)).depth_m.min() > 0
heavy = {{"torch", "transformers", "click", "tqdm", "OpenEXR"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_commands_that_need_torch_say_so(tmp_path):
    done = depthsr(tmp_path, "train", "--data", ".", "--out", "runs")
    assert done.returncode == 2
    assert "depthsr: this needs torch, and this installation is without torch; install depthsr again" in done.stderr
    assert "Traceback" not in done.stderr
