"""Rendered frames of an open game: `dataset.json`, `rgb/NAME.webp`, `depth/NAME.png` in logarithmic steps.

`dataset.json` gives the depth encoding {"encoding": "log16", "z0_m", "steps_per_e", "zero": "sky"} and the split by
track {"train": [NAME, ...], "val": [NAME, ...]}. A NAME is TRACK_NUMBER; frames outside the split are not used.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from depthsr.data.dataset import Frame, FrameDataset, check_part, check_same_size
from depthsr.io.depth import read_values
from depthsr.io.rgb import read_rgb
from depthsr.types import UserError

INDEX = "dataset.json"


class RgbdGame(FrameDataset):
    """See the module. Raises UserError when dataset.json is not of this layout."""

    has_own_split = True

    def __init__(self, folder: Path):
        index = folder / INDEX
        try:
            description = json.loads(index.read_text(encoding="utf-8"))
            encoding = description["depth"]
            if (encoding["encoding"], encoding["zero"]) != ("log16", "sky"):
                raise UserError(f"{index} states the depth encoding {encoding}; only log16 with zero = sky is known.")
            z0_m, steps_per_e = float(encoding["z0_m"]), float(encoding["steps_per_e"])
            self._split = {part: list(description["split"][part]) for part in ("train", "val")}
        except (OSError, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise UserError(
                f"{index} does not describe rgbd-game ({error!r}); copy it again from its source."
            ) from error
        super().__init__(folder, self._split["train"] + self._split["val"])
        # z = z0 exp((v - 1) / steps): one look-up of 65,536 entries instead of an exponential a pixel
        self._depth_m_of_code = (z0_m * np.exp((np.arange(65536) - 1.0) / steps_per_e)).astype(np.float32)
        self._depth_m_of_code[0] = np.inf

    def scene(self, name: str) -> str:
        return name.rpartition("_")[0] or name

    def read(self, name: str) -> Frame:
        rgb_path = self.folder / "rgb" / f"{name}.webp"
        depth_path = self.folder / "depth" / f"{name}.png"
        rgb = read_rgb(rgb_path)
        code = read_values(depth_path)
        if code.dtype != np.uint16:
            raise UserError(f"{depth_path} holds {code.dtype} numbers, not 16-bit depth codes; copy the dataset again.")
        depth_m = self._depth_m_of_code[code]
        check_same_size(rgb, depth_m, rgb_path, depth_path)
        return Frame(rgb, depth_m)

    def split(self, part: str) -> list[str]:
        """The split by track that dataset.json states."""
        check_part(part)
        return list(self._split[part])
