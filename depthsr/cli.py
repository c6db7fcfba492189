"""The command line. Thin: understand options, call one function, say what was done. Imports happen in the commands,
so that `depthsr --help` is instant and a mistake in a path is told before torch is loaded."""

from __future__ import annotations

import importlib.util
import logging
import sys
import typing

import click

from depthsr import __version__
from depthsr.cli_options import Folder, device_option, fp16_option, model_option, parse_size, train_config_options
from depthsr.config import (
    ALSO,
    DEPTH_FORMATS,
    DOWNSAMPLINGS,
    INPUT_PROTOCOLS,
    INSTALL_TORCH,
    PROTOCOLS,
    RELATIVE_SOURCES,
    RUNTIMES,
    train_config,
)
from depthsr.types import UserError

#: Packages that an installation with DEPTHSR_TORCH=0 does not bring.
LEFT_OUT_WITHOUT_TORCH = ("torch", "transformers", "huggingface_hub", "tensorboard")

FRAMES = "FILE|DIR|GLOB"
DEPTH_SCALE_HELP = "Metres per stored unit{}. Default: integers are millimetres, floats metres."


class Commands(click.Group):
    """In the order they are written in, not the alphabet's."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=Commands,
    help="Turn an RGB image and a poor depth map into a sharp metric depth map at the RGB's resolution.",
    epilog="Start with `depthsr demo`. `depthsr COMMAND --help` tells more about a command.",
    context_settings={"show_default": True, "help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="depthsr", message="%(prog)s %(version)s", help="Show it.")
def app() -> None: ...


@app.command()
@click.option("--rgb", required=True, metavar=FRAMES, help="RGB picture: FILE, DIR or a quoted GLOB.")
@click.option("--depth", required=True, metavar=FRAMES, help="Depth map of the same view; paired by name.")
@click.option("--out", required=True, type=Folder(), help="Folder for NAME.png (depth) and NAME.vis.png (picture).")
@fp16_option
@model_option
@click.option("--relative", metavar=FRAMES, help="Your own relative depth, larger = nearer (base).")
@click.option("--depth-scale", type=float, help=DEPTH_SCALE_HELP.format(" of --depth"))
@click.option(
    "--protocol",
    type=click.Choice(INPUT_PROTOCOLS),
    default="metric",
    help="metric: depth of a sensor. ais: low-resolution levels of the challenge.",
)
@click.option("--quantisation-step", type=float, help="Metres between the levels of a coarsely quantised input.")
@click.option("--max-depth", type=float, help="Largest depth there can be, metres; what is farther is no value.")
@click.option(
    "--downsampling",
    type=click.Choice(DOWNSAMPLINGS),
    help="How the depth was made smaller, if that is certain: the result will agree with it.",
)
@device_option
@click.option(
    "--runtime",
    type=click.Choice(RUNTIMES),
    default="auto",
    help="native: C++ on the CPU, without torch. auto: torch where it has a GPU, else native.",
)
@click.option(
    "--format",
    "depth_format",
    type=click.Choice(DEPTH_FORMATS, case_sensitive=False),
    help="Of the written depth. Default: png (16-bit, millimetres); npy with ais.",
)
@click.option(
    "--also",
    type=click.Choice(ALSO),
    multiple=True,
    help="Write NAME.error (metres, in --format), NAME.confidence.png (255 = 1) or NAME.valid.png (255 = near a "
    "measurement) too; repeat for several.",
)
@click.option("--picture/--no-picture", default=True, help="Also write NAME.vis.png to look at.")
def infer(
    rgb: str,
    depth: str,
    out: str,
    fp16: bool,
    model: str,
    relative: str | None,
    depth_scale: float | None,
    protocol: str,
    quantisation_step: float | None,
    max_depth: float | None,
    downsampling: str | None,
    device: str,
    runtime: str,
    depth_format: str | None,
    also: tuple[str, ...],
    picture: bool,
) -> None:
    """Restore your own depth maps."""
    from depthsr.io import pair_inputs

    if protocol == "ais" and (depth_scale, quantisation_step, max_depth, downsampling) != (None, None, None, None):
        raise UserError(
            "--protocol ais fixes unit, step, range and downsampling; leave out --depth-scale, --quantisation-step, "
            "--max-depth and --downsampling."
        )
    frames = pair_inputs(rgb, depth, relative)

    from depthsr.frames import Settings
    from depthsr.infer import load
    from depthsr.infer_files import Results, infer_files

    if depth_format is None:
        depth_format = "npy" if protocol == "ais" else "png"
    settings = Settings(depth_scale, quantisation_step, max_depth, protocol, downsampling)
    results = Results(depth_format, also, picture)
    predictor = load(model, device, "fp16" if fp16 else "auto", runtime)
    written = infer_files(predictor, frames, out, settings, results)
    unit = "16-bit, millimetres, 0 = no value" if depth_format == "png" else "float32, metres"
    shown = written[0] if len(written) == 1 else f"{len(written)} depth maps in {out}"
    others = [f", *{ending}" for kind, ending in results.endings().items() if kind in also]
    click.echo(
        f"wrote {shown} ({depth_format}: {unit}){''.join(others)}{' and *.vis.png to look at' if picture else ''}"
    )


@app.command()
@click.option("--out", default="depthsr-demo", type=Folder(), help="Folder for the sample, the result and the picture.")
@model_option
@device_option
def demo(out: str, model: str, device: str) -> None:
    """Try it on a sample.

    Restores a frame that comes with the package and compares it with the best classical method and the truth.
    """
    from depthsr.demo import run

    click.echo(run(out, model, device))


@app.command()
@train_config_options
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --out, exactly.")
@click.pass_context
def train(context: click.Context, resume: bool, **options: typing.Any) -> None:
    """Train on your own pairs.

    For several processes: torchrun --nproc-per-node 2 -m depthsr.cli train ...
    """
    default = click.core.ParameterSource.DEFAULT
    given = {name: value for name, value in options.items() if context.get_parameter_source(name) is not default}
    config = train_config(**given)
    from depthsr.train import train as run

    run(config, resume=resume)


@app.command("eval")
@click.option("--data", required=True, metavar="FOLDER", help="Folder with rgb/, depth/ and optionally lr/.")
@click.option("--protocol", type=click.Choice(PROTOCOLS), required=True, help="How the depth is degraded and scored.")
@click.option("--model", multiple=True, help="Model to score; repeat for several. Default: edge.")
@click.option("--baselines/--no-baselines", default=True, help="Put the classical baselines beside the models.")
@click.option("--split", help="all, train, val or last100. Default: val if stated, or all.")
@click.option("--limit", type=int, help="At most so many frames, spread evenly.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the simulated degradation.")
@click.option(
    "--relative",
    type=click.Choice(RELATIVE_SOURCES),
    default="network",
    help="Relative depth of models that take it: of their own network, or simulated from the truth.",
)
@click.option(
    "--benchmark",
    help="Say that --data are the test frames of middlebury, lu, nyuv2, rgb-d-d, rgb-d-d-sensor or arkitscenes: adds "
    "the figures published for the same protocol.",
)
@click.option("--tell-downsampling", is_flag=True, help="Tell the methods how the protocol makes depth smaller.")
@click.option("--json", metavar="FILE", help="Write the scores, also of each frame.")
@click.option("--markdown", metavar="FILE", help="Write the table.")
@click.option("--sheet", metavar="FILE", help="Write a picture of the worst and the median frame.")
@click.option(
    "--robustness",
    metavar="FILE",
    help="Instead of the table, with --protocol ais: RMSE against noise, dropped bits and scale, drawn to this file "
    "(PNG, SVG or PDF; needs matplotlib).",
)
@device_option
@fp16_option
def evaluate(
    data: str,
    protocol: str,
    model: tuple[str, ...],
    baselines: bool,
    split: str | None,
    limit: int | None,
    seed: int,
    relative: str,
    benchmark: str | None,
    tell_downsampling: bool,
    json: str | None,
    markdown: str | None,
    sheet: str | None,
    robustness: str | None,
    device: str,
    fp16: bool,
) -> None:
    """Score models against ground truth.

    Prints a table with a row for each model or baseline, with bootstrap intervals; --json keeps every number.
    """
    from depthsr.io import check_picture_suffix, check_writable

    for path in (json, markdown, sheet, robustness):
        if path is not None:
            check_writable(path)
    if sheet is not None:
        check_picture_suffix(sheet)
    models = list(model) or None
    options: dict[str, typing.Any] = {
        "baselines": baselines,
        "split": split,
        "limit": limit,
        "seed": seed,
        "relative": relative,
    }
    where: dict[str, typing.Any] = {"device": device, "dtype": "fp16" if fp16 else "auto"}
    if robustness is not None:
        if protocol != "ais" or (benchmark, markdown, sheet) != (None, None, None) or tell_downsampling:
            raise UserError(
                "--robustness varies the challenge's law: give --protocol ais, and leave out --benchmark, --markdown, "
                "--sheet and --tell-downsampling."
            )
        from depthsr.report import write_json
        from depthsr.robustness import check_figure, draw, measure, table

        check_figure(robustness)
        curves = measure(data, models, **options, **where)
        click.echo(table(curves))
        if json is not None:
            write_json(curves, json)
        draw(curves, robustness)
        return

    from depthsr.evaluate import evaluate as run
    from depthsr.report import markdown_table, write_json, write_markdown

    options |= {"benchmark": benchmark, "tell_downsampling": tell_downsampling}
    result = run(data, protocol, models, **options, **where)
    click.echo(markdown_table(result))
    if json is not None:
        write_json(result, json)
    if markdown is not None:
        write_markdown(result, markdown)
    if sheet is not None:
        from depthsr.sheet import write_sheet

        write_sheet(sheet, result, data, **where)


@app.command()
@click.option("--depth", required=True, metavar=FRAMES, help="Good depth to spoil.")
@click.option("--out", required=True, type=Folder(), help="Folder for NAME.npy.")
@click.option("--protocol", type=click.Choice(PROTOCOLS), required=True, help="The law of the degradation.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="The same seed gives the same noise.")
@click.option("--depth-scale", type=float, help=DEPTH_SCALE_HELP.format(""))
@click.option("--rgb", metavar=FRAMES, help="Pictures of the depth, paired by name: what protocol matched looks at.")
def degrade(depth: str, out: str, protocol: str, seed: int, depth_scale: float | None, rgb: str | None) -> None:
    """Spoil good depth as a sensor would.

    Low resolution, quantisation, noise and holes by the law of --protocol, seeded.
    """
    from depthsr.degrade_files import degrade_files

    written = degrade_files(depth, out, protocol, seed=seed, depth_scale=depth_scale, rgb=rgb)
    unit = "levels" if protocol == "ais" else "metres, NaN = no value"
    click.echo(f"wrote {len(written)} depth map{'s' if len(written) != 1 else ''} to {out} (float32 {unit})")


@app.group()
def data() -> None:
    """Make data to train on."""


@data.command()
@click.option("--out", required=True, type=Folder(), help="Folder for rgb/NAME.png and depth/NAME.npy.")
@click.option("--scenes", required=True, type=int, help="How many scenes.")
@click.option("--frames", required=True, type=int, help="Frames of each scene, every one from another place.")
@click.option("--seed", default=0, help="Of the first scene; the others count on from it.")
@click.option("--size", default="640x480", metavar="WIDTHxHEIGHT", help="Of the pictures, pixels.")
@click.option("--threads", type=int, help="How many cores to use. Default: all.")
def render(out: str, scenes: int, frames: int, seed: int, size: str, threads: int | None) -> None:
    """Render synthetic scenes with exact depth.

    Rooms, halls, streets, gardens and yards, as a folder for --data of train and eval, split by scene. Needs Mitsuba:
    pip install '.[render]'. A run that was interrupted goes on where it was.
    """
    from depthsr.data.render.files import RenderOptions, render_folder

    width, height = parse_size(size)
    options = RenderOptions(scenes=scenes, frames=frames, seed=seed, width=width, height=height, threads=threads)
    rendered, kept = render_folder(out, options)
    click.echo(f"rendered {rendered} frames to {out}" + (f", kept {kept} that were there" if kept else ""))


@app.command()
@click.option("--out", required=True, metavar="FILE.onnx", help="The file to write.")
@click.option("--depth-size", required=True, metavar="WIDTHxHEIGHT", help="Of the depth that will come in, pixels.")
@click.option("--size", default="640x480", metavar="WIDTHxHEIGHT", help="Of the RGB and of the result, pixels.")
@click.option("--model", default="edge", help="edge, edge-s, base or the folder of a saved model.")
def export(out: str, depth_size: str, size: str, model: str) -> None:
    """Write a model as an ONNX file.

    Whole frames of one size, from uint8 RGB and depth in metres to depth in metres, for ONNX Runtime, OpenVINO and
    others: pip install '.[export]'.
    """
    width_height, low_width_height = parse_size(size), parse_size(depth_size)
    from depthsr.export import export_onnx

    inputs = export_onnx(model, out, width_height[::-1], low_width_height[::-1])
    click.echo(f"wrote {out} (ONNX; takes {', '.join(inputs)})")


@app.command()
def doctor() -> None:
    """Say what this installation can do."""
    from depthsr.doctor import report

    click.echo(report())


def main() -> None:
    """Console script. A user's mistake is one line on stderr and exit status 2; a fault of ours keeps its traceback."""
    logging.basicConfig(format="depthsr: %(message)s", level=logging.WARNING)
    logging.getLogger("depthsr").setLevel(logging.INFO)
    logging.getLogger("huggingface_hub").propagate = False  # it prints its lines itself
    try:
        app()
    except UserError as error:
        print(f"depthsr: {error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if error.name not in LEFT_OUT_WITHOUT_TORCH:
            raise
        if importlib.util.find_spec("torch") is None:
            remedy = (
                f"and this installation is without torch; {INSTALL_TORCH}, or use `depthsr infer` and `depthsr demo`, "
                "which need none."
            )
        else:
            remedy = f"which is missing; install it with `pip install {error.name}`."
        print(f"depthsr: this needs {error.name}, {remedy}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
