"""What a training run writes about itself: metrics.jsonl and TensorBoard events."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from torch import Tensor

from depthsr import checkpoint

log = logging.getLogger(__name__)


class Journal:
    """Training figures are means over the steps since the last line; `write` takes figures of one moment.

    out         the run's folder.
    first_step  where the run goes on: lines beyond it belong to steps that are run again now, and are removed. So is,
                with a word, a last line that a killed run did not finish.
    """

    EVERY_STEPS = 50

    def __init__(self, out: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._path = out / "metrics.jsonl"
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=first_step)
        self._sums: dict[str, Tensor] = {}
        self._count = 0
        if self._path.exists():
            lines = self._path.read_text().splitlines()
            if lines and not _is_json(lines[-1]):
                log.warning("the last line of %s is half written; it is dropped.", self._path)
                lines.pop()
            kept = [line for line in lines if json.loads(line)["step"] <= first_step]
            checkpoint.write_text(self._path, "".join(line + "\n" for line in kept))

    def add(self, step: int, figures: dict[str, Tensor], learning_rate: float) -> None:
        """One step's figures. Summed where they are: reading one would make the loop wait for its device."""
        for name, value in figures.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count += 1
        if step % self.EVERY_STEPS == 0:
            means = {name: float(total) / self._count for name, total in self._sums.items()}
            self._sums, self._count = {}, 0
            self.write(step, {**means, "learning_rate": learning_rate})

    def write(self, step: int, figures: dict[str, float]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **figures}, allow_nan=False) + "\n")
        for name, value in figures.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        self._board.close()


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except json.JSONDecodeError:
        return False
    return True
