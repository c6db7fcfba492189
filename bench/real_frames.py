"""Make folders for `depthsr eval` of two real frames with measured ground truth that anyone can get.

    python bench/real_frames.py --motorcycle skimage/data --aloe opencv-doc/examples/data --out real
    depthsr eval --data real/motorcycle --split all --protocol gdsr-x8

Both are Middlebury stereo pairs with structured-light ground truth; the RGB is the left view.

motorcycle  2014 (Scharstein et al., GCPR 2014) at a quarter of its size: motorcycle_left.png and motorcycle_disp.npz,
            in skimage/data of scikit-image's wheels up to 0.17.2, which unzip opens; for any Python and machine:
            pip download --no-deps --only-binary :all: --python-version 3.7 --abi cp37m \\
                --platform manylinux1_x86_64 scikit-image==0.17.2
            Depth in metres from the data set's calibration.
aloe        2006 (Hirschmüller and Scharstein, CVPR 2007): aloeL.jpg and aloeGT.png of OpenCV's samples/data, which
            Debian has as opencv-doc. Disparity in pixels takes depth's place, as where papers on depth
            super-resolution score Middlebury, for the pictures come without their calibration; read the table's
            metres as pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from depthsr import UserError
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--motorcycle", type=Path, metavar="FOLDER", help="folder of scikit-image's two files")
    parser.add_argument("--aloe", type=Path, metavar="FOLDER", help="folder of OpenCV's two files")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for read in (motorcycle, aloe):
        name = read.__name__
        if folder := getattr(arguments, name):
            try:
                rgb_HW3, depth_HW = read(folder)
            except UserError as error:
                parser.error(f"{error} See --help for where to get it.")
            write_picture(arguments.out / name / "rgb" / f"{name}_0000.png", rgb_HW3)
            write_depth(arguments.out / name / "depth" / f"{name}_0000.npy", depth_HW)
            print(f"wrote {arguments.out / name}")


if __name__ == "__main__":
    main()
