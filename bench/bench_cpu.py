"""NAFNet blocks and the whole of `edge` on a CPU: depthsr beside what else would run them, and beside OpenCV's filters.

    pip install '.[bench]'
    pytest bench/bench_cpu.py --benchmark-only --rows rows.json       # -k edge, -k C16, -k "not compile", --threads 4

To run it in parts, a case at a time: -k block-C16-640x480, -k "edge-1280x720 and not compile" and so on, with --rows to
a file each; contenders are set beside each other only within one run. --seconds 0.1 tries whether a row works.

All contenders of a case take turns when its first test runs (replay.py says how pytest-benchmark learns of it).

Scopes: `network`: a block, or the U-Net of `edge`, from tensor to tensor. `frame`: from uint8 RGB and a depth map an
eighth of its size to metres, prior and head included; its GMAC and GB are those of the network alone. `GEMM` and `copy`
are shares of what the machine reached in a matrix product and in a copy in this run, `floor` is the time that neither
lets it go under (see roofline.py). Errors are those of the results, root mean square, relative to PyTorch's in fp32.

The first run compiles for some minutes; Inductor keeps what it compiled for the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import pytest
import torch

from cases import Case, block_case, edge_case
from contenders import BLOCK, EDGE, Contender
from measurements import Measurements
from replay import recorded_clock, replay
from runtimes import Absent

BLOCK_CHANNELS = (16, 32, 64)
BLOCK_SIZES = ((480, 640), (240, 320), (120, 160))
FRAME_SIZES = ((480, 640), (720, 1280))

#: A case's name: how to make it from the model's name, and who takes part.
CASES: dict[str, tuple[Callable[[str], Case], list[Contender]]] = {
    **{
        f"block-C{c}-{w}x{h}": (lambda _, c=c, h=h, w=w: block_case(c, h, w), BLOCK)
        for c in BLOCK_CHANNELS
        for h, w in BLOCK_SIZES
    },
    **{f"edge-{w}x{h}": (lambda model, h=h, w=w: edge_case(h, w, model), EDGE) for h, w in FRAME_SIZES},
}


@pytest.fixture(scope="session")
def measurements(pytestconfig: pytest.Config, tables: list[str]) -> Iterator[Measurements]:
    before = torch.get_num_threads(), cv2.getNumThreads()
    threads = pytestconfig.getoption("threads")
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DEPTHSR_THREADS", str(threads))
        yield Measurements(pytestconfig.getoption("rows"), tables, pytestconfig.getoption("seconds"))
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


@pytest.fixture(scope="session")
def selected(request: pytest.FixtureRequest) -> dict[str, list[Contender]]:
    """By case, the contenders that -k and the like have left."""
    contenders: dict[str, list[Contender]] = {}
    for item in request.session.items:
        if getattr(item, "originalname", None) == test_median.__name__:
            contenders.setdefault(item.callspec.params["case_id"], []).append(item.callspec.params["contender"])
    return contenders


@pytest.mark.benchmark(timer=recorded_clock)
@pytest.mark.parametrize(
    ("case_id", "contender"),
    [
        pytest.param(case_id, contender, id=f"{case_id}-{contender}")
        for case_id, (_, contenders) in CASES.items()
        for contender in contenders
    ],
)
def test_median(benchmark, measurements, selected, pytestconfig, case_id: str, contender: Contender) -> None:
    make, _ = CASES[case_id]
    try:
        measured = measurements.of(contender, case_id, lambda: make(pytestconfig.getoption("model")), selected[case_id])
    except Absent as reason:
        pytest.skip(str(reason))
    benchmark.group = case_id
    benchmark.extra_info.update(measured.row)
    replay(benchmark, measured.samples_s)
