"""Models and training states to and from disk: presets by name, folders of config.json + model.safetensors."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from depthsr.config import PRESETS, RELATIVE_SOURCES
from depthsr.io.atomic import atomic_path
from depthsr.model_files import CONFIG_FILE, WEIGHTS_FILE, corrupt_weights, model_folder, other_weights, read_config
from depthsr.models.network import DepthSR, build_what_the_state_has
from depthsr.types import UserError


def load_model(
    name_or_path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> DepthSR:
    """A trained model in eval mode: a preset whose weights ship, or a folder saved by `save_model`.

    One that takes relative depth has Depth Anything only if its folder holds that network's weights.

    Raises UserError when there is no such model, or its files are corrupt or of another model.
    """
    return _read_folder(model_folder(name_or_path)).to(device=device, dtype=dtype).eval()


def new_or_saved_model(name_or_path: str | Path, relative: str = "network") -> DepthSR:
    """A model to train: a preset with fresh weights, or a saved folder's model.

    relative  where a model that takes relative depth gets it: "network" gives it Depth Anything with the hub's trained
              weights unless the folder holds its own; "simulated" leaves it without.

    Raises UserError for another word, when the hub is needed and out of reach, and for "simulated" with a model that
    takes none or brings a network of its own, which would then be neither used nor saved.
    """
    if relative not in RELATIVE_SOURCES:
        raise UserError(f"there is no relative depth {relative!r}; choose one of {', '.join(RELATIVE_SOURCES)}.")
    preset = PRESETS.get(str(name_or_path))
    model = DepthSR(preset) if preset else _read_folder(Path(name_or_path))
    if relative == "simulated" and not model.config.takes_relative:
        raise UserError(f"{name_or_path} takes no relative depth; leave --relative out, or use a model such as base.")
    if relative == "simulated" and model.depth_anything is not None:
        raise UserError(f"{name_or_path} holds a Depth Anything network; train it with --relative network.")
    if relative == "network" and model.config.takes_relative and model.depth_anything is None:
        model.fetch_depth_anything()
    return model


def _read_folder(folder: Path) -> DepthSR:
    model = DepthSR(read_config(folder))
    try:
        weights = safetensors.torch.load_file(folder / WEIGHTS_FILE)
    except (safetensors.SafetensorError, OSError) as error:
        raise corrupt_weights(folder, error) from error
    build_what_the_state_has(model, weights)
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    found = {name: tensor.shape for name, tensor in weights.items()}
    if expected != found:
        raise other_weights(folder, sorted(set(expected.items()) ^ set(found.items()), key=str)[0][0])
    model.load_state_dict(weights)
    return model


def save_model(model: DepthSR, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """config.json + model.safetensors, each written under a temporary name and renamed.

    dtype  of the stored weights: float16 halves the file, and they are read back as float32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(folder / WEIGHTS_FILE) as path:
        # Not save_file: it makes a file that nobody but its owner may read.
        path.write_bytes(safetensors.torch.save(weights, metadata={"format": "pt"}))
    write_json(folder / CONFIG_FILE, model.config.to_dict())


def save_training_state(state: dict, path: Path) -> None:
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_training_state(path: Path, device: torch.device) -> dict:
    """Raises UserError when the file is no training state, or one of a version that numbered its samples otherwise."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(f"{path} is corrupt ({error}); remove it and train anew.") from error
    if "world" not in state:
        raise UserError(f"{path} is of an older depthsr; resume it with that one, or name another folder.")
    return state


def write_json(path: Path, values: dict) -> None:
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)
