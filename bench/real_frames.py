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

import cv2
import numpy as np

#: Of the calibration file of Motorcycle, at a quarter of its size (lengths in pixels but for the baseline).
FOCAL_LENGTH_PX, BASELINE_M, PRINCIPAL_POINTS_APART_PX = 994.978, 0.193001, 31.086


def motorcycle(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """BGR and depth in metres, NaN where the disparity is unknown (not finite)."""
    bgr_HW3 = _picture(folder / "motorcycle_left.png")
    disparity_px = np.load(folder / "motorcycle_disp.npz")["arr_0"].astype(np.float64)
    depth_m = FOCAL_LENGTH_PX * BASELINE_M / (disparity_px + PRINCIPAL_POINTS_APART_PX)
    return bgr_HW3, np.where(np.isfinite(disparity_px), depth_m, np.nan)


def aloe(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """BGR and disparity in pixels, NaN where it is unknown (0)."""
    disparity_px = _picture(folder / "aloeGT.png")[..., 0].astype(np.float64)
    return _picture(folder / "aloeL.jpg"), np.where(disparity_px > 0, disparity_px, np.nan)


def _picture(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise SystemExit(f"{path} is no picture that OpenCV reads; see --help for where to get it.")
    return picture


def write(folder: Path, name: str, bgr_HW3: np.ndarray, depth_HW: np.ndarray) -> None:
    for part in ("rgb", "depth"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "rgb" / f"{name}_0000.png"), bgr_HW3)
    np.save(folder / "depth" / f"{name}_0000.npy", depth_HW.astype(np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--motorcycle", type=Path, metavar="FOLDER", help="folder of scikit-image's two files")
    parser.add_argument("--aloe", type=Path, metavar="FOLDER", help="folder of OpenCV's two files")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for read in (motorcycle, aloe):
        if folder := getattr(arguments, read.__name__):
            write(arguments.out / read.__name__, read.__name__, *read(folder))
            print(f"wrote {arguments.out / read.__name__}")


if __name__ == "__main__":
    main()
