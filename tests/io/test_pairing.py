"""Pairs by name from files, folders and patterns; and a sentence that lists what has no partner."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from depthsr.io import pair_inputs
from depthsr.types import UserError


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Makes the named empty files and goes there."""
    monkeypatch.chdir(tmp_path)

    def make(*names: str) -> None:
        for name in names:
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    return make


def names(inputs) -> list[tuple[str, ...]]:
    return [(i.name, str(i.rgb), str(i.depth)) + ((str(i.relative),) if i.relative else ()) for i in inputs]


def test_a_file_goes_with_a_file_whatever_their_names(tree):
    tree("photo.JPG", "x/sensor.tiff", "rel.png")
    assert names(pair_inputs("photo.JPG", "x/sensor.tiff")) == [("photo", "photo.JPG", "x/sensor.tiff")]
    assert names(pair_inputs("photo.JPG", "x/sensor.tiff", "rel.png"))[0][-1] == "rel.png"


def test_folders_pair_by_stem_in_order_and_skip_other_files(tree):
    tree(
        "rgb/b.png",
        "rgb/a.jpg",
        "rgb/notes.txt",
        "rgb/.hidden.png",
        "depth/a.npy",
        "depth/b.exr",
        "rel/b.png",
        "rel/a.png",
    )
    assert names(pair_inputs("rgb", "depth/", "rel")) == [
        ("a", "rgb/a.jpg", "depth/a.npy", "rel/a.png"),
        ("b", "rgb/b.png", "depth/b.exr", "rel/b.png"),
    ]


def test_patterns_pair_by_what_the_wildcard_stands_for(tree):
    tree("rgb_0.jpg", "rgb_10.jpg", "depth_mm_0.png", "depth_mm_10.png")
    assert names(pair_inputs("rgb_*.jpg", "depth_mm_*.png")) == [
        ("rgb_0", "rgb_0.jpg", "depth_mm_0.png"),
        ("rgb_10", "rgb_10.jpg", "depth_mm_10.png"),
    ]


def test_equal_file_names_in_many_folders_take_the_folder_as_name(tree):
    tree("t/one/rgb.png", "t/two/rgb.png", "t/one/depth.png", "t/two/depth.png")
    assert names(pair_inputs("t/*/rgb.png", "t/**/depth.png")) == [
        ("one", "t/one/rgb.png", "t/one/depth.png"),
        ("two", "t/two/rgb.png", "t/two/depth.png"),
    ]


def test_a_pattern_pairs_with_a_folder_by_stem(tree):
    tree("rgb/00.png", "rgb/01.png", "depth/00.npy", "depth/01.npy")
    assert [i[0] for i in names(pair_inputs("rgb/0*.png", "depth"))] == ["00", "01"]


@pytest.mark.parametrize(
    ("rgb", "depth", "words"),
    [
        ("rgb", "depth", "--rgb b, c without --depth of that name; --depth d without --rgb of that name"),
        ("nowhere", "depth", "--rgb nowhere does not exist"),
        ("rgb/*.webp", "depth", "--rgb rgb/*.webp matches no file"),
        ("rgb", "empty", "--depth empty holds no file ending in .png, .npy"),
        ("twice", "depth", "--rgb holds several files named a"),
    ],
)
def test_what_cannot_be_paired_is_named(tree, rgb, depth, words):
    tree(
        "rgb/a.png", "rgb/b.png", "rgb/c.png", "depth/a.npy", "depth/d.npy", "empty/x.txt", "twice/a.png", "twice/a.jpg"
    )
    with pytest.raises(UserError, match=re.escape(words)):
        pair_inputs(rgb, depth)
