"""The network: two NAFNet encoder paths, AdaIN fusion at four scales, a decoder with skips, and a head that chooses
between classical upsamplings of the measurement, its own nearest values and, where there is relative depth, that depth
aligned with the measurement, corrects the choice, and puts its edges where the RGB's are.

    rgb (+ relative depth) ── relative path ──┐ F_rel
                                             AdaIN at each of four scales ── skips ── decoder ── choice, edges
    low-resolution depth + rgb ─ depth path ──┘ F_lr

Shapes: B batch, H×W the RGB's resolution, h×w the low-resolution depth's; stage i works at H/2^(i+1).
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from depthsr import ops
from depthsr.config import PRESETS, ModelConfig
from depthsr.model_files import model_folder
from depthsr.models.alignment import WINDOWS, align_relative
from depthsr.models.blocks import FUSIONS, SubpixelHead, blocks, down, up, zero
from depthsr.models.prior import CANDIDATES, NEAREST, UPSAMPLINGS, Prior, make_prior
from depthsr.models.refinement import refine
from depthsr.types import FARTHEST_OVER_MEASURED, UserError

#: Depth channels the depth path sees beside RGB: upsamplings, logarithm of the first, ambiguity, validity.
DEPTH_CHANNELS = UPSAMPLINGS + 3

#: With relative depth: so many more candidates, it being aligned with the measurement, and what the depth path sees of
#: them beside RGB: each as it is and its logarithm.
ALIGNED = len(WINDOWS)
ALIGNED_CHANNELS = 2 * ALIGNED

#: H and W are padded to a multiple of this: four halvings.
SIZE_MULTIPLE = 16

#: Normalised depth and ambiguity above this are shown to the network as this; the output is not clipped by it.
FEATURE_LIMIT = 2.0


class UNet(nn.Module):
    """The trainable part. `forward` works in normalised units at one resolution; DepthSR wraps it for metres."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = config.widths
        relative_channels = 3 + int(config.takes_relative)
        depth_channels = DEPTH_CHANNELS + 3 + (ALIGNED_CHANNELS if config.takes_relative else 0)
        self.candidates = CANDIDATES + (ALIGNED if config.takes_relative else 0)
        self.relative_stem = nn.Conv2d(relative_channels, widths[0], 4, stride=2, padding=1)
        self.depth_stem = nn.Conv2d(depth_channels, widths[0], 4, stride=2, padding=1)
        self.condition = nn.Linear(2, widths[0])
        self.relative_stages = nn.ModuleList(blocks(c, n) for c, n in zip(widths, config.relative_blocks, strict=True))
        self.depth_stages = nn.ModuleList(blocks(c, n) for c, n in zip(widths, config.depth_blocks, strict=True))
        self.relative_downs = nn.ModuleList(down(c, d) for c, d in pairwise(widths))
        self.depth_downs = nn.ModuleList(down(c, d) for c, d in pairwise(widths))
        self.fusions = nn.ModuleList(FUSIONS[config.fusion](c) for c in widths)
        self.middle = blocks(widths[-1], config.middle_blocks)
        coarse_to_fine = widths[::-1]
        self.ups = nn.ModuleList(up(c, d) for c, d in pairwise(coarse_to_fine))
        self.decoder_stages = nn.ModuleList(
            blocks(c, n) for c, n in zip(coarse_to_fine[1:], config.decoder_blocks, strict=True)
        )
        # Four values a pixel of the finest stage, which works at half the resolution: pixel shuffle. 1×1, as the block
        # before has looked around; 3×3 would be a fifth of the whole network's multiplications.
        self.choice_head = nn.Conv2d(widths[0], 4 * self.candidates, 1) if config.head == "choice" else None
        self.residual_head = nn.Conv2d(widths[0], 4, 1)
        self.error_head = SubpixelHead(widths[0], maps=1)
        self.refinement_head = SubpixelHead(widths[0], maps=2) if config.refinement == "bilateral" else None
        for head in (self.choice_head, self.residual_head):
            if head is not None:
                zero(head)

    def forward(
        self, guide_BKHW: Tensor, depth_features_BKHW: Tensor, condition_B2: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Logits of the candidates (B×4K×h×w), correction and error (B×4×h×w): the first three arguments of
        ops.mix_candidates; and the adjustment (B×8×h×w) of depthsr.models.refinement, or None without it.

        h, w: half of H, W, which are multiples of SIZE_MULTIPLE.
        """
        relative = self.relative_stem(guide_BKHW)
        depth = self.depth_stem(depth_features_BKHW) + self.condition(condition_B2)[:, :, None, None]
        skips = []
        for stage, fusion in enumerate(self.fusions):
            if stage > 0:
                relative = self.relative_downs[stage - 1](relative)
                depth = self.depth_downs[stage - 1](depth)
            relative = self.relative_stages[stage](relative)
            depth = fusion(relative, self.depth_stages[stage](depth))
            skips.append(depth)
        x = self.middle(skips.pop())
        for enlarge, stage_blocks in zip(self.ups, self.decoder_stages, strict=True):
            x = stage_blocks(enlarge(x) + skips.pop())
        correction_B4hw = self.residual_head(x)
        if self.choice_head is None:  # all of it the bilinear upsampling
            logits_BNhw = correction_B4hw.new_full((x.shape[0], 4 * self.candidates, *x.shape[2:]), -torch.inf)
            logits_BNhw[:, :4] = 0
        else:
            logits_BNhw = self.choice_head(x)
        # The error head reads the features and does not train them: the depth must not suffer for it.
        error_B4hw = self.error_head(x.detach(), condition_B2)
        adjustment_B8hw = None if self.refinement_head is None else self.refinement_head(x, condition_B2)
        return logits_BNhw, correction_B4hw, error_B4hw, adjustment_B8hw


class DepthSR(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="depthsr",
    license="apache-2.0",
    pipeline_tag="depth-estimation",
):
    """RGB + poor depth -> sharp metric depth.

    `infer` takes metres at any size; `forward` takes a Prior already made, for training, compilation and export.
    A new model of a configuration that takes relative depth has no network for it yet and wants `relative_B1HW`;
    `fetch_depth_anything` gives it one, and so does loading a state that has weights for it.
    `config` may also be the dictionary that `save_pretrained` writes and `from_pretrained` reads.
    """

    def __init__(self, config: ModelConfig | dict) -> None:
        super().__init__()
        config = ModelConfig.from_dict(config) if isinstance(config, dict) else config
        self.config = config
        self.unet = UNet(config)
        self.depth_anything: nn.Module | None = None
        self.register_load_state_dict_pre_hook(build_what_the_state_has)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> DepthSR:
        """As PyTorchModelHubMixin's, of a folder or a repository of the hub; but "edge", "edge-s" and "base" are the
        weights that ship with the package. Raises UserError for one of these whose weights do not ship."""
        name = pretrained_model_name_or_path
        return super().from_pretrained(model_folder(name) if name in PRESETS else name, **options)

    def add_depth_anything(self) -> None:
        """Build the relative-depth network, its weights fresh. For configurations that take relative depth."""
        from depthsr.models.depth_anything import DepthAnything

        assert self.config.depth_anything is not None
        self.depth_anything = self._beside_unet(DepthAnything(self.config.depth_anything))

    def fetch_depth_anything(self) -> None:
        """Build it with the hub's trained weights. Raises UserError when they are out of reach."""
        from depthsr.models.depth_anything import DepthAnything, load_hub_weights

        assert self.config.depth_anything is not None
        network = DepthAnything(self.config.depth_anything)
        load_hub_weights(network)
        self.depth_anything = self._beside_unet(network)

    def _beside_unet(self, network: nn.Module) -> nn.Module:
        """On the U-Net's device, in its type and layout."""
        weight = self.unet.relative_stem.weight
        network = network.to(weight.device, weight.dtype).train(self.training)
        if weight.is_contiguous(memory_format=torch.channels_last):
            to_channels_last(network)
        return network

    def forward(self, rgb_B3HW: Tensor, prior: Prior, relative_B1HW: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Depth and its expected absolute error, both B×1×H×W in units of prior.scale_m_B.

        rgb_B3HW       [0, 1], any H, W >= 1.
        relative_B1HW  depthsr.models.relative.normalise_relative of the RGB's relative depth, for configurations that
                       take it; None: Depth Anything makes it. Raises UserError where the model has neither.
        """
        if isinstance(prior, Tensor):
            raise TypeError(
                "forward takes a Prior and was given a tensor; make one with depthsr.models.prior.make_prior, or call "
                "infer, which takes the measurement itself."
            )
        candidates, ambiguity = prior.candidates_BKHW, prior.ambiguity_B1HW
        guide = (rgb_B3HW - 0.5) * 2
        # A path that is not to see the RGB sees grey: its layers keep their sizes.
        depth_guide = guide if self.config.rgb_paths in ("both", "depth") else torch.zeros_like(guide)
        guide = guide if self.config.rgb_paths in ("both", "relative") else torch.zeros_like(guide)
        if self.config.rgb_paths == "none":
            bilinear = candidates[:, :1].expand(-1, UPSAMPLINGS, -1, -1)
            candidates = torch.cat([bilinear, candidates[:, UPSAMPLINGS:]], 1)
        features = [
            candidates[:, :UPSAMPLINGS].clamp(0.0, FEATURE_LIMIT),
            _logarithm(candidates[:, :1]),
            ambiguity.clamp(0.0, FEATURE_LIMIT),
            prior.valid_B1HW,
            depth_guide,
        ]
        if self.config.takes_relative:
            if relative_B1HW is None:
                if self.depth_anything is None:
                    raise UserError("this model needs relative depth; give it, or call fetch_depth_anything() once.")
                relative_B1HW = self.depth_anything(rgb_B3HW)
            guide = torch.cat([relative_B1HW, guide], 1)
            nearest = candidates[:, NEAREST : NEAREST + 1]
            aligned = align_relative(relative_B1HW, nearest, prior.measurement_uncertainty())
            features += [aligned, _logarithm(aligned)]
            candidates = torch.cat([candidates, aligned], 1)
        logits, correction, error, adjustment = self.unet(_pad(guide), _pad(torch.cat(features, 1)), prior.condition_B2)
        depth, error = ops.mix_candidates(logits, correction, error, candidates, ambiguity)
        if adjustment is None:
            return depth, error
        seen_rgb = torch.zeros_like(rgb_B3HW) if self.config.rgb_paths == "none" else rgb_B3HW
        return refine(depth, error, adjustment, seen_rgb), error

    @torch.no_grad()  # not inference_mode, in which torch.compile fails on some operators
    def infer(
        self,
        rgb_B3HW: Tensor,
        depth_m_B1hw: Tensor,
        valid_B1hw: Tensor,
        *,
        relative_B1HW: Tensor | None = None,
        quantisation_step_m: float | Tensor = 0.0,
        max_depth_m: float | Tensor | None = None,
        filling_m_B1hw: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Sharp depth and its expected absolute error, both B×1×H×W float32 metres.

        rgb_B3HW             floating point in [0, 1]. Raises UserError for integers; values are not looked at.
        depth_m_B1hw         float32 metres, any h, w; anything where valid_B1hw (bool) is False.
        quantisation_step_m  metres between the measurement's levels; 0 = none or unknown.
        max_depth_m          known range; None or 0 = unknown.
        filling_m_B1hw       float32 metres: what to take for the depth in holes where it is finite (a hole all the
                             same: depthsr.wide_holes); None: nowhere.

        Step and range may be tensors of B float32 values on the frames' device, one a frame. No result is negative,
        beyond the known range, or more than 5 % and half a quantisation step beyond the largest valid depth. The host
        never waits for a value from the device, so that a CUDA graph can be captured of it.
        """
        if not rgb_B3HW.is_floating_point():
            raise UserError(f"the RGB is {rgb_B3HW.dtype}; give floating point in [0, 1]: divide 8 bits by 255.")
        step_m_B = _per_frame(quantisation_step_m, depth_m_B1hw)
        range_m_B = _per_frame(0.0 if max_depth_m is None else max_depth_m, depth_m_B1hw)
        prior = make_prior(depth_m_B1hw, valid_B1hw, rgb_B3HW, step_m_B, range_m_B, filling_m_B1hw)
        dtype = self.unet.relative_stem.weight.dtype
        with torch.autocast(rgb_B3HW.device.type, dtype=dtype, enabled=dtype != torch.float32):
            depth_B1HW, error_B1HW = self(rgb_B3HW, prior, relative_B1HW)
        scale_B111 = prior.scale_m_B[:, None, None, None]
        farthest_m_B = torch.where(valid_B1hw, depth_m_B1hw, 0.0).flatten(1).amax(1)
        limit_m_B = FARTHEST_OVER_MEASURED * farthest_m_B + step_m_B / 2
        limit_m_B = torch.where(range_m_B > 0, torch.minimum(limit_m_B, range_m_B), limit_m_B)
        limit_B111 = limit_m_B[:, None, None, None]
        depth_m_B1HW = torch.minimum((depth_B1HW * scale_B111).clamp(min=0), limit_B111)
        return depth_m_B1HW, error_B1HW * scale_B111


def _per_frame(value: float | Tensor, depth_m_B1hw: Tensor) -> Tensor:
    """B values on the frames' device. A number is written there by a kernel: to copy it there would wait for it."""
    return value if isinstance(value, Tensor) else depth_m_B1hw.new_full((depth_m_B1hw.shape[0],), value)


def _logarithm(depth_B1HW: Tensor) -> Tensor:
    """Of depth in units of its range, about 0 to 1; what is near is told apart better in it."""
    return torch.log1p(30 * depth_B1HW.clamp(min=0)) / 3.5


def to_channels_last(module: nn.Module) -> None:
    """Lay its weights out so, in place: convolutions on CPUs and tensor cores are faster on it."""
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it


def build_what_the_state_has(model: DepthSR, state: dict[str, Tensor], prefix: str = "", *_: object) -> None:
    """Give the model a Depth Anything where the state has weights for one, and these the names that they have in it, in
    place; load_state_dict does this first.
    """
    own_prefix = f"{prefix}depth_anything."
    if model.config.takes_relative and any(name.startswith(own_prefix) for name in state):
        from depthsr.models.depth_anything import name_as_installed

        if model.depth_anything is None:
            model.add_depth_anything()
        assert model.depth_anything is not None
        name_as_installed(state, model.depth_anything, own_prefix)


def _pad(x_BCHW: Tensor) -> Tensor:
    """Replicate the right and lower border up to a multiple of SIZE_MULTIPLE (zeros would read as depth 0)."""
    below, right = (-side % SIZE_MULTIPLE for side in x_BCHW.shape[-2:])
    if not torch.compiler.is_compiling() and below == right == 0:  # which compiled code is not to be special for
        return x_BCHW  # F.pad would copy it
    return F.pad(x_BCHW, (0, right, 0, below), mode="replicate")
