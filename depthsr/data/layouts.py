"""Open a folder of frames, whatever its layout. One file a layout; this one only tells them apart."""

from __future__ import annotations

from pathlib import Path

from depthsr.data.challenge import Challenge, is_challenge
from depthsr.data.dataset import Frame, FrameDataset
from depthsr.data.folder import PairsFolder
from depthsr.data.mvs_synth import MvsSynth, is_mvs_synth
from depthsr.data.rgbd_game import INDEX, RgbdGame
from depthsr.types import UserError

__all__ = ["Frame", "FrameDataset", "open_dataset"]


def open_dataset(folder: str | Path, *, unit_m: float = 1.0) -> FrameDataset:
    """The dataset in a folder: rgbd-game, MVS-Synth, the AIS challenge, or a plain folder of pairs.

    unit_m   metres of one unit of MVS-Synth's depth files, on which its loaders disagree; no other layout needs it.
    Raises UserError when the folder is missing or of no known layout.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; name the folder that holds the frames.")
    if is_mvs_synth(folder):
        return MvsSynth(folder, unit_m=unit_m)
    if unit_m != 1.0:
        raise UserError(f"{folder} is not MVS-Synth, whose depth alone comes in an uncertain unit; leave unit_m at 1.")
    if (folder / INDEX).is_file():
        return RgbdGame(folder)
    if is_challenge(folder):
        return Challenge(folder)
    if (folder / "rgb").is_dir() and (folder / "depth").is_dir():
        return PairsFolder(folder)
    raise UserError(
        f"{folder} is of no known layout; give it rgb/NAME.png and depth/NAME.npy (or .png, .exr), "
        "or name the root of MVS-Synth (SEQUENCE/images, SEQUENCE/depths), of the AIS challenge (RGB_train_HR, "
        f"AI4S_train_gt) or of rgbd-game ({INDEX})."
    )
