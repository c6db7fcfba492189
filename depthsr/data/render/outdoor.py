"""Scenes in the open: a street, a garden or park, a yard. Half a metre to some hundred, and sky."""

from __future__ import annotations

import numpy as np

from depthsr.data.render import buildings, furniture, plants, textures, thin
from depthsr.data.render.light import daylight, random_sky
from depthsr.data.render.placing import Ground, Palette, joined, placed
from depthsr.data.render.scene import Material, Scene, Surface
from depthsr.data.render.shapes import box, quad, terrain

GROUND_SIDE_M, CELLS = 800.0, 64
LEVEL_M = 70.0


def outdoor(rng: np.random.Generator) -> Scene:
    """One of the kinds, with everything about it random."""
    kind = ("street", "garden", "yard")[rng.integers(3)]
    palette = Palette(rng)
    earth = Material(textures.mottled(rng) if rng.random() < 0.6 else textures.foliage(rng), rng.uniform(1, 5))
    surfaces = [Surface(_hills(rng), earth), *_background(palette, rng)]
    ground = Ground([-22, -14], [22, 14])
    make = {"street": _street, "garden": _garden, "yard": _yard}[kind]
    surfaces += make(ground, earth, palette, rng)
    high = rng.random() < 0.25  # a drone, a balcony, a truck; else a person, a car, a small robot
    low_z, high_z = (3.0, 12.0) if high else (0.3, 2.2)
    return Scene(
        kind,
        joined(surfaces),
        daylight(rng),
        random_sky(rng),
        stand_m=(np.array([-18, -7, low_z]), np.array([18, 7, high_z])),
        look_m=(np.array([-18, -11, 0.0]), np.array([18, 11, 3.0])),
        obstacles_m=ground.obstacles(),
    )


def _hills(rng: np.random.Generator) -> np.ndarray:
    """Level where things stand, hilly beyond."""
    axis = np.linspace(-GROUND_SIDE_M / 2, GROUND_SIDE_M / 2, CELLS + 1)
    away = np.maximum(np.hypot(axis[:, None], axis) - LEVEL_M, 0) / (GROUND_SIDE_M / 2)
    relief = textures.noise(rng, CELLS + 1, 2.0)
    return terrain(away * rng.uniform(5, 90) * (0.4 + 0.5 * np.abs(relief)), GROUND_SIDE_M)


def _background(palette: Palette, rng: np.random.Generator) -> list[Surface]:
    """Towers and woods at 40 to 250 m."""
    facades = [Material(textures.facade(rng), rng.uniform(5, 12)) for _ in range(2)]
    surfaces: list[Surface] = []
    for _ in range(rng.integers(0, 16)):
        distance, angle = rng.uniform(45, 250), rng.uniform(0, 2 * np.pi)
        at = (distance * np.cos(angle), distance * np.sin(angle), -1.0)
        surfaces += placed(buildings.tower(facades[rng.integers(2)], rng), at, rng.uniform(0, np.pi))
    wood = plants.tree(rng.uniform(7, 14), palette.any(), palette.leaf, rng)
    for _ in range(rng.integers(0, 25)):
        distance, angle = rng.uniform(32, 120), rng.uniform(0, 2 * np.pi)
        at = (distance * np.cos(angle), distance * np.sin(angle), -0.1)
        surfaces += placed(wood, at, rng.uniform(0, 2 * np.pi))
    return surfaces


def _house(palette: Palette, rng: np.random.Generator) -> list[Surface]:
    wall, roof = palette.any(), Material(textures.bricks(rng), rng.uniform(1, 2.5))
    return buildings.house(wall, roof, palette.any(wall), palette.metal, rng)


def _street(ground: Ground, earth: Material, palette: Palette, rng: np.random.Generator) -> list[Surface]:
    half = rng.uniform(2.8, 4.5)
    asphalt, paint = Material(textures.mottled(rng), 2.0), Material(np.full((8, 8, 3), 0.7, np.float32))
    pavement = Material(textures.bricks(rng), rng.uniform(1, 3))
    surfaces = [Surface(quad((-90, -half, 0.01), (90, -half, 0.01), (90, half, 0.01), (-90, half, 0.01)), asphalt)]
    dashes = [box((2.0, 0.12, 0.004), (x, 0, 0.01)) for x in range(-60, 60, 5)]
    crossing = [box((0.5, 1.6 * half, 0.004), (x, 0, 0.01)) for x in np.arange(3, 7, 1.0) + rng.uniform(-12, 5)]
    surfaces.append(Surface(np.concatenate(dashes + crossing), paint))
    for side in (-1, 1):
        surfaces.append(Surface(box((180, 3.0, 0.13), (0, side * (half + 1.5), 0)), pavement))
        x = -38.0
        while x < 34:
            pieces = _house(palette, rng)
            width = np.ptp(pieces[0].quads_m[..., 0])
            depth = np.ptp(pieces[0].quads_m[..., 1])
            x += width / 2
            y = half + 4.8 + depth / 2 + rng.uniform(0, 3)
            surfaces += placed(pieces, (x, side * y, 0), 0 if side > 0 else np.pi)
            x += width / 2
            gap = rng.uniform(0.5, 7)
            if gap > 2:
                fence = [Surface(thin.random_fence(gap, rng), palette.any(earth))]
                surfaces += placed(fence, (x, side * (half + 4.4), 0))
            x += gap
        for _ in range(rng.integers(0, 6)):
            at = (rng.uniform(-25, 25), side * (half - 1.0))
            if all(np.hypot(at[0] - a, at[1] - b) > 5 for a, b, _ in ground.obstacles()):
                ground.take(*at, 2.3)
                surfaces += placed(
                    buildings.car(palette.any(asphalt), palette.metal, rng), (*at, 0.01), np.pi * rng.integers(2)
                )
        for x in np.arange(-25, 26, rng.uniform(6, 14)) + rng.uniform(-2, 2):
            foot = (x, side * (half + 2.6), 0.13)
            ground.take(x, foot[1], 0.4)
            choice = rng.integers(5)
            if choice == 0:
                surfaces += placed(plants.tree(rng.uniform(4, 8), palette.any(), palette.leaf, rng), foot)
            elif choice == 1:
                surfaces += placed([Surface(thin.lamp_post(rng), palette.metal)], foot, -side * np.pi / 2)
            elif choice == 2:
                surfaces += placed(buildings.sign(palette.any(), palette.metal, rng), foot, rng.uniform(0, 2 * np.pi))
            elif choice == 3:
                surfaces += placed(
                    buildings.bench(palette.any(pavement), palette.metal), foot, 0 if side < 0 else np.pi
                )
            else:
                surfaces += placed(buildings.bin_or_bollard(palette.any(pavement), rng), foot)
    return surfaces + _overhead_wires(half + 1.0, palette, rng)


def _overhead_wires(y_m: float, palette: Palette, rng: np.random.Generator) -> list[Surface]:
    """Poles along the road with wires between, and some across it."""
    height, step = rng.uniform(5, 8), rng.uniform(14, 24)
    parts = []
    for x in np.arange(-60, 60, step):
        parts.append(thin.tube([(x, y_m, 0), (x, y_m, height + 0.4)], [0.14, 0.1], 8))
        parts.append(box((0.1, 1.4, 0.1), (x, y_m, height)))
        for y in y_m + np.array([-0.6, 0, 0.6]):
            parts.append(thin.wire((x, y, height + 0.1), (x + step, y, height + 0.1), rng.uniform(0.1, 0.5), 0.009))
        if rng.random() < 0.6:
            parts.append(thin.wire((x, y_m, height), (x + rng.uniform(-3, 3), -y_m - 3, rng.uniform(4, 6)), 0.4, 0.009))
    return [Surface(np.concatenate(parts), palette.metal)]


def _garden(ground: Ground, earth: Material, palette: Palette, rng: np.random.Generator) -> list[Surface]:
    surfaces: list[Surface] = []
    for side in (-1, 1):
        if rng.random() < 0.7:
            surfaces += placed(
                _house(palette, rng), (rng.uniform(-20, 20), side * rng.uniform(17, 24), 0), rng.normal(0, 0.2)
            )
        length = rng.uniform(15, 40)
        border = (
            plants.hedge(min(length, 15), palette.leaf, rng)
            if rng.random() < 0.35
            else [Surface(thin.random_fence(length, rng), palette.any(earth))]
        )
        surfaces += placed(border, (-length / 2, side * rng.uniform(8, 11), 0), rng.normal(0, 0.08))
    surfaces += _ramps(ground, earth, palette, rng)
    for _ in range(rng.integers(4, 10)):
        surfaces += ground.put(plants.tree(rng.uniform(2.5, 7), palette.any(earth), palette.leaf, rng), rng)
    for _ in range(rng.integers(4, 14)):
        surfaces += ground.put(plants.bush(rng.uniform(0.5, 1.8), palette.leaf, rng), rng)
    for _ in range(rng.integers(6, 16)):
        piece = (
            lambda: buildings.bench(palette.any(earth), palette.metal),
            lambda: furniture.table(palette.any(), palette.metal, rng),
            lambda: furniture.chair(palette.any(), palette.metal, rng),
            lambda: plants.pot_plant(palette.any(), palette.leaf, rng),
            lambda: buildings.sign(palette.any(earth), palette.metal, rng),
        )[rng.integers(5)]()
        surfaces += ground.put(piece, rng)
    return surfaces + plants.grass(24, int(rng.integers(2000, 9000)), palette.leaf, rng)


def _yard(ground: Ground, earth: Material, palette: Palette, rng: np.random.Generator) -> list[Surface]:
    surfaces: list[Surface] = []
    wall = palette.any()
    for side in (-1, 1):
        length, height = rng.uniform(20, 50), rng.uniform(2, 6)
        surfaces += placed(
            [Surface(box((length, 0.3, height)), wall)], (rng.uniform(-8, 8), side * rng.uniform(11, 16), 0)
        )
        fence = [Surface(thin.random_fence(rng.uniform(6, 18), rng), palette.any(wall))]
        surfaces += placed(fence, (rng.uniform(-20, 5), side * rng.uniform(7.5, 10), 0), rng.normal(0, 0.15))
    surfaces += _ramps(ground, earth, palette, rng)
    for _ in range(rng.integers(1, 4)):
        container = [Surface(box((6.06, 2.44, 2.59)), palette.any(wall))]
        surfaces += ground.put(container, rng, yaw_rad=rng.normal(0, 0.3))
    for _ in range(rng.integers(14, 34)):
        piece = (
            lambda: furniture.crates([palette.any(wall), palette.any(earth)], rng),
            lambda: buildings.car(palette.any(), palette.metal, rng),
            lambda: [Surface(thin.lamp_post(rng), palette.metal)],
            lambda: [Surface(thin.ladder(rng), palette.metal)],
            lambda: buildings.sign(palette.any(wall), palette.metal, rng),
            lambda: buildings.bin_or_bollard(palette.any(earth), rng),
            lambda: furniture.shelf(palette.metal, palette.some(), rng),
            lambda: plants.bush(rng.uniform(0.4, 1), palette.leaf, rng),
        )[rng.integers(8)]()
        surfaces += ground.put(piece, rng)
    return surfaces + _overhead_wires(rng.uniform(7, 9), palette, rng)


def _ramps(ground: Ground, earth: Material, palette: Palette, rng: np.random.Generator) -> list[Surface]:
    """Slanted planes on the ground: embankments, ramps, leaning boards."""
    surfaces: list[Surface] = []
    for _ in range(rng.integers(1, 5)):
        x, y, z = rng.uniform(0.6, 3), rng.uniform(0.5, 2), rng.uniform(0.3, 1.8)
        sides = [quad((-x, s * y, 0), (x, s * y, 0), (x, s * y, z), (x, s * y, z)) for s in (-1, 1)]
        slope, back = (
            quad((-x, -y, 0), (-x, y, 0), (x, y, z), (x, -y, z)),
            quad((x, -y, 0), (x, y, 0), (x, y, z), (x, -y, z)),
        )
        surfaces += ground.put([Surface(np.concatenate([slope, back, *sides]), palette.any(earth))], rng)
    return surfaces
