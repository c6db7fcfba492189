"""Frames on disk: read, restore, write. What `depthsr infer` does after it has understood its options."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from depthsr.config import ALSO
from depthsr.frames import Settings
from depthsr.infer import BaselineRestorer, Predictor
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
from depthsr.types import Prediction, SetupError, UserError

#: Of a frame; where less is near a measurement, most of the result is a guess, and that is said.
LEAST_VALID_SHARE = 0.5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Results:
    """What is written of a frame.

    depth_format  one of depthsr.io.DEPTH_FORMATS.
    also          of ALSO: write these fields of the Prediction too. Raises UserError for another word.
    picture       also write NAME.vis.png: RGB, input and result side by side.
    """

    depth_format: str = "png"
    also: Sequence[str] = ()
    picture: bool = True

    def __post_init__(self) -> None:
        for word in self.also:
            if word not in ALSO:
                raise UserError(f"{word!r} cannot be written; choose of {', '.join(ALSO)}.")

    def endings(self) -> dict[str, str]:
        """What is written -> how its file's name ends."""
        return {
            "depth": f".{self.depth_format}",
            **({"error": f".error.{self.depth_format}"} if "error" in self.also else {}),
            **{kind: f".{kind}.png" for kind in ("confidence", "valid") if kind in self.also},
            **({"picture": ".vis.png"} if self.picture else {}),
        }


def infer_files(
    predictor: Predictor,
    frames: Sequence[Inputs],
    out: str | Path,
    settings: Settings | None = None,
    results: Results | None = None,
) -> list[Path]:
    """Write NAME.<format> (and what else `results` says) into `out` for each frame; returns the depth files.

    settings  what is known of all their measurements; its scale is that of the depth files (depthsr.infer.Predictor).

    NAME.error.<format>  metres, as the depth.
    NAME.confidence.png  8 bits, 255 = 1.
    NAME.valid.png       8 bits, 255 = near a measurement, 0 = not.
    NAME.vis.png         the picture.

    A progress bar appears when several take more than two seconds. Raises UserError before anything is computed when
    `results` makes no sense, two of them would be one file, or one would replace an input. A frame that cannot be
    restored is told as soon as it is met, with its files, and left out; the UserError comes after the last frame, or at
    once where there is only one.
    """
    settings, results = settings or Settings(), results or Results()
    if {"error", "confidence"} & set(results.also) and isinstance(predictor.restorer, BaselineRestorer):
        raise UserError(
            f"{predictor.name} estimates no error, and no confidence; leave them out of --also, or use a model such as "
            "edge."
        )
    outputs = [
        {kind: Path(out) / f"{frame.name}{ending}" for kind, ending in results.endings().items()} for frame in frames
    ]
    refuse_to_overwrite(frames, outputs)
    failed = 0
    for frame, paths in zip(_with_progress(frames), outputs, strict=True):
        try:
            restore_file(predictor, frame, paths, settings)
        except UserError as error:
            if len(frames) == 1 or isinstance(error, SetupError):
                raise
            log.error("%s", error)
            failed += 1
    if failed:
        raise UserError(f"{failed} of {len(frames)} frames failed.")
    return [paths["depth"] for paths in outputs]


def _with_progress(frames: Sequence[Inputs]) -> Iterable[Inputs]:
    if len(frames) == 1:  # importing the bar takes a tenth of a second
        return frames
    from tqdm import tqdm

    return tqdm(frames, unit="frame", delay=2)


def restore_file(predictor: Predictor, frame: Inputs, paths: dict[str, Path], settings: Settings) -> None:
    """Read one frame, restore it, and write what `paths` names (see Results.endings)."""
    rgb = read_rgb(frame.rgb)
    ais = settings.protocol == "ais"
    depth = read_values(frame.depth) if ais else read_depth(frame.depth, settings.scale)
    relative = None if frame.relative is None else read_relative(frame.relative)
    try:
        in_metres = {**asdict(settings), "scale": None}
        prediction = predictor(rgb, depth, relative=relative, **in_metres)
    except SetupError:
        raise
    except UserError as error:
        others = [frame.depth] if frame.relative is None else [frame.depth, frame.relative]
        raise UserError(f"{frame.rgb} with {' and '.join(map(str, others))}: {error}") from error
    if (share := prediction.valid.mean()) < LEAST_VALID_SHARE:
        message = "%s: only %.0f %% of the frame is near a measurement (--also valid says where)."
        log.warning(message, frame.rgb, 100 * share)
    _write(prediction, paths)
    if "picture" in paths:
        from depthsr.data.degrade import dequantise_ais

        write_picture(paths["picture"], comparison(rgb, dequantise_ais(depth) if ais else depth, prediction.depth_m))


def _write(prediction: Prediction, paths: dict[str, Path]) -> None:
    write_depth(paths["depth"], prediction.depth_m)
    if "error" in paths:
        write_depth(paths["error"], prediction.error_m)
    if "confidence" in paths:
        write_picture(paths["confidence"], np.rint(255 * prediction.confidence).astype(np.uint8))
    if "valid" in paths:
        write_picture(paths["valid"], np.where(prediction.valid, 255, 0).astype(np.uint8))


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


def refuse_to_overwrite(frames: Sequence[Inputs], outputs: Sequence[dict[str, Path]]) -> None:
    """Raises UserError when a result would replace a file that one is made from, or another result."""
    inputs = {path.resolve() for frame in frames for path in (frame.rgb, frame.depth, frame.relative) if path}
    owner: dict[Path, Inputs] = {}
    for frame, paths in zip(frames, outputs, strict=True):
        for path in paths.values():
            if path.resolve() in inputs:
                raise UserError(f"{path} is an input and would be overwritten; choose another --out folder.")
            if path in owner:
                raise UserError(
                    f"{path} would be written for {owner[path].rgb} and for {frame.rgb}; rename one of them, or "
                    "restore them into different folders."
                )
            owner[path] = frame
