"""A plain folder of pairs: `rgb/NAME`, `depth/NAME`, optionally `lr/NAME`, in any format that depthsr.io reads.

depth   ground truth at the RGB's size: floating point is metres (inf or 65504 = sky), integers are millimetres
        (16-bit PNG); 0, negative and NaN = no value.
lr      the degraded low-resolution depth that goes with the frame, kept as stored (see Frame.lr).
NAME    may hold subfolders (`rgb/kitchen/0001.png` with `depth/kitchen/0001.npy`).
scene   `scenes.json` ({"NAME": "SCENE", ...}) when there, else the subfolder, else NAME up to its last "_", else NAME
        without its trailing digits (so that the frames of one numbered video are one scene).
"""

from __future__ import annotations

import json
from pathlib import Path

from depthsr.data.dataset import Frame, FrameDataset, check_same_size, mark_missing
from depthsr.io.depth import DEPTH_SUFFIXES, read_depth, read_values
from depthsr.io.rgb import RGB_SUFFIXES, read_rgb
from depthsr.types import UserError

SCENES = "scenes.json"


class PairsFolder(FrameDataset):
    """See the module. Raises UserError for a file without its partner, two files of a name, and a wrong scenes.json."""

    def __init__(self, folder: Path):
        self._rgb = _files_by_name(folder / "rgb", RGB_SUFFIXES)
        self._depth = _files_by_name(folder / "depth", DEPTH_SUFFIXES)
        self._lr = _files_by_name(folder / "lr", DEPTH_SUFFIXES) if (folder / "lr").is_dir() else {}
        super().__init__(folder, sorted(self._rgb))
        for name, path in self._rgb.items():
            if name not in self._depth:
                raise UserError(
                    f"{path} has no depth; add {folder / 'depth' / name} with one of the endings "
                    f"{', '.join(DEPTH_SUFFIXES)}."
                )
            if self._lr and name not in self._lr:
                raise UserError(
                    f"{path} has no low-resolution depth in {folder / 'lr'}; add it for all frames or none."
                )
        for files in (self._depth, self._lr):
            for name, path in files.items():
                if name not in self._rgb:
                    raise UserError(f"{path} has no RGB; add {folder / 'rgb' / name}.png or .jpg, or take it away.")
        self._scenes = self._read_scenes(folder / SCENES)

    def _read_scenes(self, path: Path) -> dict[str, str]:
        if not path.exists():
            return {name: scene_of_name(name) for name in self.names}
        try:
            scenes = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise UserError(f'{path} is not readable JSON ({error}); write {{"NAME": "SCENE", ...}}.') from error
        if not isinstance(scenes, dict) or not all(isinstance(scene, str) for scene in scenes.values()):
            raise UserError(f'{path} must hold one object {{"NAME": "SCENE", ...}}.')
        if missing := [name for name in self.names if name not in scenes]:
            raise UserError(f"{path} names no scene for {missing[0]!r} ({len(missing)} frames in all); add it.")
        return scenes

    def scene(self, name: str) -> str:
        return self._scenes[name]

    def read(self, name: str) -> Frame:
        rgb_path, depth_path = self._rgb[name], self._depth[name]
        rgb = read_rgb(rgb_path)
        depth_m = mark_missing(read_depth(depth_path))
        check_same_size(rgb, depth_m, rgb_path, depth_path)
        lr_path = self._lr.get(name)
        return Frame(rgb, depth_m, None if lr_path is None else read_values(lr_path))


def scene_of_name(name: str) -> str:
    """The scene a frame's name speaks of: its subfolder, else up to the last "_", else without trailing digits."""
    parent, _, stem = name.rpartition("/")
    if parent:
        return parent
    head, separator, _ = stem.rpartition("_")
    return head if separator else stem.rstrip("0123456789")


def _files_by_name(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in suffixes or path.name[0] == ".":
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in files:
            raise UserError(f"{files[name]} and {path} are two files of one frame; keep one of them.")
        files[name] = path
    return files
