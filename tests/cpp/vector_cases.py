"""The cases of the C++ tests, a function an op: random inputs, and what the reference makes of them in float64."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from depthsr import anchoring
from depthsr.config import ModelConfig
from depthsr.models.network import DepthSR
from depthsr.models.prior import UPSAMPLINGS, Prior, make_prior
from depthsr.ops import reference

STORAGE = (torch.float32, torch.float16, torch.bfloat16)
FUSED_STORAGE = (torch.float32, torch.bfloat16)

#: How far results may be from the reference, relative to the value and to the root mean square of all values, where it
#: is not the storage type of the result alone that decides (compare.h). A fused block in bfloat16 rounds twice: what
#: lies between its two passes, and the result.
BLOCK_TOLERANCE = {torch.float32: 64 * 2.0**-23, torch.bfloat16: 2 * 2.0**-7}
#: Gradients: as in tests/ops/test_naf_block.py, which says how far PyTorch's own float32 is.
GRADIENT_TOLERANCE = BLOCK_TOLERANCE | {torch.float32: 300 * 2.0**-23}
#: The whole network: this, or CHANCE times as far as PyTorch's own arithmetic in that type is from the reference. Seen
#: over nine FRAMES with ten seeds, bfloat16: the median is 0.66 times PyTorch's where kernels store in that type and
#: 0.83 times where they multiply in it too, and 12 and 26 of 100 are above it.
NETWORK_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-2}
#: Kernels that multiply in bfloat16, not just store it, round as often as PyTorch does in that type: they may be as far
#: from the reference as it is, give or take what chance makes of the largest of many rounding errors. Seen: 0.5 to 1.7
#: times PyTorch's, over the fixed cases and 40 random ones.
CHANCE = 2.0


class Case(NamedTuple):
    """inputs: tensors, ints and floats; expected: float64. Tensors go to the file in the order of their elements."""

    op: str
    name: str
    inputs: dict[str, Tensor | int | float]
    expected: dict[str, Tensor]


class Random:
    """Random tensors of one case."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, generator=self._generator).to(dtype)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._generator)


def _laid_out(x_BCHW: Tensor, channels_last: bool) -> Tensor:
    return x_BCHW.permute(0, 2, 3, 1) if channels_last else x_BCHW


def _double(*tensors: Tensor) -> list[Tensor]:
    return [tensor.double().requires_grad_() for tensor in tensors]


def _name(op: str, shape: tuple[int, ...], dtype: torch.dtype, channels_last: bool = False) -> str:
    layout = " channels last" if channels_last else ""
    return f"{op} {'x'.join(map(str, shape))} {str(dtype).removeprefix('torch.')}{layout}"


def _shape_inputs(shape: tuple[int, int, int, int], channels_last: bool) -> dict[str, int]:
    batch, channels, height, width = shape
    return {"batch": batch, "channels": channels, "pixels": height * width, "channels_last": int(channels_last)}


def layer_norm_2d(shape: tuple[int, int, int, int], dtype: torch.dtype, channels_last: bool, seed: int) -> Case:
    r = Random(seed)
    x, grad_out = r.normal(*shape, dtype=dtype), r.normal(*shape, dtype=dtype)
    weight, bias, eps = r.normal(shape[1]), r.normal(shape[1]), 1e-4
    x64, weight64, bias64 = _double(x, weight, bias)
    out = reference.layer_norm_2d(x64, weight64, bias64, eps)
    grad_x, grad_weight, grad_bias = torch.autograd.grad(out, (x64, weight64, bias64), grad_out.double())
    given = {"x": _laid_out(x, channels_last), "grad_out": _laid_out(grad_out, channels_last)}
    expected = {"out": _laid_out(out, channels_last), "grad_x": _laid_out(grad_x, channels_last)}
    return Case(
        "layer_norm_2d",
        _name("layer_norm_2d", shape, dtype, channels_last),
        given | {"weight": weight, "bias": bias, "eps": eps} | _shape_inputs(shape, channels_last),
        expected | {"grad_weight": grad_weight, "grad_bias": grad_bias},
    )


def _simple_gate_of(x: Tensor, grad_out: Tensor, channels_last: bool, what: str = "") -> Case:
    (x64,) = _double(x)
    out = reference.simple_gate(x64)
    (grad_x,) = torch.autograd.grad(out, x64, grad_out.double())
    shape = tuple(out.shape)
    return Case(
        "simple_gate",
        _name("simple_gate", shape, x.dtype, channels_last) + what,
        {"x": _laid_out(x, channels_last), "grad_out": _laid_out(grad_out, channels_last)}
        | _shape_inputs(shape, channels_last),
        {"out": _laid_out(out, channels_last), "grad_x": _laid_out(grad_x, channels_last)},
    )


def simple_gate(shape: tuple[int, int, int, int], dtype: torch.dtype, channels_last: bool, seed: int) -> Case:
    """`shape` is the result's."""
    r = Random(seed)
    batch, channels, height, width = shape
    x = r.normal(batch, 2 * channels, height, width, dtype=dtype)
    return _simple_gate_of(x, r.normal(*shape, dtype=dtype), channels_last)


def every_bit_pattern(half: torch.dtype) -> Case:
    """All 65536 values of a type through a gate by 1: subnormals, infinities and NaN included."""
    values = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(half).reshape(1, 1, 256, 256)
    ones = torch.ones_like(values)
    return _simple_gate_of(torch.cat([values, ones], 1), ones, False, ", every bit pattern")


def adain(
    shape: tuple[int, int, int, int], style_size: tuple[int, int], dtype: torch.dtype, channels_last: bool, seed: int
) -> Case:
    r = Random(seed)
    content, style = r.normal(*shape, dtype=dtype), (r.normal(*shape[:2], *style_size) * 2 + 1).to(dtype)
    grad_out, eps, correction = r.normal(*shape, dtype=dtype), 1e-3, seed % 2
    content64, style64 = _double(content, style)
    out = reference.adain(content64, style64, eps, correction)
    grad_content, grad_style = torch.autograd.grad(out, (content64, style64), grad_out.double())
    given = {"content": content, "style": style, "grad_out": grad_out}
    expected = {"out": out, "grad_content": grad_content, "grad_style": grad_style}
    tolerances = {}
    if dtype == torch.float32 and grad_content.any():
        # The gradient is what is left of terms of this size; of two pixels', only eps is left.
        _, content_variance, _, style_variance = reference.adain_statistics(content64, style64, correction)
        ratio = ((style_variance + eps) / (content_variance + eps)).sqrt()[:, :, None, None]
        terms, left = (x.square().mean().sqrt().item() for x in (ratio * grad_out, grad_content))
        tolerances["grad_content"] = 64 * 2.0**-23 * max(1.0, terms / left)
    return Case(
        "adain",
        _name("adain", shape, dtype, channels_last) + f" style {style_size[0]}x{style_size[1]}",
        {key: _laid_out(tensor, channels_last) for key, tensor in given.items()}
        | {"eps": eps, "correction": correction, "style_pixels": style_size[0] * style_size[1]}
        | _shape_inputs(shape, channels_last)
        | _tolerances(tolerances),
        {key: _laid_out(tensor, channels_last) for key, tensor in expected.items()},
    )


def sobel_l1_loss(shape: tuple[int, int, int], dtype: torch.dtype, masked: bool, seed: int) -> Case:
    """Depths are multiples of 1/64: differences are exact, and the sign of a gradient is no matter of rounding."""
    r = Random(seed)
    batch, height, width = shape
    pred, target = ((r.normal(batch, 1, height, width) * 64).round().clamp(-256, 256) / 64 for _ in range(2))
    inputs: dict[str, Tensor | int | float] = {"batch": batch, "height": height, "width": width}
    inputs |= {"l1_weight": 0.7, "gradient_weight": 1.3, "grad_out": 1.5}
    valid = None
    if masked:
        valid = r.uniform(batch, 1, height, width) < 0.9
        pred, target = pred.where(valid, torch.nan), target.where(valid, -torch.inf)
        inputs["valid"] = valid
    pred, target = pred.to(dtype), target.to(dtype)
    pred64, target64 = pred.double().requires_grad_(), target.double()
    loss = reference.sobel_l1_loss(pred64, target64, valid, inputs["l1_weight"], inputs["gradient_weight"])
    (grad_pred,) = torch.autograd.grad(loss * inputs["grad_out"], pred64)
    return Case(
        "sobel_l1_loss",
        _name("sobel_l1_loss", shape, dtype) + (" masked" if masked else ""),
        inputs | {"pred": pred, "target": target},
        {"loss": loss, "grad_pred": grad_pred},
    )


def _naf_block_weights(r: Random, channels: int) -> reference.NAFBlockWeights:
    """As large as trained ones: sums over the inputs keep the inputs' size."""

    def conv(outputs: int, inputs: int, *kernel: int) -> Tensor:
        weight = r.normal(outputs, inputs, *(kernel or (1, 1)))
        return weight / weight[0].numel() ** 0.5

    c = channels
    shapes = {
        "norm1_weight": lambda: 1 + 0.3 * r.normal(c),
        "conv1_weight": lambda: conv(2 * c, c),
        "conv2_weight": lambda: conv(2 * c, 1, 3, 3),
        "attention_weight": lambda: conv(c, c),
        "conv3_weight": lambda: conv(c, c),
        "norm2_weight": lambda: 1 + 0.3 * r.normal(c),
        "conv4_weight": lambda: conv(2 * c, c),
        "conv5_weight": lambda: conv(c, c),
        "beta": lambda: r.normal(1, c, 1, 1),
        "gamma": lambda: r.normal(1, c, 1, 1),
    }
    sizes = {"conv1_bias": 2 * c, "conv2_bias": 2 * c, "conv4_bias": 2 * c}
    made = {}
    for name in reference.NAFBlockWeights._fields:
        made[name] = shapes[name]() if name in shapes else 0.3 * r.normal(sizes.get(name, c))
    made["attention_bias"] += 1
    return reference.NAFBlockWeights(**made)


def _tolerances(
    tolerances: dict[str, float], of_bf16_products: dict[str, float] | None = None
) -> dict[str, Tensor | int | float]:
    """Of results, where the type of the result alone does not decide it; looser ones for products in bfloat16."""
    looser = {f"tolerance of bf16 products.{key}": value for key, value in (of_bf16_products or {}).items()}
    return {f"tolerance.{key}": value for key, value in tolerances.items()} | looser


def _naf_block_inputs(x: Tensor, weights: reference.NAFBlockWeights, eps: float) -> dict[str, Tensor | int | float]:
    batch, channels, height, width = x.shape
    sizes = {"batch": batch, "channels": channels, "height": height, "width": width}
    return weights._asdict() | {"x": _laid_out(x, True), "eps": eps} | sizes


def naf_block(shape: tuple[int, int, int, int], dtype: torch.dtype, seed: int) -> Case:
    r = Random(seed)
    x, weights, eps = r.normal(*shape, dtype=dtype), _naf_block_weights(r, shape[1]), 1e-6
    # torch's convolutions refuse a frame without pixels.
    weights64 = reference.NAFBlockWeights(*(weight.double() for weight in weights))
    out = _laid_out(reference.naf_block(x.double(), weights64, eps) if x.numel() else x.double(), True)
    expected = {"out": out, "in_place": out}
    looser = BLOCK_TOLERANCE[dtype]
    if dtype == torch.bfloat16 and x.numel():
        with torch.autocast("cpu", dtype):
            of_torch = _laid_out(reference.naf_block(x, weights, eps), True)
        looser = max(looser, CHANCE * _error(of_torch.double(), out))
    inputs = _naf_block_inputs(x, weights, eps) | _tolerances(
        dict.fromkeys(expected, BLOCK_TOLERANCE[dtype]), dict.fromkeys(expected, looser)
    )
    return Case("naf_block", _name("naf_block", shape, dtype), inputs, expected)


def naf_block_backward(shape: tuple[int, int, int, int], dtype: torch.dtype, seed: int) -> Case:
    """Shapes with at least one pixel."""
    r = Random(seed)
    x, weights, eps = r.normal(*shape, dtype=dtype), _naf_block_weights(r, shape[1]), 1e-6
    grad_out = r.normal(*shape, dtype=dtype)
    x64, *weights64 = _double(x, *weights)
    out = reference.naf_block(x64, reference.NAFBlockWeights(*weights64), eps)
    grad_x, *gradients = torch.autograd.grad(out, (x64, *weights64), grad_out.double())
    expected = dict(zip(weights._fields, gradients, strict=True)) | {"grad_x": _laid_out(grad_x, True)}
    inputs = _naf_block_inputs(x, weights, eps) | _tolerances(dict.fromkeys(expected, GRADIENT_TOLERANCE[dtype]))
    inputs["grad_out"] = _laid_out(grad_out, True)
    return Case("naf_block_backward", _name("naf_block_backward", shape, dtype), inputs, expected)


def joint_bilateral_upsample(
    size: tuple[int, int], low: tuple[int, int], batch: int, channels_last: bool, seed: int
) -> Case:
    """Expected in float32: which coarse pixel is the nearest is a matter of rounding."""
    r = Random(seed)
    x, coarse_guide = 1 + 4 * r.uniform(batch, 1, *low), r.uniform(batch, 3, *low)
    confidence = torch.where(r.uniform(batch, 1, *low) > 0.3, 1.0, 0.003)
    guide = F.interpolate(coarse_guide, size=size) if batch else r.uniform(batch, 3, *size)
    guide = (guide + 0.1 * r.uniform(batch, 3, *size)).clamp(0, 1)
    out = reference.joint_bilateral_upsample(x, confidence, guide, coarse_guide)
    inputs = {"x": x, "confidence": confidence, "guide": _laid_out(guide, channels_last), "coarse_guide": coarse_guide}
    inputs |= {"batch": batch, "height": size[0], "width": size[1], "coarse_height": low[0], "coarse_width": low[1]}
    layout = " channels last" if channels_last else ""
    name = f"joint_bilateral_upsample {batch}x{size[0]}x{size[1]} from {low[0]}x{low[1]}{layout}"
    return Case("joint_bilateral_upsample", name, inputs | {"channels_last": int(channels_last)}, {"out": out.double()})


def spread_residuals(size: tuple[int, int], cells: tuple[int, int], own: bool, seed: int) -> Case:
    """Two surfaces, points in most cells; expected in float32."""
    r = Random(seed)
    surfaces = 1 + 0.1 * (r.uniform(*cells) > 0.5)
    filled = r.uniform(*cells) > 0.3
    residual = torch.where(filled, 0.05 * r.normal(*cells), 0.0)
    cell_log_m = torch.where(filled, surfaces + 0.02 * r.normal(*cells), 1e4)
    log_m = F.interpolate(surfaces[None, None], size=size)[0, 0] + 0.02 * r.normal(*size)
    border = (anchoring.REACH_CELLS,) * 4
    padded = {"residual": F.pad(residual, border), "cell_log_m": F.pad(cell_log_m, border, value=1e4)}
    anchors = anchoring.Anchors(*(cells_hw.numpy() for cells_hw in padded.values()), (1.2, 1.9))
    out = torch.from_numpy(anchoring.spread_residuals(log_m.numpy(), anchors, own=own)).double()
    inputs = padded | {"log_m": log_m, "own": int(own), "reach": anchoring.REACH_CELLS}
    inputs |= dict(zip(("sigma_down", "sigma_across"), anchors.sigma_cells, strict=True))
    inputs |= {"sigma_log": anchoring.SIGMA_LOG, "prior_weight": anchoring.PRIOR_WEIGHT}
    inputs |= {"height": size[0], "width": size[1], "cells_down": cells[0], "cells_across": cells[1]}
    name = f"spread_residuals {size[0]}x{size[1]} from {cells[0]}x{cells[1]}{'' if own else ' of others'}"
    return Case("spread_residuals", name, inputs, {"out": out})


def bilateral_sum(size: tuple[int, int], channels: int, batch: int, channels_last: bool, seed: int) -> Case:
    r = Random(seed)
    x, guide = r.normal(batch, channels, *size), 0.3 * r.uniform(batch, 3, *size)
    inputs = {"x": x, "guide": _laid_out(guide, channels_last), "channels_last": int(channels_last)}
    inputs |= {"batch": batch, "channels": channels, "height": size[0], "width": size[1]}
    name = f"bilateral_sum {batch}x{channels}x{size[0]}x{size[1]}{' channels last' if channels_last else ''}"
    return Case("bilateral_sum", name, inputs, {"out": reference.bilateral_sum(x.double(), guide.double())})


def mix_candidates(size: tuple[int, int], count: int, more: int, batch: int, channels_last: bool, seed: int) -> Case:
    """more: rows and columns of half the resolution that are cut off."""
    r = Random(seed)
    half = tuple((side + 1) // 2 + more for side in size)
    halves = {
        name: 3 * r.normal(batch, 4 * n, *half) for name, n in (("logits", count), ("correction", 1), ("error", 1))
    }
    full = {"candidates": 1 + r.uniform(batch, count, *size), "ambiguity": r.uniform(batch, 1, *size)}
    depth, expected = reference.mix_candidates(*(x.double() for x in (halves | full).values()))
    inputs = {name: _laid_out(x, channels_last) for name, x in halves.items()} | full
    inputs |= {"channels_last": int(channels_last)}
    inputs |= {"batch": batch, "count": count, "height": size[0], "width": size[1]}
    inputs |= {"half_height": half[0], "half_width": half[1]}
    name = f"mix_candidates {batch}x{size[0]}x{size[1]} of {count}{' channels last' if channels_last else ''}"
    return Case("mix_candidates", name, inputs, {"depth": depth, "expected": expected})


def fit_lines(size: tuple[int, int], batch: int, window: int, seed: int) -> Case:
    r = Random(seed)
    size = (1, 2) if size == (1, 1) else size  # a single cell has no slope but that of rounding
    maps = {"relative": r.uniform(batch, 1, *size), "deviation": 0.02 + 0.1 * r.uniform(batch, 1, *size)}
    maps["inverse"] = 1 + 2 * maps["relative"] + 0.2 * r.uniform(batch, 1, *size)
    open_end = r.uniform(batch, 1, *size) > 0.8
    exact = [maps[name].double() for name in ("relative", "inverse", "deviation")]
    scale, offset = reference.fit_lines(*exact, open_end, window)
    inputs = {
        **maps, "open_end": open_end, "batch": batch, "height": size[0], "width": size[1], "window": window,
        "rounds": reference.ROUNDS, "frame_share": reference.WHOLE_FRAME, "trust_in_bound": reference.TRUST_IN_BOUND,
        "least_variance": reference.LEAST_VARIANCE,
    }  # fmt: skip
    name = f"fit_lines {batch}x{size[0]}x{size[1]} window {window}"
    return Case("fit_lines", name, inputs, {"scale": scale, "offset": offset})


def fill_holes(low: tuple[int, int], batch: int, seed: int) -> Case:
    r = Random(seed)
    valid = r.uniform(batch, 1, *low) > 0.6
    x = torch.where(valid, 1 + 4 * r.uniform(batch, 1, *low), torch.nan)
    inputs = {"x": x, "valid": valid, "batch": batch, "height": low[0], "width": low[1]}
    name = f"fill_holes {batch}x{low[0]}x{low[1]}"
    return Case("fill_holes", name, inputs, {"out": reference.fill_holes(x.double(), valid)})


def surrounding_measurements(size: tuple[int, int], low: tuple[int, int], batch: int, seed: int) -> Case:
    r = Random(seed)
    valid, x = r.uniform(batch, 1, *low) > 0.6, 1 + 4 * r.uniform(batch, 1, *low)
    out = reference.surrounding_measurements(x, valid, size)
    inputs = {"x": x, "valid": valid, "batch": batch, "height": size[0], "width": size[1]}
    inputs |= {"coarse_height": low[0], "coarse_width": low[1]}
    name = f"surrounding_measurements {batch}x{size[0]}x{size[1]} from {low[0]}x{low[1]}"
    return Case("surrounding_measurements", name, inputs, {"out": out.double()})


# --- frames -----------------------------------------------------------------------------------------------------------


def _frame(
    size: tuple[int, int], low: tuple[int, int], known_range: bool, seed: int
) -> tuple[dict[str, Tensor | int | float], Prior, Tensor]:
    """A frame's inputs, its prior (in float32: which coarse pixel is the nearest is a matter of rounding), its rgb."""
    r = Random(seed)
    height, width = size
    patches = r.uniform(1, 3, -(-height // 5), -(-width // 5)).repeat_interleave(5, 2).repeat_interleave(5, 3)
    rgb_B3HW = (patches[:, :, :height, :width] + 0.05 * r.uniform(1, 3, height, width)).clamp(0, 1)
    valid = r.uniform(1, 1, *low) > 0.3
    valid[..., -1, 0] = True
    depth_m = (1 + 4 * r.uniform(1, 1, *low)).where(valid, torch.nan)
    step_m, max_depth_m = (0.25, 7.5) if known_range else (0.0, 0.0)
    inputs = {"rgb": _laid_out(rgb_B3HW, True), "depth_m": depth_m, "valid": valid}
    if seed % 2:  # some holes are filled, and some measurements would be: they stay
        inputs["filling_m"] = (6 * r.uniform(1, 1, *low)).where(r.uniform(1, 1, *low) > 0.5, torch.nan)
    limits = torch.tensor([step_m]), torch.tensor([max_depth_m])
    prior = make_prior(depth_m, valid, rgb_B3HW, *limits, inputs.get("filling_m"))
    inputs |= {"height": height, "width": width, "low_height": low[0], "low_width": low[1]}
    return inputs | {"quantisation_step_m": step_m, "max_depth_m": max_depth_m}, prior, rgb_B3HW


def prior_of_frame(size: tuple[int, int], low: tuple[int, int], known_range: bool, seed: int) -> Case:
    inputs, prior, _ = _frame(size, low, known_range, seed)
    candidates = prior.candidates_BKHW[0]
    expected = {
        "upsampled": candidates[:UPSAMPLINGS],
        "neighbours": candidates[UPSAMPLINGS:],
        "ambiguity": prior.ambiguity_B1HW,
        "valid": prior.valid_B1HW,
        "condition": prior.condition_B2,
        "scale_m": prior.scale_m_B,
    }
    name = f"make_prior {size[0]}x{size[1]} from {low[0]}x{low[1]}{' known range' if known_range else ''}"
    return Case("make_prior", name, inputs, {key: tensor.double() for key, tensor in expected.items()})


def _error(result: Tensor, expected: Tensor) -> float:
    """The largest, relative to the value and to the root mean square of all values."""
    return ((result - expected).abs() / (expected.abs() + expected.square().mean().sqrt())).max().item()


def network(size: tuple[int, int], low: tuple[int, int], known_range: bool, dtype: torch.dtype, seed: int) -> Case:
    """A whole model with every kind of layer, small; its random weights are about as large as trained ones."""
    widths, ones = (8, 16, 24, 40), (1, 1, 1, 1)
    config = ModelConfig(
        name="test", widths=widths, relative_blocks=ones, depth_blocks=ones, middle_blocks=1, decoder_blocks=(1, 1, 1)
    )
    inputs, prior, rgb_B3HW = _frame(size, low, known_range, seed)
    r = Random(seed + 1)
    model = DepthSR(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        # Blocks and heads start at nothing and stay small corrections.
        small = 0.1 if "head" in name else 1.0
        spread = 0.1 if parameter.dim() == 1 or name.endswith(("beta", "gamma")) else parameter[0].numel() ** -0.5
        one = "norm" in name and name.endswith("weight")
        parameter.copy_(one + small * spread * r.normal(*parameter.shape))
    inputs |= {key: tensor.clone() for key, tensor in model.state_dict().items()}
    inputs |= {
        "widths": torch.tensor(widths),
        "relative_blocks": torch.tensor(ones),
        "depth_blocks": torch.tensor(ones),
    }
    inputs |= {"middle_blocks": 1, "decoder_blocks": torch.ones(3, dtype=torch.int64)}
    inputs["bfloat16"] = int(dtype == torch.bfloat16)
    scale_m = prior.scale_m_B.double()
    limit_m = 1.05 * inputs["depth_m"][inputs["valid"]].max().double() + inputs["quantisation_step_m"] / 2
    limit_m = min(limit_m, inputs["max_depth_m"] or limit_m)

    def results(depth: Tensor, error: Tensor) -> dict[str, Tensor]:
        return {
            "depth_m": (depth.double() * scale_m).clamp(min=0).clamp(max=limit_m),
            "error_m": error.double() * scale_m,
        }

    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        of_torch = results(*model(rgb_B3HW, prior))
    expected = results(*model.double()(rgb_B3HW.double(), Prior(*(field.double() for field in prior))))
    errors = {key: _error(of_torch[key], expected[key]) for key in expected}
    inputs |= _tolerances({key: max(NETWORK_TOLERANCE[dtype], CHANCE * error) for key, error in errors.items()})
    name = f"network {size[0]}x{size[1]} from {low[0]}x{low[1]} {str(dtype).removeprefix('torch.')}"
    return Case("network", name, inputs, expected)
