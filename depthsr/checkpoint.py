"""Models and training states to and from disk: presets by name, folders of config.json + model.safetensors."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from depthsr.config import PRESETS
from depthsr.io.atomic import atomic_path
from depthsr.model_files import CONFIG_FILE, WEIGHTS_FILE, corrupt_weights, model_folder, other_weights, read_config
from depthsr.models.network import DepthSR
from depthsr.types import UserError


def load_model(
    name_or_path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> DepthSR:
    """A trained model in eval mode: "edge" (shipped), "base", or a folder saved by `save_model`.

    Raises UserError when there is no such model, or its files are corrupt or of another model.
    """
    return _read_folder(model_folder(name_or_path)).to(device=device, dtype=dtype).eval()


def new_or_saved_model(name_or_path: str | Path) -> DepthSR:
    """A preset with fresh weights (and Depth Anything's trained ones where it has any), or a saved folder's model."""
    if name_or_path not in PRESETS:
        return _read_folder(Path(name_or_path))
    model = DepthSR(PRESETS[str(name_or_path)])
    if model.depth_anything is not None:
        from depthsr.models.depth_anything import load_hub_weights

        load_hub_weights(model.depth_anything)
    return model


def _read_folder(folder: Path) -> DepthSR:
    model = DepthSR(read_config(folder))
    try:
        weights = safetensors.torch.load_file(folder / WEIGHTS_FILE)
    except (safetensors.SafetensorError, OSError) as error:
        raise corrupt_weights(folder, error) from error
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    found = {name: tensor.shape for name, tensor in weights.items()}
    if expected != found:
        raise other_weights(folder, sorted(set(expected.items()) ^ set(found.items()), key=str)[0][0])
    model.load_state_dict(weights)
    return model


def save_model(model: DepthSR, folder: Path) -> None:
    """config.json + model.safetensors (float32 as trained), each written under a temporary name and renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(folder / WEIGHTS_FILE) as path:
        safetensors.torch.save_file(weights, path, metadata={"format": "pt"})
    write_json(folder / CONFIG_FILE, model.config.to_dict())


def save_training_state(state: dict, path: Path) -> None:
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_training_state(path: Path, device: torch.device) -> dict:
    """Raises UserError when the file is no training state."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(f"{path} is corrupt ({error}); remove it and train anew.") from error


def write_json(path: Path, values: dict) -> None:
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)
