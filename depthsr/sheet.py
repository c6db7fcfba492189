"""The frames of an evaluation worth looking at: the worst ones and the median one, every method beside the truth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from depthsr import metrics
from depthsr.data.degrade import ground_truth
from depthsr.data.layouts import open_dataset
from depthsr.evaluate import degraded_input, load_method, relative_input, restore
from depthsr.io.picture import colourise, depth_range, side_by_side, write_picture

WORST = 2
PANEL_PX = 320


def write_sheet(
    path: str | Path, result: dict, data: str | Path, *, device: str = "auto", dtype: str = "auto"
) -> dict[str, str]:
    """Restore the chosen frames of an evaluation again and write them as one picture; returns {frame name: which}.

    path     PNG, WebP or JPEG.
    result   of depthsr.evaluate.evaluate on `data`; the frames are chosen by the RMSE of its first method.

    Two rows a frame: RGB, input, each method's depth and the truth in the same colours; below, each method's absolute
    error from black (0) to white (the largest of the row's 95th percentiles).
    """
    dataset, protocol = open_dataset(data), result["protocol"]
    predictors = {row["method"]: load_method(row["method"], protocol, device, dtype) for row in result["rows"]}
    cases = choose_cases(result)
    rows = []
    for name, which in cases.items():
        frame = dataset.read(name)
        truth_m = ground_truth(frame.depth_m, protocol)
        degraded = degraded_input(frame, name, dataset, protocol, result["seed"])
        relative_HW = relative_input(frame, name, dataset, result["relative"] or "network", result["seed"])
        depths_m = {
            method: restore(predictor, frame, degraded, relative_HW, result["downsampling"]).depth_m
            for method, predictor in predictors.items()
        }
        rows += _rows(f"{which}: {name}", frame.rgb, degraded.depth_m, depths_m, truth_m, result["unit"])
    write_picture(path, np.vstack(rows))
    return cases


def choose_cases(result: dict) -> dict[str, str]:
    """{frame name: "worst", "worst 2" or "median"} by the first method's RMSE; the median is the upper one of two."""
    rmse_m = result["per_frame"][0]["rmse"]
    from_worst = sorted(range(len(rmse_m)), key=lambda i: -rmse_m[i])
    chosen = {from_worst[(len(from_worst) - 1) // 2]: "median"}
    for place, i in enumerate(from_worst[:WORST]):
        chosen.setdefault(i, "worst" if place == 0 else f"worst {place + 1}")
    return {result["frame_names"][i]: chosen[i] for i in from_worst if i in chosen}


def _rows(
    title: str,
    rgb: np.ndarray,
    low_m: np.ndarray,
    depths_m: dict[str, np.ndarray],
    truth_m: np.ndarray,
    unit: str,
) -> list[np.ndarray]:
    range_m = depth_range(truth_m)
    errors_m = {method: np.abs(depth_m - truth_m) for method, depth_m in depths_m.items()}
    white_m = max(float(np.nanpercentile(error_m, 95)) for error_m in errors_m.values())
    blank = np.full_like(rgb, 255)
    depth_panels = {title: rgb, f"input {low_m.shape[1]}x{low_m.shape[0]}": colourise(low_m, range_m)}
    error_panels = {" ": blank, f"white: {white_m:.3g} {unit}": blank}
    for method, depth_m in depths_m.items():
        depth_panels[method] = colourise(depth_m, range_m)
        error_panels[f"RMSE {metrics.rmse(depth_m, truth_m):.3g} {unit}, {method}"] = _grey(errors_m[method], white_m)
    depth_panels["truth"] = colourise(truth_m, range_m)
    error_panels["  "] = blank
    return [_row(depth_panels), _row(error_panels)]


def _grey(error_m: np.ndarray, white_m: float) -> np.ndarray:
    """H×W×3 uint8; black where nothing is scored."""
    shade = np.clip(np.nan_to_num(error_m) / max(white_m, np.finfo(np.float32).tiny), 0, 1)
    return np.repeat(np.rint(255 * shade).astype(np.uint8)[..., None], 3, axis=2)


def _row(panels: dict[str, np.ndarray]) -> np.ndarray:
    """Panels at PANEL_PX, large ones averaged and small ones enlarged by whole pixels."""
    height, width = max((panel.shape[:2] for panel in panels.values()), key=lambda size: size[0] * size[1])
    size = (PANEL_PX, max(1, round(height * PANEL_PX / width)))
    return side_by_side(
        {
            label: cv2.resize(
                panel, size, interpolation=cv2.INTER_AREA if panel.shape[1] > PANEL_PX else cv2.INTER_NEAREST
            )
            for label, panel in panels.items()
        }
    )
