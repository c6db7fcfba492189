"""depthsr._native.make_prior against its reference, depthsr/models/prior.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from depthsr import ops
from depthsr.models.prior import UPSAMPLINGS, make_prior


def frame(size, low, holes=0.3, seed=0):
    """Random rgb H×W×3, depth_m h×w with NaN in its holes, valid h×w with at least one measurement."""
    random = np.random.default_rng(seed)
    # Patches of colour, so that the colour weight picks some neighbours and refuses others.
    rgb = np.kron(random.random((-(-size[0] // 5), -(-size[1] // 5), 3)), np.ones((5, 5, 1)))[: size[0], : size[1]]
    rgb = np.clip(rgb + 0.05 * random.random((*size, 3)), 0, 1).astype(np.float32)
    valid = random.random(low) >= holes
    valid[-1, 0] = True
    depth_m = np.where(valid, 1 + 4 * random.random(low), np.nan).astype(np.float32)
    return rgb, depth_m, valid


def reference(rgb, depth_m, valid, step_m=0.0, max_depth_m=0.0, filling_m=None):
    tensors = torch.from_numpy(depth_m)[None, None], torch.from_numpy(valid)[None, None]
    guide = torch.from_numpy(rgb).permute(2, 0, 1)[None]
    with ops.backend("reference"):
        limits = torch.tensor([step_m]), torch.tensor([max_depth_m])
        return make_prior(
            *tensors, guide, *limits, None if filling_m is None else torch.from_numpy(filling_m)[None, None]
        )


def neighbours(prior):
    """The nine coarse pixels around each fine one, as the prior's indices say."""
    _, h, w = prior["around"].shape
    down, right = prior["spacing"]
    rows = [np.clip(prior["nearest_row"] + offset, 0, h - 1) for offset in (-down, 0, down)]
    columns = [np.clip(prior["nearest_column"] + offset, 0, w - 1) for offset in (-right, 0, right)]
    offsets = [(row, column) for row in rows for column in columns]
    return np.stack([plane[np.ix_(*offset)] for plane, offset in zip(prior["around"], offsets, strict=True)])


SIZES = [
    ((48, 64), (6, 8)),
    ((61, 47), (13, 9)),  # factors that are no whole numbers
    ((35, 25), (14, 10)),  # 2.5: fine pixels halfway between two coarse ones
    ((33, 1), (5, 1)),
    ((1, 130), (1, 17)),
    ((20, 21), (20, 21)),
    ((9, 8), (13, 11)),  # shrinking
    ((64, 48), (5, 48)),
    ((7, 6), (1, 1)),
    ((1, 1), (1, 1)),
]


@pytest.mark.parametrize(("size", "low"), SIZES)
@pytest.mark.parametrize(("step_m", "max_depth_m"), [(0.0, 0.0), (0.25, 7.5)])
def test_prior_is_the_references(native_module, size, low, step_m, max_depth_m):
    rgb, depth_m, valid = frame(size, low)
    expected = reference(rgb, depth_m, valid, step_m, max_depth_m)
    actual = native_module.make_prior(rgb, depth_m, valid, step_m, max_depth_m)
    candidates = expected.candidates_BKHW[0].numpy()
    for name, planes in (
        ("upsampled", candidates[:UPSAMPLINGS]),
        ("ambiguity", expected.ambiguity_B1HW[0, 0].numpy()),
        ("valid", expected.valid_B1HW[0, 0].numpy()),
        ("condition", expected.condition_B2[0].numpy()),
        ("scale_m", expected.scale_m_B[0].numpy()),
    ):
        np.testing.assert_allclose(actual[name], planes, rtol=3e-6, atol=2e-6, err_msg=name)
    np.testing.assert_allclose(neighbours(actual), candidates[UPSAMPLINGS:], rtol=3e-6, atol=2e-6)


@pytest.mark.parametrize(("holes", "low"), [(0.0, (24, 31)), (0.6, (24, 31)), (0.97, (24, 31)), (0.999, (20, 600))])
def test_prior_of_a_frame_with_holes(native_module, holes, low):
    rgb, depth_m, valid = frame((96, 130), low, holes, seed=3)
    expected = reference(rgb, depth_m, valid)
    actual = native_module.make_prior(rgb, depth_m, valid)
    np.testing.assert_allclose(actual["upsampled"], expected.candidates_BKHW[0, :3].numpy(), rtol=3e-6, atol=2e-6)
    np.testing.assert_allclose(neighbours(actual), expected.candidates_BKHW[0, 3:].numpy(), rtol=3e-6, atol=2e-6)
    measured = np.where(valid, depth_m / np.float32(actual["scale_m"]), 0)
    np.testing.assert_array_equal(actual["around"][:, valid], np.broadcast_to(measured[valid], (9, valid.sum())))
    np.testing.assert_allclose(actual["ambiguity"], expected.ambiguity_B1HW[0, 0].numpy(), rtol=3e-6, atol=2e-6)


@pytest.mark.parametrize(("size", "low"), SIZES)
def test_prior_with_a_filling(native_module, size, low):
    rgb, depth_m, valid = frame(size, low, holes=0.6, seed=4)
    random = np.random.default_rng(5)
    filling_m = np.where(random.random(low) > 0.5, 6 * random.random(low), np.nan).astype(np.float32)
    expected = reference(rgb, depth_m, valid, filling_m=filling_m)
    actual = native_module.make_prior(rgb, depth_m, valid, filling_m=filling_m)
    np.testing.assert_allclose(actual["upsampled"], expected.candidates_BKHW[0, :3].numpy(), rtol=3e-6, atol=2e-6)
    np.testing.assert_allclose(neighbours(actual), expected.candidates_BKHW[0, 3:].numpy(), rtol=3e-6, atol=2e-6)
    np.testing.assert_allclose(actual["ambiguity"], expected.ambiguity_B1HW[0, 0].numpy(), rtol=3e-6, atol=2e-6)
    np.testing.assert_allclose(actual["valid"], expected.valid_B1HW[0, 0].numpy(), rtol=3e-6, atol=2e-6)
    np.testing.assert_allclose(actual["scale_m"], expected.scale_m_B[0].numpy(), rtol=3e-6)


def test_prior_of_nothing(native_module):
    rgb, depth_m, _ = frame((12, 16), (3, 4))
    nothing = np.zeros(depth_m.shape, bool)
    actual, expected = native_module.make_prior(rgb, depth_m, nothing), reference(rgb, depth_m, nothing)
    assert actual["scale_m"] == expected.scale_m_B.item() == 1
    np.testing.assert_allclose(actual["upsampled"], expected.candidates_BKHW[0, :3].numpy(), atol=1e-7)
    np.testing.assert_allclose(actual["ambiguity"], expected.ambiguity_B1HW[0, 0].numpy(), rtol=1e-6)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -5.0, 1e9])
def test_what_is_not_valid_is_never_read(native_module, poison):
    rgb, depth_m, valid = frame((36, 45), (9, 9))
    expected = native_module.make_prior(rgb, depth_m, valid)
    actual = native_module.make_prior(rgb, np.where(valid, depth_m, np.float32(poison)), valid)
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)


def test_prior_of_strided_arrays(native_module):
    rgb, depth_m, valid = frame((40, 56), (10, 14))
    expected = native_module.make_prior(rgb, depth_m, valid)
    turned = native_module.make_prior(
        np.asfortranarray(rgb.astype(np.float64)), np.repeat(depth_m, 2, 1)[:, ::2], np.asfortranarray(valid)
    )
    for name in expected:
        np.testing.assert_array_equal(turned[name], expected[name], err_msg=name)


def test_wrong_arguments(native_module):
    rgb, depth_m, valid = frame((8, 8), (4, 4))
    for arguments, words in (
        ((rgb[..., 0], depth_m, valid), "rgb must be H×W×3"),
        ((rgb, depth_m[0], valid), "depth_m must be h×w"),
        ((rgb, depth_m, valid[:3]), "valid must have depth_m's shape"),
        ((rgb, depth_m[:0], valid[:0]), "must not be empty"),
        ((rgb, depth_m, valid, 0.0, 0.0, depth_m[:3]), "filling_m must have depth_m's shape"),
    ):
        with pytest.raises(ValueError, match=words):
            native_module.make_prior(*arguments)
