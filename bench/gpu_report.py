"""The last step of gpu_check.sh: what ran on which GPU and how it ended, as JSON. Ends with 1 unless all steps passed.

python bench/gpu_report.py FILE [NAME EXIT_STATUS SECONDS]...
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from rows import provenance, write


def report(arguments: list[str], device: str) -> dict:
    """arguments: name, exit status and seconds of every step, in order."""
    steps = [
        {"name": name, "exit_status": int(status), "seconds": int(seconds)}
        for name, status, seconds in zip(arguments[::3], arguments[1::3], arguments[2::3], strict=True)
    ]
    passed = bool(steps) and all(step["exit_status"] == 0 for step in steps)
    return provenance() | {"device": device, "cuda": torch.version.cuda, "passed": passed, "steps": steps}


def main() -> int:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    content = report(sys.argv[2:], device)
    write(Path(sys.argv[1]), content)
    for step in content["steps"]:
        print(f"{step['name']}: {'passed' if step['exit_status'] == 0 else 'failed'} in {step['seconds']} s")
    return 0 if content["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
