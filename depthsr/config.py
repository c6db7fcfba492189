"""Every setting of the package: model and training configurations, environment variables. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass

from depthsr.types import UserError

# --- environment -----------------------------------------------------------------------------------------------

#: Environment variable -> (default, meaning). The only place that names them.
ENVIRONMENT = {
    "DEPTHSR_BACKEND": ("auto", "which implementation ops use: auto, reference, native, triton or cuda"),
    "DEPTHSR_CUDA": ("auto", "at build time: compile the CUDA kernels: auto, 0 or 1"),
    "DEPTHSR_NATIVE": ("auto", "at build time: compile the CPU kernels: auto (skip without a compiler), 0 or 1"),
}

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


# --- model -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelConfig:
    """The U-Net of two NAFNet encoder paths. Stage i works at 1/2^(i+1) of the frame.

    widths            channels of the four stages.
    relative_blocks   NAFNet blocks a stage in the relative path ([relative depth, RGB], or RGB alone).
    depth_blocks      NAFNet blocks a stage in the path of the low-resolution depth.
    middle_blocks     NAFNet blocks at the coarsest stage, after the last fusion.
    decoder_blocks    NAFNet blocks of the three decoder stages, coarse to fine.
    depth_anything    transformers hub id of the relative-depth network; None: the relative path sees RGB only.
    depth_anything_revision  git revision of that repository on the hub, so that weights never change underfoot.
    """

    name: str
    widths: tuple[int, int, int, int]
    relative_blocks: tuple[int, int, int, int]
    depth_blocks: tuple[int, int, int, int]
    middle_blocks: int
    decoder_blocks: tuple[int, int, int]
    depth_anything: str | None = None
    depth_anything_revision: str | None = None

    @property
    def takes_relative(self) -> bool:
        return self.depth_anything is not None

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> ModelConfig:
        """Inverse of to_dict. Raises UserError on unknown or missing fields."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := set(values) - known:
            raise UserError(f"model configuration has unknown fields {sorted(unknown)}; it is of another depthsr version.")
        try:
            return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
        except TypeError as error:
            raise UserError(f"model configuration is incomplete: {error}.") from error


EDGE = ModelConfig(
    name="edge",
    widths=(16, 32, 64, 128),
    relative_blocks=(1, 1, 1, 2),
    depth_blocks=(1, 1, 2, 2),
    middle_blocks=2,
    decoder_blocks=(1, 1, 1),
)

#: Licence of the Small Depth Anything V2 weights: Apache-2.0 (Base and Large are CC-BY-NC-4.0, so not used here).
BASE = ModelConfig(
    name="base",
    widths=(24, 48, 96, 192),
    relative_blocks=(1, 1, 2, 4),
    depth_blocks=(1, 1, 2, 4),
    middle_blocks=4,
    decoder_blocks=(2, 1, 1),
    depth_anything="depth-anything/Depth-Anything-V2-Small-hf",
    depth_anything_revision=None,
)

PRESETS = {"edge": EDGE, "base": BASE}


# --- training --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainConfig:
    """Everything `depthsr train` needs; written beside the checkpoint.

    data              folder of training pairs (rgbd-game, pairs, MVS-Synth or challenge layout; detected).
    out               folder for checkpoint.pt, metrics.jsonl, TensorBoard events and model.safetensors.
    preset            model preset or folder of a saved model to start from.
    recipe            degradation mix: "mixed" (all of them) or "ais" (the challenge law only).
    validation        "scene" (the layout's own scene split) or "last100" (the published recipe).
    steps, batch, crop     optimisation steps, samples a step on each process, crop side in pixels (multiple of 16).
    final_crop, final_fraction   the last fraction of the steps uses this crop side with the batch shrunk to match,
                      because AdaIN and channel attention take their statistics over the whole input.
    learning_rate, backbone_learning_rate, weight_decay, warmup_steps   AdamW; cosine to zero.
    gradient_weight   weight of the Sobel term beside L1.
    ema               decay of the weights' moving average, which is what is saved for inference.
    precision         "fp32" or "bf16" autocast.
    """

    data: str
    out: str
    preset: str = "edge"
    recipe: str = "mixed"
    validation: str = "scene"
    steps: int = 20000
    batch: int = 4
    crop: int = 192
    final_crop: int = 384
    final_fraction: float = 0.15
    learning_rate: float = 1e-3
    backbone_learning_rate: float = 2e-6
    weight_decay: float = 1e-4
    warmup_steps: int = 200
    gradient_weight: float = 1.0
    gradient_clip: float = 1.0
    ema: float = 0.999
    precision: str = "fp32"
    workers: int = 1
    seed: int = 0
    compile: bool = False
    channels_last: bool = True
    checkpoint_minutes: float = 5.0
    validate_steps: int = 2000
    device: str = "auto"
