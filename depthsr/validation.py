"""What a training run is scored on while it goes on: frames that it is not trained on, degraded always alike."""

from __future__ import annotations

from depthsr import metrics
from depthsr.data.degrade import PROTOCOLS
from depthsr.data.layouts import FrameDataset
from depthsr.evaluate import frames_to_score, relative_input, restore, spread
from depthsr.infer import Predictor
from depthsr.types import UserError

#: The published recipe validates on this many last samples of the data set.
PUBLISHED_VALIDATION = 100

#: While training, validation looks at this many frames, evenly spaced.
VALIDATION_FRAMES = 8


def split_names(dataset: FrameDataset, validation: str) -> tuple[list[str], list[str]]:
    """(training names, validation names) by scene, or the last 100 as published. Raises UserError for another rule."""
    if validation == "scene":
        return dataset.split("train"), dataset.split("val")
    if validation == "last100":
        held_out = dataset.last(PUBLISHED_VALIDATION)
        return [name for name in dataset.names if name not in set(held_out)], held_out
    raise UserError(f"there is no validation rule {validation!r}; use scene or last100.")


class Validation:
    """A few of the named frames with their measurements, as depthsr.evaluate makes them with seed 0; kept decoded.

    protocol  one of depthsr.data.degrade.PROTOCOLS.
    relative  one of depthsr.config.RELATIVE_SOURCES.

    Raises UserError for a protocol that does not exist, and where no frame has depth to score under it.
    """

    def __init__(self, dataset: FrameDataset, names: list[str], protocol: str, relative: str) -> None:
        if protocol not in PROTOCOLS:
            raise UserError(f"there is no validation protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}.")
        self._frames = [
            (frame, degraded, truth_m, relative_input(frame, name, dataset, relative, seed=0))
            for name, frame, degraded, truth_m in frames_to_score(
                dataset, spread(names, VALIDATION_FRAMES), protocol, seed=0
            )
        ]
        if not self._frames:
            raise UserError(
                f"{dataset.folder} has no validation frame with depth to score; check the files in its depth folder."
            )

    def __call__(self, predictor: Predictor) -> dict[str, float]:
        """Means over the frames of RMSE and MAE in metres, for the journal."""
        scores = []
        for frame, degraded, truth_m, relative_HW in self._frames:
            depth_m = restore(predictor, frame, degraded, relative_HW).depth_m
            scores.append({"val_rmse_m": metrics.rmse(depth_m, truth_m), "val_mae_m": metrics.mae(depth_m, truth_m)})
        return metrics.mean_over_frames(scores)
