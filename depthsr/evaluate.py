"""Score models and classical baselines on the same degraded frames, side by side."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from depthsr import metrics
from depthsr.data.degrade import (
    AIS_CLIP_M,
    AIS_STEP_M,
    PROTOCOLS,
    TOF_STEP_M,
    Degraded,
    degrade,
    dequantise_ais,
    ground_truth,
)
from depthsr.data.layouts import Frame, FrameDataset, open_dataset
from depthsr.io.atomic import atomic_path
from depthsr.io.depth import MILLIMETRE_M, NO_VALUE_UINT16
from depthsr.models.baselines import BASELINES
from depthsr.precision import resolve_device
from depthsr.types import UserError

if TYPE_CHECKING:
    from depthsr.infer import Predictor

SPLITS = ("all", "train", "val", "last100")
#: Column of a row -> (heading of the table, factor, decimals, whether less is better).
COLUMNS = {
    "rmse": ("RMSE (m)", 1, 3, True),
    "mae": ("MAE (m)", 1, 3, True),
    "abs_rel": ("AbsRel (%)", 100, 2, True),
    "delta1": ("δ1 (%)", 100, 2, False),
    "edge_rmse": ("edge RMSE (m)", 1, 3, True),
    "boundary_f1": ("boundary F1 (%)", 100, 2, False),
    "time_ms": ("time (ms)", 1, 1, True),
}

log = logging.getLogger(__name__)


def evaluate(
    data: str | Path,
    protocol: str,
    models: Sequence[str] | None = None,
    *,
    baselines: bool = True,
    split: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
) -> dict:
    """Degrade the frames of a folder, restore them with each method, score the results.

    data       folder in any layout of depthsr.data.layouts. Where a frame brings its own low-resolution depth (`lr/`),
               that is restored instead of a simulated one.
    protocol   one of depthsr.data.degrade.PROTOCOLS: how depth is degraded and against what it is scored.
    models     names or folders of models (None: "edge"); baselines may be named too.
    baselines  put all classical baselines beside the models, each with its settings for the protocol.
    split      "all", "train", "val", "last100"; None: the validation part where the layout states one, else all.
    limit      at most so many frames, spread evenly over the split.
    seed       the noise of the i-th frame of the folder is drawn from seed + i, whatever the split and limit.

    Returns {"protocol", "frames", "split", "seed", "device", "rows": [{"method", "rmse", "mae", "abs_rel", "delta1",
    "edge_rmse", "boundary_f1", "time_ms"}, ...]}: means over frames (metres, shares), median time of a call. A metric
    that is defined for no frame is None. Raises UserError for an unknown protocol, split or model and bad files.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"there is no protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}.")
    dataset = open_dataset(data)
    split = split or ("val" if dataset.has_own_split else "all")
    names = _choose(dataset, split, limit)
    methods = list(dict.fromkeys([*(models or ["edge"]), *(BASELINES if baselines else [])]))
    predictors = {method: _load(method, protocol, device, dtype) for method in methods}

    position = {name: i for i, name in enumerate(dataset.names)}
    scores: dict[str, list[dict[str, float]]] = {method: [] for method in methods}
    times_ms: dict[str, list[float]] = {method: [] for method in methods}
    for name in tqdm(names, desc=f"eval {protocol}", unit="frame", delay=2):
        frame = dataset.read(name)
        truth_m = ground_truth(frame.depth_m, protocol)
        degraded = _degraded(frame, name, dataset, protocol, seed + position[name])
        if not (np.isfinite(truth_m).any() and np.isfinite(degraded.depth_m).any()):
            log.warning("%s is left out: it has no depth to score or none to start from.", name)
            continue
        for method, predictor in predictors.items():
            if not times_ms[method]:
                _restore(predictor, frame, degraded)  # the first call pays for start-up; it is not counted
            depth_m, time_ms = _restore(predictor, frame, degraded)
            scores[method].append(metrics.score(depth_m, truth_m))
            times_ms[method].append(time_ms)
    frames = len(times_ms[methods[0]])
    if not frames:
        raise UserError(f"{data} has no frame with depth to score; check the files in its depth folder.")
    return {
        "protocol": protocol,
        "frames": frames,
        "split": split,
        "seed": seed,
        "device": str(resolve_device(device)),
        "rows": [
            {
                "method": method,
                **{k: None if np.isnan(v) else v for k, v in metrics.mean_over_frames(scores[method]).items()},
                "time_ms": float(np.median(times_ms[method])),
            }
            for method in methods
        ],
    }


def _choose(dataset: FrameDataset, split: str, limit: int | None) -> list[str]:
    if split not in SPLITS:
        raise UserError(f"there is no split {split!r}; choose one of {', '.join(SPLITS)}.")
    if split == "all":
        names = dataset.names
    elif split == "last100":
        names = dataset.last(100)
    else:
        names = dataset.split(split)
    if limit is None or limit >= len(names):
        return names
    if limit < 1:
        raise UserError(f"a limit of {limit} frames leaves nothing to score; give at least 1.")
    return [names[i * len(names) // limit] for i in range(limit)]


def _load(method: str, protocol: str, device: str, dtype: str) -> Predictor:
    from depthsr.infer import BaselineRestorer, Predictor, load

    if method in BASELINES:
        return Predictor(method, BaselineRestorer(partial(BASELINES[method], protocol=protocol)))
    return load(method, device=device, dtype=dtype)


def _degraded(frame: Frame, name: str, dataset: FrameDataset, protocol: str, seed: int) -> Degraded:
    """The frame's own low-resolution depth where it has one that fits the protocol, else a simulated one."""
    if frame.lr is None or dataset.lr_protocol not in (None, protocol):
        return degrade(frame.depth_m, protocol, seed=seed)
    if protocol == "ais":
        levels = frame.lr.astype(np.float32)
        return Degraded(levels, dequantise_ais(levels), AIS_STEP_M, AIS_CLIP_M, protocol)
    low_m = _metres(frame.lr, name)
    return Degraded(low_m, low_m, TOF_STEP_M if protocol == "tof" else 0.0, None, protocol)


def _metres(lr_hw: np.ndarray, name: str) -> np.ndarray:
    """As depthsr.io.depth reads them: floating point is metres, 16-bit and wider integers are millimetres."""
    if lr_hw.dtype.kind == "f":
        low_m = lr_hw.astype(np.float32)
    elif lr_hw.dtype.itemsize == 1:
        raise UserError(
            f"the low-resolution depth of {name} has 8 bits; give 16-bit millimetres, or metres as a float32 array."
        )
    else:
        low_m = np.where(lr_hw == NO_VALUE_UINT16, np.nan, lr_hw * MILLIMETRE_M).astype(np.float32)
    return np.where(np.isfinite(low_m) & (low_m > 0), low_m, np.float32("nan"))


def _restore(predictor: Predictor, frame: Frame, degraded: Degraded) -> tuple[np.ndarray, float]:
    """H×W metres and the milliseconds that the call took."""
    start = time.perf_counter()
    prediction = predictor(
        frame.rgb,
        degraded.depth_m,
        quantisation_step_m=degraded.quantisation_step_m,
        max_depth_m=degraded.max_depth_m,
    )
    return prediction.depth_m, 1e3 * (time.perf_counter() - start)


def markdown_table(result: dict) -> str:
    """The rows of `evaluate` as a Markdown table, the best of each column in bold."""
    lines = [
        f"{result['protocol']}: {result['frames']} frames, split {result['split']}, seed {result['seed']}",
        "",
        "| method | " + " | ".join(heading for heading, *_ in COLUMNS.values()) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    best = {}
    for column, (_, _, _, less_is_better) in COLUMNS.items():
        values = [row[column] for row in result["rows"] if row[column] is not None]
        best[column] = (min if less_is_better else max)(values) if values else None
    for row in result["rows"]:
        cells = []
        for column, (_, factor, decimals, _) in COLUMNS.items():
            value = row[column]
            text = "–" if value is None else f"{factor * value:.{decimals}f}"
            cells.append(f"**{text}**" if value is not None and value == best[column] else text)
        lines.append(f"| {row['method']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_json(result: dict, path: str | Path) -> None:
    """Write the result of `evaluate` whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
