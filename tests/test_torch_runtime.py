"""What the torch runtime does on the device: that the host need not wait for it, and its numbers.

On the CPU, with tensors without values. Its order on CUDA is in tests/test_cuda_pipeline.py, what needs a GPU in
tests/test_cuda_runtime.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from depthsr.inputs import check_rgb
from depthsr.models import prior
from depthsr.models.network import DepthSR
from depthsr.torch_runtime import restore_on_device
from depthsr.wide_holes import Level

pytestmark = pytest.mark.usefixtures("one_thread")


def batch(size=(24, 32), low=(6, 8), count=2, seed=0) -> list[Tensor]:
    """uint8 RGB, metres with NaN, steps, ranges and relative depth: the arguments of `restore_on_device`."""
    generator = torch.Generator().manual_seed(seed)
    rgb = torch.randint(0, 256, (count, *size, 3), dtype=torch.uint8, generator=generator)
    depth_m = 1 + 2 * torch.rand((count, *low), generator=generator)
    depth_m[:, 0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    step_m = torch.tensor([0.0, 0.25, 0.02])[:count]
    range_m = torch.tensor([2.5, 0.0, 9.0])[:count]
    return [rgb, depth_m, step_m, range_m, torch.rand((count, *size), generator=generator)]


def filling(low=(6, 8), half=(12, 16), count=2) -> list[Tensor]:
    """Where wide holes are, the number of each frame's half, and three halves' depth: what fills them."""
    generator = torch.Generator().manual_seed(0)
    deep = torch.rand((count, *low), generator=generator) < 0.5
    return [deep, torch.tensor([2, 0, 1, 2])[:count], 1 + 2 * torch.rand((3, 1, *half), generator=generator)]


# --- the host does not wait ------------------------------------------------------------------------------------------


class HostWaits(Exception):
    pass


class OneDevice(TorchDispatchMode):
    """Raises where an operation has tensors of two devices, as a copy from one to the other has."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        devices = {leaf.device.type for leaf in tree_leaves((args, results)) if isinstance(leaf, Tensor)}
        if len(devices) > 1:
            raise HostWaits(f"{func.name()} between {devices}")
        return results


@pytest.fixture
def restore_without_data(monkeypatch) -> Callable[..., tuple[Tensor, ...]]:
    """restore_on_device(model, *inputs) on the device "meta", whose tensors have sizes and no values.

    So whatever asks for a value, or for a number of elements that depends on values, raises; and so do copies, also of
    Python's numbers.
    """

    def copies_numbers(*_: object, **__: object) -> Tensor:
        raise HostWaits("numbers are copied to the device")

    # There is no autocast for it. In float32 it is switched off anyway.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)

    def run(model: DepthSR, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        model.to("meta")
        there = [None if tensor is None else tensor.to("meta") for tensor in inputs]
        with OneDevice(), monkeypatch.context() as patched:
            patched.setattr(torch, "tensor", copies_numbers)
            patched.setattr(torch, "as_tensor", copies_numbers)
            return restore_on_device(model, *there)

    return run


@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("name", ["edge", "base", "base with relative depth"])
def test_nothing_between_upload_and_download_needs_the_host(name, filled, request, restore_without_data):
    model = request.getfixturevalue("tiny_edge" if name == "edge" else "tiny_base")
    *inputs, relative = batch()
    inputs.append(relative if "with" in name else None)
    results = restore_without_data(model, *inputs, *(filling() if filled else ()))
    for result in results:
        assert (result.device.type, result.shape, result.dtype) == ("meta", (2, 1, 24, 32), torch.float32)


def _valid_alone(depth_m_B1hw: Tensor, valid_B1hw: Tensor) -> Tensor:
    return depth_m_B1hw[valid_B1hw].amax().expand(len(depth_m_B1hw))


def _by_item(depth_m_B1hw: Tensor, valid_B1hw: Tensor) -> Tensor:
    return depth_m_B1hw.new_full((len(depth_m_B1hw),), depth_m_B1hw[0, 0, 3, 3].item())


def _by_the_cpu(depth_m_B1hw: Tensor, valid_B1hw: Tensor) -> Tensor:
    return depth_m_B1hw[:, 0, 3, 3].cpu().to(depth_m_B1hw.device)


def _from_the_host(depth_m_B1hw: Tensor, valid_B1hw: Tensor) -> Tensor:
    return torch.full((2,), 3.0, device="cpu").to(depth_m_B1hw.device)


def _of_numbers(depth_m_B1hw: Tensor, valid_B1hw: Tensor) -> Tensor:
    return torch.tensor([3.0, 4.0], device=depth_m_B1hw.device)


@pytest.mark.parametrize("waits", [_valid_alone, _by_item, _by_the_cpu, _from_the_host, _of_numbers])
def test_the_test_above_can_fail(waits, tiny_edge, restore_without_data, monkeypatch):
    """Five ways of finding the range of depths that wait for the device; on the CPU all of them work."""
    monkeypatch.setattr(prior, "depth_range_m", waits)
    inputs = batch()[:4]
    assert all(result.isfinite().all() for result in restore_on_device(tiny_edge, *inputs))
    with pytest.raises((HostWaits, RuntimeError), match=r"between|meta|numbers"):
        restore_without_data(tiny_edge, *inputs)


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_rgb_is_divided_on_the_device_as_by_check_rgb():
    every_value = np.arange(256 * 3, dtype=np.uint32).astype(np.uint8).reshape(16, 16, 3)

    class Sees:
        def infer(self, rgb_B3HW, *rest, **settings):
            return rgb_B3HW

    seen = restore_on_device(Sees(), torch.from_numpy(every_value)[None], *batch(count=1)[1:4])
    np.testing.assert_array_equal(seen[0].permute(1, 2, 0).numpy(), check_rgb(every_value))


def test_each_frame_of_a_batch_has_its_own_step_and_range(tiny_edge):
    """As numbers they give the same, frame by frame; another frame's would not."""
    rgb, depth_m, steps_m, ranges_m, _ = batch(count=3)
    together, errors = restore_on_device(tiny_edge, rgb, depth_m, steps_m, ranges_m)
    valid = torch.isfinite(depth_m)[:, None]
    infer = partial(tiny_edge.infer, rgb.permute(0, 3, 1, 2).float() / 255, depth_m[:, None], valid)
    for i in range(3):
        settings = {"quantisation_step_m": steps_m[i].item(), "max_depth_m": ranges_m[i].item() or None}
        alone, error = infer(**settings)
        torch.testing.assert_close(together[i], alone[i], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(errors[i], error[i], rtol=1e-5, atol=1e-6)
        assert (together[i - 1] - alone[i - 1]).abs().max() > 1e-3
    assert together[0].max() <= 2.5 < together[1:].max()


@pytest.mark.parametrize(("low", "half"), [((6, 8), (11, 15)), ((7, 5), (13, 9)), ((24, 32), (7, 9))])
def test_wide_holes_are_filled_by_each_frames_half(low, half):
    """As depthsr.wide_holes fills them on the host. Halves of odd sides: of two pixels that are equally near, torch and
    releases of OpenCV take either."""

    class Sees:
        def infer(self, *_, filling_m_B1hw, **settings):
            return filling_m_B1hw, None

    deep, number, halves_m = filling(low, half, count=3)
    filling_m, _ = restore_on_device(Sees(), *batch(low=low, count=3)[:4], None, deep, number, halves_m)
    level = Level([None] * 3, list(deep.numpy()), number.tolist())
    expected_m = level.fillings_m(halves_m[:, 0].numpy())
    np.testing.assert_array_equal(filling_m[:, 0].numpy(), expected_m)
    assert (filling_m.isfinite() == deep[:, None]).all()


@pytest.mark.parametrize("missing", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
def test_a_part_of_what_fills_wide_holes_is_a_mistake(missing, tiny_edge):
    given = [None if number in missing else tensor for number, tensor in enumerate(filling())]
    with pytest.raises(TypeError, match="all of them or none"):
        restore_on_device(tiny_edge, *batch()[:4], None, *given)


def test_a_number_and_a_tensor_of_it_are_the_same(tiny_edge):
    rgb, depth_m, *_ = batch()
    valid = torch.isfinite(depth_m)[:, None]
    infer = partial(tiny_edge.infer, rgb.permute(0, 3, 1, 2).float() / 255, depth_m[:, None], valid)
    for step_m, range_m in ((0.0, None), (0.25, 2.5)):
        numbers = infer(quantisation_step_m=step_m, max_depth_m=range_m)
        tensors = infer(quantisation_step_m=torch.full((2,), step_m), max_depth_m=torch.full((2,), range_m or 0.0))
        for one, other in zip(numbers, tensors, strict=True):
            assert torch.equal(one, other)


# --- Depth Anything --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_depth_anything_attends_by_sdpa_in_the_type_of_its_weights(tiny_base, dtype, monkeypatch):
    """Its norms too, which autocast would compute in float32."""
    attend = torch.nn.functional.scaled_dot_product_attention
    attended, normed = [], []

    def spy(query, *rest, **settings):
        attended.append(query.dtype)
        return attend(query, *rest, **settings)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    tiny_base.to(dtype)
    for module in tiny_base.depth_anything.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.register_forward_hook(lambda module, inputs, output: normed.append(output.dtype))
    restore_on_device(tiny_base, *batch()[:4])
    assert attended == [dtype] * tiny_base.config.depth_anything.layers
    assert len(normed) > len(attended)
    assert set(normed) == {dtype}


def test_depth_anything_trains_in_autocast(tiny_base):
    """Weights in float32: their layers compute in what the trainer asks for."""
    seen = []
    projection = tiny_base.depth_anything.network.backbone.embeddings.patch_embeddings.projection
    projection.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tiny_base.depth_anything(torch.rand(1, 3, 24, 32))
    assert seen == [torch.bfloat16]
