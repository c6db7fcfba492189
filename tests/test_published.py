"""Published figures stand beside ours where the protocol is the same, and nowhere else."""

from __future__ import annotations

import pytest

from depthsr.data.degrade import PROTOCOLS
from depthsr.published import BENCHMARKS, published_rows
from depthsr.types import UserError


def test_figures_of_the_papers() -> None:
    nyu = {row["method"]: row["rmse_border6"] for row in published_rows("nyuv2", "gdsr-x16", "simulated")}
    assert nyu == {"DCTNet": pytest.approx(0.0584), "SGNet": pytest.approx(0.0477)}  # 5.84 and 4.77 cm
    lu = {row["method"]: row["rmse_border6"] for row in published_rows("lu", "gdsr-x4", "simulated")}
    assert lu == {"bicubic": 2.42, "DCTNet": 0.88, "SGNet": 1.03}
    arkit = {row["method"]: row for row in published_rows("arkitscenes", "tof", "own")}
    assert arkit["Prior-Depth-Anything"] == {"method": "Prior-Depth-Anything", "abs_rel": 0.0194, "rmse": 0.0404}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_other_protocols_have_none(name: str) -> None:
    own = BENCHMARKS[name].own_input
    same = {"gdsr-x4", "gdsr-x8", "gdsr-x16"}
    for protocol in PROTOCOLS:
        for inputs in ("simulated", "own", "mixed"):
            expected = inputs == "own" if own else inputs == "simulated" and protocol in same
            assert bool(published_rows(name, protocol, inputs)) == expected, (protocol, inputs)


def test_without_a_benchmark_there_are_none() -> None:
    assert published_rows(None, "gdsr-x8", "simulated") == []


def test_errors_grow_with_the_factor() -> None:
    """A figure typed wrong would most likely break this."""
    for benchmark in ("middlebury", "lu", "nyuv2", "rgb-d-d"):
        rows = [published_rows(benchmark, f"gdsr-x{factor}", "simulated") for factor in (4, 8, 16)]
        for methods in zip(*rows, strict=True):
            assert len({row["method"] for row in methods}) == 1
            errors = [row["rmse_border6"] for row in methods]
            assert errors == sorted(errors)


def test_an_unknown_benchmark() -> None:
    with pytest.raises(UserError, match=r"kitti.*choose one of middlebury"):
        published_rows("kitti", "gdsr-x8", "simulated")
