"""Frames on disk: read, restore, write. What `depthsr infer` does after it has understood its options."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from depthsr.infer import Predictor
from depthsr.io import (
    Inputs,
    colourise,
    depth_range,
    read_depth,
    read_relative,
    read_rgb,
    read_values,
    side_by_side,
    write_depth,
    write_picture,
)
from depthsr.types import UserError


@dataclass(frozen=True)
class FileOptions:
    """How depth files are read and results written.

    protocol             "metric" or "ais" (depth files hold the challenge's low-resolution levels).
    depth_scale          metres per stored unit; None: integers are millimetres, floating point metres.
    quantisation_step_m, max_depth_m, downsampling   as in Predictor.
    depth_format         one of depthsr.io.DEPTH_FORMATS.
    picture              also write NAME.vis.png: RGB, input and result side by side.
    """

    protocol: str = "metric"
    depth_scale: float | None = None
    quantisation_step_m: float | None = None
    max_depth_m: float | None = None
    downsampling: str | None = None
    depth_format: str = "png"
    picture: bool = True


def infer_files(
    predictor: Predictor, frames: Sequence[Inputs], out: str | Path, options: FileOptions | None = None
) -> list[Path]:
    """Write NAME.<format> (and NAME.vis.png) into `out` for each frame; returns the depth files.

    A progress bar appears when several take more than two seconds. Raises UserError, naming the frame's files, at the
    first frame that cannot be restored; what was written before it is whole.
    """
    options = options or FileOptions()
    out = Path(out)
    outputs = [out / f"{frame.name}.{options.depth_format}" for frame in frames]
    pictures = [out / f"{frame.name}.vis.png" if options.picture else None for frame in frames]
    refuse_to_overwrite_inputs(frames, outputs + [picture for picture in pictures if picture])
    for frame, output, picture in zip(_with_progress(frames), outputs, pictures, strict=True):
        restore_file(predictor, frame, output, picture, options)
    return outputs


def _with_progress(frames: Sequence[Inputs]) -> Iterable[Inputs]:
    if len(frames) == 1:  # importing the bar takes a tenth of a second
        return frames
    from tqdm import tqdm

    return tqdm(frames, unit="frame", delay=2)


def restore_file(predictor: Predictor, frame: Inputs, output: Path, picture: Path | None, options: FileOptions) -> None:
    """Read one frame, restore it, write the depth and, when `picture` is given, the picture."""
    rgb = read_rgb(frame.rgb)
    ais = options.protocol == "ais"
    depth = read_values(frame.depth) if ais else read_depth(frame.depth, options.depth_scale)
    relative = None if frame.relative is None else read_relative(frame.relative)
    try:
        prediction = predictor(
            rgb,
            depth,
            relative=relative,
            quantisation_step_m=options.quantisation_step_m,
            max_depth_m=options.max_depth_m,
            protocol=options.protocol,
            downsampling=options.downsampling,
        )
    except UserError as error:
        others = [frame.depth] if frame.relative is None else [frame.depth, frame.relative]
        raise UserError(f"{frame.rgb} with {' and '.join(map(str, others))}: {error}") from error
    write_depth(output, prediction.depth_m)
    if picture is not None:
        from depthsr.data.degrade import dequantise_ais

        write_picture(picture, comparison(rgb, dequantise_ais(depth) if ais else depth, prediction.depth_m))


def comparison(rgb: np.ndarray, depth_m: np.ndarray, result_m: np.ndarray) -> np.ndarray:
    """RGB, input and result side by side; one range of colours for both maps, labelled in metres."""
    near_m, far_m = depth_range(result_m)
    h, w = depth_m.shape
    return side_by_side(
        {
            "RGB": rgb,
            f"input, {w}x{h}": colourise(depth_m, (near_m, far_m)),
            f"depthsr, {near_m:.2f} m (red) to {far_m:.2f} m (blue)": colourise(result_m, (near_m, far_m)),
        }
    )


def refuse_to_overwrite_inputs(frames: Sequence[Inputs], outputs: Sequence[Path]) -> None:
    """Raises UserError when a result would replace one of the files it is made from."""
    inputs = {path.resolve() for frame in frames for path in (frame.rgb, frame.depth, frame.relative) if path}
    for output in outputs:
        if output.resolve() in inputs:
            raise UserError(f"{output} is an input and would be overwritten; choose another --out folder.")
