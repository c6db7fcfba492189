"""All contenders of a case, prepared, checked against each other, timed in turns, and set against the machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cases import Case
from contenders import DTYPES, Contender
from interleaved import times_s
from roofline import Machine, measure_machine
from rows import provenance, write
from runtimes import Outputs, Run

#: A contender whose result is further off has computed something else, and its time is not reported. How exact
#: depthsr's own results are is the tests' business.
WRONG = {"fp32": 1e-3, "bf16": 5e-2}


@dataclass(frozen=True)
class Measured:
    row: dict
    samples_s: list[float]


class Measurements:
    """Of all cases so far: by case, by contender, what was measured, or an exception that says why nothing was."""

    def __init__(self, rows_file: Path | None, tables: list[str]) -> None:
        self._rows_file = rows_file
        self._tables = tables
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
        results: dict[str, Measured | Exception] = {}
        runs: dict[str, Run] = {}
        errors: dict[str, float | None] = {}
        expected: dict[str, Outputs] = {}
        start = time.perf_counter()
        for contender in contenders:
            name = str(contender)
            try:
                run = contender.prepare(case)
                errors[name] = None
                if contender.is_network:
                    if contender.scope not in expected:
                        expected[contender.scope] = case.expected(contender.scope)
                    errors[name] = _relative_error(run.read(run.call()), expected[contender.scope])
                    assert errors[name] < WRONG[contender.dtype], f"{name} is off by {errors[name]:.1e}: wrong results"
                runs[name] = run
            except Exception as error:  # one that cannot run must not end the others' turns; its own test raises it
                results[name] = error
        prepared = time.perf_counter()
        samples_s = times_s({name: run.call for name, run in runs.items()}, case.budget) if runs else {}
        best_s = min((float(np.median(s)) for s in samples_s.values()), default=0.0)
        for contender in contenders:
            name = str(contender)
            if name in runs:
                row = self._row(case, contender, runs[name].version, samples_s[name], best_s, errors[name])
                results[name] = Measured(row, samples_s[name])
        rows = [result.row for result in results.values() if isinstance(result, Measured)]
        took = f"prepared in {prepared - start:.0f} s, measured in {time.perf_counter() - prepared:.0f} s"
        self._tables.append(_table(f"{case.name} ({took})", rows))
        return results

    def _row(
        self, case: Case, contender: Contender, version: str, samples_s: list[float], best_s: float, error: float | None
    ) -> dict:
        quarter_s, median_s, three_quarters_s = (float(q) for q in np.percentile(samples_s, (25, 50, 75)))
        row = {
            "case": case.name,
            "contender": contender.name,
            "version": version,
            "dtype": contender.dtype,
            "scope": contender.scope,
            "median_ms": 1e3 * median_s,
            "iqr_ms": 1e3 * (three_quarters_s - quarter_s),
            "samples": len(samples_s),
            "ratio_to_best": median_s / best_s,
            "relative_error": error,
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


def _relative_error(found: Outputs, expected: Outputs) -> float:
    """The largest of the outputs' root-mean-square errors, relative to the root mean square of what is expected."""
    return max(
        float(np.linalg.norm((f - e).ravel().astype(np.float64)) / np.linalg.norm(e.ravel().astype(np.float64)))
        for f, e in zip(found, expected, strict=True)
    )


def _machine_lines(machine: Machine, origin: dict) -> str:
    gemm = ", ".join(f"{name} {machine.multiply_adds_s[dtype] / 1e9:.1f}" for name, dtype in DTYPES.items())
    return (
        f"{origin['cpu']}, {origin['threads']} threads, torch {origin['torch']}, commit {origin['commit']}, "
        f"{origin['date']}\nmeasured: copy {machine.copy_bytes_s / 1e9:.1f} GB/s, GEMM in GMAC/s: {gemm}"
    )


def _table(title: str, rows: list[dict]) -> str:
    header = (
        f"\n{title}\n{'contender':28}{'dtype':>6}{'scope':>9}{'ms':>10}{'IQR':>8}{'× best':>8}{'GMAC/s':>8}"
        f"{'GEMM':>6}{'GB/s':>7}{'copy':>6}{'floor ms':>10}{'error':>9}"
    )
    lines = [header]
    for row in sorted(rows, key=lambda row: row["median_ms"]):
        line = (
            f"{row['contender']:28}{row['dtype']:>6}{row['scope']:>9}{row['median_ms']:10.2f}{row['iqr_ms']:8.2f}"
            f"{row['ratio_to_best']:8.2f}"
        )
        if "gmac_s" in row:
            line += (
                f"{row['gmac_s']:8.1f}{row['share_of_gemm']:6.0%}{row['gb_s']:7.1f}{row['share_of_copy']:6.0%}"
                f"{row['floor_ms']:10.2f}{row['relative_error']:9.0e}"
            )
        lines.append(line)
    return "\n".join(lines)
