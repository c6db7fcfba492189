"""Scenes from seeds, Mitsuba's depth and light against ray/triangle geometry and Lambert's law, the folder."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from depthsr import cli
from depthsr.data.layouts import open_dataset
from depthsr.data.render.camera import FIELD_OF_VIEW_DEG, Camera, looking, random_camera
from depthsr.data.render.files import RenderOptions, random_scene, render_folder
from depthsr.data.render.light import LIGHTS
from depthsr.data.render.renderer import Renderer
from depthsr.data.render.scene import Lamp, Material, Scene, Sky, Sun, Surface
from depthsr.data.render.shapes import box, moved, quad, texture_coordinates, tube
from depthsr.types import UserError

#: Seeds of a scene of each kind.
KINDS = {0: "garden", 1: "yard", 2: "hall", 5: "street", 8: "room"}

BLACK_SKY = Sky(np.zeros(3), np.zeros(3), np.zeros((4, 4)))
GREY = Material(np.full((4, 4, 3), [0.2, 0.4, 0.6], np.float32))
OVERHEAD = Sun(np.array([0, 0, -1.0]), np.array([1, 2, 3.0]))


def scene_of(*quads_m: np.ndarray, lights: list[Sun | Lamp] | None = None) -> Scene:
    surfaces = [Surface(quads, GREY) for quads in quads_m]
    somewhere = np.zeros(3), np.ones(3)
    return Scene("test", surfaces, lights or [OVERHEAD], BLACK_SKY, somewhere, somewhere, np.zeros((0, 3)))


def depth_by_geometry(quads_m: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Möller and Trumbore's intersection of each pixel's ray with each triangle.

    Returns depth (inf = none); how fast the ray comes nearer the surface it meets, metres a metre of depth; and whether
    it passes so near an edge that rounding decides what it sees.
    """
    corners = np.concatenate([quads_m[:, [0, 1, 2]], quads_m[:, [0, 2, 3]]])
    a, e1, e2 = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    rays = camera.rays()[:, :, None]
    across = np.cross(rays, e2)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1 / np.einsum("hwtc,tc->hwt", across, e1)
        offset = camera.position_m - a
        u = np.einsum("hwtc,tc->hwt", across, offset) * inverse
        turned = np.cross(offset, e1)
        v = np.einsum("hwtc,tc->hwt", np.broadcast_to(rays, across.shape), turned) * inverse
        depth = np.einsum("tc,tc->t", e2, turned) * inverse
    margin = np.minimum(np.minimum(u, v), 1 - u - v)
    depth = np.where(depth > 0, depth, np.inf)
    doubtful = (np.isfinite(depth) & (np.abs(margin) < 1e-3)).any(axis=2)
    met = np.where(margin >= 0, depth, np.inf)
    nearest = met.argmin(axis=2)
    normals = np.cross(e1, e2) / np.linalg.norm(np.cross(e1, e2), axis=1, keepdims=True)
    approach = np.abs(np.einsum("hwc,hwc->hw", camera.rays(), normals[nearest]))
    return met.min(axis=2), approach, doubtful


@pytest.fixture(scope="module")
def mitsuba():
    return pytest.importorskip("mitsuba", reason="pip install '.[render]'")


# --- the renderer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height", "field_of_view_deg"), [(64, 48, 70), (41, 57, 90), (33, 17, 50)])
def test_depth_is_that_of_ray_and_triangle(mitsuba, width, height, field_of_view_deg):
    rng = np.random.default_rng(width + 1)
    ground = quad((-60, -60, -3), (60, -60, 0), (60, 60, 5), (-60, 60, 2))
    things = [
        moved(box(rng.uniform(0.2, 3, 3)), rng.uniform([2, -4, 0], [14, 4, 2]), rng.uniform(0, 6)) for _ in range(12)
    ]
    things.append(tube([(4, -1, 0), (4.3, 1, 3)], 0.05))
    scene = scene_of(ground, *things)
    quads = np.concatenate([ground, *things])
    for roll in (0.0, 0.3):
        camera = looking(rng.normal([0, 0, 2.5], 0.3), np.array([6, 0.5, 1.2]), field_of_view_deg, width, height, roll)
        depth_m = Renderer(scene, 1).depth(camera)
        expected, approach, doubtful = depth_by_geometry(quads, camera)
        assert depth_m.shape == (height, width)
        assert depth_m.dtype == np.float32
        assert doubtful.mean() < 0.1
        np.testing.assert_array_equal(np.isinf(depth_m)[~doubtful], np.isinf(expected)[~doubtful])
        # Off the surface by the rounding of coordinates of 60 m to float32: a ray that grazes it meets it far away.
        seen = ~doubtful & np.isfinite(expected)
        assert (np.abs(depth_m[seen] - expected[seen]) * approach[seen]).max() < 2e-5
        assert np.isinf(expected[0]).any()
        assert np.ptp(expected[seen]) > 5


def test_depth_is_along_the_optical_axis_not_along_the_ray(mitsuba):
    wall = quad((5, -50, -50), (5, 50, -50), (5, 50, 50), (5, -50, 50))
    for at in (5.0, 0.5, 900.0):
        camera = looking(np.array([5 - at, 1, 2]), np.array([5, 1, 2.0]), 90, 31, 21)
        wide = wall * [1, 30, 30]
        np.testing.assert_allclose(Renderer(scene_of(wide), 1).depth(camera), at, rtol=1e-5)


def test_light_is_lamberts_sum_over_all_lights_without_noise(mitsuba):
    """Reflectance × irradiance / pi at every pixel: each light counts fully, at any number of them, and none is left to
    chance."""
    rng = np.random.default_rng(20)
    ground = quad((-90, -90, 0), (90, -90, 0), (90, 90, 0), (-90, 90, 0))
    camera = looking(np.array([0, 0, 3.0]), np.array([4, 1, 0]), 2, 24, 18)  # narrow: light is even within a pixel
    hits = camera.position_m + Renderer(scene_of(ground), 1).depth(camera)[..., None] * camera.rays()
    for count in (1, 3, 5, 7, 8):
        suns = [Sun(np.array([*rng.normal(size=2), -rng.uniform(0.2, 2)]), rng.uniform(0, 1, 3)) for _ in range(count)]
        lamp = Lamp(np.array([3, 1, 2.0]), np.array([3, 2, 1.0]))
        irradiance = sum(sun.irradiance * -sun.direction[2] / np.linalg.norm(sun.direction) for sun in suns)
        radiance, coverage = Renderer(scene_of(ground, lights=list(suns)), 1).radiance(camera, seed=count)
        np.testing.assert_array_equal(coverage, 1)
        expected = GREY.texture_HW3[0, 0] * irradiance / np.pi
        np.testing.assert_allclose(radiance, np.broadcast_to(expected, radiance.shape), rtol=1e-4)

        to_lamp = lamp.position_m - hits
        squared = (to_lamp**2).sum(axis=2, keepdims=True)
        irradiance = irradiance + lamp.intensity * to_lamp[..., 2:] / squared**1.5
        radiance, _ = Renderer(scene_of(ground, lights=[*suns, lamp]), 1).radiance(camera)
        np.testing.assert_allclose(radiance, GREY.texture_HW3[0, 0] * irradiance / np.pi, rtol=3e-3)


def test_shade_is_where_geometry_says(mitsuba):
    ground = quad((-90, -90, 0), (90, -90, 0), (90, 90, 0), (-90, 90, 0))
    roof = quad((3, -1, 1), (6, -1, 1), (6, 3, 1), (3, 3, 1))  # its shade falls a metre further along x
    renderer = Renderer(scene_of(ground, roof, lights=[Sun(np.array([2, 0, -2.0]), np.array([1, 2, 3.0]))]), 1)
    camera = looking(np.array([9, -5, 4.0]), np.array([6, 1, 0]), 60, 96, 72)
    depth_m = renderer.depth(camera)
    x, y, z = np.moveaxis(camera.position_m + depth_m[..., None] * camera.rays(), 2, 0)
    on_ground = np.isfinite(depth_m) & (np.abs(z) < 1e-3)
    on_ground &= np.lib.stride_tricks.sliding_window_view(np.pad(on_ground, 1), (3, 3)).all(axis=(2, 3))  # nothing else
    inside = np.stack([x - 4, 7 - x, y + 1, 3 - y]).min(axis=0)
    shade, light = on_ground & (inside > 0.4), on_ground & (inside < -0.4) & (depth_m < 12)
    assert min(shade.sum(), light.sum()) > 100
    radiance, _ = renderer.radiance(camera)
    np.testing.assert_array_equal(radiance[shade], 0)
    lit = GREY.texture_HW3[0, 0] * [1, 2, 3] * np.sqrt(0.5) / np.pi
    np.testing.assert_allclose(radiance[light], np.broadcast_to(lit, radiance[light].shape), rtol=1e-4)


def test_texture_lies_in_metres(mitsuba):
    """A checker of cells of 0.5 m, lit evenly: the colour at each pixel is that of its cell."""
    checker = np.kron([[0.1, 0.8], [0.8, 0.1]], np.ones((64, 64)))[..., None].repeat(3, axis=2).astype(np.float32)
    ground = quad((-9, -9, 0), (9, -9, 0), (9, 9, 0), (-9, 9, 0))
    scene = dataclasses.replace(scene_of(ground), surfaces=[Surface(ground, Material(checker, 1.0))])
    camera = looking(np.array([0.1, 0, 3.0]), np.array([0.4, 0.3, 0]), 60, 40, 30)
    points = camera.position_m + Renderer(scene, 1).depth(camera)[..., None] * camera.rays()
    cell = points[..., :2] % 0.5
    inside = np.minimum(cell, 0.5 - cell).min(axis=2) > 0.08
    dark = (points[..., 0] % 1 < 0.5) == (points[..., 1] % 1 < 0.5)
    radiance = Renderer(scene, 1).radiance(camera)[0][..., 0] * np.pi / OVERHEAD.irradiance[0]
    assert inside.sum() > 200
    np.testing.assert_allclose(radiance[inside], np.where(dark, 0.1, 0.8)[inside], rtol=1e-3)
    np.testing.assert_allclose(texture_coordinates(ground), ground[..., :2])


def test_varnish_adds_to_what_is_below(mitsuba):
    ground = quad((-9, -9, 0), (9, -9, 0), (9, 9, 0), (-9, 9, 0))
    camera = looking(np.array([1, 0.1, 2.0]), np.zeros(3), 50, 16, 12)
    sun = Sun(np.array([0.5, 0.05, -1.0]), np.ones(3))  # mirrored into the camera's view
    values = []
    for roughness in (None, 0.1):
        scene = scene_of(ground, lights=[sun])
        scene.surfaces[0] = Surface(ground, dataclasses.replace(GREY, roughness=roughness))
        values.append(Renderer(scene, 1).radiance(camera)[0])
    assert values[1].max() > 2 * values[0].max()


def test_without_mitsuba_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "mitsuba", None)
    with pytest.raises(UserError, match=r"pip install '\.\[render\]'"):
        Renderer(scene_of(quad((0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0))))


# --- scenes ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scenes() -> dict[str, Scene]:
    return {kind: random_scene(seed) for seed, kind in KINDS.items()}


def test_scenes_are_what_the_renderer_can_take(scenes):
    for kind, scene in scenes.items():
        assert scene.kind == kind
        assert len(scene.lights) == LIGHTS
        assert len({id(surface.material) for surface in scene.surfaces}) == len(scene.surfaces)
        for surface in scene.surfaces:
            assert surface.quads_m.shape[1:] == (4, 3)
            assert np.isfinite(surface.quads_m).all()
            assert 0 <= surface.material.texture_HW3.min() <= surface.material.texture_HW3.max() <= 1
        for low, high in (scene.stand_m, scene.look_m):
            assert (low < high).all()
        everything = np.concatenate([surface.quads_m for surface in scene.surfaces])
        size = np.ptp(everything.reshape(-1, 3), axis=0)
        assert size[0] > (100 if kind in ("garden", "yard", "street") else 3)


def test_a_seed_decides_the_scene(scenes):
    again, other = random_scene(8), random_scene(9)
    first = scenes["room"]
    for mine, its in zip(first.surfaces, again.surfaces, strict=True):
        np.testing.assert_array_equal(mine.quads_m, its.quads_m)
        np.testing.assert_array_equal(mine.material.texture_HW3, its.material.texture_HW3)
    for mine, its in zip(first.lights, again.lights, strict=True):
        np.testing.assert_array_equal(np.stack([*vars(mine).values()]), np.stack([*vars(its).values()]))
    corners = [np.concatenate([surface.quads_m for surface in scene.surfaces]).sum() for scene in (first, other)]
    assert corners[0] != corners[1]


@pytest.mark.parametrize("kind", ["room", "street"])
def test_cameras_stand_where_they_may_and_see_something(mitsuba, scenes, kind):
    scene = scenes[kind]
    renderer = Renderer(scene, 1)
    cameras = [random_camera(scene, 64, 48, np.random.default_rng(i), renderer.depth) for i in range(4)]
    assert len({tuple(camera.position_m) for camera in cameras}) == 4
    for camera in cameras:
        low, high = scene.stand_m
        assert ((camera.position_m >= low) & (camera.position_m <= high)).all()
        x, y, radius = scene.obstacles_m.T
        assert (np.hypot(x - camera.position_m[0], y - camera.position_m[1]) >= radius).all()
        assert FIELD_OF_VIEW_DEG[0] <= camera.field_of_view_deg <= FIELD_OF_VIEW_DEG[1]
        depth_m = renderer.depth(camera)
        assert depth_m.min() >= 0.3
        assert np.isinf(depth_m).mean() <= 0.6
    again = random_camera(scene, 64, 48, np.random.default_rng(0), renderer.depth)
    np.testing.assert_array_equal(again.axes, cameras[0].axes)


def test_a_scene_without_a_view_says_so():
    scene = dataclasses.replace(
        scene_of(), stand_m=(np.zeros(3), np.ones(3)), look_m=(np.full(3, 5.0), np.full(3, 6.0))
    )
    with pytest.raises(RuntimeError, match="no view of a scene of kind test"):
        random_camera(scene, 8, 6, np.random.default_rng(0), lambda camera: np.full((48, 64), np.inf, np.float32))


# --- the folder --------------------------------------------------------------------------------------------------


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.*"))}


def test_the_folder_is_read_back_split_by_scene_and_the_same_again(mitsuba, tmp_path):
    arguments = ["data", "render", "--scenes", "2", "--frames", "2", "--seed", "8", "--size", "49x32"]
    said = CliRunner().invoke(
        cli.app, [*arguments, "--out", str(tmp_path / "a"), "--threads", "1"], catch_exceptions=False
    )
    assert said.stdout.strip() == f"rendered 4 frames to {tmp_path / 'a'}"
    dataset = open_dataset(tmp_path / "a")
    assert dataset.names == ["000008_000", "000008_001", "000009_000", "000009_001"]
    train, val = dataset.split("train"), dataset.split("val")
    assert sorted(train + val) == dataset.names
    assert len({dataset.scene(name) for name in train}) == len({dataset.scene(name) for name in val}) == 1
    for name in dataset.names:
        frame = dataset.read(name)
        stored = np.load(tmp_path / "a/depth" / f"{name}.npy")
        assert stored.dtype == np.float32
        np.testing.assert_array_equal(frame.depth_m, stored)
        assert frame.rgb.shape == (32, 49, 3)
        assert frame.rgb.std() > 5
        assert not np.isnan(frame.depth_m).any()

    # Interrupted after the first frame, on other threads: what is missing is rendered, and nothing differs.
    written = files_of(tmp_path / "a")
    assert len(written) == 8
    (tmp_path / "a/rgb/000009_001.png").unlink()
    for name in dataset.names[1:3]:
        (tmp_path / "a/depth" / f"{name}.npy").unlink()
        (tmp_path / "a/rgb" / f"{name}.png").write_bytes(b"torn")
    options = RenderOptions(scenes=2, frames=2, seed=8, width=49, height=32, threads=2)
    assert render_folder(tmp_path / "a", options) == (3, 1)
    assert files_of(tmp_path / "a") == written
    assert render_folder(tmp_path / "a", options) == (0, 4)
    with pytest.raises(UserError, match=r"000008_000\.npy is 49x32, not 50x32; choose another --out"):
        render_folder(tmp_path / "a", dataclasses.replace(options, width=50))


def test_the_seed_of_the_samples_changes_the_picture_and_not_the_depth(mitsuba, scenes):
    renderer = Renderer(scenes["room"], 1)
    camera = random_camera(scenes["room"], 48, 36, np.random.default_rng(1), renderer.depth)
    first, again, other = (renderer.frame(camera, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.rgb, again.rgb)
    assert (first.rgb != other.rgb).any()
    np.testing.assert_array_equal(first.depth_m, other.depth_m)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--scenes", "0"], "give at least 1 of each"),
        (["--frames", "-2"], "give at least 1 of each"),
        (["--seed", "-1"], "seed -1 is negative"),
        (["--size", "640"], "write WIDTHxHEIGHT"),
        (["--size", "640x"], "write WIDTHxHEIGHT"),
        (["--size", "-640x480"], "write WIDTHxHEIGHT"),
        (["--size", "640x8"], "640x8 cannot be rendered"),
        (["--size", "9000x480"], "9000x480 cannot be rendered"),
        (["--threads", "0"], "0 threads cannot render"),
    ],
)
def test_bad_options_are_told_before_anything_is_made(tmp_path, wrong, said):
    options = {"--out": str(tmp_path / "out"), "--scenes": "1", "--frames": "1"} | dict([wrong])
    arguments = [text for option in options.items() for text in option]
    with pytest.raises(UserError, match=said):
        CliRunner().invoke(cli.app, ["data", "render", *arguments], catch_exceptions=False)
    assert not (tmp_path / "out").exists()


def test_help_loads_nothing_heavy(tmp_path):
    program = (
        "import sys, contextlib\nfrom depthsr import cli\nsys.argv = ['depthsr', 'data', 'render', '--help']\n"
        "with contextlib.suppress(SystemExit):\n    cli.main()\n"
        "print(sorted({'torch', 'cv2', 'numpy', 'mitsuba'} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stderr.strip() == "[]"
    assert "--frames" in done.stdout
