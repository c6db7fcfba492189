"""Repeating textures: S×S×3 float32 linear reflectance in [0.02, 0.9], made by numpy from a random generator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SIDE_PX = 512
DARKEST, BRIGHTEST = 0.02, 0.9


def colour(rng: np.random.Generator, saturation: float = 0.5) -> np.ndarray:
    """A random reflectance, mostly muted: 3 numbers."""
    tint = 1 + rng.uniform(0, saturation) * rng.uniform(-1, 1, 3)
    return np.clip(rng.uniform(0.06, 0.75) * tint, DARKEST, BRIGHTEST)


def noise(rng: np.random.Generator, side_px: int = SIDE_PX, exponent: float = 1.5, stretch: float = 1.0) -> np.ndarray:
    """S×S noise of mean 0 and deviation 1 that repeats without a seam; its amplitude falls as frequency^-exponent.

    stretch   how many times longer its features are along the first axis (wood).
    """
    radius = np.hypot(np.fft.fftfreq(side_px)[:, None] * stretch, np.fft.rfftfreq(side_px))
    radius[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.normal(size=(side_px, side_px))) * radius**-exponent
    field = np.fft.irfft2(spectrum, s=(side_px, side_px))
    return (field - field.mean()) / field.std()


def flat(rng: np.random.Generator) -> np.ndarray:
    return _paint(np.broadcast_to(colour(rng), (8, 8, 3)))


def mottled(rng: np.random.Generator) -> np.ndarray:
    """Plaster, earth, asphalt, cloth: one colour with noise."""
    field = noise(rng, exponent=rng.uniform(0.4, 1.6))
    return _paint(colour(rng) * (1 + rng.uniform(0.05, 0.35) * field[..., None]))


def two_tone(rng: np.random.Generator) -> np.ndarray:
    """Patches of two colours with crisp borders: camouflage, stains, marble."""
    return _mixed(noise(rng, exponent=rng.uniform(1.3, 2)) > rng.normal(0, 0.5), rng)


def stripes(rng: np.random.Generator) -> np.ndarray:
    phase = np.arange(SIDE_PX) * rng.integers(1, 13) / SIDE_PX % 1
    pattern = np.broadcast_to(phase < rng.uniform(0.15, 0.85), (SIDE_PX, SIDE_PX))
    return _mixed(pattern if rng.random() < 0.5 else pattern.T, rng)


def checker(rng: np.random.Generator) -> np.ndarray:
    cell = np.arange(SIDE_PX) * 2 * rng.integers(1, 7) // SIDE_PX
    return _mixed((cell[:, None] + cell) % 2 == 0, rng)


def bricks(rng: np.random.Generator) -> np.ndarray:
    """Bricks, tiles or slabs in rows, each of its own shade, with joints."""
    rows, columns = 2 * rng.integers(2, 9), rng.integers(2, 7)
    bond = rng.choice([0.0, 0.5])
    y = np.arange(SIDE_PX)[:, None] * rows / SIDE_PX
    x = np.arange(SIDE_PX)[None] * columns / SIDE_PX + bond * (y // 1 % 2)
    joint_px = rng.uniform(1.5, 7)
    joint = (y % 1 * SIDE_PX / rows < joint_px) | (x % 1 * SIDE_PX / columns < joint_px)
    shade = 1 + rng.uniform(0, 0.25) * rng.normal(size=(rows, columns))
    grain = 1 + rng.uniform(0, 0.15) * noise(rng, exponent=0.8)
    face = colour(rng) * (shade[(y // 1).astype(int) % rows, (x // 1).astype(int) % columns] * grain)[..., None]
    return _paint(np.where(joint[..., None], colour(rng, 0.1), face))


def planks(rng: np.random.Generator) -> np.ndarray:
    """Boards of wood side by side."""
    boards = rng.integers(2, 11)
    board = np.arange(SIDE_PX) * boards // SIDE_PX
    gap = np.diff(board, prepend=-1) != 0
    shade = (1 + 0.15 * rng.normal(size=boards))[board]
    grain = 1 + rng.uniform(0.08, 0.25) * noise(rng, exponent=1.2, stretch=12)
    wood = np.array([0.45, 0.28, 0.15]) * rng.uniform(0.3, 1.5)
    return _paint(wood * (grain * shade * np.where(gap, 0.25, 1))[..., None])


def writing(rng: np.random.Generator) -> np.ndarray:
    """Lines of small dark marks on paper: print, posters, book spines."""
    page = np.ones((SIDE_PX, SIDE_PX), bool)
    line_px = int(rng.integers(10, 60))
    for top in range(line_px // 2, SIDE_PX - line_px, line_px):
        x = int(rng.integers(8, 40))
        end = SIDE_PX - int(rng.integers(8, SIDE_PX // 2))
        while x < end:
            width = int(rng.integers(2, max(3, line_px // 2)))
            height = int(line_px * rng.uniform(0.25, 0.65))
            page[top : top + height, x : x + width] = False
            x += width + int(rng.integers(1, 4 + line_px // 4))
    return _mixed(page, rng)


def facade(rng: np.random.Generator) -> np.ndarray:
    """Rows of painted windows: edges in colour that are none in depth."""
    rows, columns = rng.integers(2, 6, 2)
    y = np.arange(SIDE_PX)[:, None] * rows / SIDE_PX % 1
    x = np.arange(SIDE_PX)[None] * columns / SIDE_PX % 1
    (low_y, low_x), (high_y, high_x) = rng.uniform(0.15, 0.35, 2), rng.uniform(0.6, 0.85, 2)
    window = (y > low_y) & (y < high_y) & (x > low_x) & (x < high_x)
    frame = window & ~((y > low_y + 0.04) & (y < high_y - 0.04) & (x > low_x + 0.04) & (x < high_x - 0.04))
    panes = (1 + 0.5 * rng.normal(size=(rows, columns)))[
        np.arange(SIDE_PX)[:, None] * rows // SIDE_PX, np.arange(SIDE_PX) * columns // SIDE_PX
    ]
    wall = colour(rng) * (1 + 0.1 * noise(rng, exponent=1)[..., None])
    glass = np.array([0.06, 0.08, 0.1]) * panes[..., None]
    return _paint(np.where(frame[..., None], colour(rng, 0.1), np.where(window[..., None], glass, wall)))


def foliage(rng: np.random.Generator) -> np.ndarray:
    """Greens, some yellow and brown, that vary over the crown."""
    green = np.array([0.16, 0.26, 0.09]) * rng.uniform(0.6, 1.6) * (1 + 0.3 * rng.uniform(-1, 1, 3))
    return _paint(green * (1 + 0.3 * noise(rng, exponent=0.6)[..., None]))


#: What covers things people make and ground they walk on.
PATTERNS: tuple[Callable[[np.random.Generator], np.ndarray], ...] = (
    flat, flat, mottled, mottled, two_tone, stripes, checker, bricks, planks, writing
)  # fmt: skip


def _mixed(first_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two colours by a mask, with a little grain."""
    grain = 1 + rng.uniform(0, 0.1) * noise(rng, exponent=0.8)
    return _paint(np.where(first_HW[..., None], colour(rng), colour(rng)) * grain[..., None])


def _paint(reflectance_HW3: np.ndarray) -> np.ndarray:
    return np.clip(reflectance_HW3, DARKEST, BRIGHTEST).astype(np.float32)
