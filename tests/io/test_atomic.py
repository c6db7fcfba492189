"""A write that fails leaves nothing behind and an older file untouched."""

from __future__ import annotations

import os

import cv2
import numpy as np
import OpenEXR
import pytest

from depthsr.io import DEPTH_FORMATS, atomic_path, check_writable, read_depth, write_depth
from depthsr.types import UserError

DEPTH_M = np.random.default_rng(0).uniform(0.5, 9.0, (12, 10)).astype(np.float32)


def test_the_file_appears_only_when_the_block_has_ended(tmp_path):
    target = tmp_path / "made" / "on the way" / "a.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
        assert temporary.parent == target.parent
        assert temporary.suffix == ".txt"
    assert target.read_text() == "whole"
    assert os.listdir(target.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_a_failing_block_leaves_the_older_file(tmp_path, error):
    (tmp_path / "a.txt").write_text("older")

    def write_half() -> None:
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("hal")
            raise error

    with pytest.raises(error):
        write_half()
    assert os.listdir(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "older"


@pytest.mark.parametrize("suffix", DEPTH_FORMATS)
def test_every_depth_format_survives_a_full_disk(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"d.{suffix}"
    write_depth(path, DEPTH_M)
    before = path.read_bytes()

    def disk_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", disk_full)
    with pytest.raises(UserError, match=rf"cannot write .*d\.{suffix}: No space left on device; choose another"):
        write_depth(path, 2 * DEPTH_M)
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("suffix", "module", "function"), [("npy", np, "save"), ("exr", OpenEXR.File, "write"), ("png", cv2, "imencode")]
)
def test_an_encoder_that_stops_half_way(tmp_path, suffix, module, function, monkeypatch):
    def stop(*_, **__):
        raise RuntimeError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(module, function, stop)
        with pytest.raises(RuntimeError, match="stopped"):
            write_depth(tmp_path / f"d.{suffix}", DEPTH_M)
    assert os.listdir(tmp_path) == []
    write_depth(tmp_path / f"d.{suffix}", DEPTH_M)
    np.testing.assert_allclose(read_depth(tmp_path / f"d.{suffix}"), DEPTH_M, atol=5.1e-4)


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "out").write_text("I am a file")
    with pytest.raises(UserError, match=r"cannot write .*d\.npy: .*; choose another place"):
        write_depth(tmp_path / "out" / "d.npy", DEPTH_M)
    assert (tmp_path / "out").read_text() == "I am a file"


def test_where_nothing_can_be_written_is_known_before(tmp_path):
    """What may be written is the same as with atomic_path; nothing is made by asking."""
    (tmp_path / "file").write_text("mine")
    for good in (tmp_path / "a.txt", tmp_path / "made" / "on the way" / "a.txt", tmp_path / "file"):
        check_writable(good)
    assert os.listdir(tmp_path) == ["file"]
    for bad, reason in (
        (tmp_path, "it is a folder"),
        (tmp_path / "file" / "a.txt", "file is no folder that can be written to"),
    ):
        with pytest.raises(UserError, match=f"cannot write {bad}: .*{reason}"):
            check_writable(bad)
        with pytest.raises(UserError, match=f"cannot write {bad}"), atomic_path(bad) as temporary:
            temporary.write_text("")
