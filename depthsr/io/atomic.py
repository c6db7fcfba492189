"""Writing a file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from depthsr.types import UserError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; renamed to `path` when the block ends well, removed when it fails.

    Makes the folder when it is missing. Raises UserError when the system refuses to write there.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another place to write to.") from error
    finally:
        # Gone after a successful rename; there only when something failed between.
        if temporary.exists():
            temporary.unlink()


def check_writable(path: str | Path) -> None:
    """Raises UserError where no file can be written at `path`: better before the work for it than after it.

    Nothing is made. The folder need not be there: then a folder on the way to it must let it be made.
    """
    path = Path(path)
    there = next(parent for parent in path.absolute().parents if os.path.exists(parent))
    if path.is_dir() or not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = "it is a folder" if path.is_dir() else f"{there} is no folder that can be written to"
        raise UserError(f"cannot write {path}: {reason}; choose another place to write to.")
