"""A model, or a classical baseline, behind one call: numpy in, numpy out, metres.

predictor = load("edge")
prediction = predictor(rgb, depth)  # uint8 H×W×3, uint16 h×w millimetres or floating-point h×w metres
prediction.depth_m                  # float32 H×W metres
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import cv2
import numpy as np

from depthsr.anchoring import anchored
from depthsr.config import PRESETS, RUNTIMES
from depthsr.consistency import consistent_with
from depthsr.data.sparse import gathered
from depthsr.frames import CheckedFrame, Settings, check_frame
from depthsr.runtime import choose_runtime
from depthsr.types import FARTHEST_OVER_MEASURED, Prediction, SetupError, UserError
from depthsr.wide_holes import Level, coarse_to_fine

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

#: Depth and expected error of one frame, H×W metres; error None: not estimated.
Restored = tuple[np.ndarray, np.ndarray | None]

#: A value is supported when a measurement lies within this many low-resolution pixels or, in dense maps, within this
#: share of the longer side: the gap an edge-guided fill can be trusted to close.
SUPPORT_PIXELS = 1.5
SUPPORT_SHARE = 1 / 40


class Restorer(Protocol):
    """What Predictor drives, a frame at a time.

    is_network    whether sparse depth is to be gathered for it (depthsr.data.sparse) and wide holes to be filled coarse
                  to fine (depthsr.wide_holes).
    filling_m_hw  metres, NaN = none: what to take for the depth there, though it was not measured; None: nowhere.
    """

    @property
    def takes_relative(self) -> bool: ...

    @property
    def is_network(self) -> bool: ...

    def __call__(self, frame: CheckedFrame, filling_m_hw: np.ndarray | None) -> Restored: ...


@runtime_checkable
class BatchRestorer(Protocol):
    """What Predictor drives where frames can go together, or be computed while the host does something else.

    ahead   how many frames of a stream to start beyond the one that is waited for; 0: nothing would be gained.
    start   begins with frames of one kind, level by level (depthsr.wide_holes), and returns what waits for the results
            of the last level, in order.
    """

    @property
    def takes_relative(self) -> bool: ...

    @property
    def is_network(self) -> bool: ...

    @property
    def ahead(self) -> int: ...

    def start(self, levels: Sequence[Level]) -> Callable[[], Sequence[Restored]]: ...


@dataclass(frozen=True)
class BaselineRestorer:
    """A classical method from depthsr.models.baselines. It uses no quantisation step and estimates no error."""

    method: Any
    takes_relative = False
    is_network = False

    def __str__(self) -> str:
        return "baseline, cpu, fp32"

    def __call__(self, frame: CheckedFrame, filling_m_hw: np.ndarray | None) -> Restored:
        settings = {} if frame.protocol == "metric" else {"protocol": frame.protocol}
        depth_m_HW = self.method(frame.unit_rgb_HW3, frame.depth_m_hw, **settings)
        return np.clip(depth_m_HW, 0, frame.max_depth_m), None


class Predictor:
    """Restores a frame, several together, or a stream of them. Make one with `load`, or from any Restorer."""

    def __init__(self, name: str, restorer: Restorer | BatchRestorer) -> None:
        self.name = name
        self.restorer = restorer

    def __repr__(self) -> str:
        return f"<Predictor {self.name}: {self.restorer}>"

    def __call__(
        self,
        rgb: Any,
        depth: Any,
        *,
        relative: Any = None,
        scale: float | None = None,
        quantisation_step_m: float | None = None,
        max_depth_m: float | None = None,
        protocol: str = "metric",
        downsampling: str | None = None,
    ) -> Prediction:
        """Depth in metres at the RGB's resolution.

        rgb       H×W×3, or grey H×W; uint8, uint16 or floating point in [0, 1]. An opaque fourth channel is left out.
        depth     h×w with h <= H, w <= W, any integer or floating-point dtype; 0, NaN, inf (and 65535 in uint16) mean
                  no value. With protocol "ais": the challenge's low-resolution levels as they come.
        relative  relative depth of the RGB, larger = nearer, any unit; for models that take it.
        scale     metres per unit of `depth` ("metric" only); None: integers are millimetres, floating point metres.
        quantisation_step_m  metres between the levels of the measurement; None or 0: none known.
        max_depth_m          the largest depth there can be, where it is known; the result is clipped to it, and a
                  measurement more than 5 % and half a quantisation step beyond it is no value.
        protocol  "metric": a sensor's depth in some unit. "ais": the 2024 AIS challenge (step 16, known range 300).
        downsampling  "bicubic", "bilinear" or "box" (area mean), antialiased: how `depth` was made of a larger map, if
                  that is known for certain. The result is then made to agree with it (depthsr.consistency), but for
                  noise; error_m stays what the model expected before.

        Arrays or torch tensors. Raises UserError when the input cannot be a frame (see depthsr.inputs).
        """
        settings = Settings(scale, quantisation_step_m, max_depth_m, protocol, downsampling)
        return self._start([self._checked(rgb, depth, relative, settings)])()[0]

    def batch(self, frames: Sequence[tuple], **settings: Any) -> list[Prediction]:
        """Several frames at once, in their order; what a call of each alone gives, to rounding.

        frames    (rgb, depth) or (rgb, depth, relative) each, of any sizes. PyTorch takes those of equal sizes through
                  the network together, so memory limits how many there may be; other runtimes take one after the other.
        settings  scale, quantisation_step_m, max_depth_m, protocol, downsampling of all of them, as in a call.

        Raises UserError for the first that cannot be a frame, and says which; nothing is computed then.
        """
        checked = list(self._all_checked(frames, Settings.named(**settings)))
        of_a_kind: dict[Hashable, list[int]] = {}
        for number, frame in enumerate(checked):
            of_a_kind.setdefault(frame.kind, []).append(number)
        started = [(numbers, self._start([checked[n] for n in numbers])) for numbers in of_a_kind.values()]
        predictions: dict[int, Prediction] = {}
        for numbers, finish in started:
            predictions.update(zip(numbers, finish(), strict=True))
        return [predictions[number] for number in range(len(checked))]

    def stream(self, frames: Iterable[tuple], **settings: Any) -> Iterator[Prediction]:
        """Predictions of frames as they come (a camera, a video), in their order; what a call of each gives.

        frames, settings  as in `batch`. An array may be overwritten as soon as the next frame is asked for.

        On a CUDA GPU the next frame is uploaded and the last one downloaded while one is computed; for that one frame
        more is read than predictions have been given. Elsewhere a frame is read when the prediction before is taken.

        At the first that cannot be a frame the stream ends with a UserError that says which it was, after the
        predictions of all before it. So it does with whatever `frames` raises.
        """
        return self._in_order(self._all_checked(frames, Settings.named(**settings)))

    def _in_order(self, frames: Iterator[CheckedFrame]) -> Iterator[Prediction]:
        ahead = self.restorer.ahead if isinstance(self.restorer, BatchRestorer) else 0
        starts = (self._start([frame]) for frame in frames)
        started: deque[Callable[[], list[Prediction]]] = deque()
        failure: Exception | None = None
        while failure is None:
            try:
                started.append(next(starts))
            except StopIteration:
                break
            except Exception as error:  # raised below: the frames before it come first
                failure = error
            if len(started) > ahead:
                yield started.popleft()()[0]
        while started:
            yield started.popleft()()[0]
        if failure is not None:
            raise failure

    def _all_checked(self, frames: Iterable[tuple], settings: Settings) -> Iterator[CheckedFrame]:
        for number, frame in enumerate(frames):
            which = f"frame {number} (the first is 0)"
            if not (isinstance(frame, (tuple, list)) and len(frame) in (2, 3)):
                raise UserError(f"{which} is no frame; give (rgb, depth) or (rgb, depth, relative).")
            rgb, depth, relative = (*frame, None)[:3]
            try:
                checked = self._checked(rgb, depth, relative, settings)
            except UserError as error:
                raise UserError(f"{which}: {error}") from error
            yield checked

    def _checked(self, rgb: Any, depth: Any, relative: Any, settings: Settings) -> CheckedFrame:
        if relative is not None and not self.restorer.takes_relative:
            raise SetupError(f"{self.name} takes no relative depth; leave it out, or use the model base.")
        frame = check_frame(rgb, depth, relative, settings)
        if not self.restorer.is_network or settings.downsampling is not None:
            return frame
        depth_m_hw = gathered(frame.depth_m_hw)
        if depth_m_hw.shape == frame.depth_m_hw.shape:
            return frame
        return replace(frame, depth_m_hw=depth_m_hw, points_m_hw=frame.depth_m_hw)

    def _start(self, frames: Sequence[CheckedFrame]) -> Callable[[], list[Prediction]]:
        """Begins with frames of one kind; the function returned waits for the results."""
        finish = start(self.restorer, frames)
        # A GPU is computing the frames by now, so this costs no time of its own there.
        near = [supported(frame) for frame in frames]

        def predictions() -> list[Prediction]:
            return [self._prediction(*parts) for parts in zip(frames, near, finish(), strict=True)]

        return predictions

    def _prediction(self, frame: CheckedFrame, valid: np.ndarray, restored: Restored) -> Prediction:
        depth_m, error_m = restored
        if not np.isfinite(depth_m).all():
            raise RuntimeError(f"{self.name} gave {(~np.isfinite(depth_m)).sum()} values that are not finite")
        if frame.downsampling is not None:
            depth_m = consistent_with(frame.depth_m_hw, depth_m, error_m, frame.downsampling)
            depth_m = np.minimum(depth_m, _ceiling_m(frame))
        floor_m = _floor_m(frame.depth_m_hw, frame.quantisation_step_m)
        depth_m = np.maximum(depth_m, floor_m)
        if frame.points_m_hw is not None:
            depth_m = np.clip(anchored(depth_m, frame.points_m_hw), floor_m, _ceiling_m(frame))
        if error_m is None:
            error_m = np.full_like(depth_m, np.nan)
        return Prediction(depth_m=depth_m, error_m=error_m, confidence=_confidence(depth_m, error_m), valid=valid)


def start(restorer: Restorer | BatchRestorer, frames: Sequence[CheckedFrame]) -> Callable[[], Sequence[Restored]]:
    """Begins with frames of one kind, or does them; those with wide holes after what is to fill these."""
    levels = coarse_to_fine(frames) if restorer.is_network else [Level(frames)]
    return restorer.start(levels) if isinstance(restorer, BatchRestorer) else one_by_one(restorer, levels)


def one_by_one(restorer: Restorer, levels: Sequence[Level]) -> Callable[[], list[Restored]]:
    """As BatchRestorer.start; the results are there when it returns."""
    restored: list[Restored] = []
    for level in levels:
        fillings_m = level.fillings_m([depth_m_HW for depth_m_HW, _ in restored])
        restored = [restorer(*parts) for parts in zip(level.frames, fillings_m, strict=True)]
    return lambda: restored


def load(
    name_or_path: str | Path = "edge", device: str = "auto", dtype: str | torch.dtype = "auto", runtime: str = "auto"
) -> Predictor:
    """A Predictor for a model or a classical baseline.

    name_or_path  "edge", "edge-s", "base", the folder of a saved model, or a baseline's name ("bilinear", ...).
    device        "auto" (a CUDA device when there is one, else the CPU), "cpu", "cuda", "cuda:1", ...
    dtype         "auto" or "fp32"; "fp16" or "bf16": half-precision weights and the fastest arithmetic the device does
                  correctly with them (see depthsr.precision).
    runtime       "torch"; "native": C++ on the CPU without torch, for models without Depth Anything; "auto": native
                  where torch is missing or would compute on the CPU too, if it can run the model (depthsr.runtime).

    Raises UserError for a model that does not exist, is damaged or of another kind, for a missing device, and for what
    the runtime cannot do: a baseline runs on the CPU in fp32 alone. The log says what "auto" chose.
    """
    from depthsr.models.baselines import BASELINES

    if not isinstance(name_or_path, (str, os.PathLike)):
        raise UserError(f"{name_or_path!r} is no model; give a name or a folder.")
    if name_or_path in BASELINES:
        _check_baseline_runs_so(name_or_path, device, dtype, runtime)
        return Predictor(name_or_path, BaselineRestorer(BASELINES[name_or_path]))
    if name_or_path not in PRESETS and not os.path.exists(name_or_path):
        raise UserError(
            f"there is no model {str(name_or_path)!r}; name {', '.join(PRESETS)}, a baseline ({', '.join(BASELINES)}), "
            "or a saved model's folder that exists."
        )
    chosen, reason = choose_runtime(runtime, name_or_path, device, dtype)
    if chosen == "torch":
        from depthsr import torch_runtime

        predictor = Predictor(str(name_or_path), torch_runtime.load_restorer(name_or_path, device, dtype))
    else:
        from depthsr import native

        predictor = Predictor(str(name_or_path), native.load_restorer(name_or_path, device, dtype))
    if reason is not None:  # not before it is known that the device is there
        log.info("%s computes: %s.", {"torch": "torch", "native": "the native runtime"}[chosen], reason)
    return predictor


def _check_baseline_runs_so(name: str, device: str, dtype: Any, runtime: str) -> None:
    """A classical method is computed on the CPU in fp32, whatever runtime computes the networks."""
    for what, value, harmless in (
        ("device", device, ("auto", "cpu")),
        ("precision", str(dtype), ("auto", "fp32", "torch.float32")),
        ("runtime", runtime, RUNTIMES),
    ):
        if value not in harmless:
            raise UserError(f"{name} is a baseline, computed on the CPU in fp32: leave out {what} {value}.")


def supported(frame: CheckedFrame) -> np.ndarray:
    """H×W bool: whether a measured pixel is near enough (SUPPORT_PIXELS, SUPPORT_SHARE)."""
    radius = max(SUPPORT_PIXELS, SUPPORT_SHARE * max(frame.depth_m_hw.shape))
    near = (frame.to_value_px_hw <= radius).astype(np.uint8)
    return cv2.resize(near, frame.size[::-1], interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)


def _floor_m(depth_m_hw: np.ndarray, quantisation_step_m: float) -> np.float32:
    """Half the nearest measurement, less one quantisation step; never 0, because 0 means "no value" in every file."""
    nearest_m = np.nanmin(depth_m_hw)
    return np.float32(max(0.5 * nearest_m - quantisation_step_m, 0.001 * nearest_m))


def _ceiling_m(frame: CheckedFrame) -> np.float32:
    """What no network goes beyond either (DepthSR.infer)."""
    limit_m = FARTHEST_OVER_MEASURED * np.nanmax(frame.depth_m_hw) + frame.quantisation_step_m / 2
    return np.float32(min(limit_m, frame.max_depth_m or np.inf))


def _confidence(depth_m: np.ndarray, error_m: np.ndarray) -> np.ndarray:
    """1 / (1 + error / 5 % of the depth); see depthsr.types.Prediction. NaN where no error is estimated."""
    tolerance_m = np.maximum(0.05 * depth_m, np.finfo(np.float32).tiny)
    return (tolerance_m / (tolerance_m + error_m)).astype(np.float32)
