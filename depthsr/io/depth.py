"""Depth maps on disk: 16-bit PNG, TIFF, NPY, NPZ, EXR, PFM. In memory always float32 metres.

Integers are millimetres and floating-point numbers are metres unless `scale` (metres per stored unit) says otherwise.
No value is 0, NaN or a negative infinity, and in 16-bit integers also 65535; it is NaN in memory. Sky is inf or, in
floating point, 65504 (the largest half); it is inf in memory. Negative numbers are passed on for the caller to judge.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from depthsr.config import DEPTH_FORMATS, DEPTH_SUFFIXES
from depthsr.io.atomic import atomic_path
from depthsr.io.exr import read_exr, write_exr
from depthsr.io.image import decode, encode, read_bytes
from depthsr.io.pfm import read_pfm
from depthsr.types import MILLIMETRE_M, SKY_FLOAT16, UserError

NO_VALUE_UINT16 = 65535

#: A 16-bit PNG may lose this share of the values to its limited range (and says so); more is refused as a mistake.
LARGEST_LOST_SHARE = 0.5

log = logging.getLogger(__name__)


def read_depth(path: str | Path, scale: float | None = None) -> np.ndarray:
    """H×W float32 metres; NaN = no value, inf = sky.

    scale  metres per stored unit; None: 0.001 for integers (millimetres), 1 for floating point (metres).

    Raises UserError for a missing or damaged file, a colour or 8-bit picture, several channels, non-numeric data.
    """
    if scale is not None and not (np.isfinite(scale) and scale > 0):
        raise UserError(f"depth scale {scale} makes no metres; give a positive number of metres per stored unit.")
    return metres(read_values(path), str(path), scale)


def metres(values_HW: np.ndarray, name: str, scale: float | None = None) -> np.ndarray:
    """What `read_depth` makes of a file's numbers (see there): H×W float32 metres; NaN = no value, inf = sky.

    Raises UserError, which begins with `name`, for 8-bit numbers.
    """
    if values_HW.dtype in (np.uint8, np.int8, np.bool_):
        raise UserError(
            f"{name} holds {values_HW.dtype.name} numbers, an 8-bit picture of depth and not depth itself; "
            "give the 16-bit PNG, TIFF, NPY, EXR or PFM that the sensor or renderer wrote."
        )
    if np.issubdtype(values_HW.dtype, np.integer):
        no_value = values_HW == 0
        if values_HW.dtype == np.uint16:
            no_value |= values_HW == NO_VALUE_UINT16
        depth_m = values_HW * np.float64(MILLIMETRE_M if scale is None else scale)
        return np.where(no_value, np.nan, depth_m).astype(np.float32)
    values_HW = values_HW.astype(np.float64)
    sky = (values_HW == np.inf) | (values_HW == SKY_FLOAT16)
    no_value = (values_HW == 0) | (values_HW == -np.inf)
    depth_m = values_HW if scale is None else values_HW * scale
    return np.where(sky, np.inf, np.where(no_value, np.nan, depth_m)).astype(np.float32)


def read_values(path: str | Path) -> np.ndarray:
    """H×W numbers as the file stores them, in its own dtype: no scale, no invalid values. Raises UserError."""
    path = Path(path)
    readers: dict[str, Callable[[Path], np.ndarray]] = {
        ".npy": _read_npy,
        ".npz": _read_npz,
        ".exr": read_exr,
        ".png": decode,
        ".tif": decode,
        ".tiff": decode,
        ".pfm": read_pfm,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        read_bytes(path)  # a missing file is the better thing to complain about
        raise UserError(f"{path} is of no depth format; give one of {', '.join(s[1:] for s in DEPTH_SUFFIXES)}.")
    values = reader(path)
    if not (np.issubdtype(values.dtype, np.integer) or np.issubdtype(values.dtype, np.floating)):
        raise UserError(f"{path} holds {values.dtype} data; a depth map is of real numbers (float32 metres, say).")
    if values.ndim == 3:
        raise UserError(
            f"{path} has {values.shape[2]} channels and a depth map has one; give the raw single-channel file."
        )
    if values.ndim != 2:
        raise UserError(f"{path} holds an array of {values.ndim} dimensions; a depth map has two, height and width.")
    if values.size == 0:
        raise UserError(f"{path} holds an empty array ({values.shape[1]}×{values.shape[0]}); export it again.")
    return values


def write_depth(path: str | Path, depth_m: np.ndarray, scale: float = MILLIMETRE_M) -> None:
    """Write H×W metres in the format of the suffix (png, npy, exr, tif, tiff, pfm), whole or not at all.

    Floating-point formats keep the numbers as they are, inf and NaN included. PNG is 16-bit in units of `scale` metres:
    0 where there is no finite positive value, the others rounded and at least 1. Values too far for 16 bits become 0
    and one logged line; when they are most of the map, or for another suffix, it raises UserError.
    """
    path = Path(path)
    depth_m = np.asarray(depth_m, np.float32)
    assert depth_m.ndim == 2, f"depth has shape {depth_m.shape}"
    suffix = path.suffix.lower()
    if suffix == ".png":
        encode(path, _to_uint16(path, depth_m, scale))
    elif suffix in (".tif", ".tiff", ".pfm"):
        encode(path, depth_m)
    elif suffix == ".exr":
        write_exr(path, depth_m)
    elif suffix == ".npy":
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, depth_m)
    else:
        raise UserError(f"cannot write depth as {path.name}; choose one of {', '.join(DEPTH_FORMATS)}.")


def _to_uint16(path: Path, depth_m: np.ndarray, scale: float) -> np.ndarray:
    measured = np.isfinite(depth_m) & (depth_m > 0)
    units = np.rint(np.where(measured, depth_m, 0) / np.float64(scale))
    limit = NO_VALUE_UINT16 - 1
    beyond = units > limit
    if beyond.any():
        share, keep = beyond.sum() / measured.sum(), "write npy, exr, tiff or pfm (--format) to keep it"
        if share > LARGEST_LOST_SHARE:
            raise UserError(
                f"depth up to {depth_m[measured].max():.2f} m does not fit {path}, whose 16 bits end at "
                f"{limit * scale:g} m; {keep}, or give --depth-scale if the input was not in the unit assumed."
            )
        log.warning(
            "%s: depth beyond %g m (%.1f %% of the pixels) became 0; %s.", path, limit * scale, 100 * share, keep
        )
    return np.where(measured & ~beyond, np.maximum(units, 1), 0).astype(np.uint16)


def _read_npy(path: Path) -> np.ndarray:
    read_bytes(path)
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path} is damaged or no plain NPY array; write it again with numpy.save.") from error
    if not isinstance(values, np.ndarray):
        raise UserError(f"{path} is an NPZ archive by another name; rename it to .npz.")
    return _without_channel_axis(values)


def _read_npz(path: Path) -> np.ndarray:
    read_bytes(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = archive.files
            chosen = names if len(names) == 1 else [name for name in ("depth_m", "depth") if name in names]
            if chosen:
                return _without_channel_axis(archive[chosen[0]])
    except (ValueError, EOFError, OSError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged or no plain NPZ archive; write it again with numpy.savez.") from error
    raise UserError(f"{path} holds the arrays {', '.join(names) or '(none)'}; name the depth map 'depth'.")


def _without_channel_axis(values: np.ndarray) -> np.ndarray:
    """1×H×W and H×W×1, as tensors are often saved, to H×W."""
    if values.ndim == 3 and values.shape[0] == 1:
        return values[0]
    return values[:, :, 0] if values.ndim == 3 and values.shape[2] == 1 else values
