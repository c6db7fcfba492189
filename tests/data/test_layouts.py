"""Every dataset layout, written to disk from random values and read back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from depthsr.data.folder import scene_of_name
from depthsr.data.layouts import open_dataset
from depthsr.types import UserError

RGBD_GAME = Path(os.environ.get("DEPTHSR_SHARED", Path(__file__).parents[3] / "shared")) / "rgbd-game"


def write_rgb(path: Path, rgb_HW3: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), rgb_HW3[..., ::-1])


def write_npy(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def write_half_exr(path: Path, depth_HW: np.ndarray) -> None:
    openexr = pytest.importorskip("OpenEXR")
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    openexr.File(header, {"Y": depth_HW.astype(np.float16)}).write(str(path))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240617)


def random_frame(rng: np.random.Generator, height: int = 13, width: int = 17) -> tuple[np.ndarray, np.ndarray]:
    rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return rgb, rng.uniform(0.5, 90, (height, width)).astype(np.float32)


# --- plain folder of pairs ---------------------------------------------------------------------------------------


def test_pairs_read_metres_millimetres_and_lr(tmp_path: Path, rng: np.random.Generator) -> None:
    rgb, depth_m = random_frame(rng)
    depth_m[0, :4] = [np.inf, 65504, 0, -1]
    depth_m[1, 0] = np.nan
    levels = rng.normal(3, 1, (3, 4))
    write_rgb(tmp_path / "rgb/kitchen_1.png", rgb)
    write_npy(tmp_path / "depth/kitchen_1.npy", depth_m)
    write_npy(tmp_path / "lr/kitchen_1.npy", levels)
    millimetres = rng.integers(1, 65535, rgb.shape[:2]).astype(np.uint16)
    millimetres[2, :2] = [0, 65504]
    write_rgb(tmp_path / "rgb/hall_1.png", rgb)
    assert cv2.imwrite(str(tmp_path / "depth/hall_1.png"), millimetres)
    lr_millimetres = rng.integers(1, 65536, (3, 4)).astype(np.uint16)
    assert cv2.imwrite(str(tmp_path / "lr/hall_1.png"), lr_millimetres)

    dataset = open_dataset(tmp_path)
    assert dataset.names == ["hall_1", "kitchen_1"]
    frame = dataset.read("kitchen_1")
    np.testing.assert_array_equal(frame.rgb, rgb)
    expected = depth_m.copy()
    expected[0, :4] = [np.inf, np.inf, np.nan, np.nan]
    np.testing.assert_array_equal(frame.depth_m, expected)
    assert frame.depth_m.dtype == np.float32
    np.testing.assert_array_equal(frame.lr, levels)

    frame = dataset.read("hall_1")
    expected = millimetres / np.float32(1000)
    expected[2, 0] = np.nan
    np.testing.assert_allclose(frame.depth_m, expected, rtol=1e-6)
    assert frame.depth_m[2, 1] == pytest.approx(65.504)
    np.testing.assert_array_equal(frame.lr, lr_millimetres)


def test_pairs_integer_npy_is_millimetres(tmp_path: Path, rng: np.random.Generator) -> None:
    rgb, _ = random_frame(rng)
    depth = rng.integers(1, 30000, rgb.shape[:2]).astype(np.uint16)
    write_rgb(tmp_path / "rgb/a.png", rgb)
    write_npy(tmp_path / "depth/a.npy", depth)
    frame = open_dataset(tmp_path).read("a")
    np.testing.assert_allclose(frame.depth_m, depth / 1000, rtol=1e-6)
    assert frame.lr is None


def test_pairs_exr_depth_keeps_the_sky(tmp_path: Path, rng: np.random.Generator) -> None:
    rgb, depth_m = random_frame(rng)
    depth_m[3, 4], depth_m[3, 5] = np.inf, 65504
    write_rgb(tmp_path / "rgb/a.png", rgb)
    write_half_exr(tmp_path / "depth/a.exr", depth_m)
    read = open_dataset(tmp_path).read("a").depth_m
    assert np.isposinf(read[3, 4:6]).all()
    near = np.isfinite(depth_m) & (depth_m < 65504)
    np.testing.assert_array_equal(read[near], depth_m[near].astype(np.float16).astype(np.float32))


@pytest.mark.parametrize(
    ("name", "scene"),
    [("kitchen_0001", "kitchen"), ("a_b_7", "a_b"), ("0007", ""), ("seq12", "seq"), ("kitchen/0001", "kitchen"),
     ("house/kitchen/left_1", "house/kitchen"), ("lamp", "lamp")],
)  # fmt: skip
def test_scene_of_name(name: str, scene: str) -> None:
    assert scene_of_name(name) == scene


def pairs_of_names(folder: Path, names: list[str], rng: np.random.Generator) -> None:
    for name in names:
        rgb, depth_m = random_frame(rng, 2, 3)
        write_rgb(folder / f"rgb/{name}.png", rgb)
        write_npy(folder / f"depth/{name}.npy", depth_m)


def test_split_by_scene_covers_everything_once(tmp_path: Path, rng: np.random.Generator) -> None:
    names = [f"{scene}_{i}" for scene in "abcdefghijklmnopqrst" for i in range(3)]
    pairs_of_names(tmp_path, names, rng)
    dataset = open_dataset(tmp_path)
    train, val = dataset.split("train"), dataset.split("val")
    assert sorted(train + val) == sorted(names)
    assert len(val) == 6  # two of twenty scenes
    assert not {dataset.scene(name) for name in train} & {dataset.scene(name) for name in val}
    assert open_dataset(tmp_path).split("val") == val
    with pytest.raises(UserError, match="test"):
        dataset.split("test")


def test_split_is_the_same_on_every_machine(tmp_path: Path, rng: np.random.Generator) -> None:
    """The scene whose sha256 (as sha256sum prints it) comes first validates."""
    pairs_of_names(tmp_path, ["a_1", "b_1", "c_1", "d_1", "e_1"], rng)
    # d = 18ac..., c = 2e7d..., b = 3e23..., e = 3f79..., a = ca97...
    assert open_dataset(tmp_path).split("val") == ["d_1"]


def test_single_scene_cannot_be_split(tmp_path: Path, rng: np.random.Generator) -> None:
    pairs_of_names(tmp_path, ["0001", "0002", "0003"], rng)
    dataset = open_dataset(tmp_path)
    with pytest.raises(UserError, match="single scene"):
        dataset.split("val")
    assert dataset.last(2) == ["0002", "0003"]
    with pytest.raises(UserError, match="3 frames"):
        dataset.last(3)


def test_scenes_json(tmp_path: Path, rng: np.random.Generator) -> None:
    pairs_of_names(tmp_path, ["0001", "0002", "0003"], rng)
    (tmp_path / "scenes.json").write_text(json.dumps({"0001": "one", "0002": "two", "0003": "one"}))
    dataset = open_dataset(tmp_path)
    assert [dataset.scene(name) for name in dataset.names] == ["one", "two", "one"]
    assert sorted(map(len, (dataset.split("train"), dataset.split("val")))) == [1, 2]
    (tmp_path / "scenes.json").write_text(json.dumps({"0001": "one"}))
    with pytest.raises(UserError, match="0002"):
        open_dataset(tmp_path)
    for damaged in (b"{", b'{"0001": "k\xfcche"}'):
        (tmp_path / "scenes.json").write_bytes(damaged)
        with pytest.raises(UserError, match=r"scenes\.json is not readable JSON"):
            open_dataset(tmp_path)


def test_pairs_mistakes_name_the_file(tmp_path: Path, rng: np.random.Generator) -> None:
    with pytest.raises(UserError, match="no folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no known layout"):
        open_dataset(tmp_path)
    pairs_of_names(tmp_path, ["a_1", "b_1"], rng)
    with pytest.raises(UserError, match="unit_m"):
        open_dataset(tmp_path, unit_m=2.0)
    write_npy(tmp_path / "depth/a_1.npy", rng.uniform(1, 2, (5, 5)))
    with pytest.raises(UserError, match=r"a_1\.npy is 5x5"):
        open_dataset(tmp_path).read("a_1")
    (tmp_path / "depth/a_1.npy").write_bytes(b"not an array")
    with pytest.raises(UserError, match=r"a_1\.npy"):
        open_dataset(tmp_path).read("a_1")
    write_npy(tmp_path / "depth/a_1.npy", rng.uniform(1, 2, (2, 3, 4)))
    with pytest.raises(UserError, match=r"a_1\.npy has 4 channels"):
        open_dataset(tmp_path).read("a_1")
    (tmp_path / "depth/a_1.npy").unlink()
    with pytest.raises(UserError, match=r"a_1\.png has no depth"):
        open_dataset(tmp_path)
    write_npy(tmp_path / "depth/a_1.npy", rng.uniform(1, 2, (2, 3)))
    write_rgb(tmp_path / "rgb/a_1.jpg", rng.integers(0, 256, (2, 3, 3), dtype=np.uint8))
    with pytest.raises(UserError, match="two files"):
        open_dataset(tmp_path)
    (tmp_path / "rgb/a_1.jpg").unlink()
    write_npy(tmp_path / "lr/a_1.npy", rng.uniform(1, 2, (1, 2)))
    with pytest.raises(UserError, match="b_1"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("suffix", [".tif", ".BMP", ".jpeg"])
def test_pairs_of_every_format_that_is_read(tmp_path: Path, rng: np.random.Generator, suffix: str) -> None:
    """As `depthsr infer` reads them; what the system hides is no frame."""
    pairs_of_names(tmp_path, ["a_1"], rng)
    rgb, depth_m = random_frame(rng)
    write_rgb(tmp_path / f"rgb/b_1{suffix}", rgb)
    for part in ("depth", "lr"):
        (tmp_path / part).mkdir(exist_ok=True)
        assert cv2.imwrite(str(tmp_path / part / "b_1.tiff"), depth_m)
    write_npy(tmp_path / "lr/a_1.npy", depth_m)
    (tmp_path / "rgb/.b_2.png").touch()
    (tmp_path / "depth/._b_1.tiff").touch()
    dataset = open_dataset(tmp_path)
    assert dataset.names == ["a_1", "b_1"]
    frame = dataset.read("b_1")
    np.testing.assert_array_equal(frame.depth_m, depth_m)
    np.testing.assert_array_equal(frame.lr, depth_m)
    if suffix != ".jpeg":
        np.testing.assert_array_equal(frame.rgb, rgb)


@pytest.mark.parametrize("part", ["depth", "lr"])
def test_depth_without_its_picture_is_not_passed_over(tmp_path: Path, rng: np.random.Generator, part: str) -> None:
    pairs_of_names(tmp_path, ["a_1", "b_1"], rng)
    for name in ("a_1", "b_1", "c_1"):
        write_npy(tmp_path / part / f"{name}.npy", rng.uniform(1, 2, (2, 3)))
    with pytest.raises(UserError, match=rf"{part}/c_1\.npy has no RGB; add .*rgb/c_1\.png or \.jpg"):
        open_dataset(tmp_path)


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "rgb").mkdir()
    (tmp_path / "depth").mkdir()
    with pytest.raises(UserError, match="no frames"):
        open_dataset(tmp_path)


# --- MVS-Synth ---------------------------------------------------------------------------------------------------


def mvs_synth(root: Path, rng: np.random.Generator, sequences: int = 3, frames: int = 2) -> dict[str, np.ndarray]:
    depths = {}
    for sequence in range(sequences):
        for frame in range(frames):
            rgb, depth = random_frame(rng)
            depth[0, :2] = [np.inf, 65504]
            name = f"{sequence:04d}/{frame:04d}"
            write_rgb(root / f"{sequence:04d}/images/{frame:04d}.png", rgb)
            write_half_exr(root / f"{sequence:04d}/depths/{frame:04d}.exr", depth)
            pose = root / f"{sequence:04d}/poses/{frame:04d}.json"
            pose.parent.mkdir(exist_ok=True)
            pose.write_text(json.dumps({"f_x": 1158.0, "f_y": 1158.0, "c_x": 8.5, "c_y": 6.5}))
            depths[name] = depth
    (root / "num_images.json").write_text(json.dumps([frames] * sequences))
    return depths


@pytest.mark.parametrize("unit_m", [1.0, 0.25])
def test_mvs_synth(tmp_path: Path, rng: np.random.Generator, unit_m: float) -> None:
    depths = mvs_synth(tmp_path / "GTAV_540", rng)
    for folder in (tmp_path, tmp_path / "GTAV_540"):
        dataset = open_dataset(folder, unit_m=unit_m)
        assert dataset.names == ["0000/0000", "0000/0001", "0001/0000", "0001/0001", "0002/0000", "0002/0001"]
        assert [dataset.scene(name) for name in dataset.names[1:4]] == ["0000", "0001", "0001"]
        for name in dataset.names:
            read = dataset.read(name).depth_m
            assert np.isposinf(read[0, :2]).all()
            np.testing.assert_array_equal(read[1:], depths[name][1:].astype(np.float16).astype(np.float32) * unit_m)
        assert len(dataset.split("val")) == 2
        assert dataset.last(3) == ["0001/0001", "0002/0000", "0002/0001"]


def test_mvs_synth_mistakes(tmp_path: Path, rng: np.random.Generator) -> None:
    mvs_synth(tmp_path / "GTAV_540", rng)
    with pytest.raises(UserError, match="unit"):
        open_dataset(tmp_path, unit_m=0)
    (tmp_path / "GTAV_540/0001/depths/0001.exr").unlink()
    with pytest.raises(UserError, match=r"0001\.png has no depth"):
        open_dataset(tmp_path)
    (tmp_path / "GTAV_1080").mkdir()
    with pytest.raises(UserError, match="GTAV_540, GTAV_1080"):
        open_dataset(tmp_path)


# --- AIS challenge -----------------------------------------------------------------------------------------------


def challenge(folder: Path, rng: np.random.Generator, frames: int = 12) -> dict[str, np.ndarray]:
    depths = {}
    for i in range(frames):
        rgb, depth = random_frame(rng, 16, 24)
        depth = depth.astype(np.float16)
        depth[0, 0] = 65504
        write_rgb(folder / f"RGB_train_HR/{i:04d}.png", rgb)
        write_npy(folder / f"AI4S_train_gt/{i:04d}.npy", depth)
        write_npy(folder / f"AI4S_train_inp/{i:04d}.npy", rng.normal(2, 1, (2, 3)))
        write_rgb(folder / f"RGB_valid_HR/{i:04d}.png", rgb)  # inputs alone: no ground truth was handed out
        write_npy(folder / f"AI4S_val_inp/{i:04d}.npy", rng.normal(2, 1, (2, 3)))
        depths[f"train/{i:04d}"] = depth
    return depths


def test_challenge(tmp_path: Path, rng: np.random.Generator) -> None:
    depths = challenge(tmp_path, rng)
    dataset = open_dataset(tmp_path)
    assert dataset.names == sorted(depths)
    frame = dataset.read("train/0003")
    assert np.isposinf(frame.depth_m[0, 0])
    np.testing.assert_array_equal(frame.depth_m[1:], depths["train/0003"][1:].astype(np.float32))
    np.testing.assert_array_equal(frame.lr, np.load(tmp_path / "AI4S_train_inp/0003.npy"))
    assert dataset.split("val") == ["train/0011"]  # a tenth, for want of ground truth of the second half
    assert dataset.split("train") == sorted(depths)[:11]

    write_npy(tmp_path / "AI4S_val_gt/0005.npy", depths["train/0005"])
    dataset = open_dataset(tmp_path)
    assert dataset.split("val") == ["val/0005"]
    assert dataset.split("train") == sorted(depths)
    (tmp_path / "RGB_train_HR/0001.png").unlink()
    with pytest.raises(UserError, match=r"0001\.npy has no RGB"):
        open_dataset(tmp_path)


# --- rgbd-game ---------------------------------------------------------------------------------------------------


def rgbd_game(folder: Path, codes: dict[str, np.ndarray], split: dict, rng: np.random.Generator) -> None:
    for name, code in codes.items():
        write_rgb(folder / f"rgb/{name}.webp", rng.integers(0, 256, (*code.shape, 3), dtype=np.uint8))
        (folder / "depth").mkdir(exist_ok=True)
        assert cv2.imwrite(str(folder / f"depth/{name}.png"), code)
    depth = {"encoding": "log16", "z0_m": 0.25, "steps_per_e": 2500.0, "zero": "sky"}
    (folder / "dataset.json").write_text(json.dumps({"name": "rgbd-game", "depth": depth, "split": split}))


def test_rgbd_game(tmp_path: Path, rng: np.random.Generator) -> None:
    code = rng.integers(2, 20000, (9, 11)).astype(np.uint16)
    code[0, :3] = [0, 1, 2501]
    split = {"train": ["long_track_0000", "abyss_0001"], "val": ["hacienda_0002"]}
    names = ["abyss_0001", "hacienda_0002", "long_track_0000", "left_out_0000"]
    rgbd_game(tmp_path, dict.fromkeys(names, code), split, rng)
    dataset = open_dataset(tmp_path)
    assert dataset.names == ["long_track_0000", "abyss_0001", "hacienda_0002"]
    assert dataset.has_own_split
    assert dataset.split("val") == ["hacienda_0002"]
    assert dataset.scene("long_track_0000") == "long_track"
    depth_m = dataset.read("hacienda_0002").depth_m
    assert np.isposinf(depth_m[0, 0])
    np.testing.assert_allclose(depth_m[0, 1:3], [0.25, 0.25 * np.e], rtol=1e-6)
    np.testing.assert_allclose(depth_m[1:], 0.25 * np.exp((code[1:].astype(float) - 1) / 2500), rtol=1e-6)


def test_rgbd_game_mistakes(tmp_path: Path, rng: np.random.Generator) -> None:
    eight_bit = rng.integers(1, 99, (4, 4)).astype(np.uint8)
    rgbd_game(tmp_path, {"a_0": eight_bit}, {"train": ["a_0", "b_0"], "val": []}, rng)
    dataset = open_dataset(tmp_path)
    with pytest.raises(UserError, match=r"a_0\.png"):
        dataset.read("a_0")
    with pytest.raises(UserError, match=r"b_0"):
        dataset.read("b_0")
    for damaged in (b"{}", b"{", b'{"name": "\xfc"}', b"[]"):
        (tmp_path / "dataset.json").write_bytes(damaged)
        with pytest.raises(UserError, match=r"dataset\.json does not describe rgbd-game"):
            open_dataset(tmp_path)


@pytest.mark.skipif(not RGBD_GAME.is_dir(), reason="rgbd-game is not here")
def test_the_real_rgbd_game() -> None:
    dataset = open_dataset(RGBD_GAME)
    train, val = dataset.split("train"), dataset.split("val")
    assert (len(train), len(val)) == (589, 70)
    scenes = {part: {dataset.scene(name) for name in dataset.split(part)} for part in ("train", "val")}
    assert (len(scenes["train"]), len(scenes["val"])) == (20, 5)
    assert not scenes["train"] & scenes["val"]
    medians = []
    for name in val[::14]:
        frame = dataset.read(name)
        assert frame.rgb.shape == (480, 640, 3)
        assert not np.isnan(frame.depth_m).any()
        medians.append(np.median(frame.depth_m[np.isfinite(frame.depth_m)]))
    assert 2 < np.median(medians) < 60  # the README's median depth is 11 m
