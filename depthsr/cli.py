"""The command line. Thin: understand options, call one function, say what was done. Imports happen in the commands,
so that `depthsr --help` is instant and a mistake in a path is told before torch is loaded."""

from __future__ import annotations

import logging
import sys
from enum import Enum
from typing import Annotated

import typer

from depthsr import __version__
from depthsr.config import TrainConfig
from depthsr.types import UserError

app = typer.Typer(
    name="depthsr",
    help="Turn an RGB image and a poor depth map into a sharp metric depth map at the RGB's resolution.",
    epilog="Start with `depthsr demo`. `depthsr COMMAND --help` tells more about a command.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


#: Packages that an installation with DEPTHSR_TORCH=0 does not bring.
LEFT_OUT_WITHOUT_TORCH = ("torch", "transformers", "huggingface_hub", "tensorboard")


class Protocol(str, Enum):
    """What depthsr.data.degrade.PROTOCOLS holds; a test keeps the two equal."""

    AIS = "ais"
    GDSR_X4 = "gdsr-x4"
    GDSR_X8 = "gdsr-x8"
    GDSR_X16 = "gdsr-x16"
    GDSR_X4_NOISY = "gdsr-x4-noisy"
    GDSR_X8_NOISY = "gdsr-x8-noisy"
    GDSR_X16_NOISY = "gdsr-x16-noisy"
    TOF = "tof"
    CLEAN = "clean"


class InputProtocol(str, Enum):
    METRIC = "metric"
    AIS = "ais"


class Runtime(str, Enum):
    """What depthsr.infer.RUNTIMES holds; a test keeps the two equal."""

    AUTO = "auto"
    TORCH = "torch"
    NATIVE = "native"


class DepthFormat(str, Enum):
    PNG = "png"
    NPY = "npy"
    EXR = "exr"
    TIFF = "tiff"
    PFM = "pfm"


Model = Annotated[str, typer.Option(help="edge, base, the folder of a saved model, or a baseline such as bilinear.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Half = Annotated[
    bool, typer.Option("--fp16", help="Half-precision weights, and the device's fastest correct arithmetic.")
]


@app.command()
def infer(
    rgb: Annotated[str, typer.Option(help="RGB picture: FILE, DIR or a quoted GLOB.", metavar="FILE|DIR|GLOB")],
    depth: Annotated[str, typer.Option(help="Depth map of the same view; paired by name.", metavar="FILE|DIR|GLOB")],
    out: Annotated[str, typer.Option(help="Folder for NAME.png (depth) and NAME.vis.png (picture).", metavar="DIR")],
    fp16: Half = False,
    model: Model = "edge",
    relative: Annotated[
        str | None, typer.Option(help="Your own relative depth, larger = nearer (base).", metavar="FILE|DIR|GLOB")
    ] = None,
    depth_scale: Annotated[
        float | None,
        typer.Option(help="Metres per stored unit of --depth. Default: integers are millimetres, floats metres."),
    ] = None,
    protocol: Annotated[
        InputProtocol, typer.Option(help="metric: depth of a sensor. ais: low-resolution levels of the challenge.")
    ] = InputProtocol.METRIC,
    quantisation_step: Annotated[
        float | None, typer.Option(help="Metres between the levels of a coarsely quantised input.")
    ] = None,
    max_depth: Annotated[float | None, typer.Option(help="Largest depth there can be, metres, if known.")] = None,
    device: Device = "auto",
    runtime: Annotated[
        Runtime, typer.Option(help="native: C++ on the CPU, without torch. auto: torch where it is installed.")
    ] = Runtime.AUTO,
    depth_format: Annotated[
        DepthFormat | None,
        typer.Option("--format", help="Of the written depth. Default: png (16-bit, millimetres); npy with ais."),
    ] = None,
    picture: Annotated[bool, typer.Option(help="Also write NAME.vis.png to look at.")] = True,
) -> None:
    """Restore your own depth maps."""
    from depthsr.io import pair_inputs

    if protocol is InputProtocol.AIS and (depth_scale, quantisation_step, max_depth) != (None, None, None):
        raise UserError(
            "--protocol ais fixes unit, step and range; leave out --depth-scale, --quantisation-step, --max-depth."
        )
    frames = pair_inputs(rgb, depth, relative)

    from depthsr.infer import load
    from depthsr.infer_files import FileOptions, infer_files

    if depth_format is None:
        depth_format = DepthFormat.NPY if protocol is InputProtocol.AIS else DepthFormat.PNG
    options = FileOptions(
        protocol=protocol.value,
        depth_scale=depth_scale,
        quantisation_step_m=quantisation_step,
        max_depth_m=max_depth,
        depth_format=depth_format.value,
        picture=picture,
    )
    predictor = load(model, device, "fp16" if fp16 else "auto", runtime.value)
    written = infer_files(predictor, frames, out, options)
    unit = "16-bit, millimetres, 0 = no value" if depth_format is DepthFormat.PNG else "float32, metres"
    shown = written[0] if len(written) == 1 else f"{len(written)} depth maps in {out}"
    typer.echo(f"wrote {shown} ({depth_format.value}: {unit}){' and *.vis.png to look at' if picture else ''}")


@app.command()
def demo(
    out: Annotated[str, typer.Option(help="Folder for the sample, the result and the picture.", metavar="DIR")] = (
        "depthsr-demo"
    ),
    model: Model = "edge",
    device: Device = "auto",
) -> None:
    """Try it on a sample.

    Restores a frame that comes with the package and compares it with the best classical method and the truth.
    """
    from depthsr.demo import run

    typer.echo(run(out, model, device))


@app.command()
def train(
    data: Annotated[str, typer.Option(help="Folder of training pairs; its layout is detected.", metavar="DIR")],
    out: Annotated[str, typer.Option(help="Folder for checkpoints, metrics and weights.", metavar="DIR")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out, exactly.")] = False,
    preset: Annotated[str, typer.Option(help="edge, base, or the folder of a saved model.")] = TrainConfig.preset,
    recipe: Annotated[str, typer.Option(help="Degradations: mixed (all) or ais.")] = TrainConfig.recipe,
    validation: Annotated[str, typer.Option(help="scene, or last100 (the published recipe).")] = TrainConfig.validation,
    steps: Annotated[int, typer.Option(help="Optimisation steps.")] = TrainConfig.steps,
    batch: Annotated[int, typer.Option(help="Samples a step on each process.")] = TrainConfig.batch,
    crop: Annotated[int, typer.Option(help="Side of the training crops, pixels.")] = TrainConfig.crop,
    final_crop: Annotated[int, typer.Option(help="Crop side in the last steps.")] = TrainConfig.final_crop,
    final_fraction: Annotated[
        float, typer.Option(help="Share of the steps at final-crop.")
    ] = TrainConfig.final_fraction,
    learning_rate: Annotated[float, typer.Option(help="Of the U-Net.")] = TrainConfig.learning_rate,
    backbone_learning_rate: Annotated[
        float, typer.Option(help="Of Depth Anything.")
    ] = TrainConfig.backbone_learning_rate,
    weight_decay: Annotated[float, typer.Option(help="AdamW's.")] = TrainConfig.weight_decay,
    warmup_steps: Annotated[int, typer.Option(help="Linear warm-up before the cosine.")] = TrainConfig.warmup_steps,
    gradient_weight: Annotated[float, typer.Option(help="Sobel term against L1.")] = TrainConfig.gradient_weight,
    balance: Annotated[bool, typer.Option(help="Mild degradations count as much as strong.")] = TrainConfig.balance,
    gradient_clip: Annotated[float, typer.Option(help="Largest gradient norm.")] = TrainConfig.gradient_clip,
    ema: Annotated[float, typer.Option(help="Decay of the averaged weights.")] = TrainConfig.ema,
    precision: Annotated[str, typer.Option(help="fp32, or bf16 autocast.")] = TrainConfig.precision,
    workers: Annotated[int, typer.Option(help="Data-loading processes.")] = TrainConfig.workers,
    cache_frames: Annotated[int, typer.Option(help="Decoded frames each keeps.")] = TrainConfig.cache_frames,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = TrainConfig.seed,
    compile: Annotated[bool, typer.Option(help="Use torch.compile.")] = TrainConfig.compile,
    channels_last: Annotated[bool, typer.Option(help="Memory format of the activations.")] = TrainConfig.channels_last,
    checkpoint_minutes: Annotated[float, typer.Option(help="Between checkpoints.")] = TrainConfig.checkpoint_minutes,
    validate_steps: Annotated[int, typer.Option(help="Steps between validations.")] = TrainConfig.validate_steps,
    device: Device = TrainConfig.device,
) -> None:
    """Train on your own pairs.

    For several processes: torchrun --nproc-per-node 2 -m depthsr.cli train ...
    """
    options = dict(locals())
    from depthsr.train import train as run

    resume = options.pop("resume")
    run(TrainConfig(**options), resume=resume)


@app.command("eval")
def evaluate(
    data: Annotated[str, typer.Option(help="Folder with rgb/, depth/ and optionally lr/.", metavar="FOLDER")],
    protocol: Annotated[Protocol, typer.Option(help="How the depth is degraded and scored.")],
    model: Annotated[list[str] | None, typer.Option(help="Model to score; repeat for several. Default: edge.")] = None,
    baselines: Annotated[bool, typer.Option(help="Put the classical baselines beside the models.")] = True,
    split: Annotated[
        str | None, typer.Option(help="all, train, val or last100. Default: val if stated, or all.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many frames, spread evenly.")] = None,
    seed: Annotated[int, typer.Option(help="Of the simulated degradation.")] = 0,
    benchmark: Annotated[
        str | None,
        typer.Option(
            help="Say that --data are the test frames of middlebury, lu, nyuv2, rgb-d-d, rgb-d-d-sensor or "
            "arkitscenes: adds the figures published for the same protocol."
        ),
    ] = None,
    json: Annotated[str | None, typer.Option(help="Write the scores, also of each frame.", metavar="FILE")] = None,
    markdown: Annotated[str | None, typer.Option(help="Write the table.", metavar="FILE")] = None,
    sheet: Annotated[
        str | None, typer.Option(help="Write a picture of the worst and the median frame.", metavar="FILE")
    ] = None,
    robustness: Annotated[
        str | None,
        typer.Option(
            help="Instead of the table, with --protocol ais: RMSE against noise, dropped bits and scale, drawn to "
            "this file (PNG, SVG or PDF; needs matplotlib).",
            metavar="FILE",
        ),
    ] = None,
    device: Device = "auto",
    fp16: Half = False,
) -> None:
    """Score models against ground truth.

    Prints a table with a row for each model or baseline, with bootstrap intervals; --json keeps every number.
    """
    options = {"baselines": baselines, "split": split, "limit": limit, "seed": seed}
    where = {"device": device, "dtype": "fp16" if fp16 else "auto"}
    if robustness is not None:
        if protocol is not Protocol.AIS or (benchmark, markdown, sheet) != (None, None, None):
            raise UserError(
                "--robustness varies the challenge's law: give --protocol ais, and leave out --benchmark, --markdown "
                "and --sheet."
            )
        from depthsr.report import write_json
        from depthsr.robustness import check_figure, draw, measure, table

        check_figure(robustness)
        curves = measure(data, model, **options, **where)
        draw(curves, robustness)
        if json is not None:
            write_json(curves, json)
        typer.echo(table(curves))
        return

    from depthsr.evaluate import evaluate as run
    from depthsr.report import markdown_table, write_json, write_markdown

    result = run(data, protocol.value, model, **options, benchmark=benchmark, **where)
    if json is not None:
        write_json(result, json)
    if markdown is not None:
        write_markdown(result, markdown)
    if sheet is not None:
        from depthsr.sheet import write_sheet

        write_sheet(sheet, result, data, **where)
    typer.echo(markdown_table(result))


@app.command()
def degrade(
    depth: Annotated[str, typer.Option(help="Good depth to spoil.", metavar="FILE|DIR|GLOB")],
    out: Annotated[str, typer.Option(help="Folder for NAME.npy.", metavar="DIR")],
    protocol: Annotated[Protocol, typer.Option(help="The law of the degradation.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same noise.")] = 0,
    depth_scale: Annotated[
        float | None, typer.Option(help="Metres per stored unit. Default: integers are millimetres, floats metres.")
    ] = None,
) -> None:
    """Spoil good depth as a sensor would.

    Low resolution, quantisation, noise and holes by the law of --protocol, seeded.
    """
    from depthsr.degrade_files import degrade_files

    written = degrade_files(depth, out, protocol.value, seed=seed, depth_scale=depth_scale)
    unit = "levels" if protocol is Protocol.AIS else "metres, NaN = no value"
    typer.echo(f"wrote {len(written)} depth map{'s' if len(written) != 1 else ''} to {out} (float32 {unit})")


@app.command()
def doctor() -> None:
    """Say what this installation can do."""
    from depthsr.doctor import report

    typer.echo(report())


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"depthsr {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")
    ] = False,
) -> None: ...


def main() -> None:
    """Console script. A user's mistake is one line on stderr and exit status 2; a fault of ours keeps its traceback."""
    logging.basicConfig(format="depthsr: %(message)s", level=logging.WARNING)
    logging.getLogger("depthsr").setLevel(logging.INFO)
    try:
        app()
    except UserError as error:
        print(f"depthsr: {error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if error.name not in LEFT_OUT_WITHOUT_TORCH:
            raise
        print(
            f"depthsr: this needs {error.name}, and this installation is without torch; install depthsr again with "
            "DEPTHSR_TORCH unset, or use `depthsr infer` and `depthsr demo`, which need none.",
            file=sys.stderr,
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
