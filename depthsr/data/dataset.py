"""What every dataset layout gives: named frames of RGB and depth, each of a scene, split by scene."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from depthsr.types import SKY_FLOAT16, UserError

PARTS = ("train", "val")


@dataclass(frozen=True)
class Frame:
    """One frame as it lies on disk, decoded.

    rgb      H×W×3 uint8.
    depth_m  H×W float32 metres along the optical axis; inf = sky, NaN = no value.
    lr       h×w low-resolution depth as its file holds it (float metres or levels, integer millimetres or levels:
             the protocol says which), or None where the dataset has none.
    """

    rgb: np.ndarray
    depth_m: np.ndarray
    lr: np.ndarray | None = None


class FrameDataset(ABC):
    """Frames of one folder. `names` is ordered; a layout fills it and implements `scene` and `read`.

    has_own_split   True where the layout itself says which frames are for validation.
    lr_protocol     the one degradation protocol that its `Frame.lr` are of; None: whichever the user names.
    """

    has_own_split = False
    lr_protocol: str | None = None

    def __init__(self, folder: Path, names: list[str]):
        if not names:
            raise UserError(f"{folder} holds no frames; put at least one RGB and depth pair there.")
        self.folder = folder
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def scene(self, name: str) -> str:
        """The scene a frame shows. Frames of one scene never fall on both sides of a split."""

    @abstractmethod
    def read(self, name: str) -> Frame:
        """Decode one frame. Raises UserError naming the file that cannot be read."""

    def split(self, part: str) -> list[str]:
        """The names of "train" or "val", in order: here a tenth of the scenes (at least one) is for validation.

        Which tenth depends on a hash of the scenes' names alone, so that it is the same on every machine.
        Raises UserError when the folder holds a single scene.
        """
        check_part(part)
        scenes = sorted(
            {self.scene(name) for name in self.names}, key=lambda scene: hashlib.sha256(scene.encode()).digest()
        )
        if len(scenes) < 2:
            raise UserError(
                f"{self.folder} holds a single scene ({scenes[0]!r}), which cannot be split by scene; name the scenes "
                "of the frames in scenes.json, or validate on the last 100 frames."
            )
        held_out = set(scenes[: max(1, round(0.1 * len(scenes)))])
        return [name for name in self.names if (self.scene(name) in held_out) == (part == "val")]

    def last(self, count: int) -> list[str]:
        """The last `count` names: the published recipe validates on the last 100 samples."""
        if not 0 < count < len(self.names):
            raise UserError(
                f"{self.folder} holds {len(self.names)} frames, of which the last {count} cannot be set apart."
            )
        return self.names[-count:]


def check_part(part: str) -> None:
    if part not in PARTS:
        raise UserError(f"a dataset has no part {part!r}; ask for one of {', '.join(PARTS)}.")


def mark_missing(depth_m_HW: np.ndarray) -> np.ndarray:
    """Float32 copy with the conventions of Frame: 65504 and above become inf (sky), values <= 0 become NaN."""
    depth_m = np.array(depth_m_HW, dtype=np.float32)
    depth_m[depth_m >= SKY_FLOAT16] = np.inf
    depth_m[depth_m <= 0] = np.nan
    return depth_m


def check_same_size(rgb_HW3: np.ndarray, depth_m_HW: np.ndarray, rgb_path: Path, depth_path: Path) -> None:
    """Ground truth lies on the RGB's pixel grid. Raises UserError naming both files otherwise."""
    if depth_m_HW.shape != rgb_HW3.shape[:2]:
        raise UserError(
            f"{depth_path} is {depth_m_HW.shape[1]}x{depth_m_HW.shape[0]} but {rgb_path} is "
            f"{rgb_HW3.shape[1]}x{rgb_HW3.shape[0]}; ground-truth depth must have the RGB's size."
        )
