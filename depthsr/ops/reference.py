"""What each op means, in plain PyTorch: the specification every faster implementation is tested against.

Statistics and losses are computed in float32 (float64 for float64 input) whatever the storage type: in float16 the
channel sums of NAFNet activations overflow, and depth is "large mean, small spread". Variances are taken around the
mean, never as E[x²] - E[x]². Everything here is differentiable, `torch.compile`s without graph breaks and is the form
that `torch.export` and ONNX see. Long, and one file: it is the one place to look up what an op means.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def _arithmetic_dtype(*tensors: Tensor) -> torch.dtype:
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def layer_norm_2d(x_BCHW: Tensor, weight_C: Tensor, bias_C: Tensor, eps: float = 1e-6) -> Tensor:
    """Normalise each pixel over its channels: (x - mean) / sqrt(var + eps) * weight + bias, biased variance.

    The result has x's dtype. NAFNet's LayerNorm2d (Chen et al. 2022, "Simple Baselines for Image Restoration").
    """
    # torch's own kernel normalises the last axis with float32 statistics; on channels_last this permute is free.
    x_BHWC = x_BCHW.permute(0, 2, 3, 1)
    if weight_C.dtype != x_BCHW.dtype and x_BCHW.device.type != "cpu":
        x_BHWC = x_BHWC.to(weight_C.dtype)  # only torch's CPU kernel takes half-precision x with float32 weights
    out_BHWC = F.layer_norm(x_BHWC, (x_BCHW.shape[1],), weight_C, bias_C, eps)
    return out_BHWC.permute(0, 3, 1, 2).to(x_BCHW.dtype)


def simple_gate(x_B2CHW: Tensor) -> Tensor:
    """First half of the channels times the second half: NAFNet's replacement of an activation."""
    first_BCHW, second_BCHW = x_B2CHW.chunk(2, dim=1)
    return first_BCHW * second_BCHW


def gated_depthwise(x_B2CHW: Tensor, weight_2C133: Tensor, bias_2C: Tensor) -> tuple[Tensor, Tensor]:
    """Depthwise 3×3 convolution with zero padding, `simple_gate`, and the mean of the result over the frame.

    The middle of a NAFNet block: the mean is what its channel attention needs. Returns (gated B×C×H×W of x's dtype,
    mean B×C of float32, or float64 for float64). Weights of another type are used as of x's.
    """
    weight_2C133, bias_2C = weight_2C133.to(x_B2CHW.dtype), bias_2C.to(x_B2CHW.dtype)
    gated_BCHW = simple_gate(F.conv2d(x_B2CHW, weight_2C133, bias_2C, padding=1, groups=x_B2CHW.shape[1]))
    return gated_BCHW, gated_BCHW.mean((2, 3), dtype=_arithmetic_dtype(gated_BCHW))


class NAFBlockWeights(NamedTuple):
    """The parameters of one NAFNet block of C channels, shaped and named as in `models.blocks.NAFBlock`.

    Vectors have C values, but conv1_bias, conv2_bias and conv4_bias 2C; beta and gamma are 1×C×1×1.
    conv1, conv4: 2C×C×1×1; conv2: 2C×1×3×3, depthwise; attention, conv3, conv5: C×C×1×1.
    """

    norm1_weight: Tensor
    norm1_bias: Tensor
    conv1_weight: Tensor
    conv1_bias: Tensor
    conv2_weight: Tensor
    conv2_bias: Tensor
    attention_weight: Tensor
    attention_bias: Tensor
    conv3_weight: Tensor
    conv3_bias: Tensor
    norm2_weight: Tensor
    norm2_bias: Tensor
    conv4_weight: Tensor
    conv4_bias: Tensor
    conv5_weight: Tensor
    conv5_bias: Tensor
    beta: Tensor
    gamma: Tensor

    @staticmethod
    def shapes(channels: int) -> tuple[tuple[int, ...], ...]:
        """The shape of each parameter of a block of `channels`, in the order of the fields."""
        one, two = (channels,), (2 * channels,)
        square, tall, scale = (channels, channels, 1, 1), (2 * channels, channels, 1, 1), (1, channels, 1, 1)
        norm_and_expand = (one, one, tall, two)
        depthwise, halves = ((2 * channels, 1, 3, 3), two), (square, one)
        return (*norm_and_expand, *depthwise, *halves, *halves, *norm_and_expand, *halves, scale, scale)


def naf_block(x_BCHW: Tensor, weights: NAFBlockWeights, eps: float = 1e-6) -> Tensor:
    """Block of "Simple Baselines for Image Restoration" (Chen et al., ECCV 2022, figure 3c).

    Two residual halves: LN, 1×1, depthwise 3×3 (zero padding), gate, channel attention, 1×1, times beta; then LN, 1×1,
    gate, 1×1, times gamma. The result has x's shape and dtype; weights of another type are used as of x's.
    """
    w = NAFBlockWeights(*(weight.to(x_BCHW.dtype) for weight in weights))
    dtype, channels = x_BCHW.dtype, x_BCHW.shape[1]
    y = F.conv2d(layer_norm_2d(x_BCHW, w.norm1_weight, w.norm1_bias, eps), w.conv1_weight, w.conv1_bias)
    y = simple_gate(F.conv2d(y, w.conv2_weight, w.conv2_bias, padding=1, groups=2 * channels))
    # fp32 mean: at 640×480 a half-precision sum of positive activations overflows.
    pooled_BC11 = y.mean((2, 3), keepdim=True, dtype=_arithmetic_dtype(y)).to(y.dtype)
    y = y * F.conv2d(pooled_BC11, w.attention_weight, w.attention_bias)
    x_BCHW = x_BCHW + F.conv2d(y, w.conv3_weight, w.conv3_bias) * w.beta
    y = F.conv2d(layer_norm_2d(x_BCHW, w.norm2_weight, w.norm2_bias, eps), w.conv4_weight, w.conv4_bias)
    return (x_BCHW + F.conv2d(simple_gate(y), w.conv5_weight, w.conv5_bias) * w.gamma).to(dtype)


def _centred(x_BCHW: Tensor, correction: int) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean, mean, variance) over H, W. Two passes: the variance stays exact when |mean| >> std."""
    mean_BC11 = x_BCHW.mean(dim=(2, 3), keepdim=True)
    centred_BCHW = x_BCHW - mean_BC11
    degrees = max(x_BCHW.shape[2] * x_BCHW.shape[3] - correction, 1)
    return centred_BCHW, mean_BC11, centred_BCHW.square().sum(dim=(2, 3), keepdim=True) / degrees


def adain_statistics(
    content_BCHW: Tensor, style_BCHW: Tensor, correction: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `adain` needs to know of its inputs: (content mean, content variance, style mean, style variance).

    Over H and W; variance = M2 / max(n - correction, 1). The two may differ in height and width. Each B×C of float32
    (float64 for float64).
    """
    dtype = _arithmetic_dtype(content_BCHW, style_BCHW)
    _, content_mean, content_variance = _centred(content_BCHW.to(dtype), correction)
    _, style_mean, style_variance = _centred(style_BCHW.to(dtype), correction)
    return content_mean.flatten(1), content_variance.flatten(1), style_mean.flatten(1), style_variance.flatten(1)


def adain(content_BCHW: Tensor, style_BCHW: Tensor, eps: float = 1e-5, correction: int = 0) -> Tensor:
    """Give the content, channel by channel, the style's mean and standard deviation over the frame.

    (x - mean_x) / sqrt(var_x + eps) * sqrt(var_y + eps) + mean_y, with var = M2 / max(n - correction, 1); x the
    content, y the style. The two may differ in height and width. A single pixel or a constant map has variance 0 and a
    finite result. The result has the content's dtype. Huang & Belongie 2017, "Arbitrary Style Transfer", equation 8.
    """
    dtype = _arithmetic_dtype(content_BCHW, style_BCHW)
    centred_BCHW, _, content_variance = _centred(content_BCHW.to(dtype), correction)
    _, style_mean, style_variance = _centred(style_BCHW.to(dtype), correction)
    ratio = torch.sqrt((style_variance + eps) / (content_variance + eps))
    return (centred_BCHW * ratio + style_mean).to(content_BCHW.dtype)


def adain_fusion(
    content_BCHW: Tensor, style_BCHW: Tensor, weight_CC11: Tensor, bias_C: Tensor, eps: float = 1e-5
) -> Tensor:
    """style + conv1×1(adain(content, style)): the two encoder paths' features of one stage, made one.

    Content and style have one shape and type, which the result has; weights of another type are used as of theirs.
    """
    styled_BCHW = adain(content_BCHW, style_BCHW, eps)
    return style_BCHW + F.conv2d(styled_BCHW, weight_CC11.to(styled_BCHW.dtype), bias_C.to(styled_BCHW.dtype))


def sobel_l1_loss(
    pred_B1HW: Tensor,
    target_B1HW: Tensor,
    valid_B1HW: Tensor | None = None,
    l1_weight: float = 1.0,
    gradient_weight: float = 1.0,
) -> Tensor:
    """L1 of the difference plus L1 of its Sobel gradients, each a mean over the pixels where it is defined.

    With d = pred - target: l1_weight * mean over valid of |d| + gradient_weight * mean over interior of
    (|Gx d| + |Gy d|). The Sobel kernels are divided by 8, so a ramp of 1 a pixel has gradient 1. A pixel is interior
    when its whole 3×3 neighbourhood lies in the frame and is valid. An empty set contributes 0. Invalid pixels may
    hold NaN or inf; they reach neither the value nor the gradient. Returns a float32 scalar (float64 for float64).
    """
    dtype = _arithmetic_dtype(pred_B1HW, target_B1HW)
    d = pred_B1HW.to(dtype) - target_B1HW.to(dtype)
    if valid_B1HW is None:
        valid_B1HW = torch.ones_like(d, dtype=torch.bool)
    d = torch.where(valid_B1HW, d, 0.0)
    l1 = d.abs().sum() / valid_B1HW.sum().clamp(min=1)

    # Both kernels are separable: a difference [-1 0 1] along one axis, a smoothing [1 2 1] along the other.
    difference_x = d[..., 2:] - d[..., :-2]
    difference_y = d[..., 2:, :] - d[..., :-2, :]
    gradient_x = (difference_x[..., :-2, :] + 2 * difference_x[..., 1:-1, :] + difference_x[..., 2:, :]) / 8
    gradient_y = (difference_y[..., :-2] + 2 * difference_y[..., 1:-1] + difference_y[..., 2:]) / 8
    across = valid_B1HW[..., :-2] & valid_B1HW[..., 1:-1] & valid_B1HW[..., 2:]
    interior = across[..., :-2, :] & across[..., 1:-1, :] & across[..., 2:, :]
    magnitude = torch.where(interior, gradient_x.abs() + gradient_y.abs(), 0.0)
    return l1_weight * l1 + gradient_weight * (magnitude.sum() / interior.sum().clamp(min=1))


#: (down, right) of a pixel and those around it, row by row.
DIRECTIONS = tuple(product((-1, 0, 1), repeat=2))

#: A measurement on the other side of a hole is looked for so far, coarse pixels; a power of 2.
REACH_OVER_HOLES = 256


#: bilateral_sum: pixels to each side, and the sigmas of nearness, in pixels, and of likeness, of RGB in [0, 1]. Chosen
#: with the network's error as confidence on frames that nothing was trained on; farther pixels brought little more.
BILATERAL_REACH = 4
BILATERAL_SIGMA_SPACE = 2.5
BILATERAL_SIGMA_COLOUR = 10 / 255


def bilateral_sum(x_BCHW: Tensor, guide_B3HW: Tensor) -> Tensor:
    """Each pixel's surroundings, summed up with a joint bilateral filter's weights (Petschnigg et al. 2004); B×C×H×W:

        out_p = Σ_q n(p - q) · l(I_p - I_q) · x_q,  l(d) = max(0, 1 - |d / 4σ|²)⁸ + FLOOR, nearly a Gaussian

    q: the pixels of the frame within BILATERAL_REACH rows and columns. guide: RGB in [0, 1]. With confidence · depth
    and confidence for x, the quotient of the two results is the mean that a bilateral filter gives.

    Linear in x, and as the weights are symmetric its own adjoint: the gradient for x is the bilateral_sum of the
    result's. The guide is given none. The result has x's dtype.
    """
    out_dtype, dtype = x_BCHW.dtype, _arithmetic_dtype(x_BCHW, guide_B3HW)
    height, width = x_BCHW.shape[2:]
    reach = BILATERAL_REACH
    guide_B3HW = guide_B3HW.detach().to(dtype)

    def columns(map_BCHW: Tensor) -> Tensor:
        """B×C×K×(H + 2 reach)×W: what lies 0 … K - 1 = 2 reach columns right of each column's leftmost neighbour."""
        padded = F.pad(map_BCHW, (reach, reach, reach, reach))
        return torch.stack([padded[..., left : left + width] for left in range(2 * reach + 1)], 2)

    x_columns, guide_columns = columns(x_BCHW.to(dtype)), columns(guide_B3HW)
    offset = torch.arange(-reach, reach + 1, device=x_BCHW.device, dtype=dtype)
    near_K = torch.exp(offset.square() * (-0.5 / BILATERAL_SIGMA_SPACE**2))
    out_BCHW = torch.zeros_like(x_BCHW, dtype=dtype)
    for row in range(2 * reach + 1):
        distance_BKHW = (guide_columns[..., row : row + height, :] - guide_B3HW[:, :, None]).square().sum(1)
        near_K11 = (near_K[row] * near_K)[:, None, None]
        weight_BKHW = _colour_weight(distance_BKHW, BILATERAL_SIGMA_COLOUR) * near_K11
        out_BCHW = out_BCHW + (weight_BKHW[:, None] * x_columns[..., row : row + height, :]).sum(2)
    return out_BCHW.to(out_dtype)


#: A fresh network, whose heads give 0, expects an error of softplus(-2), an eighth of the ambiguity.
ERROR_OFFSET = 2.0


def mix_candidates(
    logits_BNhw: Tensor, correction_B4hw: Tensor, error_B4hw: Tensor, candidates_BKHW: Tensor, ambiguity_B1HW: Tensor
) -> tuple[Tensor, Tensor]:
    """A mixture of candidates for the depth, corrected, and its expected absolute error, both B×1×H×W:

        depth = Σ_k softmax_k(logits) · candidates_k + correction · ambiguity
        error = softplus(error - ERROR_OFFSET) · ambiguity

    The first three are maps at half the resolution with a value for each of the four pixels that one of theirs covers
    (pixel shuffle, Shi et al. 2016): N = 4K, h >= H/2, w >= W/2; what lies beyond H×W is cut off. Candidates and
    ambiguity: any unit. The results have the candidates' dtype.
    """
    out_dtype, dtype = candidates_BKHW.dtype, _arithmetic_dtype(candidates_BKHW)
    height, width = candidates_BKHW.shape[2:]
    logits, correction, error = (
        F.pixel_shuffle(half, 2)[..., :height, :width].to(dtype) for half in (logits_BNhw, correction_B4hw, error_B4hw)
    )
    depth = (logits.softmax(1) * candidates_BKHW).sum(1, keepdim=True) + correction * ambiguity_B1HW
    return depth.to(out_dtype), (F.softplus(error - ERROR_OFFSET) * ambiguity_B1HW).to(out_dtype)


def fill_holes(x_B1hw: Tensor, valid_B1hw: Tensor) -> Tensor:
    """Holes filled from coarser and coarser averages of the valid pixels (pull-push, Gortler et al. 1996).

    x and the result: any unit; valid: bool. All-invalid samples become 0. What x holds where it is not valid does not
    matter. The result has x's dtype.
    """
    out_dtype, x_B1hw = x_B1hw.dtype, x_B1hw.to(_arithmetic_dtype(x_B1hw))
    weight = valid_B1hw.to(x_B1hw.dtype)
    values = torch.where(valid_B1hw, x_B1hw, 0.0)
    levels = [(values, weight)]
    while max(values.shape[-2:]) > 1:
        # Averaging value·weight and weight alike (windows cut at the border too) keeps their quotient a mean.
        window = [min(side, 2) for side in values.shape[-2:]]  # OpenVINO takes none larger than the plane
        total = F.avg_pool2d(values * weight, window, ceil_mode=True)
        weight = F.avg_pool2d(weight, window, ceil_mode=True)
        values = total / weight.clamp(min=1e-12)
        weight = (weight > 0).to(weight.dtype)
        levels.append((values, weight))
    filled = levels[-1][0]
    for values, weight in reversed(levels[:-1]):
        filled = F.interpolate(filled, size=values.shape[-2:], mode="bilinear", align_corners=False)
        filled = torch.where(weight > 0, values, filled)
    return filled.to(out_dtype)


def surrounding_measurements(x_B1hw: Tensor, valid_B1hw: Tensor, size: tuple[int, int]) -> Tensor:
    """B×9×H×W: for each pixel of `size`, H×W, 3×3 coarse pixels around it, row by row, `coarse_spacing` apart.

    x: holes filled; > 0 where valid. valid: bool. Where one of the eight around it is a hole, the next measurement in
    that direction stands in its place, if it is less than REACH_OVER_HOLES away: behind what hides it from one of two
    cameras, a surface goes on. The result has x's dtype. Beyond the frame its border is repeated.
    """
    rows, columns = (
        [
            (nearest_coarse(coarse, fine, x_B1hw) + offset * coarse_spacing(coarse, fine)).clamp(0, coarse - 1)
            for offset in (-1, 0, 1)
        ]
        for coarse, fine in zip(x_B1hw.shape[2:], size, strict=True)
    )
    maps = measured_towards(x_B1hw, valid_B1hw).split(1, 1)
    places = product(rows, columns)
    return torch.cat(
        [x.index_select(2, row).index_select(3, column) for x, (row, column) in zip(maps, places, strict=True)], 1
    )


#: Fine pixels from a pixel to the coarse ones around it that surrounding_measurements takes, at least: where coarse
#: pixels are as small as fine ones, the next ones are as wrong as this one at an edge that matching has moved. RMSE of
#: `edge` with the weights of commit 8adb6aa, which were trained with the next ones, and this op in their place, on 8
#: frames of the game's soccer fields under `stereo` (÷2) and the real pairs Motorcycle and Aloe (÷1), of that with the
#: next ones: 0.980, 0.995, 0.990 with 3, 0.980, 0.996, 0.986 with 4, 0.976, 0.995, 0.981 with 6, whose boundary F1 is
#: lower by a point on the soccer fields.
SPACING_PX = 4


def coarse_spacing(coarse: int, fine: int) -> int:
    """Along one axis, as many coarse pixels as SPACING_PX fine ones are, rounded; at least one."""
    return max(1, (2 * SPACING_PX * coarse + fine) // (2 * fine))


def measured_towards(x_B1hw: Tensor, valid_B1hw: Tensor) -> Tensor:
    """B×9×h×w: x, but in holes the next valid value in each of DIRECTIONS, if it is less than REACH_OVER_HOLES away.

    x: > 0 where valid.
    """
    height, width = x_B1hw.shape[2:]
    found = torch.where(valid_B1hw, x_B1hw, 0.0).expand(-1, len(DIRECTIONS), -1, -1)
    distance = 1
    while distance < min(REACH_OVER_HOLES, max(height, width)):
        # What is found so far lies less than `distance` away, and twice as much after this.
        padded = F.pad(found, (distance, distance, distance, distance))
        moved = [
            padded[:, i, distance * (1 + down) :, distance * (1 + right) :][:, :height, :width]
            for i, (down, right) in enumerate(DIRECTIONS)
        ]
        found = torch.where(found > 0, found, torch.stack(moved, 1))
        distance *= 2
    return torch.where(found > 0, found, x_B1hw)


#: Joint bilateral upsampling's window, coarse pixels to each side, and its standard deviations: of the spatial weight,
#: in coarse pixels, and of the colour weight, RGB in [0, 1]. A window wider than 3×3 finds the sky between two posts
#: that no nearby measurement hit. RMSE of `edge`, with the weights of commit bf153a3, trained for 3×3 (σ 0.7, 30/255),
#: and this op in its place, on every 50th training frame under the challenge law: 11.74 m with 3×3, 10.98 m with 5×5
#: (1.0, 0.08), 10.72 m with 7×7 (1.2, 0.08), 10.63 m with 9×9 (1.4, 0.08); under `gdsr-x8` and `tof`, on every 100th,
#: 7×7 lowers it by 2 and 1 %.
REACH = 3
SIGMA_SPACE = 1.2
SIGMA_COLOUR = 20 / 255

#: Weight of a coarse pixel of quite another colour: where none fits, the spatial weights alone decide.
FLOOR = 1e-4


def joint_bilateral_upsample(x_B1hw: Tensor, confidence_B1hw: Tensor, guide_B3HW: Tensor, guide_B3hw: Tensor) -> Tensor:
    """B×1×H×W: for each fine pixel a mean of the 7×7 coarse pixels around it (REACH), mostly of those of its colour.

    Weight: confidence · exp(-distance² / 2σ_space²) · (max(0, 1 - |colour difference|² / 16σ_colour²)⁸ + FLOOR), the
    power being near exp(-|colour difference|² / 2σ_colour²) and a third of its work. x: any unit; confidence: > 0, how
    much each coarse pixel counts; the guides: RGB in [0, 1], at the resolution of the result and of x. The result has
    x's dtype. Kopf et al. 2007, "Joint Bilateral Upsampling".
    """
    tensors = (x_B1hw, confidence_B1hw, guide_B3HW, guide_B3hw)
    dtype, out_dtype = _arithmetic_dtype(*tensors), x_B1hw.dtype
    x_B1hw, confidence_B1hw, guide_B3HW, guide_B3hw = (tensor.to(dtype) for tensor in tensors)
    total = torch.zeros_like(guide_B3HW[:, :1])
    weights = torch.zeros_like(total)
    rows, row_weights = coarse_neighbours(x_B1hw.shape[2], guide_B3HW.shape[2], REACH, x_B1hw)
    columns, column_weights = coarse_neighbours(x_B1hw.shape[3], guide_B3HW.shape[3], REACH, x_B1hw)
    columns_KW, column_weights_KW = torch.stack(columns), torch.stack(column_weights)
    for row, row_weight_H in zip(rows, row_weights, strict=True):  # a row of the window at once: all of it is large
        x_B1HKW, confidence_B1HKW, guide_B3HKW = (
            coarse.index_select(2, row)[..., columns_KW] for coarse in (x_B1hw, confidence_B1hw, guide_B3hw)
        )
        distance = (guide_B3HW[..., None, :] - guide_B3HKW).square().sum(1, keepdim=True)
        near_HKW = row_weight_H[:, None, None] * column_weights_KW
        weight_B1HKW = _colour_weight(distance, SIGMA_COLOUR) * near_HKW * confidence_B1HKW
        total = total + (weight_B1HKW * x_B1HKW).sum(-2)
        weights = weights + weight_B1HKW.sum(-2)
    return (total / weights).to(out_dtype)


def _colour_weight(squared_distance: Tensor, sigma: float) -> Tensor:
    """max(0, 1 - squared_distance / 16σ²)⁸ + FLOOR."""
    likeness = (1 - squared_distance / (16 * sigma**2)).clamp(min=0)
    return likeness.square().square().square() + FLOOR


def nearest_coarse(coarse: int, fine: int, like: Tensor) -> Tensor:
    """Along one axis, for each fine pixel the coarse one that its centre lies in, on `like`'s device."""
    # In whole numbers: where a centre lies between two coarse pixels, no rounding decides.
    return torch.div((2 * torch.arange(fine, device=like.device) + 1) * coarse, 2 * fine, rounding_mode="floor")


def coarse_neighbours(coarse: int, fine: int, reach: int, like: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Along one axis, for the coarse pixel that each fine one's centre lies in and `reach` on both its sides: indices
    and weights.

    Pixels are cells of one extent: fine pixel i lies at (i + 0.5) · coarse / fine - 0.5. Weights: σ = SIGMA_SPACE.
    """
    nearest = nearest_coarse(coarse, fine, like)
    position = (torch.arange(fine, device=like.device).to(like.dtype) + 0.5) * (coarse / fine) - 0.5
    indices, weights = [], []
    for offset in range(-reach, reach + 1):
        neighbour = nearest + offset
        indices.append(neighbour.clamp(0, coarse - 1))
        weights.append(torch.exp((neighbour - position).square() * (-0.5 / SIGMA_SPACE**2)))
    return indices, weights


#: Of fit_lines: rounds; what the whole frame's moments count beside a window's; what a bound counts where the line is
#: beyond it, and before there is a line; added to the variance, which may be 0.
ROUNDS = 4
WHOLE_FRAME = 0.05
TRUST_IN_BOUND = 0.02
LEAST_VARIANCE = 1e-6


def fit_lines(
    relative_B1hw: Tensor, inverse_B1hw: Tensor, deviation_B1hw: Tensor, open_end_B1hw: Tensor, window: int
) -> tuple[Tensor, Tensor]:
    """Scale (not negative) and offset, both B×1×h×w, of the line inverse = scale · relative + offset in each cell.

    Weighted least squares in window × window cells (odd) around it, beyond the border being what lies at it, with a
    share of the whole frame's moments, which steadies a window in which `relative` is flat. ROUNDS of reweighting leave
    out what does not follow the line (Cauchy's weights), such as cells that a depth edge crosses.

    relative, inverse: any unit. deviation: > 0, how far inverse may be off. open_end: bool, where inverse is an upper
    bound only: a line that is below it there is not pulled back. Computed and returned in float32 (float64 for that).
    """
    dtype = _arithmetic_dtype(relative_B1hw, inverse_B1hw, deviation_B1hw)
    relative, inverse, deviation = (tensor.to(dtype) for tensor in (relative_B1hw, inverse_B1hw, deviation_B1hw))
    # Not the inverse square: the far range, whose inverse depth is known best, would decide everything.
    certainty = 1 / deviation
    trust = torch.where(open_end_B1hw, TRUST_IN_BOUND, 1.0)
    scale = offset = torch.zeros_like(certainty)
    for _ in range(ROUNDS):
        weight = certainty * trust
        moments = torch.cat([weight, weight * relative, weight * inverse], 1)
        total, of_relative, of_inverse = _windowed(moments, window).split(1, 1)
        mean_relative, mean_inverse = of_relative / total, of_inverse / total
        products = torch.cat([weight * relative.square(), weight * relative * inverse], 1)
        square, product = (_windowed(products, window) / total).split(1, 1)
        variance = (square - mean_relative.square()).clamp(min=0)
        scale = ((product - mean_relative * mean_inverse) / (variance + LEAST_VARIANCE)).clamp(min=0)
        offset = mean_inverse - scale * mean_relative
        fitted = scale * relative + offset
        trust = 1 / (1 + ((fitted - inverse) / (2 * deviation)).square())
        trust = torch.where(open_end_B1hw & (fitted <= inverse), TRUST_IN_BOUND, trust)
    return scale, offset


def _windowed(moments_BMhw: Tensor, window: int) -> Tensor:
    """Means over the window around each cell, with the whole frame's share."""
    padded = F.pad(moments_BMhw, (window // 2,) * 4, mode="replicate")
    return F.avg_pool2d(padded, window, 1) + WHOLE_FRAME * moments_BMhw.mean((2, 3), keepdim=True)
