"""A model on disk: a folder of config.json and model.safetensors. Found and described here without torch."""

from __future__ import annotations

import json
from pathlib import Path

from depthsr.config import PRESETS, ModelConfig
from depthsr.types import UserError

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

#: Trained weights that ship inside the package, a folder each.
SHIPPED = Path(__file__).parent / "weights"


def model_folder(name_or_path: str | Path) -> Path:
    """The folder of a preset's shipped weights, or the path itself. Raises UserError for a preset without weights."""
    if name_or_path not in PRESETS:
        return Path(name_or_path)
    folder = SHIPPED / str(name_or_path)
    if not folder.is_dir():
        raise UserError(
            f"no trained weights of {name_or_path!r} ship with this version; train them "
            f"(depthsr train --preset {name_or_path}) and name the folder they are saved in, or use 'edge'."
        )
    return folder


def read_config(folder: Path) -> ModelConfig:
    """Raises UserError when one of the two files is missing, or the configuration is none."""
    for path in (folder / CONFIG_FILE, folder / WEIGHTS_FILE):
        if not path.is_file():
            raise UserError(
                f"{path} does not exist; name a model ({', '.join(PRESETS)}) or a folder with {CONFIG_FILE} "
                f"and {WEIGHTS_FILE}."
            )
    path = folder / CONFIG_FILE
    try:
        return ModelConfig.from_dict(json.loads(path.read_text()))
    except (json.JSONDecodeError, UnicodeDecodeError, UserError) as error:
        raise UserError(f"{path} is no model configuration ({error}); fetch or save the model again.") from error


def corrupt_weights(folder: Path, error: Exception) -> UserError:
    return UserError(f"{folder / WEIGHTS_FILE} is corrupt ({error}); fetch or save it again.")


def other_weights(folder: Path, difference: str) -> UserError:
    return UserError(
        f"{folder / WEIGHTS_FILE} does not belong to the model that {folder / CONFIG_FILE} describes "
        f"(first difference: {difference}); put together the two files of one model."
    )
