"""Score models and classical baselines on the same degraded frames, side by side."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from depthsr import metrics
from depthsr.bootstrap import LEVEL, RESAMPLES, Bootstrap, bootstrap
from depthsr.config import RELATIVE_SOURCES
from depthsr.data.degrade import (
    AIS_CLIP_M,
    AIS_STEP_M,
    PROTOCOLS,
    TOF_STEP_M,
    Degraded,
    degrade,
    dequantise_ais,
    downsampling_of,
    ground_truth,
)
from depthsr.data.layouts import Frame, FrameDataset, open_dataset
from depthsr.data.relative import simulated_relative_depth
from depthsr.io.depth import metres
from depthsr.models.baselines import BASELINES
from depthsr.precision import resolve_device
from depthsr.published import check_benchmark, published_rows
from depthsr.types import Prediction, UserError

if TYPE_CHECKING:
    from depthsr.infer import Predictor

SPLITS = ("all", "train", "val", "last100")
#: Limits of the depth ranges that are scored apart: of "ais" the end of its first level, within which it tells nothing.
AIS_RANGES_M = (AIS_STEP_M,)
RANGES_M = (5.0, 20.0)
#: Keeps the random numbers of simulated relative depth apart from those of the degradation with the same seed.
RELATIVE_STREAM = 1
#: Metrics in which methods are compared with the best baseline.
COMPARED = ("rmse", "mae")

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
    relative: str = "network",
    benchmark: str | None = None,
    tell_downsampling: bool = False,
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
    seed       the noise of the i-th frame of the folder is drawn from seed + i, whatever the split and limit; the
               bootstrap is drawn from it too.
    relative   one of depthsr.config.RELATIVE_SOURCES: models that take relative depth make it with their own network,
               or get it simulated from the truth (depthsr.data.relative), the i-th frame's drawn from seed + i.
    benchmark  one of depthsr.published.BENCHMARKS, if `data` are its test frames: puts published figures beside ours.
    tell_downsampling  tell every method how the protocol makes depth smaller, so that its result is made to agree with
               the measurement (depthsr.consistency); the baselines' too.

    Returns
      protocol, frames (their number), split, seed, device, benchmark
      relative        as given, where a method takes relative depth; else None.
      downsampling    what the methods were told; None: nothing.
      unit            of depth and of every error: "m", or "grey levels" for the benchmarks that are scored so.
      ranges_m        limits of the ranges of depth that are scored apart.
      input           "simulated", "own" (all frames brought theirs) or "mixed".
      interval        {"level", "resamples", "unit", "units"} of the bootstrap: what was drawn (depthsr.bootstrap).
      best_baseline   {"rmse": name, "mae": name}; {} without a baseline.
      rows            one a method: "method", the mean over frames of each of depthsr.metrics.METRICS, of the MAE that
                      the method itself expects ("expected_mae"), of how badly that tells where the errors are ("ause")
                      and of the RMSE by range (AIS_RANGES_M, else RANGES_M; none in grey levels), None where it is
                      defined for no frame; "time_ms", median of a call; "max_over_input", the largest depth given over
                      the largest depth of the frame's input, largest over frames; "ci", {metric: [low, high] or None};
                      "ratio", {"rmse" and "mae": {"value", "ci"}} to the best baseline on the same frames (None where
                      that one has no error at all).
      published       rows of papers that ran the same protocol on the same benchmark.
      frame_names, scenes, per_frame   the last is one {"method", metric: [a value or None a frame]} a method.

    Raises UserError for an unknown protocol, split, benchmark, model or source of relative depth, for "simulated"
    where no model takes it, for a protocol without a downsampling to tell, and bad files.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"there is no protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}.")
    downsampling = downsampling_of(protocol) if tell_downsampling else None
    unit = "m" if benchmark is None else check_benchmark(benchmark).unit
    dataset = open_dataset(data)
    split = split or ("val" if dataset.has_own_split else "all")
    names = choose_frames(dataset, split, limit)
    methods = choose_methods(models, baselines)
    predictors = {method: load_method(method, protocol, device, dtype) for method in methods}
    used_relative = relative_source(relative, predictors)
    limits_m = () if unit != "m" else AIS_RANGES_M if protocol == "ais" else RANGES_M

    measured = _measure(dataset, names, protocol, predictors, limits_m, seed, relative, downsampling)
    if not measured.frame_names:
        raise UserError(f"{data} has no frame with depth to score; check the files in its depth folder.")
    scenes = [dataset.scene(name) for name in measured.frame_names]
    drawn = bootstrap(scenes, seed=seed)
    rows = [measured.row(method, drawn) for method in methods]
    best_baseline = _best_baseline(rows)
    for row in rows:
        row["ratio"] = {
            metric: _ratio(measured.scores[row["method"]], measured.scores[best], metric, drawn)
            for metric, best in best_baseline.items()
        }
    return {
        "protocol": protocol,
        "frames": len(measured.frame_names),
        "split": split,
        "seed": seed,
        "device": str(resolve_device(device)),
        "benchmark": benchmark,
        "relative": used_relative,
        "downsampling": downsampling,
        "unit": unit,
        "ranges_m": list(limits_m),
        "input": measured.inputs,
        "interval": {"level": LEVEL, "resamples": RESAMPLES, "unit": drawn.unit, "units": drawn.units},
        "best_baseline": best_baseline,
        "rows": rows,
        "published": published_rows(benchmark, protocol, measured.inputs),
        "frame_names": measured.frame_names,
        "scenes": scenes,
        "per_frame": [measured.of_frames(method) for method in methods],
    }


@dataclass
class _Measured:
    """What is kept of the restored frames: numbers, never maps. The dictionaries are by method."""

    frame_names: list[str] = field(default_factory=list)
    own_inputs: int = 0
    scores: dict[str, list[dict[str, float]]] = field(default_factory=lambda: defaultdict(list))
    times_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    max_over_input: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def inputs(self) -> str:
        return "own" if self.own_inputs == len(self.frame_names) else "mixed" if self.own_inputs else "simulated"

    def row(self, method: str, drawn: Bootstrap) -> dict:
        scores = self.scores[method]
        means = metrics.mean_over_frames(scores)
        return {
            "method": method,
            **{metric: None if np.isnan(mean) else mean for metric, mean in means.items()},
            "time_ms": float(np.median(self.times_ms[method])),
            "max_over_input": self.max_over_input[method],
            "ci": {metric: _listed(drawn.interval(_column(scores, metric))) for metric in means},
        }

    def of_frames(self, method: str) -> dict:
        scores = self.scores[method]
        return {"method": method, **{metric: _rounded(_column(scores, metric)) for metric in scores[0]}}


def _measure(
    dataset: FrameDataset,
    names: list[str],
    protocol: str,
    predictors: dict[str, Predictor],
    limits_m: Sequence[float],
    seed: int,
    relative: str,
    downsampling: str | None,
) -> _Measured:
    """Restore and score frame by frame."""
    measured = _Measured()
    progress = tqdm(names, desc=f"eval {protocol}", unit="frame", delay=2)
    for name, frame, degraded, truth_m in frames_to_score(dataset, progress, protocol, seed):
        relative_HW = relative_input(frame, name, dataset, relative, seed)
        for method, predictor in predictors.items():
            if not measured.times_ms[method]:
                # The first call pays for start-up; not counted.
                restore(predictor, frame, degraded, relative_HW, downsampling)
            start = time.perf_counter()
            restored = restore(predictor, frame, degraded, relative_HW, downsampling)
            measured.times_ms[method].append(1e3 * (time.perf_counter() - start))
            measured.scores[method].append(
                {
                    **metrics.score(restored.depth_m, truth_m),
                    "expected_mae": metrics.expected_mae(restored.error_m, truth_m),
                    "ause": metrics.ause(restored.depth_m, restored.error_m, truth_m),
                    **metrics.rmse_by_range(restored.depth_m, truth_m, limits_m),
                }
            )
            largest = float(restored.depth_m.max() / np.nanmax(degraded.depth_m))
            measured.max_over_input[method] = max(measured.max_over_input[method], largest)
        measured.frame_names.append(name)
        measured.own_inputs += _own_input(frame, dataset, protocol) is not None
    return measured


def _best_baseline(rows: list[dict]) -> dict[str, str]:
    """Metric -> the baseline with the least of it over all frames; {} when no baseline ran."""
    baselines = [row for row in rows if row["method"] in BASELINES]
    if not baselines:
        return {}
    return {metric: min(baselines, key=lambda row: row[metric])["method"] for metric in COMPARED}


def _ratio(ours: list[dict], best: list[dict], metric: str, drawn: Bootstrap) -> dict | None:
    """None where the baseline is perfect, as interpolation is on a clean map."""
    numerator, denominator = _column(ours, metric), _column(best, metric)
    if not sum(denominator):
        return None
    return {
        "value": sum(numerator) / sum(denominator),
        "ci": _listed(drawn.ratio_interval(numerator, denominator)),
    }


def _column(scores: list[dict[str, float]], metric: str) -> list[float]:
    return [frame[metric] for frame in scores]


def _listed(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)


def _rounded(values: list[float]) -> list[float | None]:
    """Six digits: the file is to be read, and one frame's score is not known better."""
    return [None if np.isnan(value) else float(f"{value:.6g}") for value in values]


def choose_methods(models: Sequence[str] | None, baselines: bool) -> list[str]:
    """The models (None: "edge"), then the classical baselines if wanted; nobody twice."""
    return list(dict.fromkeys([*(models or ["edge"]), *(BASELINES if baselines else [])]))


def choose_frames(dataset: FrameDataset, split: str, limit: int | None) -> list[str]:
    """Names of the split's frames, at most `limit`, spread evenly. Raises UserError where none would be left."""
    if split not in SPLITS:
        raise UserError(f"there is no split {split!r}; choose one of {', '.join(SPLITS)}.")
    if split == "all":
        names = dataset.names
    elif split == "last100":
        names = dataset.last(100)
    else:
        names = dataset.split(split)
    if limit is not None and limit < 1:
        raise UserError(f"a limit of {limit} frames leaves nothing to score; give at least 1.")
    return names if limit is None else spread(names, limit)


def spread(names: list[str], count: int) -> list[str]:
    """At most `count` of the names, evenly spaced from the first on."""
    return names if count >= len(names) else [names[i * len(names) // count] for i in range(count)]


def load_method(method: str, protocol: str, device: str, dtype: str) -> Predictor:
    """A model, or a baseline with its settings for the protocol."""
    from depthsr.infer import BaselineRestorer, Predictor, load

    if method in BASELINES:
        return Predictor(method, BaselineRestorer(partial(BASELINES[method], protocol=protocol)))
    return load(method, device=device, dtype=dtype)


def frames_to_score(
    dataset: FrameDataset, names: Iterable[str], protocol: str, seed: int
) -> Iterator[tuple[str, Frame, Degraded, np.ndarray]]:
    """(name, frame, its measurement, the truth in metres); frames with nothing to score or to start from are told, and
    left out.
    """
    for name in names:
        frame = dataset.read(name)
        truth_m = ground_truth(frame.depth_m, protocol)
        degraded = degraded_input(frame, name, dataset, protocol, seed) if np.isfinite(truth_m).any() else None
        if degraded is not None and np.isfinite(degraded.depth_m).any():
            yield name, frame, degraded, truth_m
        else:
            log.warning("%s is left out: it has no depth to score or none to start from.", name)


def degraded_input(frame: Frame, name: str, dataset: FrameDataset, protocol: str, seed: int) -> Degraded:
    """The frame's own low-resolution depth where it has one that fits the protocol, else a simulated one.

    The noise is that of seed + the frame's place in the folder.
    """
    own_hw = _own_input(frame, dataset, protocol)
    if own_hw is None:
        try:
            return degrade(frame.depth_m, protocol, seed=seed + dataset.names.index(name), rgb_HW3=frame.rgb)
        except UserError as error:
            raise UserError(f"{name} of {dataset.folder}: {error}") from error
    if protocol == "ais":
        levels = own_hw.astype(np.float32)
        return Degraded(levels, dequantise_ais(levels), AIS_STEP_M, AIS_CLIP_M, protocol)
    low_m = _measured_m(own_hw, name)
    return Degraded(low_m, low_m, TOF_STEP_M if protocol == "tof" else 0.0, None, protocol)


def _own_input(frame: Frame, dataset: FrameDataset, protocol: str) -> np.ndarray | None:
    fits = dataset.lr_protocol in (None, protocol) and protocol != "clean"
    return frame.lr if fits else None


def _measured_m(lr_hw: np.ndarray, name: str) -> np.ndarray:
    """h×w float32 metres of the file's numbers, as depthsr.io.depth takes them; NaN = no value, the sky among them."""
    low_m = metres(lr_hw, f"the low-resolution depth of {name}")
    return np.where(np.isfinite(low_m) & (low_m > 0), low_m, np.float32("nan"))


def relative_source(relative: str, predictors: dict[str, Predictor]) -> str | None:
    """As given, if a method takes relative depth; else None. Raises UserError as `evaluate` does."""
    if relative not in RELATIVE_SOURCES:
        raise UserError(f"there is no relative depth {relative!r}; choose one of {', '.join(RELATIVE_SOURCES)}.")
    if any(predictor.restorer.takes_relative for predictor in predictors.values()):
        return relative
    if relative == "simulated":
        raise UserError("none of the models takes relative depth; leave --relative out, or score a model such as base.")
    return None


def relative_input(frame: Frame, name: str, dataset: FrameDataset, relative: str, seed: int) -> np.ndarray | None:
    """Simulated from the frame's depth, by seed + the frame's place in the folder; None for "network"."""
    if relative == "network":
        return None
    rng = np.random.default_rng([RELATIVE_STREAM, seed + dataset.names.index(name)])
    return simulated_relative_depth(frame.depth_m, rng, rgb_HW3=frame.rgb)


def restore(
    predictor: Predictor,
    frame: Frame,
    degraded: Degraded,
    relative_HW: np.ndarray | None = None,
    downsampling: str | None = None,
) -> Prediction:
    """The method is told what is known of the input, and gets relative depth if it takes it."""
    return predictor(
        frame.rgb,
        degraded.depth_m,
        relative=relative_HW if predictor.restorer.takes_relative else None,
        quantisation_step_m=degraded.quantisation_step_m,
        max_depth_m=degraded.max_depth_m,
        downsampling=downsampling,
    )
