"""Arrays a frame may be made of, and the sentence for each kind that is refused."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
import torch

from depthsr.inputs import check_depth, check_levels, check_relative, check_rgb, check_sizes
from depthsr.io import read_rgb
from depthsr.types import UserError

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (7, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float16, np.float64]
)
@pytest.mark.parametrize("scale", [None, 1.0, 0.001, 0.25])
def test_depth_of_every_dtype_is_scaled_to_metres(dtype, scale):
    depth = RANDOM.integers(1, 120, (5, 6)).astype(dtype)
    depth[0, 0] = 0
    depth_m = check_depth(depth, scale)
    scale = scale or (0.001 if np.issubdtype(dtype, np.integer) else 1)
    assert depth_m.dtype == np.float32
    assert np.isnan(depth_m[0, 0])
    np.testing.assert_allclose(depth_m.ravel()[1:], depth.ravel()[1:].astype(np.float64) * scale, rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "no_values"),
    [(np.float32, [0, np.nan, np.inf, -np.inf, 65504]), (np.uint16, [0, 65535]), (np.int32, [0])],
)
def test_what_means_no_value_in_memory(dtype, no_values):
    depth = RANDOM.uniform(1, 9, (3, 4)).astype(dtype)
    depth[0, : len(no_values)] = no_values[:4]
    if len(no_values) > 4:
        depth[1, 0] = no_values[4]
    expected = np.zeros((3, 4), bool)
    expected.flat[: len(no_values)] = True
    np.testing.assert_array_equal(np.isnan(check_depth(depth)), expected)


def test_torch_tensors_and_lists_are_taken():
    depth = torch.rand(3, 4, requires_grad=True) + 1
    np.testing.assert_array_equal(check_depth(depth), depth.detach().numpy())
    half = (torch.rand(3, 4) + 1).bfloat16()
    np.testing.assert_array_equal(check_depth(half), half.float().numpy())
    np.testing.assert_array_equal(check_depth([[1.0, 2], [3, 0]]), [[1, 2], [3, np.nan]])
    np.testing.assert_array_equal(check_depth(torch.tensor([[1, 2]])), np.float32([[0.001, 0.002]]))
    np.testing.assert_array_equal(check_rgb(torch.from_numpy(RGB)), RGB.astype(np.float32) / 255)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rgb_in_floating_point_is_kept(dtype):
    rgb = RANDOM.random((4, 5, 3)).astype(dtype)
    np.testing.assert_array_equal(check_rgb(rgb), rgb.astype(np.float32))


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", ["grey", "one", "colour", "opaque"])
def test_arrays_are_taken_as_files_are(kind, channels, tmp_path):
    largest = 1 if kind == "float32" else np.iinfo(kind).max
    pixels = (RANDOM.random((7, 9, 3)) * largest).astype(kind)
    pixels[0, 0] = 0, largest, largest
    expected = pixels if kind == "float32" else pixels.astype(np.float64) / largest
    if channels == "opaque":
        pixels = np.dstack([pixels, np.full((7, 9), largest, kind)])
    elif channels != "colour":
        expected = np.repeat(expected[:, :, 1:2], 3, axis=2)
        pixels = pixels[:, :, 1] if channels == "grey" else pixels[:, :, 1:2]
    tolerance = {"uint8": 1e-7, "uint16": 0.5001 / 255, "float32": 0}[kind]
    rgb = check_rgb(pixels)
    np.testing.assert_allclose(rgb, expected, atol=tolerance)
    order = cv2.COLOR_RGBA2BGRA if channels == "opaque" else cv2.COLOR_RGB2BGR
    cv2.imwrite(str(tmp_path / "a.tiff"), cv2.cvtColor(pixels, order) if pixels.shape[2:] in ((3,), (4,)) else pixels)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.tiff"), np.rint(255 * rgb))


@pytest.mark.parametrize(
    ("rgb", "words"),
    [
        (RGB[0, 0], "shape 3; give H×W×3"),
        (RGB[:, :, :2], "shape 7×9×2; give H×W×3"),
        (np.dstack([RGB, RGB[:, :, :1]]), "has 4 channels and is not opaque everywhere"),
        (RGB.transpose(2, 0, 1), "shape 3×7×9; give H×W×3, channels last"),
        (RGB.astype(np.int32), "holds int32 numbers; give 8 or 16 bits"),
        (RGB.astype(np.float32), "runs from"),
        (RGB > 9, "bool data"),
        (RGB + 1j, "complex128 data"),
        (RGB.astype(object), "object data"),
        (RGB[:0], "is empty (shape 0×9×3)"),
        (np.full((2, 2, 3), np.nan), "NaN or inf"),
        (np.full((2, 2, 3), -0.1), "runs from -0.1"),
        ("a.png", "<U5 data"),
    ],
)
def test_rgb_that_is_refused(rgb, words):
    with pytest.raises(UserError, match=rf"^the RGB .*{re.escape(words)}.*\.$"):
        check_rgb(rgb)


@pytest.mark.parametrize(
    ("depth", "words"),
    [
        (np.zeros((3, 4)), "no valid pixel"),
        (np.full((3, 4), np.nan), "no valid pixel"),
        (np.full((3, 4), np.inf), "no valid pixel"),
        (np.full((3, 4), 65535, np.uint16), "no valid pixel"),
        (np.array([[1.0, -2.5, -1.0]]), "2 negative values down to -2.5"),
        (np.ones((3, 4), bool), "bool data"),
        (np.ones((3, 4), complex), "complex128 data"),
        (np.ones((3, 4), object), "object data"),
        (np.ones((0, 4)), "is empty (shape 0×4)"),
        (np.ones((3, 4, 1)), "shape 3×4×1; give two dimensions"),
        (np.float32(3), "shape (); give two dimensions"),
    ],
)
def test_depth_that_is_refused(depth, words):
    with pytest.raises(UserError, match=re.escape(words)):
        check_depth(depth)


@pytest.mark.parametrize("scale", [0.0, -0.001, np.nan, np.inf])
def test_a_scale_that_makes_no_metres(scale):
    with pytest.raises(UserError, match=r"depth scale .* makes no metres"):
        check_depth(np.ones((2, 2)), scale)


def test_levels_start_at_0_and_may_all_be_0():
    levels = np.zeros((3, 4), np.float32)
    np.testing.assert_array_equal(check_levels(levels), levels)
    for wrong, words in [(levels - 1, "go down to -1"), (levels * np.nan, "NaN throughout")]:
        with pytest.raises(UserError, match=words):
            check_levels(wrong)


def test_relative_depth_that_is_refused():
    for wrong, words in [
        (np.full((7, 9), np.nan), "NaN or inf"),
        (np.ones((9, 7)), "the relative depth is 7×9 pixels and the RGB 9×7"),
        (np.ones((7, 9, 3)), "shape 7×9×3"),
    ]:
        with pytest.raises(UserError, match=words):
            check_relative(wrong, (7, 9))


@pytest.mark.parametrize(
    ("rgb_size", "size"),
    [
        ((480, 640), (60, 80)),
        ((1440, 1920), (192, 256)),
        ((480, 640), (480, 640)),
        ((500, 741), (31, 46)),
        ((480, 640), (97, 113)),  # 14 % off: a sensor that crops
        ((480, 640), (60, 160)),  # every 8th row, every 4th column
        ((7, 5), (2, 1)),  # rounding of small sizes
        ((1, 1), (1, 1)),
        ((63, 65), (4, 4)),
    ],
)
def test_sizes_that_belong_together(rgb_size, size):
    check_sizes(rgb_size, size)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((48, 72), "the depth is 72×48 pixels and the RGB 640×480, so width : height is 1.50 and 1.33: is the depth"),
        ((100, 120), "the depth is 120×100 pixels and the RGB 640×480, so width : height is 1.20 and 1.33: is the"),
        ((107, 151), "the depth is 151×107 pixels and the RGB 640×480, so width : height is 1.41 and 1.33: is the"),
        ((107, 146), None),  # 2 % off
        ((101, 135), None),
        ((60, 160), None),
        ((7, 9), None),
    ],
)
def test_another_shape_is_told_once(size, said, caplog):
    for _ in range(3):
        check_sizes((480, 640), size)
    assert len(caplog.records) == (said is not None)
    assert all(record.message.startswith(said) for record in caplog.records)


@pytest.mark.parametrize(
    ("rgb_size", "size", "words"),
    [
        ((480, 640), (80, 60), "depth is 60×80 pixels and the RGB 640×480: shapes"),
        ((1080, 1920), (480, 640), "depth is 640×480 pixels and the RGB 1920×1080: shapes"),
        ((480, 640), (720, 1280), "depth is 1280×720 pixels and the RGB 640×480; the result has the RGB's size"),
        ((480, 640), (481, 640), "the result has the RGB's size"),
        ((480, 640), (60, 107), "cannot show the same view"),
        ((480, 640), (7, 80), "cannot show the same view"),
    ],
)
def test_sizes_that_do_not(rgb_size, size, words):
    with pytest.raises(UserError, match=words):
        check_sizes(rgb_size, size)
