"""What can be known of the Triton kernels without a GPU: right in the interpreter, and they compile for GPUs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton exists for Linux only")


def test_right_in_the_interpreter():
    suite = Path(__file__).with_name("interpreted_triton.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(suite)],
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONSAFEPATH": "1"},
        cwd=suite.parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d{2,} passed", done.stdout, re.MULTILINE), done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.parametrize("architecture", [80, 86, 89, 90])
def test_compiles_for_gpus(architecture):
    """To a binary that keeps within 48 KiB of shared memory, which every GPU gives a block without being asked."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from depthsr.kernels import layer_norm_2d, simple_gate

    norm = {"pixels": "i32", "channels": "i32", "stride_b": "i32", "stride_p": "i32", "stride_c": "i32", "eps": "fp32"}
    gate = {"elements": "i32", "inner": "i32"}
    blocks = {"BLOCK_P": 32, "BLOCK_C": 128}
    for kernel, pointers, scalars, constants in (
        (layer_norm_2d._forward, {"x_ptr": "*fp16", "weight_ptr": "*fp32", "bias_ptr": "*fp32", "out_ptr": "*fp16"},
         norm, blocks),
        (layer_norm_2d._backward, {"grad_ptr": "*fp16", "x_ptr": "*fp16", "weight_ptr": "*fp32", "grad_x_ptr": "*fp16",
                                   "partial_ptr": "*fp32"}, norm, blocks),
        (simple_gate._forward, {"x_ptr": "*fp16", "out_ptr": "*fp16"}, gate, {"BLOCK": 1024}),
        (simple_gate._backward, {"grad_ptr": "*fp16", "x_ptr": "*fp16", "grad_x_ptr": "*fp16"}, gate, {"BLOCK": 1024}),
    ):  # fmt: skip
        signature = pointers | scalars | dict.fromkeys(constants, "constexpr")
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32))
        assert compiled.asm["cubin"].startswith(b"\x7fELF")
        assert compiled.metadata.shared <= 48 * 1024
