"""Which implementation runs, and that every refusal says why."""

from __future__ import annotations

import dataclasses
import logging
import os
import subprocess
import sys
import types

import pytest
import torch

from depthsr import ops
from depthsr.ops import choice, reference


@pytest.fixture
def broken_native(monkeypatch):
    """As if depthsr._C_cpu had not been built."""
    native = dataclasses.replace(choice.NATIVE, broken="depthsr._C_cpu was not built: there is no C++ compiler")
    monkeypatch.setattr(choice, "IMPLEMENTATIONS", (native,))
    monkeypatch.setattr(choice, "_told", set())


def test_auto_falls_back_and_says_so_once(broken_native, random_image, caplog):
    x = random_image((1, 4, 3, 3))
    with ops.backend("auto"), caplog.at_level(logging.WARNING, "depthsr.ops"):
        out = ops.simple_gate(x)
        ops.simple_gate(x)
        ops.adain(x, x)
    assert torch.equal(out, x[:, :2] * x[:, 2:])
    assert [record.message for record in caplog.records] == [
        "using the slower reference implementation: depthsr._C_cpu was not built: there is no C++ compiler."
    ]


def test_a_gradient_that_the_reference_alone_has_is_no_fall_back_to_tell(native, monkeypatch, random_image, caplog):
    """Without a gradient the kernel runs; what keeps it from running is then told once, as of any op."""
    monkeypatch.setattr(choice, "_told", set())
    heads = [random_image((1, channels, 2, 2)) for channels in (8, 4, 4)]
    candidates, ambiguity = random_image((1, 2, 4, 4)), random_image((1, 1, 4, 4))
    wanted = heads[0].clone().requires_grad_()
    with ops.backend("auto"), caplog.at_level(logging.WARNING, "depthsr.ops"):
        depth, _ = ops.mix_candidates(wanted, *heads[1:], candidates, ambiguity)
        (gradient,) = torch.autograd.grad(depth.square().sum(), wanted)
        assert choice.choose("mix_candidates", *heads) is torch.ops.depthsr.mix_candidates.default
        assert caplog.records == []
        for _ in range(2):
            ops.mix_candidates(*(tensor.double() for tensor in (*heads, candidates, ambiguity)))
    assert [record.message for record in caplog.records] == [
        "using the slower reference implementation: the native kernels have no torch.float64 version of mix_candidates."
    ]
    expected, _ = reference.mix_candidates(wanted, *heads[1:], candidates, ambiguity)
    assert torch.equal(gradient, torch.autograd.grad(expected.square().sum(), wanted)[0])
    with ops.backend("native"), pytest.raises(RuntimeError, match="the native mix_candidates has no gradient"):
        ops.mix_candidates(wanted, *heads[1:], candidates, ambiguity)


def test_a_forced_implementation_raises_the_same_sentence(broken_native, random_image):
    with ops.backend("native"), pytest.raises(RuntimeError, match=r"native, but .*there is no C\+\+ compiler"):
        ops.simple_gate(random_image((1, 4, 3, 3)))


def test_a_type_without_kernel_is_refused_or_computed_by_the_reference(native, random_image):
    x = random_image((1, 4, 3, 3), torch.float64)
    with ops.backend("native"), pytest.raises(RuntimeError, match=r"no torch\.float64 version of simple_gate"):
        ops.simple_gate(x)
    with ops.backend("auto"):
        assert torch.equal(ops.simple_gate(x), x[:, :2] * x[:, 2:])


def test_auto_uses_the_native_kernels(native, random_image):
    x = random_image((1, 4, 3, 3))
    with ops.backend("auto"):
        assert choice.choose("simple_gate", x) is torch.ops.depthsr.simple_gate.default
    with ops.backend("reference"):
        assert choice.choose("simple_gate", x) is reference.simple_gate


def test_every_backend_name_has_an_answer(random_image):
    x = random_image((1, 4, 3, 3))
    for name in ("cuda", "triton"):
        reason = choice.why_not(name, "simple_gate", (x,))
        assert reason is not None
        with ops.backend(name), pytest.raises(RuntimeError, match=r"but .*; leave it unset"):
            ops.simple_gate(x)
    with pytest.raises(ValueError, match="no backend 'fastest'"), ops.backend("fastest"):
        pass


def test_triton_refuses_a_tensor_on_another_than_the_current_gpu(monkeypatch):
    """With a stand-in for the tensor: Triton would launch where the pointer means nothing."""
    pytest.importorskip("triton", reason="triton exists for Linux only")
    monkeypatch.setattr(choice, "why_no_triton", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    triton = choice._triton()
    here, there = (types.SimpleNamespace(device=torch.device("cuda", number), dtype=torch.float32) for number in (1, 0))
    for op in triton.functions:
        message = f"Triton launches on the current GPU, which is cuda:1, and {op} was given a tensor on cuda:0"
        assert message in triton.why_not(op, (there,))
    assert triton.why_not("simple_gate", (here,)) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [("reference", "depthsr.ops.reference"), ("fastest", "DEPTHSR_BACKEND is 'fastest'; set it to one of auto")],
)
def test_the_environment_variable(value, expected, tmp_path):
    code = "import torch; from depthsr.ops import choice; print(choice.choose('simple_gate', torch.ones(1)).__module__)"
    environment = os.environ | {"DEPTHSR_BACKEND": value}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert expected in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: ops.layer_norm_2d(x[0], torch.ones(3), torch.zeros(3)), r"B×C×H×W, but has shape \(3, 4, 5\)"),
        (lambda x: ops.layer_norm_2d(x, torch.ones(4), torch.zeros(3)), "weight must have 3 values"),
        (lambda x: ops.layer_norm_2d(x, torch.ones(3), torch.zeros(1)), "bias must have 3 values"),
        (lambda x: ops.simple_gate(x), "even number of channels, but has 3"),
        (lambda x: ops.simple_gate(x.int()), r"floating-point type, but is torch\.int32"),
        (lambda x: ops.adain(x, x[:, :2]), "same batch and channels"),
        (lambda x: ops.adain_statistics(x, x[:, :2]), "same batch and channels"),
        (lambda x: ops.adain_fusion(x, x[:, :2], x, x), "same batch and channels"),
        (lambda x: ops.adain_fusion(x, x[:, :, 1:], x, x), "same height and width"),
        (lambda x: ops.adain_fusion(x, x, x, x[0, :, 0, 0]), r"weight must have shape \(\d, \d, 1, 1\)"),
        (lambda x: ops.gated_depthwise(x, x, x), "even number of channels, but has 3"),
        (lambda x: ops.gated_depthwise(x[:, :2], x, x), r"weight must have shape \(2, 1, 3, 3\) for 2 channels"),
        (lambda x: ops.sobel_l1_loss(x, x), "pred must have one channel"),
        (lambda x: ops.sobel_l1_loss(x[:, :1], x[:, :1, 1:]), "target must have pred's shape"),
        (lambda x: ops.sobel_l1_loss(x[:, :1], x[:, :1], x[:, 1:2]), "valid must be bool"),
        (lambda x: ops.sobel_l1_loss(x[:, :1], x[:, :1], x[:1, :1] > 0), "valid must have pred's shape"),
    ],
)
def test_wrong_arguments_are_named(call, message, random_image):
    for name in ("auto", "reference"):
        with ops.backend(name), pytest.raises(ValueError, match=message):
            call(random_image((2, 3, 4, 5)))


def test_mixed_types_of_content_and_style(random_image, close):
    content, style = random_image((1, 3, 5, 5), torch.bfloat16), random_image((1, 3, 4, 4), seed=1)
    out = ops.adain(content, style)
    assert out.dtype == torch.bfloat16
    close(out, reference.adain(content.double(), style.double()))


def test_public_functions_carry_the_specification():
    for op in choice.OPS:
        assert getattr(ops, op).__doc__.startswith(getattr(reference, op).__doc__)
