"""depthsr._native: the CPU kernels without torch, held to the same reference."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from depthsr.ops import reference
from depthsr.ops.choice import why_no_module


@pytest.fixture(scope="module")
def kernels(native):
    if reason := why_no_module("_native"):
        pytest.fail(reason)
    from depthsr import _native

    return _native


def arrays(*shapes, dtype):
    generator = np.random.default_rng(0)
    return [generator.normal(size=shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", [np.float32, np.float16], ids=["float32", "float16"])
def test_values(kernels, dtype, size, close):
    x, style, weight, bias = arrays((2, 6, *size), (2, 6, 4, 3), (6,), (6,), dtype=dtype)
    depth, target = x[:, :1], x[:, 1:2]  # strided views: copied, not misread
    valid = target > -1
    x64, style64, weight64, bias64 = (torch.from_numpy(a.astype(np.float64)) for a in (x, style, weight, bias))
    valid_tensor = torch.from_numpy(valid)
    for result, expected in (
        (kernels.layer_norm_2d(x, weight, bias, 1e-4), reference.layer_norm_2d(x64, weight64, bias64, 1e-4)),
        (kernels.simple_gate(x), reference.simple_gate(x64)),
        (kernels.adain(x, style, 1e-3, 1), reference.adain(x64, style64, 1e-3, 1)),
        (
            np.float32(kernels.sobel_l1_loss(depth, target, valid, 0.7, 1.3)),
            reference.sobel_l1_loss(x64[:, :1], x64[:, 1:2], valid_tensor, 0.7, 1.3),
        ),
    ):
        close(torch.from_numpy(np.asarray(result)), expected)


def test_wrong_arguments(kernels):
    (x,) = arrays((1, 3, 4, 5), dtype=np.float32)
    with pytest.raises(ValueError, match="even number"):
        kernels.simple_gate(x)
    with pytest.raises(ValueError, match="B×C×H×W, but has 3"):
        kernels.simple_gate(x[0])
    with pytest.raises(TypeError, match="float32 or float16"):
        kernels.simple_gate(x.astype(np.float64))
    with pytest.raises(TypeError, match="same dtype"):
        kernels.adain(x, x.astype(np.float16))
    with pytest.raises(ValueError, match="same batch and channels"):
        kernels.adain(x, x[:, :2])
    with pytest.raises(ValueError, match="one value for each"):
        kernels.layer_norm_2d(x, np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="same size"):
        kernels.sobel_l1_loss(x[:, :1], x[:, :1].transpose(0, 1, 3, 2))


def test_needs_no_torch(kernels, tmp_path):
    code = "import sys, depthsr._native; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 0
