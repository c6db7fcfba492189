"""Good depth files to degraded ones. What `depthsr degrade` does after it has understood its options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm import tqdm

from depthsr.data.degrade import degrade
from depthsr.io import DEPTH_SUFFIXES, expand, pair_inputs, read_depth, read_rgb, write_depth
from depthsr.types import UserError


def degrade_files(
    depth: str,
    out: str | Path,
    protocol: str,
    *,
    seed: int = 0,
    depth_scale: float | None = None,
    rgb: str | None = None,
) -> list[Path]:
    """Write NAME.npy (h×w float32: levels for "ais", else metres with NaN = no value) for each depth file.

    depth  a file, a folder or a pattern; the i-th file's noise is drawn from seed + i, as `depthsr eval` does.
    rgb    likewise, the pictures of the depth, paired by name: for protocol "matched", which looks at them.

    A progress bar appears when it takes more than two seconds. Raises UserError for a file that is no depth map, a
    picture of another size than its depth, and pictures that are missing or have no partner.
    """
    if rgb is not None and protocol != "matched":
        raise UserError(f"protocol {protocol} does not look at RGB; leave --rgb out.")
    if rgb is None:
        paths: list[tuple[Path, Path | None]] = [(path, None) for _, path in expand(depth, DEPTH_SUFFIXES, "--depth")]
    else:
        paths = [(frame.depth, frame.rgb) for frame in pair_inputs(rgb, depth)]
    outputs = [Path(out) / f"{path.stem}.npy" for path, _ in paths]
    if len(set(outputs)) < len(outputs):
        raise UserError(f"--depth {depth} means several files of one name; degrade them folder by folder.")
    for i, ((path, rgb_path), output) in enumerate(zip(tqdm(paths, unit="frame", delay=2), outputs, strict=True)):
        if output.resolve() == path.resolve():
            raise UserError(f"{path} would be overwritten by its degraded copy; choose another --out folder.")
        depth_m = read_depth(path, depth_scale)
        if (depth_m < 0).any():
            raise UserError(f"{path} holds negative depth; set pixels without a value to 0 or NaN.")
        if np.isnan(depth_m).all():
            raise UserError(f"{path} has no valid pixel (all 0 or NaN); check the file and --depth-scale.")
        rgb_HW3 = None if rgb_path is None else read_rgb(rgb_path)
        if rgb_HW3 is not None and rgb_HW3.shape[:2] != depth_m.shape:
            raise UserError(f"{rgb_path} and {path} differ in size; give the picture that the depth was made for.")
        try:
            degraded = degrade(depth_m, protocol, seed=seed + i, rgb_HW3=rgb_HW3)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        write_depth(output, degraded.raw)
    return outputs
