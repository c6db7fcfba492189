"""The command line: what a command writes, and that it stays instant and in step with what it calls."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import cv2
import numpy as np
import pytest
from click.testing import CliRunner

import depthsr
from depthsr import cli
from depthsr.cli_options import TRAIN_HELP, parse_size
from depthsr.config import EDGE, TrainConfig, train_config
from depthsr.data.degrade import degrade
from depthsr.infer import load
from depthsr.io import DEPTH_FORMATS, read_depth, read_rgb, write_depth, write_picture
from depthsr.types import UserError

RANDOM = np.random.default_rng(0)


def run(*arguments: str) -> str:
    """Runs the command line; returns what it printed to stdout."""
    result = CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def frames(tmp_path, monkeypatch) -> list[str]:
    """rgb/NAME.jpg and depth/NAME.png of three frames, 64×48 and 16×12; the working directory. Returns the names."""
    monkeypatch.chdir(tmp_path)
    names = ["a", "b", "c"]
    for name in names:
        write_picture(f"rgb/{name}.jpg", RANDOM.integers(0, 256, (48, 64, 3), np.uint8))
        write_depth(f"depth/{name}.png", RANDOM.uniform(1, 3, (12, 16)))
    return names


def test_infer_writes_what_the_predictor_gives(frames):
    said = run("infer", "--rgb", "rgb", "--depth", "depth", "--out", "out", "--model", "guided_filter")
    assert "wrote 3 depth maps in out (png: 16-bit, millimetres" in said
    assert sorted(os.listdir("out")) == sorted(f"{n}{end}" for n in frames for end in (".png", ".vis.png"))
    for name in frames:
        expected_m = load("guided_filter")(read_rgb(f"rgb/{name}.jpg"), read_depth(f"depth/{name}.png")).depth_m
        stored = cv2.imread(f"out/{name}.png", cv2.IMREAD_UNCHANGED)
        assert stored.dtype == np.uint16
        np.testing.assert_allclose(stored / 1000, expected_m, atol=5.1e-4)


@pytest.mark.parametrize("suffix", DEPTH_FORMATS)
def test_infer_in_every_format_for_one_file(frames, suffix):
    arguments = ("infer", "--rgb", "rgb/a.jpg", "--depth", "depth/b.png", "--out", "out", "--model", "bilinear")
    said = run(*arguments, "--format", suffix.upper() if suffix == "exr" else suffix, "--no-picture")
    assert f"wrote out/a.{suffix}" in said
    assert os.listdir("out") == [f"a.{suffix}"]
    expected_m = load("bilinear")(read_rgb("rgb/a.jpg"), read_depth("depth/b.png")).depth_m
    np.testing.assert_allclose(read_depth(f"out/a.{suffix}"), expected_m, atol=5.1e-4 if suffix == "png" else 0)


def test_infer_writes_what_else_the_predictor_gives(frames, save_random_model):
    folder = save_random_model(dataclasses.replace(EDGE, widths=(8, 8, 8, 8)))
    depth_m = read_depth("depth/a.png")
    depth_m[:, 5:] = np.nan
    write_depth("holes.exr", depth_m)
    also = ("--also", "error", "--also", "confidence", "--also", "valid", "--format", "exr", "--no-picture")
    said = run("infer", "--rgb", "rgb/a.jpg", "--depth", "holes.exr", "--out", "out", "--model", folder, *also)
    assert said == "wrote out/a.exr (exr: float32, metres), *.error.exr, *.confidence.png, *.valid.png\n"
    assert sorted(os.listdir("out")) == ["a.confidence.png", "a.error.exr", "a.exr", "a.valid.png"]
    expected = load(folder)(read_rgb("rgb/a.jpg"), depth_m)
    assert 0 < expected.valid.mean() < 1
    np.testing.assert_array_equal(read_depth("out/a.error.exr"), expected.error_m)
    confidence, valid = (cv2.imread(f"out/a.{kind}.png", cv2.IMREAD_UNCHANGED) for kind in ("confidence", "valid"))
    assert confidence.dtype == valid.dtype == np.uint8
    np.testing.assert_allclose(confidence, 255 * expected.confidence, atol=0.5001)
    np.testing.assert_array_equal(valid, np.where(expected.valid, 255, 0))


@pytest.mark.parametrize(("columns", "said"), [(4, True), (12, False)])
def test_infer_says_where_little_was_measured(frames, caplog, columns, said):
    depth_m = read_depth("depth/a.png")
    depth_m[:, columns:] = np.nan
    write_depth("holes.exr", depth_m)
    run("infer", "--rgb", "rgb/a.jpg", "--depth", "holes.exr", "--out", "out", "--model", "bilinear")
    share = 100 * load("bilinear")(read_rgb("rgb/a.jpg"), depth_m).valid.mean()
    expected = [f"rgb/a.jpg: only {share:.0f} % of the frame is near a measurement (--also valid says where)."]
    assert [record.message for record in caplog.records] == expected * said


def test_infer_takes_other_units(frames):
    """0.1 mm units with --depth-scale 0.0001 is the same depth as 1 mm units."""
    tenths = cv2.imread("depth/a.png", cv2.IMREAD_UNCHANGED) * 10
    cv2.imwrite("tenths.png", tenths)
    common = ("infer", "--rgb", "rgb/a.jpg", "--model", "bilinear", "--format", "npy", "--no-picture")
    run(*common, "--depth", "tenths.png", "--depth-scale", "0.0001", "--out", "tenths")
    run(*common, "--depth", "depth/a.png", "--out", "whole")
    np.testing.assert_allclose(np.load("tenths/a.npy"), np.load("whole/a.npy"), rtol=1e-6)


def test_infer_reads_the_challenges_levels_and_writes_metres_as_npy(frames):
    depth_m = np.where(RANDOM.random((96, 128)) < 0.1, np.inf, RANDOM.uniform(2, 400, (96, 128)))
    levels = degrade(depth_m, "ais", seed=3).raw
    np.save("levels.npy", levels)
    run(
        "infer",
        "--rgb",
        "rgb/a.jpg",
        "--depth",
        "levels.npy",
        "--out",
        "out",
        "--protocol",
        "ais",
        "--model",
        "nearest",
    )
    result_m = np.load("out/a.npy")
    expected_m = np.minimum(np.rint(levels) * 16 + 8, 300)
    np.testing.assert_allclose(result_m, np.kron(expected_m, np.ones((4, 4))), rtol=1e-6)
    picture = read_rgb("out/a.vis.png")
    assert picture.shape[1] == 3 * 64
    assert (picture[-48:, 64:].max(axis=2) > 0).all()


def test_degrade_writes_what_the_law_gives_whatever_lies_beside(frames):
    Path("truth").mkdir()
    truth_m = {name: RANDOM.uniform(1, 80, (48, 64)).astype(np.float32) for name in frames}
    truth_m["b"][:5] = np.inf
    for name, depth_m in truth_m.items():
        np.save(f"truth/{name}.npy", depth_m)
    for protocol in ("ais", "gdsr-x4-noisy", "tof"):
        said = run("degrade", "--depth", "truth", "--out", protocol, "--protocol", protocol, "--seed", "7")
        assert f"wrote 3 depth maps to {protocol}" in said
        for i, name in enumerate(frames):
            np.testing.assert_array_equal(
                np.load(f"{protocol}/{name}.npy"), degrade(truth_m[name], protocol, seed=7 + i).raw
            )


def test_degrade_matches_pictures_where_they_are_given(frames):
    rgb = RANDOM.integers(0, 256, (48, 160, 3), np.uint8)
    depth_m = np.tile(np.linspace(9, 10, 160, dtype=np.float32), (48, 1))
    write_picture("picture/b.png", rgb)
    np.save("b.npy", depth_m)
    command = ["degrade", "--depth", "b.npy", "--out", "matched", "--seed", "7", "--protocol"]
    run(*command, "matched", "--rgb", "picture/b.png")
    expected_m = degrade(depth_m, "matched", seed=7, rgb_HW3=rgb).raw
    assert np.isfinite(expected_m).mean() > 0.3
    np.testing.assert_array_equal(np.load("matched/b.npy"), expected_m)
    for said, options in (
        ("needs the RGB too", ["matched"]),
        ("does not look at RGB", ["tof", "--rgb", "picture/b.png"]),
        ("differ in size", ["matched", "--rgb", f"rgb/{frames[0]}.jpg"]),
    ):
        with pytest.raises(UserError, match=said):
            cli.app(command + options, standalone_mode=False)


def test_degrade_never_replaces_its_input(frames, capfd, monkeypatch):
    np.save("a.npy", np.ones((48, 64), np.float32))
    monkeypatch.setattr(sys, "argv", ["depthsr", "degrade", "--depth", "a.npy", "--out", ".", "--protocol", "tof"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "a.npy would be overwritten" in capfd.readouterr().err
    assert np.load("a.npy").shape == (48, 64)


def test_eval_scores_a_folder_and_writes_the_same_numbers_as_json(frames):
    for name in frames:
        np.save(f"truth_{name}.npy", RANDOM.uniform(1, 30, (48, 64)).astype(np.float32))
        Path("data/rgb").mkdir(parents=True, exist_ok=True)
        Path("data/depth").mkdir(exist_ok=True)
        Path(f"rgb/{name}.jpg").rename(f"data/rgb/{name}.jpg")
        Path(f"truth_{name}.npy").rename(f"data/depth/{name}.npy")
    said = run(
        *("eval", "--data", "data", "--protocol", "gdsr-x4", "--json", "out/scores.json"),
        *("--model", "bicubic", "--model", "nearest", "--no-baselines", "--split", "all"),
    )
    scores = json.loads(Path("out/scores.json").read_text())
    assert (scores["protocol"], scores["frames"]) == ("gdsr-x4", 3)
    assert [row["method"] for row in scores["rows"]] == ["bicubic", "nearest"]
    for row in scores["rows"]:
        errors = []
        for i, name in enumerate(frames):
            truth_m = np.load(f"data/depth/{name}.npy")
            low = degrade(truth_m, "gdsr-x4", seed=i)
            result_m = load(row["method"])(read_rgb(f"data/rgb/{name}.jpg"), low.depth_m).depth_m
            errors.append(np.sqrt(np.mean((result_m - truth_m) ** 2)))
        assert row["rmse"] == pytest.approx(np.mean(errors), rel=1e-5)
        assert f"{row['rmse']:.3f}" in said
        assert f"{row['mae']:.3f}" in said


def test_eval_writes_what_it_is_asked_for(frames, capfd, monkeypatch):
    """The printed table is the written one; curves and figure of the robustness; and the two do not mix."""
    Path("depth").rename("poor")
    for name in frames:
        Path("depth").mkdir(exist_ok=True)
        np.save(f"depth/{name}.npy", RANDOM.uniform(1, 60, (48, 64)).astype(np.float32))
    common = ("eval", "--data", ".", "--model", "nearest", "--no-baselines", "--limit", "2")
    said = run(*common, "--protocol", "gdsr-x4", "--benchmark", "nyuv2", "--markdown", "a.md", "--sheet", "a.png")
    assert Path("a.md").read_text() == said
    assert "SGNet (published)" in said
    assert read_rgb("a.png").std() > 10

    pytest.importorskip("matplotlib")
    said = run(*common, "--protocol", "ais", "--robustness", "noise.png", "--json", "noise.json")
    curves = json.loads(Path("noise.json").read_text())
    assert {sweep["method"] for sweep in curves["sweeps"]} == {"nearest"}
    assert f"| {curves['sweeps'][0]['rmse'][0]:.2f} |" in said
    assert cv2.imread("noise.png").std() > 10
    for wrong in (("--protocol", "tof"), ("--protocol", "ais", "--sheet", "b.png")):
        monkeypatch.setattr(sys, "argv", ["depthsr", *common, *wrong, "--robustness", "b.png"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 2
        assert "--robustness varies the challenge's law" in capfd.readouterr().err
    assert not Path("b.png").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--sheet", "worst"], "cannot write a picture as worst"),
        (["--sheet", "worst.foo"], "cannot write a picture as worst.foo"),
        (["--json", "rgb"], "cannot write rgb: it is a folder"),
        (["--markdown", "rgb/a.jpg/table.md"], "cannot write rgb/a.jpg/table.md"),
        (["--robustness", "rgb/a.jpg/figure.png"], "cannot write rgb/a.jpg/figure.png"),
    ],
)
def test_eval_refuses_what_it_could_not_write_before_it_measures(frames, monkeypatch, options, sentence):
    def measured(*_, **__):
        raise AssertionError("measured")

    monkeypatch.setattr("depthsr.evaluate.evaluate", measured)
    monkeypatch.setattr("depthsr.robustness.measure", measured)
    with pytest.raises(UserError, match=sentence):
        cli.app(["eval", "--data", ".", "--protocol", "ais", *options], standalone_mode=False)


def test_eval_prints_its_table_before_it_writes(frames, monkeypatch, capfd):
    """What fails then costs the file, not the numbers."""
    Path("depth").rename("poor")
    for name in frames:
        write_depth(f"depth/{name}.npy", RANDOM.uniform(1, 60, (48, 64)))

    def full(*_):
        raise UserError("the disk is full.")

    monkeypatch.setattr("depthsr.report.write_json", full)
    options = ["--model", "nearest", "--no-baselines", "--protocol", "gdsr-x4", "--json", "a.json"]
    with pytest.raises(UserError, match="disk is full"):
        cli.app(["eval", "--data", ".", *options], standalone_mode=False)
    assert "| nearest | " in capfd.readouterr().out


def test_size_is_width_by_height():
    assert parse_size("640x480") == (640, 480)


def test_export_takes_sizes_as_width_by_height(monkeypatch):
    seen = []
    monkeypatch.setattr("depthsr.export.export_onnx", lambda *arguments: seen.append(arguments) or ("rgb", "depth_m"))
    said = run("export", "--model", "edge-s", "--size", "320x200", "--depth-size", "40x25", "--out", "small.onnx")
    assert seen == [("edge-s", "small.onnx", (200, 320), (25, 40))]
    assert said == "wrote small.onnx (ONNX; takes rgb, depth_m)\n"


def test_train_mirrors_the_configuration(monkeypatch):
    """Every field of TrainConfig is an option with the same default, and arrives in the field of its name."""
    options = {option.name: option for option in cli.train.params}
    fields = {field.name: field for field in dataclasses.fields(TrainConfig)}
    assert set(options) - {"resume"} == set(fields) == set(TRAIN_HELP)
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING
        assert options[name].required == required
        assert required or options[name].default == field.default, name

    seen = {}
    monkeypatch.setattr("depthsr.train.train", lambda config, resume: seen.update(config=config, resume=resume))
    run("train", "--data", "d", "--out", "o")
    assert seen == {"config": TrainConfig(data="d", out="o"), "resume": False}
    run(
        "train", "--data", "d", "--out", "o", "--resume", "--steps", "7", "--learning-rate", "0.5",
        "--no-channels-last", "--extra-data", "e", "--extra-data", "f",
    )  # fmt: skip
    options = {"steps": 7, "learning_rate": 0.5, "channels_last": False, "extra_data": ("e", "f")}
    assert seen["config"] == TrainConfig(data="d", out="o", **options)
    assert seen["resume"] is True
    # the values of --preset paper give way to options given, even to ones that are the defaults
    run("train", "--data", "d", "--out", "o", "--preset", "paper", "--batch", str(TrainConfig.batch))
    assert seen["config"] == train_config(data="d", out="o", preset="paper", batch=TrainConfig.batch)
    assert (seen["config"].batch, seen["config"].learning_rate) == (TrainConfig.batch, 2e-4)


def test_doctor_and_version_speak():
    said = run("doctor")
    for op in ("layer_norm_2d", "simple_gate", "adain", "sobel_l1_loss"):
        assert op in said
    assert run("--version") == f"depthsr {depthsr.__version__}\n"


def test_help_and_version_load_nothing_heavy():
    """In a fresh interpreter: the help of every command, without torch, transformers, OpenCV or numpy."""

    def words_of(group: click.Group) -> list[list[str]]:
        found: list[list[str]] = [[]]
        for name, command in group.commands.items():
            found += [[name, *words] for words in (words_of(command) if isinstance(command, click.Group) else [[]])]
        return found

    commands = words_of(cli.app)
    assert {"infer", "export", "data render"} < {" ".join(words) for words in commands}
    program = (
        "import sys, contextlib\n"
        "from depthsr import cli\n"
        f"for words in {commands}:\n"
        "    sys.argv = ['depthsr', *words, '--help']\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        cli.main()\n"
        "print(sorted({'torch', 'transformers', 'cv2', 'numpy', 'rich'} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    helps = done.stdout.split("Usage: ")[1:]
    for words, shown in zip(commands, helps, strict=True):
        assert shown.startswith(" ".join(["depthsr", *words, "["]))


def test_a_dependency_that_is_gone_is_named(monkeypatch, capsys):
    """With torch at hand the installation is not one without torch: only the one package is missing."""

    def needs_tensorboard():
        raise ModuleNotFoundError("No module named 'tensorboard'", name="tensorboard")

    monkeypatch.setattr(cli, "app", needs_tensorboard)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    expected = "depthsr: this needs tensorboard, which is missing; install it with `pip install tensorboard`.\n"
    assert capsys.readouterr().err == expected


def test_a_mistake_in_the_shell_is_one_line_and_status_2(tmp_path):
    """As a user meets it: a process of its own, no traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "depthsr.cli", "infer", "--rgb", "gone.png", "--depth", "gone.npy", "--out", "out"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "depthsr: --rgb gone.png does not exist; check the path.\n"
    assert list(tmp_path.iterdir()) == []


def test_the_module_is_the_command(tmp_path):
    """`python -m depthsr`, from anywhere; -h is --help, of every command."""
    run_module = [sys.executable, "-m", "depthsr"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(depthsr.__file__).parents[1]), *sys.path])}
    done = subprocess.run(
        [*run_module, "-h"], capture_output=True, text=True, cwd=tmp_path, env=environment, check=True
    )
    assert done.stdout.startswith("Usage: python -m depthsr [OPTIONS] COMMAND")
    assert run("infer", "-h") == run("infer", "--help")


def test_typing_it_wrong_is_status_2_too():
    for arguments in (["nonsense"], ["infer"], ["infer", "--rgb"], ["eval", "--data", "d", "--protocol", "nyu"]):
        assert CliRunner().invoke(cli.app, arguments).exit_code == 2
    for arguments in (["eval", "--data", "d"], ["degrade", "--depth", "d", "--out", "o"]):
        done = CliRunner().invoke(cli.app, [*arguments, "--protocol", "tof", "--seed", "-1"])
        assert (done.exit_code, "-1 is not in the range x>=0" in done.output) == (2, True)
