"""Figures that other papers report, to be put beside ours where the benchmark, the factor and the metric are the same.

Whoever runs an evaluation says with `benchmark` that the data are that benchmark's test set; nothing can be checked
from the files. The figures are means over frames of the frame's RMSE without six border pixels (`rmse_border6`), one
checkpoint for each factor, the low-resolution depth shrunk by bicubic interpolation (DCTNet: Zhao et al., CVPR 2022;
SGNet: Wang et al., AAAI 2024); on the real sensor of RGB-D-D also DORNet (Wang et al., CVPR 2025), read off a chart; on
ARKitScenes Prompt Depth Anything (Lin et al., CVPR 2025), Prior Depth Anything (Wang et al., 2025) and Depth Pro
(Bochkovskii et al., 2024) over the whole frame.

Left out, because how the input was shrunk and which frames were scored is not known well enough to call the protocol
the same: the figures of Prompt Depth Anything and Prior Depth Anything on NYUv2.
"""

from __future__ import annotations

from dataclasses import dataclass

from depthsr.types import UserError


@dataclass(frozen=True)
class Benchmark:
    """A test set of the literature.

    title      what the data have to be.
    unit       of the depth files: "m", or "grey levels" (0 to 255, stored as floating point).
    own_input  True where the low-resolution depth is a sensor's (`lr/`), False where it is simulated.
    """

    title: str
    unit: str
    own_input: bool


BENCHMARKS = {
    "middlebury": Benchmark("Middlebury, 30 pairs of 2001 to 2006, disparity", "grey levels", own_input=False),
    "lu": Benchmark("Lu, 6 pairs, disparity", "grey levels", own_input=False),
    "nyuv2": Benchmark("NYUv2, the last 449 of the 1449 labelled pairs", "m", own_input=False),
    "rgb-d-d": Benchmark("RGB-D-D, 405 test pairs, shrunk", "m", own_input=False),
    "rgb-d-d-sensor": Benchmark("RGB-D-D, 405 test pairs, the ToF camera's own depth", "m", own_input=True),
    "arkitscenes": Benchmark("ARKitScenes, upsampling validation set, the LiDAR's own depth", "m", own_input=True),
}

#: (benchmark, factor) -> {method: rmse_border6} in the unit of the benchmark.
_SHRUNK = {
    ("middlebury", 4): {"bicubic": 2.28, "DCTNet": 1.10, "SGNet": 1.15},
    ("middlebury", 8): {"bicubic": 3.98, "DCTNet": 2.05, "SGNet": 1.64},
    ("middlebury", 16): {"bicubic": 6.37, "DCTNet": 4.19, "SGNet": 2.95},
    ("lu", 4): {"bicubic": 2.42, "DCTNet": 0.88, "SGNet": 1.03},
    ("lu", 8): {"bicubic": 4.54, "DCTNet": 1.85, "SGNet": 1.61},
    ("lu", 16): {"bicubic": 7.38, "DCTNet": 4.39, "SGNet": 3.55},
    ("nyuv2", 4): {"DCTNet": 0.0159, "SGNet": 0.0110},
    ("nyuv2", 8): {"DCTNet": 0.0316, "SGNet": 0.0244},
    ("nyuv2", 16): {"DCTNet": 0.0584, "SGNet": 0.0477},
    ("rgb-d-d", 4): {"DCTNet": 0.0108, "SGNet": 0.0110},
    ("rgb-d-d", 8): {"DCTNet": 0.0174, "SGNet": 0.0164},
    ("rgb-d-d", 16): {"DCTNet": 0.0305, "SGNet": 0.0255},
}

#: benchmark -> {method: metrics} where the input is the sensor's own.
_SENSOR = {
    "rgb-d-d-sensor": {
        "DCTNet": {"rmse_border6": 0.0737},
        "DCTNet, fine-tuned": {"rmse_border6": 0.0543},
        "SGNet (about)": {"rmse_border6": 0.053},
        "DORNet (about)": {"rmse_border6": 0.0342},
        "DORNet-T (about)": {"rmse_border6": 0.0384},
    },
    "arkitscenes": {
        "PromptDA-L, trained on it": {"abs_rel": 0.0134, "rmse": 0.0347},
        "Prior-Depth-Anything": {"abs_rel": 0.0194, "rmse": 0.0404},
        "Depth Pro": {"abs_rel": 0.0325, "rmse": 0.0654},
    },
}


def check_benchmark(name: str) -> Benchmark:
    """The benchmark of that name. Raises UserError when there is none."""
    if name not in BENCHMARKS:
        raise UserError(f"there is no benchmark {name!r}; choose one of {', '.join(BENCHMARKS)}.")
    return BENCHMARKS[name]


def published_rows(benchmark: str | None, protocol: str, inputs: str) -> list[dict]:
    """[{"method", metric: value, ...}] of the papers that ran the same protocol; empty where none did.

    inputs   "simulated", "own" or "mixed": where the low-resolution depth came from.
    """
    if benchmark is None:
        return []
    if check_benchmark(benchmark).own_input:
        found = _SENSOR[benchmark] if inputs == "own" else {}
        return [{"method": method, **values} for method, values in found.items()]
    factor = {"gdsr-x4": 4, "gdsr-x8": 8, "gdsr-x16": 16}.get(protocol)
    if factor is None or inputs != "simulated":
        return []
    return [{"method": method, "rmse_border6": value} for method, value in _SHRUNK[benchmark, factor].items()]
