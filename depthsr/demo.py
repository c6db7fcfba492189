"""A sample through the whole chain: a rendered frame is degraded, restored, compared with baselines and scored."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from pathlib import Path

import numpy as np

from depthsr.data.degrade import degrade, ground_truth
from depthsr.infer import load
from depthsr.infer_files import Results, infer_files
from depthsr.io import (
    Inputs,
    atomic_path,
    colourise,
    depth_range,
    read_depth,
    read_rgb,
    side_by_side,
    write_depth,
    write_picture,
)
from depthsr.metrics import score
from depthsr.models.baselines import BASELINES

SAMPLE = Path(__file__).parent / "assets" / "demo"
PROTOCOL = "gdsr-x8-noisy"
SEED = 0

#: Farther surfaces are cut at this depth, so that the sample fits the 65 m of a 16-bit PNG in millimetres.
REACH_M = 50.0

#: Columns of the table: metric, heading, factor.
COLUMNS = (
    ("rmse", "RMSE m", 1),
    ("mae", "MAE m", 1),
    ("abs_rel", "AbsRel %", 100),
    ("edge_rmse", "RMSE at edges m", 1),
)


def run(out: str | Path = "depthsr-demo", model: str = "edge", device: str = "auto") -> str:
    """Write the sample, the restored depth, comparison.png and scores.json into `out`; returns the report to print.

    The sample is a frame of a rendered scene that the shipped weights were not trained on.
    """
    out = Path(out)
    predictor = load(model, device)
    truth_m = _write_sample(out)
    frame = Inputs("sample", out / "sample_rgb.webp", out / "sample_depth.png")
    rgb, depth_m = read_rgb(frame.rgb), read_depth(frame.depth)

    started = time.perf_counter()
    (restored,) = infer_files(predictor, [frame], out, results=Results(picture=False))
    seconds = time.perf_counter() - started
    results_m = {model: read_depth(restored)}
    for name in BASELINES:
        results_m[name] = BASELINES[name](rgb / np.float32(255), depth_m, protocol=PROTOCOL)
    scores = {name: score(result_m, truth_m) for name, result_m in results_m.items()}
    _write_scores(out / "scores.json", scores)
    best = min(BASELINES, key=lambda name: scores[name]["rmse"])

    range_m = depth_range(truth_m)
    h, w = depth_m.shape
    panels = {
        "RGB": rgb,
        f"input, {w}x{h}": colourise(depth_m, range_m),
        f"{best}, RMSE {scores[best]['rmse']:.2f} m": colourise(results_m[best], range_m),
        f"depthsr {model}, RMSE {scores[model]['rmse']:.2f} m": colourise(results_m[model], range_m),
        "ground truth": colourise(truth_m, range_m),
    }
    write_picture(out / "comparison.png", side_by_side(panels))
    return "\n".join(
        [
            f"A rendered frame of a scene held out for validation, its depth degraded to {w}x{h} with 2 % noise",
            f"({PROTOCOL}, seed {SEED}), restored to {rgb.shape[1]}x{rgb.shape[0]} in {seconds:.2f} s, files included.",
            "",
            _table(scores),
            "One frame proves little: the model card has the table of the validation set, `depthsr eval` makes yours.",
            "",
            f"Look at {out / 'comparison.png'}. The depth is in {restored} (16-bit, millimetres).",
            f"Whose scene it is, and its licence: {out / 'ATTRIBUTION.md'}.",
            "",
            "The same by hand, and for your own files, folders or quoted patterns:",
            "  " + shlex.join(["depthsr", "infer", *_arguments(frame, out / "result")]),
            "  depthsr infer --rgb YOUR_RGB.jpg --depth YOUR_DEPTH.png --out result",
        ]
    )


def _write_sample(out: Path) -> np.ndarray:
    """Writes RGB, poor depth, ground truth and attribution; returns the ground truth, NaN where it is not scored."""
    depth_m = np.minimum(read_depth(SAMPLE / "depth.exr"), REACH_M)
    truth_m = ground_truth(depth_m, PROTOCOL)
    write_depth(out / "sample_depth.png", degrade(depth_m, PROTOCOL, seed=SEED).depth_m)
    write_depth(out / "sample_truth.exr", truth_m)
    for source, name in (("rgb.webp", "sample_rgb.webp"), ("ATTRIBUTION.md", "ATTRIBUTION.md")):
        with atomic_path(out / name) as temporary:
            shutil.copyfile(SAMPLE / source, temporary)
    return truth_m


def _arguments(frame: Inputs, out: Path) -> list[str]:
    return ["--rgb", str(frame.rgb), "--depth", str(frame.depth), "--out", str(out)]


def _write_scores(path: Path, scores: dict[str, dict[str, float]]) -> None:
    """In the form of `depthsr eval --json`."""
    rows = [{"method": name, **of} for name, of in scores.items()]
    with atomic_path(path) as temporary:
        temporary.write_text(
            json.dumps({"protocol": PROTOCOL, "frames": 1, "seed": SEED, "rows": rows}, indent=2) + "\n"
        )


def _table(scores: dict[str, dict[str, float]]) -> str:
    width = max(len(name) for name in scores)
    lines = [" " * width + "".join(f"  {heading:>15}" for _, heading, _ in COLUMNS)]
    for name, of in scores.items():
        lines.append(f"{name:<{width}}" + "".join(f"  {of[metric] * factor:15.3f}" for metric, _, factor in COLUMNS))
    return "\n".join(lines)
