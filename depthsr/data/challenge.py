"""The 2024 AIS depth upsampling challenge, as it was handed out.

RGB_train_HR/NAME.png      640×480 RGB            RGB_valid_HR/NAME.png
AI4S_train_gt/NAME.npy     640×480 float16        AI4S_val_gt/NAME.npy     (was never handed out)
AI4S_train_inp/NAME.npy    80×60 noisy levels     AI4S_val_inp/NAME.npy

Ground truth is in the challenge's units (taken for metres here), 65504 = sky. A name is train/NAME or val/NAME.
Frames without ground truth are not listed. The challenge names no scenes: each half counts as one, and where the
ground truth of the validation half is missing the published recipe stands in, which validates on the last 100 frames.
"""

from __future__ import annotations

from pathlib import Path

from depthsr.data.dataset import Frame, FrameDataset, check_part, check_same_size, mark_missing
from depthsr.io.depth import read_depth, read_values
from depthsr.io.rgb import read_rgb
from depthsr.types import UserError

#: part -> folders of RGB, ground truth, low-resolution input
FOLDERS = {
    "train": ("RGB_train_HR", "AI4S_train_gt", "AI4S_train_inp"),
    "val": ("RGB_valid_HR", "AI4S_val_gt", "AI4S_val_inp"),
}


class Challenge(FrameDataset):
    """See the module. Raises UserError where ground truth stands without its RGB."""

    has_own_split = True
    lr_protocol = "ais"

    def __init__(self, folder: Path):
        names = []
        for part, (rgb, truth, _) in FOLDERS.items():
            for path in sorted((folder / truth).glob("*.npy")):
                rgb_path = folder / rgb / f"{path.stem}.png"
                if not rgb_path.exists():
                    raise UserError(f"{path} has no RGB {rgb_path}; unpack the challenge's archives again.")
                names.append(f"{part}/{path.stem}")
        super().__init__(folder, names)

    def scene(self, name: str) -> str:
        return name.partition("/")[0]

    def read(self, name: str) -> Frame:
        part, _, stem = name.partition("/")
        rgb_folder, truth_folder, lr_folder = (self.folder / folder for folder in FOLDERS[part])
        rgb_path, truth_path = rgb_folder / f"{stem}.png", truth_folder / f"{stem}.npy"
        lr_path = lr_folder / f"{stem}.npy"
        rgb = read_rgb(rgb_path)
        depth_m = mark_missing(read_depth(truth_path))
        check_same_size(rgb, depth_m, rgb_path, truth_path)
        return Frame(rgb, depth_m, read_values(lr_path) if lr_path.exists() else None)

    def split(self, part: str) -> list[str]:
        """The challenge's own halves; without ground truth for the second, the last 100 frames (at most a tenth)."""
        check_part(part)
        held_out = {name for name in self.names if name.startswith("val/")}
        if not held_out:
            held_out = set(self.last(max(1, min(100, len(self.names) // 10))))
        return [name for name in self.names if (name in held_out) == (part == "val")]


def is_challenge(folder: Path) -> bool:
    """Whether the folder holds ground truth of the challenge under its own names."""
    return any((folder / truth).is_dir() for _, truth, _ in FOLDERS.values())
