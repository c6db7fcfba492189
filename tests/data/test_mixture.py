"""Mixture: what is trained on and validated on where several folders are given, and that each frame is its own."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from depthsr.data.dataset import Frame, FrameDataset
from depthsr.data.mixture import Mixture


class Memory(FrameDataset):
    """Random frames, their scenes the names' first letters; `validated`: the scenes of a split of its own."""

    def __init__(self, folder: str, names: list[str], validated: str | None = None):
        super().__init__(Path(folder), names)
        rng = np.random.default_rng([len(names), *map(ord, folder)])
        self.frames = {
            name: Frame(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8), rng.uniform(1, 9, (4, 6)).astype(np.float32))
            for name in names
        }
        self.has_own_split = validated is not None
        self._validated = validated

    def scene(self, name: str) -> str:
        return name[0]

    def read(self, name: str) -> Frame:
        return self.frames[name]

    def split(self, part: str) -> list[str]:
        if self._validated is None:
            return super().split(part)
        return [name for name in self.names if (name[0] in self._validated) == (part == "val")]


@pytest.fixture
def folders() -> list[Memory]:
    """One that is split, one that is not, and one whose single scene has a name of the first's; names recur."""
    return [
        Memory("own", ["a1", "a2", "b1", "c1"], "b"),
        Memory("rendered", ["a1", "x2"]),
        Memory("more", ["a1", "a3"]),
    ]


def test_extra_folders_are_trained_on_and_never_validated_on(folders):
    first, *extra = folders
    mixture = Mixture(first, extra)
    assert mixture.split("val") == ["b1"]
    assert mixture.split("train") == ["a1", "a2", "c1", "1:a1", "1:x2", "2:a1", "2:a3"]
    assert mixture.last(2) == ["b1", "c1"]
    assert mixture.names == [*first.names, "1:a1", "1:x2", "2:a1", "2:a3"]


def test_measurements_are_of_the_first_folders_protocol(folders):
    """As validation would take the challenge's levels for metres."""
    first, *extra = folders
    first.lr_protocol = "ais"
    assert Mixture(first, extra).lr_protocol == "ais"
    assert Mixture(extra[0], [first]).lr_protocol is None


def test_of_an_extra_folder_with_a_split_the_training_part_is_taken(folders):
    first, second, third = folders
    assert Mixture(second, [first, third]).split("train")[-5:] == ["1:a1", "1:a2", "1:c1", "2:a1", "2:a3"]


def test_every_name_is_read_from_its_own_folder(folders):
    mixture = Mixture(folders[0], folders[1:])
    for name in mixture.names:
        number, _, own_name = name.rpartition(":")
        assert mixture.read(name) is folders[int(number or 0)].frames[own_name]
    assert [mixture.scene(name) for name in mixture.names] == ["a", "a", "b", "c", "1:a", "1:x", "2:a", "2:a"]


def test_a_scene_that_is_validated_on_is_told_of_by_its_name(folders, caplog):
    first, second, third = folders
    with caplog.at_level(logging.WARNING):
        Mixture(first, [second, third]).split("train")
    assert not caplog.messages  # only b is validated on
    with caplog.at_level(logging.WARNING):
        Mixture(first, [second, Memory("twin", ["b7", "d1"])]).split("train")
    (message,) = caplog.messages
    assert message.startswith("twin has a scene called 'b', as those that are validated on")


def test_of_scenes_that_an_extra_folder_keeps_from_training_nothing_is_told(folders, caplog):
    apart = Memory("apart", ["b7", "d1"], validated="b")  # its own b is not trained on
    with caplog.at_level(logging.WARNING):
        assert Mixture(folders[0], [apart]).split("train")[-1] == "1:d1"
    assert not caplog.messages
