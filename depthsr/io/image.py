"""Image files through OpenCV: bytes to pixels and back, with errors that name the file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from depthsr.io.atomic import atomic_path
from depthsr.types import UserError

# OpenCV prints its own complaints to stderr; ours say the same in one line that names the file.
if hasattr(cv2, "setLogLevel"):  # OpenCV 4
    cv2.setLogLevel(0)
else:  # OpenCV 5
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def read_bytes(path: str | Path) -> bytes:
    """The file's content. Raises UserError when it is missing, a folder, unreadable or empty."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check the path.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder where a file was expected; name a file in it.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    if not data:
        raise UserError(f"{path} is empty (0 bytes); export it again.")
    return data


def decode(path: str | Path) -> np.ndarray:
    """Pixels as stored: H×W or H×W×C (RGB order), in the file's own dtype, upright when EXIF says how it was held.

    Without the fourth channel where it says that everything is opaque.
    """
    data = read_bytes(path)
    if _is_cut_off(data):
        raise UserError(f"{path} is cut off before the end of the picture; copy or export it again.")
    buffer = np.frombuffer(data, np.uint8)
    pixels = _imdecode(buffer, cv2.IMREAD_UNCHANGED)
    pixels = None if pixels is None else without_opaque_alpha(pixels)
    if pixels is not None and (b"Exif\0\0" in data or b"eXIf" in data) and pixels.shape[2:] != (4,):
        # IMREAD_UNCHANGED leaves the camera's orientation alone; these flags turn the picture as every viewer does.
        pixels = _imdecode(buffer, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    if pixels is None:
        raise UserError(f"{path} is damaged or no picture of a known format; export it again (PNG, TIFF, JPEG, WebP).")
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA)
    return pixels[:, :, ::-1] if pixels.ndim == 3 else pixels


def without_opaque_alpha(pixels: np.ndarray) -> np.ndarray:
    """The three colours of H×W×4 whose transparency is opaque everywhere (the largest integer, or 1.0); else itself."""
    if pixels.ndim != 3 or pixels.shape[2] != 4:
        return pixels
    opaque = np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1
    return pixels[:, :, :3] if (pixels[:, :, 3] == opaque).all() else pixels


def encode(path: str | Path, pixels: np.ndarray) -> None:
    """Write H×W or H×W×3 (RGB) pixels in the format of the suffix, whole or not at all. Raises UserError."""
    check_picture_suffix(path)
    pixels = pixels[:, :, ::-1] if pixels.ndim == 3 else pixels
    ok, data = cv2.imencode(Path(path).suffix, np.ascontiguousarray(pixels))
    assert ok, f"OpenCV cannot encode {pixels.dtype} as {Path(path).suffix}"
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.tobytes())


def check_picture_suffix(path: str | Path) -> None:
    """Raises UserError for a name whose suffix no picture can be written as."""
    if not cv2.haveImageWriter(str(path)):
        raise UserError(f"cannot write a picture as {path}; end its name with .png, .jpg or .webp.")


def _imdecode(buffer: np.ndarray, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(buffer, flags)
    except cv2.error:  # some decoders return None for a damaged file, some raise
        return None


def _is_cut_off(data: bytes) -> bool:
    """A PNG without its end chunk, or a JPEG whose last scan has no end marker.

    libjpeg would fill the rest with grey and only warn on stderr.
    """
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data
    start_of_image, start_of_scan, end_of_image = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
    return data.startswith(start_of_image) and data.rfind(end_of_image) < data.rfind(start_of_scan)
