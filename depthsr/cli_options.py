"""Options of the command line that several commands share, or that are made of a configuration."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from pathlib import Path

import click

from depthsr.config import DEPTH_SUFFIXES, TrainConfig
from depthsr.types import UserError

#: Of each field of TrainConfig.
TRAIN_HELP = {
    "data": "Folder of training pairs; its layout is detected.",
    "out": "Folder for checkpoints, metrics and weights.",
    "preset": "edge, edge-s, base, the folder of a saved model, or paper: base by the published recipe.",
    "relative": "Of base: network (Depth Anything, trained too) or simulated from the true depth.",
    "recipe": "Degradations: mixed (all) or ais.",
    "validation": "scene, or last100 (the published recipe).",
    "validation_protocol": "As eval's --protocol. Default: ais for recipe ais, or gdsr-x8.",
    "only": "Train the parameters whose names begin so, e.g. unet.error_head.",
    "extra_data": "More to train on, not to validate on; repeat for several.",
    "steps": "Optimisation steps.",
    "epochs": "Passes over the frames, instead of steps.",
    "batch": "Samples at once on each process.",
    "accumulate": "Such batches in each step.",
    "crop": "Side of the training crops, pixels.",
    "final_crop": "Crop side in the last steps.",
    "final_fraction": "Share of the steps at final-crop.",
    "learning_rate": "Of the U-Net.",
    "backbone_learning_rate": "Of Depth Anything.",
    "weight_decay": "AdamW's.",
    "warmup_steps": "Linear warm-up before the cosine.",
    "gradient_weight": "Sobel term against L1.",
    "rmse_weight": "Root mean square error against L1.",
    "balance": "Mild degradations count as much as strong.",
    "fill_wide_holes": "Fill wide holes coarse to fine, as inference does.",
    "gradient_clip": "Largest gradient norm.",
    "ema": "Decay of the averaged weights.",
    "precision": "fp32, or bf16 autocast.",
    "workers": "Data-loading processes.",
    "cache_frames": "Decoded frames each keeps.",
    "seed": "Of everything random.",
    "compile": "Use torch.compile.",
    "channels_last": "Memory format of the activations.",
    "checkpoint_minutes": "Between checkpoints.",
    "validate_steps": "Steps between validations.",
    "device": "auto, cpu, cuda, cuda:1, ...",
}


class Folder(click.ParamType):
    """A folder to write to. Raises UserError for a name that was most likely meant for a file."""

    name = "DIR"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        path = Path(value)
        if not value:
            raise UserError("--out is empty; name a folder, . for this one.")
        if path.suffix.lower() in DEPTH_SUFFIXES and not path.is_dir():
            raise UserError(
                f"--out {value} is a file's name, and a folder is wanted; try --out {path.with_suffix('')}."
            )
        return value


def model_option(command: Callable) -> Callable:
    help = "edge, edge-s, base, the folder of a saved model, or a baseline such as bilinear."
    return click.option("--model", default="edge", help=help)(command)


def device_option(command: Callable) -> Callable:
    return click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")(command)


def fp16_option(command: Callable) -> Callable:
    help = "Half-precision weights, and the device's fastest correct arithmetic."
    return click.option("--fp16", is_flag=True, help=help)(command)


def train_config_options(command: Callable) -> Callable:
    """An option for each field of TrainConfig, with its name, type and default."""
    hints = typing.get_type_hints(TrainConfig)
    for field in reversed(dataclasses.fields(TrainConfig)):
        name, help, hint = f"--{field.name.replace('_', '-')}", TRAIN_HELP[field.name], hints[field.name]
        if isinstance(hint, types.UnionType):  # SOMETHING | None
            hint = typing.get_args(hint)[0]
        if field.default is dataclasses.MISSING:
            option = click.option(name, required=True, type=hint, metavar="DIR", help=help)
        elif typing.get_origin(hint) is tuple:
            hint = typing.get_args(hint)[0]
            option = click.option(name, multiple=True, default=field.default, type=hint, metavar="DIR", help=help)
        elif hint is bool:
            option = click.option(f"{name}/--no-{name[2:]}", default=field.default, help=help)
        else:
            option = click.option(name, default=field.default, type=hint, help=help)
        command = option(command)
    return command


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of "640x480". Raises UserError for anything else."""
    width, _, height = text.partition("x")
    if not all(side.isascii() and side.isdigit() for side in (width, height)):
        raise UserError(f"size {text!r} is not understood; write WIDTHxHEIGHT, for example 640x480.")
    return int(width), int(height)
