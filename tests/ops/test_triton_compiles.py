"""The Triton kernels compile for GPUs that are not here, exactly as the package would launch them.

The package's own launch code runs on meta tensors, with a launcher that records instead of launching: kernels, types
and block sizes are then those of a real call.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

triton = pytest.importorskip("triton", reason="triton exists for Linux only")

_TYPES = {
    torch.bool: "*i1",
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int32: "*i32",
}
_OPTIONS = ("num_warps", "num_stages")


@dataclass(frozen=True)
class Launch:
    """One kernel with the types of its arguments: what Triton compiles once."""

    kernel: object  # triton.JITFunction
    signature: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, object], ...]
    options: tuple[tuple[str, int], ...]

    @property
    def name(self) -> str:
        return f"{self.kernel.fn.__module__.rsplit('.', 1)[-1]}.{self.kernel.fn.__name__}"


@dataclass(frozen=True)
class Resources:
    """registers and spilled_bytes a thread, shared_bytes a program."""

    registers: int
    spilled_bytes: int
    shared_bytes: int


def _launch(kernel, arguments, keywords) -> Launch:
    signature = {}
    for name, value in zip(kernel.arg_names, arguments, strict=False):
        signature[name] = _TYPES[value.dtype] if isinstance(value, Tensor) else {int: "i32", float: "fp32"}[type(value)]
    constants = {name: value for name, value in keywords.items() if name not in _OPTIONS}
    signature |= dict.fromkeys(constants, "constexpr")
    options = {name: value for name, value in keywords.items() if name in _OPTIONS}
    return Launch(kernel, tuple(signature.items()), tuple(constants.items()), tuple(options.items()))


def launches_of(monkeypatch: pytest.MonkeyPatch, call: Callable[[], object]) -> list[Launch]:
    """Every launch of `call`, once, in order."""
    recorded: dict[Launch, None] = {}

    class Recorder:
        def __init__(self, kernel) -> None:
            self.kernel = kernel

        def __getitem__(self, grid):
            return lambda *arguments, **keywords: recorded.setdefault(_launch(self.kernel, arguments, keywords))

    with monkeypatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("depthsr.kernels.") and hasattr(module, "launcher"):
                patch.setattr(module, "launcher", Recorder)
        call()
    return list(recorded)


@functools.cache
def _compile(launch: Launch, architecture: int) -> tuple[str, int]:
    """(PTX, bytes of shared memory). Pointers are taken to be aligned to 16 bytes, as torch's are."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    aligned = {
        (index,): [["tt.divisibility", 16]] for index, (_, kind) in enumerate(launch.signature) if kind.startswith("*")
    }
    source = ASTSource(launch.kernel, dict(launch.signature), dict(launch.constants), aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=dict(launch.options))
    return compiled.asm["ptx"], compiled.metadata.shared


def resources_of(launch: Launch, architecture: int) -> Resources:
    """What the kernel's binary for this architecture, 86 for sm_86, takes.

    Triton compiles once for sm_86 and once for sm_90, whose matrix instructions differ; its code for sm_86 is what
    ptxas assembles for sm_87 and sm_89.
    """
    from triton.backends.nvidia.compiler import get_ptxas

    ptx, shared_bytes = _compile(launch, 90 if architecture >= 90 else 86)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(ptx, encoding="utf-8")
        report = subprocess.run(
            [get_ptxas(architecture).path, "-v", f"--gpu-name=sm_{architecture}{'a' if architecture >= 90 else ''}",
             str(path), "-o", str(path.with_suffix(".cubin"))],
            capture_output=True, text=True, check=True,
        ).stderr  # fmt: skip
    registers = re.search(r"Used (\d+) registers", report).group(1)
    spilled = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores", report).groups()
    return Resources(int(registers), max(map(int, spilled)), shared_bytes)


def calls_of_every_kernel(channels: int, dtype: torch.dtype) -> list[Callable[[], object]]:
    """Forward and backward of all kernels, on meta tensors."""
    from depthsr.kernels import (
        adain,
        bilateral_sum,
        feed_forward,
        fill_holes,
        fit_lines,
        fold_naf_block,
        joint_bilateral_upsample,
        layer_norm_2d,
        mix_candidates,
        naf_block,
        scaled_conv1x1,
        simple_gate,
        surrounding_measurements,
    )
    from depthsr.kernels.parameters import NAFBlockParameters
    from depthsr.ops.reference import NAFBlockWeights

    def image(count: int) -> Tensor:
        return torch.empty((2, count, 64, 64), dtype=dtype, device="meta").to(memory_format=torch.channels_last)

    def vector(*shape: int) -> Tensor:
        return torch.empty(shape, device="meta")

    c, x = channels, image(channels)
    p = NAFBlockParameters(
        vector(2 * c, c).to(dtype), vector(2 * c), vector(9, 2 * c), vector(2 * c), vector(c, c), vector(c),
        vector(c, c).to(dtype), vector(c), vector(2 * c, c).to(dtype), vector(2 * c), vector(c, c).to(dtype), vector(c),
    )  # fmt: skip
    frame = vector(2, c)
    map_of_8, valid_of_8 = vector(2, 1, 8, 8).to(dtype), vector(2, 1, 8, 8).bool()
    weights = [vector(*shape).to(dtype) for shape in NAFBlockWeights.shapes(c)]
    return [
        lambda: naf_block.naf_block(x, p, 1e-6),
        lambda: naf_block.naf_block_backward(x, x, x, frame, p, 1e-6),
        lambda: feed_forward.feed_forward(x, p.expand, p.expand_bias, p.project, p.project_bias, 1e-6),
        lambda: scaled_conv1x1.scaled_conv1x1(x, x, frame, p.conv3, p.conv3_bias, frame, frame),
        lambda: scaled_conv1x1.scaled_conv1x1_backward(x, x, frame, p.conv3, frame, frame),
        lambda: layer_norm_2d.layer_norm_2d(x, vector(c), vector(c), 1e-6),
        lambda: layer_norm_2d.layer_norm_2d_backward(x, x, vector(c), 1e-6),
        lambda: simple_gate.simple_gate(image(2 * c)),
        lambda: simple_gate.simple_gate_backward(x, image(2 * c)),
        lambda: adain.adain(x, x, 1e-5, 0),
        lambda: adain.adain_backward(x, x, x, 1e-5, 0),
        lambda: fold_naf_block.fold_naf_block(weights, dtype),
        lambda: fill_holes.fill_holes(map_of_8, valid_of_8),
        lambda: surrounding_measurements.surrounding_measurements(map_of_8, valid_of_8, (64, 64), (1, 1), 256),
        lambda: surrounding_measurements.surrounding_measurements(map_of_8, valid_of_8, (8, 8), (4, 4), 256),
        lambda: fit_lines.fit_lines(*[vector(2, 1, 60, 80)] * 3, vector(2, 1, 60, 80).bool(), 15, 4, 0.05, 0.02, 1e-6),
        lambda: mix_candidates.mix_candidates(
            image(48), image(4), image(4), vector(2, 12, 127, 128), vector(2, 1, 127, 128), 2.0
        ),
        lambda: bilateral_sum.bilateral_sum(vector(2, 2, 63, 64), image(3), 4, 2.5, 0.04, 1e-4),
        lambda: joint_bilateral_upsample.joint_bilateral_upsample(
            map_of_8, map_of_8.float(), image(3), vector(2, 3, 8, 8).to(dtype), 3, 1.2, 0.1, 1e-4
        ),
    ]


def kernel_names() -> set[str]:
    """Every kernel that a file of kernels/ launches: named _forward or _backward... by the package's convention."""
    sources = Path(__file__).parents[2].joinpath("kernels").glob("*.py")
    return {
        f"{source.stem}.{name}"
        for source in sources
        for name in re.findall(r"^def (_(?:forward|backward)\w*)\(", source.read_text(encoding="utf-8"), re.MULTILINE)
    }


#: Shared memory a program may have: 99 KiB of 100 on sm_86 and sm_89, 163 on sm_80 and sm_87, 227 on sm_90.
SHARED_BYTES = 99 * 1024

#: Every kernel on every architecture at one width, and at a wider one, where registers are short, on the tightest.
#: All of the block table would take minutes.
COMPILED = [(architecture, 32, torch.float16) for architecture in (86, 87, 89, 90)] + [(86, 128, torch.bfloat16)]


@pytest.mark.parametrize(("architecture", "channels", "dtype"), COMPILED, ids=str)
def test_compiles_for_gpus(architecture, channels, dtype, monkeypatch):
    """To a binary without a spilled register, within the shared memory of the smallest of these GPUs."""
    launches = [launch for call in calls_of_every_kernel(channels, dtype) for launch in launches_of(monkeypatch, call)]
    assert {launch.name for launch in launches} == kernel_names()
    for launch in launches:
        resources = resources_of(launch, architecture)
        assert resources.spilled_bytes == 0, f"{launch} spills: {resources}"
        assert resources.shared_bytes <= SHARED_BYTES, f"{launch}: {resources}"


#: Kernels that walk images by strides, or rows of several pixels a thread: their loads are wide only where sizes are
#: known to be multiples.
KNOW_THEIR_SIZES = {"adain", "layer_norm_2d", "simple_gate", "fit_lines"}


def test_a_new_frame_size_compiles_no_new_kernel(monkeypatch):
    """Else Triton compiles for sizes that 16 divides, for others, and for 1."""
    seen = set()
    for call in calls_of_every_kernel(32, torch.float16):
        for launch in launches_of(monkeypatch, call):
            if launch.name.split(".")[0] in KNOW_THEIR_SIZES:
                continue
            types = dict(launch.signature)
            for parameter in launch.kernel.params:
                if types[parameter.name] == "i32" and parameter.name != "pixel_stride":  # 1 or 3
                    assert parameter.do_not_specialize, f"{launch.name}: {parameter.name}"
                    seen.add(launch.name)
    assert seen == {
        name
        for name in kernel_names() - {"fold_naf_block._forward"}  # knows no frame
        if name.split(".")[0] not in KNOW_THEIR_SIZES
    }


def test_launchers_call_nothing_that_inductor_spoils(monkeypatch):
    """torch 2.11's cannot reinterpret a bool, and writes NaN into an empty tensor of a memory_format before a kernel
    overwrites it.
    """
    called = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            called.append((op, (kwargs or {}).get("memory_format")))
            return op(*args, **kwargs or {})

    for call in calls_of_every_kernel(32, torch.float16):
        with Recorder():
            launches_of(monkeypatch, call)
    assert (torch.ops.aten.empty.memory_format, None) in called
    assert (torch.ops.aten.empty.memory_format, torch.channels_last) not in called
    assert torch.ops.aten.view.dtype not in {op for op, _ in called}


def test_torch_knows_the_kernels_that_its_cache_of_compiled_graphs_depends_on():
    import depthsr.ops.triton_ops  # noqa: F401  registers them

    known = torch._library.triton.triton_ops_to_kernels
    ops = [op for op in known if op.startswith("depthsr::")]
    assert "depthsr::simple_gate_triton" in ops
    for op in ops:
        kernels = {f"{kernel.fn.__module__.rsplit('.', 1)[-1]}.{kernel.fn.__name__}" for kernel in known[op]}
        assert kernels == kernel_names()


SIZES = {2: torch.export.Dim("height", min=4), 3: torch.export.Dim("width", min=4)}


def ops_of_exported(module: torch.nn.Module, images: tuple[Tensor, ...]) -> list[str]:
    """The package's ops in the graph of a module of images of any size."""
    program = torch.export.export(module, images, dynamic_shapes=(SIZES,) * len(images), strict=False)
    return [str(node.target) for node in program.graph.nodes if "depthsr" in str(node.target)]


def assert_like_the_real_ones(compute: Callable[..., Tensor], tensors: tuple[Tensor, ...]) -> None:
    """Traced without a GPU, the result has the first tensor's type and size, channels_last, and gradients their own."""
    from torch._subclasses import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    leaves = [mode.from_tensor(tensor).requires_grad_() for tensor in tensors]
    with mode:
        out = compute(*leaves)
        gradients = torch.autograd.grad(out, leaves, out)
    assert (out.shape, out.dtype) == (leaves[0].shape, leaves[0].dtype)
    assert out.is_contiguous(memory_format=torch.channels_last)
    for gradient, leaf in zip(gradients, leaves, strict=True):
        assert (gradient.shape, gradient.dtype) == (leaf.shape, leaf.dtype)


def test_a_block_traces_for_any_size_without_a_gpu(block_weights):
    """One op for torch.compile and export, whose result and gradients have the types and layouts of the real ones."""
    from depthsr.ops import triton_ops
    from depthsr.ops.reference import NAFBlockWeights

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = torch.nn.ParameterList(block_weights(24))

        def forward(self, x):
            return triton_ops.naf_block(x, NAFBlockWeights(*self.weights))

    block = Block()
    x = torch.ones(2, 24, 20, 30, dtype=torch.float16)
    assert ops_of_exported(block, (x,)) == ["depthsr.naf_block_triton.default"]
    assert_like_the_real_ones(
        lambda x, *weights: triton_ops.naf_block(x, NAFBlockWeights(*weights)), (x, *block.weights)
    )


def test_adain_traces_for_any_size_without_a_gpu():
    from depthsr.ops import triton_ops

    class AdaIN(torch.nn.Module):
        def forward(self, x, style):
            return triton_ops.adain(x, style)

    x = torch.ones(2, 24, 20, 30, dtype=torch.float16).contiguous(memory_format=torch.channels_last)
    assert ops_of_exported(AdaIN(), (x, x.clone())) == ["depthsr.adain_triton.default"]
    assert_like_the_real_ones(triton_ops.adain, (x, torch.ones(2, 24, 7, 5, dtype=torch.float16)))


def test_adain_fusion_traces_for_any_size_without_a_gpu():
    """Two ops and nothing between them; the second keeps its inputs' layout."""
    from depthsr.ops import triton_ops

    class Fusion(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = torch.nn.Conv2d(24, 24, 1)

        def forward(self, content, style):
            return triton_ops.adain_fusion(content, style, self.project.weight, self.project.bias)

    fusion = Fusion()
    x = torch.ones(2, 24, 20, 30, dtype=torch.float16).contiguous(memory_format=torch.channels_last)
    assert ops_of_exported(fusion, (x, x.clone())) == [
        "depthsr.adain_ratio_triton.default",
        "depthsr.scaled_conv1x1_triton.default",
    ]
    assert_like_the_real_ones(triton_ops.adain_fusion, (x, x.clone(), *fusion.parameters()))
