"""The torch runtime on a GPU: no waiting, graphs, streams, half precision; and DepthSR compiled, checkpointed, in DDP.

bench/gpu_check.sh runs this. No GPU has so far.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from depthsr.config import EDGE
from depthsr.cuda_pipeline import CudaPipeline
from depthsr.infer import Predictor, load
from depthsr.inputs import check_rgb
from depthsr.models.network import DepthSR
from depthsr.models.prior import Prior, make_prior
from depthsr.ops import choice
from depthsr.precision import Precision
from depthsr.torch_runtime import NetworkRestorer, restore_on_device
from depthsr.types import UserError

pytestmark = pytest.mark.gpu

#: The least that has every part of the network: compiling takes seconds, not minutes.
LEAST = dataclasses.replace(
    EDGE,
    name="least",
    widths=(8, 8, 8, 16),
    relative_blocks=(1, 0, 0, 0),
    depth_blocks=(0, 1, 0, 0),
    middle_blocks=0,
    decoder_blocks=(0, 0, 1),
)

SIZES = [((64, 96), (16, 12)), ((63, 65), (63, 65)), ((120, 160), (15, 20))]


def frame(size=(64, 96), low=(16, 12), seed=0) -> tuple[np.ndarray, np.ndarray]:
    """Random RGB over a random plane with holes."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[: low[0], : low[1]].astype(np.float32)
    depth_m = 2 + rows * random.uniform(0.01, 0.1) + columns * random.uniform(0.01, 0.1)
    depth_m[random.random(low) < 0.1] = np.nan
    return random.integers(0, 256, (*size, 3), np.uint8), depth_m.astype(np.float32)


def predictor_of(model: DepthSR, dtype=torch.float32, device="cuda") -> Predictor:
    model = model.to(torch.device(device), dtype).to(memory_format=torch.channels_last)
    return Predictor(model.config.name, NetworkRestorer(model, torch.device(device), Precision(dtype, dtype)))


@pytest.fixture
def gpu_ops(monkeypatch) -> None:
    """`auto` chooses the cuda and triton kernels wherever they can run; the first of them has to."""
    kernels = []
    for implementation in choice.IMPLEMENTATIONS:
        if implementation.device == "cuda":
            if implementation.broken:
                pytest.skip(implementation.broken)
            implementation = dataclasses.replace(implementation, by_default=True)
        kernels.append(implementation)
    monkeypatch.setattr(choice, "IMPLEMENTATIONS", tuple(kernels))


@pytest.fixture
def deterministic_cudnn(monkeypatch) -> None:
    """Two runs of a network give the same gradients: by default cuDNN may add those of weights in any order."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


@pytest.fixture(params=["auto", "kernels"])
def chosen_ops(request) -> None:
    """As shipped, and with the GPU's kernels, which `auto` does not choose yet."""
    if request.param == "kernels":
        request.getfixturevalue("gpu_ops")


@pytest.fixture(params=["edge", "base"])
def model(request, chosen_ops) -> DepthSR:
    return request.getfixturevalue(f"tiny_{request.param}")


@contextlib.contextmanager
def no_waiting():
    """Within, torch raises where it would make the host wait for the device."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def on_device(rgb, depth_m, step_m=0.0, range_m=0.0) -> list[Tensor]:
    arrays = (rgb[None], depth_m[None], np.float32([step_m]), np.float32([range_m]))
    return [torch.from_numpy(array).cuda() for array in arrays]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_host_waits_for_nothing_but_results(model, dtype):
    """With and without a graph, from checked input to finished prediction."""
    predictor = predictor_of(model, dtype)
    for number in range(2):  # loads libraries, then captures
        predictor(*frame(seed=number))
    with no_waiting():
        restore_on_device(model, *on_device_without_waiting(*frame()))
        for number in range(3):
            predictor(*frame(seed=number))


def on_device_without_waiting(rgb, depth_m) -> list[Tensor]:
    arrays = (rgb[None], depth_m[None], np.zeros(1, np.float32), np.zeros(1, np.float32))
    return [torch.from_numpy(array).pin_memory().to("cuda", non_blocking=True) for array in arrays]


def test_waiting_would_be_noticed():
    with no_waiting(), pytest.raises(RuntimeError, match="synchroniz"):
        torch.ones(1, device="cuda").item()


def test_rgb_is_divided_on_the_gpu_as_by_check_rgb():
    every_value = np.arange(256 * 3, dtype=np.uint32).astype(np.uint8).reshape(16, 16, 3)

    class Sees:
        def infer(self, rgb_B3HW, *rest, **settings):
            return rgb_B3HW

    seen = restore_on_device(Sees(), *on_device(every_value, np.ones((2, 2), np.float32)))
    np.testing.assert_array_equal(seen[0].permute(1, 2, 0).cpu().numpy(), check_rgb(every_value))


def test_a_graph_gives_what_eager_gives_bit_by_bit(model):
    """Sizes in turns, each with settings that change from frame to frame: one graph serves them all."""
    predictor = predictor_of(model)
    for turn in range(4):  # eager, captured, replayed
        for number, (size, low) in enumerate(SIZES):
            one = frame(size, low, seed=10 * turn + number)
            step_m, range_m = 0.05 * turn, 2.5 if turn % 2 else None
            result = predictor(*one, quantisation_step_m=step_m, max_depth_m=range_m)
            depth_m, error_m = restore_on_device(model, *on_device(*one, step_m, range_m or 0.0))
            # The Predictor's floor: no result is below half the nearest measurement, less a step.
            floor_m = np.float32(max(0.5 * np.nanmin(one[1]) - step_m, 0.001 * np.nanmin(one[1])))
            np.testing.assert_array_equal(result.depth_m, np.maximum(depth_m[0, 0].cpu().numpy(), floor_m))
            np.testing.assert_array_equal(result.error_m, error_m[0, 0].cpu().numpy())


def test_changed_weights_are_seen_by_graphs(tiny_edge):
    predictor, one = predictor_of(tiny_edge), frame()
    before = [predictor(*one).depth_m for _ in range(3)][-1]
    with torch.no_grad():
        for parameter in tiny_edge.parameters():
            parameter.add_(0.01)
    after = predictor(*one).depth_m
    np.testing.assert_array_equal(after, predictor_of(tiny_edge)(*one).depth_m)
    assert np.abs(after - before).max() > 1e-3


def test_the_gpu_gives_what_the_cpu_gives(model, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    one = frame()
    expected = predictor_of(model, device="cpu")(*one, quantisation_step_m=0.05)
    result = predictor_of(model)(*one, quantisation_step_m=0.05)
    np.testing.assert_allclose(result.depth_m, expected.depth_m, rtol=1e-3)
    np.testing.assert_array_equal(result.valid, expected.valid)


def test_wide_holes_are_filled_as_on_the_cpu(model, monkeypatch):
    """With and without graphs, beside a frame that has none."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    frames = [frame((120, 160), (60, 80), seed=number) for number in range(2)]
    frames[1][1][10:40, 20:50] = np.nan
    expected = predictor_of(copy.deepcopy(model), device="cpu").batch(frames)
    predictor = predictor_of(model)
    for _ in range(3):
        for restored in (predictor.batch(frames), list(predictor.stream(frames))):
            for one, other in zip(restored, expected, strict=True):
                np.testing.assert_allclose(one.depth_m, other.depth_m, rtol=1e-3)


@pytest.mark.parametrize("how", ["batch", "stream"])
def test_batch_and_stream_give_single_calls_in_order(model, how):
    predictor = predictor_of(model)
    frames = [frame(*SIZES[number % 3], seed=number) for number in range(14)]
    for _ in range(3):  # graphs are captured on the way
        for prediction, one in zip(getattr(predictor, how)(frames), frames, strict=True):
            alone = predictor(*one)
            np.testing.assert_allclose(prediction.depth_m, alone.depth_m, rtol=1e-3)
            np.testing.assert_allclose(prediction.error_m, alone.error_m, rtol=1e-2, atol=1e-4)


def test_a_stream_from_one_pair_of_arrays(tiny_edge):
    """That the camera overwrites; and results that are kept are not overwritten."""
    predictor = predictor_of(tiny_edge)
    frames = [frame(seed=number) for number in range(20)]

    def camera():
        rgb, depth = np.empty_like(frames[0][0]), np.empty_like(frames[0][1])
        for seen in frames:
            rgb[:], depth[:] = seen
            yield rgb, depth

    kept = list(predictor.stream(camera()))
    for prediction, one in zip(kept, frames, strict=True):
        np.testing.assert_array_equal(prediction.depth_m, predictor(*one).depth_m)


def test_a_stream_ends_at_a_bad_frame_after_those_before_it(tiny_edge):
    frames = [frame(seed=number) for number in range(5)]
    frames[3] = (frames[3][0], np.zeros((16, 12), np.float32))
    stream = predictor_of(tiny_edge).stream(frames)
    assert len([next(stream) for _ in range(3)]) == 3
    with pytest.raises(UserError, match="frame 3"):
        next(stream)


def test_uploads_and_downloads_run_beside_the_computation():
    """With a computation that is long against a copy, frames take the time of their computations alone."""

    def compute(x):
        torch.cuda._sleep(20_000_000)
        return (x * 2,)

    pipeline = CudaPipeline(compute, torch.device("cuda"))
    frames = [torch.rand(2**20).pin_memory() for _ in range(8)]
    [pipeline.queue([[one]])() for one in frames[:2]]  # captures the graph
    for finish in [pipeline.queue([[one]]) for one in frames]:  # as below: to find memory for all of them takes time
        finish()
    overlapping = torch.cuda.Event()
    finishes = [pipeline.queue([[one]]) for one in frames]
    overlapping.record(pipeline._upload)
    overlapping.synchronize()
    assert not pipeline._compute.query(), "the last upload ended before the first computations did"
    for finish, one in zip(finishes, frames, strict=True):
        assert torch.equal(finish()[0], one * 2)


def allocated_bytes() -> int:
    """On the GPU, after it has done everything."""
    torch.cuda.synchronize()
    torch.empty(1, device="cuda")  # only then the allocator asks whether streams are done with what they held
    return torch.cuda.memory_allocated()


def test_where_a_graph_cannot_be_captured_frames_are_computed_all_the_same(caplog):
    """And torch is as before: it draws random numbers, and frees what several streams have used."""

    def waits(x):
        return (x * x.sum().item(),)

    pipeline = CudaPipeline(waits, torch.device("cuda"))
    x = torch.arange(5.0).pin_memory()
    with caplog.at_level(logging.WARNING, logger="depthsr"):
        for _ in range(4):
            assert torch.equal(pipeline.queue([[x]])()[0], x * 10)
    assert len(caplog.records) == 1
    assert "CUDA graphs are not used" in caplog.records[0].message
    assert "previous error" not in caplog.records[0].message, "the reason is what broke the capture"
    assert torch.rand(8, device="cuda").unique().numel() > 1
    before = allocated_bytes()
    for _ in range(20):
        assert torch.equal(pipeline.queue([[x]])()[0], x * 10)
    assert allocated_bytes() <= before


@pytest.mark.parametrize("name", ["shipped edge", "tiny_edge", "tiny_base"])
def test_half_precision_is_within_half_a_percent(name, request):
    """Of depth RMSE against the plane that was measured."""
    size, low = (240, 320), (30, 40)
    random = np.random.default_rng(0)
    plane_m = (2 + np.linspace(0, 3, size[1], dtype=np.float32))[None].repeat(size[0], 0)
    depth_m = plane_m.reshape(low[0], 8, low[1], 8).mean((1, 3)) + random.normal(0, 0.2, low).astype(np.float32)
    rgb = random.integers(0, 256, (*size, 3), np.uint8)

    def rmse(dtype: torch.dtype) -> float:
        if name == "shipped edge":
            predictor = load("edge", device="cuda", dtype=dtype)
        else:
            predictor = predictor_of(request.getfixturevalue(name), dtype)
        return float(np.sqrt(np.square(predictor(rgb, depth_m).depth_m - plane_m).mean()))

    full = rmse(torch.float32)
    assert 0.01 < full < 3
    assert abs(rmse(torch.float16) - full) < 0.005 * full


# --- DepthSR in torch's machinery -------------------------------------------------------------------------------------


def batch_of(model: DepthSR, size=(64, 96), count=2) -> tuple[Tensor, Prior]:
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand((count, 3, *size), generator=generator).cuda()
    depth_m = (1 + torch.rand((count, 1, size[0] // 8, size[1] // 8), generator=generator)).cuda()
    nothing_B = torch.zeros(count, device="cuda")
    return rgb, make_prior(depth_m, torch.ones_like(depth_m, dtype=torch.bool), rgb, nothing_B, nothing_B)


def gradients(model: torch.nn.Module, rgb: Tensor, prior: Prior) -> list[Tensor]:
    depth, error = model(rgb, prior)
    return list(torch.autograd.grad(depth.square().mean() + error.mean(), list(model.parameters())))


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("mode", ["default", "reduce-overhead", "max-autotune"])
def test_compiled_whole_equals_eager(random_model, mode, dynamic):
    model = random_model(LEAST).cuda()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=dynamic, mode=mode)
    with torch.no_grad():
        for size in ((64, 96), (80, 64)) if dynamic else ((64, 96),):
            rgb, prior = batch_of(model, size)
            for _ in range(3):  # the third call of a mode with graphs is the first to replay one
                torch.compiler.cudagraph_mark_step_begin()
                for result, wanted in zip(compiled(rgb, prior), model(rgb, prior), strict=True):
                    torch.testing.assert_close(result, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("chosen_ops")
def test_infer_compiled_for_any_size_equals_eager(random_model):
    model = random_model(LEAST).cuda()
    torch._dynamo.reset()
    compiled = torch.compile(model.infer, fullgraph=True, dynamic=True)
    for size, low_size in (((64, 96), (8, 12)), ((77, 60), (21, 33))):
        rgb, depth_m = torch.rand(1, 3, *size, device="cuda"), 1 + torch.rand(1, 1, *low_size, device="cuda")
        inputs = rgb, depth_m, torch.rand_like(depth_m) > 0.2
        for result, wanted in zip(compiled(*inputs), model.infer(*inputs), strict=True):
            torch.testing.assert_close(result, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("gpu_ops")
def test_kernels_give_the_references_gradients_in_the_whole_network(random_model):
    model = random_model(LEAST).cuda().to(memory_format=torch.channels_last)
    inputs = batch_of(model)
    results = gradients(model, *inputs)
    with choice.backend("reference"):
        wanted = gradients(model, *inputs)
    for result, expected in zip(results, wanted, strict=True):
        torch.testing.assert_close(result, expected, rtol=2e-2, atol=2e-4)


@pytest.mark.usefixtures("gpu_ops", "deterministic_cudnn")
def test_activation_checkpointing(random_model):
    """What is computed again in the backward pass gives the same gradients."""
    model = random_model(LEAST).cuda().to(memory_format=torch.channels_last)
    rgb, prior = batch_of(model)

    class Checkpointed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, rgb, prior):
            return checkpoint(self.model, rgb, prior, use_reentrant=False)

    for result, expected in zip(gradients(Checkpointed(), rgb, prior), gradients(model, rgb, prior), strict=True):
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("gpu_ops", "deterministic_cudnn")
def test_distributed_data_parallel(random_model):
    """One process: the gradients that arrive in the parameters are those without it."""
    model = random_model(LEAST).cuda().to(memory_format=torch.channels_last)
    rgb, prior = batch_of(model)
    expected = gradients(model, rgb, prior)
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1)
    try:
        parallel = DistributedDataParallel(model, device_ids=[torch.cuda.current_device()])
        depth, error = parallel(rgb, prior)
        (depth.square().mean() + error.mean()).backward()
        for parameter, wanted in zip(model.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, wanted, rtol=1e-4, atol=1e-6)
    finally:
        dist.destroy_process_group()
