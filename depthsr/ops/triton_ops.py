"""The Triton kernels as torch.ops.depthsr.*_triton.

`triton_op` lets torch.compile see the kernels inside: they are scheduled and their memory planned with the rest of the
graph, which an opaque custom op would prevent.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor
from torch.library import triton_op

from depthsr.kernels import layer_norm_2d as layer_norm_2d_kernels
from depthsr.kernels import simple_gate as simple_gate_kernels
from depthsr.ops import registration
from depthsr.ops.registration import layout_of


@triton_op("depthsr::layer_norm_2d_triton", mutates_args={})
def layer_norm_2d(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-6) -> Tensor:
    return layer_norm_2d_kernels.layer_norm_2d(
        x.contiguous(memory_format=layout_of(x)), weight.contiguous(), bias.contiguous(), eps
    )


@triton_op("depthsr::layer_norm_2d_triton_backward", mutates_args={})
def _layer_norm_2d_backward(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    layout = layout_of(x)
    return layer_norm_2d_kernels.layer_norm_2d_backward(
        grad.contiguous(memory_format=layout), x.contiguous(memory_format=layout), weight.contiguous(), eps
    )


layer_norm_2d.register_autograd(
    partial(registration.layer_norm_2d_gradient, _layer_norm_2d_backward),
    setup_context=registration.layer_norm_2d_setup,
)


@triton_op("depthsr::simple_gate_triton", mutates_args={})
def simple_gate(x: Tensor) -> Tensor:
    return simple_gate_kernels.simple_gate(x.contiguous(memory_format=layout_of(x)))


@triton_op("depthsr::simple_gate_triton_backward", mutates_args={})
def _simple_gate_backward(grad: Tensor, x: Tensor) -> Tensor:
    layout = layout_of(x)
    return simple_gate_kernels.simple_gate_backward(
        grad.contiguous(memory_format=layout), x.contiguous(memory_format=layout)
    )


simple_gate.register_autograd(
    partial(registration.simple_gate_gradient, _simple_gate_backward), setup_context=registration.simple_gate_setup
)
