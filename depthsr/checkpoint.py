"""Models and training states to and from disk: presets by name, folders of config.json + model.safetensors."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from depthsr.config import PRESETS, ModelConfig
from depthsr.io.atomic import atomic_path
from depthsr.models.network import DepthSR
from depthsr.types import UserError

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

#: Trained weights that ship inside the package, a folder each.
SHIPPED = Path(__file__).parent / "weights"


def load_model(
    name_or_path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> DepthSR:
    """A trained model in eval mode: "edge" (shipped), "base", or a folder saved by `save_model`.

    Raises UserError when there is no such model, or its files are corrupt or of another model.
    """
    if name_or_path in PRESETS and not (SHIPPED / str(name_or_path)).is_dir():
        raise UserError(
            f"no trained weights of {name_or_path!r} ship with this version; train them "
            f"(depthsr train --preset {name_or_path}) and name the folder they are saved in, or use 'edge'."
        )
    folder = SHIPPED / str(name_or_path) if name_or_path in PRESETS else Path(name_or_path)
    return _read_folder(folder).to(device=device, dtype=dtype).eval()


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
    config_path, weights_path = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    for path in (config_path, weights_path):
        if not path.is_file():
            raise UserError(
                f"{path} does not exist; name a model ({', '.join(PRESETS)}) or a folder with {CONFIG_FILE} "
                f"and {WEIGHTS_FILE}."
            )
    try:
        config = ModelConfig.from_dict(json.loads(config_path.read_text()))
    except (json.JSONDecodeError, UnicodeDecodeError, UserError) as error:
        raise UserError(f"{config_path} is no model configuration ({error}); fetch or save the model again.") from error
    try:
        weights = safetensors.torch.load_file(weights_path)
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{weights_path} is corrupt ({error}); fetch or save it again.") from error
    model = DepthSR(config)
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    found = {name: tensor.shape for name, tensor in weights.items()}
    if expected != found:
        different = sorted(set(expected.items()) ^ set(found.items()), key=str)[0][0]
        raise UserError(
            f"{weights_path} does not belong to the model that {config_path} describes (first difference: "
            f"{different}); put together the two files of one model."
        )
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
