"""Write the tables of scores in README.md, bench/results/README.md and the model cards from the files in bench/results.

    python bench/score_tables.py

A table stands between the lines `<!-- scores: NAME -->` and `<!-- end of scores -->`; NAME is one of TABLES. None of
their numbers is copied by hand; tests/bench/test_score_tables.py holds the documents to the files.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from depthsr.io import atomic_path
from depthsr.models.baselines import BASELINES

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench/results"
DOCUMENTS = (
    ROOT / "README.md",
    RESULTS / "README.md",
    *(ROOT / f"depthsr/weights/{model}/README.md" for model in ("edge", "edge-s", "base")),
)
MARKED = re.compile(r"(<!-- scores: (\S+) -->\n).*?(?=<!-- end of scores -->)", re.DOTALL)

MODELS = ("edge", "edge-s", "base")
GDSR = tuple(f"gdsr-x{factor}{noisy}" for noisy in ("", "-noisy") for factor in (4, 8, 16))
SPARSE = ("points", "lidar")
VALIDATION = ("ais", *GDSR, "tof", "stereo", "matched", *SPARSE)
EDGE_AWARE = ("guided_filter", "joint_bilateral", "fast_global_smoother")
TITLES = {"base": "base, simulated relative depth", "behind_fast_global_smoother": "the same, holes from behind"}


class Scores:
    """One file of `depthsr eval --json`."""

    def __init__(self, path: Path):
        self.rows: dict[str, dict[str, Any]] = {
            row["method"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]
        }

    def best_baseline(self, metric: str) -> float:
        """The least error, or the highest share (boundary F1)."""
        values = [row[metric] for method, row in self.rows.items() if method in BASELINES]
        return max(values) if metric == "boundary_f1" else min(values)

    def errors(self, method: str, *, unit: float = 1, digits: int = 2) -> str:
        """RMSE / MAE in `1 / unit` metres."""
        row = self.rows[method]
        return f"{unit * row['rmse']:.{digits}f} / {unit * row['mae']:.{digits}f}"

    def best_errors(self, *, unit: float = 1, digits: int = 2) -> str:
        return " / ".join(f"{unit * self.best_baseline(metric):.{digits}f}" for metric in ("rmse", "mae"))

    def ratio(self, model: str) -> str:
        """To the best baseline, of RMSE / of MAE, with intervals where there are enough scenes for them."""
        return " / ".join(_with_interval(self.rows[model]["ratio"][metric]) for metric in ("rmse", "mae"))

    def expected_over_real(self, model: str) -> str:
        """The mean error that the model expects as a share of the MAE it makes."""
        return f"{self.rows[model]['expected_mae'] / self.rows[model]['mae']:.2f}"


def _with_interval(ratio: dict[str, Any]) -> str:
    interval = f" [{ratio['ci'][0]:.2f}, {ratio['ci'][1]:.2f}]" if ratio["ci"] else ""
    return f"{ratio['value']:.2f}{interval}"


def _bold(cell: str) -> str:
    return " / ".join(f"**{number}**" for number in cell.split(" / "))


def _title(method: str) -> str:
    return TITLES.get(method, method.replace("_", " ") if method in BASELINES else method)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head_line, *lines = (f"| {' | '.join(cells)} |\n" for cells in (head, *rows))
    return f"{head_line}|---|{'---:|' * (len(head) - 1)}\n{''.join(lines)}"


def validation(model: str, beside: Sequence[str], results: Path) -> str:
    """Every protocol on the validation frames: a model, other methods, and the model's ratio to the best baseline."""
    rows = []
    for protocol in VALIDATION:
        scores = Scores(results / f"val/{protocol}.json")
        errors = [_bold(scores.errors(model)), *(scores.errors(method) for method in beside)]
        rows.append([protocol, *errors, scores.ratio(model)])
    return _table(["protocol", f"**{_title(model)}**", *map(_title, beside), f"{model} / best baseline"], rows)


def models(results: Path) -> str:
    """All models on the validation frames: ratio to the best baseline, and what they say of their own error."""
    rows = []
    for protocol in VALIDATION:
        scores = Scores(results / f"val/{protocol}.json")
        known = [f"{scores.expected_over_real(model)}, {scores.rows[model]['ause']:.2f}" for model in MODELS]
        rows.append([protocol, *map(scores.ratio, MODELS), *known])
    ratios, knowing = (
        [f"{model}{of}" for model in MODELS] for of in (" / best baseline", ": expected / real MAE, AUSE")
    )
    return _table(["protocol", *ratios, *knowing], rows)


def real(results: Path) -> str:
    """The two real frames, degraded: edge beside the best baseline in each metric."""
    head, rows = ["protocol"], [[protocol] for protocol in (*GDSR, "tof", *SPARSE)]
    for name, of_unit, unit, digits in (("motorcycle", "cm", 100, 1), ("aloe", "pixels", 1, 2)):
        of_name = f"*{name.capitalize()}*, RMSE / MAE, {of_unit}"
        head += [f"{of_name}: **edge**", "best baseline", "ratio", "boundary F1, %: edge / best baseline"]
        for row in rows:
            path = results / f"{name}/{row[0]}.json"
            row += _of_a_real_frame(Scores(path), unit, digits) if path.exists() else ["–"] * 4
    return _table(head, rows)


def _of_a_real_frame(scores: Scores, unit: float, digits: int) -> list[str]:
    f1 = f"**{100 * scores.rows['edge']['boundary_f1']:.0f}** / {100 * scores.best_baseline('boundary_f1'):.0f}"
    errors = _bold(scores.errors("edge", unit=unit, digits=digits))
    return [errors, scores.best_errors(unit=unit, digits=digits), scores.ratio("edge"), f1]


def real_models(results: Path) -> str:
    """The two real frames, every model: ratio to the best baseline, expected / real MAE."""
    head = ["protocol", *(f"*{name}*: {model}" for name in ("Motorcycle", "Aloe") for model in MODELS)]
    rows = []
    for protocol in (*GDSR, "tof", "matched"):
        files = [Scores(results / f"{name}/{protocol}.json") for name in ("motorcycle", "aloe")]
        of_models = [f"{file.ratio(model)}; {file.expected_over_real(model)}" for file in files for model in MODELS]
        rows.append([protocol, *of_models])
    return _table(head, rows)


def clean(results: Path) -> str:
    """What is done to the two real frames' own depth."""
    rows = []
    for model in MODELS:
        files = [Scores(results / f"{name}/clean.json").rows[model] for name in ("motorcycle", "aloe")]
        rows.append([model, *(f"{100 * row['median_rel']:.4f}, {100 * row['boundary_f1']:.1f}" for row in files)])
    return _table(["median change, boundary F1, %", "*Motorcycle*", "*Aloe*"], rows)


def real_matched(results: Path) -> str:
    """The two real pairs, as OpenCV matches them."""
    files = [Scores(results / f"{name}/matched.json") for name in ("motorcycle", "aloe")]
    rows = []
    for method in (*MODELS, "nearest", *EDGE_AWARE, "behind_fast_global_smoother"):
        of_method = [file.errors(method, unit=100, digits=1) for file in files]
        rows.append([f"**{method}**" if method == "edge" else _title(method), *of_method])
    return _table(["RMSE / MAE", "*Motorcycle*, cm", "*Aloe*, 100/disparity, hundredths"], rows)


def scenes(results: Path) -> str:
    """Rendered scenes that anyone can make."""
    beside = ("edge-s", "bilinear", *EDGE_AWARE, "behind_fast_global_smoother")
    rows = []
    for protocol in ("gdsr-x8", "tof", "stereo", "matched"):
        scores = Scores(results / f"scenes/{protocol}.json")
        rows.append([protocol, _bold(scores.errors("edge")), *map(scores.errors, beside), scores.ratio("edge")])
    return _table(["protocol", "**edge**", *map(_title, beside), "edge / best baseline"], rows)


def told(results: Path) -> str:
    """The validation frames without → with the law of downsampling told."""
    rows = []
    for protocol in ("gdsr-x4", "gdsr-x8", "gdsr-x16", "gdsr-x8-noisy", "tof"):
        without, knowing = (Scores(results / folder / f"{protocol}.json") for folder in ("val", "told"))
        of_models = [f"{without.errors(model)} → **{knowing.errors(model)}**" for model in MODELS]
        rows.append([protocol, *of_models, f"{without.best_errors()} → {knowing.best_errors()}"])
    return _table(["protocol", *MODELS, "best baselines of RMSE / of MAE"], rows)


CLASSICAL = ("nearest", "bilinear", "bicubic", *EDGE_AWARE)
TABLES: dict[str, Callable[[Path], str]] = {
    "validation": functools.partial(validation, "edge", ("edge-s", "base", "bilinear", "bicubic", *EDGE_AWARE)),
    **{model: functools.partial(validation, model, CLASSICAL) for model in MODELS},
    "models": models,
    "real": real,
    "real-models": real_models,
    "real-matched": real_matched,
    "clean": clean,
    "scenes": scenes,
    "told": told,
}


def with_tables(text: str, results: Path = RESULTS) -> str:
    """The document with each of its tables made anew. Raises KeyError for a name that TABLES has not."""
    return MARKED.sub(lambda marked: marked[1] + TABLES[marked[2]](results), text)


def main() -> None:
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        with atomic_path(document) as path:
            path.write_text(with_tables(text), encoding="utf-8")


if __name__ == "__main__":
    main()
