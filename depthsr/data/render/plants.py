"""Foliage: branches as tubes, leaves as many small rhombi, so that depth has holes and edges everywhere."""

from __future__ import annotations

import numpy as np

from depthsr.data.render.scene import Material, Surface
from depthsr.data.render.shapes import box, cylinder, leaves, quad, tube


def tree(height_m: float, bark: Material, leaf: Material, rng: np.random.Generator) -> list[Surface]:
    """A trunk that forks three times; leaves about the last twigs. Some are bare."""
    wood: list[np.ndarray] = []
    tips: list[np.ndarray] = []

    def grow(start: np.ndarray, direction: np.ndarray, length: float, radius: float, forks: int) -> None:
        bend = start + direction * length / 2 + rng.normal(0, 0.05 * length, 3)
        end = start + direction * length
        wood.append(tube([start, bend, end], radius * np.array([1, 0.85, 0.65]), sides=6 if forks else 4))
        if not forks:
            tips.append(np.stack([bend, end]))
            return
        for _ in range(rng.integers(3, 5)):
            side = direction + rng.normal(0, 0.55, 3) + [0, 0, 0.15]
            grow(end, side / np.linalg.norm(side), length * rng.uniform(0.55, 0.75), radius * 0.55, forks - 1)

    grow(np.zeros(3), np.array([0, 0, 1.0]), 0.42 * height_m, 0.022 * height_m, 3)
    surfaces = [Surface(np.concatenate(wood), bark)]
    if rng.random() < 0.85:
        each = int(rng.uniform(25, 70))
        spread = 0.05 * height_m
        about = np.repeat(np.concatenate(tips), each, axis=0)
        centres = about + rng.normal(0, spread, about.shape)
        surfaces.append(Surface(leaves(centres, rng.uniform(0.02, 0.045) * height_m, rng), leaf))
    return surfaces


def bush(size_m: float, leaf: Material, rng: np.random.Generator) -> list[Surface]:
    """Leaves in a few clumps on the ground."""
    clumps = rng.normal(0, 0.25, (rng.integers(4, 9), 3)) * size_m + [0, 0, 0.5 * size_m]
    count = int(rng.uniform(800, 2500))
    centres = clumps[rng.integers(len(clumps), size=count)] + rng.normal(0, 0.16, (count, 3)) * size_m
    centres[:, 2] = np.abs(centres[:, 2])
    return [Surface(leaves(centres, 0.1 * size_m, rng), leaf)]


def grass(side_m: float, blades: int, leaf: Material, rng: np.random.Generator) -> list[Surface]:
    """Upright blades in tufts on a square around the origin."""
    tufts = rng.uniform(-side_m / 2, side_m / 2, (max(1, blades // 30), 2))
    root = tufts[rng.integers(len(tufts), size=blades)] + rng.normal(0, 0.08, (blades, 2))
    height = rng.uniform(0.08, 0.4, blades)
    lean = rng.normal(0, 0.35, (blades, 2)) * height[:, None]
    turn = rng.uniform(0, np.pi, blades)
    half = 0.006 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    ground = np.zeros((blades, 1))
    middle = root + lean / 3
    corners = [
        np.concatenate([root - half, ground], axis=1),
        np.concatenate([root + half, ground], axis=1),
        np.concatenate([middle + half, 0.6 * height[:, None]], axis=1),
        np.concatenate([root + lean, height[:, None]], axis=1),
    ]
    return [Surface(np.stack(corners, axis=1), leaf)]


def pot_plant(pot: Material, leaf: Material, rng: np.random.Generator) -> list[Surface]:
    """Long leaves that arch out of a pot."""
    radius, height = rng.uniform(0.12, 0.22), rng.uniform(0.2, 0.4)
    blades = []
    for turn in rng.uniform(0, 2 * np.pi, rng.integers(12, 40)):
        reach, rise = rng.uniform(0.15, 0.6), rng.uniform(0.3, 1.1)
        out, across = np.array([np.cos(turn), np.sin(turn), 0]), 0.02 * np.array([-np.sin(turn), np.cos(turn), 0])
        root = np.array([0, 0, height])
        knee = root + 0.45 * reach * out + [0, 0, rise]
        tip = root + reach * out + [0, 0, rise * rng.uniform(0.3, 1)]
        blades += [quad(root - across, root + across, knee + across, knee - across)]
        blades += [quad(knee - across, knee + across, tip, tip)]
    return [Surface(cylinder(radius, height), pot), Surface(np.concatenate(blades), leaf)]


def hedge(length_m: float, leaf: Material, rng: np.random.Generator) -> list[Surface]:
    """A clipped hedge along x from 0: leaves over a dark core."""
    height, depth = rng.uniform(0.7, 2), rng.uniform(0.4, 0.9)
    count = int(1200 * length_m * height**0.5)
    centres = rng.uniform([0, -depth / 2, 0], [length_m, depth / 2, height], (count, 3))
    core = box((length_m - 0.2, depth - 0.25, height - 0.15), (length_m / 2, 0, 0))
    return [Surface(core, leaf), Surface(leaves(centres, 0.09, rng), leaf)]
