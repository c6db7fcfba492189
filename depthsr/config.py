"""Every setting of the package: model and training configurations, environment variables. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

from depthsr.types import UserError

# --- environment -----------------------------------------------------------------------------------------------

#: Environment variable -> (default, meaning). The only place that names them.
ENVIRONMENT = {
    "DEPTHSR_BACKEND": ("auto", "which implementation ops use: auto, reference, native, triton or cuda"),
    "DEPTHSR_CUDA": ("auto", "at build time: compile the CUDA kernels: auto, 0 or 1"),
    "DEPTHSR_ISA": (
        "auto",
        "instructions of the CPU kernels: auto (the fastest), avx512bf16, avx512, avx2, neonbf16, neon or portable",
    ),
    "DEPTHSR_NATIVE": ("auto", "at build time: compile the CPU kernels: auto (skip without a compiler), 0 or 1"),
    "DEPTHSR_THREADS": ("auto", "threads of the native runtime: auto (one for each available core) or a number"),
    "DEPTHSR_TORCH": ("auto", "at build time: 0 installs without torch, for the native runtime alone"),
}

#: What to do where an installation is without torch.
INSTALL_TORCH = "install depthsr again with DEPTHSR_TORCH unset, which brings torch"

BACKENDS = ("auto", "reference", "native", "triton", "cuda")


def environment(name: str) -> str:
    """The value of one of ENVIRONMENT's variables, its default when unset."""
    return os.environ.get(name, ENVIRONMENT[name][0])


def backend() -> str:
    """The backend asked for. Raises UserError for a name that does not exist."""
    value = environment("DEPTHSR_BACKEND")
    if value not in BACKENDS:
        raise UserError(f"DEPTHSR_BACKEND is {value!r}; set it to one of {', '.join(BACKENDS)}.")
    return value


def threads() -> int | None:
    """How many threads the native runtime is to use; None: it decides. Raises UserError for what is no number."""
    value = environment("DEPTHSR_THREADS")
    if value == "auto":
        return None
    if not (value.isascii() and value.isdigit() and 1 <= int(value) <= 1024):
        raise UserError(f"DEPTHSR_THREADS is {value!r}; set it to auto or a number from 1 to 1024.")
    return int(value)


# --- words that the command line and Python share ----------------------------------------------------------------

GDSR_FACTORS = (4, 8, 16)

#: Laws of degradation (depthsr.data.degrade).
PROTOCOLS = (
    "ais",
    *(f"gdsr-x{factor}" for factor in GDSR_FACTORS),
    *(f"gdsr-x{factor}-noisy" for factor in GDSR_FACTORS),
    "tof",
    "stereo",
    "matched",
    "points",
    "lidar",
    "clean",
)

#: What a measurement is (depthsr.infer.Predictor).
INPUT_PROTOCOLS = ("metric", "ais")

#: How depth is made smaller (depthsr.data.resample).
DOWNSAMPLINGS = ("bicubic", "bilinear", "box")

#: What computes a network (depthsr.runtime).
RUNTIMES = ("auto", "torch", "native")

#: What depth is written as, and how the names end of the files that it is read from (depthsr.io).
DEPTH_FORMATS = ("png", "npy", "exr", "tiff", "pfm")
DEPTH_SUFFIXES = (".png", ".npy", ".npz", ".exr", ".tif", ".tiff", ".pfm")

#: What can be written beside the depth (depthsr.infer_files).
ALSO = ("error", "confidence", "valid")


# --- model -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DepthAnythingConfig:
    """The relative-depth network: which weights, and its architecture (so that a saved model needs no hub).

    The defaults are Depth Anything V2 Small (Yang et al. 2024), whose weights are Apache-2.0; Base and Large are
    CC-BY-NC-4.0 and therefore not offered. image_side_px is the side that the shorter edge is resized to.
    """

    hub_id: str = "depth-anything/Depth-Anything-V2-Small-hf"
    revision: str = "5426e4f0f36572d16453bbda7a8389317b1bef99"
    hidden_size: int = 384
    layers: int = 12
    heads: int = 6
    out_indices: tuple[int, ...] = (3, 6, 9, 12)
    neck_sizes: tuple[int, ...] = (48, 96, 192, 384)
    fusion_size: int = 64
    image_side_px: int = 518


#: Field of ModelConfig -> its words, the method's first.
MODEL_CHOICES = {
    "fusion": ("adain", "concatenation"),
    "rgb_paths": ("both", "relative", "depth", "none"),
    "head": ("choice", "residual"),
    "refinement": ("bilateral", "none"),
}


@dataclass(frozen=True)
class ModelConfig:
    """The U-Net of two NAFNet encoder paths. Stage i works at 1/2^(i+1) of the frame.

    widths            channels of the four stages.
    relative_blocks   NAFNet blocks a stage in the relative path ([relative depth, RGB], or RGB alone).
    depth_blocks      NAFNet blocks a stage in the path of the low-resolution depth.
    middle_blocks     NAFNet blocks at the coarsest stage, after the last fusion.
    decoder_blocks    NAFNet blocks of the three decoder stages, coarse to fine.
    depth_anything    the relative-depth network; None: the relative path sees RGB only.

    What follows is for ablations; the defaults are the method. Raises UserError for another word, or number of stages.

    fusion            "adain", or "concatenation" of the two paths' features.
    rgb_paths         which path sees the RGB: "both", "relative", "depth", or "none": then nothing that the RGB guides
                      is used either.
    head              "choice" between candidates, corrected; or "residual": the bilinear upsampling, corrected.
    refinement        "bilateral" (depthsr.models.refinement) or "none".
    """

    name: str
    widths: tuple[int, int, int, int]
    relative_blocks: tuple[int, int, int, int]
    depth_blocks: tuple[int, int, int, int]
    middle_blocks: int
    decoder_blocks: tuple[int, int, int]
    depth_anything: DepthAnythingConfig | None = None
    fusion: str = "adain"
    rgb_paths: str = "both"
    head: str = "choice"
    refinement: str = "bilateral"

    def __post_init__(self) -> None:
        for field, choices in MODEL_CHOICES.items():
            if (value := getattr(self, field)) not in choices:
                raise UserError(f"the model's {field} is {value!r}; choose one of {', '.join(choices)}.")
        for field, stages in (("widths", 4), ("relative_blocks", 4), ("depth_blocks", 4), ("decoder_blocks", 3)):
            value = getattr(self, field)
            if len(value) != stages or not all(isinstance(number, int) for number in value):
                raise UserError(f"the model's {field} is {value!r}; it must be {stages} whole numbers.")

    @property
    def takes_relative(self) -> bool:
        return self.depth_anything is not None

    def departures(self) -> list[str]:
        """What differs from the method, for instance ["head residual"]; the native runtime knows the method alone."""
        return [
            f"{field} {getattr(self, field)}"
            for field, choices in MODEL_CHOICES.items()
            if getattr(self, field) != choices[0]
        ]

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> ModelConfig:
        """Inverse of to_dict (lists for tuples are accepted). Raises UserError on unknown or missing fields."""
        try:
            nested = values.get("depth_anything")
            nested = None if nested is None else DepthAnythingConfig(**_tuples(nested))
            return cls(**{**_tuples(values), "depth_anything": nested})
        except (TypeError, AttributeError) as error:
            raise UserError(
                f"the model configuration is not one of this depthsr version ({error}); save the model again with it."
            ) from error


def _tuples(values: dict) -> dict:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


EDGE = ModelConfig(
    name="edge",
    widths=(16, 32, 64, 128),
    relative_blocks=(1, 1, 1, 2),
    depth_blocks=(1, 2, 2, 2),
    middle_blocks=2,
    decoder_blocks=(2, 2, 3),
)

# A quarter of edge's multiplications, for processors such as a Raspberry Pi's.
EDGE_S = ModelConfig(
    name="edge-s",
    widths=(8, 16, 32, 64),
    relative_blocks=(1, 1, 1, 1),
    depth_blocks=(1, 1, 1, 2),
    middle_blocks=1,
    decoder_blocks=(1, 1, 2),
)

# The widths of edge, so that its training can start from edge's weights, and depth where it costs least.
BASE = ModelConfig(
    name="base",
    widths=(16, 32, 64, 128),
    relative_blocks=(1, 1, 2, 8),
    depth_blocks=(1, 1, 2, 8),
    middle_blocks=8,
    decoder_blocks=(2, 2, 3),
    depth_anything=DepthAnythingConfig(),
)

PRESETS = {"edge": EDGE, "edge-s": EDGE_S, "base": BASE}


# --- training --------------------------------------------------------------------------------------------------

#: Where a model that takes relative depth gets it: Depth Anything, or simulated from exact depth.
RELATIVE_SOURCES = ("network", "simulated")

#: Mixes of degradations to train on (depthsr.data.random_degradation).
RECIPES = ("mixed", "ais")

#: Recipe -> the protocol of depthsr.data.degrade that it is validated under, where none is named.
VALIDATION_PROTOCOLS = {"mixed": "gdsr-x8", "ais": "ais"}

TRAINING_PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class TrainConfig:
    """Everything `depthsr train` needs; written beside the checkpoint.

    data              folder of training pairs (rgbd-game, pairs, MVS-Synth or challenge layout; detected).
    out               folder for checkpoint.pt, metrics.jsonl, TensorBoard events and model.safetensors.
    preset            model preset or folder of a saved model to start from (`train_config` takes "paper" too).
    relative          for a preset that takes relative depth: "network" runs and trains Depth Anything, fetched from the
                      hub; "simulated" makes it from the exact depth (depthsr.data.relative) and trains the U-Net alone.
    recipe            degradation mix: "mixed" (all of them) or "ais" (the challenge law only).
    validation        "scene" (the layout's own scene split) or "last100" (the published recipe).
    validation_protocol   the degradation that validation frames are restored from; None: as in VALIDATION_PROTOCOLS.
    only              train the parameters whose names begin so and leave the others as they are: "unet.error_head" fits
                      the expected error to the data and changes no depth. None: all.
    extra_data        more folders to train on; what is validated on comes from `data` alone.
    steps             optimisation steps.
    epochs            passes over the training frames, instead of steps.
    batch, accumulate each process takes `accumulate` micro-batches of `batch` samples a step, one after the other.
    crop              crop side in pixels; a smaller frame is taken whole.
    final_crop, final_fraction   the last fraction of the steps uses this crop side with the batch shrunk to match,
                      because AdaIN and channel attention take their statistics over the whole input. The cosine has
                      little rate left by then: a second run on whole frames (crop 640 or so, batch 1) learns more.
    learning_rate, backbone_learning_rate, weight_decay, warmup_steps   AdamW; cosine to zero.
    gradient_weight   weight of the Sobel term beside L1.
    rmse_weight       weight of the samples' root mean square error beside L1 (depthsr/losses.py says what it does).
    balance           divide each sample's loss by the error of its own upsampled measurement, so that mild degradations
                      count as much as strong ones.
    fill_wide_holes   fill wide holes of the samples coarse to fine by the averaged weights, as a Predictor does
                      (depthsr.wide_holes); for runs that start from trained weights.
    ema               decay of the weights' moving average, which is what is saved for inference.
    precision         "fp32" or "bf16" autocast.
    workers, cache_frames   loader processes, and how many decoded frames each keeps in memory (1.8 MB each at 640×480).
    """

    data: str
    out: str
    preset: str = "edge"
    relative: str = "network"
    recipe: str = "mixed"
    validation: str = "scene"
    validation_protocol: str | None = None
    only: str | None = None
    extra_data: tuple[str, ...] = ()
    steps: int = 20000
    epochs: float | None = None
    batch: int = 4
    accumulate: int = 1
    crop: int = 192
    final_crop: int = 384
    final_fraction: float = 0.15
    learning_rate: float = 1e-3
    backbone_learning_rate: float = 2e-6
    weight_decay: float = 1e-4
    warmup_steps: int = 200
    gradient_weight: float = 1.0
    rmse_weight: float = 0.0
    balance: bool = False
    fill_wide_holes: bool = False
    gradient_clip: float = 1.0
    ema: float = 0.999
    precision: str = "fp32"
    workers: int = 1
    cache_frames: int = 1000
    seed: int = 0
    compile: bool = False
    channels_last: bool = True
    checkpoint_minutes: float = 5.0
    validate_steps: int = 2000
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("recipe", self.recipe, RECIPES),
            ("precision", self.precision, TRAINING_PRECISIONS),
        ):
            if value not in choices:
                raise UserError(f"there is no {name} {value!r}; choose one of {', '.join(choices)}.")
        positive = ("steps", "epochs", "batch", "accumulate", "crop", "final_crop", "validate_steps")
        for names, right, wanted in (
            (positive, lambda value: value > 0, "more than 0"),
            (("warmup_steps", "workers", "cache_frames", "seed"), lambda value: value >= 0, "0 or more"),
            (("final_fraction",), lambda value: 0 <= value <= 1, "from 0 to 1"),
            (("ema",), lambda value: 0 <= value < 1, "0 or more and less than 1"),
        ):
            for name in names:
                value = getattr(self, name)
                if value is not None and not right(value):
                    raise UserError(f"{name} is {value}; it must be {wanted}.")


#: What `--preset paper` sets: the recipe that the winner of the 2024 AIS depth-compression challenge published, whose
#: pre-training on MVS-Synth is a run of its own. What the report leaves open (crops, warm-up, cosine, decay, average)
#: is as by default, but for the crops, which do not grow.
TRAINING_PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "preset": "base",
        "relative": "network",
        "recipe": "ais",
        "validation": "last100",
        "epochs": 500.0,
        "batch": 8,
        "final_fraction": 0.0,
        "learning_rate": 2e-4,
        "backbone_learning_rate": 2e-6,
        "gradient_weight": 1.0,
        "rmse_weight": 0.0,
        "balance": False,
    },
}


def train_config(**options: Any) -> TrainConfig:
    """TrainConfig of the options given; where `preset` names one of TRAINING_PRESETS, the rest is as there.

    Raises UserError for wrong values, and where both steps and epochs are given.
    """
    if "steps" in options and "epochs" in options:
        raise UserError("steps and epochs are given, which say the same; leave one out.")
    preset = TRAINING_PRESETS.get(options.get("preset", ""))
    if preset is None:
        return TrainConfig(**options)
    del options["preset"]
    values = {**preset, **options}
    if "steps" in options:
        del values["epochs"]
    return TrainConfig(**values)
