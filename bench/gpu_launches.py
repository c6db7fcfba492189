"""Which launches a frame is made of on a GPU, and how long each kind takes: what is worth fusing or tuning next.

    python bench/gpu_launches.py FILE.json      # bench/gpu_check.sh runs it

Models as in bench_gpu_models.py, one frame of 640×480 in float16, by the kernels that `auto` chooses and by the Triton
kernels. Times are torch.profiler's, of launches one by one: shares of a frame, not its time in a CUDA graph.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from bench_gpu_models import frames_of, load, on_device
from depthsr import ops
from rows import provenance, write

FRAMES = 5
#: Of a kernel's name: template arguments make some of them a page long.
NAME_LENGTH = 120


@dataclass(frozen=True)
class Kind:
    """All launches of one kernel in a frame."""

    kernel: str
    launches: float
    us: float


def kinds_of(events: Iterable, frames: int) -> list[Kind]:
    """Of torch.profiler's events those on the GPU, by kernel, the longest first; numbers are of one frame."""
    found: dict[str, tuple[int, float]] = {}
    for event in events:
        if event.device_type == DeviceType.CUDA:
            count, us = found.get(event.name, (0, 0.0))
            found[event.name] = count + 1, us + event.time_range.elapsed_us()
    kinds = [Kind(name[:NAME_LENGTH], count / frames, us / frames) for name, (count, us) in found.items()]
    return sorted(kinds, key=lambda kind: kind.us, reverse=True)


def profiled(frame: Callable[[], object]) -> list[Kind]:
    for _ in range(2):  # libraries load, kernels compile
        frame()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(FRAMES):
            frame()
        torch.cuda.synchronize()
    return kinds_of(profiler.events(), FRAMES)


def table(title: str, kinds: list[Kind], most: int = 25) -> str:
    lines = [f"{title}: {sum(kind.launches for kind in kinds):.0f} launches, {sum(kind.us for kind in kinds):.0f} µs"]
    lines += [f"{kind.us:9.1f} µs {kind.launches:6.1f} x  {kind.kernel}" for kind in kinds[:most]]
    return "\n".join(lines)


def main() -> None:
    content = provenance() | {"device": torch.cuda.get_device_name(), "frames": {}}
    for name in ("edge", "base"):
        model = load(name).restorer.model
        frame = partial(model.infer, *on_device(frames_of(1), "cuda"))
        for kernels in ("auto", "triton"):
            with ops.backend(kernels):
                kinds = profiled(frame)
            print(table(f"{name}, {kernels}", kinds), flush=True)
            content["frames"][f"{name}, {kernels}"] = [asdict(kind) for kind in kinds]
            write(Path(sys.argv[1]), content)


if __name__ == "__main__":
    main()
