"""How much a pixel of another colour counts in a joint bilateral filter; specified by depthsr/ops/reference.py."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def colour_weight(red, green, blue, floor):
    """red, green, blue: differences, times 1/4 sigma."""
    alike = tl.maximum(1.0 - red * red - green * green - blue * blue, 0.0)
    squared = alike * alike
    fourth = squared * squared
    return fourth * fourth + floor
