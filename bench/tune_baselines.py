"""Choose the settings of the edge-aware baselines, a protocol at a time, on crops of the training scenes.

    python bench/tune_baselines.py --data FOLDER --protocol ais --method joint_bilateral

Of the settings whose RMSE is within 0.5 % of the least, the one with the least MAE is chosen, since models are compared
in both. Prints it first, then the runners-up. depthsr/models/baselines/settings.py holds what it chose.
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np
from tqdm import tqdm

from depthsr import metrics
from depthsr.data.degrade import PROTOCOLS, degrade, ground_truth
from depthsr.data.layouts import open_dataset
from depthsr.models.baselines import EDGE_AWARE

GRIDS = {
    "guided_filter": {
        "radius_px": (1, 2, 3, 6, 12, 24),
        "eps": (1e-6, 1e-5, 1e-4, 1e-3, 1e-2),
        "guide": ("mean", "centre"),
    },
    "joint_bilateral": {
        "sigma_colour": (10, 20, 30, 45, 70),
        "sigma_space_px": (0.4, 0.6, 0.8, 1.0, 1.4, 2.0, 3.0),
        "guide": ("mean", "centre"),
    },
    "fast_global_smoother": {"smoothness": (1, 10, 100, 1000, 10000), "sigma_colour": (2, 4, 6, 9)},
}


#: Half a 640×480 frame each way; a multiple of 16, so that every factor divides it.
CROP_HW = (240, 320)


def training_crops(folder: str, count: int, protocol: str) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """A random crop of `count` frames evenly over the training split: RGB in [0, 1], degraded depth, truth."""
    dataset = open_dataset(folder)
    names = dataset.split("train")
    frames = []
    for seed, i in enumerate(np.linspace(0, len(names) - 1, count).astype(int)):
        frame = dataset.read(names[i])
        rng = np.random.default_rng(seed)
        y, x = (rng.integers(0, side - crop + 1) for side, crop in zip(frame.depth_m.shape, CROP_HW, strict=True))
        window = slice(y, y + CROP_HW[0]), slice(x, x + CROP_HW[1])
        rgb, depth_m = frame.rgb[window], frame.depth_m[window]
        low_m = degrade(depth_m, protocol, seed=seed, rgb_HW3=rgb).depth_m
        if np.isfinite(low_m).any():
            frames.append((rgb.astype(np.float32) / 255, low_m, ground_truth(depth_m, protocol)))
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--protocol", choices=PROTOCOLS, action="append", help="default: all")
    parser.add_argument("--method", choices=list(GRIDS), action="append", help="default: all")
    parser.add_argument("--show", type=int, default=3, help="settings printed, the chosen one first")
    arguments = parser.parse_args()

    for protocol in arguments.protocol or PROTOCOLS:
        frames = training_crops(arguments.data, arguments.frames, protocol)
        for method in arguments.method or GRIDS:
            grid = GRIDS[method]
            tried = []
            for values in tqdm(list(itertools.product(*grid.values())), desc=f"{protocol} {method}", leave=False):
                settings = dict(zip(grid, values, strict=True))
                results = [EDGE_AWARE[method](rgb, low_m, **settings) for rgb, low_m, _ in frames]
                truths = [truth_m for _, _, truth_m in frames]
                rmse, mae = (
                    np.mean([metric(depth_m, truth_m) for depth_m, truth_m in zip(results, truths, strict=True)])
                    for metric in (metrics.rmse, metrics.mae)
                )
                tried.append((rmse, mae, settings))
            least = min(rmse for rmse, _, _ in tried)
            # those within half a per cent by their MAE, then the others by their RMSE
            tried.sort(
                key=lambda entry: (entry[0] > 1.005 * least, entry[1] if entry[0] <= 1.005 * least else entry[0])
            )
            for rmse, mae, settings in tried[: arguments.show]:
                print(f"{protocol:16} {method:22} rmse {rmse:7.3f} m  mae {mae:7.3f} m  {settings}", flush=True)


if __name__ == "__main__":
    main()
