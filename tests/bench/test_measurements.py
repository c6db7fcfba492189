"""Who is timed: only those that run, and whose result is right."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from contenders import Contender
from measurements import prepare
from runtimes import HOW_TO_GET, Absent, Run, imported

EXPECTED = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def contender(name: str, result: np.ndarray, dtype: str = "fp32", is_network: bool = True) -> Contender:
    run = Run(lambda: result, lambda out: [out], "1.0")
    return Contender(name, dtype, "network", lambda case: run, is_network)


def absent(case) -> Run:
    raise Absent("this one is not installed: install it")


def test_wrong_and_absent_contenders_are_not_timed():
    wrong = EXPECTED.copy()
    wrong[0, 0] += 1
    entrants, failed = prepare(
        SimpleNamespace(expected=lambda scope: [EXPECTED]),
        [
            contender("right", EXPECTED * np.float32(1 + 1e-5)),
            contender("wrong", wrong),
            contender("not finite", np.full_like(EXPECTED, np.nan)),
            contender("rounded", EXPECTED * np.float32(1 + 1e-2)),
            contender("rounded", EXPECTED * np.float32(1 + 1e-2), "bf16"),
            contender("filter", wrong, is_network=False),
            Contender("absent", "fp32", "network", absent),
        ],
    )
    assert [str(entrant.contender) for entrant in entrants] == ["right fp32", "rounded bf16", "filter fp32"]
    assert entrants[0].error == pytest.approx(1e-5, rel=0.05)
    assert entrants[1].error == pytest.approx(1e-2, rel=1e-3)
    assert entrants[2].error is None
    assert {name: type(reason) for name, reason in failed.items()} == {
        "wrong fp32": ArithmeticError,
        "not finite fp32": ArithmeticError,
        "rounded fp32": ArithmeticError,
        "absent fp32": Absent,
    }


def test_a_missing_package_is_named_with_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed
    with pytest.raises(Absent, match=r"^onnxruntime is not installed: ") as reason:
        imported("onnxruntime")
    assert HOW_TO_GET in str(reason.value)
