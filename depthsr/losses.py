"""The training objective: L1 + L1 of Sobel gradients on valid pixels, and the error head's own term."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from depthsr import ops

#: In `balance`: the normalised error of a measurement that gets about weight 1; what bounds the weight of better ones.
BALANCE_UNIT = 0.02
BALANCE_FLOOR = 0.004

#: Below every error that a network expects; keeps the logarithm finite.
LEAST_EXPECTED_ERROR = 1e-12


def restoration_loss(
    depth_B1HW: Tensor,
    error_B1HW: Tensor,
    target_B1HW: Tensor,
    valid_B1HW: Tensor,
    gradient_weight: float = 1.0,
    rmse_weight: float = 0.0,
    share: tuple[float, float] = (1.0, 1.0),
) -> tuple[Tensor, dict[str, Tensor]]:
    """Scalar to minimise and its parts, all in the units of the depth given (normalised depth in training).

    L1 + gradient_weight · Sobel L1 (the published loss, weight 1:1; Sobel kernels scaled to unit gain) + rmse_weight ·
    the samples' root mean square errors (their mean, weighted by their valid pixels), plus the mean `deviance` of the
    expected error from the real one, through which no gradient reaches the depth.

    L1 makes the network decide where it cannot know, for instance whether a pixel of a tree's edge is tree or sky, and
    each wrong decision is an error of the whole range. The root mean square makes it hedge there; it weighs large
    errors only, so what is known stays sharp.

    share  of all the `pixel_counts` of a larger batch, those that lie in this part of it: the losses of its parts add
           up to the loss of the whole.
    """
    depth_loss = ops.sobel_l1_loss(depth_B1HW, target_B1HW, valid_B1HW, share[0], share[1] * gradient_weight)
    real_error = torch.where(valid_B1HW, (depth_B1HW - target_B1HW).abs(), 0.0).detach()
    deviance_B1HW = torch.where(valid_B1HW, deviance(error_B1HW, real_error), 0.0)
    valid_B = valid_B1HW.flatten(1).sum(1)
    per_pixel = share[0] / valid_B.sum().clamp(min=1)
    error_loss = deviance_B1HW.sum() * per_pixel
    if rmse_weight > 0:
        depth_loss = depth_loss + rmse_weight * per_pixel * (valid_B * _rmse(depth_B1HW, target_B1HW, valid_B1HW)).sum()
    parts = {
        "loss": depth_loss.detach(),
        "l1": real_error.sum() * per_pixel,
        "error_head": error_loss.detach(),
    }
    return depth_loss + error_loss, parts


def deviance(expected: Tensor, real: Tensor) -> Tensor:
    """Elementwise expected - real + real · log(real / expected), >= 0, in the unit of both; expected > 0, real >= 0.

    Half the Poisson deviance, a Bregman divergence: of all predictions the mean of the real errors has the least of it
    (Banerjee et al., "On the optimality of conditional expectation as a Bregman predictor", 2005). Their absolute
    difference is least for the median, which is half the mean where most pixels are nearly right and a few far off.
    """
    # Apart, for the gradient: log(real / expected) would have none where the real error is 0.
    return expected - real + torch.xlogy(real, real) - real * expected.clamp(min=LEAST_EXPECTED_ERROR).log()


def _rmse(depth_B1HW: Tensor, target_B1HW: Tensor, valid_B1HW: Tensor) -> Tensor:
    """Each sample's root mean square error, B; its gradient is 0 where there is no error."""
    squares_B = torch.where(valid_B1HW, depth_B1HW - target_B1HW, 0.0).square().flatten(1).sum(1)
    mean_B = squares_B / valid_B1HW.flatten(1).sum(1).clamp(min=1)
    return mean_B.clamp(min=1e-12).sqrt()


def pixel_counts(valid_B1HW: Tensor) -> Tensor:
    """What the two means of `restoration_loss` divide by, int64: valid pixels, and those within 3×3 valid ones."""
    invalid = (~valid_B1HW).to(torch.float32)
    inner = min(invalid.shape[-2:]) >= 3
    interior = (F.max_pool2d(invalid, 3, 1) == 0).sum() if inner else torch.zeros((), dtype=torch.int64)
    return torch.stack([valid_B1HW.sum(), interior])


def balance(measured_B1HW: Tensor, target_B1HW: Tensor, valid_B1HW: Tensor) -> Tensor:
    """B×1×1×1 weights: the inverse of how wrong each sample's upsampled measurement is, about 1 for a coarse one.

    Without them the loss of a clean ×4 sample is a tenth of that of a challenge sample, and little of it is learnt.
    """
    wrong = torch.where(valid_B1HW, (measured_B1HW - target_B1HW).abs(), 0.0)
    wrong_B = wrong.flatten(1).sum(1) / valid_B1HW.flatten(1).sum(1).clamp(min=1)
    return (BALANCE_UNIT / (BALANCE_FLOOR + wrong_B))[:, None, None, None]
