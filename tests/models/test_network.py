"""The network: its budget, its invariances, and that it compiles, exports and is saved as what it is."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from depthsr import ops
from depthsr.config import BASE, EDGE, EDGE_S
from depthsr.models.network import DepthSR, UNet
from depthsr.models.refinement import refine
from depthsr.types import UserError

pytestmark = pytest.mark.usefixtures("one_thread")


def multiply_adds(config):
    """Of the U-Net for a frame of 640×480, and its parameters."""
    with torch.device("meta"):
        unet = UNet(config)
        stems = (unet.relative_stem, unet.depth_stem)
        planes = [torch.empty(1, stem.in_channels, 480, 640) for stem in stems]
        with ops.backend("reference"), FlopCounterMode(display=False) as counter:
            unet(*planes, torch.empty(1, 2))
    return counter.get_total_flops() / 2, sum(parameter.numel() for parameter in unet.parameters())


def test_edge_fits_its_budget():
    operations, parameters = multiply_adds(EDGE)
    assert operations == pytest.approx(3.47e9, rel=0.01)
    assert parameters <= 1.5e6


def test_edge_s_takes_a_quarter_of_edge():
    operations, parameters = multiply_adds(EDGE_S)
    assert operations <= 0.25 * multiply_adds(EDGE)[0]
    assert operations == pytest.approx(0.780e9, rel=0.01)
    assert parameters == pytest.approx(0.198e6, rel=0.01)
    assert all(width % 8 == 0 for width in EDGE_S.widths)  # for the native runtime


def test_the_u_net_of_base_is_small_beside_its_relative_depth_network():
    operations, parameters = multiply_adds(BASE)
    assert operations == pytest.approx(5.75e9, rel=0.01)
    assert parameters == pytest.approx(3.24e6, rel=0.01)


def test_base_has_the_published_size():
    with torch.device("meta"):
        model = DepthSR(BASE)
        model.add_depth_anything()
    assert abs(sum(parameter.numel() for parameter in model.parameters()) - 29e6) <= 1e6


def test_an_untrained_model_gives_the_mean_of_the_candidates_refined(frame, prior_of):
    rgb, depth_m, valid = frame(holes=0.0)
    restored_m, error_m = DepthSR(EDGE).infer(rgb, depth_m, valid)
    prior = prior_of(rgb, depth_m, valid)
    mean = prior.candidates_BKHW.mean(1, keepdim=True)
    refined = refine(mean, error_m / prior.scale_m_B, torch.zeros(1, 8, 32, 48), rgb)
    assert (refined / mean - 1).abs().mean() < 0.15
    torch.testing.assert_close(restored_m, refined * prior.scale_m_B, rtol=1e-5, atol=1e-5)


def test_where_no_path_sees_the_rgb_neither_does_the_refinement(random_model, tiny_edge, frame):
    blind = random_model(dataclasses.replace(tiny_edge.config, rgb_paths="none"))
    rgb, depth_m, valid = frame()
    results = [blind.infer(picture, depth_m, valid)[0] for picture in (rgb, 1 - rgb)]
    torch.testing.assert_close(*results, rtol=0, atol=0)


@pytest.mark.parametrize("factor", [1e-3, 0.1, 25.4, 1000.0])
def test_other_units_give_the_same_depth_in_those_units(tiny_edge, frame, factor):
    rgb, depth_m, valid = frame()
    expected, expected_error = tiny_edge.infer(rgb, depth_m, valid, quantisation_step_m=0.05)
    scaled, scaled_error = tiny_edge.infer(rgb, depth_m * factor, valid, quantisation_step_m=0.05 * factor)
    torch.testing.assert_close(scaled / factor, expected, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(scaled_error / factor, expected_error, rtol=1e-3, atol=1e-6)


def test_one_wild_pixel_changes_only_its_surroundings(tiny_edge, frame):
    rgb, depth_m, valid = frame(size=(128, 256), low_size=(32, 64), holes=0.0)
    expected, _ = tiny_edge.infer(rgb, depth_m, valid)
    wild = depth_m.clone()
    wild[0, 0, 4, 4] = 50000.0
    moved_m = (tiny_edge.infer(rgb, wild, valid)[0] - expected).abs()[..., 128:]
    assert moved_m.median() < 0.01  # of depths of 1 to 6 m; rescaling the frame would move it by metres


@pytest.mark.parametrize(
    ("size", "low_size"),
    [((16, 16), (16, 16)), ((1, 1), (1, 1)), ((37, 53), (5, 4)), ((50, 90), (13, 45)), ((33, 20), (3, 20))],
)
def test_any_size_and_factor_stays_inside_the_measured_range(tiny_edge, frame, size, low_size):
    rgb, depth_m, valid = frame(size=size, low_size=low_size)
    restored_m, error_m = tiny_edge.infer(rgb, depth_m, valid)
    assert restored_m.shape == error_m.shape == (1, 1, *size)
    assert torch.isfinite(restored_m).all()
    assert (error_m > 0).all()
    assert restored_m.min() >= 0
    assert restored_m.max() <= 1.05 * depth_m[valid].max()


@pytest.mark.parametrize("step_m", [0.0, 0.5])
@pytest.mark.parametrize("max_depth_m", [None, 3.0, 100.0])
def test_corrections_end_at_the_measured_and_the_known_range(tiny_edge, frame, step_m, max_depth_m):
    rgb, depth_m, valid = frame()
    measured_m = 1.05 * depth_m[valid].max().item() + step_m / 2
    with torch.no_grad():
        tiny_edge.unet.residual_head.bias.fill_(1000.0)
    restored_m, _ = tiny_edge.infer(rgb, depth_m, valid, quantisation_step_m=step_m, max_depth_m=max_depth_m)
    torch.testing.assert_close(restored_m, torch.full_like(restored_m, min(measured_m, max_depth_m or measured_m)))
    with torch.no_grad():
        tiny_edge.unet.residual_head.bias.fill_(-1000.0)
    restored_m, _ = tiny_edge.infer(rgb, depth_m, valid, quantisation_step_m=step_m, max_depth_m=max_depth_m)
    assert restored_m.max() == 0.0


def test_what_is_given_in_the_place_of_something_else(tiny_edge, frame):
    rgb, depth_m, valid = frame()
    with pytest.raises(TypeError, match=r"forward takes a Prior and was given a tensor; make one with .*make_prior"):
        tiny_edge(rgb, depth_m)
    with pytest.raises(UserError, match=r"the RGB is torch\.uint8; give floating point in \[0, 1\]"):
        tiny_edge.infer((255 * rgb).to(torch.uint8), depth_m, valid)


def test_samples_of_a_batch_do_not_see_each_other(tiny_edge, frame):
    rgb, depth_m, valid = frame(batch=3)
    together, _ = tiny_edge.infer(rgb, depth_m, valid)
    for sample in range(3):
        one = slice(sample, sample + 1)
        alone, _ = tiny_edge.infer(rgb[one], depth_m[one], valid[one])
        torch.testing.assert_close(together[one], alone, rtol=1e-4, atol=1e-4)


def test_every_parameter_learns(tiny_edge, frame, prior_of):
    model = tiny_edge.train()
    rgb, depth_m, valid = frame()
    depth, error = model(rgb, prior_of(rgb, depth_m, valid))
    (depth.square().mean() + error.square().mean()).backward()
    without = [
        name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert without == []


def test_activation_checkpointing_gives_the_same_gradients(tiny_edge, frame, prior_of):
    rgb, depth_m, valid = frame()
    prior = prior_of(rgb, depth_m, valid)
    gradients = []
    for results in (tiny_edge(rgb, prior), checkpoint(tiny_edge, rgb, prior, use_reentrant=False)):
        loss = sum(result.square().mean() for result in results)
        gradients.append(torch.autograd.grad(loss, list(tiny_edge.parameters())))
    for result, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(result, expected)


def test_the_error_head_does_not_train_the_features(tiny_edge, frame, prior_of):
    rgb, depth_m, valid = frame()
    _, error = tiny_edge(rgb, prior_of(rgb, depth_m, valid))
    error.sum().backward()
    learning = {name for name, parameter in tiny_edge.named_parameters() if parameter.grad is not None}
    assert learning == {f"unet.error_head.{name}" for name, _ in tiny_edge.unet.error_head.named_parameters()}


@pytest.mark.parametrize("model_name", ["tiny_edge", "tiny_base"])
def test_save_and_load(model_name, request, tmp_path, frame):
    model = request.getfixturevalue(model_name)
    model.save_pretrained(tmp_path)
    assert {"config.json", "model.safetensors"} <= {path.name for path in tmp_path.iterdir()}
    again = DepthSR.from_pretrained(tmp_path).eval()
    assert again.config == model.config
    rgb, depth_m, valid = frame()
    torch.testing.assert_close(again.infer(rgb, depth_m, valid)[0], model.infer(rgb, depth_m, valid)[0], rtol=0, atol=0)


def test_channels_last_gives_the_same(tiny_edge, frame):
    rgb, depth_m, valid = frame()
    expected, _ = tiny_edge.infer(rgb, depth_m, valid)
    tiny_edge.to(memory_format=torch.channels_last)
    result, _ = tiny_edge.infer(rgb.contiguous(memory_format=torch.channels_last), depth_m, valid)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


def test_bfloat16_is_near_float32(tiny_edge, frame):
    rgb, depth_m, valid = frame()
    expected, _ = tiny_edge.infer(rgb, depth_m, valid)
    result, _ = tiny_edge.to(torch.bfloat16).infer(rgb, depth_m, valid)
    untrained, _ = DepthSR(tiny_edge.config).infer(rgb, depth_m, valid)
    # the correction has 8 bits; the measurement it is added to keeps all of its own
    assert (result - expected).abs().mean() < 0.02 * (expected - untrained).abs().mean()
    assert result.dtype == torch.float32


def test_traces_without_graph_breaks_at_changing_sizes(tiny_edge, frame, prior_of):
    """The whole network through Dynamo and AOTAutograd; test_a_block_compiles takes a part of it through Inductor."""
    compiled = torch.compile(tiny_edge, fullgraph=True, dynamic=True, backend="aot_eager")
    for size, low_size in (((48, 64), (6, 8)), ((64, 80), (8, 10))):
        rgb, depth_m, valid = frame(size=size, low_size=low_size)
        prior = prior_of(rgb, depth_m, valid)
        with torch.no_grad():
            for result, expected in zip(compiled(rgb, prior), tiny_edge(rgb, prior), strict=True):
                torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("native")
def test_infer_traces_without_graph_breaks_at_changing_sizes(tiny_edge, frame):
    """With what makes the network's input, which test_prior.py takes through Inductor."""
    compiled = torch.compile(tiny_edge.infer, fullgraph=True, dynamic=True, backend="aot_eager")
    for size, low_size in (((48, 64), (6, 8)), ((61, 83), (9, 11))):
        inputs = frame(size=size, low_size=low_size)
        with ops.backend("native"):
            for result, expected in zip(compiled(*inputs), tiny_edge.infer(*inputs), strict=True):
                torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-4)


def test_a_block_compiles(tiny_edge):
    block, fusion = tiny_edge.unet.depth_stages[0][0], tiny_edge.unet.fusions[0]

    def part(x):
        return fusion(x, block(x))

    x = torch.randn(2, 8, 9, 13)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(part, fullgraph=True, dynamic=True)(x), part(x), rtol=1e-4, atol=1e-4)


def test_exports(tiny_edge, frame, prior_of):
    rgb, depth_m, valid = frame()
    prior = prior_of(rgb, depth_m, valid)
    exported = torch.export.export(tiny_edge, (rgb, prior)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(rgb, prior), tiny_edge(rgb, prior), rtol=1e-4, atol=1e-5)
