"""Good depth files to degraded ones. What `depthsr degrade` does after it has understood its options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm import tqdm

from depthsr.data.degrade import degrade
from depthsr.io import DEPTH_SUFFIXES, expand, read_depth, write_depth
from depthsr.types import UserError


def degrade_files(
    depth: str, out: str | Path, protocol: str, *, seed: int = 0, depth_scale: float | None = None
) -> list[Path]:
    """Write NAME.npy (h×w float32: levels for "ais", else metres with NaN = no value) for each depth file.

    depth  a file, a folder or a pattern; the i-th file's noise is drawn from seed + i, as `depthsr eval` does.

    A progress bar appears when it takes more than two seconds. Raises UserError for a file that is no depth map.
    """
    found = expand(depth, DEPTH_SUFFIXES, "--depth")
    outputs = [Path(out) / f"{path.stem}.npy" for _, path in found]
    if len(set(outputs)) < len(outputs):
        raise UserError(f"--depth {depth} means several files of one name; degrade them folder by folder.")
    for i, ((_, path), output) in enumerate(zip(tqdm(found, unit="frame", delay=2), outputs, strict=True)):
        if output.resolve() == path.resolve():
            raise UserError(f"{path} would be overwritten by its degraded copy; choose another --out folder.")
        depth_m = read_depth(path, depth_scale)
        if (depth_m < 0).any():
            raise UserError(f"{path} holds negative depth; set pixels without a value to 0 or NaN.")
        if np.isnan(depth_m).all():
            raise UserError(f"{path} has no valid pixel (all 0 or NaN); check the file and --depth-scale.")
        write_depth(output, degrade(depth_m, protocol, seed=seed + i).raw)
    return outputs
