"""Settings of the edge-aware baselines, chosen for each degradation on training frames, never on validation frames.

Made by `python bench/tune_baselines.py --data rgbd-game` (40 crops of 320×240 from 20 tracks, CPU, commit 93c4844). The
comments are RMSE and MAE in metres on those crops. sigma_colour 70 and sigma_space_px 1.4 were tried on tof, stereo and
matched alone; stereo at commit 099a0e5, where the guided filter's largest radius and the largest sigma_space_px won;
matched at 5273084, where larger ones were tried too, with the better of the other settings; points and lidar at 580ef1c
on 20 crops, likewise. For points a sigma_space_px of 12 gives 4.104, 1.629, no less than the fast global smoother, and
takes half a minute a frame: it is left out.
"""

from __future__ import annotations

import math

SETTINGS: dict[str, dict[str, dict]] = {
    "guided_filter": {
        "ais": {"radius_px": 1, "eps": 0.0001, "guide": "centre"},  # 9.306, 4.655
        "gdsr-x4": {"radius_px": 1, "eps": 0.0001, "guide": "mean"},  # 5.631, 1.744
        "gdsr-x8": {"radius_px": 1, "eps": 0.0001, "guide": "mean"},  # 7.332, 2.693
        "gdsr-x16": {"radius_px": 1, "eps": 0.0001, "guide": "mean"},  # 10.044, 4.338
        "gdsr-x4-noisy": {"radius_px": 1, "eps": 0.0001, "guide": "mean"},  # 5.667, 1.872
        "gdsr-x8-noisy": {"radius_px": 1, "eps": 0.0001, "guide": "mean"},  # 7.374, 2.801
        "gdsr-x16-noisy": {"radius_px": 1, "eps": 0.0001, "guide": "mean"},  # 10.097, 4.433
        "tof": {"radius_px": 2, "eps": 0.0001, "guide": "mean"},  # 19.009, 5.476
        "stereo": {"radius_px": 3, "eps": 0.0001, "guide": "centre"},  # 8.097, 2.653
        "matched": {"radius_px": 12, "eps": 1e-05, "guide": "centre"},  # 10.567, 4.335
        "points": {"radius_px": 24, "eps": 1e-05, "guide": "centre"},  # 4.044, 2.068
        "lidar": {"radius_px": 12, "eps": 0.0001, "guide": "centre"},  # 2.559, 1.076
    },
    "joint_bilateral": {
        "ais": {"sigma_colour": 30, "sigma_space_px": 0.8, "guide": "centre"},  # 8.541, 4.046
        "gdsr-x4": {"sigma_colour": 30, "sigma_space_px": 0.6, "guide": "mean"},  # 5.862, 1.600
        "gdsr-x8": {"sigma_colour": 30, "sigma_space_px": 0.6, "guide": "mean"},  # 7.877, 2.540
        "gdsr-x16": {"sigma_colour": 30, "sigma_space_px": 0.4, "guide": "mean"},  # 10.591, 4.012
        "gdsr-x4-noisy": {"sigma_colour": 30, "sigma_space_px": 0.6, "guide": "mean"},  # 5.919, 1.834
        "gdsr-x8-noisy": {"sigma_colour": 30, "sigma_space_px": 0.6, "guide": "mean"},  # 7.924, 2.727
        "gdsr-x16-noisy": {"sigma_colour": 30, "sigma_space_px": 0.4, "guide": "mean"},  # 10.642, 4.187
        "tof": {"sigma_colour": 45, "sigma_space_px": 1.4, "guide": "mean"},  # 16.777, 4.208
        "stereo": {"sigma_colour": 20, "sigma_space_px": 1.4, "guide": "centre"},  # 8.555, 2.495
        "matched": {"sigma_colour": 20, "sigma_space_px": 3.0, "guide": "centre"},  # 11.099, 4.109
        "points": {"sigma_colour": 20, "sigma_space_px": 8.0, "guide": "centre"},  # 4.333, 1.720
        "lidar": {"sigma_colour": 20, "sigma_space_px": 8.0, "guide": "centre"},  # 2.321, 0.739
    },
    "fast_global_smoother": {
        "ais": {"smoothness": 100, "sigma_colour": 6},  # 9.768, 4.305
        "gdsr-x4": {"smoothness": 10, "sigma_colour": 6},  # 6.665, 1.791
        "gdsr-x8": {"smoothness": 100, "sigma_colour": 6},  # 8.652, 2.891
        "gdsr-x16": {"smoothness": 100, "sigma_colour": 6},  # 11.358, 4.380
        "gdsr-x4-noisy": {"smoothness": 100, "sigma_colour": 4},  # 6.709, 2.036
        "gdsr-x8-noisy": {"smoothness": 100, "sigma_colour": 6},  # 8.689, 3.038
        "gdsr-x16-noisy": {"smoothness": 100, "sigma_colour": 6},  # 11.406, 4.548
        "tof": {"smoothness": 1000, "sigma_colour": 6},  # 16.437, 4.363
        "stereo": {"smoothness": 1000, "sigma_colour": 4},  # 6.986, 2.333
        "matched": {"smoothness": 1000, "sigma_colour": 6},  # 10.323, 4.024
        "points": {"smoothness": 1000, "sigma_colour": 3},  # 4.098, 1.536
        "lidar": {"smoothness": 100, "sigma_colour": 6},  # 2.490, 0.796
    },
}


def settings_for(method: str, protocol: str | None, scale: float) -> dict:
    """Keyword settings of a method for a protocol.

    For None (unknown) and "clean" (nothing to tune on): those for noisy depth at the nearest of ×4, ×8, ×16.
    """
    if protocol in (None, "clean"):
        factor = min((4, 8, 16), key=lambda factor: abs(math.log(factor / scale)))
        protocol = f"gdsr-x{factor}-noisy"
    return SETTINGS[method][protocol]
