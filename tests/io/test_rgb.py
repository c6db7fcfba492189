"""The guide picture: channel order, depth of bits, orientation, and what is refused."""

from __future__ import annotations

import zlib

import cv2
import numpy as np
import pytest

from depthsr.io import read_relative, read_rgb, write_picture
from depthsr.types import UserError

RGB = np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "PNG"])
def test_lossless_formats_return_the_same_pixels(tmp_path, suffix):
    write_picture(tmp_path / f"a.{suffix}", RGB)
    np.testing.assert_array_equal(read_rgb(tmp_path / f"a.{suffix}"), RGB)


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "webp"])
def test_lossy_formats_keep_the_order_of_the_channels(tmp_path, suffix):
    rgb = np.zeros((32, 32, 3), np.uint8)
    rgb[:] = (200, 120, 40)
    write_picture(tmp_path / f"a.{suffix}", rgb)
    np.testing.assert_allclose(read_rgb(tmp_path / f"a.{suffix}").mean((0, 1)), (200, 120, 40), atol=4)


def test_sixteen_bits_are_rounded_to_eight(tmp_path):
    wide = np.random.default_rng(1).integers(0, 65536, (9, 8, 3)).astype(np.uint16)
    wide[0, 0] = (0, 65535, 257 * 100)
    cv2.imwrite(str(tmp_path / "a.png"), wide[:, :, ::-1])
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), np.rint(wide / 257.0).astype(np.uint8))


def test_grey_is_replicated(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), RGB[:, :, 0])
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), np.stack([RGB[:, :, 0]] * 3, axis=2))


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """The JPEG with an EXIF block that holds the orientation tag (0x0112) alone."""
    tiff = b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x12\x01\x03\0\x01\0\0\0" + bytes([orientation, 0, 0, 0]) + b"\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]


@pytest.mark.parametrize(("orientation", "quarter_turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_orientation_is_applied_as_viewers_do(tmp_path, orientation, quarter_turns):
    write_picture(tmp_path / "a.jpg", RGB)
    plain = read_rgb(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(with_orientation((tmp_path / "a.jpg").read_bytes(), orientation))
    np.testing.assert_array_equal(read_rgb(tmp_path / "b.jpg"), np.rot90(plain, quarter_turns))


def test_orientation_is_applied_to_opaque_pictures_too(tmp_path):
    """A PNG whose eXIf chunk says a quarter turn."""
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack([RGB[:, :, ::-1], np.full(RGB.shape[:2], 255, np.uint8)]))
    data = (tmp_path / "a.png").read_bytes()
    exif = b"eXIf" + b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x12\x01\x03\0\x01\0\0\0" + b"\x06\0\0\0" + b"\0\0\0\0"
    chunk = (len(exif) - 4).to_bytes(4, "big") + exif + zlib.crc32(exif).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), np.rot90(RGB, 3))


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_transparency_is_refused_unless_everything_is_opaque(tmp_path, suffix):
    pixels = np.random.default_rng(2).integers(0, 256, (9, 8, 4), np.uint8)
    pixels[:, :, 3] = 255
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), pixels)
    np.testing.assert_allclose(read_rgb(tmp_path / f"a.{suffix}").mean(), pixels[:, :, :3].mean(), atol=1)
    pixels[3, 4, 3] = 254
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), pixels, [cv2.IMWRITE_WEBP_QUALITY, 101])
    with pytest.raises(UserError, match=rf"a\.{suffix} has 4 channels.*; save it as plain RGB"):
        read_rgb(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tiff"])
@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_picture_cut_short_is_refused_and_opencv_keeps_quiet(tmp_path, suffix, keep, capfd):
    path = tmp_path / f"a.{suffix}"
    write_picture(path, np.random.default_rng(3).integers(0, 256, (64, 80, 3), np.uint8))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(UserError, match=rf"a\.{suffix} is (damaged|cut off).*; .+\.$"):
        read_rgb(path)
    assert capfd.readouterr().err == ""


def test_files_that_are_no_picture(tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    cv2.imwrite(str(tmp_path / "float.tiff"), np.full((4, 4), 1.5, np.float32))
    for name, words in [
        ("text.png", "damaged"),
        ("empty.png", "0 bytes"),
        ("float.tiff", "runs from 1.5"),
        ("gone.png", "not exist"),
    ]:
        with pytest.raises(UserError, match=rf"{name} .*{words}"):
            read_rgb(tmp_path / name)


def test_relative_depth_is_read_from_grey_pictures_and_arrays(tmp_path):
    relative = np.random.default_rng(4).integers(0, 256, (6, 7)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "r.png"), relative)
    np.save(tmp_path / "r.npy", relative / np.float32(255))
    np.testing.assert_array_equal(read_relative(tmp_path / "r.png"), relative.astype(np.float32))
    np.testing.assert_array_equal(read_relative(tmp_path / "r.npy"), relative / np.float32(255))
