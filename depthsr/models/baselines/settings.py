"""Settings of the edge-aware baselines, chosen for each degradation on training frames, never on validation frames."""

from __future__ import annotations

import math

SETTINGS: dict[str, dict[str, dict]] = {
    "guided_filter": {
        "ais": {"radius_px": 1, "eps": 0.0001, "guide": "centre"},
        "gdsr-x4": {"radius_px": 1, "eps": 0.0001, "guide": "mean"},
        "gdsr-x8": {"radius_px": 1, "eps": 0.0001, "guide": "mean"},
        "gdsr-x16": {"radius_px": 1, "eps": 0.0001, "guide": "mean"},
        "gdsr-x4-noisy": {"radius_px": 1, "eps": 0.0001, "guide": "mean"},
        "gdsr-x8-noisy": {"radius_px": 1, "eps": 0.0001, "guide": "mean"},
        "gdsr-x16-noisy": {"radius_px": 1, "eps": 0.0001, "guide": "mean"},
        "tof": {"radius_px": 1, "eps": 0.0001, "guide": "mean"},
    },
    "joint_bilateral": {
        "ais": {"sigma_colour": 20, "sigma_space_px": 1.0, "guide": "centre"},
        "gdsr-x4": {"sigma_colour": 20, "sigma_space_px": 0.6, "guide": "mean"},
        "gdsr-x8": {"sigma_colour": 30, "sigma_space_px": 0.6, "guide": "mean"},
        "gdsr-x16": {"sigma_colour": 40, "sigma_space_px": 0.6, "guide": "mean"},
        "gdsr-x4-noisy": {"sigma_colour": 20, "sigma_space_px": 0.6, "guide": "mean"},
        "gdsr-x8-noisy": {"sigma_colour": 30, "sigma_space_px": 0.6, "guide": "mean"},
        "gdsr-x16-noisy": {"sigma_colour": 40, "sigma_space_px": 0.6, "guide": "mean"},
        "tof": {"sigma_colour": 20, "sigma_space_px": 0.6, "guide": "mean"},
    },
    "fast_global_smoother": {
        "ais": {"smoothness": 100, "sigma_colour": 6},
        "gdsr-x4": {"smoothness": 100, "sigma_colour": 6},
        "gdsr-x8": {"smoothness": 100, "sigma_colour": 6},
        "gdsr-x16": {"smoothness": 100, "sigma_colour": 6},
        "gdsr-x4-noisy": {"smoothness": 100, "sigma_colour": 6},
        "gdsr-x8-noisy": {"smoothness": 100, "sigma_colour": 6},
        "gdsr-x16-noisy": {"smoothness": 100, "sigma_colour": 6},
        "tof": {"smoothness": 100, "sigma_colour": 6},
    },
}


def settings_for(method: str, protocol: str | None, scale: float) -> dict:
    """Keyword settings of a method for a protocol; None: those for noisy depth at the nearest of ×4, ×8, ×16."""
    if protocol is None:
        factor = min((4, 8, 16), key=lambda factor: abs(math.log(factor / scale)))
        protocol = f"gdsr-x{factor}-noisy"
    return SETTINGS[method][protocol]
