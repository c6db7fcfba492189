"""What `depthsr data render` does after it has understood its options: scenes from seeds, rendered into a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from depthsr.data.dataset import Frame
from depthsr.data.folder import PairsFolder
from depthsr.data.render.camera import random_camera
from depthsr.data.render.indoor import indoor
from depthsr.data.render.outdoor import outdoor
from depthsr.data.render.renderer import Renderer
from depthsr.data.render.scene import Scene
from depthsr.io import read_values, write_depth, write_picture
from depthsr.types import UserError

SMALLEST_PX, LARGEST_PX = 16, 8192


@dataclass(frozen=True)
class RenderOptions:
    """scenes, frames: how many scenes, and frames of each. seed: of the first scene; the others count on from it.
    width, height: pixels. threads: None for all cores. Raises UserError when one is out of range."""

    scenes: int
    frames: int
    seed: int = 0
    width: int = 640
    height: int = 480
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.scenes < 1 or self.frames < 1:
            raise UserError(f"{self.scenes} scenes of {self.frames} frames are none; give at least 1 of each.")
        if self.seed < 0:
            raise UserError(f"seed {self.seed} is negative; give 0 or more.")
        if not all(SMALLEST_PX <= side <= LARGEST_PX for side in (self.width, self.height)):
            raise UserError(
                f"size {self.width}x{self.height} cannot be rendered; give {SMALLEST_PX} to {LARGEST_PX} pixels."
            )
        if self.threads is not None and self.threads < 1:
            raise UserError(f"{self.threads} threads cannot render; give at least 1.")


def random_scene(seed: int) -> Scene:
    """The scene of a seed: half of them indoors."""
    rng = np.random.default_rng(seed)
    return indoor(rng) if rng.random() < 0.5 else outdoor(rng)


def render_folder(out: str | Path, options: RenderOptions) -> tuple[int, int]:
    """Write rgb/NAME.png and depth/NAME.npy (float32 metres, inf = sky), a folder of pairs as open_dataset reads it.

    NAME is SCENE_FRAME, a scene is named by its seed. Frames that are there are kept, so that an interrupted run goes
    on; returns how many were rendered and how many kept. The same options give the same files,
    however many threads. Raises UserError when a frame that is there has another size.
    """
    out = Path(out)
    kept = 0
    total = options.scenes * options.frames
    with tqdm(total=total, unit="frame", delay=2) as progress:
        for seed in range(options.seed, options.seed + options.scenes):
            missing = [i for i in range(options.frames) if not _is_there(out, frame_name(seed, i), options)]
            kept += options.frames - len(missing)
            progress.update(options.frames - len(missing))
            if not missing:
                continue
            scene = random_scene(seed)
            renderer = Renderer(scene, options.threads)
            for i in missing:
                rng = np.random.default_rng([seed, i])
                camera = random_camera(scene, options.width, options.height, rng, renderer.depth)
                _write(out, frame_name(seed, i), renderer.frame(camera, seed=int(rng.integers(2**31))))
                progress.update()
    PairsFolder(out)  # reads as it must, or says why not
    return total - kept, kept


def frame_name(seed: int, frame: int) -> str:
    return f"{seed:06d}_{frame:03d}"


def _write(out: Path, name: str, frame: Frame) -> None:
    write_picture(out / "rgb" / f"{name}.png", frame.rgb)
    write_depth(out / "depth" / f"{name}.npy", frame.depth_m)  # last: a frame with depth is whole


def _is_there(out: Path, name: str, options: RenderOptions) -> bool:
    path = out / "depth" / f"{name}.npy"
    if not (path.exists() and (out / "rgb" / f"{name}.png").exists()):
        return False
    height, width = read_values(path).shape
    if (width, height) != (options.width, options.height):
        raise UserError(
            f"{path} is {width}x{height}, not {options.width}x{options.height}; choose another --out folder."
        )
    return True
