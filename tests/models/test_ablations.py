"""The variants of the network differ from the method in what they are called after, and in nothing else."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from depthsr.config import EDGE, MODEL_CHOICES, ModelConfig
from depthsr.models.network import DepthSR, UNet
from depthsr.models.refinement import refine
from depthsr.types import UserError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def variant(tiny_edge, random_model):
    def make(**changes) -> DepthSR:
        return random_model(dataclasses.replace(tiny_edge.config, **changes))

    return make


def stage_features(model: DepthSR, rgb, prior) -> dict[str, torch.Tensor]:
    """What the first stage of each path makes of a frame."""
    found = {}
    hooks = [
        getattr(model.unet, f"{path}_stages")[0].register_forward_hook(
            lambda module, inputs, output, path=path: found.update({path: output})
        )
        for path in ("relative", "depth")
    ]
    with torch.no_grad():
        model(rgb, prior)
    for hook in hooks:
        hook.remove()
    return found


def test_a_configuration_from_before_the_variants_is_the_method():
    values = EDGE.to_dict()
    for field in MODEL_CHOICES:
        del values[field]
    assert ModelConfig.from_dict(values) == EDGE
    assert EDGE.departures() == []
    assert dataclasses.replace(EDGE, head="residual").departures() == ["head residual"]


@pytest.mark.parametrize("field", MODEL_CHOICES)
def test_other_words_are_refused(field):
    with pytest.raises(UserError, match=rf"{field} is 'other'; choose one of {MODEL_CHOICES[field][0]}"):
        ModelConfig.from_dict({**EDGE.to_dict(), field: "other"})


@pytest.mark.parametrize(
    ("rgb_paths", "changing"),
    [("both", {"relative", "depth"}), ("relative", {"relative"}), ("depth", {"depth"}), ("none", set())],
)
def test_rgb_is_seen_by_the_paths_that_are_named(variant, frame, prior_of, rgb_paths, changing):
    model = variant(rgb_paths=rgb_paths)
    rgb, depth_m, valid = frame()
    prior = prior_of(rgb, depth_m, valid)  # of one RGB throughout: its guided upsamplings are no path's sight of it
    one, other = stage_features(model, rgb, prior), stage_features(model, 1 - rgb, prior)
    assert {path for path in one if not torch.equal(one[path], other[path])} == changing


def test_without_rgb_the_result_does_not_depend_on_it(variant, frame):
    rgb, depth_m, valid = frame()
    blind, method = variant(rgb_paths="none"), variant()
    results = [model.infer(picture, depth_m, valid)[0] for model in (blind, method) for picture in (rgb, rgb.flip(3))]
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert (results[2] - results[3]).abs().max() > 1e-2


def test_the_residual_head_corrects_the_bilinear_upsampling(variant, frame, prior_of):
    rgb, depth_m, valid = frame()
    prior = prior_of(rgb, depth_m, valid)
    model = variant(head="residual")
    torch.nn.init.zeros_(model.unet.residual_head.weight)
    torch.nn.init.constant_(model.unet.residual_head.bias, 0.25)
    torch.nn.init.zeros_(model.unet.refinement_head.head.weight)
    torch.nn.init.zeros_(model.unet.refinement_head.head.bias)
    with torch.no_grad():
        depth, error = model(rgb, prior)
    corrected = prior.candidates_BKHW[:, :1] + 0.25 * prior.ambiguity_B1HW
    torch.testing.assert_close(depth, refine(corrected, error, torch.zeros(1, 8, 32, 48), rgb))
    assert not any(name.startswith("choice_head") for name, _ in model.unet.named_parameters())


def test_concatenation_leaves_the_features_statistics_alone(variant, frame, prior_of):
    """AdaIN undoes a scale and offset of the relative path's features at a fusion; concatenation passes them on."""
    content, style = torch.randn(2, 1, 8, 12, 16).unbind(0)
    for fusion, unmoved in (("adain", True), ("concatenation", False)):
        layer = variant(fusion=fusion).unet.fusions[0]
        with torch.no_grad():
            moved = (layer(5 * content + 2, style) - layer(content, style)).abs().max()
        assert (moved < 1e-3) == unmoved
    weight = variant(fusion="concatenation").unet.fusions[0].project.weight
    with torch.no_grad():
        expected = style + torch.nn.functional.conv2d(torch.cat([content, style], 1), weight, layer.project.bias)
        torch.testing.assert_close(layer(content, style), expected)


def test_without_refinement_the_rest_is_the_same(variant, frame, prior_of):
    rgb, depth_m, valid = frame()
    prior = prior_of(rgb, depth_m, valid)
    method, plain = variant(), variant(refinement="none")
    rest = {name: value for name, value in method.state_dict().items() if "refinement_head" not in name}
    plain.load_state_dict(rest)  # raises where a name is missing or too many
    for parameter in method.unet.refinement_head.head.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        depth, error = plain(rgb, prior)
        refined, same_error = method(rgb, prior)
    torch.testing.assert_close(error, same_error)
    torch.testing.assert_close(refined, refine(depth, error, torch.zeros(1, 8, 32, 48), rgb))
    assert (refined - depth).abs().max() > 1e-3


@pytest.mark.parametrize(
    "changes",
    [{"fusion": "concatenation"}, {"head": "residual"}, {"refinement": "none"}, {"rgb_paths": "depth"}],
)
def test_every_parameter_of_a_variant_learns(variant, frame, prior_of, changes):
    model = variant(**changes).train()
    rgb, depth_m, valid = frame()
    depth, error = model(rgb, prior_of(rgb, depth_m, valid))
    (depth.square().mean() + error.square().mean()).backward()
    without = {name for name, parameter in model.named_parameters() if not parameter.grad.any()}
    unseen = {"unet.relative_stem.weight"} if changes.get("rgb_paths") == "depth" else set()  # its input is grey
    assert without == unseen


def test_variants_cost_what_the_method_costs():
    """But for the projections of concatenated features, and heads that are not there."""
    sizes = {}
    other_words = {"fusion": "concatenation", "rgb_paths": "none", "head": "residual", "refinement": "none"}
    for changes in ({}, *({field: word} for field, word in other_words.items())):
        with torch.device("meta"):
            unet = UNet(dataclasses.replace(EDGE, **changes))
        sizes[tuple(changes)] = sum(parameter.numel() for parameter in unet.parameters())
    assert sizes[("rgb_paths",)] == sizes[()]
    assert sizes[("fusion",)] - sizes[()] == sum(width**2 for width in EDGE.widths)
    assert sizes[()] - sizes[("head",)] == 48 * (16 + 1)
    assert sizes[()] - sizes[("refinement",)] == 16 * (16 + 1) + 2 * 16 + 8 * (16 + 1)
