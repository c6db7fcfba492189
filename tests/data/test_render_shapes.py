"""Shapes, textures, cameras and the making of the picture: numpy alone, against geometry and the published formulas."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from depthsr.data.render import furniture, plants, textures, thin
from depthsr.data.render.camera import Camera, looking
from depthsr.data.render.picture import EXPOSED_LEVEL, EXPOSED_QUANTILE, GLARE, photograph, srgb
from depthsr.data.render.placing import Ground, joined
from depthsr.data.render.scene import Material, Sky, Surface
from depthsr.data.render.shapes import box, cylinder, disc, leaves, moved, quad, terrain, texture_coordinates, tube


def points_on(quads_m: np.ndarray, rng: np.random.Generator, each: int = 20) -> np.ndarray:
    """Random points of the two triangles of every quadrilateral."""
    weights = rng.dirichlet(np.ones(3), (len(quads_m), 2, each))
    triangles = np.stack([quads_m[:, [0, 1, 2]], quads_m[:, [0, 2, 3]]], axis=1)
    return np.einsum("ntek,ntkc->ntec", weights, triangles).reshape(-1, 3)


def distance_to_line(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Of each point to a polyline of K corners."""
    start, along = line[:-1], np.diff(line, axis=0)
    t = np.einsum("pkc,kc->pk", points[:, None] - start, along) / np.einsum("kc,kc->k", along, along)
    nearest = start + np.clip(t, 0, 1)[..., None] * along
    return np.linalg.norm(points[:, None] - nearest, axis=2).min(axis=1)


def area_vectors(quads_m: np.ndarray) -> np.ndarray:
    return np.cross(quads_m[:, 2] - quads_m[:, 0], quads_m[:, 3] - quads_m[:, 1]) / 2


@pytest.mark.parametrize("sides", [3, 4, 5, 12])
@pytest.mark.parametrize("direction", [(0, 0, 1), (1, 0, 0), (0, -1, 0), (1, 1, 1), (-0.2, 0.1, 3)])
def test_a_tube_is_nowhere_thicker_than_stated(direction, sides):
    rng = np.random.default_rng(sides)
    line = np.array([(1.0, -2, 0.5), np.add((1, -2, 0.5), direction)])
    inside = distance_to_line(points_on(tube(line, 0.03, sides), rng), line)
    assert inside.max() <= 0.03 + 1e-9
    assert inside.min() >= 0.03 * np.cos(np.pi / sides) - 1e-9  # the inner circle of the polygon: nor is it thinner

    bent = np.cumsum(rng.normal(direction, 0.2, (6, 3)), axis=0)
    assert distance_to_line(points_on(tube(bent, 0.03, sides), rng), bent).max() <= 0.03 + 1e-9


def test_wires_hang_and_fences_are_thin():
    rng = np.random.default_rng(2)
    wire = thin.wire((0, 0, 5), (10, 0, 7), 0.5, 0.004)
    corners = wire.reshape(-1, 3)
    assert corners[np.abs(corners[:, 0] - 5) < 0.01, 2].mean() == pytest.approx(6 - 0.5, abs=1e-3)
    line = np.stack([np.linspace(0, 10, 17), np.zeros(17), np.linspace(5, 7, 17)], axis=1)
    line[:, 2] -= 2 * np.linspace(0, 1, 17) * np.linspace(1, 0, 17)
    assert distance_to_line(points_on(wire, rng), line).max() <= 0.004 + 1e-9

    fence = thin.mesh_fence(3.0, 1.5, 0.1, 0.002)
    beside_posts = np.abs(fence[..., 0, None] - np.linspace(0, 3, 3)).min(axis=(1, 2)) > 0.05
    assert np.abs(fence[beside_posts][..., 1]).max() <= 0.002 + 1e-9
    assert np.ptp(fence[..., 0]) == pytest.approx(3.06, abs=0.01)
    railing = thin.bars(2.0, 1.0, 0.1, 0.01)
    assert np.abs(railing[..., 1]).max() <= 0.02 + 1e-9
    assert railing[..., 2].max() == pytest.approx(1.0, abs=0.021)
    legs = furniture.chair(*[Material(textures.flat(rng))] * 2, rng)[1].quads_m
    near_ground = legs[legs[..., 2].max(axis=1) < 0.6]
    assert len(near_ground) >= 24
    assert (np.ptp(near_ground[..., :2], axis=1) <= 2 * 0.022 * 1.2 + 0.04).all()  # a leg and its splay


@pytest.mark.parametrize("size", [(1, 2, 3), (0.01, 5, 0.3)])
def test_a_box_is_closed_and_of_its_size(size):
    quads = moved(box(size, (4, 5, 6)), (1, 0, 0), 0.7)
    vectors = area_vectors(quads)
    np.testing.assert_allclose(vectors.sum(axis=0), 0, atol=1e-12)
    # The divergence theorem: the flux of x/3 through a closed surface with outward normals is its volume.
    assert np.einsum("nc,nc->", quads.mean(axis=1), vectors) / 3 == pytest.approx(np.prod(size))
    assert quads[..., 2].min() == 6
    lid = cylinder(0.5, 2, (1, 1, 0), 12)
    assert lid[..., 2].max() == 2
    assert np.linalg.norm(area_vectors(disc(0.5, sides=12)), axis=1).sum() == pytest.approx(
        6 * 0.25 * np.sin(np.pi / 6)
    )


def test_moved_turns_about_the_vertical():
    np.testing.assert_allclose(
        moved(quad((1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 0, 5)), (10, 0, 0), np.pi / 2),
        quad((10, 1, 0), (9, 0, 0), (10, 0, 1), (10, 2, 5)),
        atol=1e-12,
    )


def test_leaves_are_flat_and_no_longer_than_stated():
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(200, 3))
    quads = leaves(centres, 0.08, rng)
    np.testing.assert_allclose(quads.mean(axis=1), centres, atol=1e-12)
    diagonals = np.stack([quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1]])
    length, width = np.linalg.norm(diagonals, axis=2)
    assert length.max() <= 0.08
    assert length.min() >= 0.6 * 0.08
    assert (width <= 0.67 * length).all()
    np.testing.assert_allclose(np.einsum("nc,nc->n", *diagonals), 0, atol=1e-12)
    for surface in plants.tree(4.0, *[Material(textures.flat(rng))] * 2, rng):
        assert np.isfinite(surface.quads_m).all()
        assert surface.quads_m[..., 2].max() < 8


def test_terrain_goes_through_its_heights():
    heights = np.random.default_rng(4).normal(size=(5, 5))
    quads = terrain(heights, 8.0)
    for corner in quads.reshape(-1, 3):
        i, j = np.rint(corner[:2] / 2 + 2).astype(int)
        assert corner[2] == heights[i, j]
    assert (area_vectors(quads)[:, 2] > 0).all()
    assert area_vectors(quads)[:, 2].sum() == pytest.approx(64)


def test_texture_is_in_metres_and_goes_on_across_parallel_faces():
    rng = np.random.default_rng(5)
    quads = np.concatenate(
        [moved(box(rng.uniform(0.2, 3, 3)), rng.normal(size=3), rng.uniform(0, 6)) for _ in range(20)]
    )
    lean = quad((0, 0, 0), (1, 0, 0), (1, 1, 1), (0, 1, 1))  # a roof of 45 degrees
    quads = np.concatenate([quads, lean, moved(lean, (1, 2, 3), 1.1)])
    coordinates = texture_coordinates(quads)
    for i, j in ((0, 1), (1, 2), (0, 2), (1, 3)):
        np.testing.assert_allclose(
            np.linalg.norm(coordinates[:, i] - coordinates[:, j], axis=1),
            np.linalg.norm(quads[:, i] - quads[:, j], axis=1),
            rtol=1e-9,
        )
    front = moved(quad((0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)), (0.3, 0.2, 0.1), 0.4)
    behind = front + 2.5 * area_vectors(front)[0]
    np.testing.assert_allclose(texture_coordinates(behind), texture_coordinates(front), atol=1e-9)
    degenerate = quad((0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0))
    assert np.isfinite(texture_coordinates(degenerate)).all()


@pytest.mark.parametrize(
    "pattern", sorted({*textures.PATTERNS, textures.facade, textures.foliage}, key=lambda f: f.__name__)
)
def test_textures_are_reflectances_of_their_seed(pattern):
    first, again, other = (pattern(np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.float32
    assert first.min() >= np.float32(textures.DARKEST)
    assert first.max() <= np.float32(textures.BRIGHTEST)
    assert not np.array_equal(first, other)
    # What is not flat has edges or grain.
    assert (first.std(axis=(0, 1)).max() > 0.005) == (pattern is not textures.flat)


def test_noise_falls_with_frequency_and_repeats_without_a_seam():
    field = textures.noise(np.random.default_rng(6), 256, 1.5)
    assert field.mean() == pytest.approx(0, abs=1e-9)
    assert field.std() == pytest.approx(1)
    power = np.abs(np.fft.fft2(field)) ** 2
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    bands = [power[(radius > low) & (radius < 2 * low)].mean() for low in (0.02, 0.04, 0.08, 0.16)]
    np.testing.assert_allclose(np.log2(np.divide(bands[:-1], bands[1:])), 3, atol=0.35)  # amplitude^2 ~ f^-3
    seam, inside = np.abs(field[0] - field[-1]).mean(), np.abs(np.diff(field, axis=0)).mean()
    assert seam < 1.5 * inside
    wood = textures.noise(np.random.default_rng(6), 256, 1.2, stretch=12)
    assert np.abs(np.diff(wood, axis=0)).mean() < 0.4 * np.abs(np.diff(wood, axis=1)).mean()


def random_camera(rng: np.random.Generator, width: int = 37, height: int = 23) -> Camera:
    position, target = rng.normal(0, 3, (2, 3))
    return looking(position, target, rng.uniform(50, 90), width, height, rng.normal(0, 0.2))


def test_rays_are_those_of_a_pinhole():
    rng = np.random.default_rng(7)
    for _ in range(5):
        camera = random_camera(rng)
        np.testing.assert_allclose(camera.axes @ camera.axes.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(camera.axes) == pytest.approx(1)
        in_camera = camera.rays() @ camera.axes.T
        focal_px = 37 / 2 / np.tan(np.radians(camera.field_of_view_deg) / 2)
        v, u = np.mgrid[:23, :37] + 0.5
        expected = np.stack([(u - 37 / 2) / focal_px, (v - 23 / 2) / focal_px, np.ones((23, 37))], axis=2)
        np.testing.assert_allclose(in_camera, expected, atol=1e-12)
        np.testing.assert_allclose(camera.resized(111, 69).rays()[1::3, 1::3], camera.rays(), atol=1e-12)
    level = looking(np.zeros(3), np.array([0, 5, 0]), 60, 9, 9)
    np.testing.assert_allclose(level.axes, [[1, 0, 0], [0, 0, -1], [0, 1, 0]], atol=1e-12)  # right, down, ahead


def sky(visibility_m: float = np.inf) -> Sky:
    rng = np.random.default_rng(8)
    return Sky(
        np.array([0.1, 0.2, 0.5]),
        np.array([0.5, 0.55, 0.6]),
        np.clip(rng.normal(0.3, 0.3, (16, 16)), 0, 1),
        visibility_m,
    )


def test_sky_is_a_gradient_with_clouds_along_directions_of_any_length():
    rays = random_camera(np.random.default_rng(9)).rays()
    np.testing.assert_allclose(sky().radiance(7 * rays), sky().radiance(rays), rtol=1e-9)
    clear = dataclasses.replace(sky(), clouds_SS=np.zeros((4, 4)))
    straight = np.array([[[0, 0, 2.0], [3, 0, 0], [0, 1, -5]]])
    np.testing.assert_allclose(clear.radiance(straight)[0], [[0.1, 0.2, 0.5], [0.5, 0.55, 0.6], [0.5, 0.55, 0.6]])
    overcast = dataclasses.replace(sky(), clouds_SS=np.ones((4, 4)))
    np.testing.assert_allclose(overcast.radiance(straight)[0, 0], 1.1 * 0.6)


def test_srgb_has_its_published_values():
    linear = np.array([0, 0.0031308, 0.01, 0.18, 0.5, 1, 3, -1])
    np.testing.assert_array_equal(srgb(linear), [0, 10, 25, 118, 188, 255, 255, 0])


def test_a_photograph_is_surfaces_haze_and_sky():
    rng = np.random.default_rng(10)
    rays = random_camera(rng).rays()
    surfaces, depth_m = rng.uniform(0.05, 0.6, rays.shape), rng.uniform(1, 80, rays.shape[:2])
    coverage = np.ones(rays.shape[:2])
    shown = photograph(surfaces, coverage, depth_m, rays, sky())
    gain = EXPOSED_LEVEL / np.quantile(surfaces.mean(axis=2), EXPOSED_QUANTILE)
    np.testing.assert_array_equal(shown, srgb(gain * (surfaces + GLARE * surfaces.mean())))
    # Twice the light is exposed away.
    np.testing.assert_array_equal(photograph(2 * surfaces, coverage, depth_m, rays, sky()), shown)

    haze = np.exp(-depth_m / 40.0)[..., None]
    hazy = haze * surfaces + (1 - haze) * sky().horizon
    gain = EXPOSED_LEVEL / np.quantile(hazy.mean(axis=2), EXPOSED_QUANTILE)
    seen = photograph(surfaces, coverage, depth_m, rays, sky(40.0))
    np.testing.assert_array_equal(seen, srgb(gain * (hazy + GLARE * hazy.mean())))

    # Nothing but sky: its median just white. And half sky, much brighter than the surfaces: half of it below white.
    nothing, inf = np.zeros_like(surfaces), np.full_like(depth_m, np.inf)
    assert (photograph(nothing, 0 * coverage, inf, rays, sky()).mean(axis=2) > 250).mean() > 0.4
    right = np.broadcast_to(np.arange(rays.shape[1]) >= 18, coverage.shape)
    mixed = photograph(
        np.where(right[..., None], 0.01, 0), right.astype(float), np.where(right, 5.0, np.inf), rays, sky()
    )
    assert ((mixed.mean(axis=2) < 250) & ~right).sum() >= 0.5 * (~right).sum()
    window = np.ones_like(coverage)
    window[:4, :4] = 0
    lit = photograph(
        surfaces * window[..., None] / 20, window, np.where(window > 0, depth_m, np.inf), rays, sky()
    )  # a window's sky does not darken the room
    assert np.quantile(lit[window > 0].mean(axis=1), EXPOSED_QUANTILE) > 200


def test_a_wire_that_pixel_centres_miss_is_still_in_the_picture():
    """Its share of the pixel comes at the wire's distance, through little haze, not at the sky's through all of it."""
    rays = random_camera(np.random.default_rng(11), 9, 7).rays()
    depth_m, coverage = np.full((7, 9), np.inf), np.zeros((7, 9))
    depth_m[:, 5], coverage[:, 5], coverage[:, 4] = 4.0, 0.6, 0.4  # the wire's centre line in column 5, its rim in 4
    clear = dataclasses.replace(sky(100.0), clouds_SS=np.zeros((4, 4)))
    shown = photograph(np.zeros((7, 9, 3)), coverage, depth_m, rays, clear).astype(int)
    bare = photograph(np.zeros((7, 9, 3)), 0 * coverage, np.full((7, 9), np.inf), rays, clear).astype(int)
    ratio = shown.mean(axis=2) / bare.mean(axis=2)
    assert (ratio[:, 4] < 0.97 * ratio[:, 1]).all()
    coverage[3, 1] = 0.4  # of a wire so thin that no centre meets it anywhere near
    shown = photograph(np.zeros((7, 9, 3)), coverage, depth_m, rays, clear).astype(int)
    assert (shown[3, 1] < 0.9 * shown[3, 0]).all()


def test_pieces_are_set_down_apart_and_within_bounds():
    rng = np.random.default_rng(12)
    ground, material = Ground([-4, -3], [4, 3]), Material(textures.flat(rng))
    placed = [ground.put([Surface(box((1, 0.5, 1)), material)], rng) for _ in range(60)]
    there = [piece[0].quads_m for piece in placed if piece]
    assert 5 < len(there) < 60  # the ground is full before the sixtieth
    assert all((np.abs(quads[..., :2]) <= [4, 3]).all() for quads in there)
    x, y, radius = ground.obstacles().T
    apart = np.hypot(x[:, None] - x, y[:, None] - y) + 10 * np.eye(len(x))
    assert (apart >= radius[:, None] + radius).all()
    assert ground.put([Surface(box((9, 9, 1)), material)], rng) == []

    other = Material(textures.flat(rng))
    pieces = [Surface(there[0], material), Surface(there[1], other), Surface(there[2], material)]
    first, second = joined(pieces)
    np.testing.assert_array_equal(first.quads_m, np.concatenate([there[0], there[2]]))
    assert (first.material, second.material) == (material, other)
