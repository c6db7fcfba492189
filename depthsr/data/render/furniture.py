"""Furniture of boxes and tubes, standing around the origin. Each function gives the surfaces of one piece."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from depthsr.data.render.scene import Material, Surface
from depthsr.data.render.shapes import box, cylinder, moved, tube


def _legs(x_m: float, y_m: float, height_m: float, radius_m: float, splay: float = 0.0) -> np.ndarray:
    """Four thin legs under the corners ±x, ±y."""
    corners = [np.array([sx * x_m, sy * y_m, 0]) for sx in (-1, 1) for sy in (-1, 1)]
    up = np.array([0, 0, height_m])
    return np.concatenate([tube([c * (1 + splay), c + up], radius_m, 6) for c in corners])


def chair(seat: Material, frame: Material, rng: np.random.Generator) -> list[Surface]:
    """Thin legs, a seat, a back of slats or bars. It faces +y."""
    half, height, back = rng.uniform(0.19, 0.24), rng.uniform(0.42, 0.5), rng.uniform(0.35, 0.6)
    radius = rng.uniform(0.008, 0.022)
    parts = [_legs(half * 0.9, half * 0.9, height, radius, rng.uniform(0, 0.15))]
    stiles = [
        tube([(s * half * 0.9, -half * 0.9, height), (s * half * 0.9, -half * 1.15, height + back)], radius)
        for s in (-1, 1)
    ]
    if rng.random() < 0.5:
        across = [
            box((1.8 * half, 0.015, 0.06), (0, -half * (0.9 + 0.25 * t), height + t * back - 0.06))
            for t in (0.45, 0.75, 1)
        ]
    else:
        across = [
            tube([(x, -half * 0.9, height), (x, -half * 1.15, height + back)], 0.6 * radius, 5)
            for x in np.linspace(-0.7, 0.7, 5) * half
        ]
        across.append(box((1.9 * half, 0.03, 0.05), (0, -half * 1.15, height + back - 0.03)))
    return [
        Surface(box((2 * half, 2 * half, 0.035), (0, 0, height)), seat),
        Surface(np.concatenate(parts + stiles + across), frame),
    ]


def table(top: Material, frame: Material, rng: np.random.Generator) -> list[Surface]:
    """A table or a desk with small things on it."""
    x, y, height = rng.uniform(0.4, 1.1), rng.uniform(0.3, 0.5), rng.uniform(0.45, 0.8)
    surfaces = [
        Surface(box((2 * x, 2 * y, 0.03), (0, 0, height)), top),
        Surface(_legs(x - 0.06, y - 0.06, height, rng.uniform(0.012, 0.03)), frame),
    ]
    for _ in range(rng.integers(0, 6)):
        spot = (*rng.uniform([-0.8 * x, -0.8 * y], [0.8 * x, 0.8 * y]), height + 0.03)
        if rng.random() < 0.5:
            thing = cylinder(rng.uniform(0.03, 0.06), rng.uniform(0.08, 0.3), spot)
        else:
            thing = moved(box(rng.uniform(0.04, 0.35, 3)), spot, rng.uniform(0, np.pi))
        surfaces.append(Surface(thing, top if rng.random() < 0.3 else frame))
    return surfaces


def shelf(boards: Material, contents: list[Material], rng: np.random.Generator) -> list[Surface]:
    """Open shelves with books or boxes, the open side to +y; half of them without a back, to look through."""
    width, depth, height = rng.uniform(0.6, 2), rng.uniform(0.25, 0.45), rng.uniform(0.8, 2.2)
    levels = np.linspace(0.05, height - 0.02, int(height / rng.uniform(0.3, 0.45)) + 2)
    frame = [box((width, depth, 0.02), (0, 0, z)) for z in levels]
    frame += [box((0.02, depth, height), (s * width / 2, 0, 0)) for s in (-1, 1)]
    if rng.random() < 0.5:
        frame.append(box((width, 0.01, height), (0, -depth / 2, 0)))
    surfaces = [Surface(np.concatenate(frame), boards)]
    for low, high in pairwise(levels):
        x = -width / 2 + 0.03
        while x < width / 2 - 0.1:
            thick = rng.uniform(0.02, 0.3)
            if rng.random() < 0.7 and x + thick < width / 2 - 0.02:
                size = (0.95 * thick, depth * rng.uniform(0.5, 0.9), (high - low) * rng.uniform(0.4, 0.9))
                surfaces.append(
                    Surface(box(size, (x + thick / 2, 0, low + 0.02)), contents[rng.integers(len(contents))])
                )
            x += thick
    return surfaces


def sofa(cover: Material, cushion: Material, rng: np.random.Generator) -> list[Surface]:
    width, depth, seat = rng.uniform(0.9, 2.3), rng.uniform(0.75, 0.95), rng.uniform(0.36, 0.45)
    body = [
        box((width, depth, seat), (0, 0, 0.06)),
        box((width, 0.2, seat + rng.uniform(0.3, 0.5)), (0, -depth / 2 + 0.1, 0.06)),
        *(box((0.18, depth, seat + 0.2), (s * width / 2, 0, 0.06)) for s in (-1, 1)),
    ]
    pillows = [
        moved(box((0.4, 0.14, 0.36)), (x, -depth / 2 + 0.3, seat + 0.06), rng.normal(0, 0.2))
        for x in rng.uniform(-width / 3, width / 3, rng.integers(0, 4))
    ]
    surfaces = [Surface(np.concatenate(body), cover)]
    if pillows:
        surfaces.append(Surface(np.concatenate(pillows), cushion))
    return surfaces


def cabinet(cover: Material, handle: Material, rng: np.random.Generator) -> list[Surface]:
    """A closed cupboard with doors that stand a little proud, and bar handles. It faces +y."""
    width, depth, height = rng.uniform(0.5, 1.6), rng.uniform(0.35, 0.65), rng.uniform(0.6, 2.1)
    doors = max(1, round(width / 0.5))
    step = width / doors
    fronts = [
        box((step - 0.008, 0.02, height - 0.1), ((i + 0.5) * step - width / 2, depth / 2 + 0.01, 0.08))
        for i in range(doors)
    ]
    bars = [
        tube([(x, depth / 2 + 0.05, 0.45 * height), (x, depth / 2 + 0.05, 0.6 * height)], 0.006, 5)
        for x in (np.arange(doors) + 0.85) * step - width / 2
    ]
    return [
        Surface(np.concatenate([box((width, depth, height)), *fronts]), cover),
        Surface(np.concatenate(bars), handle),
    ]


def floor_lamp(frame: Material, shade: Material, rng: np.random.Generator) -> list[Surface]:
    """A foot, a thin stem and a shade."""
    height = rng.uniform(1.3, 1.9)
    stem = [cylinder(0.14, 0.02), tube([(0, 0, 0), (0, 0, height)], rng.uniform(0.007, 0.015))]
    cone = tube([(0, 0, height - 0.12), (0, 0, height + 0.15)], [rng.uniform(0.14, 0.24), 0.1], 14)
    return [Surface(np.concatenate(stem), frame), Surface(cone, shade)]


def crates(materials: list[Material], rng: np.random.Generator) -> list[Surface]:
    """A stack of boxes, each turned a little against the one below."""
    surfaces, z = [], 0.0
    for size in sorted(rng.uniform(0.25, 0.9, (rng.integers(1, 5), 3)), key=lambda size: -size[0]):
        crate = moved(box(size), (*rng.normal(0, 0.05, 2), z), rng.normal(0, 0.3))
        surfaces.append(Surface(crate, materials[rng.integers(len(materials))]))
        z += size[2]
    return surfaces


def clothes_rack(frame: Material, cloth: list[Material], rng: np.random.Generator) -> list[Surface]:
    """A rail on two stands with flat things hung on it, edges to the front."""
    width, height = rng.uniform(0.8, 1.6), rng.uniform(1.3, 1.8)
    x = width / 2
    rail = [tube([(s * x, 0, 0), (s * x, 0, height)], 0.012) for s in (-1, 1)]
    rail += [tube([(-x, 0, height), (x, 0, height)], 0.012), *(box((0.03, 0.5, 0.03), (s * x, 0, 0)) for s in (-1, 1))]
    surfaces = [Surface(np.concatenate(rail), frame)]
    for at in rng.uniform(-0.9 * x, 0.9 * x, rng.integers(2, 12)):
        length = rng.uniform(0.5, 1.0)
        hung = moved(box((0.03, 0.42, length), (0, 0, height - 0.05 - length)), (at, 0, 0), rng.normal(0, 0.15))
        surfaces.append(Surface(hung, cloth[rng.integers(len(cloth))]))
    return surfaces
