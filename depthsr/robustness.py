"""RMSE against how much of a measurement is lost: noise, dropped bits and scale of the challenge's law, one by one.

Every method restores the same inputs. The baselines keep their settings for `ais`, the models their weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from depthsr import metrics
from depthsr.bootstrap import LEVEL, RESAMPLES, bootstrap
from depthsr.data.degrade import AIS_DROPPED_BITS, AIS_FACTOR, degrade_ais, ground_truth
from depthsr.data.layouts import open_dataset
from depthsr.evaluate import (
    choose_frames,
    choose_methods,
    load_method,
    relative_input,
    relative_source,
    restore,
)
from depthsr.io.atomic import atomic_path
from depthsr.models.baselines import BASELINES
from depthsr.precision import resolve_device
from depthsr.types import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Argument of degrade_ais -> (what it is called, the values it takes while the others keep the challenge's). Levels are
#: rounded when they are read, which removes the challenge's own noise whole: it takes several times that to show.
SWEEPS: dict[str, tuple[str, tuple[float, ...]]] = {
    "noise": ("noise, times the challenge's", (0, 1, 2, 4, 8, 16)),
    "dropped_bits": ("dropped bits", (0, 1, 2, 3, 4, 5, 6)),
    "factor": ("scale", (2, 4, 8, 16)),
}
CHALLENGE = {"noise": 1, "dropped_bits": AIS_DROPPED_BITS, "factor": AIS_FACTOR}

FIGURE_SUFFIXES = (".png", ".svg", ".pdf")
#: Of the baselines, which share one colour.
MARKERS = "v^<sDx+p*"


def measure(
    data: str | Path,
    models: Sequence[str] | None = None,
    *,
    baselines: bool = True,
    split: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    relative: str = "network",
    device: str = "auto",
    dtype: str = "auto",
) -> dict:
    """Restore every frame of a folder under each setting of SWEEPS; arguments as of depthsr.evaluate.evaluate.

    The frames' own low-resolution depth (`lr/`) is not used, and a frame's noise is the same at every strength. It
    takes about fifteen times as long as the table of `ais`.

    Returns {"protocol": "ais", "frames", "split", "seed", "device", "relative", "interval" (as of evaluate), "sweeps":
    [{"varied", "values", "method", "rmse": [metres a value], "ci": [[low, high] or None a value]}, ...]}.
    """
    dataset = open_dataset(data)
    split = split or ("val" if dataset.has_own_split else "all")
    names = choose_frames(dataset, split, limit)
    methods = choose_methods(models, baselines)
    predictors = {method: load_method(method, "ais", device, dtype) for method in methods}
    used_relative = relative_source(relative, predictors)

    settings = _settings()
    rmse_m: dict[tuple, list[float]] = {(setting, method): [] for setting in settings for method in methods}
    scenes = []
    for name in tqdm(names, desc="robustness", unit="frame", delay=2):
        frame = dataset.read(name)
        truth_m = ground_truth(frame.depth_m, "ais")
        if not np.isfinite(truth_m).any():
            continue
        scenes.append(dataset.scene(name))
        relative_HW = relative_input(frame, name, dataset, relative, seed)
        for setting in settings:
            degraded = degrade_ais(frame.depth_m, seed=seed + dataset.names.index(name), **dict(setting))
            for method, predictor in predictors.items():
                restored = restore(predictor, frame, degraded, relative_HW)
                rmse_m[setting, method].append(metrics.rmse(restored.depth_m, truth_m))
    if not scenes:
        raise UserError(f"{data} has no frame with depth to score; check the files in its depth folder.")

    drawn = bootstrap(scenes, seed=seed)
    sweeps = []
    for varied, (_, values) in SWEEPS.items():
        for method in methods:
            of_value = [rmse_m[_setting(varied, value), method] for value in values]
            bounds = [drawn.interval(frames) for frames in of_value]
            sweeps.append(
                {
                    "varied": varied,
                    "values": list(values),
                    "method": method,
                    "rmse": [float(np.mean(frames)) for frames in of_value],
                    "ci": [None if bound is None else list(bound) for bound in bounds],
                }
            )
    return {
        "protocol": "ais",
        "frames": len(scenes),
        "split": split,
        "seed": seed,
        "device": str(resolve_device(device)),
        "relative": used_relative,
        "interval": {"level": LEVEL, "resamples": RESAMPLES, "unit": drawn.unit, "units": drawn.units},
        "sweeps": sweeps,
    }


def _setting(varied: str, value: float) -> tuple[tuple[str, Any], ...]:
    """Arguments of degrade_ais, hashable: the challenge's own setting belongs to all three sweeps and is run once."""
    return tuple({**CHALLENGE, varied: value}.items())


def _settings() -> list[tuple[tuple[str, Any], ...]]:
    return list(dict.fromkeys(_setting(varied, value) for varied, (_, values) in SWEEPS.items() for value in values))


def table(curves: dict) -> str:
    """A Markdown table for each sweep: RMSE in metres, a row a method, a column a value."""
    relative = "" if curves["relative"] is None else f", relative depth: {curves['relative']}"
    lines = [f"RMSE (m) on {curves['frames']} frames, split {curves['split']}, seed {curves['seed']}{relative}"]
    for varied, (title, values) in SWEEPS.items():
        lines += ["", f"| {title} | " + " | ".join(f"{value:g}" for value in values) + " |"]
        lines.append("|---|" + "---:|" * len(values))
        for sweep in curves["sweeps"]:
            if sweep["varied"] == varied:
                lines.append(f"| {sweep['method']} | " + " | ".join(f"{rmse_m:.2f}" for rmse_m in sweep["rmse"]) + " |")
    return "\n".join(lines)


def check_figure(path: str | Path) -> None:
    """Raises UserError where `draw` could not write there; better before the measurement than after it."""
    if Path(path).suffix.lower() not in FIGURE_SUFFIXES:
        raise UserError(f"{path} is no figure this can write; end its name with {', '.join(FIGURE_SUFFIXES)}.")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError("the figure is drawn by matplotlib, which is not installed; pip install matplotlib.") from error


def draw(curves: dict, path: str | Path) -> None:
    """Write the figure of `measure`'s result as PNG, SVG or PDF, by suffix, whole or not at all."""
    check_figure(path)
    with atomic_path(path) as temporary:
        figure_of(curves).savefig(temporary, dpi=150)


def figure_of(curves: dict) -> Figure:
    """One plot a sweep. Models are drawn in colour and thick with their interval as a band, baselines thin and grey;
    a dotted line marks the challenge's own setting.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    all_axes = figure.subplots(1, len(SWEEPS), sharey=True)
    for axes, varied in zip(all_axes, SWEEPS, strict=True):
        _draw_sweep(axes, varied, [sweep for sweep in curves["sweeps"] if sweep["varied"] == varied])
    all_axes[0].set_ylim(bottom=0)
    all_axes[0].set_ylabel("RMSE (m)")
    figure.legend(*all_axes[-1].get_legend_handles_labels(), loc="outside right upper", fontsize="x-small")
    return figure


def _draw_sweep(axes: Axes, varied: str, sweeps: list[dict]) -> None:
    title, values = SWEEPS[varied]
    markers = cycle(MARKERS)
    for sweep in sweeps:
        if sweep["method"] in BASELINES:
            style: dict[str, Any] = {"color": "0.45", "linewidth": 0.8, "markersize": 4, "marker": next(markers)}
            axes.plot(values, sweep["rmse"], label=sweep["method"], **style)
            continue
        (line,) = axes.plot(values, sweep["rmse"], label=sweep["method"], marker="o", linewidth=2.2)
        if all(sweep["ci"]):
            low, high = zip(*sweep["ci"], strict=True)
            axes.fill_between(values, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.axvline(CHALLENGE[varied], color="0.7", linestyle=":")
    axes.set_xlabel(title)
    if varied == "factor":
        axes.set_xscale("log", base=2)
        axes.set_xticks(values, [f"×{value:g}" for value in values])
