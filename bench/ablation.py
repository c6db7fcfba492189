"""What each part of the method is worth: variants of a small network, trained alike, scored on the same inputs.

    python bench/ablation.py --data FOLDER --out ablation
    python bench/ablation.py --data FOLDER --out ablation --variant concatenation

Every variant starts from the same seed and sees the same samples in the same order; relative depth is simulated. The
table is ablation.md, its numbers ablation.json. A variant that is finished is not trained again, one that was
interrupted goes on; --variant adds rows to what --out holds already.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from pathlib import Path

import torch

from depthsr.bootstrap import LEVEL, bootstrap
from depthsr.checkpoint import save_model, write_json, write_text
from depthsr.config import EDGE_S, DepthAnythingConfig, ModelConfig, TrainConfig
from depthsr.data.degrade import PROTOCOLS
from depthsr.evaluate import evaluate
from depthsr.models.network import DepthSR
from depthsr.train import train
from depthsr.types import UserError

METHOD = "method"

#: edge-s with relative depth: each variant differs from it in one thing.
SMALL = dataclasses.replace(EDGE_S, name="small", depth_anything=DepthAnythingConfig())

#: Variant -> (what it is called in the table, changed fields of ModelConfig, changed fields of TrainConfig).
VARIANTS: dict[str, tuple[str, dict, dict]] = {
    METHOD: ("the method", {}, {}),
    "concatenation": ("concatenation instead of AdaIN", {"fusion": "concatenation"}, {}),
    "no-sobel": ("no Sobel loss", {}, {"gradient_weight": 0.0}),
    "rgb-relative": ("RGB in the relative path only", {"rgb_paths": "relative"}, {}),
    "rgb-depth": ("RGB in the depth path only", {"rgb_paths": "depth"}, {}),
    "no-rgb": ("no RGB at all", {"rgb_paths": "none"}, {}),
    "residual-head": ("residual on bilinear instead of the choice", {"head": "residual"}, {}),
    "no-refinement": ("no bilateral filter at the end", {"refinement": "none"}, {}),
    "no-relative": ("no relative depth", {"depth_anything": None}, {"relative": "network"}),
}

#: Scores in the table -> (heading, factor, decimals).
SCORES = {
    "rmse": ("RMSE (m)", 1, 3),
    "mae": ("MAE (m)", 1, 3),
    "edge_rmse": ("edge RMSE (m)", 1, 3),
    "boundary_f1": ("boundary F1 (%)", 100, 2),
}
#: Of these, the ratio to the method's.
COMPARED = ("rmse", "mae")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Shared by all variants. limit: at most so many validation frames."""

    data: str
    steps: int = 2000
    batch: int = 4
    crop: int = 192
    learning_rate: float = 2e-3
    workers: int = 1
    protocols: tuple[str, ...] = ("ais",)
    limit: int | None = None
    seed: int = 0
    device: str = "auto"


def run(settings: Settings, out: Path, variants: list[str], small: ModelConfig = SMALL) -> dict:
    """Train and score what is missing of `variants`, and write the table of all that `out` holds; returns its numbers.

    Raises UserError when `out` holds variants of other settings.
    """
    check_same_settings(settings, out)
    for variant in variants:
        if not scores_path(out, variant).exists():
            model = train_variant(settings, out / variant, variant, small)
            write_json(scores_path(out, variant), score_variant(settings, model, variant))
    result = compared(settings, out)
    write_json(out / "ablation.json", result)
    write_text(out / "ablation.md", markdown(result) + "\n")
    return result


def check_same_settings(settings: Settings, out: Path) -> None:
    path = out / "settings.json"
    # Through JSON and back, as the file's are: tuples are lists there.
    values = json.loads(json.dumps(dataclasses.asdict(settings)))
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        write_json(path, values)
    elif (before := json.loads(path.read_text())) != values:
        other = sorted(name for name in values if before.get(name) != values[name])
        raise UserError(f"{out} holds an ablation with another {', '.join(other)}; give the same, or another --out.")


def scores_path(out: Path, variant: str) -> Path:
    return out / variant / "scores.json"


def train_variant(settings: Settings, folder: Path, variant: str, small: ModelConfig) -> Path:
    """The folder of the trained model. What a variant shares with the method starts from the same numbers."""
    _, model_changes, train_changes = VARIANTS[variant]
    torch.manual_seed(settings.seed)
    methods = DepthSR(small).state_dict()
    model = DepthSR(dataclasses.replace(small, name=variant, **model_changes))
    own = model.state_dict()
    shared = {name: values for name, values in methods.items() if name in own and own[name].shape == values.shape}
    model.load_state_dict(own | shared)
    save_model(model, folder / "start")
    config = TrainConfig(
        data=settings.data,
        out=str(folder / "run"),
        preset=str(folder / "start"),
        steps=settings.steps,
        batch=settings.batch,
        crop=settings.crop,
        final_crop=2 * settings.crop,
        learning_rate=settings.learning_rate,
        warmup_steps=math.ceil(settings.steps / 20),
        balance=True,
        ema=1 - 1 / max(2, settings.steps / 20),  # a short run's average must not remember its start
        workers=settings.workers,
        validate_steps=settings.steps,
        seed=settings.seed,
        device=settings.device,
        **{"relative": "simulated", **train_changes},
    )
    return train(config, resume=(folder / "run" / "checkpoint.pt").exists())


def score_variant(settings: Settings, model: Path, variant: str) -> dict:
    """{"parameters", "scenes": {protocol: [a frame]}, "per_frame": {protocol: {score: [a frame]}}}."""
    relative = VARIANTS[variant][2].get("relative", "simulated")
    scores: dict = {"parameters": parameters(model), "scenes": {}, "per_frame": {}}
    for protocol in settings.protocols:
        options = {"limit": settings.limit, "seed": settings.seed, "device": settings.device}
        result = evaluate(settings.data, protocol, [str(model)], baselines=False, relative=relative, **options)
        scores["scenes"][protocol] = result["scenes"]
        scores["per_frame"][protocol] = {score: result["per_frame"][0][score] for score in SCORES}
    return scores


def parameters(model: Path) -> int:
    return sum(parameter.numel() for parameter in DepthSR.from_pretrained(model).parameters())


def compared(settings: Settings, out: Path) -> dict:
    """Means over frames with intervals, and the ratio of COMPARED to the method's, on the same draws of scenes."""
    finished = [variant for variant in VARIANTS if scores_path(out, variant).exists()]
    scores = {variant: json.loads(scores_path(out, variant).read_text()) for variant in finished}
    rows = []
    for protocol in settings.protocols:
        for variant in finished:
            drawn = bootstrap(scores[variant]["scenes"][protocol], seed=settings.seed)
            columns = {score: numbers(scores[variant]["per_frame"][protocol][score]) for score in SCORES}
            row = {"protocol": protocol, "variant": variant, "parameters": scores[variant]["parameters"]}
            row |= {score: mean(values) for score, values in columns.items()}
            row["ci"] = {score: drawn.interval(values) for score, values in columns.items()}
            row["ratio"] = {}
            if METHOD in finished:
                for score in COMPARED:
                    method = numbers(scores[METHOD]["per_frame"][protocol][score])
                    ratio = {"value": sum(columns[score]) / sum(method)}
                    row["ratio"][score] = ratio | {"ci": drawn.ratio_interval(columns[score], method)}
            rows.append(row)
    return {"settings": dataclasses.asdict(settings), "level": LEVEL, "rows": rows}


def numbers(values: list[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def mean(values: list[float]) -> float | None:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else None


def markdown(result: dict) -> str:
    settings = result["settings"]
    crops = f"{settings['batch']} crops of {settings['crop']}×{settings['crop']}"
    interval = f"in brackets {100 * result['level']:g} % intervals"
    lines = [f"Each variant: {settings['steps']} steps of {crops}, seed {settings['seed']}; {interval}."]
    for protocol in settings["protocols"]:
        headings = [protocol, "parameters", *(heading for heading, _, _ in SCORES.values())]
        headings += [f"{score.upper()} / the method's" for score in COMPARED]
        lines += ["", "| " + " | ".join(headings) + " |", "|---|" + "---:|" * (len(headings) - 1)]
        for row in result["rows"]:
            if row["protocol"] == protocol:
                cells = [VARIANTS[row["variant"]][0], f"{row['parameters'] / 1e6:.3f} M"]
                cells += [cell(row[name], row["ci"][name], *form[1:]) for name, form in SCORES.items()]
                ratios = [row["ratio"].get(name, {"value": None, "ci": None}) for name in COMPARED]
                cells += [cell(ratio["value"], ratio["ci"], 1, 3) for ratio in ratios]
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(value: float | None, bounds: list[float] | None, factor: float, decimals: int) -> str:
    if value is None:
        return "–"
    text = f"{factor * value:.{decimals}f}"
    return text if bounds is None else f"{text} [{factor * bounds[0]:.{decimals}f}, {factor * bounds[1]:.{decimals}f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="training pairs; the variants are scored on its validation part")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--variant", action="append", choices=list(VARIANTS), help="default: all")
    parser.add_argument("--protocol", action="append", choices=PROTOCOLS, help="default: ais")
    for field in ("steps", "batch", "crop", "workers", "seed"):
        parser.add_argument(f"--{field}", type=int, default=getattr(Settings, field))
    parser.add_argument("--learning-rate", type=float, default=Settings.learning_rate)
    parser.add_argument("--limit", type=int, help="score at most so many frames")
    parser.add_argument("--device", default=Settings.device)
    arguments = vars(parser.parse_args())
    out, variants = arguments.pop("out"), arguments.pop("variant") or list(VARIANTS)
    protocols = tuple(arguments.pop("protocol") or Settings.protocols)
    print(markdown(run(Settings(**arguments, protocols=protocols), out, variants)))


if __name__ == "__main__":
    main()
