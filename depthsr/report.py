"""The result of `depthsr.evaluate.evaluate` as a Markdown table and as a JSON file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from depthsr.io.atomic import atomic_path
from depthsr.metrics import range_names


@dataclass(frozen=True)
class Column:
    """One metric of the table. Values are shown times `factor`; with `interval`, their bounds too.

    less_is_better  None: neither is, and no value is marked as the best.
    """

    key: str
    heading: str
    factor: float = 1.0
    decimals: int = 3
    less_is_better: bool | None = True
    interval: bool = False


def markdown_table(result: dict) -> str:
    """The rows of an evaluation, the best of each column in bold, then the published figures where there are any."""
    columns = _columns(result)
    compared = result["best_baseline"]
    headings = ["method", *(column.heading for column in columns)]
    headings[3:3] = [f"{metric.upper()} / {best}" for metric, best in compared.items()]
    lines = [_caption(result), "", "| " + " | ".join(headings) + " |", "|---|" + "---:|" * (len(headings) - 1)]
    best = {column.key: _best(result["rows"], column) for column in columns}
    for row in result["rows"]:
        cells = [_cell(row, column, best[column.key]) for column in columns]
        cells[2:2] = [_ratio(row["ratio"][metric]) for metric in compared]
        lines.append(f"| {row['method']} | " + " | ".join(cells) + " |")
    for row in result["published"]:
        cells = [_cell({"ci": {}, **row}, column, None) for column in columns]
        cells[2:2] = ["–" for _ in compared]
        lines.append(f"| {row['method']} (published) | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_json(result: dict, path: str | Path) -> None:
    """Write the result whole or not at all; a line for each row and each method's frames, so that files compare well.

    Parents are created.
    """
    fields = [f"{json.dumps(key)}: {_json_lines(value)}" for key, value in result.items()]
    with atomic_path(path) as temporary:
        temporary.write_text("{\n" + ",\n".join(fields) + "\n}\n", encoding="utf-8")


def write_markdown(result: dict, path: str | Path) -> None:
    """Write the table whole or not at all. Parents are created."""
    with atomic_path(path) as temporary:
        temporary.write_text(markdown_table(result) + "\n", encoding="utf-8")


def _columns(result: dict) -> list[Column]:
    unit = result["unit"]
    protocol = result["protocol"]
    columns = [
        Column("rmse", f"RMSE ({unit})", interval=True),
        Column("mae", f"MAE ({unit})", interval=True),
        Column("abs_rel", "AbsRel (%)", 100, 2),
        Column("delta1", "δ1 (%)", 100, 2, less_is_better=False),
    ]
    if protocol == "clean":
        columns.append(Column("median_rel", "median change (%)", 100, 4, interval=True))
    columns += [
        Column(name, f"RMSE {name.removeprefix('rmse_').removesuffix('m').replace('_', ' ')} m ({unit})")
        for name in range_names(result["ranges_m"])
    ]
    columns += [
        Column("edge_rmse", f"edge RMSE ({unit})"),
        Column("boundary_f1", "boundary F1 (%)", 100, 2, less_is_better=False),
    ]
    if protocol.startswith("gdsr"):
        factor, shown = (100, "cm") if unit == "m" else (1, unit)
        columns.append(Column("rmse_border6", f"RMSE inside a border of 6 ({shown})", factor, 2, interval=True))
    columns += [Column("expected_mae", f"MAE it expects ({unit})", less_is_better=None), Column("ause", "AUSE")]
    return [*columns, Column("time_ms", "time (ms)", 1, 1)]


def _caption(result: dict) -> str:
    interval = result["interval"]
    source = "" if result["input"] == "simulated" else f", low-resolution input: {result['input']}"
    if result["relative"] is not None:
        source += f", relative depth: {result['relative']}"
    if result["downsampling"] is not None:
        source += f", downsampling told: {result['downsampling']}"
    return (
        f"{result['protocol']}: {result['frames']} frames, split {result['split']}, seed {result['seed']}{source}; "
        f"in brackets {100 * interval['level']:g} % intervals, bootstrap of {interval['units']} {interval['unit']}s"
    )


def _best(rows: list[dict], column: Column) -> float | None:
    if column.less_is_better is None:
        return None
    values = [row[column.key] for row in rows if row[column.key] is not None]
    return (min if column.less_is_better else max)(values) if values else None


def _cell(row: dict, column: Column, best: float | None) -> str:
    value = row.get(column.key)
    if value is None:
        return "–"
    text = f"{column.factor * value:.{column.decimals}f}"
    text = f"**{text}**" if value == best else text
    bounds = row["ci"].get(column.key) if column.interval else None
    return _with_bounds(text, bounds, column.factor, column.decimals)


def _ratio(ratio: dict | None) -> str:
    return "–" if ratio is None else _with_bounds(f"{ratio['value']:.3f}", ratio["ci"], 1, 3)


def _with_bounds(text: str, bounds: list[float] | None, factor: float, decimals: int) -> str:
    if bounds is None:
        return text
    low, high = (f"{factor * bound:.{decimals}f}" for bound in bounds)
    return f"{text} [{low}, {high}]"


def _json_lines(value: object) -> str:
    """Strict JSON; a list of objects gets a line for each of them."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(json.dumps(item, allow_nan=False) for item in value) + "\n]"
    return json.dumps(value, allow_nan=False)
