"""What a kernel on a GPU has to move and to compute, the row that says how near it came, and the file of all rows."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Rates:
    """What the GPU reached in this run: bytes read and written a second in a copy, operations a second in a product."""

    copy_bytes_s: float
    operations_s: float


@dataclass(frozen=True)
class Work:
    """Of one call: bytes that have to pass through memory once, and floating-point operations."""

    bytes: int
    operations: int

    def floors_ms(self, rates: Rates) -> tuple[float, float]:
        """No implementation is faster than either: (bytes over bandwidth, operations over rate)."""
        return 1e3 * self.bytes / rates.copy_bytes_s, 1e3 * self.operations / rates.operations_s


@dataclass(frozen=True)
class Row:
    commit: str
    date: str
    device: str
    torch: str
    op: str
    direction: str
    shape: str
    dtype: str
    implementation: str
    ms: float
    gb_s: float
    share_of_copy: float
    floor_bytes_ms: float
    floor_operations_ms: float


def row(provenance: dict[str, str], case: dict[str, str], seconds: float, work: Work, rates: Rates) -> Row:
    """provenance: commit, date, device, torch. case: op, direction, shape, dtype, implementation."""
    floor_bytes_ms, floor_operations_ms = work.floors_ms(rates)
    return Row(
        **provenance,
        **case,
        ms=round(1e3 * seconds, 5),
        gb_s=round(work.bytes / seconds / 1e9, 1),
        share_of_copy=round(work.bytes / seconds / rates.copy_bytes_s, 3),
        floor_bytes_ms=round(floor_bytes_ms, 5),
        floor_operations_ms=round(floor_operations_ms, 5),
    )


@dataclass(frozen=True)
class ModelRow:
    """A whole model: time and number of frames of `size`, of which `measured` pixels have a depth.

    weights  whose they are; random ones take the same time.
    path     "device, eager" and "device, graph": from tensors on the GPU to tensors on the GPU, `batch` frames a call.
             "host, stream" and "host, batch": from arrays to finished predictions on the host.
    kernels  what computes the package's ops: "auto", DEPTHSR_BACKEND's default, or one that was forced.
    ms       a frame.
    """

    commit: str
    date: str
    device: str
    torch: str
    model: str
    weights: str
    size: str
    measured: str
    dtype: str
    batch: int
    path: str
    kernels: str
    ms: float
    frames_s: float


def append(path: Path, new: Row | ModelRow) -> None:
    """One line of CSV at the end of the file, which begins with the columns' names. Rows of earlier runs stay.

    Raises ValueError where the file has other columns.
    """
    names = [field.name for field in fields(new)]
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            found = next(csv.reader(file), [])
        if found != names:
            raise ValueError(f"{path} has the columns {found}, not {names}: move it away")
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(asdict(new))


def table(rows: list[Row]) -> str:
    """For the end of a run: a line a row, the nearest to its floor first within each op."""
    lines = [
        f"{'op':<17} {'direction':<13} {'shape':<16} {'dtype':<8} {'by':<8} {'ms':>9} {'GB/s':>7} {'copy':>6}  floors"
    ]
    for one in sorted(rows, key=lambda one: (one.op, one.direction, one.shape, one.dtype, one.ms)):
        lines.append(
            f"{one.op:<17} {one.direction:<13} {one.shape:<16} {one.dtype:<8} {one.implementation:<8} "
            f"{one.ms:9.4f} {one.gb_s:7.0f} {one.share_of_copy:6.1%}  "
            f"{one.floor_bytes_ms:.4f} ms bytes, {one.floor_operations_ms:.4f} ms operations"
        )
    return "\n".join(lines)


def model_table(rows: list[ModelRow]) -> str:
    """For the end of a run, the weights' owner last."""
    columns = (
        f"{'model':<6} {'size':<10} {'dtype':<8} {'batch':>5} {'path':<14} {'kernels':<8} {'ms':>8} {'frames/s':>9}"
    )
    lines = [f"{columns}  weights"]
    for one in rows:
        lines.append(
            f"{one.model:<6} {one.size:<10} {one.dtype:<8} {one.batch:5} {one.path:<14} {one.kernels:<8} {one.ms:8.3f} "
            f"{one.frames_s:9.0f}  {one.weights}"
        )
    return "\n".join(lines)
