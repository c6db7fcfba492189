"""MVS-Synth (Huang et al., DeepMVS, CVPR 2018): 120 sequences of 100 frames rendered from GTA V.

GTAV_540 | GTAV_720 | GTAV_1080 /
    num_images.json          frames a sequence (not needed here: the files are listed)
    0000/images/0000.png     8-bit RGB
    0000/depths/0000.exr     half float, one channel "Y", sky = inf
    0000/poses/0000.json     intrinsics and extrinsics (not needed here)

A name is SEQUENCE/FRAME, a scene is a sequence. Loaders disagree on the unit of the depth, so it is an argument.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from depthsr.data.dataset import Frame, FrameDataset, check_same_size, mark_missing
from depthsr.io.depth import read_depth
from depthsr.io.rgb import read_rgb
from depthsr.types import UserError

ROOTS = ("GTAV_540", "GTAV_720", "GTAV_1080")


class MvsSynth(FrameDataset):
    """See the module.

    folder   one of the roots, or a folder that holds exactly one of them.
    unit_m   metres of one unit of the depth files.
    """

    def __init__(self, folder: Path, *, unit_m: float = 1.0):
        if not unit_m > 0:
            raise UserError(f"the unit of MVS-Synth's depth is {unit_m} m; give a positive number of metres.")
        roots = [folder / root for root in ROOTS if (folder / root).is_dir()]
        if len(roots) > 1:
            raise UserError(f"{folder} holds {', '.join(root.name for root in roots)}; name the one to use.")
        self._root = roots[0] if roots else folder
        self._unit_m = unit_m
        names = []
        for sequence in _sequences(self._root):
            depths = {path.stem for path in (sequence / "depths").glob("*.exr")}
            for image in sorted((sequence / "images").glob("*.png")):
                if image.stem not in depths:
                    depth = sequence / "depths" / f"{image.stem}.exr"
                    raise UserError(f"{image} has no depth {depth}; unpack the archive again.")
                names.append(f"{sequence.name}/{image.stem}")
        super().__init__(folder, names)

    def scene(self, name: str) -> str:
        return name.partition("/")[0]

    def read(self, name: str) -> Frame:
        sequence, _, stem = name.partition("/")
        rgb_path = self._root / sequence / "images" / f"{stem}.png"
        depth_path = self._root / sequence / "depths" / f"{stem}.exr"
        rgb = read_rgb(rgb_path)
        # the sky first: 65504 is a mark, not a distance that a unit could scale
        depth_m = mark_missing(read_depth(depth_path)) * np.float32(self._unit_m)
        check_same_size(rgb, depth_m, rgb_path, depth_path)
        return Frame(rgb, depth_m)


def _sequences(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if (path / "images").is_dir() and (path / "depths").is_dir())


def is_mvs_synth(folder: Path) -> bool:
    """Whether the folder is a root of MVS-Synth, or holds one by its name."""
    return any((folder / root).is_dir() for root in ROOTS) or bool(_sequences(folder))
