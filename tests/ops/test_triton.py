"""The Triton kernels are right in Triton's interpreter; test_triton_compiles.py compiles them for GPUs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton exists for Linux only")


@pytest.mark.parametrize("suite", ["interpreted_triton.py", "interpreted_naf_block.py"])
def test_right_in_the_interpreter(suite):
    suite = Path(__file__).with_name(suite)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(suite)],
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONSAFEPATH": "1"},
        cwd=suite.parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d{2,} passed", done.stdout, re.MULTILINE), done.stdout
    assert "skipped" not in done.stdout
