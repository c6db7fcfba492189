"""Depth Anything V2 as a source of relative depth, through transformers.

The architecture is built from the configuration; `load_hub_weights` fetches the trained weights. None of them could be
fetched where depthsr was developed: tests build a small network of the same classes.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from depthsr.config import DepthAnythingConfig
from depthsr.models.relative import normalise_relative
from depthsr.types import SetupError

#: The network's input normalisation (ImageNet).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

PATCH_PX = 14

#: Parts of the parameters' names: the hub files', and what releases of transformers call them that differ.
RENAMED = {
    ".attention.attention.query.": ".attention.q_proj.",
    ".attention.attention.key.": ".attention.k_proj.",
    ".attention.attention.value.": ".attention.v_proj.",
    ".attention.output.dense.": ".attention.o_proj.",
}


class DepthAnything(nn.Module):
    """RGB [0, 1] -> relative depth B×1×H×W, 0 = far, 1 = near, robustly scaled per frame."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: DepthAnythingConfig) -> None:
        super().__init__()
        self.config = config
        self.network = transformers.DepthAnythingForDepthEstimation(_transformers_config(config))
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def forward(self, rgb_B3HW: Tensor) -> Tensor:
        height, width = rgb_B3HW.shape[-2:]
        factor = self.config.image_side_px / min(height, width)
        size = [max(PATCH_PX, round(side * factor / PATCH_PX) * PATCH_PX) for side in (height, width)]
        resized = F.interpolate(rgb_B3HW, size=size, mode="bicubic", align_corners=False, antialias=factor < 1)
        pixels = ((resized - self.mean) / self.std).to(self.mean.dtype)
        # Half-precision weights compute in their own type: autocast would take every norm to float32 and back.
        device, is_float32 = rgb_B3HW.device.type, self.mean.dtype == torch.float32
        with torch.autocast(device, enabled=is_float32 and torch.is_autocast_enabled(device)):
            raw_BHW = self.network(pixel_values=pixels).predicted_depth
        return normalise_relative(F.interpolate(raw_BHW[:, None].float(), size=(height, width), mode="bilinear"))


def load_hub_weights(module: DepthAnything) -> None:
    """Fetch the trained weights at the pinned revision. Raises SetupError when the hub cannot be reached."""
    config = module.config
    fetch = partial(
        transformers.DepthAnythingForDepthEstimation.from_pretrained, config.hub_id, revision=config.revision
    )
    try:
        try:
            trained = fetch(local_files_only=True)  # a revision never changes, so the hub has nothing to add
        except OSError:
            trained = fetch()
    except OSError as error:
        raise SetupError(
            f"the Depth Anything weights {config.hub_id} (revision {config.revision}) could not be fetched "
            f"({str(error).splitlines()[0]}); "
            "connect to huggingface.co, fill the hub cache, give relative depth of your own, or use the model 'edge', "
            "which needs none."
        ) from error
    module.network.load_state_dict(trained.state_dict())


def name_as_installed(state: dict[str, Tensor], network: nn.Module, prefix: str) -> None:
    """Rename in a state, in place, what another release of transformers saved under other names than the installed."""
    own = {prefix + name for name in network.state_dict()}
    for old, new in (*RENAMED.items(), *((new, old) for old, new in RENAMED.items())):
        for name in [name for name in state if name not in own]:
            if (renamed := name.replace(old, new)) in own:
                state[renamed] = state.pop(name)


def _transformers_config(config: DepthAnythingConfig) -> transformers.DepthAnythingConfig:
    backbone = transformers.Dinov2Config(
        hidden_size=config.hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        image_size=config.image_side_px,
        patch_size=PATCH_PX,
        out_indices=list(config.out_indices),
        reshape_hidden_states=False,
        apply_layernorm=True,
        attn_implementation="sdpa",
    )
    return transformers.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=config.hidden_size,
        patch_size=PATCH_PX,
        neck_hidden_sizes=list(config.neck_sizes),
        fusion_hidden_size=config.fusion_size,
    )
