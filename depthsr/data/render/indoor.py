"""Rooms and halls: walls with a window or none, a doorway to a further room, furniture. Half a metre to some ten."""

from __future__ import annotations

import numpy as np

from depthsr.data.render import buildings, furniture, plants, textures, thin
from depthsr.data.render.light import LIGHTS, daylight, lamps, random_sky
from depthsr.data.render.placing import Ground, Palette, joined, placed
from depthsr.data.render.scene import Lamp, Material, Scene, Sun, Surface
from depthsr.data.render.shapes import box, moved, quad, tube


def indoor(rng: np.random.Generator) -> Scene:
    """A room, or a hall in a third of the scenes, with everything about it random."""
    hall = rng.random() < 1 / 3
    palette = Palette(rng)
    size = rng.uniform([12, 10, 4], [35, 20, 8]) if hall else rng.uniform([3.2, 3, 2.3], [9, 7, 3.4])
    wall = Material(textures.flat(rng), 1.0) if rng.random() < 0.4 else palette.any()
    floor = Material(textures.planks(rng), rng.uniform(0.8, 2)) if rng.random() < 0.5 else palette.any()
    window = rng.random() < 0.6
    surfaces = _room(size, wall, floor, window, palette, rng)
    ground = Ground(-size[:2] / 2, size[:2] / 2)
    surfaces += _columns_and_pipes(size, ground, wall, palette, rng) if hall else []
    surfaces += _against_walls(size, ground, wall, palette, rng)
    surfaces += _in_the_middle(size, ground, wall, floor, palette, rng)
    low, high = np.array([*(-size[:2] / 2), 0]), np.array([*(size[:2] / 2), size[2]])
    lights: list[Sun | Lamp] = daylight(rng)[:1] if window else []
    lights += lamps(low, high, LIGHTS - len(lights), rng)
    margin = np.array([0.5, 0.5, 0.4])
    return Scene(
        "hall" if hall else "room",
        joined(surfaces),
        lights,
        random_sky(rng),
        stand_m=(low + margin, np.minimum(high - margin, [np.inf, np.inf, 2.2])),
        look_m=(low + np.array([0.3, 0.3, 0.1]), np.minimum(high - [0.3, 0.3, 0.3], [np.inf, np.inf, 2.5])),
        obstacles_m=ground.obstacles(),
    )


def _wall_with_hole(length_m: float, height_m: float, hole_m: tuple[float, float, float, float]) -> np.ndarray:
    """A wall along x around the origin with one rectangular hole (x low, x high, z low, z high), 0.2 m thick."""
    x0, x1, z0, z1 = hole_m
    half = length_m / 2
    parts = [(-half, x0, 0, height_m), (x1, half, 0, height_m), (x0, x1, 0, z0), (x0, x1, z1, height_m)]
    return np.concatenate([box((b - a, 0.2, d - c), ((a + b) / 2, 0.1, c)) for a, b, c, d in parts if b > a and d > c])


def _room(
    size_m: np.ndarray, wall: Material, floor: Material, window: bool, palette: Palette, rng: np.random.Generator
) -> list[Surface]:
    """Floor, ceiling, four walls around the origin: a window to -y or none, a doorway to +y with a room behind."""
    x, y, z = size_m[0] / 2, size_m[1] / 2, size_m[2]
    ceiling = Material(np.full((8, 8, 3), rng.uniform(0.4, 0.85), np.float32)) if rng.random() < 0.7 else palette.any()
    sides = [quad((s * x, -y, 0), (s * x, y, 0), (s * x, y, z), (s * x, -y, z)) for s in (-1, 1)]
    width = rng.uniform(0.35, 0.8) * x
    centre = rng.uniform(-x + width + 0.2, x - width - 0.2)
    hole = (centre - width, centre + width, rng.uniform(0.3, 1.0), z - rng.uniform(0.2, 0.6))
    front = _wall_with_hole(2 * x, z, hole) if window else quad((-x, 0, 0), (x, 0, 0), (x, 0, z), (-x, 0, z))
    door = rng.uniform(-x + 0.8, x - 0.8)
    doorway = (door - 0.45, door + 0.45, 0.0, min(2.1, z - 0.1))
    surfaces = [
        Surface(quad((-x, -y, 0), (x, -y, 0), (x, y, 0), (-x, y, 0)), floor),
        Surface(quad((-x, -y, z), (x, -y, z), (x, y, z), (-x, y, z)), ceiling),
        Surface(np.concatenate(sides), wall if rng.random() < 0.6 else palette.any()),
        Surface(moved(front, (0, -y, 0)) if not window else moved(front, (0, -y - 0.2, 0)), wall),
        Surface(moved(_wall_with_hole(2 * x, z, doorway), (0, y, 0)), wall),
    ]
    if window:
        surfaces += placed(_window(hole, palette, rng), (0, -y, 0))
        surfaces += _view(rng.uniform(0.2, 12), y, palette, rng)
    if rng.random() < 0.5:  # the door, standing open
        leaf = box((0.88, 0.04, 2.05), (0.44, 0, 0))
        surfaces.append(Surface(moved(leaf, (door - 0.45, y - 0.03, 0), -rng.uniform(0.3, 1.9)), palette.any(wall)))
    far = rng.uniform(1.5, 6)
    behind = moved(box((max(2.5, x), far, z - 0.02)), (door, y + 0.2 + far / 2, 0.001))
    surfaces.append(Surface(behind[[0, 1, 3, 4, 5]], palette.any(wall)))  # open to the doorway
    skirting = [box((2 * x, 0.015, 0.09), (0, -y + 0.0075, 0))]
    skirting += [box((0.015, 2 * y, 0.09), (s * (x - 0.0075), 0, 0)) for s in (-1, 1)]
    return [*surfaces, Surface(np.concatenate(skirting), palette.any(wall))]


def _window(hole_m: tuple[float, float, float, float], palette: Palette, rng: np.random.Generator) -> list[Surface]:
    """Frame and glazing bars in a hole of the wall y = 0; sometimes blinds or curtains before it."""
    x0, x1, z0, z1 = hole_m
    bars = [box((0.05, 0.06, z1 - z0), (x, -0.1, z0)) for x in np.linspace(x0, x1, rng.integers(2, 5))]
    bars += [
        box((x1 - x0, 0.06, 0.05), ((x0 + x1) / 2, -0.1, z)) for z in np.linspace(z0, z1 - 0.05, rng.integers(2, 4))
    ]
    surfaces = [Surface(np.concatenate(bars), palette.any())]
    choice = rng.integers(3)
    if choice == 0:
        tilt = rng.uniform(0.2, 0.9) * 0.025
        down = rng.uniform(z0, 0.6 * z1)
        slats = [
            quad((x0, 0.03, z - tilt), (x1, 0.03, z - tilt), (x1, 0.055, z + tilt), (x0, 0.055, z + tilt))
            for z in np.arange(down, z1, 0.045)
        ]
        surfaces.append(Surface(np.concatenate(slats), palette.any()))
    elif choice == 1:
        surfaces += [
            Surface(_curtain(at, rng.uniform(0.3, 0.8), 0.1, z1 + 0.1, rng), palette.any())
            for at in (x0 - 0.3, x1 - 0.3)
        ]
    return surfaces


def _curtain(x_m: float, width_m: float, low_m: float, high_m: float, rng: np.random.Generator) -> np.ndarray:
    """Folds of cloth from x on, 0.1 m before the wall y = 0."""
    x = np.linspace(x_m, x_m + width_m, 40)
    y = 0.12 + 0.04 * np.sin(rng.uniform(40, 90) * x + rng.normal(0, 0.3, 40).cumsum())
    foot, head = np.stack([x, y, np.full(40, low_m)], axis=1), np.stack([x, y, np.full(40, high_m)], axis=1)
    return np.stack([foot[:-1], foot[1:], head[1:], head[:-1]], axis=1)


def _view(floor_m: float, wall_m: float, palette: Palette, rng: np.random.Generator) -> list[Surface]:
    """What a window to -y shows from a floor so high above the ground."""
    earth = Material(textures.mottled(rng), 3.0)
    surfaces = [
        Surface(
            quad(
                *([x, y, -floor_m] for x, y in ((-300, -400), (300, -400), (300, -wall_m - 0.3), (-300, -wall_m - 0.3)))
            ),
            earth,
        )
    ]
    facade = Material(textures.facade(rng), rng.uniform(5, 10))
    for _ in range(rng.integers(0, 8)):
        at = (rng.uniform(-60, 60), -wall_m - rng.uniform(25, 120), -floor_m)
        surfaces += placed(buildings.tower(facade, rng), at, rng.uniform(0, np.pi))
    for _ in range(rng.integers(0, 4)):
        at = (rng.uniform(-8, 8), -wall_m - rng.uniform(5, 15), -floor_m)
        surfaces += placed(plants.tree(rng.uniform(4, 9), palette.any(), palette.leaf, rng), at)
    return surfaces


def _columns_and_pipes(
    size_m: np.ndarray, ground: Ground, wall: Material, palette: Palette, rng: np.random.Generator
) -> list[Surface]:
    x, y, z = size_m[0] / 2, size_m[1] / 2, size_m[2]
    side = rng.uniform(0.25, 0.6)
    columns = []
    for at_x in np.arange(-x + 4, x - 2, rng.uniform(4, 8)):
        for at_y in (-y / 2, y / 2):
            columns.append(box((side, side, z), (at_x, at_y, 0)))
            ground.take(at_x, at_y, side)
    pipes = [tube([(-x, at, z - 0.4), (x, at, z - 0.4)], rng.uniform(0.02, 0.15), 8) for at in rng.uniform(-y, y, 5)]
    hung = [tube([(at, 0, z), (at, 0, z - 1.5)], 0.006, 4) for at in np.arange(-x + 2, x, 3)]
    hung += [box((0.35, 0.35, 0.2), (at, 0, z - 1.6)) for at in np.arange(-x + 2, x, 3)]
    surfaces = [Surface(np.concatenate(pipes + hung), palette.metal)]
    surfaces.append(Surface(np.concatenate(columns), palette.any(wall)))
    surfaces += ground.put([Surface(moved(thin.random_fence(6, rng), (-3, 0, 0)), palette.metal)], rng)
    return surfaces


def _against_walls(
    size_m: np.ndarray, ground: Ground, wall: Material, palette: Palette, rng: np.random.Generator
) -> list[Surface]:
    """Shelves, cupboards, sofas, pictures and cables along the two walls without doors."""
    x, y, z = size_m[0] / 2, size_m[1] / 2, size_m[2]
    surfaces: list[Surface] = []
    for side in (-1, 1):
        turn = side * np.pi / 2
        at = -y + 0.4
        while at < y - 1.2:
            piece = (
                lambda: furniture.shelf(palette.any(wall), palette.some(), rng),
                lambda: furniture.cabinet(palette.any(wall), palette.metal, rng),
                lambda: furniture.sofa(palette.any(wall), palette.any(), rng),
            )[rng.integers(3)]()
            width, depth = (np.ptp(np.concatenate([s.quads_m for s in piece])[..., axis]) for axis in (0, 1))
            if rng.random() < 0.6 and at + width < y:
                spot = (side * (x - depth / 2 - 0.03), at + width / 2)
                surfaces += placed(piece, (*spot, 0), turn)
                ground.take(*spot, max(width, depth) / 2)
            else:
                surfaces += _on_wall(side, x, at + width / 2, z, palette, rng)
            at += width + rng.uniform(0.1, 1)
        cable = thin.wire((side * (x - 0.02), -y, z - 0.2), (side * (x - 0.02), y, z - 0.3), 0.02, 0.006)
        surfaces.append(Surface(cable, palette.any(wall)))
    return surfaces


def _on_wall(
    side: int, x_m: float, y_m: float, height_m: float, palette: Palette, rng: np.random.Generator
) -> list[Surface]:
    """A poster without depth, or a picture that stands 3 cm out."""
    half, low = rng.uniform(0.15, 0.45), rng.uniform(0.9, 1.3)
    high = min(low + rng.uniform(0.3, 1), height_m - 0.2)
    out = 0.001 if rng.random() < 0.5 else 0.03
    picture = Material((textures.writing if rng.random() < 0.5 else textures.two_tone)(rng), rng.uniform(0.4, 1.2))
    shape = box((out, 2 * half, high - low), (side * (x_m - out / 2), y_m, low))
    return [Surface(shape, picture)]


def _in_the_middle(
    size_m: np.ndarray,
    ground: Ground,
    wall: Material,
    floor: Material,
    palette: Palette,
    rng: np.random.Generator,
) -> list[Surface]:
    """Tables with chairs, lamps, plants, crates, as many as the floor takes."""
    surfaces: list[Surface] = []
    area = size_m[0] * size_m[1]
    for _ in range(int(rng.uniform(4, 9) * (area / 25) ** 0.6)):
        piece = (
            lambda: furniture.chair(palette.any(floor), palette.metal, rng),
            lambda: furniture.chair(palette.any(wall), palette.any(floor), rng),
            lambda: furniture.table(palette.any(floor), palette.metal, rng),
            lambda: furniture.floor_lamp(palette.metal, palette.any(wall), rng),
            lambda: furniture.crates([palette.any(wall), palette.any(floor)], rng),
            lambda: furniture.clothes_rack(palette.metal, palette.some(), rng),
            lambda: plants.pot_plant(palette.any(wall), palette.leaf, rng),
            lambda: [Surface(thin.ladder(rng), palette.metal)],
        )[rng.integers(8)]()
        surfaces += ground.put(piece, rng)
    for _ in range(rng.integers(0, 4)):  # lamps on wires from the ceiling
        at = (*rng.uniform(-0.35, 0.35, 2) * size_m[:2], size_m[2])
        length = rng.uniform(0.3, 0.4 * size_m[2])
        cable = tube([at, np.subtract(at, (0, 0, length))], 0.004, 4)
        shade = tube([np.subtract(at, (0, 0, length)), np.subtract(at, (0, 0, length + 0.2))], [0.03, 0.18], 12)
        surfaces += [Surface(cable, palette.metal), Surface(shade, palette.any(wall))]
    return surfaces
