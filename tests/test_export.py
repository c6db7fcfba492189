"""ONNX files: other runtimes compute of them what the Predictor computes, and mistakes are told in a sentence."""

from __future__ import annotations

import importlib.util
import os

import cv2
import numpy as np
import pytest

import depthsr
from depthsr.checkpoint import save_model
from depthsr.export import ABOUT, INPUTS, OUTPUTS, export_onnx
from depthsr.types import UserError

SIZE, LOW_SIZE = (37, 53), (4, 7)  # halved, low-resolution depth comes by 1×2, which averages over 2×2 cannot take

#: quantisation_step_m, max_depth_m, share of holes.
FRAMES = [(0.0, None, 0.0), (0.5, None, 0.3), (2.0, 15.0, 0.9)]


def in_onnxruntime(file):
    """The names of the file's inputs, and a function from these inputs to its outputs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return [given.name for given in session.get_inputs()], lambda inputs: session.run(OUTPUTS, inputs)


def in_openvino(file):
    import openvino

    network = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [given.any_name for given in network.inputs], lambda inputs: [network(inputs)[name] for name in OUTPUTS]


@pytest.mark.skipif(os.environ.get("DEPTHSR_BACKEND") == "reference", reason="every backend exports the reference")
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("model", ["tiny_edge", "tiny_base"])
@pytest.mark.parametrize("runtime", [in_onnxruntime, in_openvino])
def test_other_runtimes_compute_what_the_predictor_computes(runtime, model, request, tmp_path):
    pytest.importorskip(runtime.__name__.removeprefix("in_"))
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    save_model(request.getfixturevalue(model), tmp_path / "model")
    predictor = depthsr.load(str(tmp_path / "model"), device="cpu", dtype="fp32", runtime="torch")
    file = tmp_path / "folder" / "tiny.onnx"
    names = export_onnx(tmp_path / "model", file, SIZE, LOW_SIZE)
    assert names == INPUTS[: 5 if model == "tiny_base" else 4]
    assert onnx.load(file).doc_string == ABOUT
    assert b"export.py" not in file.read_bytes()  # nothing of where it was made
    found_names, infer = runtime(file)
    assert found_names == list(names)

    rng = np.random.default_rng(0)

    def run(rgb, depth_m, step_m, range_m, relative):
        values = (rgb, depth_m, np.float32(step_m), np.float32(range_m or 0), relative)
        inputs = {name: np.asarray(value)[None] for name, value in zip(names, values, strict=False)}
        return dict(zip(OUTPUTS, (plane[0, 0] for plane in infer(inputs)), strict=True))

    for step_m, range_m, holes in FRAMES:
        rgb = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        depth_m = rng.uniform(1, 20, LOW_SIZE).astype(np.float32)
        # Like its measurement: fits to noise are so ill-conditioned that the last bit of it moves centimetres.
        relative = (1 / cv2.resize(depth_m, SIZE[::-1])).astype(np.float32)
        # Each kind of hole, and at least one value.
        no_value = rng.choice(np.float32([0, np.nan, np.inf]), LOW_SIZE)
        depth_m = np.where((rng.random(LOW_SIZE) < holes) & (np.arange(7) > 0), no_value, depth_m)
        expected = predictor(
            rgb,
            depth_m,
            relative=relative if len(names) == 5 else None,
            quantisation_step_m=step_m,
            max_depth_m=range_m,
        )
        found = run(rgb, depth_m, step_m, range_m, relative)
        np.testing.assert_allclose(found["restored_depth_m"], expected.depth_m, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found["error_m"], expected.error_m, rtol=1e-4, atol=1e-4)
        assert np.ptp(expected.depth_m) > 1

    nothing = run(rgb, np.full(LOW_SIZE, np.nan, np.float32), 0, None, relative)
    assert (nothing["restored_depth_m"] == 0).all()
    assert np.isfinite(nothing["error_m"]).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("edge", "edge.pt", SIZE, LOW_SIZE), r"edge\.pt does not end in \.onnx"),
        (("edge", "edge.onnx", LOW_SIZE, SIZE), "give a larger RGB or a smaller depth"),
        (("edge", "edge.onnx", SIZE, (0, 7)), "a frame of no pixels"),
        (("bilinear", "edge.onnx", SIZE, LOW_SIZE), "bilinear is a classical method and no network; export edge"),
    ],
)
def test_mistakes(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        export_onnx(*arguments)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_told_before_anything_is_computed(tmp_path, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else there(name))
    monkeypatch.setattr("depthsr.export.load_model", lambda name: pytest.fail("loaded a model"))
    with pytest.raises(UserError, match=r"export needs onnxscript.*pip install '\.\[export\]'"):
        export_onnx("edge", tmp_path / "edge.onnx", SIZE, LOW_SIZE)
