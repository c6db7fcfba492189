"""Make folders for `depthsr eval` of two real frames with measured ground truth that anyone can get.

    python bench/real_frames.py --motorcycle skimage/data --aloe opencv-doc/examples/data --out real
    depthsr eval --data real/motorcycle --split all --protocol gdsr-x8

Both are Middlebury stereo pairs with structured-light ground truth; the RGB is the left view.

motorcycle  2014 (Scharstein et al., GCPR 2014) at a quarter of its size: motorcycle_left.png, motorcycle_right.png and
            motorcycle_disp.npz, in skimage/data of scikit-image's wheels up to 0.17.2, which unzip opens; for any
            Python and machine:
            pip download --no-deps --only-binary :all: --python-version 3.7 --abi cp37m \\
                --platform manylinux1_x86_64 scikit-image==0.17.2
            Depth in metres from the data set's calibration.
aloe        2006 (Hirschmüller and Scharstein, CVPR 2007): aloeL.jpg, aloeR.jpg and aloeGT.png of OpenCV's
            samples/data, which Debian has as opencv-doc. Disparity in pixels takes depth's place, as where papers on
            depth super-resolution score Middlebury, for the pictures come without their calibration; read the table's
            metres as pixels.

With each a second folder, NAME-stereo, whose measurement is a real one: what OpenCV's semi-global matcher makes of the
pair, with its holes, fattened edges and mismatches, in lr/. (Aloe's depth is 100 over the disparity there, no metres.)

    depthsr eval --data real/motorcycle-stereo --split all --protocol matched
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from depthsr import UserError
from depthsr.data.matching import Matcher, match
from depthsr.io import read_rgb, read_values, write_depth, write_picture

#: Of the calibration file of Motorcycle, at a quarter of its size (lengths in pixels but for the baseline).
FOCAL_LENGTH_PX, BASELINE_M, PRINCIPAL_POINTS_APART_PX = 994.978, 0.193001, 31.086


def motorcycle(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """RGB and depth in metres, NaN where the disparity is unknown (not finite)."""
    disparity_px = read_values(folder / "motorcycle_disp.npz").astype(np.float64)
    depth_m = FOCAL_LENGTH_PX * BASELINE_M / (disparity_px + PRINCIPAL_POINTS_APART_PX)
    return read_rgb(folder / "motorcycle_left.png"), np.where(np.isfinite(disparity_px), depth_m, np.nan)


def aloe(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """RGB and disparity in pixels, NaN where it is unknown (0)."""
    disparity_px = read_values(folder / "aloeGT.png").astype(np.float64)
    return read_rgb(folder / "aloeL.jpg"), np.where(disparity_px > 0, disparity_px, np.nan)


def motorcycle_stereo(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `motorcycle`, and the depth that matching gives, NaN where it gives none."""
    rgb_HW3, depth_m = motorcycle(folder)
    disparity_px = match(rgb_HW3, read_rgb(folder / "motorcycle_right.png"), Matcher(range_px=80))
    return rgb_HW3, depth_m, FOCAL_LENGTH_PX * BASELINE_M / (disparity_px + PRINCIPAL_POINTS_APART_PX)


def aloe_stereo(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `aloe`, with 100 over the disparity, a depth without a unit; and the same of what matching gives."""
    rgb_HW3, disparity_px = aloe(folder)
    matched_px = match(rgb_HW3, read_rgb(folder / "aloeR.jpg"), Matcher(least_px=16, range_px=224))
    return rgb_HW3, 100 / disparity_px, 100 / matched_px


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--motorcycle", type=Path, metavar="FOLDER", help="folder of scikit-image's three files")
    parser.add_argument("--aloe", type=Path, metavar="FOLDER", help="folder of OpenCV's three files")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for read in (motorcycle, motorcycle_stereo, aloe, aloe_stereo):
        name = read.__name__.replace("_", "-")
        source, _, _ = name.partition("-")
        if folder := getattr(arguments, source):
            try:
                rgb_HW3, *depths = read(folder)
            except UserError as error:
                parser.error(f"{error} See --help for where to get it.")
            write_picture(arguments.out / name / "rgb" / f"{source}_0000.png", rgb_HW3)
            for kind, depth_HW in zip(("depth", "lr"), depths, strict=False):
                write_depth(arguments.out / name / kind / f"{source}_0000.npy", depth_HW)
            print(f"wrote {arguments.out / name}")


if __name__ == "__main__":
    main()
