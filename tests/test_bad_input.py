"""Mistakes with files and options: exit status 2, one sentence on stderr that names the file, nothing written."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from depthsr import cli
from depthsr.config import EDGE
from depthsr.io import write_depth, write_picture

RANDOM = np.random.default_rng(0)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with a good rgb.png (64×48) and depth.png (16×12 millimetres); the working directory."""
    monkeypatch.chdir(tmp_path)
    write_picture("rgb.png", RANDOM.integers(0, 256, (48, 64, 3), np.uint8))
    write_depth("depth.png", RANDOM.uniform(1, 3, (12, 16)))
    return tmp_path


def fails(monkeypatch, capfd, *arguments: str) -> str:
    """Runs the command line; checks status, the single line and the absence of a traceback; returns the line."""
    monkeypatch.setattr(sys, "argv", ["depthsr", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("depthsr: ")
    assert err.endswith(".\n")
    assert not Path("out").exists(), "something was written"
    return err


def infer(rgb: str = "rgb.png", depth: str = "depth.png", *more: str, model: str = "bilinear") -> list[str]:
    return ["infer", "--rgb", rgb, "--depth", depth, "--out", "out", "--model", model, *more]


def save(name: str, array: np.ndarray) -> None:
    if name.endswith(".npy"):
        np.save(name, array, allow_pickle=True)
    else:
        assert cv2.imwrite(name, array)


def test_the_good_input_works(place, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["depthsr", *infer()])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    assert sorted(p.name for p in Path("out").iterdir()) == ["rgb.png", "rgb.vis.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (infer("gone.png"), "--rgb gone.png does not exist"),
        (infer(depth="gone.png"), "--depth gone.png does not exist"),
        (infer("gone/*.png"), "--rgb gone/*.png matches no file"),
        (infer("rgb.png", "depth.png", "--relative", "gone.png"), "--relative gone.png does not exist"),
        (["degrade", "--depth", "gone.npy", "--out", "out", "--protocol", "ais"], "--depth gone.npy does not exist"),
    ],
)
def test_missing_file(place, monkeypatch, capfd, arguments, words):
    assert words in fails(monkeypatch, capfd, *arguments)


@pytest.mark.parametrize(
    "name", ["rgb.jpg", "rgb.png", "depth.png", "depth.npy", "depth.npz", "depth.tiff", "depth.pfm"]
)
@pytest.mark.parametrize("content", ["empty", "text", "half"])
def test_unreadable_file(place, monkeypatch, capfd, name, content):
    bad = f"bad_{name}"
    if name.startswith("rgb"):
        write_picture(bad, RANDOM.integers(0, 256, (48, 64, 3), np.uint8))
    elif name.endswith("npz"):
        np.savez(bad, depth=RANDOM.uniform(1, 3, (12, 16)))
    else:
        write_depth(bad, RANDOM.uniform(1, 3, (12, 16)))
    data = Path(bad).read_bytes()
    Path(bad).write_bytes({"empty": b"", "text": b"hello, I am no picture", "half": data[: len(data) // 2]}[content])
    arguments = infer(rgb=bad) if name.startswith("rgb") else infer(depth=bad)
    assert bad in fails(monkeypatch, capfd, *arguments)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((16, 12), "depth is 12×16 pixels and the RGB 64×48"),
        ((13, 30), "depth is 30×13 pixels and the RGB 64×48"),
        ((96, 128), "depth is 128×96 pixels and the RGB 64×48"),
    ],
)
def test_sizes_that_cannot_belong_together(place, monkeypatch, capfd, size, words):
    write_depth("other.npy", RANDOM.uniform(1, 3, size))
    error = fails(monkeypatch, capfd, *infer(depth="other.npy"))
    assert words in error
    assert "rgb.png with other.npy" in error


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("eight.png", np.full((12, 16), 9, np.uint8), "eight.png holds uint8 numbers, an 8-bit picture"),
        ("rgba.png", np.full((12, 16, 4), 9, np.uint16), "rgba.png has 4 channels"),
        ("colour.png", np.full((12, 16, 3), 9, np.uint8), "colour.png has 3 channels"),
        ("photo.jpg", np.full((12, 16, 3), 9, np.uint8), "photo.jpg is of no depth format"),
        ("bool.npy", np.ones((12, 16), bool), "bool.npy holds bool data"),
        ("complex.npy", np.ones((12, 16), complex), "complex.npy holds complex128 data"),
        ("object.npy", np.array([[None]]), "object.npy is damaged or no plain NPY"),
        ("text.npy", np.array([["a"]]), "text.npy holds <U1 data"),
        ("empty.npy", np.ones((0, 16)), "empty.npy holds an empty array"),
        ("one.npy", np.ones(16), "one.npy holds an array of 1 dimensions"),
        ("zero.png", np.zeros((12, 16), np.uint16), "zero.png: the depth has no valid pixel"),
        ("saturated.png", np.full((12, 16), 65535, np.uint16), "saturated.png: the depth has no valid pixel"),
        ("nan.npy", np.full((12, 16), np.nan), "nan.npy: the depth has no valid pixel"),
        ("inf.npy", np.full((12, 16), np.inf), "inf.npy: the depth has no valid pixel"),
        ("negative.npy", np.linspace(-1, 2, 192).reshape(12, 16), "negative.npy: the depth has 64 negative values"),
        ("negative.tiff", np.full((12, 16), -3, np.int16), "negative.tiff: the depth has 192 negative values"),
        ("far.npy", np.full((12, 16), 120.0), "depth up to 120.00 m does not fit out/rgb.png"),
    ],
)
def test_depth_that_is_refused(place, monkeypatch, capfd, name, array, words):
    save(name, array)
    assert words in fails(monkeypatch, capfd, *infer(depth=name))


def test_depth_too_small_to_be_degraded(place, monkeypatch, capfd):
    write_depth("small.npy", RANDOM.uniform(1, 3, (4, 6)))
    said = fails(monkeypatch, capfd, "degrade", "--depth", "small.npy", "--out", "out", "--protocol", "ais")
    assert "small.npy: a depth map of 6x4 is too small" in said


def test_nan_and_inf_among_good_values_are_holes(place, monkeypatch, capfd):
    depth_m = RANDOM.uniform(1, 3, (12, 16))
    depth_m[2:5, 3:9], depth_m[7, 7] = np.nan, np.inf
    np.save("holes.npy", depth_m)
    monkeypatch.setattr(sys, "argv", ["depthsr", *infer(depth="holes.npy")])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    assert (cv2.imread("out/rgb.png", cv2.IMREAD_UNCHANGED) > 0).all()


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("rgba.png", np.full((48, 64, 4), 9, np.uint8), "rgba.png has 4 channels"),
        ("float.tiff", np.full((48, 64, 3), 2, np.float32), "float.tiff runs from 2 to 2"),
        ("int.tiff", np.full((48, 64), 2, np.int16), "int.tiff holds int16 numbers"),
    ],
)
def test_rgb_that_is_refused(place, monkeypatch, capfd, name, array, words):
    save(name, array)
    assert words in fails(monkeypatch, capfd, *infer(rgb=name))


def test_folders_that_cannot_be_paired(place, monkeypatch, capfd):
    for name in ("rgb/a.png", "rgb/b.png", "depth/a.png", "empty/x.txt"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    assert "--rgb b without --depth of that name" in fails(monkeypatch, capfd, *infer("rgb", "depth"))
    assert "--depth empty holds no file" in fails(monkeypatch, capfd, *infer("rgb", "empty"))


def test_results_never_replace_inputs(place, monkeypatch, capfd):
    before = Path("rgb.png").read_bytes()
    arguments = [a if a != "out" else "." for a in infer()]
    assert "rgb.png is an input and would be overwritten" in fails(monkeypatch, capfd, *arguments)
    assert Path("rgb.png").read_bytes() == before


@pytest.mark.parametrize(("other", "more"), [("a.vis", ()), ("a.valid", ("--no-picture", "--also", "valid"))])
def test_results_never_replace_each_other(place, monkeypatch, capfd, other, more):
    for name in ("a", other):
        for kind in ("rgb", "depth"):
            Path(kind).mkdir(exist_ok=True)
            shutil.copy(f"{kind}.png", f"{kind}/{name}.png")
    said = f"out/{other}.png would be written for rgb/a.png and for rgb/{other}.png; rename one of them"
    assert said in fails(monkeypatch, capfd, *infer("rgb", "depth", *more))


@pytest.mark.parametrize("kind", ["error", "confidence"])
def test_a_baseline_knows_nothing_of_its_error(place, monkeypatch, capfd, kind):
    monkeypatch.setattr("depthsr.infer_files.restore_file", lambda *_: pytest.fail("computed"))
    assert "bilinear estimates no error" in fails(monkeypatch, capfd, *infer("rgb.png", "depth.png", "--also", kind))


def test_a_folder_is_restored_but_for_its_bad_frames(place, monkeypatch, capfd, caplog):
    for kind in ("rgb", "depth"):
        Path(kind).mkdir()
        for name in "abcd":
            shutil.copy(f"{kind}.png", f"{kind}/{name}.png")
    Path("rgb/b.png").write_bytes(b"")
    cv2.imwrite("depth/d.png", np.zeros((12, 16), np.uint16))
    monkeypatch.setattr(sys, "argv", ["depthsr", *infer("rgb", "depth", "--no-picture")])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    out, err = capfd.readouterr()
    assert out == ""
    first, second = (record.message for record in caplog.records)
    assert first == "rgb/b.png is empty (0 bytes); export it again."
    assert second.startswith("rgb/d.png with depth/d.png: the depth has no valid pixel")
    assert err == "depthsr: 2 of 4 frames failed.\n"
    assert sorted(os.listdir("out")) == ["a.png", "c.png"]
    np.testing.assert_array_equal(cv2.imread("out/a.png", -1), cv2.imread("out/c.png", -1))


def test_what_no_frame_would_escape_is_told_once(place, monkeypatch, capfd, caplog):
    for kind in ("rgb", "depth"):
        Path(kind).mkdir()
        for name in "ab":
            shutil.copy(f"{kind}.png", f"{kind}/{name}.png")
    assert "largest depth -1.0 is no dist" in fails(monkeypatch, capfd, *infer("rgb", "depth", "--max-depth", "-1"))
    assert not caplog.records


def test_an_out_folder_that_is_a_file(place, monkeypatch, capfd):
    Path("file").write_text("mine")
    arguments = [a if a != "out" else "file" for a in infer()]
    assert "cannot write file/rgb.png" in fails(monkeypatch, capfd, *arguments)
    assert Path("file").read_text() == "mine"


@pytest.mark.parametrize(
    ("out", "words"), [("", "--out is empty"), ("new/a.PNG", "try --out new/a."), ("a.npy", "try --out a.")]
)
def test_an_out_folder_that_is_named_like_a_file(place, monkeypatch, capfd, out, words):
    degrade = ["degrade", "--depth", "depth.png", "--protocol", "tof", "--out", out]
    for arguments in (infer("rgb.png", "depth.png", "--out", out), degrade, ["demo", "--out", out]):
        assert words in fails(monkeypatch, capfd, *arguments)
    assert sorted(os.listdir()) == ["depth.png", "rgb.png"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--depth-scale", "0"), "depth scale 0.0 makes no metres"),
        (("--depth-scale", "-1"), "depth scale -1.0 makes no metres"),
        (("--max-depth", "0"), "largest depth 0.0 is no distance"),
        (("--quantisation-step", "-1"), "quantisation step -1.0 is no distance"),
        (("--protocol", "ais", "--depth-scale", "0.001"), "--protocol ais fixes unit, step, range and downsampling"),
        (("--protocol", "ais", "--downsampling", "box"), "--protocol ais fixes unit, step, range and downsampling"),
        (("--relative", "rgb.png"), "has 3 channels"),
        (("--relative", "depth.png"), "bilinear takes no relative depth"),
    ],
)
def test_options_that_make_no_sense(place, monkeypatch, capfd, more, words):
    assert words in fails(monkeypatch, capfd, *infer("rgb.png", "depth.png", *more))


def test_a_device_that_is_not_here(place, monkeypatch, capfd):
    write_model("model")
    assert "device 'cuda:99' cannot be used here" in fails(
        monkeypatch, capfd, *infer("rgb.png", "depth.png", "--device", "cuda:99", model="model")
    )


def test_a_backend_that_cannot_run_here(place, monkeypatch, capfd):
    write_model("model")
    for kind in ("rgb", "depth"):
        Path(kind).mkdir()
        for name in "ab":
            shutil.copy(f"{kind}.png", f"{kind}/{name}.png")
    from depthsr import ops

    with ops.backend("cuda"):
        said = fails(monkeypatch, capfd, *infer("rgb", "depth", "--runtime", "torch", "--device", "cpu", model="model"))
    assert said.startswith("depthsr: DEPTHSR_BACKEND is cuda, but ")
    assert said.endswith("; leave it unset or set it to auto.\n")


def write_model(folder: str) -> None:
    """A small network with random weights, saved as `depthsr train` saves one."""
    from depthsr.models.network import DepthSR

    DepthSR(dataclasses.replace(EDGE, widths=(4, 8, 8, 8))).save_pretrained(folder)


def cut_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])


def overwrite_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_text("not weights")


def weights_of_another_model(folder: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"layer.weight": np.ones((2, 2), np.float32)}, folder / "model.safetensors")


def config_of_another_model(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "dpt", "hidden_size": 384}))


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{not json")


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    "harm",
    [
        cut_weights,
        overwrite_weights,
        weights_of_another_model,
        config_of_another_model,
        broken_config,
        no_config,
        no_weights,
    ],
)
def test_a_checkpoint_that_is_damaged_or_of_another_model(place, monkeypatch, capfd, harm):
    write_model("model")
    harm(Path("model"))
    assert "model" in fails(monkeypatch, capfd, *infer(model="model"))


def test_a_model_that_does_not_exist(place, monkeypatch, capfd):
    assert "no-such-model" in fails(monkeypatch, capfd, *infer(model="no-such-model"))


def test_a_wide_disaster_is_not_hidden(place, monkeypatch, capfd):
    """A fault of ours is no UserError: it must keep its traceback."""

    def fault(*_, **__):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("depthsr.infer_files.restore_file", fault)
    monkeypatch.setattr(sys, "argv", ["depthsr", *infer()])
    with pytest.raises(ZeroDivisionError):
        cli.main()
