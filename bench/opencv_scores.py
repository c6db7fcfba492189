"""Score OpenCV's own joint bilateral filter on the frames of a `depthsr eval`, and put its models beside it.

    PYTHONPATH=contrib python bench/opencv_scores.py --data FOLDER --results bench/results/val/ais.json

The baselines of `depthsr eval` work on the measurement itself and are tuned for each protocol. This is the filter that
a user of OpenCV would reach for: jointBilateralFilter on the bilinear upsampling, its window as wide as two
low-resolution pixels, with one setting for everything. Needs opencv-contrib (opencv_filters.HOW_TO_GET).
"""

from __future__ import annotations

import argparse
import json

import cv2
import numpy as np
from tqdm import tqdm

from depthsr import metrics
from depthsr.data.layouts import open_dataset
from depthsr.evaluate import COMPARED, choose_frames, degraded_input, ground_truth
from depthsr.models.baselines import BASELINES
from opencv_filters import HOW_TO_GET

SIGMA_COLOUR = 20


def joint_bilateral(rgb_HW3: np.ndarray, depth_m_hw: np.ndarray) -> np.ndarray:
    upsampled_m = BASELINES["bilinear"](rgb_HW3 / np.float32(255), depth_m_hw)  # fills what was not measured
    factor = round(rgb_HW3.shape[0] / depth_m_hw.shape[0])
    guide_HW3 = rgb_HW3.astype(np.float32)  # the filter wants both of one type
    return cv2.ximgproc.jointBilateralFilter(guide_HW3, upsampled_m, 2 * factor + 1, SIGMA_COLOUR, factor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--results", required=True, help="file that `depthsr eval --json` wrote for the same folder")
    arguments = parser.parse_args()
    if not hasattr(cv2, "ximgproc"):
        raise SystemExit(f"cv2.ximgproc is not installed: {HOW_TO_GET}")
    with open(arguments.results, encoding="utf-8") as file:
        results = json.load(file)
    dataset = open_dataset(arguments.data)
    names = choose_frames(dataset, results["split"], None)
    if names != results["frame_names"]:
        raise SystemExit(f"{arguments.results} is of other frames than the {results['split']} part of {arguments.data}")
    scores = []
    for name in tqdm(names, desc=results["protocol"], unit="frame"):
        frame = dataset.read(name)
        degraded = degraded_input(frame, name, dataset, results["protocol"], results["seed"])
        restored_m = joint_bilateral(frame.rgb, degraded.depth_m)
        scores.append(metrics.score(restored_m, ground_truth(frame.depth_m, results["protocol"])))
    filtered = metrics.mean_over_frames(scores)
    print(f"OpenCV's joint bilateral, {results['protocol']}: " + ", ".join(f"{m} {filtered[m]:.2f}" for m in COMPARED))
    for row in results["rows"]:
        if row["method"] not in BASELINES:
            print(f"{row['method']}: " + ", ".join(f"{m} {row[m] / filtered[m]:.3f} of it" for m in COMPARED))


if __name__ == "__main__":
    main()
