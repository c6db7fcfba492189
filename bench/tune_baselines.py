"""Choose the settings of the edge-aware baselines, a protocol at a time: least RMSE over frames of the training scenes.

    python bench/tune_baselines.py --data FOLDER --frames 20 --protocol ais --method joint_bilateral

prints the grid, best first, with RMSE and MAE in metres. depthsr/models/baselines/settings.py holds what it chose.
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
    "guided_filter": {"radius_px": (1, 2, 3), "eps": (1e-6, 1e-5, 1e-4, 1e-3, 1e-2), "guide": ("mean", "centre")},
    "joint_bilateral": {
        "sigma_colour": (10, 20, 30, 45),
        "sigma_space_px": (0.4, 0.6, 0.8, 1.0, 1.4),
        "guide": ("mean", "centre"),
    },
    "fast_global_smoother": {"smoothness": (1, 10, 100, 1000, 10000), "sigma_colour": (2, 4, 6, 9)},
}


def training_frames(folder: str, count: int, protocol: str) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """`count` frames evenly over the training split: RGB in [0, 1], degraded depth, truth."""
    dataset = open_dataset(folder)
    names = dataset.split("train")
    frames = []
    for seed, i in enumerate(np.linspace(0, len(names) - 1, count).astype(int)):
        frame = dataset.read(names[i])
        low_m = degrade(frame.depth_m, protocol, seed=seed).depth_m
        frames.append((frame.rgb.astype(np.float32) / 255, low_m, ground_truth(frame.depth_m, protocol)))
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--protocol", choices=PROTOCOLS, action="append", help="default: all")
    parser.add_argument("--method", choices=list(GRIDS), action="append", help="default: all")
    parser.add_argument("--show", type=int, default=3, help="settings printed, best first")
    arguments = parser.parse_args()

    for protocol in arguments.protocol or PROTOCOLS:
        frames = training_frames(arguments.data, arguments.frames, protocol)
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
            for rmse, mae, settings in sorted(tried, key=lambda entry: entry[0])[: arguments.show]:
                print(f"{protocol:16} {method:22} rmse {rmse:7.3f} m  mae {mae:7.3f} m  {settings}", flush=True)


if __name__ == "__main__":
    main()
