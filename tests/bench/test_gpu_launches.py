"""The launches of a frame: counted and summed by kernel, of one device alone."""

from __future__ import annotations

from types import SimpleNamespace

from torch.autograd import DeviceType

from gpu_launches import Kind, kinds_of, table


def event(name: str, us: float, device=DeviceType.CUDA) -> SimpleNamespace:
    return SimpleNamespace(name=name, device_type=device, time_range=SimpleNamespace(elapsed_us=lambda: us))


def test_launches_are_summed_by_kernel_over_the_frames():
    on_host = event("aten::mul", 90, DeviceType.CPU)
    events = [event("gate", 3), event("norm", 5), event("gate", 2), event("gate", 4), on_host]
    kinds = kinds_of(events, frames=2)
    assert kinds == [Kind("gate", 1.5, 4.5), Kind("norm", 0.5, 2.5)]
    assert table("edge, auto", kinds, most=1).splitlines() == [
        "edge, auto: 2 launches, 7 µs",
        "      4.5 µs    1.5 x  gate",
    ]
