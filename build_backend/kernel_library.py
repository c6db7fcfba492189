"""The commands that compile the CPU kernels once, into a static library, and link every extension with it.

setuptools' own `build_clib` compiles one file after the other; three of the kernels' files take half a minute each.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools.command.build_clib import build_clib
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group


class BuildLibrary(build_clib):
    """`libraries` of setup(): name -> sources, include_dirs, cflags, depends (files that every source depends on).

    Compiles side by side, as many files as MAX_JOBS says (torch's variable), or as there are cores, and only what is
    older than what it depends on.
    """

    def build_libraries(self, libraries: Iterable[tuple[str, dict]]) -> None:
        Path(self.build_clib).mkdir(parents=True, exist_ok=True)
        for name, info in libraries:
            with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)) as pool:
                objects = list(pool.map(lambda source, info=info: self._compile(source, info), info["sources"]))
            # The archiver adds to what is there: members whose source is gone would stay.
            Path(self.compiler.library_filename(name, output_dir=self.build_clib)).unlink(missing_ok=True)
            self.compiler.create_static_lib(objects, name, output_dir=self.build_clib, debug=self.debug)

    def _compile(self, source: str, info: dict) -> str:
        """The object file."""
        (compiled,) = self.compiler.object_filenames([source], output_dir=self.build_temp)
        if self.force or newer_group([source, *info["depends"]], compiled):
            self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                include_dirs=info["include_dirs"],
                extra_postargs=info["cflags"],
                debug=self.debug,
            )
        return compiled


def linking(command: type[build_ext]) -> type[build_ext]:
    """`command`, so that it has the libraries built first also where it is called by itself (`build_ext --inplace`)."""

    class BuildExtensions(command):
        def run(self) -> None:
            self.run_command("build_clib")
            super().run()

    return BuildExtensions
