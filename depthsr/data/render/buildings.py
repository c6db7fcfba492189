"""Houses with slanted roofs, towers, walls, cars, signs: what stands in the open."""

from __future__ import annotations

import numpy as np

from depthsr.data.render.scene import Material, Surface
from depthsr.data.render.shapes import box, cylinder, moved, quad, tube
from depthsr.data.render.thin import bars


def gable_roof(width_m: float, depth_m: float, base_m: float, rise_m: float, eaves_m: float) -> np.ndarray:
    """N×4×3: two slanted planes along x with their thickness, and the two gables below them."""
    x, y = width_m / 2 + eaves_m, depth_m / 2 + eaves_m
    drop = eaves_m * rise_m / (depth_m / 2)
    low, high = base_m - drop, base_m + rise_m
    planes = [
        quad((-x, s * y, low + lift), (x, s * y, low + lift), (x, 0, high + lift), (-x, 0, high + lift))
        for s in (-1, 1)
        for lift in (0.0, 0.12)
    ]
    rims = [quad((-x, s * y, low), (x, s * y, low), (x, s * y, low + 0.12), (-x, s * y, low + 0.12)) for s in (-1, 1)]
    w, d = width_m / 2, depth_m / 2
    gables = [quad((s * w, -d, base_m), (s * w, d, base_m), (s * w, 0, high), (s * w, 0, high)) for s in (-1, 1)]
    return np.concatenate([*planes, *rims, *gables])


def house(wall: Material, roof: Material, trim: Material, glass: Material, rng: np.random.Generator) -> list[Surface]:
    """A house of one to three floors, its length along x: framed windows, a door, sometimes a balcony."""
    width, depth, floors = rng.uniform(6, 16), rng.uniform(5, 11), int(rng.integers(1, 4))
    storey = rng.uniform(2.6, 3.2)
    height = floors * storey
    frames, panes = [], []
    for side in (-1, 1):
        for x in np.arange(-width / 2 + 1.2, width / 2 - 0.6, rng.uniform(1.8, 3)):
            for floor in range(floors):
                z, y = floor * storey + 0.9, side * depth / 2
                frames += [box((1.2, 0.12, 0.06), (x, y, z + h)) for h in (-0.06, 1.3)]
                frames += [box((0.06, 0.12, 1.36), (x + s * 0.57, y, z)) for s in (-1, 0, 1)]
                panes.append(box((1.1, 0.03, 1.3), (x, y, z)))
    frames.append(box((1.0, 0.1, 2.1), (rng.uniform(-width / 3, width / 3), -depth / 2, 0)))
    if floors > 1 and rng.random() < 0.5:
        balcony = moved(bars(3, 1.0, 0.12, 0.01), (-1.5, -depth / 2 - 1.2, storey))
        frames += [balcony, box((3.1, 1.3, 0.15), (0, -depth / 2 - 0.65, storey - 0.15))]
    frames.append(tube([(width / 2 - 0.1, -depth / 2 - 0.06, 0), (width / 2 - 0.1, -depth / 2 - 0.06, height)], 0.045))
    surfaces = [Surface(box((width, depth, height)), wall), Surface(np.concatenate(frames), trim)]
    surfaces.append(Surface(np.concatenate(panes), glass))
    if rng.random() < 0.75:
        surfaces.append(Surface(gable_roof(width, depth, height, rng.uniform(1, 4), rng.uniform(0.2, 0.8)), roof))
        surfaces.append(Surface(box((0.6, 0.6, 2.5), (width / 4, depth / 5, height + 0.5)), wall))
    else:
        surfaces.append(Surface(box((width + 0.4, depth + 0.4, 0.3), (0, 0, height)), roof))
    return surfaces


def tower(wall: Material, rng: np.random.Generator) -> list[Surface]:
    """A tall block whose windows are painted on."""
    return [Surface(box((*rng.uniform(8, 30, 2), rng.uniform(10, 60))), wall)]


def car(paint: Material, dark: Material, rng: np.random.Generator) -> list[Surface]:
    """A car along x: body, slanted cabin, wheels, mirrors."""
    length, width, waist = rng.uniform(3.6, 4.9), rng.uniform(1.65, 1.9), rng.uniform(0.75, 0.95)
    roof = waist + rng.uniform(0.45, 0.75)
    back, front = -0.42 * length, rng.uniform(0.12, 0.25) * length
    inset, y = 0.12, width / 2 - 0.08
    lower = [
        np.array([back, -y, waist]),
        np.array([front, -y, waist]),
        np.array([front, y, waist]),
        np.array([back, y, waist]),
    ]
    rise = roof - waist
    slope = np.array([[0.3, inset, rise], [-0.5, inset, rise], [-0.5, -inset, rise], [0.3, -inset, rise]])
    upper = [corner + shift for corner, shift in zip(lower, slope, strict=True)]
    cabin = [quad(lower[i], lower[(i + 1) % 4], upper[(i + 1) % 4], upper[i]) for i in range(4)]
    wheels = []
    for x in (-0.3 * length, 0.3 * length):
        for s in (-1, 1):
            rim, half_width = np.array([x, s * (width / 2 - 0.1), 0.31]), np.array([0, 0.1, 0])
            wheels.append(tube([rim - half_width, rim + half_width], 0.31, 14))
            wheels.append(box((0.4, 0.16, 0.4), rim - [0, 0, 0.2]))
    mirrors = [box((0.12, 0.18, 0.14), (front - 0.3, s * (width / 2 + 0.05), waist)) for s in (-1, 1)]
    body = [box((length, width, waist - 0.25), (0, 0, 0.25)), quad(*upper), *mirrors]
    return [Surface(np.concatenate(body), paint), Surface(np.concatenate(cabin + wheels), dark)]


def sign(board: Material, frame: Material, rng: np.random.Generator) -> list[Surface]:
    """A board on one thin post, or a hoarding on two."""
    if rng.random() < 0.6:
        height = rng.uniform(1.8, 2.8)
        post = tube([(0, 0, 0), (0, 0, height + 0.5)], rng.uniform(0.02, 0.04))
        return [Surface(box((0.6, 0.02, 0.6), (0, -0.05, height)), board), Surface(post, frame)]
    width = rng.uniform(1.5, 5)
    posts = [tube([(s * width / 2.5, 0, 0), (s * width / 2.5, 0, 2.6)], 0.05) for s in (-1, 1)]
    return [Surface(box((width, 0.05, 1.6), (0, -0.08, 1.2)), board), Surface(np.concatenate(posts), frame)]


def bench(wood: Material, frame: Material) -> list[Surface]:
    """Slats with gaps on two frames; the back at -y."""
    seat = [box((1.6, 0.08, 0.03), (0, y, 0.43)) for y in np.arange(-0.2, 0.25, 0.11)]
    back = [box((1.6, 0.025, 0.09), (0, -0.28 - 0.04 * i, 0.55 + 0.13 * i)) for i in range(3)]
    legs = [box((0.05, 0.5, 0.43), (s * 0.65, 0, 0)) for s in (-1, 1)]
    posts = [tube([(s * 0.65, -0.25, 0.4), (s * 0.65, -0.4, 0.95)], 0.02) for s in (-1, 1)]
    return [Surface(np.concatenate(seat + back), wood), Surface(np.concatenate(legs + posts), frame)]


def bin_or_bollard(material: Material, rng: np.random.Generator) -> list[Surface]:
    return [Surface(cylinder(rng.uniform(0.07, 0.3), rng.uniform(0.6, 1.1)), material)]
