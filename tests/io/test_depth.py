"""Depth files: what is written comes back, and what cannot be depth is refused in one sentence."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pytest

from depthsr.io import DEPTH_FORMATS, read_depth, read_values, write_depth
from depthsr.io.pfm import read_pfm
from depthsr.types import UserError

SIZES = [(1, 1), (7, 5), (63, 65)]


def random_depth_m(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Depth from 0.2 to 60 m with a tenth of it missing (at least one value present)."""
    random = np.random.default_rng(seed)
    depth_m = random.uniform(0.2, 60.0, size).astype(np.float32)
    hole = random.random(size) < 0.1
    hole[0, 0] = False
    depth_m[hole] = np.nan
    return depth_m


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["d.npy", "d.exr", "d.tiff", "d.tif", "d.pfm", "d.PFM"])
def test_floating_point_formats_return_the_same_bits(tmp_path, name, size):
    depth_m = random_depth_m(size)
    if depth_m.size > 1:
        depth_m.flat[1] = np.inf
    write_depth(tmp_path / name, depth_m)
    np.testing.assert_array_equal(read_depth(tmp_path / name), depth_m)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [0.001, 0.0001, 1 / 256, 0.005])
def test_png_is_right_within_half_a_unit(tmp_path, size, scale):
    depth_m = random_depth_m(size) * np.float32(min(1.0, 65000 * scale / 60))
    write_depth(tmp_path / "d.png", depth_m, scale=scale)
    restored_m = read_depth(tmp_path / "d.png", scale=scale)
    np.testing.assert_array_equal(np.isnan(restored_m), np.isnan(depth_m))
    np.testing.assert_allclose(restored_m, depth_m, rtol=2e-7, atol=0.5 * scale)


def test_png_is_16_bit_millimetres_with_0_where_there_is_no_value(tmp_path):
    depth_m = np.array([[1.2344, 1.2346, np.nan], [np.inf, -np.inf, 0.0002], [0.0, 65.534, 0.001]], np.float32)
    write_depth(tmp_path / "d.png", depth_m)
    stored = cv2.imread(str(tmp_path / "d.png"), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    # A measured 0.2 mm stays a value: 1, not 0.
    np.testing.assert_array_equal(stored, [[1234, 1235, 0], [0, 0, 1], [0, 65534, 1]])


@pytest.mark.parametrize("farthest_m", [65.5351, 70.0, 131.0, 1e9])
def test_what_is_too_far_for_16_bits_never_wraps(tmp_path, farthest_m, caplog):
    """A few pixels become "no value" and a line says so; most of a map is refused."""
    depth_m = random_depth_m((7, 5))
    depth_m[3, 2] = farthest_m
    write_depth(tmp_path / "d.png", depth_m)
    expected_m = np.where(depth_m == np.float32(farthest_m), np.nan, depth_m)
    np.testing.assert_allclose(read_depth(tmp_path / "d.png"), expected_m, atol=5.1e-4)
    assert len(caplog.records) == 1
    assert "depth beyond 65.534 m" in caplog.text
    assert "--format" in caplog.text

    depth_m[:4] = farthest_m
    with pytest.raises(UserError, match=r"does not fit .*far\.png.*65\.534 m; write npy, exr"):
        write_depth(tmp_path / "far.png", depth_m)
    assert os.listdir(tmp_path) == ["d.png"]


@pytest.mark.parametrize("name", ["d.png", "d.tiff"])
def test_integers_are_millimetres_and_0_and_65535_no_value(tmp_path, name):
    stored = np.random.default_rng(1).integers(1, 65535, (9, 8)).astype(np.uint16)
    stored[0, 0], stored[1, 1] = 0, 65535
    cv2.imwrite(str(tmp_path / name), stored)
    expected_m = stored.astype(np.float64) / 1000
    expected_m[0, 0] = expected_m[1, 1] = np.nan
    np.testing.assert_array_equal(read_depth(tmp_path / name), expected_m.astype(np.float32))
    np.testing.assert_array_equal(read_depth(tmp_path / name, scale=0.25), (expected_m * 250).astype(np.float32))
    np.testing.assert_array_equal(read_values(tmp_path / name), stored)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.uint32, np.int64])
def test_integer_npy_is_millimetres_too(tmp_path, dtype):
    stored = np.random.default_rng(2).integers(1, 30000, (5, 7)).astype(dtype)
    np.save(tmp_path / "d.npy", stored)
    np.testing.assert_allclose(read_depth(tmp_path / "d.npy"), stored / 1000.0, rtol=1e-7)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floating_point_is_metres_and_65504_or_inf_the_sky(tmp_path, dtype):
    stored = np.random.default_rng(3).uniform(0.5, 300, (6, 5)).astype(dtype)
    stored[0, :5] = [65504, np.inf, 0, np.nan, -np.inf]
    np.save(tmp_path / "d.npy", stored)
    for scale in (None, 0.01):
        depth_m = read_depth(tmp_path / "d.npy", scale=scale)
        np.testing.assert_array_equal(depth_m[0, :5], [np.inf, np.inf, np.nan, np.nan, np.nan])
        np.testing.assert_allclose(depth_m[1:], stored[1:].astype(np.float64) * (scale or 1), rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 6, 5), (6, 5, 1)])
def test_a_channel_axis_of_one_is_dropped(tmp_path, shape):
    stored = np.random.default_rng(4).uniform(1, 9, shape).astype(np.float32)
    np.save(tmp_path / "d.npy", stored)
    np.testing.assert_array_equal(read_depth(tmp_path / "d.npy"), stored.reshape(6, 5))


@pytest.mark.parametrize("arrays", [["anything"], ["depth", "rgb"], ["confidence", "depth_m"]])
def test_npz_takes_the_only_array_or_the_one_named_depth(tmp_path, arrays):
    random = np.random.default_rng(5)
    stored = {name: random.uniform(1, 9, (4, 6)).astype(np.float32) for name in arrays}
    np.savez(tmp_path / "d.npz", **stored)
    wanted = next(name for name in ("depth", "depth_m", "anything") if name in stored)
    np.testing.assert_array_equal(read_depth(tmp_path / "d.npz"), stored[wanted])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("names", [("Y",), ("Z",), ("V",), ("R",), ("distance.camera",), ("R", "G", "B"), ("A", "Z")])
def test_exr_of_every_channel_name(tmp_path, dtype, names):
    random = np.random.default_rng(6)
    channels = {name: random.uniform(0.5, 200, (11, 13)).astype(dtype) for name in names}
    wanted = next((name for name in "ZYVR" if name in channels), names[0])
    channels[wanted][2, 3] = np.inf
    with OpenEXR.File({"type": OpenEXR.scanlineimage}, dict(channels)) as file:
        file.write(str(tmp_path / "d.exr"))
    np.testing.assert_array_equal(read_depth(tmp_path / "d.exr"), channels[wanted].astype(np.float32))


@pytest.mark.parametrize("scale", ["-1.0", "-0.003922", "+1.0", "1", "2.5e+02", "-1\r"])
@pytest.mark.parametrize("size", [(1, 1), (5, 4), (7, 13), (3, 5, 3)])
def test_pfm_written_by_the_book_is_read(tmp_path, scale, size):
    """Rows bottom to top; the sign is the order of the bytes and the magnitude nothing, as in Middlebury's files."""
    values = np.random.default_rng(1).uniform(0.2, 300, size).astype(np.float32)
    order = "<" if scale.startswith("-") else ">"
    body = b"".join(struct.pack(f"{order}{row.size}f", *row.ravel()) for row in values[::-1])
    kind = "PF" if values.ndim == 3 else "Pf"
    (tmp_path / "d.pfm").write_bytes(f"{kind}\n{size[1]} {size[0]}\n{scale}\n".encode() + body)
    np.testing.assert_array_equal(read_pfm(tmp_path / "d.pfm"), values)
    if values.ndim == 2:
        np.testing.assert_array_equal(read_depth(tmp_path / "d.pfm"), values)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"P5\n5 4\n-1.0\n", "header is not that of one"),
        (b"Pf\n5 4\n", "header is not that of one"),
        (b"Pf\n5 x\n-1.0\n", "header is not that of one"),
        (b"Pf\n5 4\n0.0\n", "header is not that of one"),
        (b"Pf\n5 4\n-1e.5\n", "header is not that of one"),
        (b"Pf\n5 5\n-1.0\n", "5×5 pixels of 4 bytes, and 80 bytes follow"),
        (b"Pf\n5 3\n-1.0\n", "5×3 pixels of 4 bytes, and 80 bytes follow"),
        (b"PF\n5 4\n-1.0\n", "5×4 pixels of 12 bytes, and 80 bytes follow"),
    ],
)
def test_pfm_with_a_damaged_header(tmp_path, header, words):
    body = np.random.default_rng(2).uniform(1, 9, 20).astype("<f4").tobytes()
    (tmp_path / "d.pfm").write_bytes(header + body)
    with pytest.raises(UserError, match=rf"d\.pfm is damaged.*{words}"):
        read_depth(tmp_path / "d.pfm")


def test_negative_values_are_passed_on_for_the_caller_to_judge(tmp_path):
    np.save(tmp_path / "d.npy", np.array([[1.0, -2.5]]))
    np.testing.assert_array_equal(read_depth(tmp_path / "d.npy"), [[1.0, -2.5]])


def write_damaged(path: Path, keep: float) -> None:
    write_depth(path, random_depth_m((40, 30)))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.6])
@pytest.mark.parametrize("suffix", [*DEPTH_FORMATS, "npz"])
def test_a_file_cut_short_is_refused_by_name(tmp_path, suffix, keep, capfd):
    path = tmp_path / f"cut.{suffix}"
    if suffix == "npz":
        np.savez(path, depth=random_depth_m((40, 30)))
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    else:
        write_damaged(path, keep)
    with pytest.raises(UserError, match=rf"cut\.{suffix} .*; .+\.$"):
        read_depth(path)
    if suffix != "exr":  # OpenEXR prints a line of its own
        assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("eight.png", np.full((4, 5), 7, np.uint8), "8-bit picture"),
        ("colour.png", np.full((4, 5, 3), 7, np.uint8), "3 channels"),
        ("rgba.png", np.full((4, 5, 4), 7, np.uint8), "4 channels"),
        ("rgba16.png", np.full((4, 5, 4), 700, np.uint16), "4 channels"),
        ("colour.tiff", np.ones((4, 5, 3), np.float32), "3 channels"),
        ("colour.pfm", np.ones((4, 5, 3), np.float32), "3 channels"),
        ("photo.jpg", np.full((4, 5, 3), 7, np.uint8), "no depth format"),
    ],
)
def test_pictures_that_are_no_depth_map(tmp_path, name, array, words):
    assert cv2.imwrite(str(tmp_path / name), array)
    with pytest.raises(UserError, match=rf"{name} .*{words}.*; .+\.$"):
        read_depth(tmp_path / name)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones((2, 3), bool), "bool"),
        (np.ones((2, 3), np.complex64), "complex64"),
        (np.array([[object()]]), "damaged or no plain NPY"),
        (np.array([["1.0"]]), "<U3"),
        (np.ones((0, 3), np.float32), "empty array"),
        (np.ones(3, np.float32), "1 dimensions"),
        (np.ones((2, 3, 4, 5), np.float32), "4 dimensions"),
        (np.ones((5, 4, 3), np.float32), "3 channels"),
        (np.ones((2, 3), np.uint8), "8-bit"),
    ],
)
def test_arrays_that_are_no_depth_map(tmp_path, array, words):
    np.save(tmp_path / "d.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match=rf"d\.npy .*{words}.*; .+\.$"):
        read_depth(tmp_path / "d.npy")


def test_npz_and_exr_that_do_not_say_which_is_the_depth(tmp_path):
    np.savez(tmp_path / "d.npz", a=np.ones((2, 2)), b=np.ones((2, 2)))
    with pytest.raises(UserError, match=r"d\.npz holds the arrays a, b; name the depth map 'depth'"):
        read_depth(tmp_path / "d.npz")
    ones = np.ones((3, 3), np.float32)
    with OpenEXR.File({"type": OpenEXR.scanlineimage}, {"G": ones, "B": ones}) as file:
        file.write(str(tmp_path / "d.exr"))
    with pytest.raises(UserError, match=r"d\.exr has the channels B, G; depth must be in Z, Y, V or R"):
        read_depth(tmp_path / "d.exr")


def test_other_mistakes_in_a_path(tmp_path):
    np.savez(tmp_path / "archive.npz", depth=np.ones((2, 2)))
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    (tmp_path / "folder.png").mkdir()
    for path, words in [
        ("gone.png", "gone.png does not exist"),
        ("folder.png", "is a folder"),
        ("archive.npy", "rename it to .npz"),
    ]:
        with pytest.raises(UserError, match=words):
            read_depth(tmp_path / path)
    with pytest.raises(UserError, match=r"cannot write depth as d\.jpg"):
        write_depth(tmp_path / "d.jpg", np.ones((2, 2)))
    for scale in (0, -1, np.nan, np.inf):
        with pytest.raises(UserError, match="depth scale"):
            read_depth(tmp_path / "gone.png", scale=scale)
