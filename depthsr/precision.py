"""Which weights and which arithmetic a device gets for a requested precision, and the sentence that says why."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from depthsr.types import UserError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

#: CPU features that multiply half precision at full speed. Without them PyTorch's fp16 convolution on the CPU is about
#: 25 times slower than fp32.
FAST_FP16 = ("avx512_fp16", "amx_fp16")
FAST_BF16 = ("avx512_bf16", "amx_bf16")


@dataclass(frozen=True)
class Precision:
    """weights: what the parameters are rounded to. arithmetic: what is computed in. reason: why not as asked, or ""."""

    weights: torch.dtype
    arithmetic: torch.dtype
    reason: str = ""

    def __str__(self) -> str:
        names = {dtype: name for name, dtype in DTYPES.items()}
        weights, arithmetic = names[self.weights], names[self.arithmetic]
        return weights if weights == arithmetic else f"{weights} weights in {arithmetic}"


def choose_precision(dtype: str | torch.dtype, device: torch.device) -> Precision:
    """The precision for "auto" (fp32), a name in DTYPES or one of their torch dtypes. Raises UserError for others."""
    if dtype == "auto":
        return Precision(torch.float32, torch.float32)
    wanted = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if wanted is None or wanted not in DTYPES.values():
        raise UserError(f"precision {dtype} is unknown; choose one of auto, {', '.join(DTYPES)}.")
    if device.type != "cpu" or wanted == torch.float32 or _cpu_has(FAST_FP16 if wanted == torch.float16 else FAST_BF16):
        return Precision(wanted, wanted)
    short = {d: name for name, d in DTYPES.items()}[wanted]
    if wanted == torch.float16 and _cpu_has(FAST_BF16):
        return Precision(
            torch.bfloat16, torch.bfloat16, "bf16 instead of fp16: this CPU has fast arithmetic for bf16 only."
        )
    return Precision(
        wanted, torch.float32, f"{short} weights, computed in fp32: this CPU has no fast {short} arithmetic."
    )


def resolve_device(device: str) -> torch.device:
    """torch.device of "auto" or a device's name. Raises UserError when there is no such device here."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        # torch's own messages run over several lines; its first says enough for a log.
        first_line = str(error).splitlines()[0]
        raise UserError(f"device {device!r} cannot be used here ({first_line}); use --device cpu or auto.") from error
    return chosen


def _cpu_has(features: tuple[str, ...]) -> bool:
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(feature, False) for feature in features)
