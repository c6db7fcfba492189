"""All contenders of a case, prepared, checked against each other, timed in turns, and set against the machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cases import Case
from contenders import DTYPES, Contender
from interleaved import times_s
from roofline import Machine, measure_machine
from rows import provenance, write
from runtimes import Outputs, Run

#: A contender whose result is further off has computed something else, and its time is not reported. Loose, as others
#: round more often than depthsr between two dozen blocks; how exact depthsr's own results are is the tests' business.
WRONG = {"fp32": 1e-3, "bf16": 0.2}


@dataclass(frozen=True)
class Entrant:
    """A contender that is ready, and how far its result is from the reference's; None where it is no network."""

    contender: Contender
    run: Run
    error: float | None


@dataclass(frozen=True)
class Measured:
    row: dict
    samples_s: list[float]


class Measurements:
    """Of all cases so far: by case, by contender, what was measured, or an exception that says why nothing was."""

    def __init__(self, rows_file: Path | None, tables: list[str], contender_s: float | None = None) -> None:
        """contender_s: how long to measure each contender, instead of what the case says."""
        self._rows_file = rows_file
        self._tables = tables
        self._contender_s = contender_s
        self._cases: dict[str, dict[str, Measured | Exception]] = {}
        self._provenance = provenance()
        self._machine = measure_machine()
        tables.append(_machine_lines(self._machine, self._provenance))

    def of(self, contender: Contender, case_id: str, make: Callable[[], Case], others: Sequence[Contender]) -> Measured:
        """Makes the case and measures all its contenders when one of them is first asked for."""
        if case_id not in self._cases:
            self._cases[case_id] = self._measure(make(), others)
            self._write()
        result = self._cases[case_id][str(contender)]
        if isinstance(result, Exception):
            raise result
        return result

    def _measure(self, case: Case, contenders: Sequence[Contender]) -> dict[str, Measured | Exception]:
        torch._dynamo.reset()  # it gives up on a function that was compiled for many sizes
        start = time.perf_counter()
        prepared, failed = prepare(case, contenders)
        measuring = time.perf_counter()
        budget = case.budget if self._contender_s is None else replace(case.budget, contender_s=self._contender_s)
        samples_s = times_s({str(entrant.contender): entrant.run.call for entrant in prepared}, budget)
        medians_s = {name: float(np.median(samples)) for name, samples in samples_s.items()}
        # A filter does less than a network: ratios are to the best of the networks, where one was measured.
        networks = [medians_s[str(entrant.contender)] for entrant in prepared if entrant.contender.is_network]
        best_s = min(networks or medians_s.values(), default=0.0)
        measured = {
            name: Measured(self._row(case, entrant, samples_s[name], best_s), samples_s[name])
            for entrant in prepared
            for name in [str(entrant.contender)]
        }
        took = f"prepared in {measuring - start:.0f} s, measured in {time.perf_counter() - measuring:.0f} s"
        self._tables.append(_table(f"{case.name} ({took})", [one.row for one in measured.values()]))
        return {**measured, **failed}

    def _row(self, case: Case, entrant: Entrant, samples_s: list[float], best_s: float) -> dict:
        contender = entrant.contender
        quarter_s, median_s, three_quarters_s = (float(q) for q in np.percentile(samples_s, (25, 50, 75)))
        row = {
            "case": case.name,
            "contender": contender.name,
            "version": entrant.run.version,
            "dtype": contender.dtype,
            "scope": contender.scope,
            "median_ms": 1e3 * median_s,
            "iqr_ms": 1e3 * (three_quarters_s - quarter_s),
            "samples": len(samples_s),
            "ratio_to_best": median_s / best_s,
            "relative_error": entrant.error,
        }
        if contender.is_network:  # the filters do another, uncounted work
            dtype = DTYPES[contender.dtype]
            multiply_adds_s = case.work.multiply_adds / median_s
            bytes_s = case.work.elements * dtype.itemsize / median_s
            row |= {
                "gmac_s": multiply_adds_s / 1e9,
                "gb_s": bytes_s / 1e9,
                "share_of_gemm": multiply_adds_s / self._machine.multiply_adds_s[dtype],
                "share_of_copy": bytes_s / self._machine.copy_bytes_s,
                "floor_ms": 1e3 * case.work.floor_s(self._machine, dtype),
            }
        return {**self._provenance, **row}

    def _write(self) -> None:
        if self._rows_file is None:
            return
        measured = [m.row for case in self._cases.values() for m in case.values() if isinstance(m, Measured)]
        machine = {
            "copy_gb_s": self._machine.copy_bytes_s / 1e9,
            **{f"gemm_{name}_gmac_s": self._machine.multiply_adds_s[dtype] / 1e9 for name, dtype in DTYPES.items()},
        }
        write(self._rows_file, {"machine": machine, "rows": measured})


def prepare(case: Case, contenders: Sequence[Contender]) -> tuple[list[Entrant], dict[str, Exception]]:
    """Those that gave right results once, and by name what kept the others from it."""
    entrants: list[Entrant] = []
    failed: dict[str, Exception] = {}
    expected: dict[str, Outputs] = {}
    for contender in contenders:
        try:
            run = contender.prepare(case)
            error = None
            if contender.is_network:
                if contender.scope not in expected:
                    expected[contender.scope] = case.expected(contender.scope)
                error = relative_error(run.read(run.call()), expected[contender.scope])
                if not error < WRONG[contender.dtype]:
                    raise ArithmeticError(f"{contender} is off by {error:.1e} of the reference's result")
            entrants.append(Entrant(contender, run, error))
        except Exception as failure:  # one that cannot run must not end the others' turns; its own test raises it
            failed[str(contender)] = failure
    return entrants, failed


def relative_error(found: Outputs, expected: Outputs) -> float:
    """The largest of the outputs' root-mean-square errors, relative to the root mean square of what is expected.

    NaN if one of them holds a NaN.
    """
    errors = [
        np.linalg.norm((f - e).ravel().astype(np.float64)) / np.linalg.norm(e.ravel().astype(np.float64))
        for f, e in zip(found, expected, strict=True)
    ]
    return float(np.max(errors))


def _machine_lines(machine: Machine, origin: dict) -> str:
    gemm = ", ".join(f"{name} {machine.multiply_adds_s[dtype] / 1e9:.1f}" for name, dtype in DTYPES.items())
    return (
        f"{origin['cpu']}, {origin['threads']} threads, torch {origin['torch']}, commit {origin['commit']}, "
        f"{origin['date']}\nmeasured: copy {machine.copy_bytes_s / 1e9:.1f} GB/s, GEMM in GMAC/s: {gemm}"
    )


def _table(title: str, rows: list[dict]) -> str:
    header = (
        f"\n{title}\n{'contender':30}{'dtype':>6}{'scope':>9}{'ms':>10}{'IQR':>8}{'× best':>8}{'GMAC/s':>8}"
        f"{'GEMM':>6}{'GB/s':>7}{'copy':>6}{'floor ms':>10}{'error':>9}"
    )
    lines = [header]
    for row in sorted(rows, key=lambda row: row["median_ms"]):
        line = (
            f"{row['contender']:30}{row['dtype']:>6}{row['scope']:>9}{row['median_ms']:10.2f}{row['iqr_ms']:8.2f}"
            f"{row['ratio_to_best']:8.2f}"
        )
        if "gmac_s" in row:
            line += (
                f"{row['gmac_s']:8.1f}{row['share_of_gemm']:6.0%}{row['gb_s']:7.1f}{row['share_of_copy']:6.0%}"
                f"{row['floor_ms']:10.2f}{row['relative_error']:9.0e}"
            )
        lines.append(line)
    return "\n".join(lines)
